//! Making connections: an association needs one for its admin queue and one for each I/O queue.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::mpsc::{self, RecvTimeoutError};

use nvmf_proto::tcp::HostConfig;

use crate::pdu_trace::PduTrace;
use crate::transport::tcp::HostTcp;
use crate::transport::{HostTransport, TransportError};
use crate::{Deadline, Error};

/// Something that can connect to the target as often as an association needs it.
///
/// [`TcpDialer`] does it by address. A closure is one, too: for sockets made elsewhere, or for the
/// in-process transport, where it makes a pair and gives the other end to a controller.
pub trait Dial: Send {
    /// Makes a connection, its handshake included; `config` says what it asks for.
    ///
    /// # Errors
    ///
    /// Whatever keeps the connection from being made before `deadline`.
    fn dial(
        &mut self,
        config: &HostConfig,
        deadline: Deadline,
    ) -> Result<Box<dyn HostTransport>, Error>;

    /// Who is at the other end, for messages.
    fn peer(&self) -> String {
        "the target".to_owned()
    }
}

impl<F> Dial for F
where
    F: FnMut(&HostConfig, Deadline) -> Result<Box<dyn HostTransport>, Error> + Send,
{
    fn dial(
        &mut self,
        config: &HostConfig,
        deadline: Deadline,
    ) -> Result<Box<dyn HostTransport>, Error> {
        self(config, deadline)
    }
}

/// Connects over TCP.
#[derive(Clone, Debug)]
pub struct TcpDialer {
    name: String,
    /// At least one; the one that answered comes first once one did.
    addresses: Vec<SocketAddr>,
    /// It was said that a digest is not to be had.
    said_no_digest: bool,
    /// Connections without a digest that is asked for are given up.
    require_digests: bool,
    trace: Option<PduTrace>,
}

/// Addresses of a name that are tried, at most.
const MOST_ADDRESSES: usize = 16;

impl TcpDialer {
    /// Connects to this address.
    pub fn new(address: SocketAddr) -> Self {
        Self {
            name: address.to_string(),
            addresses: vec![address],
            said_no_digest: false,
            require_digests: false,
            trace: None,
        }
    }

    /// Connects to `HOST:PORT`, with brackets around an IPv6 address.
    ///
    /// # Errors
    ///
    /// As [`resolve`](Self::resolve), also if there is no port.
    pub fn parse(address: &str, deadline: Deadline) -> Result<Self, Error> {
        if let Ok(address) = address.parse() {
            return Ok(Self::new(address));
        }
        let malformed = || {
            let source = io::Error::new(io::ErrorKind::InvalidInput, "it is not HOST:PORT");
            Error::Resolve { name: address.to_owned(), source }
        };
        let (host, port) = address
            .rsplit_once(':')
            .filter(|(host, _)| !host.is_empty() && !host.contains(':'))
            .ok_or_else(malformed)?;
        Self::resolve(host, port.parse().map_err(|_| malformed())?, deadline)
    }

    /// Connects to `host`, a name or an IP address without brackets, at `port`. Of several
    /// addresses that a name has, the first that answers is used, and kept for the connections
    /// after the first.
    ///
    /// # Errors
    ///
    /// [`Error::Resolve`] if the name has no address, or none is found before `deadline`.
    pub fn resolve(host: &str, port: u16, deadline: Deadline) -> Result<Self, Error> {
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Ok(Self::new(SocketAddr::new(ip, port)));
        }
        let failed = |source| Error::Resolve { name: host.to_owned(), source };
        // The system's resolver knows no deadline, so it is left behind when ours passes.
        let (answer, answered) = mpsc::sync_channel(1);
        let query = host.to_owned();
        std::thread::Builder::new()
            .name("nvmf-resolve".to_owned())
            .spawn(move || {
                let found = (query.as_str(), port)
                    .to_socket_addrs()
                    .map(|found| found.take(MOST_ADDRESSES).collect());
                let _ = answer.send(found);
            })
            .map_err(failed)?;
        let addresses: Vec<_> = answered
            .recv_timeout(deadline.remaining().unwrap_or_default())
            .unwrap_or_else(|e| match e {
                RecvTimeoutError::Timeout => Err(io::ErrorKind::TimedOut.into()),
                RecvTimeoutError::Disconnected => Err(io::Error::other("the resolver died")),
            })
            .map_err(failed)?;
        if addresses.is_empty() {
            return Err(failed(io::Error::new(io::ErrorKind::NotFound, "it has no address")));
        }
        Ok(Self {
            name: format!("{host}:{port}"),
            addresses,
            said_no_digest: false,
            require_digests: false,
            trace: None,
        })
    }

    /// The addresses that are tried, in their order; at least one.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// One that has several addresses, as a name may have.
    #[cfg(test)]
    pub(crate) fn to_any_of(addresses: &[SocketAddr]) -> Self {
        Self { addresses: addresses.to_vec(), ..Self::new(addresses[0]) }
    }

    /// One in the same manner to another address.
    pub fn to(&self, address: SocketAddr) -> Self {
        Self { name: address.to_string(), addresses: vec![address], ..self.clone() }
    }

    /// One for each of the addresses, for who has to know which of them answers.
    pub fn each_address(&self) -> impl Iterator<Item = (SocketAddr, Self)> {
        self.addresses.iter().map(|address| (*address, self.to(*address)))
    }

    /// Fails with [`Error::NoDigest`] where the target does without a digest that is asked for. Else
    /// that is only logged.
    #[must_use]
    pub fn require_digests(mut self) -> Self {
        self.require_digests = true;
        self
    }

    /// Tells every PDU of the connections that it makes to `trace`, both ways.
    #[must_use]
    pub fn trace_pdus(mut self, trace: PduTrace) -> Self {
        self.trace = Some(trace);
        self
    }

    fn connect(
        &self,
        address: SocketAddr,
        config: &HostConfig,
        deadline: Deadline,
    ) -> Result<HostTcp, TransportError> {
        match &self.trace {
            Some(trace) => HostTcp::connect_traced(address, config, trace, deadline),
            None => HostTcp::connect(address, config, deadline),
        }
    }

    /// Fails or, once, warns if a digest that was asked for is not used.
    fn judge_digests(&mut self, config: &HostConfig, transport: &HostTcp) -> Result<(), Error> {
        let Some(agreed) = transport.negotiated() else { return Ok(()) };
        let header = config.header_digest && !agreed.header_digest;
        let data = config.data_digest && !agreed.data_digest;
        if !header && !data {
            return Ok(());
        }
        if self.require_digests {
            return Err(Error::NoDigest { header, data });
        }
        if !self.said_no_digest {
            tracing::warn!(peer = self.name, header, data, "the target does without digests");
            self.said_no_digest = true;
        }
        Ok(())
    }
}

impl fmt::Display for TcpDialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Dial for TcpDialer {
    fn dial(
        &mut self,
        config: &HostConfig,
        deadline: Deadline,
    ) -> Result<Box<dyn HostTransport>, Error> {
        let mut last = Error::Transport(TransportError::TimedOut);
        for at in 0..self.addresses.len() {
            // One that does not answer leaves time for those after it.
            let left = u32::try_from(self.addresses.len() - at).unwrap_or(1);
            let share = deadline.remaining().unwrap_or_default() / left;
            let patience = if left == 1 { deadline } else { Deadline::after(share) };
            match self.connect(self.addresses[at], config, patience) {
                Ok(transport) => {
                    self.addresses.swap(0, at);
                    self.judge_digests(config, &transport)?;
                    return Ok(Box::new(transport));
                }
                Err(error) => {
                    tracing::debug!(address = %self.addresses[at], %error, "cannot connect");
                    last = error.into();
                }
            }
            if deadline.has_passed() {
                break;
            }
        }
        Err(last)
    }

    fn peer(&self) -> String {
        self.name.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};
    use std::time::Duration;

    fn soon() -> Deadline {
        Deadline::after(Duration::from_secs(5))
    }

    #[test]
    fn an_ip_address_is_taken_as_it_is() {
        let v6 = TcpDialer::resolve("::1", 4420, soon()).unwrap();
        assert_eq!(v6.addresses, [(Ipv6Addr::LOCALHOST, 4420).into()]);
        assert_eq!(v6.peer(), "[::1]:4420");
        let v4 = TcpDialer::resolve("127.0.0.1", 1, soon()).unwrap();
        assert_eq!(v4.addresses, [(Ipv4Addr::LOCALHOST, 1).into()]);
    }

    #[test]
    fn a_name_is_looked_up_and_one_that_cannot_be_is_an_error_with_it() {
        let local = TcpDialer::resolve("localhost", 4420, soon()).unwrap();
        assert!(local.addresses.iter().all(|a| a.ip().is_loopback() && a.port() == 4420));
        assert_eq!(local.peer(), "localhost:4420");
        let error = TcpDialer::resolve("not a name", 4420, soon()).unwrap_err();
        assert!(error.to_string().contains("not a name"), "{error}");
    }

    #[test]
    fn an_address_has_a_port() {
        let addresses = |text| TcpDialer::parse(text, soon()).unwrap().addresses;
        assert_eq!(addresses("[::1]:4420"), [(Ipv6Addr::LOCALHOST, 4420).into()]);
        assert!(addresses("localhost:9").iter().all(|a| a.port() == 9));
        for text in ["localhost", "localhost:", "localhost:x", "::1", ""] {
            let error = TcpDialer::parse(text, soon()).unwrap_err().to_string();
            assert!(error.contains("HOST:PORT"), "{text}: {error}");
        }
    }

    #[test]
    fn an_address_that_does_not_answer_leaves_time_for_the_next() {
        // It accepts, and says nothing.
        let silent = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let addresses = [silent.local_addr().unwrap(), listener.local_addr().unwrap()];
        let target = std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            crate::transport::tcp::ControllerTcp::accept(stream, &Default::default(), soon())
        });
        let mut dialer = TcpDialer::to_any_of(&addresses);
        dialer.dial(&HostConfig::default(), Deadline::after(Duration::from_secs(1))).unwrap();
        target.join().unwrap().unwrap();
        // The one that answered is the first from now on.
        assert_eq!(dialer.addresses, [addresses[1], addresses[0]]);
    }

    #[test]
    fn nobody_listening_is_an_error_of_the_operating_system() {
        let unused = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = unused.local_addr().unwrap();
        drop(unused);
        let error = TcpDialer::new(address).dial(&HostConfig::default(), soon()).unwrap_err();
        let Error::Transport(TransportError::Io(e)) = error else { panic!("{error:?}") };
        assert_eq!(e.kind(), io::ErrorKind::ConnectionRefused);
    }
}

//! What the files say of one connection.

use std::fmt;

use nvme_spec::{DISCOVERY_PORT, HostId, IO_PORT, Nqn};

use crate::host::discovery::DiscoveryController;

/// A connection as the files describe it: nvme-cli's options, by their names. What is `None` or
/// false was not said.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
#[non_exhaustive]
pub struct Connection {
    /// Where it was said: `line 3`, or `hosts[0].subsystems[1].ports[0]`.
    pub place: String,
    /// The transport: `tcp`, `rdma`, `fc`, `loop`.
    pub transport: Option<String>,
    /// The controller's address.
    pub traddr: Option<String>,
    /// The port.
    pub trsvcid: Option<String>,
    /// This host's address to connect from.
    pub host_traddr: Option<String>,
    /// This host's network interface to connect by.
    pub host_iface: Option<String>,
    /// The subsystem.
    pub nqn: Option<Nqn>,
    /// As whom to connect.
    pub hostnqn: Option<Nqn>,
    /// As whom to connect.
    pub hostid: Option<HostId>,
    /// This host's symbolic name.
    pub hostsymname: Option<String>,
    /// The host's secret for DH-HMAC-CHAP.
    pub dhchap_secret: Option<Secret>,
    /// The controller's secret for DH-HMAC-CHAP.
    pub dhchap_ctrl_secret: Option<Secret>,
    /// The keyring with the keys for TLS.
    pub keyring: Option<String>,
    /// The key for TLS: its serial number, or itself.
    pub tls_key: Option<Secret>,
    /// The identity of the key for TLS.
    pub tls_key_identity: Option<String>,
    /// I/O queues.
    pub nr_io_queues: Option<u32>,
    /// I/O queues for writes only.
    pub nr_write_queues: Option<u32>,
    /// I/O queues that are polled.
    pub nr_poll_queues: Option<u32>,
    /// Entries of an I/O queue.
    pub queue_size: Option<u32>,
    /// Keep-alive time in seconds.
    pub keep_alive_tmo: Option<u32>,
    /// Seconds from one try to connect again to the next.
    pub reconnect_delay: Option<i32>,
    /// Seconds after which a lost controller is given up; -1 for never.
    pub ctrl_loss_tmo: Option<i32>,
    /// Seconds after which I/O to a lost controller fails; -1 for never.
    pub fast_io_fail_tmo: Option<i32>,
    /// The IP type of service; -1 for none.
    pub tos: Option<i32>,
    /// Connect even where there is such a connection.
    pub duplicate_connect: bool,
    /// Ask to do without submission queue flow control.
    pub disable_sqflow: bool,
    /// Ask for header digests.
    pub hdr_digest: bool,
    /// Ask for data digests.
    pub data_digest: bool,
    /// Use TLS.
    pub tls: bool,
    /// Use TLS with a key that authentication makes.
    pub concat: bool,
    /// The connection to a discovery controller is to last.
    pub persistent: bool,
    /// It is one to a discovery controller.
    pub discovery: bool,
}

/// Why a connection is none that can be made over TCP.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NotOverTcp {
    /// It has no transport.
    #[error("it has no transport")]
    NoTransport,
    /// It has another transport.
    #[error("its transport is `{}` and not tcp", .0.escape_debug())]
    Transport(String),
    /// It has no address.
    #[error("it has no address (traddr)")]
    NoAddress,
    /// Its port is none.
    #[error("`{}` is not a port; ports are 1 to 65535", .0.escape_debug())]
    Port(String),
}

impl Connection {
    /// Whether this is a connection to a discovery controller.
    pub fn is_discovery(&self) -> bool {
        self.discovery || self.nqn.as_ref().is_some_and(Nqn::is_discovery)
    }

    /// The address and the port, of a connection over TCP; where the port is left out it is 8009
    /// for discovery controllers and 4420 for others.
    ///
    /// # Errors
    ///
    /// [`NotOverTcp`] says why there is none.
    pub fn tcp_address(&self) -> Result<(&str, u16), NotOverTcp> {
        match self.transport.as_deref() {
            Some("tcp") => {}
            Some(other) => return Err(NotOverTcp::Transport(other.to_owned())),
            None => return Err(NotOverTcp::NoTransport),
        }
        let address = self.traddr.as_deref().filter(|text| !text.is_empty());
        let address = address.ok_or(NotOverTcp::NoAddress)?;
        let port = match self.trsvcid.as_deref() {
            // nvme-cli writes `none` for what it does not know.
            None | Some("" | "none") if self.is_discovery() => DISCOVERY_PORT,
            None | Some("" | "none") => IO_PORT,
            Some(text) => match text.parse() {
                Ok(0) | Err(_) => return Err(NotOverTcp::Port(text.to_owned())),
                Ok(port) => port,
            },
        };
        Ok((address, port))
    }

    /// The discovery controller that this is a connection to, without an identity.
    ///
    /// # Errors
    ///
    /// [`NotOverTcp`] says why there is none.
    pub fn discovery_controller(&self) -> Result<DiscoveryController, NotOverTcp> {
        let (address, port) = self.tcp_address()?;
        let controller = DiscoveryController::new(address, port);
        Ok(match &self.nqn {
            Some(nqn) => controller.with_subsystem(nqn.clone()),
            None => controller,
        })
    }
}

/// A secret; its text is given only to whoever asks, and is not in what is printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// This secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Its text.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(trsvcid: Option<&str>) -> Connection {
        Connection {
            transport: Some("tcp".to_owned()),
            traddr: Some("192.0.2.7".to_owned()),
            trsvcid: trsvcid.map(str::to_owned),
            ..Connection::default()
        }
    }

    #[test]
    fn the_port_that_is_left_out_is_that_of_the_kind_of_controller() {
        assert_eq!(tcp(None).tcp_address(), Ok(("192.0.2.7", 4420)));
        let discovery = Connection { discovery: true, ..tcp(Some("none")) };
        assert_eq!(discovery.tcp_address(), Ok(("192.0.2.7", 8009)));
        let by_name = Connection { nqn: Some(Nqn::DISCOVERY), ..tcp(None) };
        assert_eq!(by_name.discovery_controller().unwrap().port(), 8009);
        assert_eq!(tcp(Some("1234")).tcp_address(), Ok(("192.0.2.7", 1234)));
    }

    #[test]
    fn what_is_not_over_tcp_says_why() {
        let said = |one: Connection| one.tcp_address().unwrap_err().to_string();
        assert_eq!(said(Connection { transport: None, ..tcp(None) }), "it has no transport");
        let rdma = Connection { transport: Some("rdma".to_owned()), ..tcp(None) };
        assert_eq!(said(rdma), "its transport is `rdma` and not tcp");
        let nowhere = Connection { traddr: None, ..tcp(None) };
        assert_eq!(said(nowhere), "it has no address (traddr)");
        for port in ["0", "65536", "x"] {
            assert!(said(tcp(Some(port))).contains("is not a port"));
        }
    }

    #[test]
    fn a_secret_is_not_printed() {
        let secret = Some(Secret::new("DHHC-1:00:abc"));
        let one = Connection { dhchap_secret: secret, ..tcp(None) };
        assert!(!format!("{one:?}").contains("DHHC"));
        assert_eq!(one.dhchap_secret.unwrap().expose(), "DHHC-1:00:abc");
    }
}

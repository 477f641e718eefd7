//! Asking the target first: the kernel has but a number for whatever goes wrong.

use std::net::SocketAddr;

use nvme_spec::Nqn;
use nvme_spec::identify::controller_type;

use crate::Error;
use crate::host::{Association, HostOptions, TcpDialer};

/// What a target said that the kernel can connect to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Checked {
    /// Where it is: of several addresses of a name, the one that answered.
    pub address: SocketAddr,
    /// It is a discovery controller, which has no namespaces.
    pub is_discovery: bool,
    /// The identifiers of the active namespaces, which will become disks.
    pub namespaces: Vec<u32>,
}

/// Connects to a subsystem as the kernel would, with the same names and digests, and asks what is
/// there: the controller, its namespaces, or the discovery log. Then it leaves.
///
/// It knows neither TLS nor in-band authentication, so with these there is nothing that it can say.
///
/// # Errors
///
/// Whatever keeps this host from using the subsystem; [`Error::NoDigest`] if the target does without a
/// digest that is asked for, where the kernel would give up.
pub fn check(dialer: &TcpDialer, subsystem: &Nqn, options: &HostOptions) -> Result<Checked, Error> {
    let mut last = None;
    for (address, dialer) in dialer.each_address() {
        match check_address(address, dialer.require_digests(), subsystem, options) {
            // Another address may do better.
            Err(error @ Error::Transport(_)) => last = Some(error),
            decided => return decided,
        }
    }
    Err(last.unwrap_or_else(|| Error::invalid("name", "it has no address")))
}

fn check_address(
    address: SocketAddr,
    dialer: TcpDialer,
    subsystem: &Nqn,
    options: &HostOptions,
) -> Result<Checked, Error> {
    let mut association = Association::connect(dialer, subsystem, options.clone())?;
    let kind = association.controller().cntrltype;
    let is_discovery = kind == controller_type::DISCOVERY || subsystem.is_discovery();
    let namespaces = if is_discovery {
        association.discovery_log()?;
        Vec::new()
    } else {
        association.active_namespaces()?
    };
    // What matters is known. A target that does not let go of its controller now will do so later.
    if let Err(error) = association.shutdown(Vec::new()) {
        tracing::debug!(%address, %error, "the target does not shut down the controller");
    }
    Ok(Checked { address, is_discovery, namespaces })
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use nvme_spec::HostId;

    use super::*;
    use crate::transport::TransportError;

    #[test]
    fn of_several_addresses_each_is_tried_and_the_last_error_is_told() {
        let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let open = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let addresses = [closed.local_addr().unwrap(), open.local_addr().unwrap()];
        drop(closed);
        let target = std::thread::spawn(move || drop(open.accept().unwrap()));
        let name = Nqn::lenient("nqn.2026-01.org.example:a").unwrap();
        let options = HostOptions::new(name.clone(), HostId([1; 16]));
        let error = check(&TcpDialer::to_any_of(&addresses), &name, &options).unwrap_err();
        // The first refuses, the second hangs up: closed or, with bytes unread, reset.
        let Error::Transport(error) = error else { panic!("{error}") };
        let refused = matches!(&error, TransportError::Io(e) if e.kind() == std::io::ErrorKind::ConnectionRefused);
        assert!(!refused, "{error}");
        target.join().unwrap();
    }
}

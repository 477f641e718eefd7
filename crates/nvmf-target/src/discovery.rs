//! What the Discovery log says of a target: one entry for each subsystem at each listen address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use nvme_spec::log::{DiscoveryEntry, adrfam, subtype, treq};
use nvmf::controller::discovery::DiscoveryLogPage;

use crate::limits;
use crate::subsystem::Subsystem;

/// The page as a host reads it that is connected to `local` of ours; `None` if its connection has
/// no address.
///
/// An address to listen on that means "any" is of no use to a host: it gets the one that it
/// reached us by.
pub(crate) fn page(
    subsystems: &[Arc<Subsystem>],
    listen: &[SocketAddr],
    local: Option<SocketAddr>,
    flow_control: bool,
) -> DiscoveryLogPage {
    let mut entries = Vec::new();
    for subsystem in subsystems {
        for (port, address) in (1u16..).zip(listen) {
            let address = reachable(*address, local);
            let family = if address.is_ipv4() { adrfam::IPV4 } else { adrfam::IPV6 };
            let (ip, service) = (address.ip().to_string(), address.port().to_string());
            let entry = DiscoveryEntry::tcp(subtype::NVM, subsystem.nqn(), family, &ip, &service);
            // The text of an IP address is far shorter than its field.
            let Ok(mut entry) = entry else { continue };
            entry.portid.set(port);
            let asqsz = limits::ADMIN_ENTRIES.entries();
            entry.asqsz.set(u16::try_from(asqsz).unwrap_or(u16::MAX));
            entry.treq = treq::NOT_REQUIRED;
            if !flow_control {
                entry.treq |= treq::SQ_FLOW_DISABLE;
            }
            entries.push(entry);
        }
    }
    DiscoveryLogPage::new(entries)
}

fn reachable(listen: SocketAddr, local: Option<SocketAddr>) -> SocketAddr {
    let ip = if listen.ip().is_unspecified() {
        local.map_or_else(|| loopback(listen.ip()), |local| local.ip())
    } else {
        listen.ip()
    };
    // A host that came by IPv4 to an IPv6 socket does not know the mapped form.
    SocketAddr::new(ip.to_canonical(), listen.port())
}

fn loopback(like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{NQN, subsystem};

    fn told(listen: &[&str], local: Option<&str>) -> Vec<(u8, String, String)> {
        let listen: Vec<SocketAddr> = listen.iter().map(|a| a.parse().unwrap()).collect();
        let local = local.map(|a| a.parse().unwrap());
        page(&[subsystem()], &listen, local, false)
            .entries()
            .iter()
            .map(|e| (e.adrfam, e.address().to_string(), e.service().to_string()))
            .collect()
    }

    fn entry(family: u8, ip: &str, port: &str) -> (u8, String, String) {
        (family, ip.into(), port.into())
    }

    #[test]
    fn each_listen_address_is_an_entry_with_its_own_port_identifier() {
        assert_eq!(
            told(&["192.0.2.1:4420", "[2001:db8::1]:8009"], None),
            [entry(1, "192.0.2.1", "4420"), entry(2, "2001:db8::1", "8009")]
        );
        let listen = ["192.0.2.1:1".parse().unwrap(), "192.0.2.1:2".parse().unwrap()];
        let page = page(&[subsystem()], &listen, None, true);
        let entries = page.entries();
        assert_eq!((entries[0].portid.get(), entries[1].portid.get()), (1, 2));
        assert_eq!(entries[0].subsystem_nqn().unwrap().as_str(), NQN);
        assert_eq!(entries[0].treq, treq::NOT_REQUIRED);
        assert_ne!(page.generation(), 0);
    }

    #[test]
    fn any_address_becomes_the_one_the_host_came_by() {
        let local = Some("192.0.2.7:4420");
        assert_eq!(told(&["0.0.0.0:4420"], local), [entry(1, "192.0.2.7", "4420")]);
        let mapped = Some("[::ffff:192.0.2.7]:4420");
        assert_eq!(told(&["[::]:4420"], mapped), [entry(1, "192.0.2.7", "4420")]);
        assert_eq!(
            told(&["[::]:4420"], Some("[2001:db8::2]:4420")),
            [entry(2, "2001:db8::2", "4420")]
        );
        assert_eq!(told(&["0.0.0.0:4420"], None), [entry(1, "127.0.0.1", "4420")]);
        assert_eq!(told(&["198.51.100.1:4420"], local), [entry(1, "198.51.100.1", "4420")]);
    }
}

//! What the Discovery log tells a host: for each port, the subsystems that it may use there.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use nvme_spec::Nqn;
use nvme_spec::log::{DiscoveryEntry, DiscoveryHeader, adrfam, eflags, subtype, treq};
use nvmf::controller::discovery::DiscoveryLogPage;

use crate::directory::{Directory, Referral};
use crate::limits;

/// Who asks, and how it came.
#[derive(Debug, Clone)]
pub(crate) struct Asker {
    pub(crate) host: Nqn,
    /// The address of ours that it is connected to; `None` if its connection has none.
    pub(crate) local: Option<SocketAddr>,
    /// Whether its queues have flow control, wanted or not.
    pub(crate) flow_control: bool,
}

/// The page as a host reads it; of one port only if it asked for what is reached by the port it
/// came to, and with extended entries if it asked for those. These have no attributes: a host
/// identifier is none of a subsystem, and subsystems have no labels.
///
/// There is no page of all subsystems for whoever asks (ALLSUBE): what a host may not use is not
/// for it to know of.
///
/// An address to listen on that means "any" is of no use to a host: it gets the one that it
/// reached us by.
pub(crate) fn page(
    directory: &Directory,
    asker: &Asker,
    only: Option<u16>,
    extended: bool,
) -> DiscoveryLogPage {
    let mut entries = Vec::new();
    for port in directory.ports.iter().filter(|port| only.is_none_or(|only| port.id() == only)) {
        let address = reachable(port.address(), asker.local);
        let here = |kind, nqn: &Nqn| entry(kind, nqn, address, port.id(), asker);
        let usable = directory.subsystems.iter().filter(|subsystem| {
            port.serves(subsystem.nqn()) && subsystem.hosts().allow(&asker.host)
        });
        entries.extend(usable.filter_map(|subsystem| {
            let mut entry = here(subtype::NVM, subsystem.nqn())?;
            if subsystem.is_static() {
                entry.cntlid.set(DiscoveryEntry::CNTLID_STATIC);
            }
            Some(entry)
        }));
        entries.extend(here(subtype::CURRENT, directory.discovery.nqn()).map(|mut entry| {
            entry.eflags.set(eflags::DUPLICATE | eflags::EXPLICIT_PERSISTENT);
            entry
        }));
    }
    // No referral is reached by a port of ours.
    let referrals = if only.is_some() { &[][..] } else { &directory.referrals };
    entries.extend(referrals.iter().filter_map(|Referral { address, nqn, port_id }| {
        entry(subtype::REFERRAL, nqn, *address, *port_id, asker)
    }));
    let flags = if only.is_some() { DiscoveryHeader::DLPF_PORT_LOCAL } else { 0 }
        | if extended { DiscoveryHeader::DLPF_EXTENDED } else { 0 };
    DiscoveryLogPage::with_generation(directory.generation(), entries).with_flags(flags)
}

/// `None` never happens: the text of an IP address is far shorter than its field.
fn entry(
    kind: u8,
    nqn: &Nqn,
    address: SocketAddr,
    port_id: u16,
    asker: &Asker,
) -> Option<DiscoveryEntry> {
    let family = if address.is_ipv4() { adrfam::IPV4 } else { adrfam::IPV6 };
    let (ip, service) = (address.ip().to_string(), address.port().to_string());
    let mut entry = DiscoveryEntry::tcp(kind, nqn, family, &ip, &service).ok()?;
    entry.portid.set(port_id);
    let asqsz = limits::ADMIN_ENTRIES.entries();
    entry.asqsz.set(u16::try_from(asqsz).unwrap_or(u16::MAX));
    entry.treq = treq::NOT_REQUIRED;
    if !asker.flow_control {
        entry.treq |= treq::SQ_FLOW_DISABLE;
    }
    Some(entry)
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
    use std::sync::Arc;

    use super::*;
    use crate::port::Port;
    use crate::subsystem::{Hosts, Subsystem};
    use crate::testing::{NQN, nqn, subsystem};

    fn directory(ports: Vec<Port>) -> Directory {
        let mut directory = Directory::new(Nqn::DISCOVERY);
        directory.subsystems.push(subsystem());
        directory.ports.extend(ports.into_iter().map(Arc::new));
        directory
    }

    fn asker(local: Option<&str>) -> Asker {
        let local = local.map(|a| a.parse().unwrap());
        Asker { host: nqn("nqn.host"), local, flow_control: false }
    }

    fn entries(directory: &Directory, kind: u8, local: Option<&str>) -> Vec<DiscoveryEntry> {
        let page = page(directory, &asker(local), None, false);
        page.entries().iter().filter(|e| e.subtype == kind).copied().collect()
    }

    fn told(listen: &[&str], local: Option<&str>) -> Vec<(u8, String, String)> {
        let ports = (1..).zip(listen).map(|(id, a)| Port::new(id, a.parse().unwrap()));
        entries(&directory(ports.collect()), subtype::NVM, local)
            .iter()
            .map(|e| (e.adrfam, e.address().to_string(), e.service().to_string()))
            .collect()
    }

    fn found(family: u8, ip: &str, port: &str) -> (u8, String, String) {
        (family, ip.into(), port.into())
    }

    #[test]
    fn each_port_is_an_entry_with_its_identifier() {
        assert_eq!(
            told(&["192.0.2.1:4420", "[2001:db8::1]:8009"], None),
            [found(1, "192.0.2.1", "4420"), found(2, "2001:db8::1", "8009")]
        );
        let listen = "192.0.2.1:1".parse().unwrap();
        let directory = directory(vec![Port::new(1, listen), Port::new(7, listen)]);
        let entries = entries(&directory, subtype::NVM, None);
        assert_eq!((entries[0].portid.get(), entries[1].portid.get()), (1, 7));
        assert_eq!(entries[0].subsystem_nqn().unwrap().as_str(), NQN);
        assert_eq!(entries[0].treq, treq::NOT_REQUIRED | treq::SQ_FLOW_DISABLE);
        assert_ne!(directory.generation(), 0);
    }

    #[test]
    fn controllers_that_are_always_there_are_asked_for_as_such() {
        let mut directory = directory(vec![Port::new(1, "192.0.2.1:4420".parse().unwrap())]);
        let fixed = Subsystem::builder(nqn("nqn.fixed")).static_controllers(2).build();
        directory.subsystems.push(fixed.unwrap());
        let ids: Vec<u16> =
            entries(&directory, subtype::NVM, None).iter().map(|e| e.cntlid.get()).collect();
        assert_eq!(ids, [0xffff, 0xfffe]);
        let discovery = entries(&directory, subtype::CURRENT, None);
        assert_eq!(discovery[0].cntlid.get(), 0xffff);
    }

    #[test]
    fn any_address_becomes_the_one_the_host_came_by() {
        let local = Some("192.0.2.7:4420");
        assert_eq!(told(&["0.0.0.0:4420"], local), [found(1, "192.0.2.7", "4420")]);
        let mapped = Some("[::ffff:192.0.2.7]:4420");
        assert_eq!(told(&["[::]:4420"], mapped), [found(1, "192.0.2.7", "4420")]);
        assert_eq!(
            told(&["[::]:4420"], Some("[2001:db8::2]:4420")),
            [found(2, "2001:db8::2", "4420")]
        );
        assert_eq!(told(&["0.0.0.0:4420"], None), [found(1, "127.0.0.1", "4420")]);
        assert_eq!(told(&["198.51.100.1:4420"], local), [found(1, "198.51.100.1", "4420")]);
    }

    #[test]
    fn a_host_is_told_of_what_it_may_use_where_it_may() {
        let address = "192.0.2.1:4420".parse().unwrap();
        let own = |name: &str, host: &str| {
            let hosts = Hosts::Only([nqn(host)].into());
            Subsystem::builder(nqn(name)).hosts(hosts).build().unwrap()
        };
        let only = Port::new(2, address).with_subsystems([nqn("nqn.mine")]);
        let mut directory = directory(vec![Port::new(1, address), only]);
        directory.subsystems.push(own("nqn.mine", "nqn.host"));
        directory.subsystems.push(own("nqn.other", "nqn.somebody"));
        let told: Vec<(u16, String)> = entries(&directory, subtype::NVM, None)
            .iter()
            .map(|e| (e.portid.get(), e.subsystem_nqn().unwrap().to_string()))
            .collect();
        let entry = |port, name: &str| (port, name.to_owned());
        assert_eq!(told, [entry(1, NQN), entry(1, "nqn.mine"), entry(2, "nqn.mine")]);
    }

    #[test]
    fn the_discovery_service_tells_of_itself_and_of_others() {
        let mut directory = Directory::new(nqn("nqn.unique"));
        directory.ports.push(Arc::new(Port::new(3, "192.0.2.1:8009".parse().unwrap())));
        let address = "192.0.2.9:8009".parse().unwrap();
        directory.referrals.push(Referral { address, nqn: Nqn::DISCOVERY, port_id: 9 });
        let current = entries(&directory, subtype::CURRENT, None);
        assert_eq!(current[0].subsystem_nqn().unwrap().as_str(), "nqn.unique");
        assert_eq!((current[0].portid.get(), current[0].eflags.get()), (3, 3));
        let referral = entries(&directory, subtype::REFERRAL, None);
        assert_eq!(referral[0].address().to_string(), "192.0.2.9");
        assert_eq!(referral[0].portid.get(), 9);
        assert!(directory.subsystem(&Nqn::DISCOVERY).is_some_and(|s| s.is_discovery()));
        assert!(directory.subsystem(&nqn("nqn.unique")).is_some_and(|s| s.is_discovery()));
        assert!(directory.subsystem(&nqn("nqn.else")).is_none());
    }
}

//! What the discovery service tells, as hosts read it.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "tests may stop at a surprise")]

mod common;

use std::time::{Duration, Instant};

use common::*;
use nvme_spec::fabrics::PropertySet;
use nvme_spec::log::{AnaState, DiscoveryHeader, adrfam, subtype};
use nvme_spec::property::{Cc, offset};
use nvme_spec::{Nqn, Sqe, opcode};
use nvmf::host::{Association, ConnectOptions, DiscoveryLog, QueuePair};
use nvmf::transport::tcp::HostTcp;
use nvmf::{Error, Transfer};
use nvmf_target::{BoundPort, Hosts, Namespace, Port, Referral, Subsystem, Target};

#[test]
fn listeners_of_both_families_are_told_with_their_own() {
    let builder = Target::builder().subsystem(subsystem(&["mem:1M"]));
    let target = Running::start_with(builder.listen("[::1]:0".parse().unwrap()));
    let ports = target.handle.ports();
    assert!(ports[0].address().is_ipv6() && ports[1].address().is_ipv4());
    for port in &ports {
        let mut discovery =
            Association::connect_tcp(port.address(), &Nqn::DISCOVERY, options(1)).unwrap();
        let told = |log: &DiscoveryLog| -> Vec<_> {
            let nvm = log.entries.iter().filter(|entry| entry.subtype == subtype::NVM);
            nvm.map(|e| (e.adrfam, e.address().to_string(), e.port().unwrap())).collect()
        };
        let all = told(&discovery.discovery_log().unwrap());
        let expected = [
            (adrfam::IPV6, "::1".to_owned(), ports[0].address().port()),
            (adrfam::IPV4, "127.0.0.1".to_owned(), ports[1].address().port()),
        ];
        assert_eq!(all, expected);
        let here = discovery.discovery_log_of(DiscoveryHeader::DLPF_PORT_LOCAL).unwrap();
        let own = expected.iter().filter(|entry| entry.2 == port.address().port());
        assert!(told(&here).iter().eq(own));
        for (family, ip, port) in all {
            let ip = if family == adrfam::IPV6 { format!("[{ip}]") } else { ip };
            let host = Association::connect_tcp(format!("{ip}:{port}"), &nqn(), options(1));
            assert_eq!(host.unwrap().active_namespaces().unwrap(), [1]);
        }
    }
}

#[test]
fn extended_entries_are_told_to_hosts_that_ask() {
    for over in BOTH {
        let target = Running::start(subsystem(&["mem:1M"]));
        let mut host = target.associate_to(over, &Nqn::DISCOVERY, options(1)).unwrap();
        let plain = host.discovery_log().unwrap();
        let all = DiscoveryHeader::DLPF_EXTENDED | DiscoveryHeader::DLPF_ALL_SUBSYSTEMS;
        let extended = host.discovery_log_of(all).unwrap();
        assert_eq!((plain.flags, extended.flags), (0, DiscoveryHeader::DLPF_EXTENDED));
        assert_eq!(plain.entries.len(), 2);
        assert_eq!(plain.entries, extended.entries);
        assert!(extended.attributes.is_empty());
    }
}

#[test]
fn the_generation_moves_with_each_change_of_the_log_and_with_nothing_else() {
    let target = Running::start(subsystem(&["mem:1M"]));
    let mut discovery = target.associate_to(Over::Tcp, &Nqn::DISCOVERY, options(1)).unwrap();
    let mut last = discovery.discovery_log().unwrap();
    let mut moved = || {
        let log = discovery.discovery_log().unwrap();
        let moved = log.generation != last.generation;
        assert!(if moved { log.generation > last.generation } else { log == last });
        last = log;
        moved
    };
    let handle = &target.handle;
    let other = Nqn::parse_strict("nqn.2026-01.org.example:other").unwrap();
    let build = || Subsystem::builder(other.clone()).build().unwrap();
    let referral =
        Referral { address: "192.0.2.9:8009".parse().unwrap(), nqn: Nqn::DISCOVERY, port_id: 9 };
    let address = "127.0.0.1:0".parse().unwrap();

    handle.add_subsystem(build()).unwrap();
    assert!(moved(), "a subsystem came");
    handle.add_subsystem(build()).unwrap_err();
    assert!(!moved(), "it was there");
    handle.set_hosts(&other, Hosts::Only([options(2).host].into())).unwrap();
    assert!(moved(), "it is another host's");
    handle.set_hosts(&other, Hosts::Any).unwrap();
    assert!(moved(), "it is everybody's");
    handle.set_port_subsystems(1, Some([nqn()].into())).unwrap();
    assert!(moved(), "it is not at the port");
    handle.set_port_subsystems(1, None).unwrap();
    assert!(moved(), "it is at the port");
    handle.add_port(BoundPort::bind(Port::new(4, address)).unwrap()).unwrap();
    assert!(moved(), "a port came");
    handle.add_port(BoundPort::bind(Port::new(4, address)).unwrap()).unwrap_err();
    assert!(!moved(), "it was there");
    handle.remove_port(4).unwrap();
    assert!(moved(), "a port went");
    handle.remove_port(4).unwrap_err();
    assert!(!moved(), "it was gone");
    handle.set_discovery(Nqn::DISCOVERY, vec![referral]);
    assert!(moved(), "hosts are referred to another service");

    let ns = Namespace::open(2, &"mem:1M".parse().unwrap()).unwrap().build(&nqn()).unwrap();
    handle.add_namespace(&nqn(), ns).unwrap();
    assert!(!moved(), "a namespace came");
    handle.remove_namespace(&nqn(), 2).unwrap();
    assert!(!moved(), "a namespace went");
    handle.set_ana(1, 1, AnaState::NonOptimized).unwrap();
    assert!(!moved(), "an ANA state changed");
    let mut host = target.associate(Over::Tcp, 3);
    let queues = host.connect_io_queues(1, None).unwrap();
    assert!(!moved(), "a host came");
    host.shutdown(queues).unwrap();
    target.wait_for_connections(1);
    assert!(!moved(), "a host went");

    handle.remove_subsystem(&other).unwrap();
    assert!(moved(), "a subsystem went");
}

/// An admin queue to the discovery service with a Keep Alive Timeout, its controller enabled.
fn persistent(target: &Running, kato_ms: u32) -> QueuePair {
    let config = nvmf_proto::tcp::HostConfig::default();
    let transport = HostTcp::connect(target.address, &config, soon()).unwrap();
    let options = options(1);
    let connect = ConnectOptions {
        kato_ms,
        ..ConnectOptions::new(options.host, options.host_id, Nqn::DISCOVERY)
    };
    let mut queue = QueuePair::connect(Box::new(transport), &connect, soon()).unwrap();
    let enable = PropertySet::new(offset::CC, Cc::ENABLE.0.into(), false).to_sqe();
    queue.execute(enable, Transfer::None, soon()).unwrap();
    queue
}

fn keep_alive(queue: &mut QueuePair) -> Result<(), Error> {
    let sqe = Sqe::new(opcode::admin::KEEP_ALIVE);
    queue.execute(sqe, Transfer::None, soon()).map(drop)
}

#[test]
fn a_persistent_connection_to_discovery_lives_while_it_is_kept_alive() {
    let target = Running::start(subsystem(&["mem:1M"]));
    let (mut kept, _silent) = (persistent(&target, 2000), persistent(&target, 1000));
    // One without a timeout is not given up as soon as these are.
    let mut without = persistent(&target, 0);
    assert_eq!(target.handle.connections(), 3);
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(5) {
        keep_alive(&mut kept).unwrap();
        std::thread::sleep(Duration::from_millis(200));
    }
    target.wait_for_connections(2);
    keep_alive(&mut kept).unwrap();
    keep_alive(&mut without).unwrap();
    target.wait_for_connections(2);
    let silent_now = Instant::now();
    target.wait_for_connections(1);
    assert!(silent_now.elapsed() > Duration::from_millis(500), "before its time");
    keep_alive(&mut without).unwrap();
}

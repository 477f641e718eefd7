//! Changes while hosts are connected.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "tests may stop at a surprise")]

mod common;

use common::*;
use nvme_spec::event::Event;
use nvme_spec::feature::{AsyncEventConfig, fid};
use nvme_spec::log::{AnaState, subtype};
use nvme_spec::{Nqn, Sqe, Status, opcode};
use nvmf::host::{Association, CommandId};
use nvmf::{Data, Error};
use nvmf_proto::connect::ConnectError;
use nvmf_storage::NamespaceSpec;
use nvmf_target::{
    BoundPort, ChangeError, Hosts, Namespace, NamespaceChange, Port, Subsystem, Target,
};

/// Has the host told of these events; the answer comes with the first.
fn listen_for(host: &mut Association, events: u32) -> CommandId {
    host.set_feature(fid::ASYNC_EVENT_CONFIG, 0, events, &[]).unwrap();
    request_event(host)
}

fn request_event(host: &mut Association) -> CommandId {
    let sqe = Sqe::new(opcode::admin::ASYNC_EVENT_REQUEST);
    let id = host.admin().submit(sqe, Data::None).unwrap();
    host.admin().flush(soon()).unwrap();
    id
}

fn event(host: &mut Association, id: CommandId) -> Event {
    Event::from_dw0(host.admin().wait(id, soon()).unwrap().cqe.dw0.get())
}

fn spec(text: &str) -> NamespaceSpec {
    text.parse().unwrap()
}

fn image(bytes: u64) -> tempfile::NamedTempFile {
    let image = tempfile::NamedTempFile::new().unwrap();
    image.as_file().set_len(bytes).unwrap();
    image
}

#[test]
fn a_namespace_comes_and_the_host_is_told() {
    for over in BOTH {
        let target = Running::start(subsystem(&["mem:1M"]));
        let mut host = target.associate(over, 1);
        let mut queue = host.connect_io_queues(1, None).unwrap().remove(0);
        let waiting = listen_for(&mut host, AsyncEventConfig::NAMESPACE_ATTRIBUTE);
        let ns = Namespace::open(5, &spec("mem:2M,bs=512")).unwrap().build(&nqn()).unwrap();
        target.handle.add_namespace(&nqn(), ns).unwrap();
        assert_eq!(event(&mut host, waiting), Event::NAMESPACE_ATTRIBUTE_CHANGED);
        assert_eq!(host.active_namespaces().unwrap(), [1, 5]);
        write(&mut queue, 5, 7, 512, &[7; 512]).unwrap();
        assert_eq!(read(&mut queue, 5, 7, 512, 512).unwrap(), [7; 512]);
    }
}

#[test]
fn a_namespace_goes_and_its_file_is_free_at_once() {
    for over in BOTH {
        let image = image(4 << 20);
        let text = format!("file:{}", image.path().display());
        let target = Running::start(subsystem(&[&text, "mem:1M"]));
        let mut host = target.associate(over, 1);
        let mut queue = host.connect_io_queues(1, None).unwrap().remove(0);
        write(&mut queue, 1, 0, 4096, &pattern(3, 65_536)).unwrap();
        assert_eq!(read(&mut queue, 1, 0, 4096, 65_536).unwrap(), pattern(3, 65_536));
        assert!(spec(&text).open().is_err(), "it is locked");

        target.handle.remove_namespace(&nqn(), 1).unwrap();
        drop(spec(&text).open().unwrap());
        assert_status(read(&mut queue, 1, 0, 4096, 4096), Status::INVALID_FIELD);
        assert_eq!(host.active_namespaces().unwrap(), [2]);
        read(&mut queue, 2, 0, 4096, 4096).unwrap();
        let again = target.handle.remove_namespace(&nqn(), 1);
        assert!(matches!(again, Err(ChangeError::NoNamespace { nsid: 1, .. })));

        let ns = Namespace::open(1, &spec(&text)).unwrap().build(&nqn()).unwrap();
        target.handle.add_namespace(&nqn(), ns).unwrap();
        assert_eq!(read(&mut queue, 1, 0, 4096, 65_536).unwrap(), pattern(3, 65_536));
    }
}

#[test]
fn a_private_namespace_is_seen_by_its_hosts_alone() {
    let target = Running::start(subsystem(&["mem:1M", "mem:2M"]));
    let (mut one, mut two) = (target.associate(Over::Tcp, 1), target.associate(Over::Tcp, 2));
    let waiting = listen_for(&mut two, AsyncEventConfig::NAMESPACE_ATTRIBUTE);
    let only = NamespaceChange::Hosts(Some([options(1).host].into()));
    target.handle.change_namespace(&nqn(), 2, only).unwrap();
    assert_eq!(event(&mut two, waiting), Event::NAMESPACE_ATTRIBUTE_CHANGED);
    assert_eq!(one.active_namespaces().unwrap(), [1, 2]);
    assert_eq!(two.active_namespaces().unwrap(), [1]);
    let mut queue = two.connect_io_queues(1, None).unwrap().remove(0);
    assert_status(read(&mut queue, 2, 0, 4096, 4096), Status::INVALID_FIELD);
}

#[test]
fn a_namespace_is_write_protected_and_no_more() {
    let target = Running::start(subsystem(&["mem:1M"]));
    let mut host = target.associate(Over::Tcp, 1);
    let mut queue = host.connect_io_queues(1, None).unwrap().remove(0);
    let protect = |on| {
        let change = NamespaceChange::WriteProtected(on);
        target.handle.change_namespace(&nqn(), 1, change).unwrap();
    };
    protect(true);
    let refused = write(&mut queue, 1, 0, 4096, &[1; 4096]);
    assert_status(refused, Status::NAMESPACE_WRITE_PROTECTED);
    assert_eq!(host.identify_namespace(1).unwrap().nsattr & 1, 1);
    protect(false);
    write(&mut queue, 1, 0, 4096, &[1; 4096]).unwrap();
}

#[test]
fn an_ana_state_holds_on_its_port_alone() {
    let builder = Target::builder()
        .subsystem(subsystem(&["mem:1M"]))
        .port(Port::new(7, "127.0.0.1:0".parse().unwrap()));
    let target = Running::start_with(builder);
    let ports = target.handle.ports();
    let connect =
        |at: usize, n| Association::connect_tcp(ports[at].address(), &nqn(), options(n)).unwrap();
    let (mut here, mut there) = (connect(0, 1), connect(1, 1));
    let mut queues = [
        here.connect_io_queues(1, None).unwrap().remove(0),
        there.connect_io_queues(1, None).unwrap().remove(0),
    ];
    let waiting = listen_for(&mut here, AsyncEventConfig::ANA_CHANGE);
    target.handle.set_ana(7, 1, AnaState::Inaccessible).unwrap();
    assert_eq!(event(&mut here, waiting), Event::ANA_CHANGE);
    assert_status(read(&mut queues[0], 1, 0, 4096, 4096), Status::ANA_INACCESSIBLE);
    read(&mut queues[1], 1, 0, 4096, 4096).unwrap();
    target.handle.set_ana(7, 1, AnaState::Optimized).unwrap();
    read(&mut queues[0], 1, 0, 4096, 4096).unwrap();
    assert!(matches!(
        target.handle.set_ana(9, 1, AnaState::Optimized),
        Err(ChangeError::NoPort { id: 9 })
    ));
    assert!(target.handle.set_ana(7, 33, AnaState::Optimized).is_err());
}

#[test]
fn a_host_that_is_shut_out_loses_its_connections_and_others_go_on() {
    let target = Running::start(subsystem(&["mem:1M"]));
    let (mut one, mut two) = (target.associate(Over::Tcp, 1), target.associate(Over::Tcp, 2));
    let mut lost = one.connect_io_queues(1, None).unwrap().remove(0);
    let mut kept = two.connect_io_queues(1, None).unwrap().remove(0);
    let only = Hosts::Only([options(2).host].into());
    target.handle.set_hosts(&nqn(), only).unwrap();
    target.wait_for_connections(2);
    assert!(read(&mut lost, 1, 0, 4096, 4096).is_err());
    read(&mut kept, 1, 0, 4096, 4096).unwrap();
    match target.associate_to(Over::Tcp, &nqn(), options(1)) {
        Err(Error::Connect(ConnectError::Status(status))) => {
            assert!(status.same_code(Status::CONNECT_INVALID_HOST), "{status}");
        }
        other => panic!("{other:?}"),
    }
    let mut discovery = target.associate_to(Over::Tcp, &Nqn::DISCOVERY, options(1)).unwrap();
    let log = discovery.discovery_log().unwrap();
    assert!(log.entries.iter().all(|entry| entry.subtype != subtype::NVM));
}

#[test]
fn subsystems_and_ports_come_and_go_and_discovery_tells() {
    let target = Running::start(subsystem(&["mem:1M"]));
    let mut discovery = target.associate_to(Over::Tcp, &Nqn::DISCOVERY, options(1)).unwrap();
    let waiting = listen_for(&mut discovery, AsyncEventConfig::DISCOVERY_LOG);
    let other = Nqn::parse_strict("nqn.2026-01.org.example:other").unwrap();
    let build = || Subsystem::builder(other.clone()).open(&spec("mem:1M")).unwrap().build();
    target.handle.add_subsystem(build().unwrap()).unwrap();
    assert_eq!(event(&mut discovery, waiting), Event::DISCOVERY_LOG_CHANGED);
    let names = |discovery: &mut Association| -> Vec<String> {
        let log = discovery.discovery_log().unwrap();
        let nvm = log.entries.iter().filter(|entry| entry.subtype == subtype::NVM);
        nvm.map(|entry| entry.subsystem_nqn().unwrap().to_string()).collect()
    };
    assert_eq!(names(&mut discovery), [NQN, other.as_str()]);
    let twice = target.handle.add_subsystem(build().unwrap());
    assert!(matches!(twice, Err(ChangeError::SameSubsystem { .. })));

    let waiting = request_event(&mut discovery);
    let bound = BoundPort::bind(Port::new(4, "127.0.0.1:0".parse().unwrap())).unwrap();
    let address = bound.port().address();
    target.handle.add_port(bound).unwrap();
    assert_eq!(event(&mut discovery, waiting), Event::DISCOVERY_LOG_CHANGED);
    assert_eq!(names(&mut discovery).len(), 4);
    let mut host = Association::connect_tcp(address, &other, options(1)).unwrap();
    let mut queue = host.connect_io_queues(1, None).unwrap().remove(0);
    read(&mut queue, 1, 0, 4096, 4096).unwrap();

    target.handle.remove_port(4).unwrap();
    wait_until("the port to close", || std::net::TcpStream::connect(address).is_err());
    target.wait_for_connections(1);
    let mut host = target.associate_to(Over::Tcp, &other, options(1)).unwrap();
    let _queue = host.connect_io_queues(1, None).unwrap().remove(0);
    target.handle.remove_subsystem(&other).unwrap();
    target.wait_for_connections(1);
    assert!(target.associate_to(Over::Tcp, &other, options(1)).is_err());
    assert_eq!(names(&mut discovery), [NQN]);
}

#[test]
fn a_controller_is_dropped_and_its_host_may_come_again() {
    let target = Running::start(subsystem(&["mem:1M"]));
    let mut host = target.associate(Over::Tcp, 1);
    let _queue = host.connect_io_queues(2, None).unwrap();
    let controllers = target.handle.controllers();
    assert_eq!(controllers.len(), 1);
    assert_eq!(controllers[0].host, options(1).host);
    assert_eq!((controllers[0].port, controllers[0].io_queues.as_slice()), (1, &[1, 2][..]));
    assert!(controllers[0].peer.starts_with("127.0.0.1:"));
    target.handle.disconnect(&nqn(), controllers[0].cntlid).unwrap();
    target.wait_for_connections(0);
    let gone = target.handle.disconnect(&nqn(), controllers[0].cntlid);
    assert!(matches!(gone, Err(ChangeError::NoController { .. })));
    target.associate(Over::Tcp, 1);
}

#[test]
fn a_namespace_grows_and_the_host_is_told() {
    let image = image(1 << 20);
    let text = format!("file:{},bs=512", image.path().display());
    for spec in [text.as_str(), "mem:1M,bs=512"] {
        let target = Running::start(subsystem(&[spec]));
        let mut host = target.associate(Over::Tcp, 1);
        let mut queue = host.connect_io_queues(1, None).unwrap().remove(0);
        assert_status(read(&mut queue, 1, 2048, 512, 512), Status::LBA_OUT_OF_RANGE);
        let waiting = listen_for(&mut host, AsyncEventConfig::NAMESPACE_ATTRIBUTE);
        let geometry = target.handle.resize_namespace(&nqn(), 1, Some(2 << 20)).unwrap();
        assert_eq!(geometry.blocks(), 4096);
        assert_eq!(event(&mut host, waiting), Event::NAMESPACE_ATTRIBUTE_CHANGED);
        assert_eq!(host.identify_namespace(1).unwrap().nsze.get(), 4096);
        write(&mut queue, 1, 4095, 512, &[1; 512]).unwrap();
        let smaller = target.handle.resize_namespace(&nqn(), 1, Some(1 << 20));
        assert!(matches!(smaller, Err(ChangeError::Resize(_))));
        let missing = target.handle.resize_namespace(&nqn(), 9, None);
        assert!(matches!(missing, Err(ChangeError::NoNamespace { nsid: 9, .. })));
        target.stop().unwrap();
    }
}

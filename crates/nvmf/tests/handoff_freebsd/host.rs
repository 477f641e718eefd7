//! Associations handed to nvmf(4).

use std::io::{self, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use nvmf::handoff::freebsd::manage;
use nvmf::handoff::freebsd::nvlist::NvList;
use nvmf::handoff::freebsd::{
    ConnectionStatus, ControllerName, HandoffError, HandoffHost, QueueError, QueueParams,
    ReconnectParams, StatusError,
};
use nvmf::host::{Association, HostOptions, QueuePair};
use nvmf::proto::queue::QueueSize;
use nvmf::proto::tcp::{ControllerConfig, HostConfig};
use nvmf::spec::identify::IdentifyController;
use nvmf::spec::log::{DiscoveryEntry, adrfam, subtype, trtype};
use nvmf::spec::opcode::{admin, nvm};
use nvmf::spec::{Nqn, Sqe};
use nvmf::transport::TakeApartError;
use nvmf::{Data, Deadline};
use zerocopy::{FromBytes, IntoBytes};

use crate::ends::{self, Carrier, serve_ram, soon, spawn};
use crate::kernel::{Call, Fake};
use crate::scripted::{Answer, listen, nqn, options, script};

fn disk() -> Nqn {
    nqn("nqn.2026-01.example:disk")
}

/// An association over TCP with a controller that answers to everything, and its I/O queues.
fn association_with(options: HostOptions, queues: u16) -> (Association, Vec<QueuePair>) {
    let mut script = script(move |_, sqe| match sqe.opcode {
        admin::SET_FEATURES => Answer::Result(u64::from(queues - 1) * 0x1_0001),
        _ => Answer::Result(0),
    });
    script.identify.subnqn = disk().to_wire();
    let address = listen(&Arc::new(Mutex::new(script)));
    let mut association = Association::connect_tcp(address, &disk(), options).unwrap();
    let io = association.connect_io_queues(queues, QueueSize::new(64)).unwrap();
    assert_eq!(io.len(), usize::from(queues));
    (association, io)
}

fn handoff(queues: u16) -> HandoffHost {
    let (association, io) = association_with(options(), queues);
    HandoffHost::new(association, io)
}

fn fd(queue: &QueuePair) -> u64 {
    queue.idle_tcp().unwrap().0.as_raw_fd().try_into().unwrap()
}

/// The error for which an association is not handed over, and the association.
#[track_caller]
fn refused(handoff: HandoffHost) -> (HandoffError, Box<HandoffHost>) {
    let mut kernel = Fake::default();
    let failed = handoff.hand_over(&mut kernel).unwrap_err();
    assert_eq!(kernel.calls, []);
    (failed.error, failed.handoff)
}

#[test]
fn the_kernel_is_told_all_of_an_association() {
    let mut options = options();
    options.header_digest = true;
    options.r2ts_per_command = 6;
    options.keep_alive = Duration::from_millis(12_500);
    let (association, io) = association_with(options, 3);
    let identify = association.controller().as_bytes().to_vec();
    let mut handoff = HandoffHost::new(association, io);
    handoff.reconnect_delay = Duration::from_millis(1500);
    let fds = [fd(&handoff.io[0]), fd(&handoff.io[1]), fd(&handoff.io[2])];
    let admin_fd = fd(&handoff.admin);
    let peer = handoff.admin.idle_tcp().unwrap().0.peer_addr().unwrap();

    let mut kernel = Fake::default();
    handoff.hand_over(&mut kernel).unwrap();

    let list = kernel.handed_over();
    let number = |list: &NvList, name| list.number(name).unwrap();
    assert_eq!(number(list, "trtype"), 3);
    assert_eq!(number(list, "kato"), 12_500);
    assert_eq!(number(list, "reconnect_delay"), 2);
    assert_eq!(number(list, "controller_loss_timeout"), 600);
    assert_eq!(list.binary("cdata").unwrap(), identify);

    let queue = |list: &NvList, admin, qsize, max_icd, fd| {
        assert_eq!(list.bool("admin").unwrap(), admin);
        assert!(!list.bool("sq_flow_control").unwrap());
        assert!(list.bool("header_digests").unwrap() && !list.bool("data_digests").unwrap());
        for (name, value) in [
            ("qsize", qsize),
            ("sqhd", 0),
            ("sqtail", 0),
            ("fd", fd),
            ("rxpda", 4),
            ("txpda", 4),
            ("maxr2t", 5),
            ("maxh2cdata", 256 << 10),
            ("max_icd", max_icd),
        ] {
            assert_eq!(number(list, name), value, "{name}");
        }
        assert_eq!(list.iter().count(), 13);
    };
    queue(list.list("admin").unwrap(), true, 32, 8192, admin_fd);
    let io = list.lists("io").unwrap();
    assert_eq!(io.len(), 3);
    io.iter().zip(fds).for_each(|(list, fd)| queue(list, false, 64, 8192, fd));

    let params = list.list("rparams").unwrap();
    let read = ReconnectParams::from_packed(&params.encode().unwrap()).unwrap();
    assert_eq!(read.host, nqn("nqn.2026-01.example:host"));
    assert_eq!((read.io_queues, read.io_size.entries()), (3, 64));
    assert_eq!(read.keep_alive, Duration::from_millis(12_500));
    assert_eq!(read.reconnect_delay, Duration::from_secs(2));
    assert_eq!((read.header_digest, read.data_digest, read.flow_control), (true, false, false));
    assert_eq!(read.r2ts_per_command, Some(6));
    let DiscoveryEntry { trtype, adrfam, subtype, .. } = *read.entry;
    assert_eq!((trtype, adrfam, subtype), (trtype::TCP, adrfam::IPV4, subtype::NVM));
    assert_eq!(&read.entry.traddr[..10], b"127.0.0.1\0");
    assert_eq!(read.entry.port(), Some(peer.port()));
    assert_eq!(read.entry.trsvcid.last(), Some(&0));
    assert_eq!(read.entry.subnqn, identify[768..1024]);
    assert_eq!((read.entry.cntlid.get(), read.entry.asqsz.get()), (0xffff, 32));
}

#[test]
fn what_the_handshake_agreed_on_is_told_as_it_is() {
    let host =
        HostConfig { hpda: 11, data_digest: true, r2ts_per_command: 3, ..HostConfig::default() };
    let controller = ControllerConfig { cpda: 6, maxh2cdata: 8192, ..ControllerConfig::default() };
    let (host, controller) = Carrier::Tcp(host, controller).join();
    let serving = spawn(controller, nvmf::controller::AcceptOptions::default(), serve_ram);
    // With flow control, so that head and tail mean something.
    let mut options = ends::options().io_queue(1, QueueSize::new(4).unwrap(), 7);
    options.disable_flow_control = false;
    let mut queue = QueuePair::connect(host, &options, soon()).unwrap();
    for _ in 0..6 {
        let id = queue.submit(ends::at(nvm::READ, 0), Data::read(512)).unwrap();
        queue.wait(id, soon()).unwrap().into_result("Read").unwrap();
    }
    let params = QueueParams::of_host(&queue).unwrap();
    assert!(params.flow_control && !params.admin);
    assert_eq!((params.sqhd, params.sqtail, params.size.entries()), (2, Some(2), 4));
    assert_eq!((params.receive.alignment, params.send.alignment), (48, 28));
    assert_eq!((params.send.header_digest, params.send.data_digest), (false, true));
    assert_eq!((params.r2ts_per_command, params.maxh2cdata), (3, 8192));
    let list = params.to_nvlist();
    assert_eq!(list.number("maxr2t"), Ok(2), "0's based");
    assert_eq!((list.number("rxpda"), list.number("txpda")), (Ok(48), Ok(28)));
    drop(queue);
    serving.join().unwrap();
}

fn is_nonblocking(stream: &TcpStream) -> bool {
    let flags = rustix::fs::fcntl_getfl(stream).unwrap();
    flags.contains(rustix::fs::OFlags::NONBLOCK)
}

#[test]
fn sockets_are_blocking_while_the_kernel_takes_them_and_not_if_it_does_not() {
    let handoff = handoff(1);
    let of = |queue: &QueuePair| queue.idle_tcp().unwrap().0.try_clone().unwrap();
    let streams = [of(&handoff.admin), of(&handoff.io[0])];
    let watched = streams.each_ref().map(|stream| stream.try_clone().unwrap());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&seen);
    let mut kernel = Fake::refusing(io::ErrorKind::PermissionDenied);
    kernel.meanwhile =
        Some(Box::new(move || noted.lock().unwrap().extend(watched.iter().map(is_nonblocking))));
    let failed = handoff.hand_over(&mut kernel).unwrap_err();
    assert_eq!(*seen.lock().unwrap(), [false, false]);
    assert!(streams.iter().all(is_nonblocking));

    assert!(matches!(failed.error, HandoffError::Kernel(_)), "{}", failed.error);
    assert!(failed.to_string().contains("only root"), "{failed}");
    // Nothing is lost: the association goes on in user space, or is tried again.
    let mut handoff = failed.handoff;
    handoff.io[0].execute(Sqe::new(nvm::FLUSH), nvmf::Transfer::None, soon()).unwrap();
    handoff.hand_over(&mut Fake::default()).unwrap();
}

#[test]
fn a_queue_that_is_busy_is_named_and_comes_back() {
    let (association, mut io) = association_with(options(), 2);
    let id = io[1].submit(Sqe::new(nvm::FLUSH), Data::None).unwrap();
    let (error, mut handoff) = refused(HandoffHost::new(association, io));
    let HandoffError::Queue { qid: 2, source: QueueError::TakeApart(reason) } = &error else {
        panic!("{error}")
    };
    assert_eq!(*reason, TakeApartError::Outstanding { outstanding: 1 });
    assert_eq!(error.to_string(), "queue 2: 1 commands are outstanding on the queue");

    // Completed, but by somebody who has not looked.
    let other = handoff.io[1].submit(Sqe::new(nvm::FLUSH), Data::None).unwrap();
    handoff.io[1].wait(other, soon()).unwrap();
    let (error, mut handoff) = refused(*handoff);
    let unfetched = TakeApartError::Unfetched { completions: 1 };
    assert!(
        matches!(&error, HandoffError::Queue { qid: 2, source: QueueError::TakeApart(reason) } if *reason == unfetched),
        "{error}"
    );
    handoff.io[1].wait(id, soon()).unwrap();
    handoff.hand_over(&mut Fake::default()).unwrap();
}

#[test]
fn a_pdu_that_has_come_in_part_stays_with_who_has_the_rest() {
    let (host, controller) =
        Carrier::Tcp(HostConfig::default(), ControllerConfig::default()).join();
    let (_, accepted) =
        controller.idle_tcp(0).map(|(stream, c)| (c.queue().size(), stream)).unwrap();
    let mut behind = accepted.try_clone().unwrap();
    let serving = spawn(controller, nvmf::controller::AcceptOptions::default(), serve_ram);
    let mut queue = QueuePair::connect(host, &ends::options(), soon()).unwrap();
    queue.idle_tcp().unwrap();
    behind.write_all(&[5, 0, 24]).unwrap();
    let brief = Deadline::after(Duration::from_millis(200));
    assert!(queue.wait_any(brief).unwrap_err().is_timeout());
    assert_eq!(queue.idle_tcp().unwrap_err(), TakeApartError::Partial);
    drop(queue);
    serving.join().unwrap();
}

#[test]
fn queues_that_do_not_belong_together_are_refused() {
    let mut none = handoff(1);
    none.io.clear();
    assert!(matches!(refused(none).0, HandoffError::NoIoQueue));

    let mut swapped = handoff(1);
    std::mem::swap(&mut swapped.admin, &mut swapped.io[0]);
    assert!(matches!(refused(swapped).0, HandoffError::Kind { qid: 1 }));
    let mut two = handoff(1);
    two.io.push(handoff(1).admin);
    let (error, _) = refused(two);
    assert!(matches!(error, HandoffError::Size { .. } | HandoffError::Kind { .. }), "{error}");

    let (mut association, mut io) = association_with(options(), 2);
    io.pop();
    io.push(association.connect_io_queue(QueueSize::new(16)).unwrap());
    let (error, _) = refused(HandoffHost::new(association, io));
    let text = "queue 3 has 16 entries; the kernel wants 64, as the first one has";
    assert_eq!(error.to_string(), text);

    let mut of_two = handoff(1);
    let (host, controller) =
        Carrier::Tcp(HostConfig::default(), ControllerConfig::default()).join();
    let other = std::thread::spawn(move || {
        let accept = nvmf::controller::AcceptOptions::default();
        let pending = nvmf::controller::accept(controller, &accept, soon()).unwrap();
        serve_ram(pending.accept(8, soon()).unwrap());
    });
    let size = QueueSize::new(64).unwrap();
    let connect = ends::options().io_queue(2, size, 8);
    of_two.io.push(QueuePair::connect(host, &connect, soon()).unwrap());
    let (error, handoff) = refused(of_two);
    assert!(
        matches!(error, HandoffError::Controller { qid: 2, cntlid: 8, expected: 7 }),
        "{error}"
    );
    drop(handoff);
    other.join().unwrap();
}

#[test]
fn a_queue_in_process_is_none_for_the_kernel() {
    let (host, controller) = Carrier::InProcess.join();
    let serving = spawn(controller, nvmf::controller::AcceptOptions::default(), serve_ram);
    let mut mixed = handoff(1);
    let connect = ends::options().io_queue(1, QueueSize::new(64).unwrap(), 7);
    mixed.io.push(QueuePair::connect(host, &connect, soon()).unwrap());
    let (error, handoff) = refused(mixed);
    assert_eq!(error.to_string(), "queue 1: the queue's transport is not TCP");
    drop(handoff);
    serving.join().unwrap();
}

fn entry(subsystem: &Nqn, family: u8) -> Box<DiscoveryEntry> {
    Box::new(
        DiscoveryEntry::tcp(subtype::NVM, subsystem, family, "target.example", "4420").unwrap(),
    )
}

#[test]
fn an_entry_of_the_discovery_log_is_kept_but_made_complete() {
    let mut handoff = handoff(1);
    let mut given = entry(&disk(), 0);
    given.portid.set(9);
    // As a target may have it: bytes behind the NUL that end the name.
    given.subnqn[200] = b'x';
    handoff.entry = Some(given);
    let mut kernel = Fake::default();
    handoff.hand_over(&mut kernel).unwrap();
    let list = kernel.handed_over();
    let kept = list.list("rparams").unwrap().binary("dle").unwrap();
    let kept = DiscoveryEntry::read_from_bytes(kept).unwrap();
    assert_eq!((kept.portid.get(), kept.adrfam), (9, adrfam::IPV4));
    assert_eq!(&kept.traddr[..16], b"target.example\0\0");
    assert_eq!(&kept.trsvcid[..6], b"4420\0\0");
    assert_eq!(kept.subnqn, list.binary("cdata").unwrap()[768..1024]);

    let mut v6 = self::handoff(1);
    v6.entry = Some(entry(&disk(), adrfam::IPV6));
    let params = v6.reconnect_params().unwrap();
    assert_eq!(params.entry.adrfam, adrfam::IPV6, "what it says stays");
}

#[test]
fn an_entry_of_something_else_is_refused() {
    let mut other = handoff(1);
    other.entry = Some(entry(&nqn("nqn.2026-01.example:other"), adrfam::IPV4));
    let (error, _) = refused(other);
    let text = error.to_string();
    assert!(text.contains("example:other") && text.contains("example:disk"), "{text}");

    let mut rdma = handoff(1);
    let mut given = entry(&disk(), adrfam::IPV4);
    given.trtype = trtype::RDMA;
    rdma.entry = Some(given);
    assert!(refused(rdma).0.to_string().contains("rdma"));

    let mut nameless = handoff(1);
    nameless.controller.subnqn = [0; 256];
    assert!(matches!(refused(nameless).0, HandoffError::Nqn { whose: "controller's data", .. }));
}

#[test]
fn static_controllers_are_asked_for_by_their_identifier() {
    let mut handoff = handoff(1);
    handoff.controller.fcatt |= IdentifyController::FCATT_STATIC;
    assert_eq!(handoff.reconnect_params().unwrap().entry.cntlid.get(), 7);
}

fn nvme3() -> ControllerName {
    ControllerName::parse("/dev/nvme3").unwrap()
}

#[test]
fn a_lost_association_is_made_again_as_it_was() {
    let mut kernel = Fake::default();
    let first = handoff(2);
    let made_with = first.reconnect_params().unwrap();
    first.hand_over(&mut kernel).unwrap();
    // The kernel gives back what it was given.
    kernel.answer = kernel.handed_over().list("rparams").unwrap().encode().unwrap();
    kernel.calls.clear();
    let params = manage::reconnect_params(&nvme3(), &mut kernel).unwrap();
    assert_eq!(params, made_with);
    assert_eq!(kernel.calls, [Call::ReconnectParams("nvme3".to_owned())]);

    kernel.calls.clear();
    handoff(2).reconnect(&nvme3(), &mut kernel).unwrap();
    let [Call::ReconnectHost(name, list)] = &kernel.calls[..] else { panic!("{:?}", kernel.calls) };
    assert_eq!((name.as_str(), list.lists("io").unwrap().len()), ("nvme3", 2));
}

#[test]
fn what_the_kernel_keeps_is_judged_when_it_comes_back() {
    let whole = handoff(1).reconnect_params().unwrap().to_nvlist();
    let without = |name: &str| {
        let others = whole.iter().filter(|(n, _)| *n != name);
        others.fold(NvList::new(), |list, (name, value)| list.with(name, value.clone()))
    };
    let read = |list: NvList| ReconnectParams::from_packed(&list.encode().unwrap());
    // By nvmecontrol(8), and with times left out.
    assert_eq!(read(without("maxr2t")).unwrap().r2ts_per_command, None);
    for (name, is_zero) in [
        ("kato", (|p| p.keep_alive.is_zero()) as fn(&ReconnectParams) -> bool),
        ("reconnect_delay", |p| p.reconnect_delay.is_zero()),
        ("controller_loss_timeout", |p| p.controller_loss_timeout.is_zero()),
    ] {
        assert!(is_zero(&read(without(name)).unwrap()), "{name}");
    }
    for name in ["dle", "hostnqn", "num_io_queues", "io_qsize", "header_digests"] {
        let error = read(without(name)).unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
    }
    let range = |name: &'static str, value: u64| {
        let error = read(without(name).with(name, value)).unwrap_err();
        let StatusError::Range { name: n, value: v } = error else { panic!("{error}") };
        assert_eq!((n, v), (name, value));
    };
    range("num_io_queues", 1 << 32);
    range("io_qsize", 1);
    range("io_qsize", 65_537);
    let short = read(without("dle").with("dle", vec![0u8; 1023])).unwrap_err();
    assert!(matches!(short, StatusError::EntryLength { len: 1023 }));
    assert!(matches!(read(without("hostnqn").with("hostnqn", "")), Err(StatusError::Host(_))));
    assert!(matches!(ReconnectParams::from_packed(&[1]), Err(StatusError::Decode(_))));
}

#[test]
fn a_controller_says_how_it_stands() {
    let mut kernel = Fake::default();
    let mut ask = |connected, secs: u64, nanos: u64| {
        let time = NvList::new().with("tv_sec", secs).with("tv_nsec", nanos);
        let list = NvList::new().with("connected", connected).with("last_disconnect", time);
        kernel.answer = list.encode().unwrap();
        manage::connection_status(&nvme3(), &mut kernel)
    };
    let never = ConnectionStatus { connected: true, last_disconnect: None };
    assert_eq!(ask(true, 0, 0).unwrap(), never);
    let then = SystemTime::UNIX_EPOCH + Duration::new(5, 7);
    let lost = ConnectionStatus { connected: false, last_disconnect: Some(then) };
    assert_eq!(ask(false, 5, 7).unwrap(), lost);
    assert!(matches!(ask(true, u64::MAX, 0), Err(StatusError::Range { name: "tv_sec", .. })));
    assert!(matches!(ask(true, 0, u64::MAX), Err(StatusError::Range { name: "tv_nsec", .. })));
    assert!(kernel.calls.contains(&Call::ConnectionStatus("nvme3".to_owned())));
    kernel.errors.push_back(io::ErrorKind::NotFound);
    let error = manage::connection_status(&nvme3(), &mut kernel).unwrap_err();
    assert!(error.to_string().contains("NVMF_CONNECTION_STATUS"), "{error}");
}

#[test]
fn controllers_end_by_device_by_subsystem_or_all() {
    let mut kernel = Fake::default();
    manage::disconnect(&nvme3(), &mut kernel).unwrap();
    manage::disconnect_subsystem(&disk(), &mut kernel).unwrap();
    manage::disconnect_all(&mut kernel).unwrap();
    let by = |name: &str| Call::DisconnectHost(name.to_owned());
    assert_eq!(kernel.calls, [by("nvme3"), by("nqn.2026-01.example:disk"), Call::DisconnectAll]);
    kernel.errors.push_back(io::ErrorKind::NotFound);
    let error = manage::disconnect_all(&mut kernel).unwrap_err();
    assert_eq!((error.call, error.source.kind()), ("NVMF_DISCONNECT_ALL", io::ErrorKind::NotFound));
}

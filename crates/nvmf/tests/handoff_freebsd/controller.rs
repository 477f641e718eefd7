//! Connects handed to nvmft(4), and its ports.

use std::io;
use std::net::TcpStream;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nvmf::Error;
use nvmf::controller::{self, AcceptOptions, PendingConnect};
use nvmf::handoff::freebsd::controller::{
    CtlError, Port, PortAssociation, PortNumber, Which, associations, enable, hand_over,
    port_status, remove, status, terminate,
};
use nvmf::handoff::freebsd::nvlist::NvList;
use nvmf::handoff::freebsd::{CtlReply, PortAction, QueueError};
use nvmf::host::{ConnectOptions, QueuePair};
use nvmf::proto::connect::{ConnectError, Refusal};
use nvmf::proto::queue::QueueSize;
use nvmf::proto::tcp::{ControllerConfig, HostConfig};
use nvmf::spec::fabrics::{Connect, ConnectData};
use nvmf::transport::TakeApartError;
use zerocopy::FromBytes;

use crate::ends::{Carrier, options, soon};
use crate::kernel::{Call, Fake};
use crate::scripted::nqn;

/// A Connect that came over `carrier`, and the host that waits for its answer.
fn pending(
    carrier: Carrier,
    connect: ConnectOptions,
) -> (PendingConnect, JoinHandle<Result<QueuePair, Error>>) {
    let (host, controller) = carrier.join();
    let waiting = thread::spawn(move || QueuePair::connect(host, &connect, soon()));
    let accept = AcceptOptions::default();
    (controller::accept(controller, &accept, soon()).unwrap(), waiting)
}

fn tcp() -> Carrier {
    Carrier::Tcp(HostConfig::default(), ControllerConfig::default())
}

#[test]
fn the_kernel_is_told_the_connect_as_it_came() {
    let host = HostConfig {
        hpda: 11,
        header_digest: true,
        data_digest: true,
        r2ts_per_command: 3,
        ..HostConfig::default()
    };
    let config = ControllerConfig { cpda: 6, maxh2cdata: 8192, ..ControllerConfig::default() };
    let io = options().io_queue(5, QueueSize::new(64).unwrap(), 7);
    let (connect, waiting) = pending(Carrier::Tcp(host, config), io);
    let mut kernel = Fake::default();
    hand_over(connect, &mut kernel).unwrap();

    let list = kernel.handed_over();
    assert_eq!(list.number("trtype"), Ok(3));
    let command = Connect::read_from_bytes(list.binary("cmd").unwrap()).unwrap();
    assert_eq!((command.qid.get(), command.sqsize.get()), (5, 63));
    let data = ConnectData::read_from_bytes(list.binary("data").unwrap()).unwrap();
    assert_eq!((data.cntlid.get(), data.hostid), (7, [9; 16]));
    assert_eq!(data.subnqn, nqn("nqn.2026-01.test:disk").to_wire());
    let params = list.list("params").unwrap();
    assert_eq!((params.bool("admin"), params.bool("sq_flow_control")), (Ok(false), Ok(false)));
    assert_eq!((params.bool("header_digests"), params.bool("data_digests")), (Ok(true), Ok(true)));
    for (name, value) in [
        ("qsize", 64),
        ("sqhd", 0),
        ("rxpda", 28),
        ("txpda", 48),
        ("maxr2t", 2),
        ("maxh2cdata", 8192),
        ("max_icd", 0),
    ] {
        assert_eq!(params.number(name), Ok(value), "{name}");
    }
    assert!(params.number("fd").is_ok() && params.number("sqtail").is_err());
    // This kernel answers nobody, and lets the socket go.
    assert!(waiting.join().unwrap().is_err());
}

#[test]
fn flow_control_is_as_the_host_asked_or_as_the_target_insists() {
    let told = |disable, insists| {
        let (host, controller) = tcp().join();
        let connect = ConnectOptions { disable_flow_control: disable, ..options() };
        let waiting = thread::spawn(move || QueuePair::connect(host, &connect, soon()).is_ok());
        let accept = AcceptOptions { flow_control: insists, ..AcceptOptions::default() };
        let connect = controller::accept(controller, &accept, soon()).unwrap();
        let mut kernel = Fake::default();
        hand_over(connect, &mut kernel).unwrap();
        waiting.join().unwrap();
        let params = kernel.handed_over().list("params").unwrap();
        (params.bool("admin").unwrap(), params.bool("sq_flow_control").unwrap())
    };
    assert_eq!(told(true, false), (true, false));
    assert_eq!(told(true, true), (true, true));
    assert_eq!(told(false, false), (true, true));
}

#[test]
fn a_connect_that_the_kernel_does_not_want_is_still_answered() {
    let (connect, waiting) = pending(tcp(), options());
    let mut kernel = Fake::saying(status::ERROR, "Unknown SubNQN");
    let failed = hand_over(connect, &mut kernel).unwrap_err();
    assert_eq!(failed.to_string(), "CTL_NVMF_HANDOFF: the kernel says: Unknown SubNQN");
    let refusal = Refusal::data(ConnectData::OFFSET_SUBNQN, "there is no such subsystem");
    failed.connect.refuse(&refusal, soon()).unwrap();
    let answered = waiting.join().unwrap().unwrap_err();
    assert!(matches!(answered, Error::Connect(ConnectError::Invalid(_))), "{answered}");

    // Or served here after all, by a socket that is as it was.
    let (connect, waiting) = pending(tcp(), options());
    let mut kernel = Fake::refusing(io::ErrorKind::NotFound);
    let failed = hand_over(connect, &mut kernel).unwrap_err();
    assert!(failed.to_string().contains("loaded"), "{failed}");
    let queue = failed.connect.accept(3, soon()).unwrap();
    assert_eq!(waiting.join().unwrap().unwrap().cntlid(), 3);
    drop(queue);
}

#[test]
fn the_socket_is_blocking_while_the_kernel_takes_it() {
    let (connect, waiting) = pending(tcp(), options());
    let stream: TcpStream = connect.idle_tcp().unwrap().0.try_clone().unwrap();
    let mode = |stream: &TcpStream| {
        rustix::fs::fcntl_getfl(stream).unwrap().contains(rustix::fs::OFlags::NONBLOCK)
    };
    let watched = stream.try_clone().unwrap();
    let mut kernel = Fake::saying(status::ERROR, "CTL port offline");
    kernel.meanwhile = Some(Box::new(move || assert!(!mode(&watched))));
    assert!(mode(&stream));
    let failed = hand_over(connect, &mut kernel).unwrap_err();
    assert!(mode(&stream));
    // The watcher has the socket too.
    drop((failed, stream, kernel));
    assert!(waiting.join().unwrap().is_err());
}

#[test]
fn a_connect_in_process_is_none_for_the_kernel() {
    let (connect, waiting) = pending(Carrier::InProcess, options());
    let mut kernel = Fake::default();
    let failed = hand_over(connect, &mut kernel).unwrap_err();
    let not_tcp = QueueError::TakeApart(TakeApartError::NotTcp).to_string();
    assert!(matches!(&failed.error, CtlError::Queue(error) if error.to_string() == not_tcp));
    assert_eq!(kernel.calls, []);
    drop(failed);
    assert!(waiting.join().unwrap().is_err());
}

#[test]
fn a_port_is_made_enabled_and_taken_away() {
    let subsystem = nqn("nqn.2026-01.test:disk");
    let mut kernel =
        Fake { answer: NvList::new().with("port_id", 4u64).encode().unwrap(), ..Fake::default() };
    let port = Port {
        serial: Some("S1".to_owned()),
        max_io_size: QueueSize::new(512),
        enable_timeout: Some(Duration::from_secs(5)),
        command_capsule: Some(8256),
        response_capsule: Some(16),
        namespaces: Some(32),
        ..Port::new(subsystem.clone(), 2)
    };
    let number = port.create(&mut kernel).unwrap();
    assert_eq!(number, PortNumber(4));
    kernel.answer.clear();
    enable(number, true, &mut kernel).unwrap();
    enable(number, false, &mut kernel).unwrap();
    remove(&subsystem, &mut kernel).unwrap();
    let list = NvList::new()
        .with("subnqn", "nqn.2026-01.test:disk")
        .with("portid", "2")
        .with("serial", "S1")
        .with("max_io_qsize", "512")
        .with("enable_timeout", "5000")
        .with("ioccsz", "8256")
        .with("iorcsz", "16")
        .with("nn", "32");
    let gone = NvList::new().with("subnqn", "nqn.2026-01.test:disk");
    let calls = [
        Call::CtlPort(PortAction::Create, list),
        Call::CtlEnablePort(4, true),
        Call::CtlEnablePort(4, false),
        Call::CtlPort(PortAction::Remove, gone),
    ];
    assert_eq!(kernel.calls, calls);
}

#[test]
fn what_a_port_cannot_be_is_said_in_the_kernels_words() {
    let port = Port::new(nqn("nqn.2026-01.test:disk"), 1);
    let mut kernel = Fake::saying(port_status::ERROR, "Invalid enable timeout");
    let error = port.create(&mut kernel).unwrap_err();
    assert_eq!(error.to_string(), "CTL_PORT_REQ: the kernel says: Invalid enable timeout");
    // No words, but a status.
    let mut kernel = Fake::saying(0, "");
    assert!(port.create(&mut kernel).unwrap_err().to_string().contains("status 0"));
    let answers =
        |answer: Vec<u8>| port.create(&mut Fake { answer, ..Fake::default() }).unwrap_err();
    assert!(matches!(answers(vec![]), CtlError::Decode(_)));
    assert!(matches!(answers(NvList::new().encode().unwrap()), CtlError::Missing(_)));
    let huge = NvList::new().with("port_id", 1u64 << 31).encode().unwrap();
    assert!(matches!(answers(huge), CtlError::PortNumber(0x8000_0000)));
    // A warning is none of a failure.
    let reply = CtlReply { status: port_status::WARNING, message: "odd".to_owned() };
    let answer = NvList::new().with("port_id", 1u64).encode().unwrap();
    let mut kernel = Fake { replies: [reply].into(), answer, ..Fake::default() };
    assert_eq!(port.create(&mut kernel).unwrap(), PortNumber(1));
}

fn listed(text: &str) -> Result<Vec<PortAssociation>, CtlError> {
    associations(&mut Fake { answer: text.as_bytes().to_vec(), ..Fake::default() })
}

/// A line of the kernel's list.
fn line(id: u32, host: &str) -> String {
    format!(
        "<connection id=\"{id}\"><hostnqn>{host}</hostnqn><subnqn>nqn.2026-01.test:disk</subnqn>\
         <trtype>3</trtype></connection>\n"
    )
}

#[test]
fn the_list_of_associations_is_read_however_long_it_is() {
    assert_eq!(listed("<ctlnvmflist>\n</ctlnvmflist>\n\0").unwrap(), []);
    let lines: String = (1..=500).map(|i| line(i, &format!("nqn.2026-01.test:host{i}"))).collect();
    let answer = format!("<ctlnvmflist>\n{lines}</ctlnvmflist>\n\0").into_bytes();
    let mut kernel = Fake { answer, ..Fake::default() };
    let found = associations(&mut kernel).unwrap();
    assert_eq!(found.len(), 500);
    let last = PortAssociation {
        cntlid: 500,
        host: nqn("nqn.2026-01.test:host500"),
        subsystem: nqn("nqn.2026-01.test:disk"),
        trtype: 3,
    };
    assert_eq!(found.last(), Some(&last));
    let rooms = kernel.calls.iter().map(|call| match call {
        Call::CtlList(room) => *room,
        call => panic!("{call:?}"),
    });
    assert_eq!(rooms.collect::<Vec<_>>(), [4 << 10, 16 << 10, 64 << 10, 256 << 10]);
}

#[test]
fn a_list_that_is_none_is_told_by_its_line() {
    let bad = |text: &str, line| match listed(text).unwrap_err() {
        CtlError::List { line: at, reason } => assert_eq!(at, line, "{text:?}: {reason}"),
        error => panic!("{error}"),
    };
    bad("", 1);
    bad("<ctlnvmflist>\n", 2);
    bad("</ctlnvmflist>\n", 1);
    bad("<ctlnvmflist>\n<ctlnvmflist>\n</ctlnvmflist>\n", 2);
    bad("<ctlnvmflist>\n</ctlnvmflist>\nmore\n", 2);
    let among = |entry: &str| format!("<ctlnvmflist>\n{}{entry}</ctlnvmflist>\n", line(1, "a"));
    bad(&among("nonsense\n"), 3);
    bad(&among(&line(70_000, "a")), 3);
    bad(&among(&line(2, "")), 3);
    bad(&among(&line(2, "a").replace("</connection>", "</connection>x")), 3);
    bad(&among(&line(2, "a").replace(">3<", ">300<")), 3);
    // The kernel writes names as they came: one that looks like markup is not believed.
    bad(&among(&line(2, "x</hostnqn><subnqn>y")), 3);
    bad(&among(&line(2, "x<y")), 3);
}

#[test]
fn a_list_without_end_is_given_up() {
    let mut kernel = Fake { answer: vec![b'x'; (16 << 20) + 1], ..Fake::default() };
    let error = associations(&mut kernel).unwrap_err();
    assert!(matches!(error, CtlError::ListLength { most: 0x100_0000 }), "{error}");
    assert_eq!(kernel.calls.len(), 7);
}

#[test]
fn associations_are_ended_by_who_they_are_of() {
    let host = Which::Host(Box::new(nqn("nqn.2026-01.test:host")));
    let mut kernel = Fake::default();
    for which in [Which::All, Which::Controller(7), host.clone()] {
        terminate(&which, &mut kernel).unwrap();
        assert_eq!(kernel.calls.pop(), Some(Call::CtlTerminate(which)));
    }
    let none = || Fake::saying(status::ASSOCIATION_NOT_FOUND, "No matching associations found");
    let error = terminate(&host, &mut none()).unwrap_err();
    assert_eq!(error.to_string(), "there is no association of host nqn.2026-01.test:host");
    let error = terminate(&Which::Controller(7), &mut none()).unwrap_err();
    assert_eq!(error.to_string(), "there is no association of controller 7");
}

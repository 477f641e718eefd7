//! Packed lists, byte for byte as FreeBSD's libnv packs them.
//!
//! The files in `nvlist_reference` were written by FreeBSD's libnv (built from its public source for
//! amd64 Linux) for the lists that are built here once more: `nvlist_pack`, and for descriptors
//! what `nvlist_send` sends.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "tests stop at the first surprise")]

use std::time::{Duration, SystemTime};

use nvmf::handoff::freebsd::controller::Port;
use nvmf::handoff::freebsd::nvlist::{NvList, Value};
use nvmf::handoff::freebsd::{ConnectionStatus, QueueParams, ReconnectParams};
use nvmf::proto::pdu::Format;
use nvmf::proto::queue::QueueSize;
use nvmf::spec::Nqn;
use nvmf::spec::log::{DiscoveryEntry, adrfam, subtype};
use zerocopy::IntoBytes;

/// The bytes of a file.
fn reference(name: &str) -> Vec<u8> {
    let path = format!("{}/tests/nvlist_reference/{name}.hex", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap();
    let digits: Vec<u8> =
        text.chars().filter_map(|c| c.to_digit(16)).map(|d| d.try_into().unwrap()).collect();
    digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

#[track_caller]
fn is_as_libnv(name: &str, list: &NvList) {
    let packed = reference(name);
    assert_eq!(&NvList::decode(&packed).unwrap(), list, "{name}");
    if cfg!(target_endian = "little") {
        assert_eq!(list.encode().unwrap(), packed, "{name}");
    }
}

fn one(name: &str, number: u64) -> NvList {
    NvList::new().with(name, number)
}

#[test]
fn an_empty_list() {
    is_as_libnv("empty", &NvList::new());
}

#[test]
fn every_type_that_is_no_list() {
    let list = NvList::new()
        .with("null", Value::Null)
        .with("yes", true)
        .with("no", false)
        .with("zero", 0u64)
        .with("most", u64::MAX)
        .with("string", "text")
        .with("no text", "")
        .with("binary", &[0, 0xff, 0x80][..])
        .with("bools", vec![true, false, true])
        .with("numbers", vec![1, 0x0123_4567_89ab_cdef_u64])
        .with("strings", vec!["a".to_owned(), String::new(), "ccc".to_owned()]);
    is_as_libnv("scalars", &list);
}

#[test]
fn lists_in_lists() {
    let outer = one("first", 1)
        .with("inner", one("deep", 2))
        .with("hollow", NvList::new())
        .with("last", "x");
    let list = NvList::new()
        .with("before", true)
        .with("outer", outer)
        .with("empty", NvList::new())
        .with("behind", 3u64);
    is_as_libnv("nested", &list);
}

#[test]
fn arrays_of_lists_in_lists_of_arrays() {
    let inner = NvList::new().with("inner", vec![one("i", 1), one("i", 2)]).with("after", true);
    let items = vec![NvList::new(), one("x", 9), NvList::new(), inner, NvList::new()];
    let more = NvList::new().with("list", one("deep", 4)).with("behind", 5u64);
    let outer = NvList::new().with("items", items).with("more", vec![more]).with("tail", "t");
    is_as_libnv("arrays", &NvList::new().with("outer", outer).with("end", 6u64));

    let hollow = NvList::new().with("hollow", vec![NvList::new(), NvList::new()]);
    is_as_libnv("empty_elements", &hollow.with("behind", false));
}

#[test]
fn descriptors_by_their_places() {
    let list =
        one("n", 1).with("fd", Value::Descriptor(0)).with("fds", Value::Descriptors(vec![1, 2]));
    is_as_libnv("descriptors", &list);

    let inner = |fd| NvList::new().with("fd", Value::Descriptor(fd)).with("n", 1u64);
    let hollow = NvList::new().with("empty", NvList::new());
    let list = NvList::new()
        .with("list", inner(0))
        .with("items", vec![inner(1), NvList::new(), hollow, inner(2)])
        .with("last", Value::Descriptor(3));
    is_as_libnv("nested_descriptors", &list);
}

fn queue(admin: bool, entries: u32, fd: i32) -> QueueParams {
    let (flow_control, place) = if admin { (true, 5) } else { (false, 0) };
    let layout = |alignment| Format { header_digest: true, data_digest: false, alignment };
    QueueParams {
        admin,
        flow_control,
        size: QueueSize::new(entries).unwrap(),
        sqhd: place,
        sqtail: Some(place),
        fd,
        receive: layout(4),
        send: layout(28),
        r2ts_per_command: 4,
        maxh2cdata: 262_144,
        in_capsule: 8192,
    }
}

fn disk() -> Nqn {
    Nqn::lenient("nqn.2026-01.test:disk").unwrap()
}

fn reconnect(io_queues: u32) -> ReconnectParams {
    let mut entry = DiscoveryEntry::tcp(subtype::NVM, &disk(), adrfam::IPV4, "", "").unwrap();
    entry.portid.set(1);
    (entry.traddr, entry.trsvcid) = ([0; 256], [0; 32]);
    entry.traddr[..9].copy_from_slice(b"192.0.2.7");
    entry.trsvcid[..4].copy_from_slice(b"4420");
    ReconnectParams {
        entry: Box::new(entry),
        host: Nqn::lenient("nqn.2026-01.test:host").unwrap(),
        io_queues,
        io_size: QueueSize::new(128).unwrap(),
        keep_alive: Duration::from_secs(30),
        reconnect_delay: Duration::from_secs(10),
        controller_loss_timeout: Duration::from_secs(600),
        flow_control: false,
        header_digest: true,
        data_digest: false,
        r2ts_per_command: None,
    }
}

#[test]
fn a_queue_pair_and_what_it_takes_to_connect_again() {
    is_as_libnv("host_queue", &queue(true, 32, 7).to_nvlist());
    is_as_libnv("reconnect_params", &reconnect(1).to_nvlist());
    let read = ReconnectParams::from_packed(&reference("reconnect_params")).unwrap();
    assert_eq!(read, reconnect(1));
}

#[test]
fn an_association() {
    let mut controller = [0; 4096];
    (0..24).zip(&mut controller).for_each(|(i, byte)| *byte = i);
    controller[768..1024].copy_from_slice(&disk().to_wire());
    for (name, queues) in [("handoff_one_queue", 1), ("handoff_three_queues", 3)] {
        let io = (0..queues).map(|i| queue(false, 128, 8 + i).to_nvlist()).collect::<Vec<_>>();
        let list = NvList::new()
            .with("trtype", 3u64)
            .with("kato", 30_000u64)
            .with("reconnect_delay", 10u64)
            .with("controller_loss_timeout", 600u64)
            .with("rparams", reconnect(queues.try_into().unwrap()).to_nvlist())
            .with("admin", queue(true, 32, 7).to_nvlist())
            .with("io", io)
            .with("cdata", &controller[..]);
        is_as_libnv(name, &list);
    }
}

#[test]
fn how_a_connection_stands() {
    let status = ConnectionStatus::from_packed(&reference("connection_status")).unwrap();
    let last = SystemTime::UNIX_EPOCH + Duration::new(1_753_000_000, 987_654_321);
    assert_eq!(status, ConnectionStatus { connected: true, last_disconnect: Some(last) });
}

#[test]
fn a_controllers_queue_pair() {
    let params = QueueParams { sqtail: None, in_capsule: 0, ..queue(false, 128, 11) };
    let command: Vec<u8> = (0..64).collect();
    let data: Vec<u8> = (0..1024u32).map(|i| (i * 7).as_bytes()[0]).collect();
    let list = NvList::new()
        .with("trtype", 3u64)
        .with("params", params.to_nvlist())
        .with("cmd", command)
        .with("data", data);
    is_as_libnv("controller_queue", &list);
}

#[test]
fn a_port() {
    let max_io_size = QueueSize::new(1024);
    let port = Port { max_io_size, ..Port::new(disk(), 1) };
    is_as_libnv("port_create", &port.to_nvlist());
    is_as_libnv("port_created", &one("port_id", 5));
}

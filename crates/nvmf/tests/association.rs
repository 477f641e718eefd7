//! Associations, against controllers that answer by a script: honest ones and liars.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "tests may stop at a surprise")]

mod scripted;

use std::collections::BTreeMap;
use std::io::IoSliceMut;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use nvmf::host::{Association, TcpDialer};
use nvmf::proto::connect::{ConnectError, ControllerChoice, Refusal};
use nvmf::proto::queue::QueueSize;
use nvmf::spec::fabrics::ConnectData;
use nvmf::spec::feature::{Select, fid};
use nvmf::spec::identify::{
    ActiveNamespaceList, DescriptorList, IdentifyNamespace, LbaFormat, NamespaceId, cns,
};
use nvmf::spec::log::{
    DiscoveryEntry, DiscoveryHeader, ExtendedDiscoveryEntry, GetLogPage, lid, subtype,
};
use nvmf::spec::opcode::{admin, nvm};
use nvmf::spec::property::{Cc, Csts, offset};
use nvmf::spec::{HostId, Nqn, Sqe, Status};
use nvmf::{Data, Error, Transfer};
use scripted::{
    Answer, CNTLID, Script, connect, connect_with, connected, dialer, listen, nqn, options, plain,
    script, soon,
};
use zerocopy::IntoBytes;

#[test]
fn an_association_enables_the_controller_and_shuts_it_down() {
    let (mut association, script) = connected(script(|_, sqe| match sqe.opcode {
        admin::SET_FEATURES => Answer::Result(0x0001_0001),
        _ => Answer::Fail(Status::INVALID_OPCODE),
    }));
    assert_eq!((association.cntlid(), association.max_transfer()), (CNTLID, 128 << 10));
    assert_eq!(script.lock().unwrap().cc, Cc::ENABLE);

    // Two of the four wanted are granted.
    let queues = association.connect_io_queues(4, None).unwrap();
    assert_eq!(queues.iter().map(|q| q.qid()).collect::<Vec<_>>(), [1, 2]);
    association.shutdown(queues).unwrap();

    let script = script.lock().unwrap();
    assert_eq!(script.cc.shn(), 1);
    let admin = &script.connects[0];
    assert_eq!((admin.command.qid, admin.controller), (0, ControllerChoice::Dynamic));
    assert_eq!((admin.command.kato_ms, admin.host_id), (30_000, HostId([9; 16])));
    for (io, qid) in script.connects[1..].iter().zip(1..) {
        assert_eq!((io.command.qid, io.command.kato_ms), (qid, 0));
        assert_eq!((io.controller, io.command.size.entries()), (ControllerChoice::Id(CNTLID), 128));
        assert_eq!((&io.host, &io.subsystem), (&admin.host, &admin.subsystem));
    }
}

#[test]
fn io_queues_are_no_larger_than_the_controller_has_them() {
    let mut script = script(|_, _| Answer::Result(0));
    script.cap = script.cap.with_mqes(15);
    let (mut association, script) = connected(script);
    association.connect_io_queues(1, QueueSize::new(64)).unwrap();
    assert_eq!(script.lock().unwrap().connects[1].command.size.entries(), 16);

    let mut maxcmd = plain();
    maxcmd.identify.maxcmd.set(7);
    maxcmd.answer = Box::new(|_, _| Answer::Result(0));
    let (mut association, script) = connected(maxcmd);
    association.connect_io_queues(1, None).unwrap();
    assert_eq!(script.lock().unwrap().connects[1].command.size.entries(), 8);

    let mut none = plain();
    none.cap = none.cap.with_mqes(0);
    none.answer = Box::new(|_, _| Answer::Result(0));
    let (mut association, _) = connected(none);
    let error = association.connect_io_queues(1, None).unwrap_err();
    assert!(matches!(error, Error::InvalidData { what: "CAP", .. }), "{error}");
}

#[test]
fn a_refused_connect_says_which_parameter() {
    let mut refusing = plain();
    refusing.refuse = Some(Refusal::data(ConnectData::OFFSET_SUBNQN, "unknown"));
    let error = connect(refusing).0.unwrap_err();
    let Error::Connect(ConnectError::Invalid(parameter)) = error else { panic!("{error}") };
    assert_eq!(parameter.name(), "subnqn");
}

#[test]
fn a_controller_with_a_fatal_error_is_given_up_at_once() {
    let mut fatal = plain();
    fatal.csts = Some(Csts(0).with_cfs(1).with_rdy(1));
    assert!(matches!(connect(fatal).0.unwrap_err(), Error::Fatal));
}

#[test]
fn a_controller_that_never_becomes_ready_is_waited_for_as_long_as_it_says() {
    let mut slow = plain();
    slow.csts = Some(Csts(0));
    slow.cap = slow.cap.with_to(1);
    let start = Instant::now();
    let error = connect(slow).0.unwrap_err();
    assert!(matches!(error, Error::NotReady { awaited: "ready", .. }), "{error}");
    assert!((500..3000).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());

    // And no longer than the caller would wait, whatever it says.
    let mut slower = plain();
    slower.csts = Some(Csts(0));
    slower.cap = slower.cap.with_to(255);
    let mut options = options();
    options.timeout = Duration::from_millis(300);
    let start = Instant::now();
    let error = connect_with(slower, options).0.unwrap_err();
    assert!(matches!(error, Error::NotReady { .. }), "{error}");
    assert!(start.elapsed() < Duration::from_secs(3));
}

#[test]
fn a_time_to_ready_of_zero_is_a_little_time() {
    let mut instant = plain();
    instant.cap = instant.cap.with_to(0);
    assert!(connect(instant).0.is_ok());
}

#[test]
fn a_controller_that_does_not_answer_is_given_up_after_the_timeout() {
    let (mut association, _) = {
        let mut options = options();
        options.timeout = Duration::from_millis(300);
        let (a, s) = connect_with(script(|_, _| Answer::Silence), options);
        (a.unwrap(), s)
    };
    let start = Instant::now();
    let error = association.identify(cns::NAMESPACE, 1, 0).unwrap_err();
    assert!(error.is_timeout(), "{error}");
    assert!(start.elapsed() < Duration::from_secs(3));
    // It was a read, so the association goes on.
    assert!(association.property_get(offset::CSTS).is_ok());
}

#[test]
fn commands_stay_within_mdts_whatever_it_is() {
    for (mdts, expected) in [(0, 1 << 20), (1, 8192), (5, 128 << 10), (31, 1 << 20), (255, 1 << 20)]
    {
        let mut script = plain();
        script.identify.mdts = mdts;
        assert_eq!(connected(script).0.max_transfer(), expected, "MDTS {mdts}");
    }
    // The unit is the least page, which may be large.
    let mut script = plain();
    script.cap = script.cap.with_mpsmin(15);
    script.identify.mdts = 30;
    assert_eq!(connected(script).0.max_transfer(), 1 << 20);
}

#[test]
fn the_command_sets_are_selected_as_offered() {
    for (css, selected) in [(1, 0), (0x41, 0), (0x40, 6), (0x80, 7), (0, 0)] {
        let mut script = plain();
        script.cap = script.cap.with_css(css);
        let (_association, script) = connected(script);
        assert_eq!(script.lock().unwrap().cc.css(), selected, "CAP.CSS {css:#x}");
    }
}

#[test]
fn keep_alive_is_sent_when_it_is_due_and_not_before() {
    let mut options = options();
    options.keep_alive = Duration::from_millis(100);
    let (association, script) = connect_with(plain(), options);
    let mut association = association.unwrap();
    let count = || {
        let script = script.lock().unwrap();
        script.commands.iter().filter(|c| c.opcode == admin::KEEP_ALIVE).count()
    };
    association.keep_alive_if_due().unwrap();
    assert_eq!(count(), 0);
    thread::sleep(Duration::from_millis(60));
    association.keep_alive_if_due().unwrap();
    association.keep_alive_if_due().unwrap();
    assert_eq!(count(), 1);
}

#[test]
fn discovery_controllers_are_asked_for_no_keep_alive() {
    let script = Arc::new(Mutex::new(plain()));
    let association = Association::connect(dialer(&script), &Nqn::DISCOVERY, options()).unwrap();
    assert_eq!(script.lock().unwrap().connects[0].command.kato_ms, 0);
    assert_eq!(association.keep_alive_due(), None);
}

/// Answers Identify with the list of those above the given one.
fn listing(ids: impl Fn(u32) -> Vec<u32> + Send + 'static) -> Script {
    script(move |_, sqe| match (sqe.opcode, sqe.cdw(10)) {
        (admin::IDENTIFY, 2) => {
            let mut list = ActiveNamespaceList::default();
            for (to, id) in list.nsids.iter_mut().zip(ids(sqe.nsid.get())) {
                to.set(id);
            }
            Answer::Data(list.as_bytes().to_vec())
        }
        _ => Answer::Fail(Status::INVALID_FIELD),
    })
}

#[test]
fn long_lists_of_namespaces_are_read_to_their_end() {
    let all: Vec<u32> = (1..=2500).map(|i| i * 3).collect();
    let (mut association, _) = connected(listing({
        let all = all.clone();
        move |after| all.iter().copied().filter(|id| *id > after).collect()
    }));
    assert_eq!(association.active_namespaces().unwrap(), all);
    assert!(connected(listing(|_| Vec::new())).0.active_namespaces().unwrap().is_empty());
}

#[test]
fn lists_that_do_not_ascend_or_do_not_end_are_refused() {
    let refused = |script| {
        let error = connected(script).0.active_namespaces().unwrap_err();
        assert!(matches!(error, Error::InvalidData { .. }), "{error}");
    };
    refused(listing(|_| vec![3, 2]));
    refused(listing(|_| vec![3, 3]));
    // The same full page again and again.
    refused(listing(|_| (1..=1024).collect()));
    // One that never ends.
    refused(listing(|after| (after + 1..=after + 1024).collect()));
    // Up to the last there can be.
    let (mut association, _) = connected(listing(|after| {
        if after == 0 { (u32::MAX - 1024..u32::MAX).collect() } else { panic!("after {after}") }
    }));
    assert_eq!(association.active_namespaces().unwrap().len(), 1024);
}

#[test]
fn a_namespace_is_what_identify_says_or_an_error() {
    let (mut association, _) = connected(script(|_, sqe| match (sqe.cdw(10), sqe.nsid.get()) {
        (0, nsid @ 1..=2) => {
            let mut identify = IdentifyNamespace::default();
            identify.nsze.set(1000);
            identify.lbaf[0] = LbaFormat::new(if nsid == 1 { 12 } else { 77 });
            Answer::Data(identify.as_bytes().to_vec())
        }
        (0, 3) => Answer::Data(Vec::new()),
        _ => Answer::Fail(Status::INVALID_NAMESPACE),
    }));
    let info = association.namespace(1).unwrap();
    assert_eq!((info.block_size, info.bytes()), (4096, 4_096_000));
    assert!(matches!(association.namespace(2), Err(Error::InvalidData { .. })));
    assert!(matches!(association.namespace(3), Err(Error::NoNamespace { nsid: 3 })));
    assert!(matches!(association.namespace(4), Err(Error::NoNamespace { nsid: 4 })));
}

#[test]
fn descriptors_are_read_and_malformed_ones_refused() {
    let (mut association, _) = connected(script(|_, sqe| {
        let mut list = DescriptorList::new();
        list.push(NamespaceId::Uuid([3; 16])).unwrap();
        list.push(NamespaceId::Other { nidt: 9, value: &[1, 2] }).unwrap();
        list.push(NamespaceId::Csi(0)).unwrap();
        let mut page = list.as_bytes().to_vec();
        if sqe.nsid == 2 {
            page[1] = 15;
        }
        Answer::Data(page)
    }));
    let ids = association.namespace_ids(1).unwrap();
    assert_eq!((ids.uuid, ids.csi, ids.nguid), (Some([3; 16]), Some(0), None));
    assert!(matches!(association.namespace_ids(2), Err(Error::InvalidData { .. })));
}

#[test]
fn log_pages_are_split_at_the_transfer_limit_and_only_the_last_part_clears_events() {
    let mut script = script(|_, sqe| {
        let get = GetLogPage::from_sqe(sqe);
        let page = (0..get.len()).map(|i| u8::try_from((get.offset + i) % 251).unwrap());
        Answer::Data(page.collect())
    });
    script.identify.mdts = 1;
    let (mut association, script) = connected(script);
    let request = GetLogPage { lid: 0xc0, offset: 12, ..GetLogPage::default() };
    let page = association.log_page(request, 20_000).unwrap();
    assert!(page.iter().zip(12u64..).all(|(byte, i)| u64::from(*byte) == i % 251));
    let script = script.lock().unwrap();
    let parts: Vec<_> = script
        .commands
        .iter()
        .filter(|c| !c.is_fabrics() && c.opcode == admin::GET_LOG_PAGE)
        .map(GetLogPage::from_sqe)
        .map(|get| (get.offset, get.len(), get.rae))
        .collect();
    assert_eq!(parts, [(12, 8192, true), (8204, 8192, true), (16_396, 3616, false)]);
}

#[test]
fn log_pages_of_impossible_lengths_are_refused_before_they_are_asked_for() {
    let (mut association, _) = connected(plain());
    for length in [0, 3, 10, (64 << 20) + 4, u64::MAX] {
        let error = association.log_page(GetLogPage::default(), length).unwrap_err();
        assert!(matches!(error, Error::LogLength { .. }), "{length}: {error}");
    }
    let far = GetLogPage { offset: u64::MAX - 3, ..GetLogPage::default() };
    assert!(matches!(association.log_page(far, 8), Err(Error::LogLength { .. })));
}

/// A discovery controller whose log is made anew for each command, given how many came before.
fn discovery(log: impl Fn(usize) -> Vec<u8> + Send + 'static) -> Script {
    let mut count = 0;
    script(move |_, sqe| {
        let get = GetLogPage::from_sqe(sqe);
        if (sqe.opcode, get.lid) != (admin::GET_LOG_PAGE, lid::DISCOVERY) {
            return Answer::Fail(Status::INVALID_OPCODE);
        }
        let log = log(count);
        count += 1;
        let from = usize::try_from(get.offset).unwrap().min(log.len());
        let to = (from + usize::try_from(get.len()).unwrap()).min(log.len());
        Answer::Data(log[from..to].to_vec())
    })
}

fn log_of(generation: u64, names: &[&str]) -> Vec<u8> {
    let header = DiscoveryHeader::new(generation, u64::try_from(names.len()).unwrap());
    let mut log = header.as_bytes().to_vec();
    for name in names {
        let entry = DiscoveryEntry::tcp(subtype::NVM, &nqn(name), 1, "127.0.0.1", "4420").unwrap();
        log.extend_from_slice(entry.as_bytes());
    }
    log
}

fn names(log: &nvmf::host::DiscoveryLog) -> Vec<String> {
    log.entries.iter().map(|e| e.subsystem_nqn().unwrap().to_string()).collect()
}

#[test]
fn the_discovery_log_is_read_whole() {
    let all: Vec<String> = (0..300).map(|i| format!("nqn.2026-01.example:{i}")).collect();
    let (mut association, _) = connected(discovery({
        let all = all.clone();
        move |_| log_of(5, &all.iter().map(String::as_str).collect::<Vec<_>>())
    }));
    let log = association.discovery_log().unwrap();
    assert_eq!((log.generation, names(&log)), (5, all));

    let empty = connected(discovery(|_| log_of(0, &[]))).0.discovery_log().unwrap();
    assert!(empty.entries.is_empty());
}

#[test]
fn a_discovery_log_that_changes_meanwhile_is_read_again() {
    // The change comes between the entries and the second header.
    let (mut association, script) = connected(discovery(|count| match count {
        0 | 1 => log_of(1, &["nqn.2026-01.example:old"]),
        _ => log_of(2, &["nqn.2026-01.example:new", "nqn.2026-01.example:newer"]),
    }));
    let log = association.discovery_log().unwrap();
    assert_eq!(log.generation, 2);
    assert_eq!(names(&log), ["nqn.2026-01.example:new", "nqn.2026-01.example:newer"]);
    let commands = &script.lock().unwrap().commands;
    let reads = commands.iter().filter(|c| c.opcode == admin::GET_LOG_PAGE).count();
    assert_eq!(reads, 6);
}

#[test]
fn a_discovery_log_that_never_stands_still_is_given_up() {
    let changing = discovery(|count| log_of(u64::try_from(count).unwrap(), &[]));
    let error = connected(changing).0.discovery_log().unwrap_err();
    assert!(matches!(error, Error::DiscoveryUnstable { .. }), "{error}");

    let restart = script(|_, _| Answer::Fail(Status::DISCOVERY_RESTART));
    let error = connected(restart).0.discovery_log().unwrap_err();
    assert!(matches!(error, Error::DiscoveryUnstable { .. }), "{error}");
}

#[test]
fn a_discovery_log_of_unknown_format_or_endless_length_is_refused() {
    let mut header = DiscoveryHeader::new(1, 1);
    header.recfmt.set(1);
    let unknown = discovery(move |_| header.as_bytes().to_vec());
    let error = connected(unknown).0.discovery_log().unwrap_err();
    assert!(error.to_string().contains("record format 1"), "{error}");
    for count in [1 << 20, 1 << 40, u64::MAX] {
        let endless = discovery(move |_| DiscoveryHeader::new(1, count).as_bytes().to_vec());
        let error = connected(endless).0.discovery_log().unwrap_err();
        assert!(matches!(error, Error::InvalidData { .. }), "{error}");
    }
}

/// A page of one extended entry that ends with `attributes`, these many; `longer` is added to what
/// the page says of its own length and of the entry's.
fn extended_log(attributes: &[u8], count: u16, longer: [i32; 2]) -> Vec<u8> {
    let entry = DiscoveryEntry::tcp(subtype::NVM, &nqn("nqn.2026-01.example:x"), 1, "::1", "1");
    let mut entry = ExtendedDiscoveryEntry::new(entry.unwrap());
    let tel = 1032 + u32::try_from(attributes.len()).unwrap();
    entry.tel.set(tel.wrapping_add_signed(longer[1]));
    entry.numexat.set(count);
    let mut header = DiscoveryHeader::new(4, 1);
    header.dlpf = DiscoveryHeader::DLPF_EXTENDED;
    header.tdlpl.set((1024 + tel).wrapping_add_signed(longer[0]));
    [header.as_bytes(), entry.as_bytes(), attributes].concat()
}

const LABEL: &[u8] = b"\x02\0\x04\0disk";

#[test]
fn extended_entries_of_the_discovery_log_are_read_with_their_attributes() {
    let (mut association, script) = connected(discovery(|_| extended_log(LABEL, 1, [0, 0])));
    let log = association.discovery_log_of(DiscoveryHeader::DLPF_EXTENDED).unwrap();
    assert_eq!((log.flags, names(&log)), (1, vec!["nqn.2026-01.example:x".to_owned()]));
    assert_eq!(log.attributes[&0][0].exattype, 2);
    assert_eq!(log.attributes[&0][0].value, b"disk");
    let commands = &script.lock().unwrap().commands;
    let reads = commands.iter().filter(|c| c.opcode == admin::GET_LOG_PAGE);
    assert!(reads.clone().count() == 3 && reads.into_iter().all(|c| c.cdw(10) >> 8 & 0x7f == 1));
    // One that has no such entries gives plain ones.
    let plain = discovery(|_| log_of(5, &["nqn.2026-01.example:x"]));
    let log = connected(plain).0.discovery_log_of(DiscoveryHeader::DLPF_EXTENDED).unwrap();
    assert_eq!((log.flags, log.entries.len(), log.attributes.len()), (0, 1, 0));
}

#[test]
fn extended_entries_of_the_discovery_log_that_are_wrong_are_refused() {
    for (attributes, count, longer) in [
        (LABEL, 1, [0, 4]),
        (LABEL, 1, [0, i32::MAX]),
        (LABEL, 1, [0, -1041]),
        (LABEL, 1, [0, -12]),
        (LABEL, 2, [0, 0]),
        (&LABEL[..4], 1, [0, 0]),
        (LABEL, 1, [-12, 0]),
        (LABEL, 1, [-2064, 0]),
        (LABEL, 1, [2, 0]),
        (LABEL, 1, [i32::MAX - 3, 0]),
    ] {
        let page = discovery(move |_| extended_log(attributes, count, longer));
        let error = connected(page).0.discovery_log().unwrap_err();
        assert!(matches!(error, Error::InvalidData { .. }), "{count} {longer:?}: {error}");
    }
}

#[test]
fn features_are_read_and_set() {
    let (mut association, script) = connected(script(|_, sqe| match sqe.opcode {
        admin::GET_FEATURES if sqe.cdw(10) & 0xff == u32::from(fid::HOST_IDENTIFIER) => {
            Answer::Data(vec![9; 16])
        }
        admin::GET_FEATURES => Answer::Result(42),
        admin::SET_FEATURES => Answer::Result(u64::from(sqe.cdw(11))),
        _ => Answer::Fail(Status::INVALID_OPCODE),
    }));
    let value =
        association.get_feature(fid::VOLATILE_WRITE_CACHE, Select::Saved, 0, &mut []).unwrap();
    assert_eq!(value, 42);
    let mut id = [0; 16];
    association.get_feature(fid::HOST_IDENTIFIER, Select::Current, 0, &mut id).unwrap();
    assert_eq!(id, [9; 16]);
    assert_eq!(association.set_feature(fid::ARBITRATION, 0, 0x77, &[]).unwrap(), 0x77);
    assert_eq!(association.request_io_queues(6).unwrap(), (6, 6));
    assert_eq!(script.lock().unwrap().commands.last().unwrap().cdw(11), 0x0005_0005);
}

#[test]
fn a_status_is_named_with_its_command() {
    let (mut association, _) = connected(plain());
    let error = association.identify(cns::NAMESPACE, 1, 0).unwrap_err();
    assert_eq!(error.status(), Some(Status::INVALID_OPCODE));
    let text = error.to_string();
    assert!(text.contains("Identify") && text.contains("Invalid Command Opcode"), "{text}");
}

#[test]
fn all_of_it_works_over_tcp_with_digests() {
    let blocks: Arc<Mutex<BTreeMap<u64, u8>>> = Arc::default();
    let disk = Arc::clone(&blocks);
    let script = Arc::new(Mutex::new(script(move |qid, sqe| match (qid, sqe.opcode) {
        (0, admin::SET_FEATURES) => Answer::Result(0),
        (1, nvm::WRITE) => {
            disk.lock().unwrap().insert(sqe.slba(), 1);
            Answer::Result(0)
        }
        (1, nvm::READ) => {
            let fill = disk.lock().unwrap().get(&sqe.slba()).copied().unwrap_or(0);
            Answer::Data(vec![fill; 4096])
        }
        _ => Answer::Fail(Status::INVALID_OPCODE),
    })));
    let address = listen(&script);
    let mut options = options();
    (options.header_digest, options.data_digest) = (true, true);
    let subsystem = nqn("nqn.2026-01.example:disk");
    let mut association =
        Association::connect(TcpDialer::new(address), &subsystem, options).unwrap();
    assert_eq!(association.peer(), address.to_string());
    let mut queues = association.connect_io_queues(1, None).unwrap();
    let queue = &mut queues[0];
    let io = |opcode, lba| {
        let mut sqe = Sqe::new(opcode);
        sqe.set_slba(lba);
        sqe
    };
    let write = queue.submit(io(nvm::WRITE, 3), Data::write(vec![1; 4096])).unwrap();
    queue.wait(write, soon()).unwrap().into_result("Write").unwrap();
    let mut block = [0; 4096];
    let read = Transfer::Read(&mut [IoSliceMut::new(&mut block)]);
    queue.execute(io(nvm::READ, 3), read, soon()).unwrap();
    assert_eq!(block, [1; 4096]);
    association.shutdown(queues).unwrap();
}

#[test]
fn the_example_reads_a_block_and_prints_it() {
    let mut disk = script(|_, sqe| match (sqe.opcode, sqe.cdw(10)) {
        (admin::IDENTIFY, 0) => {
            let mut identify = IdentifyNamespace::default();
            identify.nsze.set(8);
            identify.lbaf[0] = LbaFormat::new(9);
            Answer::Data(identify.as_bytes().to_vec())
        }
        (admin::SET_FEATURES, _) => Answer::Result(0),
        (nvm::READ, 0) => Answer::Data(vec![0xa5; 512]),
        _ => Answer::Fail(Status::INVALID_OPCODE),
    });
    disk.identify.set_names("1", "a scripted disk", "1");
    let address = listen(&Arc::new(Mutex::new(disk)));
    // Examples are built beside the tests: target/debug/deps/this, target/debug/examples/host.
    let tests = std::env::current_exe().unwrap();
    let example = tests.ancestors().nth(2).unwrap().join("examples/host");
    assert!(example.exists(), "no {}: `cargo test -p nvmf` builds it", example.display());
    let output = std::process::Command::new(example)
        .args([&address.to_string(), "nqn.2026-01.example:disk"])
        .output()
        .unwrap();
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(shown.contains("a scripted disk") && shown.contains("8 blocks of 512"), "{shown}");
    assert_eq!(shown.matches("a5 a5 a5").count(), 4 * 5, "{shown}");
}

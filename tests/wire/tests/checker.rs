//! The check can fail: each kind of damage to a recording is reported.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "tests may stop at a surprise")]

use std::sync::OnceLock;

use nvme_spec::Nqn;
use nvme_spec::opcode::nvm;
use nvme_spec::pdu::kind;
use nvmf::Transfer;
use nvmf::host::Association;
use nvmf_proto::tcp::ControllerConfig;
use nvmf_wire_tests::check::{Finding, findings};
use nvmf_wire_tests::recording::{End, Event, Recording};
use nvmf_wire_tests::sent::{Pdu, pdus};
use nvmf_wire_tests::talk;
use nvmf_wire_tests::target::{SUBSYSTEM, soon};
use nvmf_wire_tests::tshark::{DataDigests, dissect};

/// A short conversation with both digests.
fn conversation() -> Recording {
    static ONCE: OnceLock<Recording> = OnceLock::new();
    let record = || {
        talk::record(ControllerConfig::default(), |dialer| {
            let mut options = talk::options();
            (options.header_digest, options.data_digest) = (true, true);
            let subsystem = Nqn::lenient(SUBSYSTEM).unwrap();
            let mut association = Association::connect(dialer, &subsystem, options).unwrap();
            let mut queues = association.connect_io_queues(1, None).unwrap();
            for length in [1, 64] {
                let bytes = vec![7; length as usize * 512];
                let write = Transfer::Write(&[std::io::IoSlice::new(&bytes)]);
                queues[0].execute(talk::io(nvm::WRITE, 0, length), write, soon()).unwrap();
            }
            association.shutdown(queues).unwrap();
        })
    };
    ONCE.get_or_init(record).clone()
}

fn judge(recording: &Recording) -> Vec<Finding> {
    findings(recording, &dissect(recording, DataDigests::Verified))
}

/// The last PDU of a kind.
fn last(recording: &Recording, kind: u8) -> Pdu {
    let pdus = pdus(recording);
    pdus.into_iter().rfind(|pdu| pdu.kind() == kind).unwrap()
}

/// What is found when byte `at` of a PDU is another than was sent: tshark reads the damaged
/// recording, and is held against the one as it was.
fn found_after_damage(kind: u8, at: usize) -> String {
    let recording = conversation();
    let mut damaged = recording.clone();
    let pdu = last(&recording, kind);
    damaged.corrupt(pdu.connection, pdu.from, pdu.at + at);
    let found = findings(&recording, &dissect(&damaged, DataDigests::Verified));
    assert!(found.iter().any(|finding| finding.pdu.as_ref() == Some(&pdu)), "{found:?}");
    found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[test]
fn an_undamaged_recording_has_no_fault() {
    let found = judge(&conversation());
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn a_damaged_header_digest_is_found() {
    let found = found_after_damage(kind::CAPSULE_RESP, 24);
    assert!(found.contains("nvme-tcp.hdgst is wrong, says tshark"), "{found}");
}

#[test]
fn a_damaged_data_digest_is_found() {
    let length = last(&conversation(), kind::H2C_DATA).bytes.len();
    let found = found_after_damage(kind::H2C_DATA, length - 1);
    assert!(found.contains("nvme-tcp.ddgst is wrong, says tshark"), "{found}");
}

#[test]
fn damaged_data_is_found_by_its_digest() {
    let found = found_after_damage(kind::H2C_DATA, 100);
    assert!(found.contains("nvme-tcp.ddgst is wrong, says tshark"), "{found}");
}

#[test]
fn a_damaged_header_is_found_by_its_digest_and_by_the_field() {
    // TTAG.
    let found = found_after_damage(kind::R2T, 10);
    assert!(found.contains("nvme-tcp.hdgst is wrong, says tshark"), "{found}");
    assert!(found.contains("nvme-tcp.ttag is"), "{found}");
}

#[test]
fn a_wrong_digest_that_both_ends_agree_on_is_found() {
    let mut recording = conversation();
    let pdu = last(&recording, kind::H2C_DATA);
    let end = pdu.at + pdu.bytes.len();
    recording.corrupt(pdu.connection, pdu.from, end - 1);
    let found = judge(&recording);
    assert!(found.iter().any(|f| f.what == "the data digest is wrong"), "{found:?}");
    assert!(found.iter().any(|f| f.what.starts_with("nvme-tcp.ddgst is wrong")), "{found:?}");
}

#[test]
fn a_pdu_cut_short_is_found() {
    // An R2T that ends before the offset it is about.
    let recording = conversation();
    let mut cut = recording.clone();
    let r2t = last(&recording, kind::R2T);
    for entry in &mut cut.entries {
        if let Event::Bytes(End::Controller, bytes) = &mut entry.event
            && *bytes == r2t.bytes
        {
            bytes.truncate(12);
            (bytes[1], bytes[4]) = (0, 12);
        }
    }
    assert_ne!(cut, recording);
    let found = findings(&recording, &dissect(&cut, DataDigests::Verified));
    assert!(found.iter().any(|f| f.what.starts_with("nvme-tcp.r2t.offset is")), "{found:?}");
}

#[test]
fn a_pdu_that_was_lost_on_the_way_is_found() {
    let recording = conversation();
    let mut cut = recording.clone();
    let last = cut.entries.iter().rposition(|entry| matches!(entry.event, Event::Bytes(..)));
    cut.entries.remove(last.unwrap());
    let found = findings(&recording, &dissect(&cut, DataDigests::Verified));
    assert!(found.iter().any(|f| f.what == "tshark does not see it"), "{found:?}");
    let found = findings(&cut, &dissect(&recording, DataDigests::Verified));
    assert!(found.iter().any(|f| f.what.contains("a PDU that was not sent")), "{found:?}");
}

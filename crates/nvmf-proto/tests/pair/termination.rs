//! TermReq, sent and received.

use nvme_spec::Status;
use nvmf_proto::Violation;
use nvmf_proto::tcp::{ControllerEvent, HostEvent, Terminated, Transfer};

use crate::raw::{ControllerEnd, HostEnd, Raw, capsule, ic_req, nothing_sent, response};

fn term_req(kind: u8, copied: &[u8]) -> Vec<u8> {
    let mut fields = [0; 16];
    fields[0] = 4;
    fields[2..6].copy_from_slice(&0x0102_0304u32.to_le_bytes());
    let plen = 24 + u32::try_from(copied.len()).unwrap();
    [Raw::new(kind, &fields, &[]).plen(plen).bytes(), copied.to_vec()].concat()
}

#[test]
fn a_termreq_ends_a_host_without_an_answer() {
    for copied in [0, 8, 24, 128] {
        let mut end = HostEnd::ready(false).with(Transfer::None);
        end.give(&term_req(3, &vec![7; copied])).unwrap();
        let told = Terminated { fes: 4, fei: 0x0102_0304 };
        assert_eq!(end.events.last(), Some(&HostEvent::Terminated(told)));
        assert!(end.host.has_ended() && !end.host.wants_transmit());
        assert!(nothing_sent(&mut end.host));
    }
}

#[test]
fn a_termreq_ends_a_controller_without_an_answer() {
    let mut end = ControllerEnd::ready(false);
    end.give(&capsule(1, 0x5a, 0, &[]).bytes()).unwrap();
    let slot = end.slot();
    end.controller.respond(slot, crate::pair::success());
    end.give(&term_req(2, &[7; 72])).unwrap();
    let told = Terminated { fes: 4, fei: 0x0102_0304 };
    assert_eq!(end.events.last(), Some(&ControllerEvent::Terminated(told)));
    // Not even the answer that was ready goes out.
    assert!(end.controller.has_ended() && !end.controller.wants_transmit());
    assert!(end.sent().is_empty());
}

#[test]
fn a_termreq_may_come_in_the_middle_of_the_handshake() {
    let mut end = HostEnd::fresh(true);
    end.give(&term_req(3, &ic_req().bytes())).unwrap();
    assert!(end.host.has_ended() && !end.host.wants_transmit());
}

#[test]
fn a_termreq_has_no_digest_whatever_was_agreed() {
    let mut end = HostEnd::ready(true);
    end.give(&term_req(3, &[1; 24])).unwrap();
    assert!(end.host.has_ended());
    let mut end = ControllerEnd::ready(true);
    assert!(end.give(&[0x77; 8]).is_err());
    let sent = end.sent();
    assert_eq!(sent.len(), 24 + 8);
    assert_eq!(sent[..4], [3, 0, 24, 0]);
}

#[test]
fn after_its_own_termreq_an_end_says_nothing_more() {
    let mut end = ControllerEnd::ready(false);
    end.give(&capsule(1, 0x5a, 0, &[]).bytes()).unwrap();
    let slot = end.slot();
    assert!(end.give(&ic_req().bytes()).is_err());
    assert_eq!(end.sent()[0], 3);
    end.controller.respond(slot, crate::pair::success());
    assert!(!end.controller.wants_transmit());
    assert!(end.sent().is_empty());
}

#[test]
fn what_was_ready_when_a_violation_came_is_not_sent_before_the_termreq() {
    let mut end = HostEnd::ready(false);
    end.host.submit(nvme_spec::Sqe::new(0), Transfer::None).unwrap();
    assert!(end.give(&response(3, 0, Status::SUCCESS).bytes()).is_err());
    let sent = end.sent();
    assert_eq!((sent[0], sent.len()), (2, 24 + 24));
}

#[test]
fn an_icreq_is_copied_whole_and_no_termreq_is_longer_than_152_bytes() {
    let mut end = ControllerEnd::ready(true);
    let mut request = ic_req();
    request.rest[100] = 0x5c;
    let violation = Violation::Sequence { kind: 0 };
    assert_eq!(end.give(&request.bytes()), Err(violation));
    let sent = end.sent();
    assert_eq!(sent.len(), 152);
    assert_eq!(sent[4..8], 152u32.to_le_bytes());
    assert_eq!(sent[24..], request.bytes());
}

#[test]
fn the_header_copied_has_no_digest() {
    let mut end = HostEnd::ready(true);
    let bad = response(9, 0, Status::SUCCESS).digested();
    assert!(end.give(&bad).is_err());
    assert_eq!(end.sent()[24..], bad[..24]);
}

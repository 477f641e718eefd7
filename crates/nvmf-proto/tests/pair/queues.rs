//! Queue sizes, identifiers and submission queue flow control.

use nvme_spec::Status;
use nvmf_proto::Violation;
use nvmf_proto::pdu::Batch;
use nvmf_proto::queue::QueueSize;
use nvmf_proto::tcp::{Established, SubmitError, Transfer};

use crate::host_app::Op;
use crate::pair::{Pair, Setup, success};
use crate::raw::{ControllerEnd, HostEnd, capsule, response};

#[test]
fn a_queue_of_n_entries_takes_n_minus_1_commands() {
    for (entries, flow_control) in [(2, true), (2, false), (16, true), (16, false)] {
        let mut pair = Pair::connected(Setup { entries, flow_control, ..Setup::default() });
        pair.target.behaviour.answers = false;
        for _ in 1..entries {
            assert!(pair.host.has_room());
            pair.host.submit_op(Op::Flush);
        }
        let full = pair.host.submit(nvme_spec::Sqe::new(0), Transfer::None, Vec::new());
        assert!(matches!(full, Err(SubmitError::Full(_))));
        pair.run();
        assert_eq!(pair.target.jobs.len(), entries as usize - 1);
        let slots: Vec<u16> = pair.target.jobs.keys().copied().collect();
        slots.iter().for_each(|slot| pair.target.respond(*slot, success()));
        pair.run();
        pair.assert_idle();
    }
}

#[test]
fn a_command_is_encoded_at_once_unless_something_has_to_go_out_before() {
    let write = Transfer::ToController { length: 512 };
    for digests in [false, true] {
        let mut host = HostEnd::ready(digests).host;
        let mut batch = Batch::new();
        let read = Transfer::ToHost { length: 512 };
        host.submit_to(nvme_spec::Sqe::new(2), read, &mut batch).unwrap();
        assert!(!batch.is_empty() && !host.wants_transmit());
        // Its digest is made of data that is not asked for here.
        host.submit_to(nvme_spec::Sqe::new(1), write, &mut batch).unwrap();
        assert_eq!((batch.refers_to(1), host.wants_transmit()), (!digests, digests));
    }
    let mut host = HostEnd::ready(false).host;
    let mut batch = Batch::new();
    host.submit(nvme_spec::Sqe::new(0), Transfer::None).unwrap();
    host.submit_to(nvme_spec::Sqe::new(1), write, &mut batch).unwrap();
    assert!(batch.is_empty());
}

#[test]
fn the_largest_queue_can_be_filled_and_emptied() {
    let mut pair = Pair::connected(Setup { entries: 65536, ..Setup::default() });
    pair.target.behaviour.answers = false;
    for _ in 0..65535 {
        pair.host.submit_op(Op::Flush);
    }
    assert!(!pair.host.has_room());
    pair.run();
    let slots: Vec<u16> = pair.target.jobs.keys().copied().collect();
    assert_eq!(slots.len(), 65535);
    slots.iter().for_each(|slot| pair.target.respond(*slot, success()));
    pair.run();
    assert_eq!(pair.host.done.len(), 65535);
    pair.assert_idle();
}

#[test]
fn sqhd_goes_around_at_the_end_of_the_queue() {
    let mut pair = Pair::connected(Setup { entries: 3, ..Setup::default() });
    let heads: Vec<u16> = (0..7).map(|_| pair.operate(Op::Flush).cqe.sqhd.get()).collect();
    assert_eq!(heads, [1, 2, 0, 1, 2, 0, 1]);
}

#[test]
fn without_flow_control_sqhd_is_not_looked_at() {
    let mut end = HostEnd::ready_with(false, 0xffff).with(Transfer::None);
    end.give(&response(0, 0x1234, Status::SUCCESS).bytes()).unwrap();
    assert!(end.completions[0].cqe.status().is_success());
}

#[test]
fn without_flow_control_a_host_may_fill_every_entry() {
    let mut end = ControllerEnd::ready(false);
    end.give(&capsule(0, 0x5a, 0, &[]).bytes()).unwrap();
    let slot = end.slot();
    let size = QueueSize::new(4).unwrap();
    let established = Established { size, flow_control: false, in_capsule: 0 };
    end.controller.accept(slot, success(), established);
    assert_eq!(end.sent()[16..18], [0xff, 0xff]);
    for cid in 0..4 {
        end.give(&capsule(cid, 0x5a, 0, &[]).bytes()).unwrap();
    }
    let overflow = end.give(&capsule(4, 0x5a, 0, &[]).bytes());
    assert_eq!(overflow, Err(Violation::QueueOverflow { size: 4 }));
}

#[test]
fn before_connect_one_command_is_taken_at_a_time() {
    let mut end = ControllerEnd::fresh();
    end.give(&crate::raw::ic_req().bytes()).unwrap();
    end.give(&capsule(1, 0x5a, 0, &[]).bytes()).unwrap();
    let second = end.give(&capsule(2, 0x5a, 0, &[]).bytes());
    assert_eq!(second, Err(Violation::QueueOverflow { size: 2 }));
}

#[test]
fn an_identifier_in_use_is_a_conflict_and_the_first_command_goes_on() {
    let mut end = ControllerEnd::ready(false);
    end.give(&capsule(7, 0x5a, 0, &[]).bytes()).unwrap();
    let slot = end.slot();
    end.give(&capsule(7, 0x5a, 0, &[]).bytes()).unwrap();
    let conflict = end.sent();
    assert_eq!(conflict.len(), 24);
    assert_eq!(conflict[22..24], (0x4003u16 << 1).to_le_bytes());
    end.controller.respond(slot, success());
    let answer = end.sent();
    assert_eq!(answer[16..24], [2, 0, 0, 0, 7, 0, 0, 0], "SQHD 2: both used an entry");
}

#[test]
fn conflicts_that_are_not_heard_cannot_pile_up() {
    let mut end = ControllerEnd::ready(false);
    let flood: Vec<u8> = (0..100).flat_map(|_| capsule(7, 0x5a, 0, &[]).bytes()).collect();
    assert_eq!(end.give(&flood), Err(Violation::QueueOverflow { size: 4 }));
}

#[test]
fn an_identifier_is_free_again_once_its_answer_is_on_its_way() {
    let mut end = ControllerEnd::ready(false);
    for _ in 0..10 {
        end.give(&capsule(7, 0x5a, 0, &[]).bytes()).unwrap();
        let slot = end.slot();
        end.controller.respond(slot, success());
        end.sent();
    }
    assert_eq!(end.controller.queue().outstanding(), 0);
}

#[test]
fn identifiers_take_turns() {
    let mut pair = Pair::connected(Setup { entries: 4, ..Setup::default() });
    let cids: Vec<u16> = (0..6).map(|_| pair.operate(Op::Flush).cid).collect();
    assert!(cids.windows(2).all(|pair| pair[0] != pair[1]), "{cids:?}");
}

#[test]
fn answers_in_any_order_complete_the_right_commands() {
    let mut pair = Pair::connected(Setup::default());
    pair.target.behaviour.answers = false;
    let cids: Vec<u16> = (0..8).map(|_| pair.host.submit_op(Op::Flush)).collect();
    pair.run();
    for cid in cids.into_iter().rev() {
        let of = |slot: &&u16| pair.target.jobs[*slot].sqe.cid.get() == cid;
        let slot = *pair.target.jobs.keys().find(of).unwrap();
        pair.target.respond(slot, nvme_spec::Cqe::with_dw0(0, cid.into()));
        pair.run();
        assert_eq!(pair.host.take(cid).unwrap().cqe.dw0.get(), cid.into());
    }
    pair.assert_idle();
}

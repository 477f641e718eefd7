//! Commands that are aborted: found by their identifier, and answered whatever is still under way.

use nvme_spec::{Cqe, Status};
use nvmf_proto::tcp::ControllerConfig;

use crate::host_app::Op;
use crate::pair::{Pair, Setup};
use crate::raw::{ControllerEnd, capsule};

fn aborted() -> Cqe {
    Cqe::new(0, Status::ABORT_REQUESTED)
}

/// A pair whose target answers nothing by itself, whose segments are short and late.
fn pair() -> Pair {
    let controller =
        ControllerConfig { r2t_length: 8_000, r2ts_per_command: 2, ..Default::default() };
    let setup = Setup { controller, segments: (700, 700), delay_us: 50, ..Setup::default() };
    let mut pair = Pair::connected(setup);
    pair.target.behaviour.answers = false;
    pair
}

#[test]
fn a_command_is_found_by_its_identifier_until_it_is_answered() {
    let mut pair = pair();
    let cids = [(); 3].map(|()| pair.host.submit_op(Op::Read { region: 0, length: 4096 }));
    pair.run();
    for cid in cids {
        let slot = pair.target.controller.slot_of(cid).unwrap();
        assert_eq!(pair.target.jobs[&slot].sqe.cid.get(), cid);
    }
    let other = (0..).find(|cid| !cids.contains(cid)).unwrap();
    assert_eq!(pair.target.controller.slot_of(other), None);
    let slot = pair.target.controller.slot_of(cids[1]).unwrap();
    pair.target.respond(slot, aborted());
    assert_eq!(pair.target.controller.slot_of(cids[1]), None, "answered, not yet sent");
    pair.run();
    assert_eq!(pair.host.take(cids[1]).unwrap().cqe.status(), Status::ABORT_REQUESTED);
    assert!(pair.target.controller.slot_of(cids[0]).is_some());
    for cid in [cids[0], cids[2]] {
        let slot = pair.target.controller.slot_of(cid).unwrap();
        pair.target.respond(slot, aborted());
    }
    pair.run();
    pair.assert_idle();
}

#[test]
fn a_write_aborted_while_its_data_is_coming_is_answered_behind_it() {
    let mut pair = pair();
    let cid = pair.host.submit_op(Op::Write { region: 0, length: 30_000 });
    pair.run();
    let slot = pair.target.controller.slot_of(cid).unwrap();
    assert!(!pair.target.controller.awaits_data(slot), "nothing is asked for");
    pair.target.controller.request_data(slot, 30_000).unwrap();
    assert!(pair.target.controller.awaits_data(slot));
    let r2ts = pair.target.transmit_all();
    pair.inspector.hear_controller(&r2ts);
    pair.target.respond(slot, aborted());
    assert!(!pair.target.controller.wants_transmit(), "the host owes what it was asked for");
    assert!(pair.target.controller.awaits_data(slot));
    pair.host.receive(&r2ts);
    pair.run();
    assert_eq!(pair.host.take(cid).unwrap().cqe.status(), Status::ABORT_REQUESTED);
    assert_eq!(pair.inspector.controller_sent(9).len(), 2, "nothing more is asked for");
    assert_eq!(pair.target.dropped, 16_000);
    pair.assert_idle();
    // The identifier and the slot serve the next command.
    pair.target.behaviour.answers = true;
    assert!(pair.operate(Op::Write { region: 0, length: 30_000 }).cqe.status().is_success());
    pair.assert_idle();
}

#[test]
fn a_read_aborted_with_its_data_half_sent_is_answered_behind_that() {
    let mut pair = pair();
    let cid = pair.host.submit_op(Op::Read { region: 0, length: 30_000 });
    pair.run();
    let slot = pair.target.controller.slot_of(cid).unwrap();
    pair.target.jobs.get_mut(&slot).unwrap().data = vec![0; 30_000];
    pair.target.controller.send_data(slot, 10_000, false).unwrap();
    assert_eq!(pair.target.controller.slot_of(cid), Some(slot));
    pair.target.respond(slot, aborted());
    pair.run();
    assert_eq!(pair.host.take(cid).unwrap().cqe.status(), Status::ABORT_REQUESTED);
    pair.assert_idle();
}

#[test]
fn a_command_whose_capsule_is_still_coming_awaits_data() {
    let mut end = ControllerEnd::ready(false);
    let write = capsule(7, 0x01, 512, &[1; 512]).bytes();
    end.give(&write[..100]).unwrap();
    let slot = end.controller.slot_of(7).unwrap();
    assert!(end.controller.awaits_data(slot));
    end.controller.respond(slot, aborted());
    assert!(end.sent().is_empty());
    end.give(&write[100..]).unwrap();
    assert!(!end.controller.awaits_data(slot));
    assert_eq!(end.sent().len(), 24);
    assert!(!end.controller.awaits_data(slot), "its slot is free");
}

#[test]
fn a_command_that_was_rejected_is_not_found() {
    let mut end = ControllerEnd::ready(false);
    end.give(&capsule(5, 0x5a, 16, &[]).bytes()).unwrap();
    let slot = end.slot();
    // The identifier is in use: the one that has it is meant.
    end.give(&capsule(5, 0x5a, 16, &[]).bytes()).unwrap();
    end.give(&capsule(6, 0x77, 16, &[]).bytes()).unwrap();
    assert_eq!(end.controller.slot_of(5), Some(slot));
    assert_eq!(end.controller.slot_of(6), None);
}

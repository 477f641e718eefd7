//! Answers that come before a command's data has.

use nvme_spec::{Cqe, Status};
use nvmf_proto::tcp::{ControllerConfig, ControllerEvent, DataLocation, Established};

use crate::host_app::Op;
use crate::link::Rng;
use crate::pair::{Pair, Setup};
use crate::raw::{ControllerEnd, capsule, data};

fn failure() -> Cqe {
    Cqe::new(0, Status::INTERNAL_ERROR)
}

/// A write of 20000 bytes for which two R2Ts of 8000 are on their way.
fn asked() -> (Pair, u16, u16) {
    let controller =
        ControllerConfig { r2t_length: 8_000, r2ts_per_command: 2, ..Default::default() };
    let mut pair = Pair::connected(Setup { controller, ..Setup::default() });
    pair.target.behaviour.answers = false;
    let cid = pair.host.submit_op(Op::Write { region: 0, length: 20_000 });
    pair.run();
    let slot = pair.target.only_slot();
    pair.target.controller.request_data(slot, 20_000).unwrap();
    (pair, cid, slot)
}

#[test]
fn an_error_while_r2ts_are_outstanding_waits_for_their_data() {
    let (mut pair, cid, slot) = asked();
    let r2ts = pair.target.transmit_all();
    pair.inspector.hear_controller(&r2ts);
    pair.target.respond(slot, failure());
    assert!(!pair.target.controller.wants_transmit(), "not yet");
    pair.host.receive(&r2ts);
    pair.run();
    assert_eq!(pair.host.take(cid).unwrap().cqe.status(), Status::INTERNAL_ERROR);
    assert_eq!(pair.inspector.controller_sent(9).len(), 2, "no third R2T");
    assert_eq!(pair.target.dropped, 16_000);
    pair.assert_idle();
}

#[test]
fn an_error_before_any_r2t_goes_out_at_once() {
    let (mut pair, cid, _) = asked();
    // The R2Ts are not sent yet, but they are promised: the answer stays behind them.
    let slot = pair.target.only_slot();
    pair.target.respond(slot, failure());
    pair.run();
    assert_eq!(pair.host.take(cid).unwrap().cqe.status(), Status::INTERNAL_ERROR);
    pair.assert_idle();

    let cid = pair.host.submit_op(Op::Write { region: 0, length: 20_000 });
    pair.run();
    let slot = pair.target.only_slot();
    pair.target.respond(slot, failure());
    assert!(pair.target.controller.wants_transmit());
    pair.run();
    assert_eq!(pair.host.take(cid).unwrap().cqe.status(), Status::INTERNAL_ERROR);
    pair.assert_idle();
}

#[test]
fn an_answered_command_is_not_answered_again() {
    let (mut pair, cid, slot) = asked();
    pair.target.respond(slot, failure());
    pair.target.controller.respond(slot, Cqe::new(0, Status::SUCCESS));
    assert!(pair.target.controller.request_data(slot, 1).is_err());
    pair.run();
    assert_eq!(pair.host.take(cid).unwrap().cqe.status(), Status::INTERNAL_ERROR);
    pair.assert_idle();
}

#[test]
fn in_capsule_data_of_an_answered_command_is_dropped() {
    let mut end = ControllerEnd::ready(false);
    let write = capsule(1, 0x01, 4096, &[0xa5; 4096]).bytes();
    end.give(&write[..1000]).unwrap();
    let slot = end.slot();
    end.controller.respond(slot, failure());
    end.give(&write[1000..]).unwrap();
    assert_eq!((end.taken, end.dropped), (1000 - 72, 4096 - (1000 - 72)));
    assert!(!end.events.iter().any(|e| matches!(e, ControllerEvent::Data { .. })));
    assert_eq!(end.sent().len(), 24);
}

#[test]
fn an_answer_given_while_the_capsule_is_coming_goes_out_behind_it() {
    let mut end = ControllerEnd::ready(false);
    let write = capsule(1, 0x01, 4096, &[0xa5; 4096]).bytes();
    end.give(&write[..80]).unwrap();
    let slot = end.slot();
    end.controller.respond(slot, failure());
    assert!(end.sent().is_empty(), "the host is still sending");
    end.give(&write[80..]).unwrap();
    assert_eq!(end.sent().len(), 24);
    assert_eq!(end.taken, 8);
    end.events.clear();
    let next = capsule(2, 0x01, 512, &[1; 512]).bytes();
    end.give(&next).unwrap();
    assert_eq!(end.slot(), slot, "the same slot");
    let [ControllerEvent::Command(command), ControllerEvent::Data { violation: None, .. }] =
        end.events[..]
    else {
        panic!("{:?}", end.events)
    };
    assert_eq!(command.data, DataLocation::InCapsule { length: 512 });
    assert_eq!(end.taken, 8 + 512);
}

#[test]
fn a_command_is_rejected_once_its_capsule_has_come() {
    let mut end = ControllerEnd::ready(false);
    let bad = capsule(1, 0x5a, 64, &[0; 64]).bytes();
    end.give(&bad[..100]).unwrap();
    assert!(matches!(end.events[..], [ControllerEvent::Rejected { .. }]));
    assert!(end.sent().is_empty(), "the host is still sending");
    end.give(&bad[100..]).unwrap();
    assert_eq!(end.sent().len(), 24);
}

#[test]
fn a_rejected_commands_data_is_dropped_and_the_next_command_is_fine() {
    let mut end = ControllerEnd::ready(false);
    let bad = capsule(1, 0x5a, 64, &[0; 64]).bytes();
    let good = capsule(2, 0x01, 64, &[0; 64]).bytes();
    end.give(&[bad, good].concat()).unwrap();
    assert_eq!((end.dropped, end.taken), (64, 64));
    assert!(matches!(
        end.events[..],
        [
            ControllerEvent::Rejected { .. },
            ControllerEvent::Command(_),
            ControllerEvent::Data { violation: None, .. }
        ]
    ));
}

#[test]
fn a_host_stops_sending_the_data_of_a_command_that_failed() {
    use crate::raw::{HostEnd, response};
    use nvmf_proto::tcp::Transfer;
    let mut end = HostEnd::ready(false).with(Transfer::ToController { length: 20_000 });
    end.give(&data(9, 0, 7, 0, 20_000, &[]).bytes()).unwrap();
    assert!(end.host.wants_transmit());
    end.give(&response(0, 1, Status::INTERNAL_ERROR).bytes()).unwrap();
    assert!(!end.host.wants_transmit());
    assert_eq!(end.completions.len(), 1);
    assert_eq!(end.host.queue().outstanding(), 0);
}

#[test]
fn an_answer_to_a_command_whose_capsule_is_not_sent_is_a_violation() {
    use crate::raw::{HostEnd, response};
    use nvmf_proto::Violation;
    use nvmf_proto::tcp::Transfer;
    let mut end = HostEnd::ready(false);
    end.host.submit(nvme_spec::Sqe::new(1), Transfer::None).unwrap();
    let answer = response(0, 0, Status::SUCCESS).bytes();
    let violation = Violation::UnknownCommand { kind: 5, cid: 0 };
    assert_eq!(end.give(&answer), Err(violation));
}

#[test]
fn a_command_that_waits_for_a_transfer_tag_is_not_forgotten_behind_answered_ones() {
    let mut end = ControllerEnd::fresh();
    end.give(&crate::raw::ic_req().bytes()).unwrap();
    end.give(&capsule(0, 0x5a, 0, &[]).bytes()).unwrap();
    let size = nvmf_proto::queue::QueueSize::MAX_IO;
    let established = Established { size, flow_control: false, in_capsule: 0 };
    let slot = end.slot();
    end.controller.accept(slot, crate::pair::success(), established);
    end.sent();
    // Two R2Ts each for half of all tags, and three commands more.
    let slots: Vec<u16> = (0..32_771)
        .map(|cid| {
            end.events.clear();
            end.give(&capsule(cid, 0x5a, 16384, &[]).bytes()).unwrap();
            end.controller.request_data(end.slot(), 16384).unwrap();
            end.slot()
        })
        .collect();
    assert_eq!(end.sent().len(), 65536 * 24);
    for slot in &slots[32_769..] {
        end.controller.respond(*slot, failure());
    }
    assert_eq!(end.sent().len(), 2 * 24);
    end.give(&data(6, 0, 0, 0, 4096, &[0; 4096]).bytes()).unwrap();
    end.give(&data(6, 0, 0, 4096, 4096, &[0; 4096]).flags(4).bytes()).unwrap();
    let r2t = end.sent();
    assert_eq!(r2t.len(), 24);
    assert_eq!(r2t[8..12], [0, 0x80, 0, 0], "command 32768 gets tag 0");
}

#[test]
fn whatever_is_answered_early_the_queue_goes_on() {
    let setup = Setup { seed: 99, ..Setup::default() };
    let mut pair = Pair::connected(setup);
    pair.target.behaviour.failing = 100;
    for length in [1, 8192, 8193, 200_000] {
        for op in [Op::Write { region: 0, length }, Op::Read { region: 0, length }] {
            assert_eq!(pair.operate(op).cqe.status(), Status::INTERNAL_ERROR);
        }
    }
    pair.rng = Rng::new(3);
    pair.target.behaviour.failing = 0;
    assert!(pair.operate(Op::Write { region: 0, length: 50_000 }).cqe.status().is_success());
    pair.assert_idle();
}

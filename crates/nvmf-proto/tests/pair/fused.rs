//! Fused commands: both halves come to the application, in order; what they mean is its affair.

use nvme_spec::{Status, opcode};
use nvmf_proto::tcp::ControllerEvent;

use crate::pair::success;
use crate::raw::{ControllerEnd, Raw, capsule};

fn half(cid: u16, opcode: u8, fuse: u8) -> Raw {
    let mut raw = capsule(cid, 0x5a, 0, &[]);
    (raw.rest[0], raw.rest[1]) = (opcode, 0x40 | fuse);
    raw
}

/// FUSE of the commands that came, and `None` for those rejected.
fn fuses(end: &ControllerEnd) -> Vec<Option<u8>> {
    let fuse = |event: &ControllerEvent| match event {
        ControllerEvent::Command(command) => Some(command.sqe.fuse()),
        ControllerEvent::Rejected { .. } => None,
        other => panic!("{other:?}"),
    };
    end.events.iter().map(fuse).collect()
}

#[test]
fn both_halves_come_in_the_order_in_which_they_were_sent() {
    let mut end = ControllerEnd::ready(false);
    let pair = [half(1, opcode::nvm::COMPARE, 1), half(2, opcode::nvm::WRITE, 2)];
    end.give(&pair.map(|raw| raw.bytes()).concat()).unwrap();
    assert_eq!(fuses(&end), [Some(1), Some(2)]);
    // Cut anywhere, by the longer way, it is the same.
    let mut end = ControllerEnd::ready(true);
    let pair = [half(1, opcode::nvm::COMPARE, 1), half(2, opcode::nvm::WRITE, 2)];
    for byte in pair.map(|raw| raw.digested()).concat() {
        end.give(&[byte]).unwrap();
    }
    assert_eq!(fuses(&end), [Some(1), Some(2)]);
}

#[test]
fn each_half_fills_an_entry_and_has_an_answer_of_its_own() {
    let mut end = ControllerEnd::ready(false);
    for round in 0..3u8 {
        end.events.clear();
        end.give(&half(1, opcode::nvm::COMPARE, 1).bytes()).unwrap();
        let first = end.slot();
        end.give(&half(2, opcode::nvm::WRITE, 2).bytes()).unwrap();
        let second = end.slot();
        assert_eq!(end.controller.queue().outstanding(), 2);
        end.controller.respond(first, success());
        end.controller.respond(second, success());
        let sent = end.sent();
        // Four entries: the head counts both.
        let heads = [sent[16], sent[24 + 16]];
        assert_eq!(heads, [(2 * round + 1) % 4, (2 * round + 2) % 4]);
    }
    assert_eq!(end.controller.queue().outstanding(), 0);
}

#[test]
fn the_reserved_value_is_an_invalid_field() {
    let mut end = ControllerEnd::ready(false);
    end.give(&half(1, opcode::nvm::COMPARE, 3).bytes()).unwrap();
    assert_eq!(fuses(&end), [None]);
    let answer = end.sent();
    assert_eq!(answer.len(), 24);
    let status = u16::from_le_bytes([answer[22], answer[23]]);
    assert!(Status::from_wire(status).same_code(Status::INVALID_FIELD));
    assert_eq!(end.controller.queue().outstanding(), 0);
}

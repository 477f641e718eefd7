//! Header and data digests.

use nvme_spec::Status;
use nvmf_proto::Violation;
use nvmf_proto::tcp::{ControllerConfig, HostConfig, Transfer};

use crate::host_app::{Op, region_data};
use crate::link::Fault;
use crate::pair::{Pair, Setup};
use crate::raw::{HostEnd, data, response};

fn with_digests(header_digest: bool, data_digest: bool) -> Setup {
    let host = HostConfig { header_digest, data_digest, ..Default::default() };
    let controller =
        ControllerConfig { maxh2cdata: 4096, c2h_data_length: 4096, ..Default::default() };
    Setup { host, controller, ..Setup::default() }
}

#[test]
fn each_combination_of_digests_carries_data_both_ways() {
    for (header, data) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut pair = Pair::connected(with_digests(header, data));
        for length in [1, 8192, 8193, 50_001] {
            assert!(pair.operate(Op::Write { region: 1, length }).cqe.status().is_success());
            let read = pair.operate(Op::Read { region: 1, length });
            assert_eq!(read.data, region_data(!1, length));
        }
        pair.assert_idle();
    }
}

/// Flips the last byte of what the host sends from here on.
fn flip_last_byte_to_controller(pair: &mut Pair, bytes: &[u8]) {
    let at = pair.to_controller.sent + bytes.len() - 1;
    pair.to_controller.fault = Some(Fault::Flip(at, 0x10));
    pair.inspector.hear_host(bytes);
    pair.to_controller.send(pair.now, bytes, &mut pair.rng);
}

#[test]
fn a_wrong_digest_of_in_capsule_data_fails_the_command_and_keeps_the_queue() {
    let mut pair = Pair::connected(with_digests(true, true));
    let cid = pair.host.submit_op(Op::Write { region: 5, length: 4096 });
    let bytes = pair.host.transmit_all();
    flip_last_byte_to_controller(&mut pair, &bytes);
    pair.run();
    let done = pair.host.take(cid).unwrap();
    assert_eq!(done.cqe.status(), Status::TRANSIENT_TRANSPORT_ERROR);
    assert_eq!(done.violation, None, "the controller said so itself");
    assert!(!pair.target.memory.contains_key(&5));
    assert!(pair.operate(Op::Write { region: 5, length: 4096 }).cqe.status().is_success());
    pair.assert_idle();
}

#[test]
fn a_wrong_digest_of_h2cdata_fails_the_command_once_all_r2ts_are_done() {
    let mut setup = with_digests(true, true);
    setup.controller.r2t_length = 8192;
    let mut pair = Pair::connected(setup);
    pair.target.behaviour.answers = false;
    let cid = pair.host.submit_op(Op::Write { region: 5, length: 65_536 });
    pair.run();
    let slot = pair.target.only_slot();
    pair.target.controller.request_data(slot, 65_536).unwrap();
    let r2ts = pair.target.transmit_all();
    pair.inspector.hear_controller(&r2ts);
    pair.host.receive(&r2ts);
    let bytes = pair.host.transmit_all();
    flip_last_byte_to_controller(&mut pair, &bytes);
    pair.run();
    assert_eq!(pair.target.jobs[&slot].violation, Some(Violation::DataDigest { cid }));
    // The fourth piece was wrong, the three before it had brought three more R2Ts: the eighth
    // piece stays with the host.
    assert_eq!(pair.inspector.controller_sent(9).len(), 7);
    pair.target.respond(slot, crate::pair::success());
    pair.run();
    let done = pair.host.take(cid).unwrap();
    assert_eq!(done.cqe.status(), Status::TRANSIENT_TRANSPORT_ERROR);
    pair.target.behaviour.answers = true;
    assert!(pair.operate(Op::Write { region: 5, length: 65_536 }).cqe.status().is_success());
    pair.assert_idle();
}

#[test]
fn a_wrong_digest_of_c2hdata_fails_the_command_and_keeps_the_queue() {
    let mut end = HostEnd::ready(true).with(Transfer::ToHost { length: 128 });
    let mut wrong = data(7, 0, 0, 0, 64, &[1; 64]).digested();
    wrong[30] ^= 1;
    end.give(&wrong).unwrap();
    end.give(&data(7, 0, 0, 64, 64, &[2; 64]).flags(4).digested()).unwrap();
    assert!(end.completions.is_empty(), "the response is still to come");
    end.give(&response(0, 1, Status::SUCCESS).digested()).unwrap();
    let completion = end.completions[0];
    assert_eq!(completion.cqe.status(), Status::TRANSIENT_TRANSPORT_ERROR);
    assert_eq!(completion.violation, Some(Violation::DataDigest { cid: 0 }));
    // The identifier is free and the connection goes on.
    let mut end = end.with(Transfer::None);
    end.give(&response(1, 2, Status::SUCCESS).digested()).unwrap();
    assert!(end.completions[1].cqe.status().is_success());
}

#[test]
fn a_success_flag_on_data_with_a_wrong_digest_is_no_success() {
    let mut end = HostEnd::ready_with(true, 0xffff).with(Transfer::ToHost { length: 64 });
    let mut wrong = data(7, 0, 0, 0, 64, &[1; 64]).flags(4 | 8).digested();
    *wrong.last_mut().unwrap() ^= 1;
    end.give(&wrong).unwrap();
    let completion = end.completions[0];
    assert_eq!(completion.cqe.status(), Status::TRANSIENT_TRANSPORT_ERROR);
    assert_eq!(completion.violation, Some(Violation::DataDigest { cid: 0 }));
}

#[test]
fn a_failure_that_the_controller_reports_outweighs_nothing_but_success() {
    let mut end = HostEnd::ready(true).with(Transfer::ToHost { length: 64 });
    let mut wrong = data(7, 0, 0, 0, 64, &[1; 64]).flags(4).digested();
    *wrong.last_mut().unwrap() ^= 1;
    end.give(&wrong).unwrap();
    end.give(&response(0, 1, Status::INTERNAL_ERROR).digested()).unwrap();
    let completion = end.completions[0];
    assert!(!completion.cqe.status().is_success());
    assert_eq!(completion.violation, Some(Violation::DataDigest { cid: 0 }));
}

#[test]
fn padding_is_in_no_digest() {
    let mut setup = with_digests(true, true);
    setup.controller.cpda = 31;
    let mut pair = Pair::connected(setup);
    let cid = pair.host.submit_op(Op::Write { region: 5, length: 100 });
    let mut bytes = pair.host.transmit_all();
    assert_eq!(bytes[3], 128, "PDO");
    bytes[76..128].fill(0xee);
    pair.target.receive(&bytes, &mut pair.rng);
    // The watcher would object to padding that is not 0, and so gets the PDU as it was meant.
    bytes[76..128].fill(0);
    pair.inspector.hear_host(&bytes);
    pair.run();
    assert!(pair.host.take(cid).unwrap().cqe.status().is_success());
}

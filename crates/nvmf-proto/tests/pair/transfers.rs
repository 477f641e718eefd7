//! Data in capsules, by R2T and by C2HData.

use nvme_spec::{Sqe, Status};
use nvmf_proto::queue::QueueSize;
use nvmf_proto::tcp::{ControllerConfig, DataLocation, HostConfig, Transfer, TransferError};

use crate::host_app::{Op, region_data};
use crate::pair::{Pair, Setup, success};
use crate::raw::{ControllerEnd, HostEnd, capsule, data, ic_resp, response};

/// A pair whose target leaves the answers to the test.
fn by_hand(setup: Setup) -> Pair {
    let mut pair = Pair::connected(setup);
    pair.target.behaviour.answers = false;
    pair.inspector.host_pdus.clear();
    pair.inspector.controller_pdus.truncate(1);
    pair
}

fn write(pair: &mut Pair, length: u32) -> (u16, u16) {
    let cid = pair.host.submit_op(Op::Write { region: 0, length });
    pair.run();
    (cid, pair.target.only_slot())
}

fn read(pair: &mut Pair, length: u32) -> (u16, u16) {
    let cid = pair.host.submit_op(Op::Read { region: 0, length });
    pair.run();
    (cid, pair.target.only_slot())
}

#[test]
fn a_write_of_the_in_capsule_limit_goes_into_the_capsule() {
    let mut pair = by_hand(Setup::default());
    let (_, slot) = write(&mut pair, 8192);
    assert_eq!(pair.target.jobs[&slot].at, DataLocation::InCapsule { length: 8192 });
    assert!(pair.target.jobs[&slot].complete);
    assert_eq!(pair.target.jobs[&slot].data, region_data(!0, 8192));
    assert!(pair.inspector.host_sent(6).is_empty());
}

#[test]
fn a_write_of_one_byte_more_waits_for_an_r2t() {
    let mut pair = by_hand(Setup::default());
    let (_, slot) = write(&mut pair, 8193);
    assert_eq!(pair.target.jobs[&slot].at, DataLocation::Transport { length: 8193 });
    assert!(pair.inspector.host_sent(6).is_empty());
    pair.target.controller.request_data(slot, 8193).unwrap();
    pair.run();
    assert_eq!(pair.target.jobs[&slot].data, region_data(!0, 8193));
}

#[test]
fn without_in_capsule_data_one_byte_is_asked_for_by_r2t() {
    let host = HostConfig { in_capsule: 0, ..Default::default() };
    let mut pair = Pair::connected(Setup { host, ..Setup::default() });
    assert!(pair.operate(Op::Write { region: 0, length: 1 }).cqe.status().is_success());
    // Connect's data came so, too.
    assert_eq!(pair.inspector.controller_sent(9).len(), 2);
    pair.assert_idle();
}

#[test]
fn an_r2t_is_answered_in_pieces_of_maxh2cdata_with_last_on_the_last() {
    let controller = ControllerConfig { maxh2cdata: 4096, ..Default::default() };
    let mut pair = by_hand(Setup { controller, ..Setup::default() });
    let (_, slot) = write(&mut pair, 10_000);
    pair.target.controller.request_data(slot, 10_000).unwrap();
    pair.run();
    let pieces: Vec<(u32, u32, u8)> = pair
        .inspector
        .host_sent(6)
        .iter()
        .map(|seen| (seen.u32(12), seen.u32(16), seen.flags))
        .collect();
    assert_eq!(pieces, [(0, 4096, 0), (4096, 4096, 0), (8192, 1808, 4)]);
}

#[test]
fn as_many_r2ts_are_outstanding_as_both_ends_take() {
    for (host, controller, expected) in [(1, 4, 1), (4, 1, 1), (3, 4, 3), (9, 4, 4)] {
        let mut pair = by_hand(Setup {
            host: HostConfig { r2ts_per_command: host, ..Default::default() },
            controller: ControllerConfig {
                r2ts_per_command: controller,
                r2t_length: 10_000,
                ..Default::default()
            },
            ..Setup::default()
        });
        let (_, slot) = write(&mut pair, 100_000);
        pair.target.controller.request_data(slot, 100_000).unwrap();
        let sent = pair.target.transmit_all();
        assert_eq!(sent.len(), 24 * expected, "R2Ts at once");
        pair.inspector.hear_controller(&sent);
        pair.host.receive(&sent);
        pair.run();
        assert_eq!(pair.target.jobs[&slot].data, region_data(!0, 100_000));
        assert_eq!(pair.inspector.controller_sent(9).len(), 10);
    }
}

#[test]
fn data_may_be_asked_for_again_before_the_first_has_come() {
    let mut pair = by_hand(Setup::default());
    let (_, slot) = write(&mut pair, 30_000);
    for length in [1, 9_999, 20_000] {
        pair.target.controller.request_data(slot, length).unwrap();
    }
    pair.run();
    assert!(pair.target.jobs[&slot].complete);
    assert_eq!(pair.target.jobs[&slot].data, region_data(!0, 30_000));
    let asked: Vec<(u32, u32)> =
        pair.inspector.controller_sent(9).iter().map(|r| (r.u32(12), r.u32(16))).collect();
    assert_eq!(asked, [(0, 1), (1, 9_999), (10_000, 20_000)]);
}

#[test]
fn more_than_the_command_has_can_be_neither_asked_for_nor_sent() {
    let mut pair = by_hand(Setup::default());
    let (_, slot) = write(&mut pair, 9_000);
    let controller = &mut pair.target.controller;
    controller.request_data(slot, 8_999).unwrap();
    let error = TransferError { offset: 8_999, length: 2, total: 1 };
    assert_eq!(controller.request_data(slot, 2), Err(error));
    assert!(controller.request_data(slot, 0).is_err());
    assert!(controller.request_data(slot, u32::MAX).is_err());
    assert!(controller.request_data(99, 1).is_err(), "no such slot");
    let mut pair = by_hand(Setup::default());
    let (_, slot) = read(&mut pair, 9_000);
    let controller = &mut pair.target.controller;
    assert!(controller.send_data(slot, 9_001, false).is_err());
    assert!(controller.send_data(slot, 8_999, true).is_err(), "not all, and yet the end");
    controller.send_data(slot, 9_000, true).unwrap();
    assert!(controller.send_data(slot, 1, false).is_err(), "answered");
}

#[test]
fn data_for_the_host_is_split_with_last_on_the_last_byte_only() {
    let controller = ControllerConfig { c2h_data_length: 4000, ..Default::default() };
    let mut pair = by_hand(Setup { controller, ..Setup::default() });
    let (cid, slot) = read(&mut pair, 10_000);
    pair.target.controller.send_data(slot, 9_000, false).unwrap();
    pair.run();
    assert!(pair.host.take(cid).is_none());
    pair.target.controller.send_data(slot, 1_000, false).unwrap();
    pair.target.respond(slot, success());
    pair.run();
    assert_eq!(pair.host.take(cid).unwrap().data, region_data(0, 10_000));
    let pieces: Vec<(u32, u32, u8)> = pair
        .inspector
        .controller_sent(7)
        .iter()
        .map(|seen| (seen.u32(12), seen.u32(16), seen.flags))
        .collect();
    let expected = [(0, 4000, 0), (4000, 4000, 0), (8000, 1000, 0), (9000, 1000, 4)];
    assert_eq!(pieces, expected);
    pair.assert_idle();
}

#[test]
fn without_flow_control_the_last_data_carries_success_and_no_response_follows() {
    let controller = ControllerConfig { c2h_data_length: 4000, ..Default::default() };
    let mut pair = by_hand(Setup { controller, flow_control: false, ..Setup::default() });
    let (cid, slot) = read(&mut pair, 6_000);
    pair.target.finish(slot, 6_000);
    // The target has no more to say about it.
    let sent = pair.target.transmit_all();
    pair.inspector.hear_controller(&sent);
    pair.host.receive(&sent);
    let flags: Vec<u8> = pair.inspector.controller_sent(7).iter().map(|s| s.flags).collect();
    assert_eq!(flags, [0, 4 | 8]);
    assert!(pair.inspector.controller_sent(5).is_empty());
    assert!(pair.host.take(cid).unwrap().cqe.status().is_success());
}

#[test]
fn with_flow_control_a_response_follows_the_last_data() {
    let mut pair = Pair::connected(Setup::default());
    let done = pair.operate(Op::Read { region: 3, length: 6_000 });
    assert!(done.cqe.status().is_success());
    assert!(pair.inspector.controller_sent(7).iter().all(|seen| seen.flags & 8 == 0));
    assert_eq!(pair.inspector.controller_sent(5).len(), 2, "Connect's and the read's");
}

#[test]
fn a_failed_read_may_end_in_the_middle_of_its_data() {
    let mut pair = by_hand(Setup::default());
    let (cid, slot) = read(&mut pair, 10_000);
    pair.target.controller.send_data(slot, 4_000, false).unwrap();
    pair.target.respond(slot, nvme_spec::Cqe::new(0, Status::UNRECOVERED_READ_ERROR));
    pair.run();
    assert_eq!(pair.host.take(cid).unwrap().cqe.status(), Status::UNRECOVERED_READ_ERROR);
    pair.assert_idle();
}

#[test]
fn a_command_of_no_data_has_a_transport_descriptor_of_length_0() {
    let mut pair = Pair::connected(Setup::default());
    pair.operate(Op::Flush);
    let capsule = pair.inspector.host_sent(4)[1].clone();
    assert_eq!((capsule.plen, capsule.header[8 + 39], capsule.u32(8 + 32)), (72, 0x5a, 0));
}

#[test]
fn a_transfer_larger_than_every_limit_arrives_whole() {
    let mut pair = Pair::connected(Setup {
        controller: ControllerConfig {
            maxh2cdata: 4096,
            r2t_length: 100_000,
            c2h_data_length: 60_000,
            ..Default::default()
        },
        segments: (7_000, 1_460),
        delay_us: 300,
        ..Setup::default()
    });
    let length = 3 << 20;
    assert!(pair.operate(Op::Write { region: 1, length }).cqe.status().is_success());
    let read = pair.operate(Op::Read { region: 1, length });
    assert!(read.data == region_data(!1, length));
    pair.assert_idle();
}

#[test]
fn a_stream_cut_into_single_bytes_means_the_same() {
    let mut pair = Pair::connected(Setup {
        host: HostConfig { header_digest: true, data_digest: true, ..Default::default() },
        segments: (1, 1),
        ..Setup::default()
    });
    assert!(pair.operate(Op::Write { region: 1, length: 9_000 }).cqe.status().is_success());
    let read = pair.operate(Op::Read { region: 1, length: 9_000 });
    assert_eq!(read.data, region_data(!1, 9_000));
    pair.assert_idle();
}

#[test]
fn a_transfer_tag_is_taken_until_its_last_byte_has_come() {
    let mut end = ControllerEnd::ready(false);
    let slot_of = |end: &mut ControllerEnd, cid| {
        end.give(&capsule(cid, 0x5a, 4096, &[]).bytes()).unwrap();
        end.slot()
    };
    let (first, second) = (slot_of(&mut end, 5), slot_of(&mut end, 6));
    let tag = |sent: &[u8]| u16::from_le_bytes([sent[10], sent[11]]);
    end.controller.request_data(first, 4096).unwrap();
    assert_eq!(tag(&end.sent()), 0);
    let last = data(6, 5, 0, 0, 4096, &[7; 4096]).flags(4).bytes();
    end.give(&last[..1000]).unwrap();
    end.controller.request_data(second, 2048).unwrap();
    assert_eq!(tag(&end.sent()), 1, "the tag of a transfer that is still under way");
    end.give(&last[1000..]).unwrap();
    end.controller.request_data(second, 2048).unwrap();
    assert_eq!(tag(&end.sent()), 0);
}

#[test]
fn the_success_flag_ends_flow_control_that_was_asked_to_end() {
    // As SPDK does it: asked to switch flow control off, it answers Connect with SQHD 1 and then
    // uses the flag all the same.
    let mut end = HostEnd::fresh(false);
    end.give(&ic_resp().bytes()).unwrap();
    let connect = end.host.submit(Sqe::new(0x7f), Transfer::None).unwrap();
    end.sent();
    end.give(&response(connect, 1, Status::SUCCESS).bytes()).unwrap();
    end.host.establish(QueueSize::new(4).unwrap(), 1, true);
    for _ in 0..10 {
        let cid = end.host.submit(Sqe::new(2), Transfer::ToHost { length: 64 }).unwrap();
        end.sent();
        let pdu = data(7, cid, 0, 0, 64, &[1; 64]).flags(4 | 8);
        end.give(&pdu.bytes()).unwrap();
        assert_eq!(end.completions.pop().unwrap().cid, cid);
    }
    assert!(!end.host.queue().flow_control());
}

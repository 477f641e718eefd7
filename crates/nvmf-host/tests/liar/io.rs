//! Lies about reads and writes.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nvmf::spec::Status;
use nvmf::spec::identify::cns;
use nvmf::spec::pdu::{flags, kind};
use nvmf_host::{IoError, IoOptions};

use crate::liar::{
    Liar, Lie, Seen, Then, completion, data, instead, lie, response, shortened, silence, status,
    term_req,
};
use crate::target::wait_until;
use crate::trial::{
    self, by, failing, harmless, moving, read, reading, with_data_digests, with_flow_control,
    with_header_digests, writing,
};

/// The data of a read.
fn read_data(seen: &Seen) -> bool {
    seen.kind == kind::C2H_DATA && seen.read()
}

/// Changes a number in the header of a read's data.
fn in_header(at: usize, change: fn(u32) -> u32) -> Lie {
    instead(read_data, move |_, mut pdu| {
        let number: [u8; 4] = std::array::from_fn(|i| pdu[at + i]);
        pdu[at..at + 4].copy_from_slice(&change(u32::from_le_bytes(number)).to_le_bytes());
        pdu
    })
}

#[test]
fn an_answer_to_another_command_is_none() {
    let other = instead(read_data, |_, mut pdu| {
        pdu[8..10].copy_from_slice(&99u16.to_le_bytes());
        pdu
    });
    reading("C2HData for command 99, which is not outstanding", other);
    let other = instead(Seen::read, |_, _| response(99, Status::SUCCESS));
    reading("CapsuleResp for command 99, which is not outstanding", other);
}

#[test]
fn a_command_that_is_completed_twice_is_noticed() {
    let twice =
        instead(read_data, |seen, pdu| [pdu, response(seen.cid(), Status::SUCCESS)].concat());
    // The first answer is right and counts: the path ends by the second.
    let target = trial::target();
    let liar = Liar::start(target.addresses[0], twice);
    let disk = by(&[liar.address, target.addresses[1]]).connect().unwrap();
    let events = disk.events();
    wait_until("both paths", || trial::live(&disk) == 2);
    trial::works(&disk);
    trial::told(&events, liar.address, "which is not outstanding");
}

#[test]
fn success_without_the_data_is_none() {
    let none = instead(Seen::read, |seen, _| response(seen.cid(), Status::SUCCESS));
    reading("succeeded with 0 of 8192 bytes moved", none);
    let short = instead(read_data, |_, pdu| shortened(pdu, 512));
    reading("the last-PDU flag of command", short);
    let then_success = instead(read_data, |seen, pdu| {
        let mut short = shortened(pdu, 512);
        short[1] = 0;
        [short, response(seen.cid(), Status::SUCCESS)].concat()
    });
    reading("succeeded with 7680 of 8192 bytes moved", then_success);
}

#[test]
fn a_write_is_not_done_before_its_data_was_sent() {
    let at_once = instead(
        |seen| seen.write() && seen.kind == kind::R2T,
        |seen, _| response(seen.cid(), Status::SUCCESS),
    );
    writing("succeeded with 0 of 131072 bytes moved", at_once);
}

#[test]
fn data_outside_of_the_buffer_is_refused() {
    reading("is out of range: 8192 bytes at 4096", in_header(12, |_| 4096));
    reading("is out of range: 8192 bytes at 4294967295", in_header(12, |_| u32::MAX));
}

#[test]
fn data_out_of_order_is_refused() {
    // The whole of it is cut in two, and the second half said to begin where the first does.
    let twice = instead(read_data, |_, pdu| {
        let mut first = shortened(pdu, 4096);
        first[1] = 0;
        [first.clone(), first].concat()
    });
    reading("at offset 0, not 4096", twice);
}

#[test]
fn data_of_another_length_than_its_header_says_is_refused() {
    reading("data length 8188 for 8192 bytes", in_header(16, |length| length - 4));
}

#[test]
fn a_pdu_of_four_gigabytes_is_refused_before_room_is_made_for_it() {
    reading("data length 8192 for 4294967268 bytes", in_header(4, |_| u32::MAX - 3));
    let response = instead(Seen::read, |seen, _| {
        let mut pdu = response(seen.cid(), Status::SUCCESS);
        pdu[4..8].fill(0xff);
        pdu
    });
    reading("CapsuleResp of 4294967295 bytes", response);
}

#[test]
fn bytes_that_are_no_pdu_are_refused() {
    reading("PDU type 0xff", instead(Seen::read, |_, _| vec![0xff; 4096]));
}

/// Changes what an R2T asks for.
fn r2t(change: fn(Vec<u8>) -> Vec<u8>) -> Lie {
    instead(|seen| seen.kind == kind::R2T, move |_, pdu| change(pdu))
}

#[test]
fn an_r2t_beyond_the_buffer_is_refused() {
    let beyond = r2t(|mut pdu| {
        pdu[16..20].copy_from_slice(&(131_072u32 + 4).to_le_bytes());
        pdu
    });
    writing("is out of range: 131076 bytes at 0", beyond);
    let far = r2t(|mut pdu| {
        pdu[12..16].fill(0xff);
        pdu
    });
    writing("R2T of command", far);
}

#[test]
fn an_r2t_for_what_was_asked_for_before_is_refused() {
    writing("at offset 0, not ", r2t(|pdu| [pdu.clone(), pdu].concat()));
}

#[test]
fn an_r2t_for_nothing_is_refused() {
    let nothing = r2t(|mut pdu| {
        pdu[16..20].fill(0);
        pdu
    });
    writing("data length 0", nothing);
}

#[test]
fn an_r2t_for_a_read_is_refused() {
    let asks = instead(read_data, |seen, _| {
        let mut pdu = vec![0; 24];
        (pdu[0], pdu[2], pdu[4]) = (kind::R2T, 24, 24);
        pdu[8..10].copy_from_slice(&seen.cid().to_le_bytes());
        pdu[16] = 4;
        pdu
    });
    reading("which expects none", asks);
}

#[test]
fn data_with_a_wrong_digest_is_read_again_by_another_path() {
    let flipped = || {
        instead(read_data, |_, mut pdu| {
            *pdu.last_mut().unwrap() ^= 1;
            pdu
        })
    };
    let error = failing("the data came damaged each time", flipped(), with_data_digests);
    assert!(matches!(error, IoError::Damaged { .. }), "{error}");
}

#[test]
fn data_that_is_changed_under_its_digest_is_not_handed_on() {
    let changed = data(Seen::read, |page| page[5] ^= 0x10);
    failing("the data came damaged each time", changed, with_data_digests);
}

#[test]
fn a_header_with_a_wrong_digest_ends_the_path() {
    let flipped = instead(read_data, |_, mut pdu| {
        pdu[24] ^= 1;
        pdu
    });
    moving("header digest 0x", flipped, with_header_digests, read);
}

#[test]
fn a_queue_head_beyond_the_queue_is_refused() {
    let beyond = completion(Seen::read, |cqe| cqe[8..10].fill(0xfe));
    moving("submission queue head 65278 is beyond the queue", beyond, with_flow_control, read);
}

#[test]
fn a_success_flag_under_flow_control_is_refused() {
    let flag = instead(read_data, |_, mut pdu| {
        pdu[1] |= flags::SUCCESS;
        pdu
    });
    moving("success flag for command", flag, with_flow_control, read);
}

#[test]
fn an_ana_status_of_a_controller_without_ana_is_over_by_itself() {
    let reads = AtomicUsize::new(0);
    let without = lie(move |seen, mut pdu| {
        if seen.to_host && seen.kind == kind::C2H_DATA && seen.identify(cns::CONTROLLER) {
            // CMIC.
            pdu[24 + 76] &= !8;
        }
        if seen.to_host && seen.read() && reads.fetch_add(1, Ordering::SeqCst) < 2 {
            pdu = response(seen.cid(), Status::ANA_INACCESSIBLE);
        }
        Then::On(pdu)
    });
    harmless(without);
}

#[test]
fn a_controller_that_ends_the_connection_at_a_command_is_quoted() {
    reading("the peer ended the connection", instead(Seen::read, |_, _| term_req()));
}

#[test]
fn a_controller_that_hangs_up_at_every_command_is_left_for_an_honest_one() {
    let close =
        lie(|seen, pdu| if seen.to_host && seen.read() { Then::Close } else { Then::On(pdu) });
    reading("the peer closed the connection", close);
}

#[test]
fn a_command_that_is_never_answered_ends_its_path() {
    reading("no answer within the time given", silence(Seen::read));
}

#[test]
fn a_status_that_is_reserved_is_the_end_of_its_command() {
    let reserved = status(Seen::read, Status::new(1, 0x7f));
    moving_on("failed: ", reserved);
    let reserved = status(Seen::read, Status::new(5, 0xff));
    moving_on("failed: ", reserved);
}

/// A status that says nothing of the path is retried wherever its turn is.
#[track_caller]
fn moving_on(says: &str, lie: Lie) {
    let target = trial::target();
    let liar = Liar::start(target.addresses[0], lie);
    let disk = by(&[liar.address]).connect().unwrap();
    let error = disk.read_bytes_at(0, 8192).unwrap_err();
    assert!(matches!(error, IoError::Status { .. }), "{error}");
    assert!(error.to_string().contains(says), "{error}");
    disk.close();
    let disk = by(&[liar.address, target.addresses[1]]).connect().unwrap();
    wait_until("both paths", || trial::live(&disk) == 2);
    trial::works(&disk);
}

#[test]
fn a_status_of_the_path_is_another_paths_business() {
    let failing = |status_of| failing("not done in its time: ", status(Seen::read, status_of), by);
    let error = failing(Status::new(3, 0x7e));
    assert!(error.to_string().contains("sct 3h sc 7eh"), "{error}");
    let error = failing(Status::ANA_INACCESSIBLE);
    assert!(matches!(error, IoError::TimedOut { .. }), "{error}");
}

#[test]
fn a_pause_of_almost_two_hours_is_not_kept_beyond_the_deadline() {
    // CRDT1 of 65,535 tenths of a second, and a status that asks for it.
    let pause = lie(|seen, mut pdu| {
        if seen.to_host && seen.kind == kind::C2H_DATA && seen.identify(cns::CONTROLLER) {
            pdu[24 + 128..24 + 130].fill(0xff);
        }
        if seen.to_host && seen.read() {
            pdu = response(seen.cid(), Status::NAMESPACE_NOT_READY.with_crd(1));
        }
        Then::On(pdu)
    });
    let target = trial::target();
    let liar = Liar::start(target.addresses[0], pause);
    let disk = by(&[liar.address]).connect().unwrap();
    let start = Instant::now();
    let error = disk.read_bytes_at(0, 8192).unwrap_err();
    assert!(matches!(error, IoError::TimedOut { .. }), "{error}");
    assert!(error.to_string().contains("Namespace Not Ready"), "{error}");
    assert!(start.elapsed() < 4 * trial::STEP, "{:?}", start.elapsed());
}

#[test]
fn capsules_that_are_too_large_for_the_target_end_the_path_by_its_word() {
    // IOCCSZ without a limit: 1 MiB is the most that is believed, and more than this target takes.
    let huge = data(|seen| seen.identify(cns::CONTROLLER), |page| page[1792..1796].fill(0xff));
    writing("the peer ended the connection", huge);
}

#[test]
fn an_abort_that_is_never_answered_ends_the_path() {
    let silent = silence(|seen| seen.read() || seen.admin(nvmf::spec::opcode::admin::ABORT));
    let target = trial::target();
    let liar = Liar::start(target.addresses[0], silent);
    let disk = by(&[liar.address]).io_timeout(Duration::from_secs(60)).connect().unwrap();
    let events = disk.events();
    let start = Instant::now();
    let options = IoOptions::new().deadline(Duration::from_millis(300));
    let error = disk.read_bytes_with(0, 4096, options).unwrap_err();
    assert!(matches!(error, IoError::TimedOut { .. }), "{error}");
    assert!(start.elapsed() < 3 * trial::STEP, "{:?}", start.elapsed());
    trial::told(&events, liar.address, "a command that was given up is not aborted");
}

#[test]
fn a_namespace_of_the_largest_size_costs_no_memory_to_discard() {
    // 2⁵² blocks of 4 KiB: a command may have 65,536 of them.
    let vast = data(
        |seen| seen.identify(cns::NAMESPACE),
        |page| page[..8].copy_from_slice(&((1u64 << 52) - 1).to_le_bytes()),
    );
    let target = trial::target();
    let liar = Liar::start(target.addresses[0], vast);
    let disk = by(&[liar.address]).connect().unwrap();
    assert_eq!(disk.size(), u64::MAX - 4095);
    for error in [
        disk.discard(0, disk.size()).unwrap_err(),
        disk.write_zeroes(0, disk.size(), true).unwrap_err(),
    ] {
        assert!(matches!(error, IoError::Status { .. } | IoError::TimedOut { .. }), "{error}");
    }
    let error = disk.read_bytes_at(1 << 40, 4096).unwrap_err();
    assert!(error.to_string().contains("LBA Out of Range"), "{error}");
    trial::little_memory();
}

#[test]
fn writes_go_on_by_an_honest_path_too() {
    moving("PDU type 0xff", instead(Seen::write, |_, _| vec![0xff; 64]), by, |disk| {
        disk.write_at(&[7; 4096], 0)
    });
}

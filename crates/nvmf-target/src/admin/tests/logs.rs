//! Get Log Page.

use super::*;
use crate::statistics::Operation;

#[test]
fn failed_commands_of_all_queues_are_in_the_error_log() {
    let mut c = enabled();
    let mut sqe = identify(cns::NAMESPACE, 9999);
    sqe.cid.set(0x55);
    match run(&mut c, &sqe, 4096) {
        Outcome::Answer(cqe) => assert!(cqe.status().more(), "the log says more"),
        other => panic!("{other:?}"),
    }
    let mut io = Sqe::new(opcode::nvm::READ);
    io.set_slba(1 << 40);
    c.association().failed(2, &io, Status::LBA_OUT_OF_RANGE);
    let page = data(&mut c, &log(lid::ERROR, 0, 4096), 4096);
    let entries = <[ErrorLogEntry]>::ref_from_bytes(&page).unwrap();
    assert_eq!((entries[0].sqid.get(), entries[0].lba.get()), (2, 1 << 40));
    assert_eq!((entries[1].sqid.get(), entries[1].cmdid.get()), (0, 0x55));
    assert!(entries[1].status().same_code(Status::INVALID_NAMESPACE));
    assert_eq!((entries[1].nsid.get(), entries[2].error_count.get()), (9999, 0));
}

#[test]
fn smart_counts_what_hosts_did() {
    let mut c = enabled();
    let counters = c.association().subsystem().books().open(c.association().host());
    counters.done(1, Operation::Read, 512_000, Duration::ZERO);
    counters.done(1, Operation::Write, 512_001, Duration::ZERO);
    counters.media_error();
    refused(&mut c, &Sqe::new(0xff), 0, Status::INVALID_OPCODE);
    let page = data(&mut c, &log(lid::SMART, 0, 512), 512);
    let smart = SmartLog::ref_from_bytes(&page).unwrap();
    assert_eq!((smart.data_units_read.get(), smart.data_units_written.get()), (1, 2));
    assert_eq!((smart.host_read_commands.get(), smart.host_write_commands.get()), (1, 1));
    assert_eq!((smart.media_errors.get(), smart.num_err_log_entries.get()), (1, 1));
    assert_eq!((smart.power_on_hours.get(), smart.avail_spare), (0, 100));
}

#[test]
fn the_other_pages_are_there() {
    let mut c = enabled();
    let firmware = data(&mut c, &log(lid::FIRMWARE_SLOT, 0, 512), 512);
    assert_eq!(firmware[0], 1);
    assert!(firmware[8..16].starts_with(limits::FIRMWARE.as_bytes()));
    assert_eq!(data(&mut c, &log(lid::CHANGED_NAMESPACES, 0, 4096), 4096), [0; 4096]);
    let effects = data(&mut c, &log(lid::COMMAND_EFFECTS, 0, 4096), 4096);
    let effects = CommandEffects::ref_from_bytes(&effects).unwrap();
    assert_eq!(effects.iocs[usize::from(opcode::nvm::VERIFY)], 1);
    for lid in [0x06, 0x0d, 0x70, 0xff] {
        refused(&mut c, &log(lid, 0, 512), 512, Status::INVALID_LOG_PAGE);
    }
}

#[test]
fn any_part_of_a_page_can_be_read() {
    let mut c = enabled();
    let whole = data(&mut c, &log(lid::COMMAND_EFFECTS, 0, 4096), 4096);
    assert_eq!(data(&mut c, &log(lid::COMMAND_EFFECTS, 1048, 4), 4), whole[1048..1052]);
    let past = data(&mut c, &log(lid::COMMAND_EFFECTS, 4092, 8192), 8192);
    assert_eq!(past, [0; 8192]);
    refused(&mut c, &log(lid::COMMAND_EFFECTS, 2, 4), 4, Status::INVALID_FIELD);
    refused(&mut c, &log(lid::COMMAND_EFFECTS, 4100, 4), 4, Status::INVALID_FIELD);
    refused(&mut c, &log(lid::COMMAND_EFFECTS, u64::MAX - 3, 4), 4, Status::INVALID_FIELD);
}

#[test]
fn requests_that_do_not_fit_are_refused() {
    let mut c = enabled();
    refused(&mut c, &log(lid::SMART, 0, 512), 508, Status::DATA_SGL_LENGTH_INVALID);
    let huge = GetLogPage { lid: lid::SMART, numd: u32::MAX, ..Default::default() };
    refused(&mut c, &huge.to_sqe(), u32::MAX, Status::INVALID_FIELD);
    let past_mdts = 4 + u64::from(limits::MAX_TRANSFER);
    let length = limits::MAX_TRANSFER + 4;
    refused(&mut c, &log(lid::SMART, 0, past_mdts), length, Status::INVALID_FIELD);
    let mut of_one = GetLogPage::new(lid::SMART, 0, 512).unwrap();
    of_one.nsid = 1;
    refused(&mut c, &of_one.to_sqe(), 512, Status::INVALID_FIELD);
    let by_index = GetLogPage { nsid: 0, ot: true, ..of_one };
    refused(&mut c, &by_index.to_sqe(), 512, Status::INVALID_FIELD);
}

#[test]
fn a_uuid_index_means_nothing() {
    let mut c = enabled();
    for (sqe, length) in [
        (log(lid::FIRMWARE_SLOT, 0, 512), 512),
        (identify(cns::NAMESPACE, 1), 4096),
        (get_feature(fid::HOST_BEHAVIOR_SUPPORT, 0, 0), 512),
    ] {
        let mut indexed = sqe;
        indexed.set_cdw(14, sqe.cdw(14) | 0x7f);
        let plain = data(&mut c, &sqe, length);
        assert_eq!(data(&mut c, &indexed, length), plain, "{:#x}", sqe.opcode);
    }
    let mut set = set_feature(fid::ARBITRATION, 3);
    set.set_cdw(14, 0x7f);
    assert_eq!(run(&mut c, &set, 0), success());
}

#[test]
fn the_ana_log_has_the_groups_that_the_host_sees() {
    let subsystem = subsystem();
    let port = Arc::new(Port::none());
    let association = subsystem.connect_admin(&crate::testing::request(1), &port).unwrap();
    let mut c = enabled_for(association);
    let set = set_feature(fid::ASYNC_EVENT_CONFIG, 1 << 11);
    assert_eq!(dw0(&mut c, &set), 0);
    let read = |c: &mut Controller, lsp, length| {
        let get = GetLogPage { lsp, ..GetLogPage::new(lid::ANA, 0, length).unwrap() };
        data(c, &get.to_sqe(), u32::try_from(length).unwrap())
    };
    let page = read(&mut c, 0, 56);
    let one = [1u8, 0, 0, 0, 2, 0, 0, 0];
    assert_eq!((&page[8..10], &page[16..24], page[32]), (&[1, 0][..], &one[..], 1));
    assert_eq!(page[48..56], [1, 0, 0, 0, 3, 0, 0, 0], "its namespaces");
    let groups_only = read(&mut c, 1, 56);
    assert_eq!((groups_only[20], &groups_only[48..]), (0, &[0; 8][..]));

    port.set_ana(1, AnaState::Inaccessible);
    subsystem.refresh();
    assert_eq!(run(&mut c, &async_event_request(9), 0), Outcome::Hold);
    assert_eq!(c.next_event(), Some((9, Cqe::with_dw0(0, 0x0c_0302))));
    let page = read(&mut c, 0, 56);
    assert_eq!((page[0], page[24], page[32]), (1, 1, 3), "change counts and state");
}

#[test]
fn changed_namespaces_are_listed_until_the_host_has_read_them() {
    let mut c = enabled();
    assert_eq!(dw0(&mut c, &set_feature(fid::ASYNC_EVENT_CONFIG, 1 << 8)), 0);
    c.association().subsystem().detach(3).unwrap();
    assert_eq!(run(&mut c, &async_event_request(2), 0), Outcome::Hold);
    assert_eq!(c.next_event(), Some((2, Cqe::with_dw0(0, 0x04_0002))));
    let mut list = |rae| {
        let get = GetLogPage { rae, ..GetLogPage::new(lid::CHANGED_NAMESPACES, 0, 4096).unwrap() };
        data(&mut c, &get.to_sqe(), 4096)[..8].to_vec()
    };
    assert_eq!(list(true), [3, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(list(false), [3, 0, 0, 0, 0, 0, 0, 0], "retained");
    assert_eq!(list(false), [0; 8]);
}

#[test]
fn each_page_and_feature_that_there_is_is_listed() {
    let mut c = enabled();
    let page = data(&mut c, &log(lid::SUPPORTED, 0, 1024), 1024);
    let pages = SupportedLogPages::ref_from_bytes(&page).unwrap();
    for lid in 0..=0xff {
        let known = pages.supported().any(|page| page == lid);
        let read = run(&mut c, &log(lid, 0, 64), 64);
        assert_eq!(matches!(read, Outcome::Data(_)), known, "{lid:#x}");
    }
    let page = data(&mut c, &log(lid::FEATURE_EFFECTS, 0, 1024), 1024);
    let features = FeatureEffects::ref_from_bytes(&page).unwrap();
    for fid in 0..=0xff {
        let known = features.fids[usize::from(fid)] != 0;
        let told = run(&mut c, &get_feature(fid, 3, 0), 0);
        let told = matches!(told, Outcome::Answer(cqe) if cqe.status().is_success());
        assert_eq!(told, known, "{fid:#x}");
    }
    assert_eq!(features.fids[usize::from(fid::WRITE_PROTECTION)], 0x10_0005);
    assert_eq!(features.fids[usize::from(fid::TIMESTAMP)], 0x20_0001);
}

#[test]
fn command_effects_are_of_the_nvm_command_set() {
    let mut c = enabled();
    let get = GetLogPage::new(lid::COMMAND_EFFECTS, 0, 4096).unwrap();
    let zoned = GetLogPage { csi: 2, ..get };
    refused(&mut c, &zoned.to_sqe(), 4096, Status::INVALID_FIELD);
    // Where they mean nothing they are not looked at.
    let odd = GetLogPage { csi: 2, uuid_index: 1, lsp: 0x7f, lsi: 3, lid: lid::SMART, ..get };
    assert_eq!(data(&mut c, &odd.to_sqe(), 4096).len(), 4096);
}

#[test]
fn a_list_that_was_not_told_is_not_forgotten() {
    let mut c = enabled();
    c.association().subsystem().detach(3).unwrap();
    refused(&mut c, &log(lid::CHANGED_NAMESPACES, 4100, 4), 4, Status::INVALID_FIELD);
    refused(&mut c, &log(lid::CHANGED_NAMESPACES, 2, 4), 4, Status::INVALID_FIELD);
    assert_eq!(data(&mut c, &log(lid::CHANGED_NAMESPACES, 0, 4), 4), [3, 0, 0, 0]);
}

#[test]
fn writes_that_were_lost_are_an_event_and_a_critical_warning() {
    let mut c = enabled();
    assert_eq!(dw0(&mut c, &set_feature(fid::ASYNC_EVENT_CONFIG, 0x01)), 0);
    assert_eq!(run(&mut c, &async_event_request(5), 0), Outcome::Hold);
    let warning = |c: &mut Controller, rae| {
        let get = GetLogPage { rae, ..GetLogPage::new(lid::SMART, 0, 512).unwrap() };
        data(c, &get.to_sqe(), 512)[0]
    };
    let write = Sqe::new(opcode::nvm::WRITE);
    c.association().failed(1, &write, Status::WRITE_FAULT);
    assert_eq!((c.next_event(), warning(&mut c, true)), (None, 0), "it may go well again");
    c.association().failed(1, &write, Status::WRITE_FAULT.with_dnr(true));
    assert_eq!(c.next_event(), Some((5, Cqe::with_dw0(0, 0x02_0001))));
    assert_eq!(warning(&mut c, false), SmartLog::WARNING_RELIABILITY);
    c.association().failed(1, &write, Status::WRITE_FAULT.with_dnr(true));
    assert_eq!(run(&mut c, &async_event_request(6), 0), Outcome::Hold);
    assert_eq!(c.next_event(), None, "told once");
}

#[test]
fn each_notification_of_a_reservation_is_read_once_and_a_masked_one_never() {
    use nvme_spec::reservation::Notification;
    let mut c = enabled();
    let association = Arc::clone(c.association());
    association.notify(1, Notification::ReservationReleased);
    association.notify(3, Notification::RegistrationPreempted);
    association.notify(2, Notification::ReservationReleased);
    let event = Some((8, Cqe::with_dw0(0, 0x80_0006)));
    assert_eq!(run(&mut c, &async_event_request(8), 0), Outcome::Hold);
    assert_eq!(c.next_event(), event);
    let page = log(lid::RESERVATION_NOTIFICATION, 0, 64);
    refused(&mut c, &log(lid::RESERVATION_NOTIFICATION, 68, 4), 4, Status::INVALID_FIELD);
    let what = |page: Vec<u8>| (page[0], page[8], page[9], page[12]);
    assert_eq!(what(data(&mut c, &page, 64)), (1, 2, 1, 1));
    assert_eq!(run(&mut c, &async_event_request(8), 0), Outcome::Hold);
    assert_eq!(c.next_event(), event, "there is more");
    assert_eq!(what(data(&mut c, &page, 64)), (2, 1, 0, 3), "2 is no namespace of its host");
    assert_eq!(what(data(&mut c, &page, 64)), (0, 0, 0, 0));
    let mut mask = set_feature(fid::RESERVATION_MASK, 0b100);
    mask.nsid.set(1);
    assert_eq!(run(&mut c, &mask, 0), success());
    association.notify(1, Notification::ReservationReleased);
    assert_eq!(what(data(&mut c, &page, 64)), (0, 0, 0, 0));
}

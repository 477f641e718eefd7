use std::time::Duration;

use nvme_spec::fabrics::{Connect, Disconnect, PropertyGet, PropertySet};
use nvme_spec::feature::fid;
use nvme_spec::identify::{
    ActiveNamespaceList, ControllerList, Descriptors, IdentifyController, IdentifyControllerNvm,
    IdentifyNamespace, NSID_ALL, NamespaceId, cns, controller_type,
};
use nvme_spec::log::{CommandEffects, ErrorLogEntry, GetLogPage, SmartLog, lid};
use nvme_spec::property::{Cc, Csts, offset};
use zerocopy::FromBytes;

use super::*;
use crate::testing::{association, subsystem};

/// A controller that is not enabled.
fn disabled() -> Controller {
    Controller::io(association(&subsystem()), 0, Instant::now())
}

fn enabled() -> Controller {
    let mut controller = disabled();
    let outcome = set_cc(&mut controller, Cc::ENABLE);
    assert_eq!(outcome, success());
    controller
}

fn discovery(page: Vec<u8>) -> Controller {
    let subsystem = crate::subsystem::Subsystem::discovery();
    let mut controller = Controller::discovery(association(&subsystem), page, 0, Instant::now());
    assert_eq!(set_cc(&mut controller, Cc(1)), success());
    controller
}

fn set_cc(controller: &mut Controller, cc: Cc) -> Outcome {
    run(controller, &PropertySet::new(offset::CC, cc.0.into(), false).to_sqe(), 0)
}

fn csts(controller: &mut Controller) -> Csts {
    match run(controller, &PropertyGet::new(offset::CSTS, false).to_sqe(), 0) {
        Outcome::Answer(cqe) => Csts(cqe.dw0.get()),
        other => panic!("{other:?}"),
    }
}

fn run(controller: &mut Controller, sqe: &Sqe, data_len: u32) -> Outcome {
    controller.execute(sqe, data_len, Instant::now())
}

#[track_caller]
fn refused(controller: &mut Controller, sqe: &Sqe, data_len: u32, status: Status) {
    match run(controller, sqe, data_len) {
        Outcome::Answer(cqe) => {
            assert!(cqe.status().same_code(status), "{} instead of {status}", cqe.status());
        }
        other => panic!("{other:?} instead of {status}"),
    }
}

#[track_caller]
fn dw0(controller: &mut Controller, sqe: &Sqe) -> u32 {
    match run(controller, sqe, 0) {
        Outcome::Answer(cqe) => {
            assert!(cqe.status().is_success(), "{}", cqe.status());
            cqe.dw0.get()
        }
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn data(controller: &mut Controller, sqe: &Sqe, data_len: u32) -> Vec<u8> {
    match run(controller, sqe, data_len) {
        Outcome::Data(data) => data,
        other => panic!("{other:?}"),
    }
}

fn identify(cns: u8, nsid: u32) -> Sqe {
    let mut sqe = Sqe::new(opcode::admin::IDENTIFY);
    sqe.nsid.set(nsid);
    sqe.set_cdw(10, cns.into());
    sqe
}

fn get_feature(fid: u8, select: u32, cdw11: u32) -> Sqe {
    let mut sqe = Sqe::new(opcode::admin::GET_FEATURES);
    sqe.set_cdw(10, u32::from(fid) | select << 8);
    sqe.set_cdw(11, cdw11);
    sqe
}

fn set_feature(fid: u8, value: u32) -> Sqe {
    let mut sqe = Sqe::new(opcode::admin::SET_FEATURES);
    sqe.set_cdw(10, fid.into());
    sqe.set_cdw(11, value);
    sqe
}

fn log(lid: u8, offset: u64, length: u64) -> Sqe {
    GetLogPage::new(lid, offset, length).unwrap().to_sqe()
}

fn async_event_request(cid: u16) -> Sqe {
    let mut sqe = Sqe::new(opcode::admin::ASYNC_EVENT_REQUEST);
    sqe.cid.set(cid);
    sqe
}

mod life {
    use super::*;

    #[test]
    fn before_ready_only_fabrics_commands_are_taken() {
        let mut c = disabled();
        for opcode in [
            opcode::admin::IDENTIFY,
            opcode::admin::KEEP_ALIVE,
            opcode::admin::GET_LOG_PAGE,
            opcode::admin::ASYNC_EVENT_REQUEST,
            0xff,
        ] {
            refused(&mut c, &Sqe::new(opcode), 0, Status::COMMAND_SEQUENCE_ERROR);
        }
        assert_eq!(csts(&mut c).rdy(), 0);
        assert_eq!(set_cc(&mut c, Cc::ENABLE), success());
        assert_eq!(csts(&mut c).rdy(), 1);
        assert_eq!(data(&mut c, &identify(cns::CONTROLLER, 0), 4096).len(), 4096);
    }

    #[test]
    fn enabling_lets_io_queues_in_and_a_reset_is_handed_on() {
        let mut c = enabled();
        let association = Arc::clone(c.association());
        assert!(association.join(1, || ()).is_ok());
        assert_eq!(run(&mut c, &async_event_request(1), 0), Outcome::Hold);
        assert_eq!(run(&mut c, &set_feature(fid::ASYNC_EVENT_CONFIG, 0x100), 0), success());
        assert!(matches!(set_cc(&mut c, Cc(0)), Outcome::Reset(_)));
        assert_eq!(csts(&mut c).rdy(), 0);
        refused(&mut c, &identify(1, 0), 4096, Status::COMMAND_SEQUENCE_ERROR);
        assert_eq!(set_cc(&mut c, Cc::ENABLE), success());
        let current = get_feature(fid::ASYNC_EVENT_CONFIG, 0, 0);
        assert_eq!(dw0(&mut c, &current), 0, "features are as at the start");
        for cid in 0..limits::ASYNC_EVENTS {
            assert_eq!(run(&mut c, &async_event_request(cid), 0), Outcome::Hold, "none held");
        }
    }

    #[test]
    fn a_shutdown_is_complete_when_the_caller_says_so() {
        let mut c = enabled();
        assert!(matches!(set_cc(&mut c, Cc::ENABLE.with_shn(1)), Outcome::Shutdown(_)));
        assert_eq!(csts(&mut c).shst(), 1);
        c.shutdown_complete();
        assert_eq!(csts(&mut c).shst(), 2);
    }

    #[test]
    fn a_controller_that_failed_says_so() {
        let mut c = enabled();
        c.fail();
        assert_eq!(csts(&mut c).cfs(), 1);
    }

    #[test]
    fn fabrics_commands_that_do_not_belong_here_have_their_answers() {
        let mut c = enabled();
        let disconnect = Disconnect::new().to_sqe();
        refused(&mut c, &disconnect, 0, Status::INVALID_QUEUE_TYPE);
        let connect = Connect::new(0, 31, 0, 0).to_sqe();
        refused(&mut c, &connect, 1024, Status::COMMAND_SEQUENCE_ERROR);
        refused(&mut c, &Sqe::fabrics(0x05), 0, Status::INVALID_OPCODE);
        refused(&mut c, &Sqe::fabrics(0x77), 0, Status::INVALID_OPCODE);
        let odd = PropertyGet::new(3, false).to_sqe();
        refused(&mut c, &odd, 0, Status::INVALID_FIELD);
    }

    #[test]
    fn unknown_and_pcie_opcodes_are_invalid() {
        let mut c = enabled();
        let known = [0x02, 0x06, 0x08, 0x09, 0x0a, 0x0c, 0x18, opcode::FABRICS];
        for opcode in (0..=0xff).filter(|opcode| !known.contains(opcode)) {
            refused(&mut c, &Sqe::new(opcode), 0, Status::INVALID_OPCODE);
        }
    }
}

mod keep_alive {
    use super::*;

    fn controller(kato_ms: u32, start: Instant) -> Controller {
        let mut c = Controller::io(association(&subsystem()), kato_ms, start);
        let enable = PropertySet::new(offset::CC, Cc::ENABLE.0.into(), false).to_sqe();
        assert_eq!(c.execute(&enable, 0, start), success());
        c
    }

    fn seconds(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    #[test]
    fn a_silent_host_expires_and_keep_alive_prevents_it() {
        let t = Instant::now();
        let mut c = controller(1500, t);
        let keep_alive = Sqe::new(opcode::admin::KEEP_ALIVE);
        assert!(!c.has_expired(t + Duration::from_millis(1999)));
        assert_eq!(c.execute(&keep_alive, 0, t + Duration::from_millis(1999)), success());
        assert!(!c.has_expired(t + seconds(3)));
        assert!(c.has_expired(t + seconds(4)));
    }

    #[test]
    fn commands_on_any_queue_count() {
        let t = Instant::now();
        let mut c = controller(1000, t);
        let queue = Arc::clone(c.association()).join(1, || ()).unwrap();
        queue.counters().command();
        assert!(!c.has_expired(t + seconds(1)), "an I/O command");
        assert_eq!(c.execute(&async_event_request(1), 0, t + seconds(2)), Outcome::Hold);
        assert!(!c.has_expired(t + Duration::from_millis(2900)), "an admin command");
        assert!(c.has_expired(t + seconds(3)));
    }

    #[test]
    fn without_a_timer_keep_alive_is_refused_and_nobody_expires() {
        let t = Instant::now();
        let mut c = controller(0, t);
        refused(&mut c, &Sqe::new(opcode::admin::KEEP_ALIVE), 0, Status::KEEP_ALIVE_INVALID);
        assert!(!c.has_expired(t + seconds(1_000_000)));
    }

    #[test]
    fn set_features_changes_the_timer_and_get_features_tells_it_rounded() {
        let t = Instant::now();
        let mut c = controller(0, t);
        assert_eq!(c.execute(&set_feature(fid::KEEP_ALIVE_TIMER, 4500), 0, t), success());
        assert_eq!(dw0(&mut c, &get_feature(fid::KEEP_ALIVE_TIMER, 0, 0)), 5000);
        assert!(c.has_expired(t + seconds(60)));
    }

    #[test]
    fn a_discovery_host_without_a_timer_is_not_kept_forever() {
        let mut c = discovery(vec![]);
        assert!(c.has_expired(Instant::now() + seconds(121)));
    }
}

mod identify_command {
    use super::*;

    #[test]
    fn the_controller_tells_what_it_can() {
        let mut c = enabled();
        let bytes = data(&mut c, &identify(cns::CONTROLLER, 0), 4096);
        let id = IdentifyController::ref_from_bytes(&bytes).unwrap();
        assert_eq!(id.cntrltype, controller_type::IO);
        assert_eq!(id.cntlid, 1);
        assert_eq!((id.nn.get(), id.elpe, id.aerl), (3, 63, 3));
        assert_eq!(id.oncs, 0b1001_1101);
        assert_eq!(id.max_transfer(4096), Some(limits::MAX_TRANSFER.into()));
        assert_eq!(id.model_number().as_str(), Some("nvmf"));
        assert_eq!(
            id.serial_number().as_str(),
            Some(c.association().subsystem().serial().as_str())
        );
    }

    #[test]
    fn a_namespace_is_active_inactive_or_invalid() {
        let mut c = enabled();
        let bytes = data(&mut c, &identify(cns::NAMESPACE, 1), 4096);
        let ns = IdentifyNamespace::ref_from_bytes(&bytes).unwrap();
        assert_eq!((ns.nsze.get(), ns.block_size()), (2048, Some(512)));
        assert_eq!(data(&mut c, &identify(cns::NAMESPACE, 2), 4096), [0; 4096]);
        for nsid in [0, 4, NSID_ALL] {
            for cns in [cns::NAMESPACE, cns::CSI_NAMESPACE, cns::INDEPENDENT_NAMESPACE] {
                refused(&mut c, &identify(cns, nsid), 4096, Status::INVALID_NAMESPACE);
            }
        }
    }

    #[test]
    fn lists_have_what_follows_the_given_identifier() {
        let mut c = enabled();
        let mut list = |cns, nsid| {
            let bytes = data(&mut c, &identify(cns, nsid), 4096);
            ActiveNamespaceList::ref_from_bytes(&bytes).unwrap().iter().collect::<Vec<_>>()
        };
        assert_eq!(list(cns::ACTIVE_NAMESPACES, 0), [1, 3]);
        assert_eq!(list(cns::ACTIVE_NAMESPACES, 1), [3]);
        assert_eq!(list(cns::ACTIVE_NAMESPACES, 3), []);
        assert_eq!(list(cns::CSI_ACTIVE_NAMESPACES, 0), [1, 3]);
        for nsid in [NSID_ALL, NSID_ALL - 1] {
            let sqe = identify(cns::ACTIVE_NAMESPACES, nsid);
            refused(&mut c, &sqe, 4096, Status::INVALID_NAMESPACE);
        }
    }

    #[test]
    fn descriptors_identify_an_active_namespace() {
        let mut c = enabled();
        let bytes = data(&mut c, &identify(cns::NAMESPACE_DESCRIPTORS, 1), 4096);
        let ids: Vec<_> = Descriptors::new(&bytes).map(Result::unwrap).collect();
        let ns = &c.association().subsystem().namespaces()[0];
        assert!(ids.contains(&NamespaceId::Uuid(ns.uuid())));
        assert!(ids.contains(&NamespaceId::Nguid(ns.nguid())));
        let inactive = identify(cns::NAMESPACE_DESCRIPTORS, 2);
        refused(&mut c, &inactive, 4096, Status::INVALID_NAMESPACE);
    }

    #[test]
    fn the_nvm_command_set_tells_its_limits_and_others_are_not_there() {
        let mut c = enabled();
        let mut sqe = identify(cns::CSI_CONTROLLER, 0);
        let bytes = data(&mut c, &sqe, 4096);
        let nvm = IdentifyControllerNvm::ref_from_bytes(&bytes).unwrap();
        assert_eq!((nvm.vsl, nvm.wzsl), (8, 16));
        sqe.set_cdw(11, 2 << 24);
        refused(&mut c, &sqe, 4096, Status::INVALID_FIELD);
    }

    #[test]
    fn controllers_are_listed() {
        let mut c = enabled();
        let _other = association(c.association().subsystem());
        let mut list = |sqe: &Sqe| {
            let bytes = data(&mut c, sqe, 4096);
            ControllerList::ref_from_bytes(&bytes).unwrap().iter().collect::<Vec<_>>()
        };
        assert_eq!(list(&identify(cns::CONTROLLERS, 0)), [1, 2]);
        assert_eq!(list(&identify(cns::NAMESPACE_CONTROLLERS, 3)), [1, 2]);
        assert_eq!(list(&identify(cns::NAMESPACE_CONTROLLERS, 2)), []);
        let mut from = identify(cns::CONTROLLERS, 0);
        from.set_cdw(10, u32::from(cns::CONTROLLERS) | 2 << 16);
        assert_eq!(list(&from), [2]);
    }

    #[test]
    fn unknown_structures_and_wrong_lengths_are_refused() {
        let mut c = enabled();
        for cns in [cns::NVM_SETS, cns::COMMAND_SETS, 0xff] {
            refused(&mut c, &identify(cns, 1), 4096, Status::INVALID_FIELD);
        }
        for length in [0, 4092, 4100] {
            let sqe = identify(cns::CONTROLLER, 0);
            refused(&mut c, &sqe, length, Status::DATA_SGL_LENGTH_INVALID);
        }
    }
}

mod features_commands {
    use super::*;

    #[test]
    fn values_that_were_set_are_read_back_and_have_defaults() {
        let mut c = enabled();
        for (fid, value, default) in [
            (fid::ARBITRATION, 0x0403_0201, 7),
            (fid::POWER_MANAGEMENT, 0x40, 0),
            (fid::TEMPERATURE_THRESHOLD, 333, 0xffff),
            (fid::ERROR_RECOVERY, 5, 0),
            (fid::WRITE_ATOMICITY, 1, 0),
            (fid::ASYNC_EVENT_CONFIG, 0x100, 0),
        ] {
            assert_eq!(dw0(&mut c, &get_feature(fid, 0, 0)), default, "{fid:#x}");
            assert_eq!(dw0(&mut c, &set_feature(fid, value)), 0);
            assert_eq!(dw0(&mut c, &get_feature(fid, 0, 0)), value, "{fid:#x}");
            assert_eq!(dw0(&mut c, &get_feature(fid, 1, 0)), default, "{fid:#x}");
            assert_eq!(dw0(&mut c, &get_feature(fid, 2, 0)), default, "{fid:#x}");
            assert_eq!(dw0(&mut c, &get_feature(fid, 3, 0)), 0b100, "{fid:#x}");
        }
    }

    #[test]
    fn a_write_cache_that_is_there_can_be_switched_off() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(1 << 20).unwrap();
        let spec = format!("file:{}", file.path().display()).parse().unwrap();
        let nqn = crate::testing::nqn(crate::testing::NQN);
        let builder = crate::subsystem::Subsystem::builder(nqn).open(&spec).unwrap();
        let mut c = Controller::io(association(&builder.build().unwrap()), 0, Instant::now());
        assert_eq!(set_cc(&mut c, Cc::ENABLE), success());
        let get = get_feature(fid::VOLATILE_WRITE_CACHE, 0, 0);
        assert_eq!(dw0(&mut c, &get), 1);
        let bytes = data(&mut c, &identify(cns::CONTROLLER, 0), 4096);
        assert_eq!(IdentifyController::ref_from_bytes(&bytes).unwrap().vwc, 0b111);
        assert_eq!(dw0(&mut c, &set_feature(fid::VOLATILE_WRITE_CACHE, 0)), 0);
        assert_eq!(dw0(&mut c, &get), 0);
        assert!(!c.association().write_cache());
        assert_eq!(dw0(&mut c, &get_feature(fid::VOLATILE_WRITE_CACHE, 1, 0)), 1);
        assert_eq!(dw0(&mut c, &set_feature(fid::VOLATILE_WRITE_CACHE, 1)), 0);
        assert!(c.association().write_cache());
    }

    #[test]
    fn without_a_write_cache_there_is_no_such_feature() {
        let mut c = enabled();
        let bytes = data(&mut c, &identify(cns::CONTROLLER, 0), 4096);
        let vwc = IdentifyController::ref_from_bytes(&bytes).unwrap().vwc;
        assert_eq!(vwc, IdentifyController::VWC_FLUSH_ALL);
        refused(&mut c, &get_feature(fid::VOLATILE_WRITE_CACHE, 0, 0), 0, Status::INVALID_FIELD);
        refused(&mut c, &set_feature(fid::VOLATILE_WRITE_CACHE, 0), 0, Status::INVALID_FIELD);
    }

    #[test]
    fn the_number_of_queues_is_granted_up_to_the_cap() {
        let mut c = enabled();
        let queues = |n: u32| set_feature(fid::NUMBER_OF_QUEUES, n);
        assert_eq!(dw0(&mut c, &queues(0x0003_0003)), 0x0003_0003);
        assert_eq!(dw0(&mut c, &get_feature(fid::NUMBER_OF_QUEUES, 0, 0)), 0x0003_0003);
        assert_eq!(dw0(&mut c, &queues(0x0007_0001)), 0x0001_0001, "pairs");
        assert_eq!(dw0(&mut c, &queues(0xfffe_fffe)), 0x007f_007f);
        refused(&mut c, &queues(0xffff_0000), 0, Status::INVALID_FIELD);
        refused(&mut c, &queues(0x0000_ffff), 0, Status::INVALID_FIELD);
        let _queue = Arc::clone(c.association()).join(1, || ()).unwrap();
        refused(&mut c, &queues(1), 0, Status::COMMAND_SEQUENCE_ERROR);
    }

    #[test]
    fn the_host_identifier_is_told_and_cannot_be_changed() {
        let mut c = enabled();
        let host_id = c.association().host_id();
        let get = get_feature(fid::HOST_IDENTIFIER, 0, 1);
        assert_eq!(data(&mut c, &get, 16), host_id.as_bytes());
        refused(&mut c, &get, 8, Status::DATA_SGL_LENGTH_INVALID);
        refused(&mut c, &get_feature(fid::HOST_IDENTIFIER, 0, 0), 8, Status::INVALID_FIELD);
        let set = set_feature(fid::HOST_IDENTIFIER, 1);
        refused(&mut c, &set, 16, Status::COMMAND_SEQUENCE_ERROR);
        assert_eq!(dw0(&mut c, &get_feature(fid::HOST_IDENTIFIER, 3, 0)), 0);
    }

    #[test]
    fn nothing_can_be_saved() {
        let mut c = enabled();
        let mut sqe = set_feature(fid::ARBITRATION, 1);
        sqe.set_cdw(10, 0x8000_0001);
        refused(&mut c, &sqe, 0, Status::FEATURE_NOT_SAVEABLE);
        assert_eq!(dw0(&mut c, &get_feature(fid::ARBITRATION, 0, 0)), 7);
    }

    #[test]
    fn what_is_not_there_cannot_be_set() {
        let mut c = enabled();
        for fid in [0x00, 0x03, 0x08, 0x0c, 0x0d, 0x0e, 0x10, 0x16, 0x80, 0x82, 0xff] {
            refused(&mut c, &get_feature(fid, 0, 0), 0, Status::INVALID_FIELD);
            refused(&mut c, &set_feature(fid, 0), 0, Status::INVALID_FIELD);
        }
        for (fid, value) in [
            (fid::POWER_MANAGEMENT, 1),
            (fid::ERROR_RECOVERY, 1 << 16),
            (fid::ASYNC_EVENT_CONFIG, 1 << 11),
            (fid::TEMPERATURE_THRESHOLD, 1 << 16),
            (fid::TEMPERATURE_THRESHOLD, 2 << 20),
        ] {
            refused(&mut c, &set_feature(fid, value), 0, Status::INVALID_FIELD);
        }
        refused(&mut c, &get_feature(fid::ARBITRATION, 4, 0), 0, Status::INVALID_FIELD);
    }
}

mod logs {
    use super::*;

    #[test]
    fn failed_commands_of_all_queues_are_in_the_error_log() {
        let mut c = enabled();
        let mut sqe = identify(cns::NAMESPACE, 9);
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
        assert_eq!((entries[1].nsid.get(), entries[2].error_count.get()), (9, 0));
    }

    #[test]
    fn smart_counts_what_hosts_did() {
        let mut c = enabled();
        let counters = c.association().subsystem().books().open();
        counters.read(512_000);
        counters.written(512_001);
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
        for lid in [0x00, 0x06, 0x0c, 0x70, 0xff] {
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
}

mod events {
    use super::*;

    #[test]
    fn requests_are_held_up_to_the_limit() {
        let mut c = enabled();
        for cid in 0..4 {
            assert_eq!(run(&mut c, &async_event_request(cid), 0), Outcome::Hold);
        }
        refused(&mut c, &async_event_request(4), 0, Status::AER_LIMIT_EXCEEDED);
    }

    #[test]
    fn abort_reaches_what_is_held_and_says_so_of_the_rest() {
        let mut c = enabled();
        let abort = |sqid: u32, cid: u32| {
            let mut sqe = Sqe::new(opcode::admin::ABORT);
            sqe.set_cdw(10, sqid | cid << 16);
            sqe
        };
        assert_eq!(run(&mut c, &async_event_request(7), 0), Outcome::Hold);
        assert_eq!(dw0(&mut c, &abort(0, 8)), 1);
        assert_eq!(dw0(&mut c, &abort(1, 7)), 1, "another queue");
        let aborted = Outcome::AbortHeld(7, Cqe::with_dw0(0, 0));
        assert_eq!(run(&mut c, &abort(0, 7), 0), aborted);
        assert_eq!(dw0(&mut c, &abort(0, 7)), 1, "only once");
    }
}

mod discovery_controller {
    use super::*;

    #[test]
    fn it_identifies_itself_and_nothing_else() {
        let mut c = discovery(vec![]);
        let bytes = data(&mut c, &identify(cns::CONTROLLER, 0), 4096);
        let id = IdentifyController::ref_from_bytes(&bytes).unwrap();
        assert_eq!(id.cntrltype, controller_type::DISCOVERY);
        assert!(id.subsystem_nqn().unwrap().is_discovery());
        assert!(id.maxcmd.get() >= 128, "what Linux warns about");
        for cns in [cns::NAMESPACE, cns::ACTIVE_NAMESPACES, cns::CSI_CONTROLLER] {
            refused(&mut c, &identify(cns, 0), 4096, Status::INVALID_FIELD);
        }
    }

    #[test]
    fn the_page_is_read_in_any_parts_with_zeroes_past_its_end() {
        let page: Vec<u8> = (0..=255).cycle().take(2048).collect();
        let mut c = discovery(page.clone());
        assert_eq!(data(&mut c, &log(lid::DISCOVERY, 0, 2048), 2048), page);
        assert_eq!(data(&mut c, &log(lid::DISCOVERY, 1020, 8), 8), page[1020..1028]);
        let longer = data(&mut c, &log(lid::DISCOVERY, 1024, 4096), 4096);
        assert_eq!(longer[..1024], page[1024..]);
        assert_eq!(longer[1024..], [0; 3072]);
        assert_eq!(data(&mut c, &log(lid::DISCOVERY, 2048, 4), 4), [0; 4]);
        refused(&mut c, &log(lid::DISCOVERY, 2052, 4), 4, Status::INVALID_FIELD);
        refused(&mut c, &log(lid::SMART, 0, 512), 512, Status::INVALID_LOG_PAGE);
    }

    #[test]
    fn persistent_connections_have_events_and_keep_alive() {
        let mut c = discovery(vec![]);
        assert_eq!(dw0(&mut c, &set_feature(fid::ASYNC_EVENT_CONFIG, 1 << 31)), 0);
        assert_eq!(dw0(&mut c, &get_feature(fid::ASYNC_EVENT_CONFIG, 0, 0)), 1 << 31);
        assert_eq!(dw0(&mut c, &set_feature(fid::KEEP_ALIVE_TIMER, 30_000)), 0);
        assert_eq!(run(&mut c, &async_event_request(1), 0), Outcome::Hold);
        assert_eq!(dw0(&mut c, &Sqe::new(opcode::admin::KEEP_ALIVE)), 0);
        refused(&mut c, &set_feature(fid::NUMBER_OF_QUEUES, 0), 0, Status::INVALID_FIELD);
        refused(&mut c, &get_feature(fid::VOLATILE_WRITE_CACHE, 0, 0), 0, Status::INVALID_FIELD);
        refused(&mut c, &Sqe::new(opcode::admin::ABORT), 0, Status::INVALID_OPCODE);
    }
}

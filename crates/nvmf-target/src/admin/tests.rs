use std::time::Duration;

use nvme_spec::Nqn;
use nvme_spec::fabrics::{Connect, Disconnect, PropertyGet, PropertySet};
use nvme_spec::feature::fid;
use nvme_spec::identify::{
    ActiveNamespaceList, ControllerList, Descriptors, IdentifyController, IdentifyControllerNvm,
    IdentifyNamespace, NSID_ALL, NamespaceId, cns, controller_type,
};
use nvme_spec::log::{
    AnaState, CommandEffects, ErrorLogEntry, FeatureEffects, GetLogPage, SmartLog,
    SupportedLogPages, lid,
};
use nvme_spec::property::{Cc, Csts, offset};
use zerocopy::FromBytes;

use super::*;
use crate::port::Port;
use crate::testing::{association, subsystem};

/// A controller that is not enabled.
fn disabled() -> Controller {
    Controller::io(association(&subsystem()), InCapsule::MAX, 0, Instant::now())
}

fn enabled() -> Controller {
    enabled_for(association(&subsystem()))
}

fn enabled_for(association: Arc<Association>) -> Controller {
    let mut controller = Controller::io(association, InCapsule::MAX, 0, Instant::now());
    let outcome = set_cc(&mut controller, Cc::ENABLE);
    assert_eq!(outcome, success());
    controller
}

/// A discovery controller of a target with that subsystem on one port, and how to change it.
fn discovery() -> (Controller, Arc<ArcSwap<Directory>>) {
    let mut directory = Directory::new(Nqn::DISCOVERY);
    directory.subsystems.push(subsystem());
    directory.ports.push(Arc::new(Port::new(1, "192.0.2.1:4420".parse().unwrap())));
    let association = association(&directory.discovery);
    let directory = Arc::new(ArcSwap::from_pointee(directory));
    let asker = Asker { host: association.host().clone(), local: None, flow_control: false };
    let lookup = Lookup { directory: Arc::clone(&directory), asker };
    let mut controller = Controller::discovery(association, lookup, 0, Instant::now());
    assert_eq!(set_cc(&mut controller, Cc(1)), success());
    (controller, directory)
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
    controller.execute(sqe, Data::AtHost(data_len), Instant::now())
}

/// Runs a command whose data comes from the host.
#[track_caller]
fn run_with(controller: &mut Controller, sqe: &Sqe, data: &[u8]) -> Outcome {
    let length = u32::try_from(data.len()).unwrap();
    assert_eq!(run(controller, sqe, length), Outcome::Receive(length));
    controller.execute(sqe, Data::Here(data), Instant::now())
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
        refused(&mut c, &identify(1, 0), 4096, Status::COMMAND_SEQUENCE_ERROR);
        c.shut_down(Ok(()));
        assert_eq!(csts(&mut c).shst(), 2);
    }

    #[test]
    fn after_a_shutdown_only_fabrics_commands_are_taken_until_it_is_enabled_again() {
        let mut c = enabled();
        let association = Arc::clone(c.association());
        assert!(matches!(set_cc(&mut c, Cc::ENABLE.with_shn(1)), Outcome::Shutdown(_)));
        c.shut_down(Ok(()));
        refused(&mut c, &identify(1, 0), 4096, Status::COMMAND_SEQUENCE_ERROR);
        refused(&mut c, &Sqe::new(0xff), 0, Status::COMMAND_SEQUENCE_ERROR);
        assert!(association.is_shut_down() && association.join(1, || ()).is_err());
        assert!(matches!(set_cc(&mut c, Cc::ENABLE.with_en(0)), Outcome::Reset(_)));
        association.begin_reset();
        assert_eq!(set_cc(&mut c, Cc::ENABLE), success());
        assert_eq!(data(&mut c, &identify(1, 0), 4096).len(), 4096);
        assert!(!association.is_shut_down() && association.join(1, || ()).is_ok());
    }

    #[test]
    fn what_cannot_be_made_durable_is_an_event() {
        let mut c = enabled();
        assert_eq!(run(&mut c, &async_event_request(3), 0), Outcome::Hold);
        assert!(matches!(set_cc(&mut c, Cc::ENABLE.with_shn(1)), Outcome::Shutdown(_)));
        c.shut_down(Err(Status::WRITE_FAULT));
        assert_eq!((csts(&mut c).shst(), csts(&mut c).cfs()), (1, 1));
        assert_eq!(c.next_event(), Some((3, Cqe::with_dw0(0, 0x01_0300))));
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
        let mut c = Controller::io(association(&subsystem()), InCapsule::MAX, kato_ms, start);
        let enable = PropertySet::new(offset::CC, Cc::ENABLE.0.into(), false).to_sqe();
        assert_eq!(c.execute(&enable, Data::AtHost(0), start), success());
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
        assert_eq!(
            c.execute(&keep_alive, Data::AtHost(0), t + Duration::from_millis(1999)),
            success()
        );
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
        assert_eq!(
            c.execute(&async_event_request(1), Data::AtHost(0), t + seconds(2)),
            Outcome::Hold
        );
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
        assert_eq!(
            c.execute(&set_feature(fid::KEEP_ALIVE_TIMER, 4500), Data::AtHost(0), t),
            success()
        );
        assert_eq!(dw0(&mut c, &get_feature(fid::KEEP_ALIVE_TIMER, 0, 0)), 5000);
        assert!(c.has_expired(t + seconds(60)));
    }

    #[test]
    fn a_discovery_host_without_a_timer_is_not_kept_forever() {
        let mut c = discovery().0;
        assert!(c.has_expired(Instant::now() + seconds(121)));
    }
}

mod anything;
mod conformance;
mod features_commands;
mod identify_command;
mod logs;
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
    fn no_admin_command_is_half_of_a_fused_operation() {
        let mut c = enabled();
        let mut sqe = Sqe::new(opcode::admin::KEEP_ALIVE);
        sqe.flags |= 1;
        refused(&mut c, &sqe, 0, Status::INVALID_FIELD);
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
        let aborted = Outcome::AbortHeld(7, Cqe::with_dw0(0, 0));
        assert_eq!(run(&mut c, &abort(0, 7), 0), aborted);
        assert_eq!(dw0(&mut c, &abort(0, 7)), 1, "only once");
    }

    #[test]
    fn aborts_of_io_commands_are_handed_on_up_to_the_limit() {
        let mut c = enabled();
        let mut sqe = Sqe::new(opcode::admin::ABORT);
        sqe.set_cdw(10, 2 | 7 << 16);
        for _ in 0..limits::ABORTS {
            assert_eq!(run(&mut c, &sqe, 0), Outcome::AbortIo { qid: 2, cid: 7 });
        }
        refused(&mut c, &sqe, 0, Status::ABORT_LIMIT);
        assert_eq!(c.abort_answer(true), Cqe::with_dw0(0, 0));
        assert_eq!(run(&mut c, &sqe, 0), Outcome::AbortIo { qid: 2, cid: 7 });
        assert_eq!(c.abort_answer(false), Cqe::with_dw0(0, 1));
        let bytes = data(&mut c, &identify(cns::CONTROLLER, 0), 4096);
        assert_eq!(IdentifyController::ref_from_bytes(&bytes).unwrap().acl + 1, limits::ABORTS);
    }
}

mod discovery_controller {
    use super::*;

    #[test]
    fn it_identifies_itself_and_nothing_else() {
        let mut c = discovery().0;
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
        let (mut c, _) = discovery();
        // Two entries: the subsystem, and discovery itself.
        let page = data(&mut c, &log(lid::DISCOVERY, 0, 3072), 3072);
        assert_eq!(data(&mut c, &log(lid::DISCOVERY, 1020, 8), 8), page[1020..1028]);
        let longer = data(&mut c, &log(lid::DISCOVERY, 1024, 4096), 4096);
        assert_eq!(longer[..2048], page[1024..]);
        assert_eq!(longer[2048..], [0; 2048]);
        assert_eq!(data(&mut c, &log(lid::DISCOVERY, 3072, 4), 4), [0; 4]);
        refused(&mut c, &log(lid::DISCOVERY, 3076, 4), 4, Status::INVALID_FIELD);
        refused(&mut c, &log(lid::SMART, 0, 512), 512, Status::INVALID_LOG_PAGE);
    }

    #[test]
    fn entries_of_one_port_and_extended_ones_can_be_asked_for() {
        let mut directory = Directory::new(Nqn::DISCOVERY);
        directory.subsystems.push(subsystem());
        let port = Arc::new(Port::new(2, "192.0.2.1:4421".parse().unwrap()));
        directory.ports.push(Arc::new(Port::new(1, "192.0.2.1:4420".parse().unwrap())));
        directory.ports.push(Arc::clone(&port));
        let address = "192.0.2.9:8009".parse().unwrap();
        directory.referrals.push(crate::Referral { address, nqn: Nqn::DISCOVERY, port_id: 9 });
        let request = crate::testing::request(1);
        let association = directory.discovery.connect_admin(&request, &port).unwrap();
        let asker = Asker { host: association.host().clone(), local: None, flow_control: false };
        let directory = Arc::new(ArcSwap::from_pointee(directory));
        let lookup = Lookup { directory, asker };
        let mut c = Controller::discovery(association, lookup, 0, Instant::now());
        assert_eq!(set_cc(&mut c, Cc(1)), success());
        let mut read = |lsp| {
            let get = GetLogPage { lsp, ..GetLogPage::new(lid::DISCOVERY, 0, 6400).unwrap() };
            let page = data(&mut c, &get.to_sqe(), 6400);
            let log = nvme_spec::log::DiscoveryLog::parse(&page).unwrap();
            let ports: Vec<u16> = log.entries().map(|entry| entry.portid.get()).collect();
            assert!(log.is_complete());
            assert!(log.records().all(|record| record.unwrap().attributes.next().is_none()));
            (log.header.dlpf, log.header.tdlpl.get(), ports)
        };
        let all = vec![1, 1, 2, 2, 9];
        assert_eq!(read(0), (0, 1024 * 6, all.clone()));
        assert_eq!(read(0b010), (0b010, 1024 * 3, vec![2, 2]));
        assert_eq!(read(0b001), (0b001, 1024 + 5 * 1032, all.clone()));
        assert_eq!(read(0b011), (0b011, 1024 + 2 * 1032, vec![2, 2]));
        assert_eq!(read(0b100), (0, 1024 * 6, all), "what is not there is not said to be");
    }

    #[test]
    fn it_tells_of_its_pages_and_features() {
        let mut c = discovery().0;
        let pages = data(&mut c, &log(lid::SUPPORTED, 0, 1024), 1024);
        let pages = SupportedLogPages::ref_from_bytes(&pages).unwrap();
        assert!(pages.supported().eq([0x00, 0x12, 0x70]));
        assert_eq!(pages.lids[0x70], 0x3_0001, "extended and port local entries");
        let features = data(&mut c, &log(lid::FEATURE_EFFECTS, 0, 1024), 1024);
        let features = FeatureEffects::ref_from_bytes(&features).unwrap();
        let known = (0..=u8::MAX).zip(&features.fids).filter(|(_, effects)| effects.get() != 0);
        assert!(known.map(|(fid, _)| fid).eq([0x0b, 0x0f]));
    }

    #[test]
    fn a_change_is_in_the_page_under_another_generation_and_an_event() {
        let (mut c, directory) = discovery();
        assert_eq!(dw0(&mut c, &set_feature(fid::ASYNC_EVENT_CONFIG, 1 << 31)), 0);
        let before = data(&mut c, &log(lid::DISCOVERY, 0, 16), 16);
        assert_eq!(run(&mut c, &async_event_request(7), 0), Outcome::Hold);
        assert_eq!(c.next_event(), None);
        let mut changed = Directory::clone(&directory.load());
        changed.subsystems.clear();
        changed.next_generation();
        directory.store(Arc::new(changed));
        c.association().events().raise(Event::DISCOVERY_LOG_CHANGED);
        assert_eq!(c.next_event(), Some((7, Cqe::with_dw0(0, 0x70_f002))));
        let after = data(&mut c, &log(lid::DISCOVERY, 0, 16), 16);
        assert_ne!(before[..8], after[..8], "the generation");
        assert_eq!((before[8], after[8]), (2, 1), "the number of entries");
    }

    #[test]
    fn a_host_that_gave_no_keep_alive_timeout_has_two_minutes() {
        let mut c = discovery().0;
        let minutes = |n: u64| Instant::now() + Duration::from_secs(60 * n);
        assert!(!c.has_expired(minutes(1)));
        assert!(c.deadline().is_some_and(|end| end > minutes(1)));
        assert!(c.has_expired(minutes(3)));
    }

    #[test]
    fn persistent_connections_have_events_and_keep_alive() {
        let mut c = discovery().0;
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

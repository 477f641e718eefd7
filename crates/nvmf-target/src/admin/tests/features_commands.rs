//! Get Features and Set Features.

use super::*;
use crate::subsystem::{Namespace, Subsystem};
use crate::testing::{Kept, NQN, nqn};
use nvme_spec::feature::{HostBehaviorSupport, Timestamp};
use nvmf_storage::{Failure, Fault, Faulty, Operation};
use zerocopy::IntoBytes;

/// Runs a command that has a chore, and does that.
#[track_caller]
fn done(c: &mut Controller, sqe: &Sqe) -> Result<(), Status> {
    match run(c, sqe, 0) {
        Outcome::Chore(chore, cqe) => {
            assert!(cqe.status().is_success());
            chore.run(c.association())
        }
        other => panic!("{other:?}"),
    }
}

/// The same for a namespace.
fn of(nsid: u32, mut sqe: Sqe) -> Sqe {
    sqe.nsid.set(nsid);
    sqe
}

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
    let nqn = nqn(NQN);
    let builder = Subsystem::builder(nqn).open(&spec).unwrap();
    let mut c = enabled_for(association(&builder.build().unwrap()));
    let get = get_feature(fid::VOLATILE_WRITE_CACHE, 0, 0);
    assert_eq!(dw0(&mut c, &get), 1);
    let bytes = data(&mut c, &identify(cns::CONTROLLER, 0), 4096);
    assert_eq!(IdentifyController::ref_from_bytes(&bytes).unwrap().vwc, 0b111);
    let flushed = Outcome::Chore(Chore::Flush, Cqe::new(0, Status::SUCCESS));
    assert_eq!(run(&mut c, &set_feature(fid::VOLATILE_WRITE_CACHE, 0), 0), flushed);
    assert_eq!(dw0(&mut c, &get), 0);
    assert!(!c.association().write_cache());
    assert_eq!(dw0(&mut c, &get_feature(fid::VOLATILE_WRITE_CACHE, 1, 0)), 1);
    assert_eq!(dw0(&mut c, &set_feature(fid::VOLATILE_WRITE_CACHE, 1)), 0);
    assert!(c.association().write_cache());
}

#[test]
fn there_is_a_write_cache_to_flush_even_where_all_is_memory() {
    // A file may become a namespace later, and hosts ask but once.
    let mut c = enabled();
    let bytes = data(&mut c, &identify(cns::CONTROLLER, 0), 4096);
    let vwc = IdentifyController::ref_from_bytes(&bytes).unwrap().vwc;
    assert_eq!(vwc, IdentifyController::VWC_FLUSH_ALL | IdentifyController::VWC_PRESENT);
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
    for fid in [0x00, 0x03, 0x08, 0x09, 0x0c, 0x0d, 0x10, 0x78, 0x80, 0xff] {
        refused(&mut c, &get_feature(fid, 0, 0), 0, Status::INVALID_FIELD);
        refused(&mut c, &set_feature(fid, 0), 0, Status::INVALID_FIELD);
    }
    for (fid, value) in [
        (fid::POWER_MANAGEMENT, 1),
        (fid::ERROR_RECOVERY, 1 << 16),
        (fid::ASYNC_EVENT_CONFIG, 1 << 12),
        (fid::TEMPERATURE_THRESHOLD, 1 << 16),
        (fid::TEMPERATURE_THRESHOLD, 2 << 20),
    ] {
        refused(&mut c, &set_feature(fid, value), 0, Status::INVALID_FIELD);
    }
    refused(&mut c, &get_feature(fid::ARBITRATION, 4, 0), 0, Status::INVALID_FIELD);
}

#[test]
fn the_timestamp_counts_on_from_what_the_host_set() {
    let mut c = enabled();
    let get = get_feature(fid::TIMESTAMP, 0, 0);
    let read = |c: &mut Controller, at| match c.execute(&get, Data::AtHost(8), at) {
        Outcome::Data(data) => Timestamp::read_from_bytes(&data).unwrap(),
        other => panic!("{other:?}"),
    };
    let start = Instant::now() + Duration::from_secs(1);
    let unset = read(&mut c, start);
    assert!(!unset.set_by_host() && (1000..60_000).contains(&unset.milliseconds()));
    let mut wanted = Timestamp::new(1_800_000_000_000);
    // Attributes are not the host's to set.
    wanted.attributes = 0xff;
    assert_eq!(run_with(&mut c, &set_feature(fid::TIMESTAMP, 0), wanted.as_bytes()), success());
    let set = read(&mut c, Instant::now() + Duration::from_secs(5));
    assert!(set.set_by_host() && set.attributes == 0b10);
    assert!((1_800_000_005_000..1_800_000_060_000).contains(&set.milliseconds()));
    assert_eq!(data(&mut c, &get_feature(fid::TIMESTAMP, 1, 0), 8), [0; 8]);
    refused(&mut c, &set_feature(fid::TIMESTAMP, 0), 12, Status::DATA_SGL_LENGTH_INVALID);
    assert!(matches!(set_cc(&mut c, Cc(0)), Outcome::Reset(_)));
    assert_eq!(set_cc(&mut c, Cc::ENABLE), success());
    assert!(!read(&mut c, Instant::now()).set_by_host(), "a reset zeroes it");
}

#[test]
fn what_the_host_can_deal_with_is_kept() {
    let mut c = enabled();
    let set = set_feature(fid::HOST_BEHAVIOR_SUPPORT, 0);
    let get = get_feature(fid::HOST_BEHAVIOR_SUPPORT, 0, 0);
    assert_eq!(data(&mut c, &get, 512), [0; 512]);
    let mut asked = HostBehaviorSupport { acre: 1, etdas: 1, lbafee: 1, ..Default::default() };
    let kept = asked;
    asked.reserved[7] = 9;
    assert_eq!(run_with(&mut c, &set, asked.as_bytes()), success());
    assert_eq!(data(&mut c, &get, 512), kept.as_bytes());
    for bad in [
        HostBehaviorSupport { acre: 2, ..kept },
        HostBehaviorSupport { hdisns: 2, ..kept },
        // No such format of Copy.
        HostBehaviorSupport { cdfe: (1 << 15).into(), ..kept },
    ] {
        match run_with(&mut c, &set, bad.as_bytes()) {
            Outcome::Answer(cqe) => assert!(cqe.status().same_code(Status::INVALID_FIELD)),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(data(&mut c, &get, 512), kept.as_bytes(), "refused, and nothing changed");
}

#[test]
fn data_is_refused_by_its_length_before_it_is_received() {
    let mut c = enabled();
    for (fid, length) in [(fid::TIMESTAMP, 1 << 30), (fid::HOST_BEHAVIOR_SUPPORT, 4096)] {
        refused(&mut c, &set_feature(fid, 0), length, Status::DATA_SGL_LENGTH_INVALID);
    }
    refused(&mut c, &set_feature(fid::ARBITRATION, 1), 4, Status::DATA_SGL_LENGTH_INVALID);
    let sqe = set_feature(fid::ARBITRATION, 1);
    let outcome = c.execute(&sqe, Data::Here(&[0; 4]), Instant::now());
    assert!(matches!(outcome, Outcome::Answer(cqe) if !cqe.status().is_success()));
}

#[test]
fn the_value_of_a_controller_is_not_that_of_a_namespace() {
    let mut c = enabled();
    for nsid in [0, NSID_ALL] {
        assert_eq!(run(&mut c, &of(nsid, set_feature(fid::ARBITRATION, 3)), 0), success());
    }
    // Whether there is such a namespace or not, its identifier could be one.
    for nsid in [1, 2] {
        let set = of(nsid, set_feature(fid::ARBITRATION, 1));
        refused(&mut c, &set, 0, Status::FEATURE_NOT_NAMESPACE_SPECIFIC);
        assert_eq!(dw0(&mut c, &of(nsid, get_feature(fid::ARBITRATION, 0, 0))), 3);
    }
    refused(&mut c, &of(1025, set_feature(fid::ARBITRATION, 1)), 0, Status::INVALID_NAMESPACE);
    refused(&mut c, &of(1025, get_feature(fid::ARBITRATION, 0, 0)), 0, Status::INVALID_NAMESPACE);
}

#[test]
fn the_reservation_mask_is_one_for_each_namespace() {
    let mut c = enabled();
    let get = |nsid| of(nsid, get_feature(fid::RESERVATION_MASK, 0, 0));
    let set = |nsid, mask| of(nsid, set_feature(fid::RESERVATION_MASK, mask));
    assert_eq!(dw0(&mut c, &get_feature(fid::RESERVATION_MASK, 3, 0)), 0b110);
    assert_eq!(run(&mut c, &set(3, 0b1111), 0), success());
    assert_eq!((dw0(&mut c, &get(1)), dw0(&mut c, &get(3))), (0, 0b1110));
    assert_eq!(c.association().reservation_mask(3).0, 0b1110);
    assert_eq!(run(&mut c, &set(NSID_ALL, 0b0010), 0), success());
    assert_eq!((dw0(&mut c, &get(1)), dw0(&mut c, &get(3))), (0b0010, 0b0010));
    for (nsid, status) in [
        (0, Status::INVALID_NAMESPACE),
        (2, Status::INVALID_FIELD),
        (1025, Status::INVALID_NAMESPACE),
    ] {
        refused(&mut c, &set(nsid, 0), 0, status);
        refused(&mut c, &get(nsid), 0, status);
    }
    refused(&mut c, &get(NSID_ALL), 0, Status::INVALID_NAMESPACE);
    assert!(matches!(set_cc(&mut c, Cc(0)), Outcome::Reset(_)));
    c.association().begin_reset();
    assert_eq!(set_cc(&mut c, Cc::ENABLE), success());
    assert_eq!((dw0(&mut c, &get(1)), dw0(&mut c, &get(3))), (0, 0));
}

#[test]
fn a_host_protects_a_namespace_and_all_are_told() {
    let mut c = enabled();
    let other = crate::testing::connect(c.association().subsystem(), 2);
    other.events().configure(u32::MAX);
    let get = |nsid| of(nsid, get_feature(fid::WRITE_PROTECTION, 0, 0));
    let set = |nsid, state| of(nsid, set_feature(fid::WRITE_PROTECTION, state));
    let attributes = |c: &mut Controller, nsid| {
        let bytes = data(c, &identify(cns::NAMESPACE, nsid), 4096);
        IdentifyNamespace::ref_from_bytes(&bytes).unwrap().nsattr
    };
    assert_eq!(done(&mut c, &set(1, 1)), Ok(()));
    assert_eq!((dw0(&mut c, &get(1)), dw0(&mut c, &get(3))), (1, 0));
    assert_eq!((attributes(&mut c, 1), attributes(&mut c, 3)), (1, 0));
    let event = other.events().next();
    assert_eq!(event, Some(Event::NAMESPACE_ATTRIBUTE_CHANGED));
    assert_eq!(dw0(&mut c, &of(1, get_feature(fid::WRITE_PROTECTION, 1, 0))), 0);
    assert_eq!(done(&mut c, &set(1, 0)), Ok(()));
    assert_eq!(attributes(&mut c, 1), 0);
    for state in 2..8 {
        refused(&mut c, &set(1, state), 0, Status::INVALID_FIELD);
    }
    // What the target's own configuration protects, no host unprotects.
    c.association().subsystem().namespace(3).unwrap().set_write_protected(true);
    assert_eq!(done(&mut c, &set(3, 0)), Ok(()));
    assert_eq!(attributes(&mut c, 3), 1);
}

#[test]
fn what_a_host_protects_is_durable_and_stays_protected_over_a_restart() {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(1 << 20).unwrap();
    let spec: nvmf_storage::NamespaceSpec =
        format!("file:{}", file.path().display()).parse().unwrap();
    let backend = Arc::new(Faulty::new(spec.open().unwrap()));
    let kept = Arc::new(Kept::default());
    let controller = |protected| {
        let ns = Namespace::builder(1, backend.clone()).persistence(kept.clone());
        let builder = Subsystem::builder(nqn(NQN)).with(ns.protected_by_host(protected));
        enabled_for(association(&builder.build().unwrap()))
    };
    let get = of(1, get_feature(fid::WRITE_PROTECTION, 0, 0));
    let set = |state| of(1, set_feature(fid::WRITE_PROTECTION, state));
    let mut c = controller(false);
    assert_eq!(done(&mut c, &set(1)), Ok(()));
    assert_eq!(done(&mut c, &set(1)), Ok(()));
    assert_eq!(kept.protected(), [true], "nothing that changes nothing");
    let mut c = controller(true);
    assert_eq!(dw0(&mut c, &get), 1);
    assert!(c.association().view().get(1).unwrap().namespace.is_read_only());
    assert_eq!(done(&mut c, &set(0)), Ok(()));
    assert_eq!(kept.protected(), [true, false]);
    // What was written before is to be safe when the host is told that nothing is written any more.
    backend.inject(Fault::on(Operation::Flush).times(1).failing(Failure::Io));
    assert_eq!(done(&mut c, &set(1)), Err(Status::WRITE_FAULT));
    kept.fill_up();
    assert_eq!(done(&mut c, &set(0)), Err(Status::INTERNAL_ERROR));
    assert_eq!(dw0(&mut c, &get), 1, "what could not be saved is not so");
}

#[test]
fn what_is_reserved_is_not_looked_at_and_reads_as_zero() {
    let mut c = enabled();
    for (fid, kept) in
        [(fid::ARBITRATION, 0xffff_ff07), (fid::VOLATILE_WRITE_CACHE, 1), (fid::WRITE_ATOMICITY, 1)]
    {
        assert_eq!(run(&mut c, &set_feature(fid, u32::MAX), 0), success());
        assert_eq!(dw0(&mut c, &get_feature(fid, 0, 0)), kept, "{fid:#x}");
    }
    assert_eq!(dw0(&mut c, &set_feature(fid::ERROR_RECOVERY, 0xfffe_0005)), 0);
    assert_eq!(dw0(&mut c, &get_feature(fid::ERROR_RECOVERY, 0, 0)), 5);
    assert_eq!(dw0(&mut c, &set_feature(fid::POWER_MANAGEMENT, 0xffff_ff40)), 0);
    assert_eq!(dw0(&mut c, &get_feature(fid::POWER_MANAGEMENT, 0, 0)), 0x40);
    let all_sensors = get_feature(fid::TEMPERATURE_THRESHOLD, 0, 0xf << 16);
    refused(&mut c, &all_sensors, 0, Status::INVALID_FIELD);
}

#[test]
fn reservations_outlast_a_restart_where_a_host_says_so_and_they_can() {
    let kept = Arc::new(Kept::default());
    let ns = |nsid| Namespace::open(nsid, &format!("mem:{nsid}M").parse().unwrap()).unwrap();
    let builder = Subsystem::builder(nqn(NQN));
    let subsystem = builder.with(ns(1).persistence(kept.clone())).with(ns(2)).build().unwrap();
    let mut c = enabled_for(association(&subsystem));
    let get = |nsid, select| of(nsid, get_feature(fid::RESERVATION_PERSISTENCE, select, 0));
    let set = |nsid, ptpl| of(nsid, set_feature(fid::RESERVATION_PERSISTENCE, ptpl));
    assert_eq!(dw0(&mut c, &get(1, 0)), 0);
    // Reserved bits mean nothing.
    assert_eq!(done(&mut c, &set(1, 0xffff_fffe)), Ok(()));
    assert_eq!((dw0(&mut c, &get(1, 0)), kept.saved().len()), (0, 0));
    assert_eq!(done(&mut c, &set(1, 1)), Ok(()));
    assert_eq!((dw0(&mut c, &get(1, 0)), dw0(&mut c, &get(1, 1))), (1, 0));
    assert!(subsystem.namespace(1).unwrap().saved_reservations().is_some());
    assert!(kept.saved().last().unwrap().is_some());
    // Of all, those are meant that can; one that cannot is not to be named.
    assert_eq!(done(&mut c, &set(NSID_ALL, 0)), Ok(()));
    assert_eq!((dw0(&mut c, &get(1, 0)), kept.saved().last()), (0, Some(&None)));
    for ptpl in [0, 1] {
        refused(&mut c, &set(2, ptpl), 0, Status::INVALID_FIELD);
    }
    refused(&mut c, &get(2, 0), 0, Status::INVALID_FIELD);
    refused(&mut c, &get(2, 1), 0, Status::INVALID_FIELD);
    kept.fill_up();
    assert_eq!(done(&mut c, &set(1, 1)), Err(Status::INTERNAL_ERROR));
    assert_eq!(dw0(&mut c, &get(1, 0)), 0, "what could not be saved is not so");
}

//! Reservations, on the way of I/O commands.

use std::sync::Arc;

use nvme_spec::event::Event;
use nvme_spec::feature::{AsyncEventConfig, ReservationNotificationMask};
use nvme_spec::reservation::{
    AcquireAction, Notification, PersistenceChange, RegisterAction, ReservationAcquire,
    ReservationRegister, ReservationRelease, ReservationType,
};

use super::*;
use crate::reservation::Saved;
use crate::testing::{Kept, connect};

fn on_one(mut sqe: Sqe) -> Sqe {
    sqe.nsid.set(1);
    sqe
}

fn keys(first: u64, second: u64) -> [u8; 16] {
    let mut data = [0; 16];
    data[..8].copy_from_slice(&first.to_le_bytes());
    data[8..].copy_from_slice(&second.to_le_bytes());
    data
}

fn register(a: &Association, key: u64, persistence: PersistenceChange) -> Result<(), Status> {
    let command =
        ReservationRegister { action: RegisterAction::Register, ignore_key: false, persistence };
    run(a, &on_one(command.to_sqe()), &mut keys(0, key))
}

fn acquire(a: &Association, action: AcquireAction, key: u64, other: u64) -> Result<(), Status> {
    let command = ReservationAcquire { action, rtype: ReservationType::WriteExclusive };
    run(a, &on_one(command.to_sqe()), &mut keys(key, other))
}

const CONFLICT: Result<(), Status> = Err(Status::RESERVATION_CONFLICT.with_dnr(true));

fn hosts() -> (Arc<Association>, Arc<Association>) {
    let subsystem = subsystem();
    let (one, two) = (connect(&subsystem, 1), connect(&subsystem, 2));
    register(&one, 11, PersistenceChange::Keep).unwrap();
    register(&two, 22, PersistenceChange::Keep).unwrap();
    acquire(&one, AcquireAction::Acquire, 11, 0).unwrap();
    (one, two)
}

#[test]
fn who_does_not_hold_it_may_not_write() {
    let (one, two) = hosts();
    for opcode in [opcode::nvm::WRITE_ZEROES, opcode::nvm::WRITE_UNCORRECTABLE] {
        assert_eq!(run(&two, &command(opcode, 1, 0, 1), &mut []), CONFLICT);
        run(&one, &command(opcode, 1, 0, 1), &mut []).unwrap();
    }
    assert_eq!(run(&two, &write(0, 1), &mut [0; 512]), CONFLICT);
    run(&one, &write(0, 1), &mut [0; 512]).unwrap();
    run(&two, &read(0, 1), &mut [0; 512]).unwrap();
    // The other namespace is free, but to flush all is to flush this one too.
    run(&two, &command(opcode::nvm::WRITE, 3, 0, 1), &mut [0; 4096]).unwrap();
    assert_eq!(run(&two, &command(opcode::nvm::FLUSH, NSID_ALL, 0, 1), &mut []), CONFLICT);
    run(&one, &command(opcode::nvm::FLUSH, NSID_ALL, 0, 1), &mut []).unwrap();
}

#[test]
fn what_was_planned_before_a_reservation_is_not_written_after_it() {
    let subsystem = subsystem();
    let (one, two) = (connect(&subsystem, 1), connect(&subsystem, 2));
    let view = two.view();
    let Plan::Execute(write) = plan(&two, &view, &write(0, 1), 512).unwrap() else { panic!() };
    register(&one, 11, PersistenceChange::Keep).unwrap();
    acquire(&one, AcquireAction::Acquire, 11, 0).unwrap();
    let by = By { association: &two, counters: &Counters::default() };
    let done = write.execute(&mut [0; 512], &by);
    assert_eq!(done.map_err(|failed| failed.status), CONFLICT);
}

#[test]
fn the_report_is_as_long_as_was_asked_for() {
    let (one, two) = hosts();
    let report = |dwords: u32| {
        let mut sqe = Sqe::new(opcode::nvm::RESERVATION_REPORT);
        sqe.set_cdw(10, dwords - 1);
        sqe.set_cdw(11, 1);
        let mut data = vec![0xee; dwords as usize * 4];
        run(&two, &on_one(sqe), &mut data).unwrap();
        data
    };
    let whole = report(64);
    // Two registrants, of which the first holds it.
    assert_eq!((whole[4], whole[5], whole[6]), (1, 2, 0));
    assert_eq!(whole[64..66], one.cntlid().to_le_bytes());
    assert_eq!((whole[66], whole[72]), (1, 11));
    assert_eq!(whole[128..130], two.cntlid().to_le_bytes());
    assert_eq!(whole[192..], [0; 64]);
    assert_eq!(report(5), whole[..20]);
}

#[test]
fn who_lost_something_is_told_unless_it_is_masked() {
    let (one, two) = hosts();
    for a in [&one, &two] {
        a.events().configure(AsyncEventConfig::ANA_CHANGE);
    }
    let masked = ReservationNotificationMask::default().with_registration_preempted(1);
    two.set_reservation_mask(1, masked);
    acquire(&one, AcquireAction::Preempt, 11, 22).unwrap();
    assert_eq!(two.events().next(), None);
    two.set_reservation_mask(1, ReservationNotificationMask::default());
    assert_eq!(two.reservation_mask(3), ReservationNotificationMask::default());
    register(&two, 22, PersistenceChange::Keep).unwrap();
    acquire(&one, AcquireAction::PreemptAndAbort, 11, 22).unwrap();
    assert_eq!(two.events().next(), Some(Event::RESERVATION_LOG_AVAILABLE));
    assert_eq!(one.events().next(), None);
    let page = two.reservation_log(|log| log.pop());
    let what = Notification::RegistrationPreempted.to_wire();
    assert_eq!((page.count.get(), page.nsid.get(), page.rn_type), (1, 1, what));
    assert!(two.reservation_log(|log| log.is_empty()));
}

fn persisting(kept: &Arc<Kept>, saved: Option<Saved>) -> Arc<Association> {
    let spec: nvmf_storage::NamespaceSpec = "mem:1M,bs=512".parse().unwrap();
    let mut ns = Namespace::open(1, &spec).unwrap();
    if let Some(saved) = saved {
        ns = ns.reservations(saved);
    }
    let builder = Subsystem::builder(nqn(NQN)).with(ns).persistence(kept.clone());
    association(&builder.build().unwrap())
}

#[test]
fn what_is_to_outlast_a_restart_is_saved_before_the_answer_and_restored() {
    let kept = Arc::new(Kept::default());
    let a = persisting(&kept, None);
    assert_eq!(a.view().get(1).unwrap().description.reservations & 1, 1, "RESCAP says so");
    register(&a, 11, PersistenceChange::Keep).unwrap();
    assert_eq!(kept.saved().len(), 0, "nothing to be kept yet");
    register(&a, 11, PersistenceChange::Set).unwrap();
    acquire(&a, AcquireAction::Acquire, 11, 0).unwrap();
    let last = kept.saved().last().cloned().flatten().unwrap();
    assert_eq!(kept.saved().len(), 2);
    let again = persisting(&kept, Some(last.clone()));
    assert_eq!(again.subsystem().namespace(1).unwrap().saved_reservations(), Some(last));
    let stranger = connect(again.subsystem(), 9);
    assert_eq!(run(&stranger, &write(0, 1), &mut [0; 512]), CONFLICT);
    run(&again, &write(0, 1), &mut [0; 512]).unwrap();
    register(&again, 11, PersistenceChange::Clear).unwrap();
    assert_eq!(kept.saved().last(), Some(&None));
}

#[test]
fn what_cannot_be_saved_has_not_happened() {
    let kept = Arc::new(Kept::default());
    let a = persisting(&kept, None);
    register(&a, 11, PersistenceChange::Set).unwrap();
    kept.fill_up();
    let failed = acquire(&a, AcquireAction::Acquire, 11, 0);
    assert_eq!(failed, Err(Status::INTERNAL_ERROR));
    let other = connect(a.subsystem(), 2);
    run(&other, &write(0, 1), &mut [0; 512]).unwrap();
}

#[test]
fn without_a_place_to_save_to_nothing_can_be_asked_to_last() {
    let a = association(&subsystem());
    assert_eq!(a.view().get(1).unwrap().description.reservations & 1, 0);
    let status = register(&a, 11, PersistenceChange::Set);
    assert_eq!(status, Err(Status::INVALID_FIELD.with_dnr(true)));
}

#[test]
fn a_release_frees_the_namespace() {
    let (one, two) = hosts();
    let release = ReservationRelease::Release(ReservationType::WriteExclusive);
    run(&one, &on_one(release.to_sqe()), &mut 11u64.to_le_bytes()).unwrap();
    run(&two, &write(0, 1), &mut [0; 512]).unwrap();
}

#[test]
fn a_release_may_come_with_as_much_data_as_linux_sends() {
    let (one, two) = hosts();
    let release = on_one(ReservationRelease::Release(ReservationType::WriteExclusive).to_sqe());
    for length in [0, 7, 9, 17, 4096] {
        refused(&one, &release, length, Status::DATA_SGL_LENGTH_INVALID);
    }
    run(&one, &release, &mut keys(11, 0)).unwrap();
    run(&two, &write(0, 1), &mut [0; 512]).unwrap();
}

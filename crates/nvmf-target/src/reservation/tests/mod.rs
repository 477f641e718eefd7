#![allow(unused_must_use, reason = "nobody is told of what happens in a test")]

use std::thread;

use nvme_spec::log::ReservationReport;
use nvme_spec::reservation::{
    AcquireAction, Notification, PersistenceChange, RegisterAction, ReservationType,
};
use nvme_spec::{Sqe, opcode::nvm};

use super::*;
use Notification::{RegistrationPreempted, ReservationPreempted, ReservationReleased};
use ReservationType::*;

mod model;
mod preempt;

const CONFLICT: Result<Changes, Status> = Err(Status::RESERVATION_CONFLICT.with_dnr(true));
const INVALID: Result<Changes, Status> = Err(Status::INVALID_FIELD.with_dnr(true));

/// Hosts have a number, and as key eleven times that number.
fn host(n: u8) -> HostId {
    HostId([n; 16])
}

fn key(n: u8) -> u64 {
    u64::from(n) * 11
}

impl Reservations {
    fn do_register(
        &self,
        n: u8,
        action: RegisterAction,
        ignore_key: bool,
        (crkey, nrkey): (u64, u64),
    ) -> Result<Changes, Status> {
        let command =
            ReservationRegister { action, ignore_key, persistence: PersistenceChange::Keep };
        let data = RegisterData { crkey: crkey.into(), nrkey: nrkey.into() };
        self.register(host(n), &command, &data)
    }

    fn do_acquire(
        &self,
        n: u8,
        action: AcquireAction,
        rtype: ReservationType,
        (crkey, prkey): (u64, u64),
    ) -> Result<Changes, Status> {
        let data = AcquireData { crkey: crkey.into(), prkey: prkey.into() };
        self.acquire(host(n), &ReservationAcquire { action, rtype }, &data)
    }

    fn do_release(
        &self,
        n: u8,
        command: ReservationRelease,
        crkey: u64,
    ) -> Result<Changes, Status> {
        self.release(host(n), &command, &ReleaseData { crkey: crkey.into() })
    }

    /// Host `n` registers with its key.
    fn join(&self, n: u8) -> Result<Changes, Status> {
        self.do_register(n, RegisterAction::Register, false, (0, key(n)))
    }

    /// Host `n`, with its key, gives its registration up.
    fn leave(&self, n: u8) -> Result<Changes, Status> {
        self.do_register(n, RegisterAction::Unregister, false, (key(n), 0))
    }

    /// Host `n`, with its key, acquires the reservation.
    fn take(&self, n: u8, rtype: ReservationType) -> Result<Changes, Status> {
        self.do_acquire(n, AcquireAction::Acquire, rtype, (key(n), 0))
    }

    /// Host `n`, with its key, preempts registrations with the key `prkey`.
    fn preempt(&self, n: u8, rtype: ReservationType, prkey: u64) -> Result<Changes, Status> {
        self.do_acquire(n, AcquireAction::Preempt, rtype, (key(n), prkey))
    }

    /// Host `n`, with its key, releases the reservation.
    fn give_back(&self, n: u8, rtype: ReservationType) -> Result<Changes, Status> {
        self.do_release(n, ReservationRelease::Release(rtype), key(n))
    }

    /// Host `n` registers, or changes its persistence with the same key again.
    fn join_with(&self, n: u8, persistence: PersistenceChange) -> Result<Changes, Status> {
        let command = ReservationRegister {
            action: RegisterAction::Register,
            ignore_key: false,
            persistence,
        };
        self.register(
            host(n),
            &command,
            &RegisterData { nrkey: key(n).into(), ..Default::default() },
        )
    }

    fn summary(&self) -> Summary {
        let report = self.report(&[]);
        let report = ReservationReport::parse(&report).unwrap();
        assert_eq!(usize::from(report.status.regctl.get()), report.controllers.len());
        Summary {
            generation: report.status.generation.get(),
            rtype: ReservationType::from_wire(report.status.rtype),
            registrants: report
                .controllers
                .iter()
                .map(|c| (c.hostid.0[0], c.rkey.get(), c.rcsts == 1))
                .collect(),
        }
    }
}

/// What a report says: registrants are their number, their key, whether they hold the reservation.
#[derive(PartialEq, Eq, Debug)]
struct Summary {
    generation: u32,
    rtype: Option<ReservationType>,
    registrants: Vec<(u8, u64, bool)>,
}

/// Hosts 1, 2 and 3 are registered, and host 1 has this reservation.
fn reserved(rtype: ReservationType) -> Reservations {
    let reservations = three();
    reservations.take(1, rtype).unwrap();
    reservations
}

/// Hosts 1, 2 and 3 are registered.
fn three() -> Reservations {
    let reservations = Reservations::new(true);
    for n in 1..=3 {
        assert_eq!(reservations.join(n), Ok(Changes::default()));
    }
    reservations
}

fn told(whom: &[(u8, Notification)]) -> Result<Changes, Status> {
    let notify = whom.iter().map(|(n, what)| (host(*n), *what)).collect();
    Ok(Changes { notify, ..Changes::default() })
}

#[test]
fn each_type_gives_access_as_the_table_of_the_specification_says() {
    // Holder, registrant and other host: each for reading and for writing.
    let table = [
        (WriteExclusive, [true, true, true, false, true, false]),
        (ExclusiveAccess, [true, true, false, false, false, false]),
        (WriteExclusiveRegistrants, [true, true, true, true, true, false]),
        (ExclusiveAccessRegistrants, [true, true, true, true, false, false]),
        (WriteExclusiveAll, [true, true, true, true, true, false]),
        (ExclusiveAccessAll, [true, true, true, true, false, false]),
    ];
    assert_eq!(table.map(|(rtype, _)| rtype), ReservationType::ALL);
    for (rtype, expected) in table {
        let reservations = reserved(rtype);
        let access = [(1, Access::Read), (1, Access::Write), (2, Access::Read)]
            .into_iter()
            .chain([(2, Access::Write), (9, Access::Read), (9, Access::Write)]);
        let found: Vec<bool> =
            access.map(|(n, access)| reservations.check(host(n), access).is_ok()).collect();
        assert_eq!(found, expected, "{rtype:?}");
    }
    let status = reserved(ExclusiveAccess).check(host(9), Access::Read).unwrap_err();
    assert!(status.same_code(Status::RESERVATION_CONFLICT));
}

#[test]
fn without_a_reservation_everyone_has_access() {
    for reservations in [Reservations::new(true), three()] {
        for n in [1, 9] {
            assert_eq!(reservations.check(host(n), Access::Read), Ok(()));
            assert_eq!(reservations.check(host(n), Access::Write), Ok(()));
        }
    }
    let reservations = reserved(ExclusiveAccess);
    reservations.give_back(1, ExclusiveAccess).unwrap();
    assert_eq!(reservations.check(host(9), Access::Write), Ok(()));
}

#[test]
fn commands_belong_to_the_groups_of_the_specification() {
    for opcode in 0..=u8::MAX {
        let expected = match opcode {
            nvm::READ | nvm::COMPARE | nvm::VERIFY => Some(Access::Read),
            nvm::WRITE | nvm::WRITE_ZEROES | nvm::WRITE_UNCORRECTABLE => Some(Access::Write),
            nvm::DATASET_MANAGEMENT | nvm::COPY | nvm::FLUSH => Some(Access::Write),
            _ => None,
        };
        assert_eq!(Access::of(opcode), expected, "{opcode:#x}");
    }
}

#[test]
fn a_key_may_be_registered_again_but_not_another() {
    let reservations = three();
    assert_eq!(reservations.join(1), Ok(Changes::default()));
    assert_eq!(reservations.do_register(1, RegisterAction::Register, false, (11, 12)), CONFLICT);
    // There is no current key to be ignored.
    assert_eq!(reservations.do_register(1, RegisterAction::Register, true, (11, 12)), CONFLICT);
    // Two hosts may have the same key.
    assert!(reservations.do_register(4, RegisterAction::Register, false, (0, 11)).is_ok());
    assert_eq!(reservations.summary().registrants[0], (1, 11, false));
    assert_eq!(reservations.summary().registrants[3], (4, 11, false));
}

#[test]
fn a_key_is_replaced_by_who_knows_it_or_ignores_it() {
    let reservations = reserved(WriteExclusive);
    let replace =
        |n, ignore, keys| reservations.do_register(n, RegisterAction::Replace, ignore, keys);
    assert_eq!(replace(1, false, (12, 99)), CONFLICT);
    assert_eq!(replace(1, false, (11, 99)), Ok(Changes::default()));
    assert_eq!(replace(2, true, (0, 98)), Ok(Changes::default()));
    assert_eq!(reservations.summary().registrants, [(1, 99, true), (2, 98, false), (3, 33, false)]);
    // Without a registration: an error, but for who ignores that too.
    assert_eq!(replace(4, false, (0, 97)), CONFLICT);
    assert_eq!(replace(4, true, (0, 97)), Ok(Changes::default()));
    assert_eq!(reservations.summary().registrants[3], (4, 97, false));
}

#[test]
fn a_registration_is_given_up_by_who_knows_the_key_or_ignores_it() {
    let reservations = three();
    let unregister = |n, ignore, crkey| {
        reservations.do_register(n, RegisterAction::Unregister, ignore, (crkey, 0))
    };
    assert_eq!(unregister(1, false, 12), CONFLICT);
    assert_eq!(unregister(1, false, 11), Ok(Changes::default()));
    assert_eq!(unregister(1, false, 11), CONFLICT);
    assert_eq!(unregister(2, true, 0), Ok(Changes::default()));
    assert_eq!(unregister(2, true, 0), Ok(Changes::default()));
    assert_eq!(reservations.summary().registrants, [(3, 33, false)]);
}

#[test]
fn a_holder_that_unregisters_releases_the_reservation() {
    for rtype in [WriteExclusive, ExclusiveAccess] {
        let reservations = reserved(rtype);
        assert_eq!(reservations.leave(1), Ok(Changes::default()), "{rtype:?}");
        assert_eq!(reservations.summary().rtype, None);
    }
    // Where registrants had a share in it, they are told.
    for rtype in [WriteExclusiveRegistrants, ExclusiveAccessRegistrants] {
        let reservations = reserved(rtype);
        assert_eq!(
            reservations.leave(1),
            told(&[(2, ReservationReleased), (3, ReservationReleased)]),
            "{rtype:?}"
        );
        assert_eq!(reservations.summary().rtype, None);
        assert_eq!(reservations.check(host(9), Access::Write), Ok(()));
    }
}

#[test]
fn another_registrant_that_unregisters_leaves_the_reservation() {
    for rtype in ReservationType::ALL {
        let reservations = reserved(rtype);
        assert_eq!(reservations.leave(2), Ok(Changes::default()));
        assert_eq!(reservations.summary().rtype, Some(rtype));
    }
}

#[test]
fn what_all_registrants_hold_ends_with_the_last_of_them() {
    for rtype in [WriteExclusiveAll, ExclusiveAccessAll] {
        let reservations = reserved(rtype);
        for n in [1, 3] {
            assert_eq!(reservations.leave(n), Ok(Changes::default()));
            assert_eq!(reservations.summary().rtype, Some(rtype));
        }
        assert_eq!(reservations.leave(2), Ok(Changes::default()));
        assert_eq!(reservations.summary().rtype, None);
        // Who comes next finds nothing held.
        reservations.join(4).unwrap();
        assert_eq!(reservations.summary().registrants, [(4, 44, false)]);
    }
}

#[test]
fn who_registers_becomes_a_holder_of_what_all_registrants_hold() {
    let reservations = reserved(ExclusiveAccessAll);
    assert!(reservations.check(host(4), Access::Read).is_err());
    reservations.join(4).unwrap();
    assert_eq!(reservations.check(host(4), Access::Write), Ok(()));
    assert_eq!(reservations.summary().registrants[3], (4, 44, true));
}

#[test]
fn only_registrants_acquire() {
    let reservations = three();
    assert_eq!(reservations.take(9, WriteExclusive), CONFLICT);
    let wrong_key = reservations.do_acquire(1, AcquireAction::Acquire, WriteExclusive, (22, 0));
    assert_eq!(wrong_key, CONFLICT);
    assert_eq!(reservations.summary().rtype, None);
}

#[test]
fn a_holder_may_acquire_the_same_again_and_no_other_type() {
    for rtype in ReservationType::ALL {
        let reservations = reserved(rtype);
        for again in ReservationType::ALL {
            let expected = if again == rtype { Ok(Changes::default()) } else { CONFLICT };
            assert_eq!(reservations.take(1, again), expected, "{rtype:?} {again:?}");
        }
        // The other registrants hold it if all do.
        let expected = if rtype.held_by_all() { Ok(Changes::default()) } else { CONFLICT };
        assert_eq!(reservations.take(2, rtype), expected, "{rtype:?}");
        assert_eq!(reservations.summary().rtype, Some(rtype));
    }
}

#[test]
fn a_holder_releases_and_registrants_are_told_if_it_concerns_them() {
    for rtype in ReservationType::ALL {
        let reservations = reserved(rtype);
        let expected = match rtype {
            WriteExclusive | ExclusiveAccess => Ok(Changes::default()),
            _ => told(&[(2, ReservationReleased), (3, ReservationReleased)]),
        };
        assert_eq!(reservations.give_back(1, rtype), expected, "{rtype:?}");
        assert_eq!(reservations.summary().rtype, None);
        assert_eq!(reservations.summary().registrants.len(), 3);
    }
}

#[test]
fn the_wrong_type_releases_nothing() {
    let reservations = reserved(WriteExclusive);
    assert_eq!(reservations.give_back(1, ExclusiveAccess), INVALID);
    assert_eq!(reservations.summary().rtype, Some(WriteExclusive));
}

#[test]
fn releasing_what_one_does_not_hold_succeeds_and_does_nothing() {
    let reservations = reserved(WriteExclusiveRegistrants);
    assert_eq!(reservations.give_back(2, WriteExclusiveRegistrants), Ok(Changes::default()));
    // Not even the type is looked at.
    assert_eq!(reservations.give_back(2, WriteExclusive), Ok(Changes::default()));
    assert_eq!(reservations.summary().rtype, Some(WriteExclusiveRegistrants));
    assert_eq!(three().give_back(1, WriteExclusive), Ok(Changes::default()));
    // Who is not registered, or has another key, may not even try.
    assert_eq!(reservations.give_back(9, WriteExclusiveRegistrants), CONFLICT);
    let release = ReservationRelease::Release(WriteExclusiveRegistrants);
    assert_eq!(reservations.do_release(1, release, 12), CONFLICT);
}

#[test]
fn any_holder_releases_what_all_registrants_hold() {
    let reservations = reserved(WriteExclusiveAll);
    assert_eq!(
        reservations.give_back(2, WriteExclusiveAll),
        told(&[(1, ReservationReleased), (3, ReservationReleased)])
    );
    assert_eq!(reservations.summary().rtype, None);
}

#[test]
fn clear_ends_reservation_and_registrations() {
    let reservations = reserved(ExclusiveAccess);
    assert_eq!(reservations.do_release(9, ReservationRelease::Clear, 0), CONFLICT);
    assert_eq!(reservations.do_release(2, ReservationRelease::Clear, 23), CONFLICT);
    assert_eq!(
        reservations.do_release(2, ReservationRelease::Clear, 22),
        told(&[(1, ReservationPreempted), (3, ReservationPreempted)])
    );
    assert_eq!(reservations.summary(), Summary { generation: 4, rtype: None, registrants: vec![] });
    assert_eq!(reservations.check(host(9), Access::Write), Ok(()));
}

#[test]
fn the_generation_counts_register_clear_and_preempt_if_they_succeed() {
    let reservations = Reservations::new(true);
    let counts = |by: u32, result: Result<Changes, Status>, before: &mut u32| {
        *before += by;
        assert_eq!(reservations.summary().generation, *before, "{result:?}");
    };
    let before = &mut 0;
    counts(1, reservations.join(1), before);
    counts(1, reservations.join(1), before);
    counts(1, reservations.join(2), before);
    counts(1, reservations.do_register(2, RegisterAction::Replace, false, (22, 22)), before);
    counts(0, reservations.do_register(2, RegisterAction::Replace, false, (23, 22)), before);
    counts(0, reservations.take(1, WriteExclusive), before);
    counts(0, reservations.take(2, WriteExclusive), before);
    counts(0, reservations.give_back(1, WriteExclusive), before);
    counts(0, reservations.preempt(1, WriteExclusive, 77), before);
    counts(1, reservations.preempt(1, WriteExclusive, 22), before);
    counts(1, reservations.do_register(7, RegisterAction::Unregister, true, (0, 0)), before);
    counts(0, reservations.set_persistence(true), before);
    counts(1, reservations.do_release(1, ReservationRelease::Clear, 11), before);
}

#[test]
fn the_generation_wraps() {
    let text = r#"{"generation":4294967295,"registrants":[]}"#;
    let reservations = Reservations::restore(serde_json::from_str(text).unwrap()).unwrap();
    reservations.join(1).unwrap();
    assert_eq!(reservations.summary().generation, 0);
}

#[test]
fn a_namespace_takes_only_so_many_registrants() {
    let reservations = Reservations::new(true);
    let id = |n: usize| HostId((n as u128 + 1).to_le_bytes());
    let register = |n, action| {
        let command =
            ReservationRegister { action, ignore_key: true, persistence: PersistenceChange::Keep };
        reservations.register(id(n), &command, &RegisterData::default())
    };
    for n in 0..crate::limits::REGISTRANTS {
        assert!(register(n, RegisterAction::Register).is_ok());
    }
    let full = crate::limits::REGISTRANTS;
    for action in [RegisterAction::Register, RegisterAction::Replace] {
        assert_eq!(register(full, action), Err(Status::NOT_ENOUGH_RESOURCES));
    }
    // Those that are there are not in the way of themselves, and who goes makes room.
    assert!(register(0, RegisterAction::Replace).is_ok());
    assert!(register(1, RegisterAction::Unregister).is_ok());
    assert!(register(full, RegisterAction::Register).is_ok());
    assert_eq!(reservations.report(&[]).len(), 64 + full * 64);
}

#[test]
fn a_report_has_an_entry_for_each_controller_of_a_registrant() {
    let reservations = reserved(ExclusiveAccess);
    reservations.set_persistence(true).unwrap();
    // Host 1 has two controllers, host 2 one, host 3 none; host 9 is not registered.
    let controllers = [(host(1), 5), (host(9), 6), (host(2), 7), (host(1), 8)];
    let bytes = reservations.report(&controllers);
    assert_eq!(bytes.len(), 64 + 4 * 64);
    assert_eq!(bytes[..10], [3, 0, 0, 0, 2, 4, 0, 0, 0, 1]);
    assert_eq!(
        bytes[64..88],
        [5, 0, 1, 0, 0, 0, 0, 0, 11, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1]
    );
    let report = ReservationReport::parse(&bytes).unwrap();
    let found: Vec<_> = report
        .controllers
        .iter()
        .map(|c| (c.hostid.0[0], c.cntlid.get(), c.rcsts, c.rkey.get()))
        .collect();
    assert_eq!(found, [(1, 5, 1, 11), (1, 8, 1, 11), (2, 7, 0, 22), (3, 0xffff, 0, 33)]);
}

#[test]
fn persistence_is_changed_by_register_and_by_the_feature() {
    let reservations = Reservations::new(true);
    assert_eq!(reservations.saved(), None);
    let saves = |changes: Result<Changes, Status>| changes.unwrap().save;
    assert!(!saves(reservations.join_with(1, PersistenceChange::Keep)));
    assert!(saves(reservations.join_with(1, PersistenceChange::Set)));
    assert!(reservations.persistence() && reservations.saved().is_some());
    // From here on each change is to be saved, and nothing that is none.
    assert!(saves(reservations.join(2)));
    assert!(saves(reservations.take(1, WriteExclusive)));
    assert!(!saves(reservations.take(1, WriteExclusive)));
    assert!(!saves(reservations.give_back(2, WriteExclusive)));
    assert!(!saves(reservations.set_persistence(true)));
    // What was saved is not true any more.
    assert!(saves(reservations.join_with(1, PersistenceChange::Clear)));
    assert!(!reservations.persistence() && reservations.saved().is_none());
    assert!(saves(reservations.set_persistence(true)));
    assert!(saves(reservations.set_persistence(false)));
    assert!(!saves(reservations.leave(1)));
}

#[test]
fn without_a_place_to_save_to_nothing_persists() {
    let reservations = Reservations::new(false);
    assert_eq!(reservations.join_with(1, PersistenceChange::Set), INVALID);
    assert_eq!(reservations.set_persistence(true), INVALID);
    let nothing = Summary { generation: 0, rtype: None, registrants: vec![] };
    assert_eq!(reservations.summary(), nothing);
    assert!(reservations.join_with(1, PersistenceChange::Clear).is_ok());
    assert!(reservations.set_persistence(false).is_ok());
}

#[test]
fn what_is_restored_is_in_force_at_once() {
    let before = reserved(ExclusiveAccess);
    before.set_persistence(true).unwrap();
    let after = Reservations::restore(before.saved().unwrap()).unwrap();
    assert_eq!(after.summary(), before.summary());
    assert!(after.check(host(2), Access::Read).is_err());
    assert_eq!(after.check(host(1), Access::Write), Ok(()));
    assert!(after.persistence());
}

#[test]
fn a_command_of_the_wire_goes_through_to_the_report() {
    let mut sqe = Sqe::new(nvm::RESERVATION_REGISTER);
    sqe.set_cdw(10, 0xc000_0000);
    let command = ReservationRegister::from_sqe(&sqe).unwrap();
    let reservations = Reservations::new(true);
    let data = RegisterData { nrkey: 5.into(), ..Default::default() };
    assert!(reservations.register(host(1), &command, &data).unwrap().save);
    sqe.set_cdw(10, 0x0600);
    let command = ReservationAcquire::from_sqe(&sqe).unwrap();
    let data = AcquireData { crkey: 5.into(), ..Default::default() };
    reservations.acquire(host(1), &command, &data).unwrap();
    assert_eq!(reservations.summary().rtype, Some(ExclusiveAccessAll));
}

#[test]
fn while_two_hosts_fight_one_at_a_time_may_write() {
    let reservations = Reservations::new(true);
    reservations.join(1).unwrap();
    reservations.join(2).unwrap();
    let fight = |n: u8| {
        let mut won = 0;
        for _ in 0..2000 {
            match reservations.take(n, ExclusiveAccess) {
                Ok(_) => {
                    // Nobody but the holder ends this, so that it is true until then.
                    assert_eq!(reservations.check(host(n), Access::Write), Ok(()));
                    assert!(reservations.check(host(3 - n), Access::Read).is_err());
                    reservations.give_back(n, ExclusiveAccess).unwrap();
                    won += 1;
                }
                Err(status) => assert!(status.same_code(Status::RESERVATION_CONFLICT)),
            }
        }
        won
    };
    let won: u32 = thread::scope(|scope| {
        let other = scope.spawn(|| fight(2));
        fight(1) + other.join().unwrap()
    });
    assert!(won > 0);
    assert_eq!(reservations.summary().rtype, None);
    assert_eq!(reservations.check(host(9), Access::Write), Ok(()));
}

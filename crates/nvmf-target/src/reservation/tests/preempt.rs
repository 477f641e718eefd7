//! Preempt, and Preempt and Abort.

use super::*;

#[test]
fn only_registrants_preempt() {
    let reservations = reserved(WriteExclusive);
    assert_eq!(reservations.preempt(9, WriteExclusive, 11), CONFLICT);
    let wrong_key = reservations.do_acquire(2, AcquireAction::Preempt, WriteExclusive, (23, 11));
    assert_eq!(wrong_key, CONFLICT);
    assert_eq!(reservations.summary().registrants.len(), 3);
}

#[test]
fn preempting_the_holder_takes_the_reservation_over_with_the_new_type() {
    for old in
        [WriteExclusive, ExclusiveAccess, WriteExclusiveRegistrants, ExclusiveAccessRegistrants]
    {
        for new in ReservationType::ALL {
            let reservations = reserved(old);
            // Those that stay are told only of a change of the type.
            let expected = match old == new {
                true => told(&[(1, RegistrationPreempted)]),
                false => told(&[(1, RegistrationPreempted), (3, ReservationReleased)]),
            };
            assert_eq!(reservations.preempt(2, new, 11), expected, "{old:?} {new:?}");
            assert_eq!(
                reservations.summary(),
                Summary {
                    generation: 4,
                    rtype: Some(new),
                    registrants: vec![(2, 22, true), (3, 33, new.held_by_all())],
                }
            );
            assert!(reservations.check(host(1), Access::Write).is_err());
        }
    }
}

#[test]
fn preempting_another_registrant_leaves_the_reservation() {
    for rtype in ReservationType::ALL {
        let reservations = reserved(rtype);
        assert_eq!(
            reservations.preempt(2, ExclusiveAccess, 33),
            told(&[(3, RegistrationPreempted)]),
            "{rtype:?}"
        );
        assert_eq!(
            reservations.summary(),
            Summary {
                generation: 4,
                rtype: Some(rtype),
                registrants: vec![(1, 11, true), (2, 22, rtype.held_by_all())],
            }
        );
    }
}

#[test]
fn a_key_that_nobody_has_preempts_nobody() {
    for reservations in [three(), reserved(WriteExclusive), reserved(WriteExclusiveAll)] {
        assert_eq!(reservations.preempt(2, WriteExclusive, 77), CONFLICT);
        assert_eq!(reservations.summary().registrants.len(), 3);
    }
}

#[test]
fn without_a_reservation_preempt_only_unregisters() {
    let reservations = three();
    reservations.do_register(4, RegisterAction::Register, false, (0, 33)).unwrap();
    assert_eq!(
        reservations.preempt(1, ExclusiveAccess, 33),
        told(&[(3, RegistrationPreempted), (4, RegistrationPreempted)])
    );
    assert_eq!(
        reservations.summary(),
        Summary { generation: 5, rtype: None, registrants: vec![(1, 11, false), (2, 22, false)] }
    );
}

#[test]
fn key_zero_preempts_all_others_where_all_registrants_hold() {
    for old in [WriteExclusiveAll, ExclusiveAccessAll] {
        for new in ReservationType::ALL {
            let reservations = reserved(old);
            assert_eq!(
                reservations.preempt(2, new, 0),
                told(&[(1, RegistrationPreempted), (3, RegistrationPreempted)])
            );
            assert_eq!(
                reservations.summary(),
                Summary { generation: 4, rtype: Some(new), registrants: vec![(2, 22, true)] }
            );
        }
    }
}

#[test]
fn key_zero_is_an_error_where_one_host_holds() {
    let reservations = reserved(WriteExclusiveRegistrants);
    assert_eq!(reservations.preempt(2, WriteExclusive, 0), INVALID);
    // Even for a registrant that has it as key; but not if that is the holder.
    reservations.do_register(3, RegisterAction::Replace, true, (0, 0)).unwrap();
    assert_eq!(reservations.preempt(2, WriteExclusive, 0), INVALID);
    reservations.do_register(1, RegisterAction::Replace, true, (0, 0)).unwrap();
    assert_eq!(
        reservations.preempt(2, WriteExclusiveRegistrants, 0),
        told(&[(1, RegistrationPreempted), (3, RegistrationPreempted)])
    );
    // Without a reservation it is a key like any other.
    assert_eq!(three().preempt(2, WriteExclusive, 0), CONFLICT);
}

#[test]
fn a_holder_that_preempts_itself_changes_the_type() {
    let reservations = reserved(WriteExclusive);
    reservations.do_register(3, RegisterAction::Replace, true, (0, 11)).unwrap();
    assert_eq!(
        reservations.preempt(1, ExclusiveAccessRegistrants, 11),
        told(&[(3, RegistrationPreempted), (2, ReservationReleased)])
    );
    assert_eq!(reservations.summary().registrants, [(1, 11, true), (2, 22, false)]);
    assert_eq!(reservations.summary().rtype, Some(ExclusiveAccessRegistrants));
}

#[test]
fn who_preempts_its_own_key_and_holds_nothing_unregisters() {
    for reservations in [three(), reserved(WriteExclusive), reserved(WriteExclusiveAll)] {
        let rtype = reservations.summary().rtype;
        assert_eq!(reservations.preempt(2, ExclusiveAccess, 22), Ok(Changes::default()));
        assert_eq!(reservations.summary().registrants.len(), 2);
        assert_eq!(reservations.summary().rtype, rtype);
    }
}

#[test]
fn the_last_registrant_that_preempts_itself_ends_what_all_hold() {
    let reservations = Reservations::new(true);
    reservations.join(1).unwrap();
    reservations.take(1, ExclusiveAccessAll).unwrap();
    assert_eq!(reservations.preempt(1, ExclusiveAccessAll, 11), Ok(Changes::default()));
    assert_eq!(reservations.summary().rtype, None);
    assert_eq!(reservations.check(host(9), Access::Write), Ok(()));
}

#[test]
fn preempt_and_abort_names_the_hosts_whose_commands_end() {
    let reservations = reserved(WriteExclusive);
    reservations.do_register(3, RegisterAction::Replace, true, (0, 11)).unwrap();
    let changes = reservations
        .do_acquire(2, AcquireAction::PreemptAndAbort, ExclusiveAccess, (22, 11))
        .unwrap();
    assert_eq!(changes.abort, [host(1), host(3)]);
    assert_eq!(
        changes.notify,
        [(host(1), RegistrationPreempted), (host(3), RegistrationPreempted)]
    );
    // Those that only hear of the new type, and the host itself, go on.
    let reservations = reserved(WriteExclusive);
    let abort = |n: u8, prkey| {
        reservations
            .do_acquire(n, AcquireAction::PreemptAndAbort, ExclusiveAccess, (key(n), prkey))
            .unwrap()
            .abort
    };
    assert_eq!(abort(2, 11), [host(1)]);
    assert_eq!(abort(3, 33), []);
}

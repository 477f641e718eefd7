use super::*;
use crate::testing::{association, subsystem};
use std::sync::mpsc;
use std::thread;

fn refused(result: Result<IoQueue, Refusal>) -> Refusal {
    result.map(|_| ()).unwrap_err()
}

#[test]
fn io_queues_join_an_enabled_controller_only() {
    let association = association(&subsystem());
    let not_yet = Refusal::Status(Status::COMMAND_SEQUENCE_ERROR);
    assert_eq!(refused(association.join(1, || ())), not_yet);
    association.enable();
    let queue = association.join(1, || ()).unwrap();
    assert_eq!(queue.qid(), 1);
    association.end();
    assert_eq!(refused(association.join(2, || ())), not_yet);
}

#[test]
fn a_queue_identifier_is_taken_once_and_free_again_afterwards() {
    let association = association(&subsystem());
    association.enable();
    let queue = association.join(1, || ()).unwrap();
    let taken = Refusal::Status(Status::COMMAND_SEQUENCE_ERROR);
    assert_eq!(refused(association.join(1, || ())), taken);
    drop(queue);
    assert!(association.join(1, || ()).is_ok());
}

#[test]
fn queue_identifiers_end_at_what_was_granted() {
    let association = association(&subsystem());
    association.enable();
    assert_eq!(association.grant(2), Some(2));
    assert!(association.join(2, || ()).is_ok());
    let refusal = refused(association.join(3, || ()));
    assert!(matches!(refusal, Refusal::Invalid { parameter, .. }
            if !parameter.in_data && parameter.offset == 42));
}

#[test]
fn the_grant_is_capped_and_settled_by_the_first_queue() {
    let association = association(&subsystem());
    association.enable();
    assert_eq!(association.grant(65_535), Some(association.subsystem().max_io_queues()));
    let queue = association.join(1, || ()).unwrap();
    assert_eq!(association.grant(1), None);
    drop(queue);
    assert_eq!(association.grant(1), Some(1));
}

#[test]
fn a_reset_stops_the_queues_and_waits_for_them() {
    let association = association(&subsystem());
    association.enable();
    let (stop, stopped) = mpsc::channel();
    let queue = association.join(1, move || stop.send(()).unwrap()).unwrap();
    let thread = thread::spawn(move || {
        stopped.recv().unwrap();
        drop(queue);
    });
    assert!(association.reset(Duration::from_secs(30)));
    thread.join().unwrap();
    assert!(association.join(1, || ()).is_err(), "disabled again");
}

#[test]
fn a_reset_says_so_when_a_queue_does_not_end() {
    let association = association(&subsystem());
    association.enable();
    let _queue = association.join(1, || ()).unwrap();
    assert!(!association.reset(Duration::from_millis(10)));
}

#[test]
fn who_waits_for_the_queues_to_end_is_called_when_the_last_one_does() {
    let association = association(&subsystem());
    let (told, wait) = mpsc::channel();
    let tell = |n: u8| {
        let told = told.clone();
        move || told.send(n).unwrap()
    };
    association.when_idle(tell(1));
    assert_eq!(wait.try_recv(), Ok(1), "there is none");
    association.enable();
    let (one, two) = (association.join(1, || ()).unwrap(), association.join(2, || ()).unwrap());
    association.when_idle(tell(2));
    drop(one);
    assert!(wait.try_recv().is_err() && !association.is_idle());
    drop(two);
    assert_eq!(wait.try_recv(), Ok(2));
    assert!(association.is_idle());
}

#[test]
fn commands_of_queues_that_ended_are_not_forgotten() {
    let association = association(&subsystem());
    association.enable();
    let queue = association.join(1, || ()).unwrap();
    queue.counters().command();
    queue.counters().command();
    assert_eq!(association.io_commands(), 2);
    drop(queue);
    assert_eq!(association.io_commands(), 2);
}

#[test]
fn the_controller_identifier_stays_taken_until_the_last_queue_is_gone() {
    let subsystem = subsystem();
    let association = association(&subsystem);
    association.enable();
    let queue = association.join(1, || ()).unwrap();
    association.end();
    drop(association);
    assert_eq!(subsystem.controller_ids(), [1]);
    drop(queue);
    assert!(subsystem.controller_ids().is_empty());
}

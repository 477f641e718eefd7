//! Lies on the admin queue of a path that is there.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nvmf::spec::Status;
use nvmf::spec::event::Event as AsyncEvent;
use nvmf::spec::identify::cns;
use nvmf::spec::log::lid;
use nvmf::spec::opcode::admin;
use nvmf::spec::pdu::kind;
use nvmf::spec::property::offset;

use crate::liar::{Liar, Lie, Seen, Then, lie, response, silence, status, term_req};
use crate::target::wait_until;
use crate::trial::{self, by, idle};

/// An Asynchronous Event Request on its way to the target.
fn asks_for_events(seen: &Seen) -> bool {
    !seen.to_host && seen.admin(admin::ASYNC_EVENT_REQUEST)
}

/// The answer to one.
fn event(cid: u16, event: AsyncEvent) -> Vec<u8> {
    let mut pdu = response(cid, Status::SUCCESS);
    pdu[8..12].copy_from_slice(&event.to_dw0().to_le_bytes());
    pdu
}

/// Tells an event once the path is there, and lies as `change` says in what the host looks at then.
fn after_an_event(
    told: AsyncEvent,
    change: impl Fn(&Seen, Vec<u8>) -> Vec<u8> + Send + Sync + 'static,
) -> Lie {
    let events = AtomicUsize::new(0);
    lie(move |seen, pdu| {
        if asks_for_events(seen) && events.fetch_add(1, Ordering::SeqCst).is_multiple_of(4) {
            return Then::Back(event(seen.cid(), told));
        }
        // Before any event, connecting has to succeed.
        let lies = seen.to_host && events.load(Ordering::SeqCst) > 0;
        Then::On(if lies { change(seen, pdu) } else { pdu })
    })
}

#[test]
fn a_keep_alive_that_fails_ends_the_path() {
    let failed = status(|seen| seen.admin(admin::KEEP_ALIVE), Status::INVALID_OPCODE);
    idle("Keep Alive failed: Invalid Command Opcode", failed);
}

#[test]
fn a_keep_alive_that_is_never_answered_ends_the_path() {
    let silent = silence(|seen| seen.admin(admin::KEEP_ALIVE));
    idle("lost: admin queue: no answer within the time given", silent);
}

#[test]
fn a_controller_that_ends_the_admin_connection_is_quoted() {
    let ends = lie(|seen, pdu| match asks_for_events(seen) {
        true => Then::Back(term_req()),
        false => Then::On(pdu),
    });
    idle("admin queue: the peer ended the connection", ends);
}

#[test]
fn events_without_end_are_taken_slowly() {
    for told in [AsyncEvent::NAMESPACE_ATTRIBUTE_CHANGED, AsyncEvent::ANA_CHANGE] {
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&asked);
        let storm = lie(move |seen, pdu| match asks_for_events(seen) {
            true => {
                counted.fetch_add(1, Ordering::SeqCst);
                Then::Back(event(seen.cid(), told))
            }
            false => Then::On(pdu),
        });
        let target = trial::target();
        let liar = Liar::start(target.addresses[0], storm);
        // With no other path, all I/O goes beside the events.
        let disk = by(&[liar.address]).connect().unwrap();
        let events = disk.events();
        let start = Instant::now();
        while start.elapsed() < 3 * trial::STEP {
            trial::works(&disk);
        }
        let (asked, time) = (asked.load(Ordering::SeqCst), start.elapsed().as_secs_f64());
        assert!(asked > 64, "{asked}: no storm at all");
        // 64 a second, and those of a second that had begun.
        assert!((asked as f64) < 64. * (time + 2.), "{asked} in {time} s");
        assert_eq!(trial::live(&disk), 1);
        let said = events.try_iter().filter(|e| e.to_string().contains("events all the time"));
        assert_eq!(said.count(), 1, "it is said once");
    }
}

#[test]
fn an_ana_log_that_makes_no_sense_after_an_event_ends_the_path() {
    let nonsense = after_an_event(AsyncEvent::ANA_CHANGE, |seen, mut pdu| {
        if seen.log(lid::ANA) && seen.kind == kind::C2H_DATA {
            pdu[24 + 32] = 9;
        }
        pdu
    });
    idle("the ANA log page makes no sense: group 1 is in state 0x9", nonsense);
}

#[test]
fn an_ana_log_that_cannot_be_read_ends_the_path() {
    let refused = after_an_event(AsyncEvent::ANA_CHANGE, |seen, pdu| {
        if seen.log(lid::ANA) { response(seen.cid(), Status::INVALID_FIELD) } else { pdu }
    });
    idle("the ANA log page cannot be read: Invalid Field", refused);
}

#[test]
fn a_size_that_cannot_be_after_an_event_ends_the_path() {
    let vast = after_an_event(AsyncEvent::NAMESPACE_ATTRIBUTE_CHANGED, |seen, mut pdu| {
        if seen.identify(cns::NAMESPACE) && seen.kind == kind::C2H_DATA {
            pdu[24..32].fill(0xff);
        }
        pdu
    });
    idle("Identify Namespace makes no sense: 18446744073709551615 blocks", vast);
}

/// Another UUID, or whatever comes first among the descriptors.
fn other_identifiers(pdu: &mut [u8]) {
    pdu[24 + 4] ^= 0xff;
}

#[test]
fn identifiers_that_change_after_an_event_end_the_path() {
    let other = after_an_event(AsyncEvent::NAMESPACE_ATTRIBUTE_CHANGED, |seen, mut pdu| {
        if seen.identify(cns::NAMESPACE_DESCRIPTORS) && seen.kind == kind::C2H_DATA {
            other_identifiers(&mut pdu);
        }
        pdu
    });
    idle("it is another namespace: its identifiers differ", other);
}

#[test]
fn identifiers_that_change_when_it_is_connected_again_keep_the_path_out() {
    let times = AtomicUsize::new(0);
    let other = lie(move |seen, mut pdu| {
        let descriptors = seen.identify(cns::NAMESPACE_DESCRIPTORS) && seen.kind == kind::C2H_DATA;
        if seen.to_host && descriptors && times.fetch_add(1, Ordering::SeqCst) > 0 {
            other_identifiers(&mut pdu);
        }
        Then::On(pdu)
    });
    let target = trial::target();
    let liar = Liar::start(target.addresses[0], other);
    let disk = by(&[liar.address, target.addresses[1]]).connect().unwrap();
    wait_until("both paths", || trial::live(&disk) == 2);
    let events = disk.events();
    liar.cut();
    trial::told(&events, liar.address, "it is another namespace: its identifiers differ");
    trial::works(&disk);
    assert_eq!(trial::live(&disk), 1);
}

#[test]
fn a_shutdown_that_is_never_answered_does_not_hold_who_closes() {
    let silent = silence(|seen| seen.set(offset::CC) && SHUTS.load(Ordering::SeqCst) > 0);
    let target = trial::target();
    let liar = Liar::start(target.addresses[0], silent);
    let disk = by(&[liar.address]).connect().unwrap();
    SHUTS.store(1, Ordering::SeqCst);
    let start = Instant::now();
    disk.close();
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

/// Whether answers to CC are kept back; of the one test that does so.
static SHUTS: AtomicUsize = AtomicUsize::new(0);

#[test]
fn closing_while_a_path_is_silent_ends_soon() {
    let target = trial::target();
    let liar = Liar::start(target.addresses[0], silence(|seen| seen.kind == kind::IC_RESP));
    let disk = by(&[liar.address, target.addresses[1]]).connect().unwrap();
    thread::sleep(Duration::from_millis(100));
    let start = Instant::now();
    disk.close();
    assert!(start.elapsed() < 3 * trial::STEP, "{:?}", start.elapsed());
}

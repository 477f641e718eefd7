//! What a whole session consists of: properties, keep-alive, Disconnect.

use std::time::Duration;

use nvme_spec::fabrics::{Disconnect, PropertyGet, PropertySet};
use nvme_spec::property::{Cc, offset};
use nvme_spec::{Sqe, Status, opcode};
use nvmf_proto::keep_alive::{Reminder, Watch};

use crate::host_app::Op;
use crate::pair::{Pair, Setup};

fn get(pair: &mut Pair, at: u32, wide: bool) -> Result<u64, Status> {
    let cqe = pair.exchange(PropertyGet::new(at, wide).to_sqe(), Vec::new()).cqe;
    if cqe.status().is_success() { Ok(cqe.result()) } else { Err(cqe.status()) }
}

fn set(pair: &mut Pair, at: u32, value: u64) -> Status {
    pair.exchange(PropertySet::new(at, value, false).to_sqe(), Vec::new()).cqe.status()
}

#[test]
fn a_controller_is_enabled_and_shut_down_by_property_commands() {
    let mut pair = Pair::connected(Setup { delay_us: 200, ..Setup::default() });
    assert_eq!(get(&mut pair, offset::CAP, true), Ok(0x20_1e01_007f));
    assert_eq!(get(&mut pair, offset::CSTS, false), Ok(0));
    assert!(set(&mut pair, offset::CC, Cc::ENABLE.0.into()).is_success());
    assert_eq!(get(&mut pair, offset::CSTS, false), Ok(1), "RDY");
    assert!(set(&mut pair, offset::CC, Cc::ENABLE.with_shn(1).0.into()).is_success());
    assert_eq!(get(&mut pair, offset::CSTS, false), Ok(0b0101), "shutdown occurring");
    pair.target.registers.shutdown_complete();
    assert_eq!(get(&mut pair, offset::CSTS, false), Ok(0b1001), "shutdown complete");
    pair.assert_idle();
}

#[test]
fn a_property_that_is_not_there_is_an_invalid_field() {
    let mut pair = Pair::connected(Setup::default());
    let invalid = Status::INVALID_FIELD.with_dnr(true);
    assert_eq!(get(&mut pair, 0x40, false), Err(invalid));
    assert_eq!(get(&mut pair, offset::CAP, false), Err(invalid), "half of it");
    assert_eq!(set(&mut pair, offset::CSTS, 0), invalid, "read-only");
    assert!(pair.operate(Op::Flush).cqe.status().is_success());
}

#[test]
fn disconnect_is_a_command_like_any_other_and_leaves_nothing_behind() {
    let mut pair = Pair::connected(Setup::default());
    pair.operate(Op::Write { region: 1, length: 100_000 });
    let bye = pair.exchange(Disconnect::new().to_sqe(), Vec::new());
    assert!(bye.cqe.status().is_success() && pair.target.disconnected);
    assert!(!pair.host.host.has_ended() && !pair.target.controller.has_ended());
    pair.assert_idle();
}

/// Lets a session with keep-alive go on for `length`. The host is silent but for Keep Alive, and
/// stops even that after `silent_from`. Returns when the controller gave it up.
fn keep_alive(
    kato_ms: u32,
    delay_ms: u64,
    silent_from: Duration,
    length: Duration,
) -> Option<Duration> {
    let mut pair = Pair::connected(Setup { delay_us: delay_ms * 1000, ..Setup::default() });
    let start = pair.now;
    let mut reminder = Reminder::new(kato_ms, true, start);
    let mut watch = Watch::new(kato_ms, Duration::from_millis(100), true, start);
    while pair.now < start + length {
        let before = pair.target.commands;
        if !pair.step() {
            // Nobody has anything to do before one of the timers.
            let timers = [reminder.due(), watch.deadline()].into_iter().flatten();
            let silence = pair.now + Duration::from_millis(1);
            pair.now = timers.filter(|at| *at > pair.now).min().unwrap_or(silence);
        }
        if pair.target.commands > before {
            watch.keep_alive(pair.now);
        }
        if watch.has_expired(pair.now) {
            return Some(pair.now - start);
        }
        if reminder.is_due(pair.now) && pair.now < start + silent_from {
            let sqe = Sqe::new(opcode::admin::KEEP_ALIVE);
            pair.host.submit(sqe, nvmf_proto::tcp::Transfer::None, Vec::new()).unwrap();
            reminder.sent(pair.now);
        }
    }
    None
}

#[test]
fn keep_alive_holds_an_idle_association_for_hours() {
    let hours = Duration::from_secs(3 * 3600);
    assert_eq!(keep_alive(15_000, 0, hours, hours), None);
    assert_eq!(keep_alive(15_000, 900, hours, hours), None, "over a slow network");
}

#[test]
fn a_host_that_falls_silent_is_given_up_within_its_timeout() {
    let minute = Duration::from_secs(60);
    let given_up = keep_alive(10_000, 0, minute, 3 * minute).unwrap();
    assert!(given_up > minute && given_up <= minute + Duration::from_secs(10), "{given_up:?}");
}

#[test]
fn a_network_slower_than_the_timeout_costs_the_association() {
    let hour = Duration::from_secs(3600);
    assert!(keep_alive(1_000, 5_000, hour, hour).is_some());
}

#[test]
fn without_a_timeout_silence_is_endless() {
    let day = Duration::from_secs(5);
    assert_eq!(keep_alive(0, 0, Duration::ZERO, day), None);
}

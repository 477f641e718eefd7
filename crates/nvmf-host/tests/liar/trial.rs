//! What is expected of a host whose target lies: alone with it, and with an honest path beside it.

use std::net::SocketAddr;
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::{Duration, Instant};

use nvmf::host::HostOptions;
use nvmf::spec::{HostId, Nqn};
use nvmf_host::{Event, IoError, Namespace, NamespaceBuilder, PathState};

use crate::liar::{Liar, Lie};
use crate::target::{NSID, Running, nqn, pattern, wait_until};

/// The limit of each step of connecting, and of each command.
pub(crate) const STEP: Duration = Duration::from_secs(1);
/// Nothing lasts longer, whatever the target does.
const LIMIT: Duration = Duration::from_secs(10);
/// All tests together, which run in this process, hold less at any time.
const MEMORY: u64 = 400 << 20;

pub(crate) fn target() -> Running {
    Running::start("mem:4M", 2)
}

/// A host that has these paths, and does not wait long for anything.
pub(crate) fn by(addresses: &[SocketAddr]) -> NamespaceBuilder {
    asking(addresses, |_| ())
}

/// The same with data digests.
pub(crate) fn with_data_digests(addresses: &[SocketAddr]) -> NamespaceBuilder {
    asking(addresses, |options| options.data_digest = true)
}

/// The same with header digests.
pub(crate) fn with_header_digests(addresses: &[SocketAddr]) -> NamespaceBuilder {
    asking(addresses, |options| options.header_digest = true)
}

/// The same with flow control.
pub(crate) fn with_flow_control(addresses: &[SocketAddr]) -> NamespaceBuilder {
    asking(addresses, |options| options.disable_flow_control = false)
}

fn asking(addresses: &[SocketAddr], ask: fn(&mut HostOptions)) -> NamespaceBuilder {
    let host = Nqn::parse_strict("nqn.2026-01.org.example:host").unwrap();
    let mut options = HostOptions::new(host, HostId([7; 16]));
    options.timeout = STEP;
    ask(&mut options);
    let mut builder = Namespace::builder(nqn(), NSID, options)
        .keep_alive(2 * STEP)
        .io_timeout(STEP)
        .reconnect_delay(Duration::from_millis(200))
        .deadline(3 * STEP);
    for address in addresses {
        builder = builder.path(address.to_string());
    }
    builder
}

/// A lie for which there is no connecting: alone that is the error, and beside an honest path an
/// event says so.
#[track_caller]
pub(crate) fn connecting(says: &str, lie: Lie) {
    let target = target();
    // Two liars, so that each counts its own connections; most of the time is waiting.
    let liars = [lie.clone(), lie].map(|lie| Liar::start(target.addresses[0], lie));
    thread::scope(|scope| {
        scope.spawn(|| never_connects(liars[0].address, says));
        never_connects_beside(liars[1].address, target.addresses[1], says);
    });
}

/// The same for whatever is at this address.
#[track_caller]
pub(crate) fn never_connects(liar: SocketAddr, says: &str) {
    let start = Instant::now();
    let error = by(&[liar]).connect().unwrap_err().to_string();
    assert!(error.contains(says), "{error}");
    assert!(start.elapsed() < LIMIT, "{:?}: {error}", start.elapsed());
}

#[track_caller]
pub(crate) fn never_connects_beside(liar: SocketAddr, honest: SocketAddr, says: &str) {
    let disk = by(&[liar, honest]).connect().unwrap();
    let events = disk.events();
    works(&disk);
    told(&events, liar, says);
    assert_eq!(live(&disk), 1);
    little_memory();
}

/// A lie that ends a path once something is read: alone that is why nothing is read, and beside an
/// honest path work goes on.
#[track_caller]
pub(crate) fn reading(says: &str, lie: Lie) {
    moving(says, lie, by, read);
}

pub(crate) fn read(disk: &Namespace) -> Result<(), IoError> {
    disk.read_bytes_at(4096, 8192).map(|_| ())
}

/// The same for writing what does not fit into a capsule.
#[track_caller]
pub(crate) fn writing(says: &str, lie: Lie) {
    moving(says, lie, by, |disk| disk.write_at(&[1; 128 << 10], 0));
}

#[track_caller]
pub(crate) fn moving(
    says: &str,
    lie: Lie,
    builder: fn(&[SocketAddr]) -> NamespaceBuilder,
    operation: fn(&Namespace) -> Result<(), IoError>,
) {
    let target = target();
    let liars = [lie.clone(), lie].map(|lie| Liar::start(target.addresses[0], lie));
    thread::scope(|scope| {
        scope.spawn(|| {
            let builder = builder(&[liars[0].address]).deadline(STEP * 3 / 2);
            let disk = builder.connect().unwrap();
            let start = Instant::now();
            let error = operation(&disk).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
            assert!(start.elapsed() < LIMIT, "{:?}: {error}", start.elapsed());
        });
        let liar = liars[1].address;
        let disk = builder(&[liar, target.addresses[1]]).connect().unwrap();
        let events = disk.events();
        wait_until("both paths", || live(&disk) == 2);
        // Each path's turn comes.
        for _ in 0..2 {
            operation(&disk).unwrap();
        }
        told(&events, liar, says);
        works(&disk);
        little_memory();
    });
}

/// A lie that is told for its command alone: alone it is the command's end, and beside an honest
/// path that one does it, though the liar's comes first.
#[track_caller]
pub(crate) fn failing(
    says: &str,
    lie: Lie,
    builder: fn(&[SocketAddr]) -> NamespaceBuilder,
) -> IoError {
    let target = target();
    let liar = Liar::start(target.addresses[0], lie);
    let start = Instant::now();
    let disk = builder(&[liar.address]).connect().unwrap();
    let error = disk.read_bytes_at(4096, 8192).unwrap_err();
    assert!(error.to_string().contains(says), "{error}");
    assert!(start.elapsed() < LIMIT, "{:?}: {error}", start.elapsed());
    disk.close();
    let builder = builder(&[liar.address, target.addresses[1]]);
    let disk = builder.policy(nvmf_host::Policy::Failover).connect().unwrap();
    wait_until("both paths", || live(&disk) == 2);
    works(&disk);
    little_memory();
    error
}

/// What looks strange and does no harm.
#[track_caller]
pub(crate) fn harmless(lie: Lie) {
    let target = target();
    let liar = Liar::start(target.addresses[0], lie);
    works(&by(&[liar.address]).connect().unwrap());
    assert!(liar.has_lied());
    little_memory();
}

/// A lie that is told while nothing is done: the path is lost, with an honest one beside it or not.
#[track_caller]
pub(crate) fn idle(says: &str, lie: Lie) {
    let target = target();
    let liar = Liar::start(target.addresses[0], lie);
    let disk = by(&[liar.address, target.addresses[1]]).connect().unwrap();
    let events = disk.events();
    told(&events, liar.address, says);
    works(&disk);
    little_memory();
}

pub(crate) fn live(disk: &Namespace) -> usize {
    disk.paths().iter().filter(|path| matches!(path.state, PathState::Live { .. })).count()
}

/// Writes and reads, small and large, and compares.
#[track_caller]
pub(crate) fn works(disk: &Namespace) {
    for round in 0..12 {
        let length = [4096, 5000, 300_000][round % 3];
        let data = pattern(round as u64, length);
        let offset = (round * 350_001) as u64;
        disk.write_at(&data, offset).unwrap();
        assert!(disk.read_bytes_at(offset, length).unwrap() == data, "round {round}");
    }
}

/// Waits until an event says so of this path.
#[track_caller]
pub(crate) fn told(events: &Receiver<Event>, of: SocketAddr, says: &str) {
    let end = Instant::now() + LIMIT;
    let mut seen = Vec::new();
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        let Ok(event) = events.recv_timeout(left) else { break };
        let text = event.to_string();
        if text.starts_with(&of.to_string()) && text.contains(says) {
            return;
        }
        seen.push(text);
    }
    panic!("nobody said {says:?} of {of}: {seen:#?}");
}

#[track_caller]
pub(crate) fn little_memory() {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak << 10 < MEMORY, "{peak} KiB at a time");
}

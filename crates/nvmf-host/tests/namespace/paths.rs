//! Several paths, and what can happen to them.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::Receiver;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nvmf::pdu_trace::PduTrace;
use nvmf::spec::log::AnaState;
use nvmf_host::{Event, IoError, Namespace, PathState, Policy};
use nvmf_target::NamespaceBuilder;

use crate::proxy::Proxy;
use crate::target::{NSID, Running, by, nqn, pattern, wait_until};

/// ANA group of namespaces that say nothing else.
const GROUP: u32 = 1;

fn live(disk: &Namespace) -> usize {
    disk.paths().iter().filter(|path| matches!(path.state, PathState::Live { .. })).count()
}

/// Writes and reads the same blocks again and again, and holds what it reads against what it wrote.
struct Work {
    stop: Arc<AtomicBool>,
    rounds: Arc<AtomicU64>,
    thread: JoinHandle<Result<(), IoError>>,
}

impl Work {
    fn start(disk: &Namespace) -> Self {
        let (stop, rounds) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (disk, stopped, done) = (disk.clone(), Arc::clone(&stop), Arc::clone(&rounds));
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::SeqCst) {
                let round = done.load(Ordering::SeqCst);
                let data = pattern(round, 300_000);
                let offset = round % 5 * 400_001;
                disk.write_at(&data, offset)?;
                assert!(disk.read_bytes_at(offset, data.len())? == data, "round {round}");
                done.store(round + 1, Ordering::SeqCst);
            }
            Ok(())
        });
        Self { stop, rounds, thread }
    }

    /// Waits until it has come so much further.
    #[track_caller]
    fn goes_on(&self, rounds: u64) {
        let goal = self.rounds.load(Ordering::SeqCst) + rounds;
        wait_until("work to go on", || {
            self.rounds.load(Ordering::SeqCst) >= goal || self.thread.is_finished()
        });
    }

    #[track_caller]
    fn end(self) {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.join().unwrap().unwrap();
    }
}

fn proxied(target: &Running) -> (Vec<Proxy>, Vec<SocketAddr>) {
    let proxies: Vec<_> = target.addresses.iter().map(|address| Proxy::start(*address)).collect();
    let addresses = proxies.iter().map(|proxy| proxy.address).collect();
    (proxies, addresses)
}

#[test]
fn work_goes_on_when_connections_are_cut() {
    let target = Running::start("mem:4M", 2);
    let (proxies, addresses) = proxied(&target);
    let disk = by(&addresses).connect().unwrap();
    let work = Work::start(&disk);
    for round in 0..12 {
        work.goes_on(3);
        proxies[round % 2].cut();
        if round % 3 == 0 {
            proxies[(round + 1) % 2].cut();
        }
    }
    work.goes_on(3);
    work.end();
}

#[test]
fn a_path_that_falls_silent_is_given_up_and_comes_back() {
    let target = Running::start("mem:4M", 2);
    let (proxies, addresses) = proxied(&target);
    let disk = by(&addresses).connect().unwrap();
    wait_until("both paths", || live(&disk) == 2);
    let events = disk.events();
    let work = Work::start(&disk);
    work.goes_on(2);
    proxies[0].stall(true);
    let start = Instant::now();
    wait_until("the path to be lost", || live(&disk) == 1);
    // Three quarters of KATO, which is a second.
    assert!(start.elapsed() < Duration::from_millis(1500), "{:?}", start.elapsed());
    work.goes_on(5);
    // What is still on its way must not arrive: others have written there meanwhile.
    proxies[0].cut_in_order();
    proxies[0].stall(false);
    wait_until("the path to come back", || live(&disk) == 2);
    work.goes_on(5);
    work.end();
    let lost = addresses[0].to_string();
    let told: Vec<_> = events.try_iter().collect();
    assert!(told.iter().any(|event| matches!(event, Event::Lost { path, .. } if *path == lost)));
    assert!(
        told.iter().any(|event| matches!(event, Event::Connected { path, .. } if *path == lost))
    );
}

#[test]
fn with_no_path_left_work_waits_for_one() {
    let target = Running::start("mem:4M", 1);
    let (proxies, addresses) = proxied(&target);
    let disk = by(&addresses).connect().unwrap();
    let work = Work::start(&disk);
    work.goes_on(2);
    proxies[0].shut(true);
    thread::sleep(Duration::from_millis(700));
    proxies[0].shut(false);
    work.goes_on(2);
    work.end();
}

#[test]
fn fast_io_fail_ends_the_wait_and_ctrl_loss_the_path() {
    let target = Running::start("mem:4M", 1);
    let (proxies, addresses) = proxied(&target);
    let disk = by(&addresses)
        .fast_io_fail_tmo(Duration::from_millis(300))
        .ctrl_loss_tmo(Duration::from_millis(1500))
        .connect()
        .unwrap();
    proxies[0].shut(true);
    wait_until("the path to be lost", || live(&disk) == 0);
    let start = Instant::now();
    let error = disk.read_bytes_at(0, 1).unwrap_err();
    assert!(matches!(error, IoError::NoPath { .. }), "{error}");
    assert!(error.to_string().contains(&addresses[0].to_string()), "{error}");
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    wait_until("the path to be given up", || disk.paths()[0].state == PathState::GivenUp);
    proxies[0].shut(false);
    let error = disk.write_at(&[1], 0).unwrap_err();
    assert!(matches!(error, IoError::NoPath { .. }), "{error}");
}

#[test]
fn an_operation_without_a_path_ends_at_its_deadline() {
    let target = Running::start("mem:4M", 1);
    let (proxies, addresses) = proxied(&target);
    let disk = by(&addresses).deadline(Duration::from_millis(400)).connect().unwrap();
    proxies[0].shut(true);
    wait_until("the path to be lost", || live(&disk) == 0);
    let start = Instant::now();
    let error = disk.write_at(&[1], 5).unwrap_err();
    assert!(matches!(error, IoError::TimedOut { .. }), "{error}");
    assert!(
        start.elapsed() >= Duration::from_millis(400) && start.elapsed() < Duration::from_secs(2)
    );
}

#[test]
fn ana_states_say_which_paths_are_taken() {
    let target = Running::start("mem:4M", 2);
    let disk = target.namespace();
    wait_until("both paths", || live(&disk) == 2);
    let set = |port, state| target.handle.set_ana(port, GROUP, state).unwrap();
    let states = || -> Vec<_> {
        let ana = |state| match state {
            PathState::Live { ana, .. } => Some(ana),
            _ => None,
        };
        disk.paths().into_iter().map(|path| ana(path.state)).collect()
    };
    let work = Work::start(&disk);
    let flips = [
        (AnaState::Inaccessible, AnaState::Optimized),
        (AnaState::NonOptimized, AnaState::Inaccessible),
        (AnaState::Change, AnaState::NonOptimized),
        (AnaState::Optimized, AnaState::Optimized),
    ];
    for (first, second) in flips {
        // The good one first: there is a way at any time.
        let mut order = [(1, first), (2, second)];
        order.sort_by_key(|(_, state)| state.status().is_some());
        for (port, state) in order {
            set(port, state);
        }
        wait_until("the host to know", || states() == [Some(first), Some(second)]);
        work.goes_on(3);
    }
    // None at all for a while.
    set(1, AnaState::Inaccessible);
    set(2, AnaState::Inaccessible);
    wait_until("the host to know", || states() == [Some(AnaState::Inaccessible); 2]);
    thread::sleep(Duration::from_millis(200));
    set(2, AnaState::NonOptimized);
    work.goes_on(3);
    work.end();
}

/// Reads so often; says how many commands each controller saw.
fn spread(policy: Policy, reads: u64) -> Vec<u64> {
    let target = Running::start("mem:4M", 2);
    let disk = by(&target.addresses).policy(policy).connect().unwrap();
    wait_until("both paths", || live(&disk) == 2);
    for _ in 0..reads {
        disk.read_bytes_at(0, 4096).unwrap();
    }
    let mut controllers = target.handle.controllers();
    controllers.sort_by_key(|one| one.port);
    controllers.iter().map(|one| one.io_commands).collect()
}

#[test]
fn policies_spread_commands_as_they_are_named() {
    assert_eq!(spread(Policy::RoundRobin, 100), [50, 50]);
    assert_eq!(spread(Policy::Failover, 100), [100, 0]);
    let by_depth = spread(Policy::QueueDepth, 100);
    assert_eq!(by_depth.iter().sum::<u64>(), 100);
}

#[test]
fn a_controller_that_is_dropped_is_connected_again() {
    let target = Running::start("mem:4M", 1);
    let disk = target.namespace();
    let work = Work::start(&disk);
    for _ in 0..3 {
        work.goes_on(2);
        let controllers = target.handle.controllers();
        let cntlid = controllers.first().unwrap().cntlid;
        target.handle.disconnect(&nqn(), cntlid).unwrap();
        wait_until("another controller", || {
            target.handle.controllers().iter().any(|one| one.cntlid != cntlid)
        });
    }
    work.goes_on(2);
    work.end();
}

#[test]
fn a_namespace_that_grows_is_larger_for_its_host() {
    let target = Running::start("mem:4M", 2);
    let disk = target.namespace();
    let events = disk.events();
    target.handle.resize_namespace(&nqn(), NSID, Some(8 << 20)).unwrap();
    wait_until("the host to know", || disk.size() == 8 << 20);
    disk.write_at(&[1], (8 << 20) - 1).unwrap();
    let resized = Event::Resized { from: 4 << 20, to: 8 << 20 };
    assert!(events.try_iter().any(|event| event == resized));
}

/// A target whose namespace has this UUID, and two ports.
fn with_uuid(ports: u16, uuid: u8) -> Running {
    Running::start_with(ports, |subsystem| subsystem.with(memory(uuid)))
}

fn memory(uuid: u8) -> NamespaceBuilder {
    nvmf_target::Namespace::open(NSID, &"mem:4M".parse().unwrap()).unwrap().uuid([uuid; 16])
}

#[test]
fn a_namespace_that_is_taken_away_is_gone_until_it_is_back() {
    let target = with_uuid(2, 1);
    let disk = target.namespace();
    wait_until("both paths", || live(&disk) == 2);
    target.handle.remove_namespace(&nqn(), NSID).unwrap();
    wait_until("the host to know", || {
        disk.paths().iter().all(|path| path.state == PathState::Gone)
    });
    let error = disk.read_bytes_at(0, 1).unwrap_err();
    assert!(matches!(error, IoError::Gone { nsid: NSID, .. }), "{error}");
    target.handle.add_namespace(&nqn(), memory(1).build(&nqn()).unwrap()).unwrap();
    wait_until("the host to know", || live(&disk) == 2);
    disk.read_bytes_at(0, 1).unwrap();
}

#[test]
fn another_namespace_under_the_same_number_is_refused() {
    let target = with_uuid(1, 1);
    let disk = by(&target.addresses).fast_io_fail_tmo(Duration::from_millis(10)).connect().unwrap();
    let events = disk.events();
    target.handle.remove_namespace(&nqn(), NSID).unwrap();
    target.handle.add_namespace(&nqn(), memory(2).build(&nqn()).unwrap()).unwrap();
    refused(&events);
    let error = disk.write_at(&[1], 0).unwrap_err();
    assert!(matches!(error, IoError::NoPath { .. }), "{error}");
}

/// Waits until a path is refused because there is another namespace.
fn refused(events: &Receiver<Event>) {
    let is =
        |event| matches!(event, Event::Failed { reason, .. } if reason.contains("identifiers"));
    wait_until("it to be refused", || events.try_iter().any(is));
}

#[test]
fn another_namespace_by_another_path_is_refused() {
    let (first, other) = (with_uuid(1, 1), with_uuid(1, 2));
    let disk = by(&[first.addresses[0], other.addresses[0]]).connect().unwrap();
    refused(&disk.events());
    assert_eq!(live(&disk), 1);
}

/// A place for a trace that panics from some time on, on the thread of a path.
struct Panics(Arc<AtomicBool>);

impl Write for Panics {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        assert!(!self.0.load(Ordering::SeqCst), "this panic is meant");
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_path_whose_thread_panics_is_waited_for_by_nobody() {
    let target = Running::start("mem:4M", 1);
    let panics = Arc::new(AtomicBool::new(false));
    let trace = PduTrace::new(Panics(Arc::clone(&panics)));
    let disk = by(&target.addresses).trace_pdus(trace).connect().unwrap();
    disk.read_bytes_at(0, 1).unwrap();
    panics.store(true, Ordering::SeqCst);
    for _ in 0..2 {
        let error = disk.read_bytes_at(0, 1).unwrap_err();
        assert!(matches!(error, IoError::NoPath { .. }), "{error}");
        assert!(error.to_string().contains("its thread has ended"), "{error}");
        wait_until("the path to be given up", || disk.paths()[0].state == PathState::GivenUp);
    }
    disk.close();
}

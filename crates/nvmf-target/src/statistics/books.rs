//! The counters of a subsystem, by host.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nvme_spec::Nqn;

use super::Snapshot;
use super::counters::Counters;
use super::report::HostReport;
use super::sums::Sums;

/// Hosts that are remembered, apart from those that have queues.
const HOSTS: usize = 1024;

/// What is remembered of all of them together: sums of an operation on a namespace, and ways to fail.
const ENTRIES: usize = 16 << 10;

/// The counters of a subsystem: those of its queues that are, and of those that were.
#[derive(Debug, Default)]
pub(crate) struct Statistics {
    books: Mutex<Books>,
    expirations: AtomicU64,
}

#[derive(Debug, Default)]
struct Books {
    hosts: BTreeMap<Nqn, Host>,
    /// Hosts that were forgotten.
    others: Past,
    /// Counts up with every sign of a host.
    now: u64,
}

#[derive(Debug, Default)]
struct Host {
    live: Vec<Arc<Counters>>,
    past: Past,
    seen: u64,
}

/// What was.
#[derive(Debug, Default)]
struct Past {
    sums: Sums,
    connects: u64,
    reconnects: u64,
}

/// What goes on now.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Activity {
    /// I/O queues.
    pub(super) queues: usize,
    /// Commands that came on them and have not been answered.
    pub(super) under_way: u64,
}

impl Statistics {
    /// Opens the counters of a queue of this host, which are kept in the sums for good.
    pub(crate) fn open(&self, host: &Nqn) -> Arc<Counters> {
        let counters = Arc::new(Counters::default());
        self.lock().host(host).live.push(Arc::clone(&counters));
        counters
    }

    /// A host connected an admin queue: anew, or again.
    pub(crate) fn connected(&self, host: &Nqn) {
        let mut books = self.lock();
        let past = &mut books.host(host).past;
        if past.connects > 0 {
            past.reconnects = past.reconnects.saturating_add(1);
        }
        past.connects = past.connects.saturating_add(1);
    }

    /// A host was silent for longer than its Keep Alive Timeout.
    pub(crate) fn keep_alive_expired(&self) {
        self.expirations.fetch_add(1, Relaxed);
    }

    pub(super) fn keep_alive_expirations(&self) -> u64 {
        self.expirations.load(Relaxed)
    }

    /// The sums over all queues there ever were.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let mut books = self.lock();
        books.retire();
        let mut sum = books.others.sums.snapshot();
        books.hosts.values().for_each(|host| sum.add(host.sums().snapshot()));
        sum
    }

    pub(super) fn activity(&self) -> Activity {
        let mut books = self.lock();
        books.retire();
        let live = || books.hosts.values().flat_map(|host| &host.live);
        let under_way = live().fold(0, |sum: u64, queue| sum.saturating_add(queue.under_way()));
        Activity { queues: live().count(), under_way }
    }

    /// What each host did, in the order of their names; last, if there are any, the hosts that were
    /// forgotten.
    pub(super) fn hosts(&self) -> Vec<HostReport> {
        let mut books = self.lock();
        books.retire();
        let report = |host, sums: Sums, past: &Past| HostReport {
            host,
            connects: past.connects,
            reconnects: past.reconnects,
            operations: sums.operations,
            failures: sums.failures.into_map(),
        };
        let mut reports: Vec<HostReport> = books
            .hosts
            .iter()
            .map(|(name, host)| report(Some(name.clone()), host.sums(), &host.past))
            .collect();
        let others = &books.others;
        if others.connects > 0 || others.sums != Sums::default() {
            reports.push(report(None, others.sums.clone(), others));
        }
        reports
    }

    fn lock(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Books {
    /// The books of a host of which there is a sign.
    fn host(&mut self, name: &Nqn) -> &mut Host {
        self.now += 1;
        self.retire();
        if !self.hosts.contains_key(name) {
            self.make_room();
        }
        let host = self.hosts.entry(name.clone()).or_default();
        host.seen = self.now;
        host
    }

    /// Adds up the queues that have ended: they let go of their counters, which are final.
    fn retire(&mut self) {
        for host in self.hosts.values_mut() {
            let sums = &mut host.past.sums;
            host.live.retain(|counters| {
                let ended = Arc::strong_count(counters) == 1;
                if ended {
                    counters.add_to(sums);
                }
                !ended
            });
        }
    }

    /// Forgets the hosts that were seen longest ago until another one can be remembered; those that
    /// have queues stay.
    fn make_room(&mut self) {
        let entries = |host: &Host| host.past.sums.entries();
        let mut sum: usize = self.hosts.values().map(entries).sum();
        while self.hosts.len() >= HOSTS || sum > ENTRIES {
            let idle = self.hosts.iter().filter(|(_, host)| host.live.is_empty());
            let Some((name, _)) = idle.min_by_key(|(_, host)| host.seen) else { return };
            let name = name.clone();
            let Some(host) = self.hosts.remove(&name) else { return };
            sum = sum.saturating_sub(entries(&host));
            self.others.add(&host.past);
        }
    }
}

impl Host {
    /// Over its queues that are and those that were.
    fn sums(&self) -> Sums {
        let mut sums = self.past.sums.clone();
        self.live.iter().for_each(|counters| counters.add_to(&mut sums));
        sums
    }
}

impl Past {
    fn add(&mut self, other: &Self) {
        self.sums.add(&other.sums);
        self.connects = self.connects.saturating_add(other.connects);
        self.reconnects = self.reconnects.saturating_add(other.reconnects);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::Operation;
    use crate::testing::nqn;
    use std::time::Duration;

    const MICROSECOND: Duration = Duration::from_micros(1);

    fn host(number: usize) -> Nqn {
        nqn(&format!("nqn.2026-01.org.example:host{number}"))
    }

    #[test]
    fn the_sums_outlive_their_queues() {
        let statistics = Statistics::default();
        let one = statistics.open(&host(1));
        let two = statistics.open(&host(2));
        one.done(1, Operation::Read, 512, MICROSECOND);
        two.done(1, Operation::Write, 4096, MICROSECOND);
        two.done(1, Operation::Read, 1, MICROSECOND);
        two.media_error();
        let sum =
            Snapshot { reads: 2, writes: 1, bytes_read: 513, bytes_written: 4096, media_errors: 1 };
        assert_eq!(statistics.snapshot(), sum);
        let hosts = statistics.hosts();
        drop(one);
        assert_eq!(statistics.snapshot(), sum);
        drop(two);
        assert_eq!(statistics.snapshot(), sum);
        assert_eq!(statistics.snapshot(), sum, "counted once");
        assert_eq!(statistics.hosts(), hosts);
        assert_eq!(statistics.activity().queues, 0);
    }

    #[test]
    fn queues_that_come_and_go_leave_no_memory_behind() {
        let statistics = Statistics::default();
        for _ in 0..100 {
            statistics.open(&host(1)).done(1, Operation::Read, 1, MICROSECOND);
        }
        assert_eq!(statistics.lock().hosts[&host(1)].live.len(), 1);
        assert_eq!(statistics.snapshot().reads, 100);
    }

    #[test]
    fn each_host_has_sums_of_its_own() {
        let statistics = Statistics::default();
        let queues = [2, 1, 1].map(|number| statistics.open(&host(number)));
        queues.iter().for_each(|queue| queue.done(3, Operation::Write, 8, MICROSECOND));
        let [one, two] = &statistics.hosts()[..] else { panic!("two hosts") };
        assert_eq!((&one.host, &two.host), (&Some(host(1)), &Some(host(2))));
        assert_eq!(one.operations[&(3, Operation::Write)].bytes, 16);
        assert_eq!(two.operations[&(3, Operation::Write)].bytes, 8);
    }

    #[test]
    fn a_host_that_was_here_before_reconnects() {
        let statistics = Statistics::default();
        for number in [1, 2, 1, 1] {
            statistics.connected(&host(number));
        }
        let counts: Vec<_> =
            statistics.hosts().iter().map(|host| (host.connects, host.reconnects)).collect();
        assert_eq!(counts, [(3, 2), (1, 0)]);
    }

    #[test]
    fn what_is_under_way_is_that_of_queues_there_are() {
        let statistics = Statistics::default();
        let (one, two) = (statistics.open(&host(1)), statistics.open(&host(1)));
        (0..3).for_each(|_| one.command());
        two.command();
        one.done(1, Operation::Read, 1, MICROSECOND);
        assert_eq!(statistics.activity(), Activity { queues: 2, under_way: 3 });
        drop(one);
        assert_eq!(statistics.activity(), Activity { queues: 1, under_way: 1 });
    }

    #[test]
    fn of_many_hosts_the_last_are_remembered_and_the_rest_is_counted_together() {
        let statistics = Statistics::default();
        let first = statistics.open(&host(0));
        first.done(1, Operation::Read, 1, MICROSECOND);
        for number in 1..HOSTS + 10 {
            statistics.connected(&host(number));
            statistics.open(&host(number)).done(1, Operation::Read, 1, MICROSECOND);
        }
        let hosts = statistics.hosts();
        assert_eq!(hosts.len(), HOSTS + 1);
        let others = hosts.last().unwrap();
        assert_eq!((&others.host, others.connects), (&None, 10));
        assert_eq!(others.operations[&(1, Operation::Read)].bytes, 10);
        assert!(hosts.iter().any(|report| report.host == Some(host(0))), "it has a queue");
        assert!(hosts.iter().all(|report| report.host != Some(host(1))), "the oldest");
        assert_eq!(statistics.snapshot().reads, HOSTS as u64 + 10, "nothing is lost");
    }

    #[test]
    fn hosts_that_leave_much_to_remember_are_forgotten_sooner() {
        let statistics = Statistics::default();
        for number in 0..100 {
            let queue = statistics.open(&host(number));
            for nsid in 1..=300 {
                queue.done(nsid, Operation::Read, 1, MICROSECOND);
                queue.done(nsid, Operation::Write, 1, MICROSECOND);
            }
        }
        let remembered: usize =
            statistics.lock().hosts.values().map(|host| host.past.sums.entries()).sum();
        assert!(remembered < ENTRIES + 1000, "{remembered}");
        assert_eq!(statistics.snapshot().reads, 30_000);
    }
}

//! What one queue counts.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use nvme_spec::Status;

use super::Operation;
use super::histogram::Clock;
use super::sums::{Failure, Failures, NAMESPACES, NSID_OTHER, OperationSum, Sums};
use crate::who::Who;

/// The counters of one queue.
///
/// Counting takes no lock unless a command failed. Memory is taken when a namespace, or an operation
/// on it, comes for the first time.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    commands: AtomicU64,
    media_errors: AtomicU64,
    failed: AtomicU64,
    failures: Mutex<Failures>,
    namespaces: Link,
    /// Whose they are: what a command's execution has to say it says here.
    who: OnceLock<Who>,
}

/// The next namespace, in the order in which they came: entries are added and never go, so that the
/// list is read without a lock.
type Link = OnceLock<Box<PerNamespace>>;

/// What a queue counts of one namespace.
#[derive(Debug)]
struct PerNamespace {
    nsid: u32,
    operations: [OnceLock<Box<PerOperation>>; Operation::ALL.len()],
    next: Link,
}

#[derive(Debug, Default)]
struct PerOperation {
    latency: Clock,
    bytes: AtomicU64,
}

impl Counters {
    /// Says whose they are, once that is known.
    pub(crate) fn belong_to(&self, who: &Who) {
        let _ = self.who.set(who.clone());
    }

    /// Whose they are.
    pub(crate) fn who(&self) -> Who {
        self.who.get().cloned().unwrap_or_default()
    }

    /// Any command came: a sign of life for Keep Alive. It is under way until
    /// [`done`](Self::done) or [`failed`](Self::failed) tells of its end.
    pub(crate) fn command(&self) {
        self.commands.fetch_add(1, Relaxed);
    }

    pub(crate) fn commands(&self) -> u64 {
        self.commands.load(Relaxed)
    }

    /// A command succeeded: one for namespace `nsid` ([`NSID_OTHER`] if for none there is,
    /// FFFFFFFFh if for all), which moved or was for so many bytes, and took so long from its arrival
    /// until its answer left.
    pub(crate) fn done(&self, nsid: u32, operation: Operation, bytes: u64, took: Duration) {
        let namespace = self.namespace(nsid);
        let counters = namespace.operations[operation.index()].get_or_init(Box::default);
        counters.latency.note(took);
        if bytes > 0 {
            counters.bytes.fetch_add(bytes, Relaxed);
        }
    }

    /// A Copy moved so many bytes of namespace `nsid`, which its own fields do not say.
    pub(crate) fn copied(&self, nsid: u32, bytes: u64) {
        let namespace = self.namespace(nsid);
        let counters = namespace.operations[Operation::Copy.index()].get_or_init(Box::default);
        counters.bytes.fetch_add(bytes, Relaxed);
    }

    /// A command was answered with an error; `nsid` as in [`done`](Self::done). A failure of the
    /// storage is told by [`media_error`](Self::media_error) besides.
    pub(crate) fn failed(&self, nsid: u32, operation: Operation, status: Status) {
        self.failed.fetch_add(1, Relaxed);
        self.failures().count(Failure::new(nsid, operation, status), 1);
    }

    /// The storage failed.
    pub(crate) fn media_error(&self) {
        self.media_errors.fetch_add(1, Relaxed);
    }

    /// Commands that came and have not been answered.
    pub(super) fn under_way(&self) -> u64 {
        let succeeded = self.operations().fold(0, |sum: u64, (_, _, counters)| {
            sum.wrapping_add(counters.latency.read().count())
        });
        let answered = succeeded.wrapping_add(self.failed.load(Relaxed));
        // Commands that come while this is read may be counted as answered but not as having come.
        self.commands().saturating_sub(answered)
    }

    /// Adds all that was counted to `sums`.
    pub(super) fn add_to(&self, sums: &mut Sums) {
        sums.media_errors = sums.media_errors.saturating_add(self.media_errors.load(Relaxed));
        for (nsid, operation, counters) in self.operations() {
            let (latency, bytes) = (counters.latency.read(), counters.bytes.load(Relaxed));
            sums.count(nsid, operation, &OperationSum { latency, bytes });
        }
        sums.failures.add(&self.failures());
    }

    /// The counters of a namespace; those of [`NSID_OTHER`] where there are too many.
    fn namespace(&self, nsid: u32) -> &PerNamespace {
        let mut link = &self.namespaces;
        for _ in 0..NAMESPACES {
            let found = link.get_or_init(|| Box::new(PerNamespace::new(nsid)));
            if found.nsid == nsid {
                return found;
            }
            link = &found.next;
        }
        // The one behind the last is for all others.
        link.get_or_init(|| Box::new(PerNamespace::new(NSID_OTHER)))
    }

    fn operations(&self) -> impl Iterator<Item = (u32, Operation, &PerOperation)> {
        let first = self.namespaces.get();
        let namespaces = std::iter::successors(first, |namespace| namespace.next.get());
        namespaces.flat_map(|namespace| {
            let pairs = Operation::ALL.into_iter().zip(&namespace.operations);
            pairs.filter_map(|(operation, counters)| {
                Some((namespace.nsid, operation, &**counters.get()?))
            })
        })
    }

    fn failures(&self) -> MutexGuard<'_, Failures> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PerNamespace {
    fn new(nsid: u32) -> Self {
        Self { nsid, operations: Default::default(), next: Link::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::Snapshot;
    use std::thread;

    const MICROSECOND: Duration = Duration::from_micros(1);

    fn sums(counters: &Counters) -> Sums {
        let mut sums = Sums::default();
        counters.add_to(&mut sums);
        sums
    }

    #[test]
    fn commands_are_counted_by_namespace_and_operation() {
        let counters = Counters::default();
        counters.done(1, Operation::Read, 4096, MICROSECOND);
        counters.done(1, Operation::Read, 512, 3 * MICROSECOND);
        counters.done(7, Operation::Flush, 0, MICROSECOND);
        counters.failed(7, Operation::Read, Status::LBA_OUT_OF_RANGE.with_dnr(true));
        let sums = sums(&counters);
        assert_eq!(sums.operations.len(), 2);
        let read = sums.operations[&(1, Operation::Read)];
        assert_eq!((read.latency.count(), read.bytes, read.latency.nanos), (2, 4608, 4000));
        assert_eq!(sums.operations[&(7, Operation::Flush)].latency.count(), 1);
        let failure = Failure::new(7, Operation::Read, Status::LBA_OUT_OF_RANGE);
        assert_eq!(sums.failures.into_map(), [(failure, 1)].into());
    }

    #[test]
    fn the_smart_log_has_what_reads_and_what_writes() {
        let counters = Counters::default();
        counters.media_error();
        for operation in Operation::ALL {
            counters.done(1, operation, 10, MICROSECOND);
        }
        let expected =
            Snapshot { reads: 3, writes: 1, bytes_read: 30, bytes_written: 10, media_errors: 1 };
        assert_eq!(sums(&counters).snapshot(), expected);
    }

    #[test]
    fn a_command_is_under_way_until_its_end_is_told() {
        let counters = Counters::default();
        (0..3).for_each(|_| counters.command());
        assert_eq!((counters.commands(), counters.under_way()), (3, 3));
        counters.done(1, Operation::Write, 512, MICROSECOND);
        counters.failed(1, Operation::Write, Status::WRITE_FAULT);
        assert_eq!((counters.commands(), counters.under_way()), (3, 1));
        counters.done(1, Operation::Write, 512, MICROSECOND);
        counters.done(1, Operation::Write, 512, MICROSECOND);
        assert_eq!(counters.under_way(), 0, "never less than none");
    }

    #[test]
    fn a_queue_takes_memory_for_so_many_namespaces_only() {
        let counters = Counters::default();
        let most = u32::try_from(NAMESPACES).unwrap();
        for nsid in 1..=most + 100 {
            counters.done(nsid, Operation::Read, 1, MICROSECOND);
        }
        counters.done(1, Operation::Read, 1, MICROSECOND);
        let sums = sums(&counters);
        assert_eq!(sums.operations.len(), NAMESPACES + 1);
        assert_eq!(sums.operations[&(NSID_OTHER, Operation::Read)].bytes, 100);
        assert_eq!(sums.operations[&(1, Operation::Read)].bytes, 2);
    }

    #[test]
    fn threads_that_meet_at_a_new_namespace_lose_nothing() {
        let counters = Counters::default();
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for nsid in 0..40 {
                        counters.done(nsid, Operation::Write, 1, MICROSECOND);
                    }
                });
            }
        });
        let sums = sums(&counters);
        assert_eq!(sums.operations.len(), 40);
        assert!(sums.operations.values().all(|sum| (sum.bytes, sum.latency.count()) == (4, 4)));
    }
}

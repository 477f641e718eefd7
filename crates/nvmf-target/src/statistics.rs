//! What the SMART / Health log counts.
//!
//! Each queue counts for itself, so that nothing on the way of an I/O command is shared between
//! threads; whoever reads the log adds them up.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::who::Who;

/// The counters of one queue.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    commands: AtomicU64,
    reads: AtomicU64,
    writes: AtomicU64,
    bytes_read: AtomicU64,
    bytes_written: AtomicU64,
    media_errors: AtomicU64,
    /// Whose they are: what a command's execution has to say it says here.
    who: OnceLock<Who>,
}

/// What the hosts of a subsystem did with it, over all of their queues.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Snapshot {
    /// Read, Compare and Verify commands that succeeded.
    pub reads: u64,
    /// Write commands that succeeded.
    pub writes: u64,
    /// Bytes that those read.
    pub bytes_read: u64,
    /// Bytes that those wrote.
    pub bytes_written: u64,
    /// Commands that failed because the storage did.
    pub media_errors: u64,
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

    /// Any command came: a sign of life for Keep Alive.
    pub(crate) fn command(&self) {
        self.commands.fetch_add(1, Relaxed);
    }

    pub(crate) fn commands(&self) -> u64 {
        self.commands.load(Relaxed)
    }

    pub(crate) fn read(&self, bytes: u64) {
        self.reads.fetch_add(1, Relaxed);
        self.bytes_read.fetch_add(bytes, Relaxed);
    }

    pub(crate) fn written(&self, bytes: u64) {
        self.writes.fetch_add(1, Relaxed);
        self.bytes_written.fetch_add(bytes, Relaxed);
    }

    pub(crate) fn media_error(&self) {
        self.media_errors.fetch_add(1, Relaxed);
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot {
            reads: self.reads.load(Relaxed),
            writes: self.writes.load(Relaxed),
            bytes_read: self.bytes_read.load(Relaxed),
            bytes_written: self.bytes_written.load(Relaxed),
            media_errors: self.media_errors.load(Relaxed),
        }
    }
}

impl Snapshot {
    fn add(&mut self, other: Self) {
        self.reads += other.reads;
        self.writes += other.writes;
        self.bytes_read += other.bytes_read;
        self.bytes_written += other.bytes_written;
        self.media_errors += other.media_errors;
    }
}

impl Books {
    /// Adds up the queues that have ended: they let go of their counters, which are final.
    fn retire(&mut self) {
        let retired = &mut self.retired;
        self.live.retain(|counters| {
            let ended = Arc::strong_count(counters) == 1;
            if ended {
                retired.add(counters.snapshot());
            }
            !ended
        });
    }
}

/// The counters of a subsystem: those of its queues that are, and of those that were.
#[derive(Debug, Default)]
pub(crate) struct Statistics {
    books: Mutex<Books>,
}

#[derive(Debug, Default)]
struct Books {
    live: Vec<Arc<Counters>>,
    retired: Snapshot,
}

impl Statistics {
    /// Opens the counters of a queue, which are kept in the sums for good.
    pub(crate) fn open(&self) -> Arc<Counters> {
        let counters = Arc::new(Counters::default());
        let mut books = self.lock();
        books.retire();
        books.live.push(Arc::clone(&counters));
        counters
    }

    /// The sums over all queues there ever were.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let mut books = self.lock();
        books.retire();
        let mut sum = books.retired;
        books.live.iter().for_each(|counters| sum.add(counters.snapshot()));
        sum
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sums_outlive_their_queues() {
        let statistics = Statistics::default();
        let one = statistics.open();
        let two = statistics.open();
        one.read(512);
        two.written(4096);
        two.media_error();
        let sum =
            Snapshot { reads: 1, writes: 1, bytes_read: 512, bytes_written: 4096, media_errors: 1 };
        assert_eq!(statistics.snapshot(), sum);
        drop(one);
        assert_eq!(statistics.snapshot(), sum);
        drop(two);
        assert_eq!(statistics.snapshot(), sum);
        assert_eq!(statistics.snapshot(), sum, "counted once");
        assert!(statistics.lock().live.is_empty());
    }

    #[test]
    fn queues_that_come_and_go_leave_no_memory_behind() {
        let statistics = Statistics::default();
        for _ in 0..100 {
            statistics.open().read(1);
        }
        assert_eq!(statistics.lock().live.len(), 1);
        assert_eq!(statistics.snapshot().reads, 100);
    }
}

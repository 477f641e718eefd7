//! What the target counts: for the SMART / Health log, for Keep Alive, and for whoever watches it.
//!
//! Each queue counts for itself (`Counters`), so that nothing on the way of an I/O command is
//! shared between cores; whoever wants to know adds them up. A subsystem keeps the sums by host
//! (`Statistics`), and those of queues that have ended with them. What hosts can make it remember
//! is bounded: hosts beyond a number, and statuses and namespaces beyond others, are counted
//! together.

mod books;
mod counters;
mod events;
mod histogram;
mod operation;
mod report;
mod subject;
mod sums;

pub(crate) use books::Statistics;
pub(crate) use counters::Counters;
pub(crate) use events::Events;
pub use histogram::{BUCKETS, Histogram};
pub use operation::Operation;
pub use report::{HostReport, NamespaceReport, SubsystemReport, TargetReport};
pub(crate) use subject::Subject;
pub use sums::{Failure, NSID_OTHER, OperationSum};

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

impl Snapshot {
    fn add(&mut self, other: Self) {
        let Self { reads, writes, bytes_read, bytes_written, media_errors } = other;
        let pairs = [
            (&mut self.reads, reads),
            (&mut self.writes, writes),
            (&mut self.bytes_read, bytes_read),
            (&mut self.bytes_written, bytes_written),
            (&mut self.media_errors, media_errors),
        ];
        pairs.into_iter().for_each(|(sum, more)| *sum = sum.saturating_add(more));
    }
}

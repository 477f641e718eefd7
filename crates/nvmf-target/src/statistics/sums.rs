//! Counters added up, over queues that are and queues that were.

use std::collections::BTreeMap;

use nvme_spec::Status;

use super::histogram::Histogram;
use super::{Operation, Snapshot};

/// The namespace identifier under which commands are counted that were for no namespace there is, or
/// for one beyond those that are counted apart. It is no namespace's.
pub const NSID_OTHER: u32 = 0;

/// Statuses that are counted apart, by namespace and operation: for a host, and for a queue.
pub(super) const FAILURES: usize = 256;

/// Namespaces that are counted apart, for a host and for a queue.
pub(super) const NAMESPACES: usize = 256;

/// Commands of one kind that succeeded.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct OperationSum {
    /// How long they took, and so how many there were.
    pub latency: Histogram,
    /// The bytes that they moved or, where none are moved, were for.
    pub bytes: u64,
}

impl OperationSum {
    pub(crate) fn add(&mut self, other: &Self) {
        self.latency.add(&other.latency);
        self.bytes = self.bytes.saturating_add(other.bytes);
    }
}

/// A way in which commands of a kind failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Failure {
    /// The namespace, or [`NSID_OTHER`], or FFFFFFFFh for a command for all of them.
    pub nsid: u32,
    /// What the command was to do.
    pub operation: Operation,
    /// Status code type and status code as one number, the type in bits 10:8; `None` for those that
    /// are not counted apart.
    code: Option<u16>,
}

impl Failure {
    /// What failures beyond those that are counted apart are counted as.
    pub(super) const OTHER: Self =
        Self { nsid: NSID_OTHER, operation: Operation::Other, code: None };

    pub(super) fn new(nsid: u32, operation: Operation, status: Status) -> Self {
        let code = (u16::from(status.sct()) << 8) | u16::from(status.sc());
        Self { nsid, operation, code: Some(code) }
    }

    /// The status, without DNR, M and CRD; `None` for failures beyond those that are counted apart.
    pub fn status(&self) -> Option<Status> {
        let [sct, sc] = self.code?.to_be_bytes();
        Some(Status::new(sct, sc))
    }
}

/// How often what failed, of at most [`FAILURES`] and one ways.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Failures(BTreeMap<Failure, u64>);

impl Failures {
    pub(super) fn count(&mut self, failure: Failure, times: u64) {
        let apart = self.0.len() - usize::from(self.0.contains_key(&Failure::OTHER));
        let known = apart < FAILURES || self.0.contains_key(&failure);
        let sum = self.0.entry(if known { failure } else { Failure::OTHER }).or_default();
        *sum = sum.saturating_add(times);
    }

    pub(super) fn add(&mut self, other: &Self) {
        other.0.iter().for_each(|(failure, times)| self.count(*failure, *times));
    }

    pub(super) fn into_map(self) -> BTreeMap<Failure, u64> {
        self.0
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

/// All that queues counted.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Sums {
    /// Commands that failed because the storage did.
    pub(super) media_errors: u64,
    pub(super) operations: BTreeMap<(u32, Operation), OperationSum>,
    pub(super) failures: Failures,
}

impl Sums {
    /// Adds commands of a namespace; namespaces beyond [`NAMESPACES`] become one.
    pub(super) fn count(&mut self, nsid: u32, operation: Operation, sum: &OperationSum) {
        let full = self.operations.len() >= NAMESPACES * Operation::ALL.len();
        let known = !full || self.operations.contains_key(&(nsid, operation));
        let nsid = if known { nsid } else { NSID_OTHER };
        self.operations.entry((nsid, operation)).or_default().add(sum);
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.media_errors = self.media_errors.saturating_add(other.media_errors);
        for ((nsid, operation), sum) in &other.operations {
            self.count(*nsid, *operation, sum);
        }
        self.failures.add(&other.failures);
    }

    /// What the SMART / Health log has.
    pub(super) fn snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot { media_errors: self.media_errors, ..Snapshot::default() };
        for ((_, operation), sum) in &self.operations {
            let (count, bytes) = (sum.latency.count(), sum.bytes);
            match operation {
                Operation::Write => {
                    snapshot.add(Snapshot {
                        writes: count,
                        bytes_written: bytes,
                        ..Default::default()
                    });
                }
                operation if operation.reads() => {
                    snapshot.add(Snapshot {
                        reads: count,
                        bytes_read: bytes,
                        ..Default::default()
                    });
                }
                _ => {}
            }
        }
        snapshot
    }

    /// How much there is to remember.
    pub(super) fn entries(&self) -> usize {
        self.operations.len() + self.failures.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_keep_type_and_code_and_lose_the_rest() {
        let status = Status::UNRECOVERED_READ_ERROR.with_dnr(true).with_more(true);
        let failure = Failure::new(1, Operation::Read, status);
        assert_eq!(failure.status(), Some(Status::UNRECOVERED_READ_ERROR));
        assert_eq!(failure, Failure::new(1, Operation::Read, Status::UNRECOVERED_READ_ERROR));
        assert_eq!(Failure::OTHER.status(), None);
    }

    #[test]
    fn failures_beyond_a_number_are_one() {
        let mut failures = Failures::default();
        for nsid in 0..1000 {
            failures.count(Failure::new(nsid, Operation::Read, Status::INVALID_FIELD), 2);
        }
        failures.count(Failure::new(5, Operation::Read, Status::INVALID_FIELD), 1);
        let map = failures.into_map();
        assert_eq!(map.len(), FAILURES + 1);
        assert_eq!(map[&Failure::new(5, Operation::Read, Status::INVALID_FIELD)], 3);
        assert_eq!(map[&Failure::OTHER], 2 * (1000 - FAILURES as u64));
    }

    #[test]
    fn namespaces_beyond_a_number_are_one() {
        let mut sums = Sums::default();
        let one = OperationSum { bytes: 1, ..OperationSum::default() };
        for nsid in 1..=u32::try_from(NAMESPACES).unwrap() + 5 {
            Operation::ALL.into_iter().for_each(|operation| sums.count(nsid, operation, &one));
        }
        let others =
            Operation::ALL.map(|operation| sums.operations[&(NSID_OTHER, operation)].bytes);
        assert_eq!(others, [5; 11]);
        assert!(sums.operations.len() <= (NAMESPACES + 1) * Operation::ALL.len());
    }
}

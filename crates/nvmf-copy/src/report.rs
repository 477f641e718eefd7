//! What is told of a copy.

use std::time::Duration;

/// How far it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Progress {
    /// What is being done.
    pub phase: Phase,
    /// Bytes that are done, in this phase; with those of runs before.
    pub done: u64,
    /// Bytes that are to be.
    pub length: u64,
}

/// What is being done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Phase {
    /// Bytes are copied.
    Copy,
    /// Both sides are read and compared.
    Verify,
}

/// What was done; bytes are those of this run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Report {
    /// Bytes that were to be there, and are.
    pub length: u64,
    /// Bytes that runs before this one had copied.
    pub resumed: u64,
    /// Bytes that were written.
    pub written: u64,
    /// Bytes that were made zero without writing them.
    pub zeroed: u64,
    /// Bytes, of those that were written or made zero, for which that was done again, because a
    /// connection was lost before they were durable ([`Destination::losses`](crate::Destination::losses)).
    pub repeated: u64,
    /// How long copying took, up to when all was durable.
    pub copying: Duration,
    /// How long comparing took; `None` if that was not asked for. Nothing was different.
    pub verifying: Option<Duration>,
    /// The source was changed while it was copied: the copy may have some of its bytes from before
    /// and some from after that.
    pub source_changed: bool,
}

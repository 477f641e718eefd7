//! What can go wrong for whoever reads and writes a namespace.

use std::{fmt, io};

use nvmf::proto::violation::Violation;
use nvmf::spec::Status;

/// What is done to a namespace.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[non_exhaustive]
pub enum Verb {
    /// Reading.
    Read,
    /// Writing.
    Write,
    /// Comparing with what there is.
    Compare,
    /// Writing zeroes without sending them.
    WriteZeroes,
    /// Giving blocks back.
    Discard,
    /// Making durable what was written.
    Flush,
    /// A command of the caller's own.
    Other,
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Compare => "compare",
            Self::WriteZeroes => "write of zeroes",
            Self::Discard => "discard",
            Self::Flush => "flush",
            Self::Other => "command",
        })
    }
}

/// What was asked for: for messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Asked {
    /// What was to be done.
    pub verb: Verb,
    /// From which byte on.
    pub offset: u64,
    /// To how many bytes.
    pub length: u64,
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { verb, offset, length } = self;
        match verb {
            Verb::Flush | Verb::Other => write!(f, "{verb}"),
            _ => write!(f, "{verb} of {length} bytes at {offset}"),
        }
    }
}

/// An operation on a namespace did not succeed.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IoError {
    /// It goes past the namespace's end.
    #[error("{asked}: the namespace ends at {size}")]
    OutOfRange {
        /// What was asked for.
        asked: Asked,
        /// The namespace's size in bytes.
        size: u64,
    },
    /// More than one operation may have: 1 GiB.
    #[error("{asked}: more than {most} bytes at once; do it in pieces")]
    TooLong {
        /// What was asked for.
        asked: Asked,
        /// The most bytes of one operation.
        most: u64,
    },
    /// Only whole blocks can be treated so.
    #[error("{asked}: blocks have {block_size} bytes, and this is not a number of whole ones")]
    Unaligned {
        /// What was asked for.
        asked: Asked,
        /// Bytes of a block.
        block_size: u32,
    },
    /// The namespace is write protected.
    #[error("{asked}: the namespace is write protected")]
    ReadOnly {
        /// What was asked for.
        asked: Asked,
    },
    /// The controller does not know the command that it takes.
    #[error("{asked}: the controller does not support it")]
    Unsupported {
        /// What was asked for.
        asked: Asked,
    },
    /// What is there is something else than what it was compared with.
    #[error("{asked}: it is something else")]
    Mismatch {
        /// What was asked for.
        asked: Asked,
    },
    /// The controller says so, and goes on saying so where trying again made sense.
    #[error("{asked} failed: {status}")]
    Status {
        /// What was asked for.
        asked: Asked,
        /// What the controller says.
        status: Status,
    },
    /// Data came damaged each time: a data digest was wrong, or bytes were missing.
    #[error("{asked}: the data came damaged each time: {violation}")]
    Damaged {
        /// What was asked for.
        asked: Asked,
        /// What was wrong the last time.
        violation: Violation,
    },
    /// It took too long. A write may have been done, in part or whole, but is not done any more.
    #[error("{asked}: not done in its time{}", because(.cause.as_deref()))]
    TimedOut {
        /// What was asked for.
        asked: Asked,
        /// What kept it from being done, if that is known: the last thing that did.
        cause: Option<String>,
    },
    /// Nobody waits for it any more.
    #[error("{asked}: cancelled")]
    Cancelled {
        /// What was asked for.
        asked: Asked,
    },
    /// There is no path to the namespace, and there will be none soon.
    #[error("{asked}: no path to the namespace: {cause}")]
    NoPath {
        /// What was asked for.
        asked: Asked,
        /// Why the paths are gone.
        cause: String,
    },
    /// The subsystem has the namespace no more.
    #[error("{asked}: the subsystem has no namespace {nsid} any more")]
    Gone {
        /// What was asked for.
        asked: Asked,
        /// The namespace's identifier.
        nsid: u32,
    },
    /// The namespace object was closed.
    #[error("{asked}: the namespace was closed")]
    Closed {
        /// What was asked for.
        asked: Asked,
    },
}

fn because(cause: Option<&str>) -> String {
    cause.map(|cause| format!(": {cause}")).unwrap_or_default()
}

impl IoError {
    /// What was asked for.
    pub fn asked(&self) -> Asked {
        match self {
            Self::OutOfRange { asked, .. }
            | Self::TooLong { asked, .. }
            | Self::Unaligned { asked, .. }
            | Self::ReadOnly { asked }
            | Self::Unsupported { asked }
            | Self::Mismatch { asked }
            | Self::Status { asked, .. }
            | Self::Damaged { asked, .. }
            | Self::TimedOut { asked, .. }
            | Self::Cancelled { asked }
            | Self::NoPath { asked, .. }
            | Self::Gone { asked, .. }
            | Self::Closed { asked } => *asked,
        }
    }

    /// The NVMe status, if this is one.
    pub fn status(&self) -> Option<Status> {
        match self {
            Self::Status { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// What programs that know only the operating system's errors make of it.
    pub fn kind(&self) -> io::ErrorKind {
        use io::ErrorKind;
        match self {
            Self::OutOfRange { .. } | Self::TooLong { .. } | Self::Unaligned { .. } => {
                ErrorKind::InvalidInput
            }
            Self::ReadOnly { .. } => ErrorKind::ReadOnlyFilesystem,
            Self::Unsupported { .. } => ErrorKind::Unsupported,
            Self::Mismatch { .. } | Self::Damaged { .. } => ErrorKind::InvalidData,
            Self::TimedOut { .. } => ErrorKind::TimedOut,
            Self::Cancelled { .. } => ErrorKind::Other,
            Self::NoPath { .. } => ErrorKind::NotConnected,
            Self::Gone { .. } => ErrorKind::NotFound,
            Self::Closed { .. } => ErrorKind::BrokenPipe,
            Self::Status { status, .. } => match *status {
                s if s.same_code(Status::CAPACITY_EXCEEDED) => ErrorKind::StorageFull,
                s if s.same_code(Status::RESERVATION_CONFLICT) => ErrorKind::PermissionDenied,
                s if s.same_code(Status::NAMESPACE_WRITE_PROTECTED) => {
                    ErrorKind::ReadOnlyFilesystem
                }
                _ => ErrorKind::Other,
            },
        }
    }
}

impl From<IoError> for io::Error {
    fn from(error: IoError) -> Self {
        Self::new(error.kind(), error)
    }
}

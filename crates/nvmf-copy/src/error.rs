//! What can go wrong.

use std::io;
use std::path::PathBuf;

use crate::journal::JournalError;

/// A copy failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// What an endpoint is could not be found out.
    #[error("cannot look at {name}: {source}")]
    Look {
        /// The endpoint.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// The source does not have these bytes.
    #[error("{name} has {size} bytes, and not {length} at offset {offset}; nothing was copied")]
    SourceRange {
        /// The source.
        name: String,
        /// Where the first byte would be.
        offset: u64,
        /// How many there would be.
        length: u64,
        /// How many bytes it has.
        size: u64,
    },
    /// The destination has no room for these bytes.
    #[error(
        "{name} has {size} bytes, and no room for {length} at offset {offset}; nothing was copied"
    )]
    DestinationRange {
        /// The destination.
        name: String,
        /// Where the first byte would be.
        offset: u64,
        /// How many there would be.
        length: u64,
        /// How many bytes it has.
        size: u64,
    },
    /// The destination refuses writes.
    #[error("{name} is write protected; nothing was copied")]
    ReadOnly {
        /// The destination.
        name: String,
    },
    /// Source and destination are the same bytes, or some of them are.
    #[error(
        "{destination} and {source_name} are the same, and would be overwritten while it is read; nothing was copied"
    )]
    Same {
        /// The source.
        source_name: String,
        /// The destination.
        destination: String,
    },
    /// The destination could not be made ready.
    #[error("cannot make {name} ready for {length} bytes: {source}")]
    Prepare {
        /// The destination.
        name: String,
        /// How many bytes it is to have.
        length: u64,
        /// Why.
        source: io::Error,
    },
    /// Bytes could not be read.
    #[error("cannot read {name}, {length} bytes at offset {offset}: {source}")]
    Read {
        /// The endpoint.
        name: String,
        /// The first byte.
        offset: u64,
        /// How many.
        length: u64,
        /// Why.
        source: io::Error,
    },
    /// Where the source has holes could not be found out.
    #[error("cannot tell where {name} has data, from offset {offset} on: {source}")]
    Map {
        /// The source.
        name: String,
        /// From where.
        offset: u64,
        /// Why.
        source: io::Error,
    },
    /// Bytes could not be written.
    #[error("cannot write {name}, {length} bytes at offset {offset}: {source}")]
    Write {
        /// The destination.
        name: String,
        /// The first byte.
        offset: u64,
        /// How many.
        length: u64,
        /// Why.
        source: io::Error,
    },
    /// Bytes could not be made zeroes.
    #[error("cannot zero {name}, {length} bytes at offset {offset}: {source}")]
    Zero {
        /// The destination.
        name: String,
        /// The first byte.
        offset: u64,
        /// How many.
        length: u64,
        /// Why.
        source: io::Error,
    },
    /// What was written could not be made durable.
    #[error("cannot flush {name}: {source}")]
    Flush {
        /// The destination.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// The source lost bytes while it was copied.
    #[error("{name} had {before} bytes and now has {now}: it became shorter while it was copied")]
    Shrank {
        /// The source.
        name: String,
        /// How many bytes it had.
        before: u64,
        /// How many it has.
        now: u64,
    },
    /// What was copied is not what the source has.
    #[error(
        "{destination} differs from {source_name}: the first byte that does is at offset {offset} \
         (source: {source_offset}); what was copied is left as it is"
    )]
    Differs {
        /// The source.
        source_name: String,
        /// The destination.
        destination: String,
        /// Where in the destination.
        offset: u64,
        /// Where in the source.
        source_offset: u64,
    },
    /// The journal could not be read or written, or is one of another copy.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// [`Copier::stop`](crate::Copier::stop) said so.
    #[error("stopped")]
    Stopped,
    /// The system gives no more threads.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
}

/// A copy that did not come to its end.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct Unfinished {
    /// Why.
    #[source]
    pub error: Error,
    /// How many bytes of the destination are known to be right and durable.
    pub done: u64,
    /// How many there are to be.
    pub length: u64,
    /// The journal to go on with. `None`: there is none, or nothing was begun, or nothing is left to
    /// be copied.
    pub journal: Option<PathBuf>,
}

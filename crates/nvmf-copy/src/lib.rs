//! Copies between regular files, block devices and NVMe namespaces, in any pairing.
//!
//! A [`Copier`] takes a [`Source`] and a [`Destination`]. Threads copy chunks, each one of its own, so
//! that many requests are under way and memory is bounded; nothing is kept in order. Holes stay
//! holes. With [`Copier::verify`] both sides are read again and compared, and with a [`Journal`] a
//! copy that was stopped, or killed, goes on where it was.
//!
//! ```
//! use nvmf_copy::{Copier, FileDestination, FileSource, Journal};
//!
//! # let folder = tempfile::tempdir()?;
//! # let (from, to) = (folder.path().join("disk.img"), folder.path().join("copy.img"));
//! # std::fs::write(&from, vec![7; 100_000])?;
//! let source = FileSource::open(&from)?;
//! let destination = FileDestination::open(&to)?;
//! let report = Copier::new(&source, &destination)
//!     .journal(Journal::beside(&to))
//!     .resume(true)
//!     .verify(true)
//!     .run()?;
//! assert_eq!(report.written, 100_000);
//! assert!(std::fs::read(&to)? == std::fs::read(&from)?);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What it promises
//!
//! - **Complete and durable.** When [`Copier::run`] returns `Ok`, everything was flushed.
//! - **The journal never says too much.** A range is noted after it was flushed, and the journal
//!   is replaced as a whole. It is there before the destination is first changed: a copy that is not
//!   complete can be told from one that is.
//! - **Nothing is taken for something else.** A journal goes with one source, of one size and time
//!   of change, one destination, and one range; it is refused for any other. A source and a
//!   destination that are the same bytes are refused too.
//! - **Errors say where.** The side, the offset and the length.
//!
//! # What it does not do
//!
//! - No pipes: they have neither size nor offsets.
//! - It does not freeze a source. One that is written to meanwhile is copied as it is from moment to
//!   moment; a file's time of change tells ([`Report::source_changed`]), a device has none.
//! - Partitions of a device, and a namespace that the kernel has as a device, are not seen to be the
//!   same as what they are part of.

#![forbid(unsafe_code)]

mod chunk;
mod copier;
mod crew;
mod endpoint;
mod error;
mod file;
mod journal;
mod layout;
mod namespace;
mod pieces;
mod plan;
mod ranges;
mod report;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use chunk::Sparse;
pub use copier::Copier;
pub use endpoint::{Destination, Identity, Rest, Source};
pub use error::{Error, Unfinished};
pub use file::{FileDestination, FileError, FileSource, open_unused};
pub use journal::{Journal, JournalError};
pub use namespace::NamespaceEnd;
pub use report::{Phase, Progress, Report};

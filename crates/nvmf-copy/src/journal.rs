//! What of a copy is done, in a file, so that another run can go on.
//!
//! It is written as a whole, and only after what it tells of was made durable: whatever happens, a
//! range that is in it is there.

use std::fs::{self, File};
use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};

use nvmf_storage::replace_file;
use serde::{Deserialize, Serialize};

use crate::endpoint::Identity;
use crate::layout::Layout;
use crate::ranges::RangeSet;

/// What a file of a later kind would not have.
const FORMAT: &str = "nvmf-copy 1";

/// No journal is larger: one has a few ranges more than there are threads.
const LARGEST: u64 = 16 << 20;

/// Where it is kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Journal {
    path: PathBuf,
}

/// Why a journal is of no use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// It could not be read, written or removed.
    #[error("cannot use the journal {}: {source}", path.display())]
    Io {
        /// The journal.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is something else.
    #[error("{} is not a journal of a copy: {why}; to begin anew, copy without resuming", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// It is the journal of another copy, or the source has changed since.
    #[error("the journal {} does not fit: {why}; to begin anew, copy without resuming", path.display())]
    Other {
        /// The journal.
        path: PathBuf,
        /// What is different.
        why: String,
    },
}

impl Journal {
    /// Kept in this file.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Kept beside a file that is copied to, in `FILE.nvmf-copy`.
    pub fn beside(file: impl AsRef<Path>) -> Self {
        Self { path: with_suffix(file.as_ref(), ".nvmf-copy") }
    }

    /// Where it is kept.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is done of this copy; `None` if there is no journal.
    pub(crate) fn load(&self, copy: &Record) -> Result<Option<RangeSet>, JournalError> {
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(self.io(source)),
        };
        let mut bytes = Vec::new();
        file.take(LARGEST).read_to_end(&mut bytes).map_err(|source| self.io(source))?;
        let malformed = |why: String| JournalError::Malformed { path: self.path.clone(), why };
        let found: Record =
            serde_json::from_slice(&bytes).map_err(|error| malformed(error.to_string()))?;
        if found.format != FORMAT {
            return Err(malformed(format!("its format is `{}`, not `{FORMAT}`", found.format)));
        }
        if let Some(why) = found.difference(copy) {
            return Err(JournalError::Other { path: self.path.clone(), why });
        }
        let mut done = RangeSet::default();
        for [start, end] in found.done {
            if start > end || end > copy.length {
                return Err(malformed(format!("{start} to {end} is no range of it")));
            }
            done.insert(start..end);
        }
        Ok(Some(done))
    }

    /// Writes what is done: after a crash, the file is what it was before or what it is now.
    pub(crate) fn save(&self, copy: &mut Record, done: &RangeSet) -> Result<(), JournalError> {
        copy.done = done.iter().map(|Range { start, end }| [start, end]).collect();
        let save = || {
            let bytes = serde_json::to_vec(&copy)?;
            replace_file(&self.path, &bytes)
        };
        save().map_err(|source| self.io(source))
    }

    /// Takes it away.
    pub(crate) fn remove(&self) -> Result<(), JournalError> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.io(error)),
            _ => Ok(()),
        }
    }

    fn io(&self, source: io::Error) -> JournalError {
        JournalError::Io { path: self.path.clone(), source }
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// What is in the file: which copy it is, and what of it is done.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Record {
    format: String,
    source: Side,
    destination: Side,
    /// How many bytes are copied.
    length: u64,
    /// From the beginning of what is copied on: first byte, and the one after the last.
    done: Vec<[u64; 2]>,
}

/// One end of the copy.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Side {
    /// For people who look into the file; it may be named otherwise the next time.
    name: String,
    identity: String,
    offset: u64,
    /// Bytes that it has; of a destination that grows this is not said.
    size: Option<u64>,
    /// As [`Identity::version`]; a destination changes.
    version: Option<String>,
}

impl Record {
    /// Of a copy of which nothing is done.
    pub(crate) fn new(
        layout: &Layout,
        (source_name, source): (&str, &Identity),
        (destination_name, destination): (&str, &Identity),
        grows: bool,
    ) -> Self {
        Self {
            format: FORMAT.to_owned(),
            source: Side {
                name: source_name.to_owned(),
                identity: source.lasting.clone(),
                offset: layout.source_offset,
                size: Some(source.size),
                version: source.version.clone(),
            },
            destination: Side {
                name: destination_name.to_owned(),
                identity: destination.lasting.clone(),
                offset: layout.offset,
                size: (!grows).then_some(destination.size),
                version: None,
            },
            length: layout.length,
            done: Vec::new(),
        }
    }

    /// What is different in another copy, if anything is.
    fn difference(&self, now: &Self) -> Option<String> {
        if self.length != now.length {
            return Some(format!("it is of {} bytes, and not of {}", self.length, now.length));
        }
        self.source
            .difference("source", &now.source)
            .or_else(|| self.destination.difference("destination", &now.destination))
    }
}

impl Side {
    fn difference(&self, what: &str, now: &Self) -> Option<String> {
        if self.identity != now.identity {
            return Some(format!(
                "its {what} was {} ({}), and is not {} ({})",
                self.name, self.identity, now.name, now.identity
            ));
        }
        if self.offset != now.offset {
            let (before, now) = (self.offset, now.offset);
            return Some(format!("its {what} began at offset {before}, and not at {now}"));
        }
        if self.size != now.size {
            let bytes = |size: Option<u64>| size.map_or("no size".into(), |n| format!("{n} bytes"));
            let (before, size) = (bytes(self.size), bytes(now.size));
            return Some(format!("its {what}, {}, had {before} and has {size} now", now.name));
        }
        if self.version != now.version {
            return Some(format!("its {what}, {}, was changed meanwhile", now.name));
        }
        None
    }
}

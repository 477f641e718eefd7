//! Reading and writing files.

use bytes::BytesMut;

use crate::slots::Key;

/// A file of an engine.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FileId(pub(crate) Key);

/// One read or write of consecutive bytes of a file.
#[derive(Debug)]
pub enum FileOp {
    /// Fills the buffers, one after the other, with the bytes from `offset` on.
    Read {
        /// Where in the file, in bytes.
        offset: u64,
        /// What to fill, each over its whole length.
        parts: Vec<BytesMut>,
    },
    /// Writes the buffers, one after the other, from `offset` on.
    Write {
        /// Where in the file, in bytes.
        offset: u64,
        /// What to write.
        parts: Vec<BytesMut>,
    },
}

impl FileOp {
    /// Its buffers.
    pub fn into_parts(self) -> Vec<BytesMut> {
        match self {
            Self::Read { parts, .. } | Self::Write { parts, .. } => parts,
        }
    }

    /// How many bytes it moves.
    pub fn len(&self) -> usize {
        match self {
            Self::Read { parts, .. } | Self::Write { parts, .. } => {
                parts.iter().map(|part| part.len()).sum()
            }
        }
    }

    /// Whether it moves nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

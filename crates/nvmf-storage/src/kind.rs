//! Files that have bytes at offsets.

use std::fs::{File, FileType};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::FileTypeExt;

/// A file whose bytes can be reached at any offset: the two kinds of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FileKind {
    /// A regular file.
    Regular,
    /// A block device.
    Device,
}

impl FileKind {
    /// The kind of what has this type.
    ///
    /// ```
    /// use nvmf_storage::FileKind;
    /// let directory = std::fs::metadata("/")?.file_type();
    /// assert_eq!(FileKind::of(directory), Err("a directory"));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// It is something else: what it is, with its article.
    pub fn of(file_type: FileType) -> Result<Self, &'static str> {
        Err(match file_type {
            kind if kind.is_file() => return Ok(Self::Regular),
            kind if kind.is_block_device() => return Ok(Self::Device),
            kind if kind.is_dir() => "a directory",
            kind if kind.is_char_device() => "a character device",
            kind if kind.is_fifo() => "a pipe",
            kind if kind.is_socket() => "a socket",
            _ => "no file",
        })
    }

    /// Bytes of a file of this kind. Its position is another one then.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn size(self, mut file: &File) -> io::Result<u64> {
        match self {
            Self::Regular => Ok(file.metadata()?.len()),
            // A device's metadata has no length; its end has an offset.
            Self::Device => file.seek(SeekFrom::End(0)),
        }
    }

    /// The flags to open it with for writing, where nobody else is to: with them Linux refuses a
    /// block device that is mounted or part of another one. On regular files they have no defined
    /// meaning, and there are none.
    #[must_use]
    pub fn exclusive_flags(self) -> i32 {
        match self {
            Self::Device if cfg!(target_os = "linux") => {
                rustix::fs::OFlags::EXCL.bits().cast_signed()
            }
            _ => 0,
        }
    }
}

//! What can go wrong with blocks, and with opening them.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Why an operation on a [`Backend`](crate::Backend) failed.
///
/// Each variant says which NVMe status a target would answer with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The range reaches past the end. LBA Out of Range (generic, 80h).
    #[error("{length} bytes at offset {offset} reach past the end at {capacity}")]
    OutOfRange {
        /// First byte of the range.
        offset: u64,
        /// Length of the range in bytes.
        length: u64,
        /// Size of the backend in bytes.
        capacity: u64,
    },
    /// The range is not whole blocks. A command cannot express this; it is a mistake of the caller
    /// (Internal Error, generic, 06h).
    #[error("{length} bytes at offset {offset} are not whole blocks of {block_size} bytes")]
    Unaligned {
        /// First byte of the range.
        offset: u64,
        /// Length of the range in bytes.
        length: u64,
        /// Size of a block in bytes.
        block_size: u32,
    },
    /// The backend cannot be written. Namespace is Write Protected (generic, 20h).
    #[error("the blocks are read-only")]
    ReadOnly,
    /// No room for the data: the file system or the quota is full, or memory ran out. Capacity
    /// Exceeded (generic, 81h).
    #[error("no space left to store the blocks")]
    NoSpace,
    /// An earlier flush failed, so writes that were acknowledged may be gone; a new flush could not
    /// bring them back and must not claim so. Lasts until the backend is opened again. Write Fault
    /// (media, 80h).
    #[error("an earlier flush failed, so acknowledged writes may be lost; open the file again")]
    WritesLost,
    /// The operating system failed the operation. Unrecovered Read Error or Write Fault (media, 81h
    /// and 80h).
    #[error("{0}")]
    Io(#[source] io::Error),
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoSpace,
            _ => Self::Io(error),
        }
    }
}

/// Why a backend could not be opened. One line: what was asked, what is wrong, what to try.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// There is nothing at this path.
    #[error(
        "cannot open {}: no such file; make one with `truncate -s 1G {}`{}",
        Shown(path),
        Shown(path),
        comma_hint(path)
    )]
    NotFound {
        /// The path asked for.
        path: PathBuf,
    },
    /// The process may not open it this way.
    #[error("cannot open {} for {}: {source}{}", Shown(path), purpose(*read_only), denied_hint(*read_only))]
    Denied {
        /// The path asked for.
        path: PathBuf,
        /// Whether it was to be opened for reading only.
        read_only: bool,
        /// What the system said: permission denied, or a read-only file system.
        source: io::Error,
    },
    /// A directory, socket, pipe or character device.
    #[error("cannot serve {}: it is {what}; give a regular file or a block device", Shown(path))]
    NotBlocks {
        /// The path asked for.
        path: PathBuf,
        /// What it is, with its article: "a directory".
        what: &'static str,
    },
    /// A file or device without a single byte.
    #[error("cannot serve {}: it is empty; {}", Shown(path), empty_hint(path, *device))]
    Empty {
        /// The path asked for.
        path: PathBuf,
        /// Whether it is a block device.
        device: bool,
    },
    /// The size is not whole blocks.
    #[error("cannot serve {}: its {bytes} bytes are not a multiple of the block size {block_size}; {}", Shown(path), ragged_hint(path, *bytes, *block_size, *device))]
    Ragged {
        /// The path asked for.
        path: PathBuf,
        /// Its size in bytes.
        bytes: u64,
        /// The block size asked for, in bytes.
        block_size: u32,
        /// Whether it is a block device.
        device: bool,
    },
    /// The device's own blocks do not divide the block size asked for.
    #[error("cannot serve {} with blocks of {block_size} bytes: the device's own are {device_block_size}{}", Shown(path), device_hint(*device_block_size))]
    DeviceBlockSize {
        /// The path asked for.
        path: PathBuf,
        /// The block size asked for, in bytes.
        block_size: u32,
        /// The logical block size of the device, in bytes.
        device_block_size: u32,
    },
    /// Direct I/O was asked for and there is none for this file.
    #[error(
        "cannot open {} for direct I/O: its file system has none for it; leave out `,direct`, or put it on ext4 or XFS",
        Shown(path)
    )]
    NoDirect {
        /// The path asked for.
        path: PathBuf,
    },
    /// Direct I/O was asked for and is only done in larger units than the block size.
    #[error("cannot serve {} directly with blocks of {block_size} bytes: {}", Shown(path), direct_hint(*block_size, *needed))]
    DirectBlockSize {
        /// The path asked for.
        path: PathBuf,
        /// The block size asked for, in bytes.
        block_size: u32,
        /// What lengths and offsets must be multiples of, in bytes, if the system says.
        needed: Option<u32>,
    },
    /// Someone else holds the lock on the file.
    #[error(
        "cannot serve {} for writing: another program has locked it; end that one, or serve it read-only with `,ro`",
        Shown(path)
    )]
    Locked {
        /// The path asked for.
        path: PathBuf,
    },
    /// The device is mounted or claimed by another driver.
    #[error(
        "cannot serve {} for writing: the device is in use; unmount it first, or serve it read-only with `,ro`",
        Shown(path)
    )]
    Busy {
        /// The path asked for.
        path: PathBuf,
    },
    /// More than [`Memory::MAX_BYTES`](crate::Memory::MAX_BYTES).
    #[error("cannot keep {bytes} bytes in memory: the most is {limit}; use a sparse file instead")]
    TooLargeForMemory {
        /// The size asked for, in bytes.
        bytes: u64,
        /// The largest size, in bytes.
        limit: u64,
    },
    /// Sizes that do not fit together.
    #[error(transparent)]
    Geometry(#[from] crate::GeometryError),
    /// Anything else the system said.
    #[error("cannot open {}: {source}", Shown(path))]
    Io {
        /// The path asked for.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Why a backend was not resized. One line: what was asked, what is wrong, what to try.
///
/// Whatever it is, the size is as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResizeError {
    /// This kind of backend has one size for as long as it lives.
    #[error("{location} cannot be resized")]
    Unsupported {
        /// [`Backend::location`](crate::Backend::location).
        location: String,
    },
    /// It would become smaller.
    #[error(
        "cannot shrink from {now} to {bytes} bytes: hosts may have data in what would be cut off; \
         copy what is to stay to a new namespace of that size, and remove this one"
    )]
    Smaller {
        /// The size asked for, in bytes.
        bytes: u64,
        /// The size now, in bytes.
        now: u64,
    },
    /// What is behind it has become smaller than what is served of it.
    #[error(
        "cannot resize {}: it has become smaller, {found} of {now} bytes are left; make it as large as it was, or remove the namespace",
        Shown(path)
    )]
    Shrunk {
        /// The path of the file or device.
        path: PathBuf,
        /// How large it is, in bytes.
        found: u64,
        /// The size that is served, in bytes.
        now: u64,
    },
    /// A block device is only as large as who made it says.
    #[error(
        "cannot grow {}: a block device is extended where it was made (for a logical volume by `lvextend`); then resize without a size",
        Shown(path)
    )]
    Device {
        /// The path of the device.
        path: PathBuf,
    },
    /// The file was opened for reading only.
    #[error(
        "cannot grow {}: it is served read-only; grow it elsewhere, then resize without a size",
        Shown(path)
    )]
    ReadOnly {
        /// The path of the file.
        path: PathBuf,
    },
    /// More than [`Memory::MAX_BYTES`](crate::Memory::MAX_BYTES).
    #[error("cannot keep {bytes} bytes in memory: the most is {limit}")]
    TooLargeForMemory {
        /// The size asked for, in bytes.
        bytes: u64,
        /// The largest size, in bytes.
        limit: u64,
    },
    /// The size is none: not whole blocks, or too large.
    #[error(transparent)]
    Geometry(#[from] crate::GeometryError),
    /// Making it larger failed.
    #[error("cannot resize: {0}")]
    Failed(#[source] Error),
}

impl From<Error> for ResizeError {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<io::Error> for ResizeError {
    fn from(error: io::Error) -> Self {
        Self::Failed(error.into())
    }
}

/// A path as one would paste it into a shell, always one line.
struct Shown<'a>(&'a Path);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = |c: char| c.is_alphanumeric() || "/._-+,=:@%".contains(c);
        match self.0.to_str() {
            Some(path) if !path.is_empty() && path.chars().all(plain) => f.write_str(path),
            Some(path) if !path.contains(|c: char| c.is_control() || c == '\'') => {
                write!(f, "'{path}'")
            }
            _ => write!(f, "{:?}", self.0),
        }
    }
}

/// A comma in a path that isn't there was perhaps meant to start an option.
fn comma_hint(path: &Path) -> &'static str {
    match path.as_os_str().as_encoded_bytes().contains(&b',') {
        true => " (the options at the end of a file's spec are ,bs=N ,ro ,direct ,uuid=UUID)",
        false => "",
    }
}

fn purpose(read_only: bool) -> &'static str {
    if read_only { "reading" } else { "writing" }
}

fn denied_hint(read_only: bool) -> &'static str {
    if read_only { "" } else { "; to serve it read-only, add `,ro`" }
}

fn empty_hint(path: &Path, device: bool) -> String {
    match device {
        true => "is there a medium in the device?".into(),
        false => format!("give it a size with `truncate -s 1G {}`", Shown(path)),
    }
}

fn ragged_hint(path: &Path, bytes: u64, block_size: u32, device: bool) -> String {
    let rounded = bytes.next_multiple_of(u64::from(block_size));
    match (bytes.is_multiple_of(512), device) {
        (true, true) => "try bs=512".into(),
        (true, false) => format!("try bs=512, or `truncate -s {rounded} {}`", Shown(path)),
        (false, true) => "a device like that cannot be served".into(),
        (false, false) => format!("try `truncate -s {rounded} {}`", Shown(path)),
    }
}

fn device_hint(device_block_size: u32) -> &'static str {
    if device_block_size == 4096 { "; try bs=4096" } else { "" }
}

fn direct_hint(block_size: u32, needed: Option<u32>) -> String {
    match needed {
        Some(needed) => {
            let way_out = if needed <= 4096 { "try bs=4096" } else { "leave out `,direct`" };
            format!("the device is read and written {needed} bytes at a time; {way_out}")
        }
        None if block_size == 512 => {
            "the system refuses to read one; try bs=4096, or leave out `,direct`".into()
        }
        None => "the system refuses to read one; leave out `,direct`".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_or_quota_is_no_space_and_the_rest_is_io() {
        let from = |errno: rustix::io::Errno| Error::from(io::Error::from(errno));
        assert!(matches!(from(rustix::io::Errno::NOSPC), Error::NoSpace));
        assert!(matches!(from(rustix::io::Errno::DQUOT), Error::NoSpace));
        assert!(matches!(from(rustix::io::Errno::IO), Error::Io(_)));
    }

    #[test]
    fn messages_stay_on_one_line_and_quote_what_a_shell_would_split() {
        let message = |path: &str| OpenError::NotFound { path: path.into() }.to_string();
        assert_eq!(
            message("/srv/a.img"),
            "cannot open /srv/a.img: no such file; make one with `truncate -s 1G /srv/a.img`"
        );
        assert!(message("/srv/my disk").contains("-s 1G '/srv/my disk'`"));
        assert!(message("").contains("open ''"));
        assert!(!message("/srv/new\nline").contains('\n'));
        assert!(message("/srv/a,rw").contains(",ro"), "a misspelt option is explained");
    }

    #[test]
    fn a_refusal_of_direct_input_and_output_comes_with_the_way_out() {
        let message = |block_size, needed| {
            OpenError::DirectBlockSize { path: "d".into(), block_size, needed }.to_string()
        };
        assert!(message(512, Some(4096)).ends_with("4096 bytes at a time; try bs=4096"));
        assert!(message(4096, Some(16_384)).ends_with("; leave out `,direct`"));
        assert!(message(512, None).ends_with("; try bs=4096, or leave out `,direct`"));
        assert!(message(4096, None).ends_with("to read one; leave out `,direct`"));
    }

    #[test]
    fn a_ragged_size_comes_with_the_way_out() {
        let message = |bytes, block_size, device| {
            OpenError::Ragged { path: "d".into(), bytes, block_size, device }.to_string()
        };
        assert!(message(4608, 4096, false).ends_with("try bs=512, or `truncate -s 8192 d`"));
        assert!(message(1000, 512, false).ends_with("try `truncate -s 1024 d`"));
        assert!(message(4608, 4096, true).ends_with("try bs=512"));
    }
}

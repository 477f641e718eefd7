//! Opening: what it is, and whether it is free.

use std::fs::{self, FileType, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nvmf_storage::FileKind;

/// A file cannot be copied from or to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// It is neither a regular file nor a block device.
    #[error(
        "{} is {what}; only files, block devices and namespaces can be copied from and to",
        path.display()
    )]
    NoBytes {
        /// Where.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// Another program holds a lock on it.
    #[error(
        "cannot write {}: it is in use by another program; is it being served?",
        path.display()
    )]
    Locked {
        /// Where.
        path: PathBuf,
    },
    /// A device is mounted, or part of another one.
    #[error("cannot write {}: the device is in use; unmount it first", path.display())]
    Busy {
        /// Where.
        path: PathBuf,
    },
    /// The system says no.
    #[error("cannot open {}: {source}", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl FileError {
    pub(super) fn io(path: &Path, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::ResourceBusy => Self::Busy { path: path.to_owned() },
            _ => Self::Io { path: path.to_owned(), source },
        }
    }
}

pub(super) struct Opened {
    pub(super) file: fs::File,
    pub(super) kind: FileKind,
    /// It was not there before.
    pub(super) fresh: bool,
}

pub(super) fn for_reading(path: &Path) -> Result<Opened, FileError> {
    let failed = |source| FileError::io(path, source);
    // Looked at before it is opened, because opening a pipe would wait for its other end.
    kind_of(path, fs::metadata(path).map_err(failed)?.file_type())?;
    let file = fs::File::open(path).map_err(failed)?;
    let kind = kind_of(path, file.metadata().map_err(failed)?.file_type())?;
    Ok(Opened { file, kind, fresh: false })
}

pub(super) fn for_writing(path: &Path) -> Result<Opened, FileError> {
    let failed = |source| FileError::io(path, source);
    let mut options = fs::OpenOptions::new();
    options.read(true).write(true);
    let fresh = match fs::metadata(path) {
        Ok(metadata) => {
            options.custom_flags(kind_of(path, metadata.file_type())?.exclusive_flags());
            false
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            options.create_new(true);
            true
        }
        Err(error) => return Err(failed(error)),
    };
    let file = options.open(path).map_err(failed)?;
    let kind = kind_of(path, file.metadata().map_err(failed)?.file_type())?;
    lock(&file, path)?;
    Ok(Opened { file, kind, fresh })
}

/// Opens for writing what is there, whatever it is, or makes a file; but no regular file that another
/// program holds a lock on, as `nvmf_storage::File` does. Nothing of it is changed.
///
/// # Errors
///
/// [`FileError::Locked`], [`FileError::Io`].
pub fn open_unused(path: impl AsRef<Path>) -> Result<fs::File, FileError> {
    let path = path.as_ref();
    let opened = fs::File::options().write(true).create(true).truncate(false).open(path);
    let file = opened.map_err(|source| FileError::io(path, source))?;
    if file.metadata().map_err(|source| FileError::io(path, source))?.is_file() {
        lock(&file, path)?;
    }
    Ok(file)
}

/// Takes the writer's lock. Where a file system has no locks, nobody can hold one.
fn lock(file: &fs::File, path: &Path) -> Result<(), FileError> {
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => Err(FileError::Locked { path: path.to_owned() }),
        Err(TryLockError::Error(_)) | Ok(()) => Ok(()),
    }
}

fn kind_of(path: &Path, kind: FileType) -> Result<FileKind, FileError> {
    FileKind::of(kind).map_err(|what| FileError::NoBytes { path: path.into(), what })
}

/// What a device writes at least; files have no such thing.
pub(super) fn block_size(opened: &Opened) -> u32 {
    #[cfg(target_os = "linux")]
    if opened.kind == FileKind::Device
        && let Ok(own) = rustix::fs::ioctl_blksszget(&opened.file)
    {
        return own.max(1);
    }
    let _ = opened;
    1
}

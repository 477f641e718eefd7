//! Opening: every check before the first block is served.

use super::direct::Direct;
use crate::{BlockSize, FileKind, Geometry, OpenError};
use std::fs::{self, FileType, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

/// What [`open`] found.
pub(super) struct Opened {
    pub(super) file: fs::File,
    pub(super) geometry: Geometry,
    /// Canonical.
    pub(super) path: PathBuf,
    /// What transfers have to be like, if it was opened for direct I/O.
    pub(super) direct: Option<Direct>,
}

pub(super) fn open(
    path: &Path,
    block_size: BlockSize,
    read_only: bool,
    direct: bool,
) -> Result<Opened, OpenError> {
    let failed = |source| failure(path, read_only, source);

    // Looked at before it is opened, because opening a pipe would wait for its other end.
    is_device(path, fs::metadata(path).map_err(failed)?.file_type())?;
    let canonical = path.canonicalize().map_err(failed)?;
    let exclusive = exclusive(&canonical, read_only).map_err(failed)?;
    let past_the_cache = match direct {
        true => direct_flag().ok_or_else(|| OpenError::NoDirect { path: path.into() })?,
        false => 0,
    };
    let file = fs::OpenOptions::new()
        .read(true)
        .write(!read_only)
        .custom_flags(exclusive | past_the_cache)
        .open(&canonical)
        .map_err(|source| match source.kind() {
            io::ErrorKind::InvalidInput if direct => OpenError::NoDirect { path: path.into() },
            _ => failed(source),
        })?;
    // Looked at again, because only what is open stays what it is.
    let device = is_device(path, file.metadata().map_err(failed)?.file_type())?;
    if !read_only {
        if device && is_write_protected(&file).map_err(failed)? {
            return Err(failed(rustix::io::Errno::ROFS.into()));
        }
        lock(&file, path)?;
    }

    if device {
        check_device_blocks(&file, path, block_size)?;
    }
    let bytes = size(&file, device).map_err(failed)?;
    if bytes == 0 {
        return Err(OpenError::Empty { path: path.into(), device });
    }
    if !bytes.is_multiple_of(u64::from(block_size.bytes())) {
        let (path, block_size) = (path.into(), block_size.bytes());
        return Err(OpenError::Ragged { path, bytes, block_size, device });
    }
    let geometry = Geometry::from_bytes(block_size, bytes)?.with_read_only(read_only);
    let direct = match direct {
        true => Some(Direct::of(&file, path, device, block_size)?),
        false => None,
    };
    Ok(Opened { file, geometry, path: canonical, direct })
}

/// Whether it is a block device; an error if it is neither that nor a regular file.
fn is_device(path: &Path, kind: FileType) -> Result<bool, OpenError> {
    match FileKind::of(kind) {
        Ok(kind) => Ok(kind == FileKind::Device),
        Err(what) => Err(OpenError::NotBlocks { path: path.into(), what }),
    }
}

/// The flags that a device that is to be written is opened with.
fn exclusive(path: &Path, read_only: bool) -> io::Result<i32> {
    let kind = FileKind::of(fs::metadata(path)?.file_type());
    Ok(if read_only { 0 } else { kind.map_or(0, FileKind::exclusive_flags) })
}

/// The flag that makes reads and writes pass the page cache by; a file system that cannot do that
/// refuses it (`EINVAL`). `None`: this system has no such flag.
fn direct_flag() -> Option<i32> {
    #[cfg(target_os = "linux")]
    return Some(rustix::fs::OFlags::DIRECT.bits().cast_signed());
    #[cfg(not(target_os = "linux"))]
    None
}

/// Takes the writer's lock. Waits a second for it: device managers hold it for moments to look at a
/// device, and so does the server that is just being replaced, or that was killed and whose io_uring
/// the kernel is still taking apart.
fn lock(file: &fs::File, path: &Path) -> Result<(), OpenError> {
    for _ in 0..20 {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) => thread::sleep(Duration::from_millis(50)),
            Err(TryLockError::Error(source)) => {
                return Err(OpenError::Io { path: path.into(), source });
            }
        }
    }
    Err(OpenError::Locked { path: path.into() })
}

/// Linux opens a write-protected device for writing and only then refuses each write, so ask.
#[cfg(target_os = "linux")]
fn is_write_protected(file: &fs::File) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let device = file.metadata()?.rdev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    // Without sysfs nobody knows, and the first write will tell.
    let flag = fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/ro"));
    Ok(flag.is_ok_and(|flag| flag.trim() == "1"))
}

#[cfg(not(target_os = "linux"))]
fn is_write_protected(_: &fs::File) -> io::Result<bool> {
    Ok(false)
}

/// A device of 4096-byte blocks cannot be written 512 bytes at a time without reading first.
#[cfg(target_os = "linux")]
fn check_device_blocks(
    file: &fs::File,
    path: &Path,
    block_size: BlockSize,
) -> Result<(), OpenError> {
    let own = rustix::fs::ioctl_blksszget(file)
        .map_err(|errno| OpenError::Io { path: path.into(), source: errno.into() })?;
    match own != 0 && block_size.bytes().is_multiple_of(own) {
        true => Ok(()),
        false => Err(OpenError::DeviceBlockSize {
            path: path.into(),
            block_size: block_size.bytes(),
            device_block_size: own,
        }),
    }
}

#[cfg(not(target_os = "linux"))]
fn check_device_blocks(_: &fs::File, _: &Path, _: BlockSize) -> Result<(), OpenError> {
    Ok(())
}

pub(super) fn size(file: &fs::File, device: bool) -> io::Result<u64> {
    if device { FileKind::Device.size(file) } else { FileKind::Regular.size(file) }
}

fn failure(path: &Path, read_only: bool, source: io::Error) -> OpenError {
    let path = path.into();
    match source.kind() {
        io::ErrorKind::NotFound => OpenError::NotFound { path },
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            OpenError::Denied { path, read_only, source }
        }
        io::ErrorKind::ResourceBusy => OpenError::Busy { path },
        _ => OpenError::Io { path, source },
    }
}

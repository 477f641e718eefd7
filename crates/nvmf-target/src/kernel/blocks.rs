//! How large nvmet's blocks are, which nobody can tell it.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

/// The largest that it has for files.
const MOST: u64 = 4096;

/// The size in bytes of the blocks that nvmet has of a file or device.
///
/// Of a device it is its logical block size. Of a file it is that of its file system, up to 4096; and
/// through the page cache (`buffered_io`) a device is a file of the file system that it has its name
/// in, mostly at `/dev`.
pub(super) fn size(path: &Path, buffered: bool) -> io::Result<u32> {
    if !buffered && fs::metadata(path)?.file_type().is_block_device() {
        return Ok(rustix::fs::ioctl_blksszget(File::open(path)?)?);
    }
    let bytes = rustix::fs::statvfs(path)?.f_frsize;
    Ok(u32::try_from(bytes.min(MOST)).unwrap_or(u32::MAX))
}

//! Regular files and block devices.

mod open;
mod system;

use std::fs;
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use nvmf_storage::{FileKind, sync_folder};

use crate::endpoint::{Destination, Identity, Rest, Source};
pub use open::{FileError, open_unused};
use system::{Way, make_zero, refused};

/// A regular file or a block device that is read.
///
/// It takes no lock: a file that others write to meanwhile is copied with some of what they wrote.
#[derive(Debug)]
pub struct FileSource {
    file: fs::File,
    name: String,
    /// Canonical.
    path: PathBuf,
    kind: FileKind,
}

impl FileSource {
    /// Opens what is there.
    ///
    /// # Errors
    ///
    /// [`FileError`]: there is nothing, or it is something else.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, FileError> {
        let path = path.as_ref();
        let opened = open::for_reading(path)?;
        Self::new(opened.file, path, opened.kind)
    }

    fn new(file: fs::File, path: &Path, kind: FileKind) -> Result<Self, FileError> {
        let name = path.display().to_string();
        let canonical = path.canonicalize().map_err(|source| FileError::io(path, source))?;
        Ok(Self { file, name, path: canonical, kind })
    }
}

impl Source for FileSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn identity(&self) -> io::Result<Identity> {
        let metadata = self.file.metadata()?;
        let path = self.path.display();
        if self.kind == FileKind::Device {
            let (place, lasting) =
                (format!("device {}", metadata.rdev()), format!("device {path}"));
            let size = self.kind.size(&self.file)?;
            return Ok(Identity { place, lasting, size, version: None });
        }
        let inode = metadata.ino();
        let version = format!("{}.{:09}", metadata.mtime(), metadata.mtime_nsec());
        Ok(Identity {
            place: format!("inode {inode} of device {}", metadata.dev()),
            lasting: format!("inode {inode} at {path}"),
            size: metadata.len(),
            version: Some(version),
        })
    }

    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(into, offset).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => shorter(),
            _ => error,
        })
    }

    /// A file knows its holes, a block device does not.
    fn has_map(&self) -> bool {
        self.kind == FileKind::Regular
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<Range<u64>>> {
        if self.kind == FileKind::Device {
            return Ok(Some(offset..u64::MAX));
        }
        let found = system::next_data(&self.file, offset)?;
        // What is past the end looks like a hole.
        if found.is_none() && self.file.metadata()?.len() <= offset {
            return Err(shorter());
        }
        Ok(found)
    }

    fn drop_cache(&self, range: Range<u64>) {
        system::drop_cache(&self.file, range);
    }
}

fn shorter() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "it ends before; it has become shorter")
}

/// A regular file or a block device that is written.
///
/// It holds an exclusive advisory lock (`flock`) until it is dropped, as `nvmf_storage::File` does,
/// so that nobody copies to a file that is served. A block device must not be mounted.
///
/// A file that was made for the copy and is dropped before [`Destination::prepare`] goes again.
#[derive(Debug)]
pub struct FileDestination {
    common: FileSource,
    block_size: u32,
    /// It was made by this, and nothing was done to it yet.
    fresh: AtomicBool,
    /// It was made by this, and its folder has yet to be synced.
    unsynced: AtomicBool,
    /// From here on it is a hole that nobody has written to: zeroes are there already.
    blank: AtomicU64,
    /// What the system can do with it, as far as is known: true until it refused once.
    can: [AtomicBool; Way::ALL.len()],
}

impl FileDestination {
    /// Opens a file or a block device, or makes a file.
    ///
    /// # Errors
    ///
    /// [`FileError`]: it is neither, is in use, or may not be written.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, FileError> {
        let path = path.as_ref();
        let opened = open::for_writing(path)?;
        let fresh = opened.fresh;
        let block_size = open::block_size(&opened);
        Ok(Self {
            common: FileSource::new(opened.file, path, opened.kind)?,
            block_size,
            fresh: AtomicBool::new(fresh),
            unsynced: AtomicBool::new(fresh),
            blank: AtomicU64::new(u64::MAX),
            can: Way::ALL.map(|_| AtomicBool::new(true)),
        })
    }

    fn write_zeroes(&self, offset: u64, length: u64) -> io::Result<()> {
        static ZEROES: [u8; 64 << 10] = [0; 64 << 10];
        let most = u64::try_from(ZEROES.len()).unwrap_or(u64::MAX);
        let mut done = 0;
        while done < length {
            let part = most.min(length - done);
            let bytes = &ZEROES[..usize::try_from(part).unwrap_or(ZEROES.len())];
            self.write_at(bytes, offset + done)?;
            done += part;
        }
        Ok(())
    }
}

impl Source for FileDestination {
    fn name(&self) -> &str {
        self.common.name()
    }

    fn identity(&self) -> io::Result<Identity> {
        self.common.identity()
    }

    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<()> {
        self.common.read_at(into, offset)
    }

    fn has_map(&self) -> bool {
        self.common.has_map()
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<Range<u64>>> {
        self.common.next_data(offset)
    }

    fn drop_cache(&self, range: Range<u64>) {
        self.common.drop_cache(range);
    }
}

impl Destination for FileDestination {
    fn block_size(&self) -> u32 {
        self.block_size
    }

    fn grows(&self) -> bool {
        self.common.kind == FileKind::Regular
    }

    fn prepare(&self, end: u64, rest: Rest) -> io::Result<()> {
        self.fresh.store(false, Ordering::Relaxed);
        if self.common.kind == FileKind::Device {
            return Ok(());
        }
        let file = &self.common.file;
        if rest == Rest::Goes {
            file.set_len(0)?;
        }
        let length = file.metadata()?.len();
        if length < end {
            file.set_len(end)?;
        }
        self.blank.store(length, Ordering::Relaxed);
        Ok(())
    }

    fn write_at(&self, from: &[u8], offset: u64) -> io::Result<()> {
        self.common.file.write_all_at(from, offset)
    }

    /// By holes where the system can make some, else by writing zeroes.
    fn zero(&self, offset: u64, length: u64) -> io::Result<()> {
        let blank = self.blank.load(Ordering::Relaxed);
        let length = length.min(blank.saturating_sub(offset));
        if length == 0 {
            return Ok(());
        }
        for (way, can) in Way::ALL.into_iter().zip(&self.can) {
            if !can.load(Ordering::Relaxed) {
                continue;
            }
            match make_zero(&self.common.file, offset, length, way) {
                Err(error) if refused(&error) => can.store(false, Ordering::Relaxed),
                // A part of a device's block.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => break,
                result => return result,
            }
        }
        self.write_zeroes(offset, length)
    }

    fn flush(&self) -> io::Result<()> {
        self.common.file.sync_all()?;
        if self.unsynced.load(Ordering::Relaxed) {
            sync_folder(&self.common.path)?;
            self.unsynced.store(false, Ordering::Relaxed);
        }
        Ok(())
    }
}

impl Drop for FileDestination {
    fn drop(&mut self) {
        if self.fresh.load(Ordering::Relaxed) {
            // An empty file that is left is no harm.
            let _ = fs::remove_file(&self.common.path);
        }
    }
}

#[cfg(test)]
mod tests;

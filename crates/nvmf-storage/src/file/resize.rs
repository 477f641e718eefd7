//! Growing a file, or taking what it has become.

use super::File;
use super::open::size;
use crate::{Geometry, ResizeError, growing};
use std::os::unix::fs::FileTypeExt;

impl File {
    /// What [`Backend::resize`](crate::Backend::resize) makes of `now`, with the room for it there.
    pub(super) fn prepare(
        &self,
        now: Geometry,
        bytes: Option<u64>,
    ) -> Result<Geometry, ResizeError> {
        let path = || self.path.clone();
        let device = self.file.metadata()?.file_type().is_block_device();
        let found = size(&self.file, device)?;
        if found < now.bytes() {
            return Err(ResizeError::Shrunk { path: path(), found, now: now.bytes() });
        }
        let Some(bytes) = bytes else { return growing::grown(now, found) };
        let new = growing::grown(now, bytes)?;
        if new != now && device {
            return Err(ResizeError::Device { path: path() });
        }
        if new != now && now.read_only() {
            return Err(ResizeError::ReadOnly { path: path() });
        }
        if found < bytes {
            self.file.set_len(bytes)?;
            // Else the next one to open it, after a loss of power, could find it as it was.
            self.sync()?;
        }
        Ok(new)
    }
}

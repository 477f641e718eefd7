//! A geometry that grows while others use it.

use crate::{Geometry, GeometryError, ResizeError};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A [`Geometry`] whose number of blocks may grow, and nothing else of it.
///
/// Who looks sees it as it was or as it is, and never has to wait.
#[derive(Debug)]
pub(crate) struct Growing {
    /// As it was at first.
    first: Geometry,
    blocks: AtomicU64,
    /// Held by who makes it grow, and by who needs it to stay as it is.
    turn: Mutex<()>,
}

impl Growing {
    pub(crate) fn new(first: Geometry) -> Self {
        Self { first, blocks: AtomicU64::new(first.blocks()), turn: Mutex::default() }
    }

    pub(crate) fn get(&self) -> Geometry {
        // Acquire: with the number comes what was made for it.
        self.first.with_blocks(self.blocks.load(Ordering::Acquire))
    }

    /// Calls `act` while the size stays as it is.
    pub(crate) fn held<T>(&self, act: impl FnOnce(Geometry) -> T) -> T {
        let _turn = self.turn();
        act(self.get())
    }

    /// Makes it as large as `prepare` says, who has made room for it and alone decides meanwhile.
    pub(crate) fn resize(
        &self,
        prepare: impl FnOnce(Geometry) -> Result<Geometry, ResizeError>,
    ) -> Result<Geometry, ResizeError> {
        let _turn = self.turn();
        let new = prepare(self.get())?;
        self.blocks.fetch_max(new.blocks(), Ordering::Release);
        Ok(self.get())
    }

    fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The same with `bytes` bytes, if those are whole blocks and no fewer than now.
pub(crate) fn grown(now: Geometry, bytes: u64) -> Result<Geometry, ResizeError> {
    if bytes < now.bytes() {
        return Err(ResizeError::Smaller { bytes, now: now.bytes() });
    }
    let block_size = now.block_size();
    if !bytes.is_multiple_of(u64::from(block_size)) {
        return Err(GeometryError::Ragged { bytes, block_size }.into());
    }
    if bytes > Geometry::MAX_BYTES {
        return Err(GeometryError::TooLarge.into());
    }
    Ok(now.with_blocks(bytes >> now.block_shift()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BlockSize;

    #[test]
    fn only_the_number_of_blocks_grows() {
        let first = Geometry::new(BlockSize::B512, 8).unwrap().with_read_only(true);
        let growing = Growing::new(first);
        let new = growing.resize(|now| grown(now, 16 * 512)).unwrap();
        assert_eq!(new, Geometry::new(BlockSize::B512, 16).unwrap().with_read_only(true));
        assert_eq!(growing.get(), new);
        assert_eq!(growing.held(|now| now), new);
        growing.resize(Ok).unwrap();
        growing.resize(|_| Ok(first)).unwrap();
        assert_eq!(growing.get(), new, "it never shrinks");
    }

    #[test]
    fn sizes_that_are_none_are_refused_and_change_nothing() {
        let growing = Growing::new(Geometry::new(BlockSize::B4096, 8).unwrap());
        let resize = |bytes| growing.resize(|now| grown(now, bytes)).unwrap_err();
        assert!(matches!(resize(7 * 4096), ResizeError::Smaller { bytes: 28_672, now: 32_768 }));
        assert!(matches!(resize(0), ResizeError::Smaller { .. }));
        let ragged = |error| matches!(error, ResizeError::Geometry(GeometryError::Ragged { .. }));
        assert!(ragged(resize(8 * 4096 + 512)) && ragged(resize(u64::MAX)));
        let error = resize(1 << 63);
        assert!(matches!(error, ResizeError::Geometry(GeometryError::TooLarge)), "{error}");
        assert_eq!(growing.get().blocks(), 8);
    }
}

//! Buffers that are used again.

use bytes::{Bytes, BytesMut};

/// Buffers for payload, kept for the next use.
///
/// ```
/// let mut pool = nvmf_engine::Pool::default();
/// let buffer = pool.take(5000);
/// assert_eq!(buffer.len(), 5000);
/// pool.give(buffer);
/// let aligned = pool.take_aligned(5000);
/// assert_eq!(aligned.as_ptr().align_offset(nvmf_engine::Pool::ALIGNMENT), 0);
/// ```
#[derive(Debug, Default)]
pub struct Pool {
    small: Vec<BytesMut>,
    large: Vec<BytesMut>,
    aligned: Vec<BytesMut>,
}

impl Pool {
    /// The longest buffer, in bytes.
    pub const LARGE: usize = 64 << 10;
    /// Buffers up to this length are of a kind of their own, in bytes.
    pub const SMALL: usize = 4 << 10;
    /// Where aligned buffers begin: at a multiple of this, as direct I/O wants.
    pub const ALIGNMENT: usize = 4096;
    /// What is kept for later at most, of each kind.
    const KEPT: usize = 64;

    /// A buffer of `length` bytes, at most [`LARGE`](Self::LARGE), with any contents. It is an
    /// allocation of its own.
    pub fn take(&mut self, length: usize) -> BytesMut {
        let (kept, size) = if length <= Self::SMALL {
            (&mut self.small, Self::SMALL)
        } else {
            (&mut self.large, Self::LARGE)
        };
        let mut buffer = kept.pop().unwrap_or_else(|| BytesMut::zeroed(size));
        // It is as long as it was used last; what is added is all that has to be cleared.
        buffer.resize(length.min(Self::LARGE), 0);
        buffer
    }

    /// The same, aligned for direct I/O.
    pub fn take_aligned(&mut self, length: usize) -> BytesMut {
        let mut buffer = self.aligned.pop().unwrap_or_else(aligned);
        buffer.resize(length.min(Self::LARGE), 0);
        buffer
    }

    /// Buffers of `length` bytes together, each but the last [`LARGE`](Self::LARGE) long; aligned
    /// for direct I/O or not.
    pub fn take_many(&mut self, length: usize, aligned: bool) -> Vec<BytesMut> {
        let mut parts = Vec::with_capacity(length.div_ceil(Self::LARGE));
        let mut left = length;
        while left > 0 {
            let part = if aligned { self.take_aligned(left) } else { self.take(left) };
            left -= part.len();
            parts.push(part);
        }
        parts
    }

    /// Takes a buffer back; one that did not come from a pool, or is a part of one, is dropped.
    pub fn give(&mut self, mut buffer: BytesMut) {
        // The capacity tells what it was; a part that was split off has less. An aligned one that was
        // frozen meanwhile has what was cut off behind it again.
        let is_aligned = buffer.as_ptr().align_offset(Self::ALIGNMENT) == 0;
        let kept = match buffer.capacity() {
            n if is_aligned && (Self::LARGE..=Self::LARGE + Self::ALIGNMENT).contains(&n) => {
                drop(buffer.split_off(Self::LARGE));
                &mut self.aligned
            }
            Self::LARGE => &mut self.large,
            Self::SMALL => &mut self.small,
            _ => return,
        };
        if kept.len() < Self::KEPT {
            kept.push(buffer);
        }
    }

    /// Takes back what was sent by reference, if nobody else has it.
    pub fn recycle(&mut self, bytes: Bytes) {
        if let Ok(buffer) = bytes.try_into_mut() {
            self.give(buffer);
        }
    }
}

/// A zeroed buffer that begins at a multiple of the alignment.
fn aligned() -> BytesMut {
    let mut whole = BytesMut::zeroed(Pool::LARGE + Pool::ALIGNMENT);
    let skip = whole.as_ptr().align_offset(Pool::ALIGNMENT).min(Pool::ALIGNMENT);
    let mut buffer = whole.split_off(skip);
    // What is cut off stays allocated with the rest, but does not count as its capacity.
    drop(buffer.split_off(Pool::LARGE));
    buffer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_come_back_whole_after_being_cut_sent_and_joined() {
        let mut pool = Pool::default();
        for (length, aligned) in
            [1, 512, 4096, 4097, 65536].into_iter().flat_map(|n| [(n, false), (n, true)])
        {
            let take = |pool: &mut Pool| pool.take_many(length, aligned).remove(0);
            let mut buffer = take(&mut pool);
            let is_aligned = |buffer: &BytesMut| buffer.as_ptr().align_offset(4096) == 0;
            // One that is aligned by chance is kept with those that have to be.
            while !aligned && is_aligned(&buffer) {
                buffer = take(&mut pool);
            }
            let address = buffer.as_ptr();
            assert_eq!(is_aligned(&buffer), aligned);
            pool.recycle(buffer.freeze());
            let kept = [&pool.small, &pool.large, &pool.aligned].map(|kept| kept.len());
            assert_eq!(kept.iter().sum::<usize>(), 1, "{length}");
            let mut again = take(&mut pool);
            assert_eq!((again.as_ptr(), again.len()), (address, length), "{length}");
            let tail = again.split_off(length / 2);
            again.unsplit(tail);
            pool.give(again);
            assert_eq!(take(&mut pool).as_ptr(), address, "{length}");
            pool = Pool::default();
        }
        pool = Pool::default();
        for length in [1, 4096, 70, 65536, 5000] {
            for aligned in [false, true] {
                let buffer = pool.take_many(length, aligned).remove(0);
                assert_eq!(buffer.len(), length);
                pool.give(buffer);
            }
        }
        let kept = [&pool.small, &pool.large, &pool.aligned].map(|kept| kept.len());
        assert!(kept == [1, 1, 1] || kept == [1, 0, 2], "{kept:?}");
    }

    #[test]
    fn a_buffer_that_somebody_still_reads_is_not_taken_back() {
        let mut pool = Pool::default();
        let bytes = pool.take(4096).freeze();
        let reader = bytes.clone();
        pool.recycle(bytes);
        assert!(pool.small.is_empty());
        assert_eq!(reader.len(), 4096);
    }

    #[test]
    fn many_buffers_have_the_length_asked_for_together() {
        let parts = Pool::default().take_many(200_000, false);
        assert_eq!(
            parts.iter().map(|part| part.len()).collect::<Vec<_>>(),
            [65536, 65536, 65536, 3392]
        );
    }

    #[test]
    fn no_more_than_so_many_are_kept() {
        let mut pool = Pool::default();
        let all: Vec<_> = (0..100).map(|_| pool.take(10)).collect();
        all.into_iter().for_each(|buffer| pool.give(buffer));
        assert_eq!(pool.small.len(), Pool::KEPT);
    }
}

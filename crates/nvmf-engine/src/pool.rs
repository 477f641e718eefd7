//! Buffers that are used again.

use bytes::{Bytes, BytesMut};

/// Buffers for payload, kept for the next use. Each begins at a page boundary, as direct I/O wants.
///
/// ```
/// let mut pool = nvmf_engine::Pool::default();
/// let buffer = pool.take(5000);
/// assert_eq!(buffer.len(), 5000);
/// assert_eq!(buffer.as_ptr().align_offset(4096), 0);
/// pool.give(buffer);
/// ```
#[derive(Debug, Default)]
pub struct Pool {
    small: Vec<BytesMut>,
    large: Vec<BytesMut>,
}

impl Pool {
    /// The longest buffer, in bytes.
    pub const LARGE: usize = 64 << 10;
    /// Buffers up to this length are of a kind of their own, in bytes.
    pub const SMALL: usize = 4 << 10;
    /// What is kept for later at most, of either kind.
    const KEPT: usize = 64;
    const ALIGNMENT: usize = 4096;

    /// A buffer of `length` bytes, at most [`LARGE`](Self::LARGE), with any contents.
    pub fn take(&mut self, length: usize) -> BytesMut {
        let length = length.min(Self::LARGE);
        let (kept, size) = if length <= Self::SMALL {
            (&mut self.small, Self::SMALL)
        } else {
            (&mut self.large, Self::LARGE)
        };
        let mut buffer = kept.pop().unwrap_or_else(|| aligned(size, Self::ALIGNMENT));
        // It is as long as it was used last; what is added is all that has to be cleared.
        buffer.resize(length, 0);
        buffer
    }

    /// Buffers of `length` bytes together, each but the last [`LARGE`](Self::LARGE) long.
    pub fn take_many(&mut self, length: usize) -> Vec<BytesMut> {
        let mut parts = Vec::with_capacity(length.div_ceil(Self::LARGE));
        let mut left = length;
        while left > 0 {
            let part = self.take(left);
            left -= part.len();
            parts.push(part);
        }
        parts
    }

    /// Takes a buffer back; one that did not come from a pool is dropped.
    pub fn give(&mut self, mut buffer: BytesMut) {
        // The capacity tells what it was; a part that was split off has less. One that was frozen
        // meanwhile has what was cut off behind it again.
        let with_tail = |size: usize| size..=size + Self::ALIGNMENT;
        let (kept, size) = match buffer.capacity() {
            n if with_tail(Self::LARGE).contains(&n) => (&mut self.large, Self::LARGE),
            n if with_tail(Self::SMALL).contains(&n) => (&mut self.small, Self::SMALL),
            _ => return,
        };
        if kept.len() < Self::KEPT && buffer.as_ptr().align_offset(Self::ALIGNMENT) == 0 {
            drop(buffer.split_off(size));
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

/// A zeroed buffer whose capacity is `size` and which begins at a multiple of `alignment`.
fn aligned(size: usize, alignment: usize) -> BytesMut {
    let mut buffer = BytesMut::zeroed(size + alignment);
    let skip = buffer.as_ptr().align_offset(alignment).min(alignment);
    let mut buffer = buffer.split_off(skip);
    // What is cut off stays allocated with the rest, but is not counted as its capacity.
    drop(buffer.split_off(size));
    buffer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_come_back_whole_after_being_cut_sent_and_joined() {
        let mut pool = Pool::default();
        for length in [1, 512, 4096, 4097, 65536] {
            let buffer = pool.take(length);
            let address = buffer.as_ptr();
            assert_eq!(address.align_offset(4096), 0);
            pool.recycle(buffer.freeze());
            assert_eq!(pool.small.len() + pool.large.len(), 1, "{length}");
            let again = pool.take(length);
            assert_eq!((again.as_ptr(), again.len()), (address, length), "{length}");
            drop(again);
        }
        for length in [1, 4096, 70, 65536, 5000] {
            let buffer = pool.take(length);
            assert_eq!(buffer.len(), length);
            pool.give(buffer);
        }
        assert_eq!((pool.small.len(), pool.large.len()), (1, 1));
        pool = Pool::default();
        let mut buffer = pool.take(65536);
        let tail = buffer.split_off(1000);
        buffer.unsplit(tail);
        pool.give(buffer);
        assert_eq!(pool.large.len(), 1);
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
        let parts = Pool::default().take_many(200_000);
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

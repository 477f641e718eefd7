//! Buffers that every kind of backend needs.

use bytes::{Buf, BytesMut};

/// The length of [`ZEROES`] in bytes.
pub(crate) const ZERO_BYTES: usize = 64 << 10;

/// Zeroes to lend and to write, at a place that suits direct I/O.
pub(crate) static ZEROES: &[u8; ZERO_BYTES] = &PAGES.0;

#[repr(align(4096))]
struct Pages([u8; ZERO_BYTES]);

static PAGES: Pages = Pages([0; ZERO_BYTES]);

/// A zeroed buffer of `len` bytes whose address is a multiple of `alignment` bytes, for
/// [`FileAccess::descriptor`](crate::FileAccess::descriptor).
///
/// It takes up to `alignment` bytes more than it holds. Growing it may move it to a place that is
/// not aligned.
///
/// ```
/// let buffer = nvmf_storage::aligned_buffer(8192, 4096);
/// assert_eq!((buffer.len(), buffer.as_ptr().addr() % 4096), (8192, 0));
/// ```
#[must_use]
pub fn aligned_buffer(len: usize, alignment: usize) -> BytesMut {
    let alignment = alignment.max(1);
    let mut buffer = BytesMut::zeroed(len.saturating_add(alignment - 1));
    let past = buffer.as_ptr().addr() % alignment;
    buffer.advance((alignment - past) % alignment);
    buffer.truncate(len);
    buffer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_and_the_zeroes_are_where_they_have_to_be() {
        assert_eq!(ZEROES.as_ptr().addr() % 4096, 0);
        for alignment in [0, 1, 2, 3, 16, 512, 1000, 4096, 65_536] {
            for len in [1, 512, 4096, 65_536, 1 << 20] {
                let mut buffer = aligned_buffer(len, alignment);
                assert_eq!(buffer.len(), len);
                assert_eq!(buffer.as_ptr().addr() % alignment.max(1), 0, "{len} at {alignment}");
                assert!(buffer.iter().all(|byte| *byte == 0));
                assert!(aligned_buffer(0, alignment).is_empty());
                // Through the hands of whoever sends it, and back.
                let place = buffer.as_ptr();
                buffer.fill(1);
                let back = buffer.freeze().try_into_mut().unwrap();
                assert_eq!(back.as_ptr(), place);
            }
        }
    }
}

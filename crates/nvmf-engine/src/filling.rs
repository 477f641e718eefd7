//! Buffers that are filled straight from the socket.

use std::collections::VecDeque;
use std::io::IoSliceMut;

use bytes::BytesMut;

/// Buffers that the next bytes of a stream belong into, in order.
#[derive(Debug, Default)]
pub(crate) struct Filling {
    /// What was asked for together is given back together.
    wanted: VecDeque<Vec<BytesMut>>,
    /// Bytes of the first that are there.
    filled: usize,
}

impl Filling {
    pub(crate) fn push(&mut self, parts: Vec<BytesMut>) {
        if parts.iter().any(|part| !part.is_empty()) {
            self.wanted.push_back(parts);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.wanted.is_empty()
    }

    /// How many bytes there is room for.
    pub(crate) fn left(&self) -> usize {
        self.wanted.iter().flatten().map(|part| part.len()).sum::<usize>() - self.filled
    }

    /// The room that is left, in order.
    pub(crate) fn room(&mut self) -> impl Iterator<Item = &mut [u8]> {
        let mut skip = self.filled;
        self.wanted.iter_mut().flatten().filter_map(move |part| {
            let length = part.len();
            let left = part.get_mut(skip..).filter(|left| !left.is_empty());
            skip = skip.saturating_sub(length);
            left
        })
    }

    /// The room that is left, in at most `max` pieces.
    pub(crate) fn io_slices(&mut self, max: usize) -> Vec<IoSliceMut<'_>> {
        self.room().take(max).map(IoSliceMut::new).collect()
    }

    /// Notes that up to `n` bytes were received into the room; returns how many of them that were.
    pub(crate) fn advance(&mut self, n: usize) -> usize {
        let n = n.min(self.left());
        self.filled += n;
        n
    }

    /// Copies the first of `bytes` into the room; returns how many there was room for.
    pub(crate) fn copy_from(&mut self, bytes: &[u8]) -> usize {
        let mut left = bytes;
        for slice in self.room() {
            let n = slice.len().min(left.len());
            slice[..n].copy_from_slice(&left[..n]);
            left = &left[n..];
            if left.is_empty() {
                break;
            }
        }
        self.advance(bytes.len() - left.len())
    }

    /// Takes the first buffers out if they are full.
    pub(crate) fn take_full(&mut self) -> Option<Vec<BytesMut>> {
        let first: usize = self.wanted.front()?.iter().map(|part| part.len()).sum();
        let left = self.filled.checked_sub(first)?;
        self.filled = left;
        self.wanted.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn buffers_fill_in_order_however_the_bytes_come(
            lengths in prop::collection::vec(prop::collection::vec(0usize..20, 1..4), 1..6),
            cuts in prop::collection::vec((1usize..30, any::<bool>()), 1..100),
        ) {
            let mut filling = Filling::default();
            let mut expected = Vec::new();
            for parts in &lengths {
                if parts.iter().sum::<usize>() > 0 {
                    expected.push(parts.clone());
                }
                filling.push(parts.iter().map(|n| BytesMut::zeroed(*n)).collect());
            }
            let total: usize = lengths.iter().flatten().sum();
            let bytes: Vec<u8> = (0..total).map(|i| u8::try_from(i % 251).unwrap()).collect();
            let (mut at, mut out) = (0, Vec::new());
            for (n, by_copy) in cuts {
                let piece = &bytes[at..total.min(at + n)];
                let taken = if by_copy {
                    filling.copy_from(piece)
                } else {
                    let mut left = piece;
                    for slice in &mut filling.io_slices(1000) {
                        let n = slice.len().min(left.len());
                        slice[..n].copy_from_slice(&left[..n]);
                        left = &left[n..];
                    }
                    filling.advance(piece.len())
                };
                prop_assert_eq!(taken, piece.len());
                at += taken;
                while let Some(parts) = filling.take_full() {
                    prop_assert_eq!(
                        parts.iter().map(|part| part.len()).collect::<Vec<_>>(),
                        expected.remove(0)
                    );
                    out.extend(parts.into_iter().flatten());
                }
                prop_assert_eq!(&out, &bytes[..out.len()]);
            }
            if at == total {
                prop_assert!(filling.is_empty() && out.len() == total);
            }
        }
    }
}

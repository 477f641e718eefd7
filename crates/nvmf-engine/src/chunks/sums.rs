//! Sums of a chunk's blocks, kept from who computed them for who asks next.

use std::ops::Range;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Chunks;

/// A part of bytes that a sum is computed of.
#[derive(Clone, Copy, Debug)]
pub enum Summand<'a> {
    /// Bytes whose sum nobody keeps.
    Bytes(&'a [u8]),
    /// The sum of the next [`Chunks::BLOCK`] bytes.
    Block(u32),
}

/// One word per block of a table's chunks, from the first question on: above, the generation, in
/// its last 32 bits, that the sum below is of. 0: there is none.
///
/// A sum is noted by who has a lease of that generation. So when a writer, alone with the chunk,
/// [forgets](Self::forget) it, nobody is left who would note the old one again; and what a lease
/// notes of memory that its chunk no longer has is of a generation that nobody asks for, until the
/// next one but 2^32, and each of them forgets. What orders all this is the word of the chunk's
/// leases.
#[derive(Debug, Default)]
pub(super) struct Sums(OnceLock<Box<[AtomicU64]>>);

impl Sums {
    /// Gives the summands of `bytes`, which are at `start` of chunk `place` of the table and are
    /// lent; `blocks` is how many a chunk has.
    pub(super) fn each(
        &self,
        (place, blocks, generation): (usize, usize, u64),
        (start, bytes): (usize, &[u8]),
        sum: impl Fn(&[u8]) -> u32,
        mut each: impl FnMut(Summand<'_>),
    ) {
        let to_border = start.next_multiple_of(Chunks::BLOCK) - start;
        let first = (start + to_border) / Chunks::BLOCK;
        let words =
            if to_border + Chunks::BLOCK <= bytes.len() { self.words(blocks) } else { None };
        let Some(words) = words else { return each(Summand::Bytes(bytes)) };
        let words = &words[place * blocks + first..(place + 1) * blocks];
        let (head, rest) = bytes.split_at(to_border);
        let whole = rest.chunks_exact(Chunks::BLOCK);
        let tail = whole.remainder();
        if !head.is_empty() {
            each(Summand::Bytes(head));
        }
        for (word, block) in words.iter().zip(whole) {
            each(Summand::Block(known(word, generation, || sum(block))));
        }
        if !tail.is_empty() {
            each(Summand::Bytes(tail));
        }
    }

    /// The bytes of a chunk that `range` has a part of are others now.
    pub(super) fn forget(&self, place: usize, blocks: usize, range: Range<usize>) {
        let Some(words) = self.0.get() else { return };
        let first = range.start / Chunks::BLOCK;
        let end = range.end.div_ceil(Chunks::BLOCK).min(blocks);
        for word in &words[place * blocks + first.min(end)..place * blocks + end] {
            word.store(0, Ordering::Relaxed);
        }
    }

    fn words(&self, blocks: usize) -> Option<&[AtomicU64]> {
        if let Some(words) = self.0.get() {
            return Some(words);
        }
        // Without memory for it nothing is kept.
        let new = super::filled(blocks * super::TABLE).ok()?;
        Some(self.0.get_or_init(|| new))
    }
}

/// The sum that a word has for a generation, else the one that is computed, and noted.
fn known(word: &AtomicU64, generation: u64, compute: impl FnOnce() -> u32) -> u32 {
    let tag = generation << 32;
    let now = word.load(Ordering::Relaxed);
    if now != 0 && now & !u64::from(u32::MAX) == tag {
        #[allow(clippy::cast_possible_truncation, reason = "the lower half")]
        return now as u32;
    }
    let sum = compute();
    word.store(tag | u64::from(sum), Ordering::Relaxed);
    sum
}

#[cfg(test)]
mod tests;

//! Blocks that say which they are.
//!
//! A block has its address, the generation of the write that made it and the number of the run in
//! its first three words, and everything after them follows from these: a block that is somebody
//! else's, older than it should be, torn or damaged is found out.

use std::fmt;

use super::random::mix;

/// Words that name the block.
const NAMES: usize = 3;

/// The block that a write made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Stamp {
    pub lba: u64,
    pub generation: u32,
    pub run: u64,
}

/// A block is not what it should be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Mismatch {
    expected: Stamp,
    /// Where in the block, in bytes.
    offset: usize,
    word: u64,
    found: u64,
    /// The first words of the block.
    says: [u64; NAMES],
}

impl Stamp {
    fn names(self) -> [u64; NAMES] {
        [self.lba, u64::from(self.generation), self.run]
    }

    fn key(self) -> u64 {
        mix(mix(self.lba ^ self.run) ^ u64::from(self.generation))
    }

    /// Writes the block. Its length is a multiple of 8, and more than the words that name it.
    pub(crate) fn fill(self, block: &mut [u8]) {
        let mut word = self.key();
        let (words, _) = block.as_chunks_mut::<8>();
        for bytes in words.iter_mut() {
            *bytes = word.to_le_bytes();
            word = word.wrapping_add(STEP);
        }
        for (bytes, name) in words.iter_mut().zip(self.names()) {
            *bytes = name.to_le_bytes();
        }
    }

    /// Whether it is the block.
    pub(crate) fn matches(self, block: &[u8]) -> bool {
        let (words, rest) = block.as_chunks::<8>();
        let (names, words) = words.split_at(NAMES.min(words.len()));
        let mut wrong = 0;
        for (bytes, name) in names.iter().zip(self.names()) {
            wrong |= u64::from_le_bytes(*bytes) ^ name;
        }
        // Four sums at a time, which no one has to wait for the last of.
        let mut next = [0; LANES];
        let mut word = self.key().wrapping_add(STEP.wrapping_mul(NAMES as u64));
        for lane in &mut next {
            *lane = word;
            word = word.wrapping_add(STEP);
        }
        let mut lanes = [0; LANES];
        let (groups, tail) = words.as_chunks::<LANES>();
        for group in groups {
            for ((lane, bytes), word) in lanes.iter_mut().zip(group).zip(&mut next) {
                *lane |= u64::from_le_bytes(*bytes) ^ *word;
                *word = word.wrapping_add(STEP.wrapping_mul(LANES as u64));
            }
        }
        for (bytes, word) in tail.iter().zip(next) {
            wrong |= u64::from_le_bytes(*bytes) ^ word;
        }
        lanes.iter().fold(wrong, |wrong, lane| wrong | lane) == 0 && rest.is_empty()
    }

    /// What is wrong with a block; `None` if it is this one.
    pub(crate) fn judge(self, block: &[u8]) -> Option<Mismatch> {
        if self.matches(block) {
            return None;
        }
        let mut right = vec![0; block.len()];
        self.fill(&mut right);
        let word = |bytes: &[u8], at: usize| {
            bytes
                .get(at..at + 8)
                .and_then(|bytes| bytes.try_into().ok())
                .map_or(0, u64::from_le_bytes)
        };
        let at = (0..block.len()).step_by(8).find(|at| word(block, *at) != word(&right, *at))?;
        Some(Mismatch {
            expected: self,
            offset: at,
            word: word(&right, at),
            found: word(block, at),
            says: std::array::from_fn(|i| word(block, i * 8)),
        })
    }
}

/// Between one word and the next: odd, so that no two words of a block are the same.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
const LANES: usize = 8;

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { expected, offset, word, found, says: [lba, generation, run] } = self;
        write!(
            f,
            "LBA {}, byte {offset}: expected {word:016x}, found {found:016x}; ",
            expected.lba
        )?;
        match (*run == expected.run, *lba == expected.lba) {
            (false, _) => write!(f, "it is no block of this run"),
            (true, false) => write!(f, "it is LBA {lba} of generation {generation}"),
            (true, true) if *generation != u64::from(expected.generation) => {
                write!(f, "it is of generation {generation}, not {}", expected.generation)
            }
            (true, true) => write!(f, "it is damaged"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp = Stamp { lba: 77, generation: 3, run: 5 };

    fn block(stamp: Stamp) -> Vec<u8> {
        let mut block = vec![0; 512];
        stamp.fill(&mut block);
        block
    }

    #[test]
    fn every_bit_counts() {
        let mut bytes = block(STAMP);
        assert_eq!(STAMP.judge(&bytes), None);
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            let wrong = STAMP.judge(&bytes).unwrap();
            assert_eq!(wrong.offset, bit / 64 * 8);
            assert_eq!((wrong.word ^ wrong.found).count_ones(), 1);
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn another_block_an_older_one_and_one_of_another_run_are_told_apart() {
        let said = |other: Stamp| STAMP.judge(&block(other)).unwrap().to_string();
        assert!(said(Stamp { lba: 78, ..STAMP }).ends_with("it is LBA 78 of generation 3"));
        let old = said(Stamp { generation: 2, ..STAMP });
        assert!(old.starts_with("LBA 77, byte 8: expected 0000000000000003, found"), "{old}");
        assert!(old.ends_with("it is of generation 2, not 3"));
        assert!(said(Stamp { run: 6, ..STAMP }).ends_with("it is no block of this run"));
        assert!(STAMP.judge(&[0; 512]).unwrap().to_string().contains("no block of this run"));
    }

    #[test]
    fn a_torn_block_is_damaged() {
        let mut torn = block(STAMP);
        let old = block(Stamp { generation: 2, ..STAMP });
        torn[256..].copy_from_slice(&old[256..]);
        let wrong = STAMP.judge(&torn).unwrap();
        assert_eq!(wrong.offset, 256);
        assert!(wrong.to_string().ends_with("it is damaged"));
    }
}

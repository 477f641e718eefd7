//! What has to be in the blocks that were written.

use std::collections::HashMap;
use std::ops::Range;

use super::pattern::{Mismatch, Stamp};

/// What is known of the blocks of a range, in units of one command each.
///
/// No two commands are ever under way for one unit, so what a read has to bring is known when it
/// is sent. Where a write was lost, each of its blocks may be the old or the new one until the
/// next command on it that succeeds.
#[derive(Debug)]
pub(crate) struct Ledger {
    run: u64,
    /// The first block, and how many a unit has.
    first: u64,
    blocks: usize,
    block_size: usize,
    /// What made each block.
    generations: Vec<u32>,
    /// The generations that a block in doubt may be of.
    doubts: HashMap<usize, Vec<u32>>,
    /// A bit for each unit: a command is under way.
    busy: Vec<u64>,
    last: u32,
}

/// Nothing is known of the block.
const UNKNOWN: u32 = 0;
/// It is one of several.
const DOUBT: u32 = u32::MAX;

impl Ledger {
    /// Knows nothing of the blocks of `units` units, each of `blocks` blocks of `block_size`
    /// bytes, the first of which is `first`. `None` if there is not enough memory.
    pub(crate) fn new(
        run: u64,
        first: u64,
        units: u64,
        blocks: u32,
        block_size: usize,
    ) -> Option<Self> {
        let blocks = usize::try_from(blocks).ok()?;
        let units = usize::try_from(units).ok()?;
        let count = units.checked_mul(blocks)?;
        let mut generations = Vec::new();
        generations.try_reserve_exact(count).ok()?;
        generations.resize(count, UNKNOWN);
        Some(Self {
            run,
            first,
            blocks,
            block_size,
            generations,
            doubts: HashMap::new(),
            busy: vec![0; units.div_ceil(64)],
            last: UNKNOWN,
        })
    }

    /// Claims a unit for a command; `false` if one is under way.
    pub(crate) fn claim(&mut self, unit: usize) -> bool {
        let (word, bit) = (&mut self.busy[unit / 64], 1 << (unit % 64));
        let free = *word & bit == 0;
        *word |= bit;
        free
    }

    fn release(&mut self, unit: usize) {
        self.busy[unit / 64] &= !(1 << (unit % 64));
    }

    fn places(&self, unit: usize) -> Range<usize> {
        unit * self.blocks..(unit + 1) * self.blocks
    }

    /// Whether something is known of every block of a unit.
    pub(crate) fn knows(&self, unit: usize) -> bool {
        self.places(unit).all(|place| match self.generations[place] {
            UNKNOWN => false,
            DOUBT => self.doubts.get(&place).is_some_and(|all| !all.contains(&UNKNOWN)),
            _ => true,
        })
    }

    /// Fills a buffer for the next write of a unit; returns the generation.
    pub(crate) fn fill(&mut self, unit: usize, buffer: &mut [u8]) -> u32 {
        self.last = match self.last + 1 {
            DOUBT => UNKNOWN + 1,
            next => next,
        };
        let first = self.first + u64::try_from(unit * self.blocks).unwrap_or(0);
        for (lba, block) in (first..).zip(buffer.chunks_exact_mut(self.block_size)) {
            Stamp { lba, generation: self.last, run: self.run }.fill(block);
        }
        self.last
    }

    /// A write has succeeded, or a claim is given up without one.
    pub(crate) fn written(&mut self, unit: usize, generation: u32) {
        for place in self.places(unit) {
            self.settle(place, generation);
        }
        self.release(unit);
    }

    fn settle(&mut self, place: usize, generation: u32) {
        if std::mem::replace(&mut self.generations[place], generation) == DOUBT {
            self.doubts.remove(&place);
        }
    }

    /// A write may have happened, all of it, a part, or nothing.
    pub(crate) fn lost(&mut self, unit: usize, generation: u32) {
        for place in self.places(unit) {
            let known = std::mem::replace(&mut self.generations[place], DOUBT);
            let all = self.doubts.entry(place).or_default();
            if known != DOUBT {
                all.push(known);
            }
            all.push(generation);
        }
        self.release(unit);
    }

    /// A read has brought nothing.
    pub(crate) fn unread(&mut self, unit: usize) {
        self.release(unit);
    }

    /// Judges what a read has brought: what is wrong with the first block that is wrong.
    pub(crate) fn read(&mut self, unit: usize, bytes: &[u8]) -> Option<Mismatch> {
        let mut wrong = None;
        for (place, block) in self.places(unit).zip(bytes.chunks_exact(self.block_size)) {
            let found = self.judge(place, block);
            wrong = wrong.or(found);
        }
        self.release(unit);
        wrong
    }

    fn judge(&mut self, place: usize, block: &[u8]) -> Option<Mismatch> {
        let lba = self.first + u64::try_from(place).unwrap_or(0);
        let stamp = |generation| Stamp { lba, generation, run: self.run };
        match self.generations[place] {
            UNKNOWN => None,
            DOUBT => {
                let all = self.doubts.get(&place)?;
                match all.iter().find(|made| **made != UNKNOWN && stamp(**made).matches(block)) {
                    Some(made) => {
                        let made = *made;
                        self.settle(place, made);
                        None
                    }
                    None if all.contains(&UNKNOWN) => {
                        // It was not written, and what it was before nobody knows.
                        self.settle(place, UNKNOWN);
                        None
                    }
                    None => stamp(all.last().copied().unwrap_or(UNKNOWN)).judge(block),
                }
            }
            generation => stamp(generation).judge(block),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Four units of two blocks of 512 bytes.
    fn ledger() -> Ledger {
        Ledger::new(9, 100, 4, 2, 512).unwrap()
    }

    fn write(ledger: &mut Ledger, unit: usize) -> (u32, Vec<u8>) {
        let mut bytes = vec![0; 1024];
        assert!(ledger.claim(unit));
        (ledger.fill(unit, &mut bytes), bytes)
    }

    fn read(ledger: &mut Ledger, unit: usize, bytes: &[u8]) -> Option<String> {
        assert!(ledger.claim(unit));
        ledger.read(unit, bytes).map(|wrong| wrong.to_string())
    }

    #[test]
    fn a_unit_under_way_is_not_claimed_again() {
        let mut ledger = ledger();
        let (generation, _) = write(&mut ledger, 1);
        assert!(!ledger.claim(1));
        assert!(ledger.claim(2));
        ledger.written(1, generation);
        assert!(ledger.claim(1));
    }

    #[test]
    fn what_is_read_is_what_was_written_last() {
        let mut ledger = ledger();
        assert!(!ledger.knows(2));
        assert_eq!(read(&mut ledger, 2, &[7; 1024]), None, "nothing is known of it");
        let (first, old) = write(&mut ledger, 2);
        ledger.written(2, first);
        assert!(ledger.knows(2) && !ledger.knows(1));
        assert_eq!(read(&mut ledger, 2, &old), None);
        let (second, new) = write(&mut ledger, 2);
        ledger.written(2, second);
        assert_eq!(read(&mut ledger, 2, &new), None);
        let said = read(&mut ledger, 2, &old).unwrap();
        assert!(said.starts_with("LBA 104, byte 8") && said.contains("not 2"), "{said}");
        let mut second_block = new.clone();
        second_block[512 + 100] ^= 1;
        let said = read(&mut ledger, 2, &second_block).unwrap();
        assert!(said.starts_with("LBA 105, byte 96") && said.contains("damaged"), "{said}");
    }

    #[test]
    fn each_block_of_a_lost_write_is_the_old_or_the_new_one_until_it_is_seen() {
        let mut ledger = ledger();
        let (first, old) = write(&mut ledger, 0);
        ledger.written(0, first);
        let (second, new) = write(&mut ledger, 0);
        ledger.lost(0, second);
        assert!(ledger.knows(0));
        let torn = [&new[..512], &old[512..]].concat();
        assert_eq!(read(&mut ledger, 0, &torn), None);
        assert_eq!(read(&mut ledger, 0, &torn), None, "seen, it is known");
        assert!(read(&mut ledger, 0, &new).unwrap().starts_with("LBA 101"));
        assert!(read(&mut ledger, 0, &old).unwrap().starts_with("LBA 100"));
    }

    #[test]
    fn a_block_in_doubt_is_none_of_any_other_generation() {
        let mut ledger = ledger();
        let mut made = Vec::new();
        for at in 0..4 {
            let (generation, bytes) = write(&mut ledger, 0);
            if at < 2 {
                ledger.written(0, generation);
            } else {
                ledger.lost(0, generation);
            }
            made.push(bytes);
        }
        assert!(read(&mut ledger, 0, &made[0]).is_some(), "it was overwritten for certain");
        assert_eq!(read(&mut ledger, 0, &made[2]), None);
        assert!(read(&mut ledger, 0, &made[3]).is_some(), "it was decided");
    }

    #[test]
    fn a_first_write_that_is_lost_leaves_anything() {
        let mut ledger = ledger();
        let (generation, bytes) = write(&mut ledger, 3);
        ledger.lost(3, generation);
        assert!(!ledger.knows(3));
        assert_eq!(read(&mut ledger, 3, &[&bytes[..512], &[1; 512]].concat()), None);
        assert!(!ledger.knows(3));
        let (generation, bytes) = write(&mut ledger, 3);
        ledger.written(3, generation);
        assert!(ledger.knows(3) && ledger.doubts.is_empty());
        assert_eq!(read(&mut ledger, 3, &bytes), None);
    }
}

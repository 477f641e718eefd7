//! Lists of slices seen as one run of bytes.

use std::io::{IoSlice, IoSliceMut};

/// The bytes in all slices. Slices may overlap, so the sum may pass any address space; it then
/// stays at the largest number, which no range check lets through.
pub(crate) fn length(slices: &[IoSlice<'_>]) -> u64 {
    sum(slices.iter().map(|slice| slice.len()))
}

/// [`length`] of slices to read into.
pub(crate) fn length_mut(slices: &[IoSliceMut<'_>]) -> u64 {
    sum(slices.iter().map(|slice| slice.len()))
}

fn sum(lengths: impl Iterator<Item = usize>) -> u64 {
    lengths.fold(0, |sum, length| sum.saturating_add(length as u64))
}

/// Takes bytes out of a list of slices, in order.
pub(crate) struct Gather<'a> {
    slices: &'a [IoSlice<'a>],
    /// How much of the first slice is taken.
    taken: usize,
}

impl<'a> Gather<'a> {
    pub(crate) fn new(slices: &'a [IoSlice<'a>]) -> Self {
        Self { slices, taken: 0 }
    }

    /// Fills `to` with the next bytes; the slices must hold as many.
    pub(crate) fn fill(&mut self, to: &mut [u8]) {
        let mut filled = 0;
        self.each(to.len(), |part| {
            to[filled..filled + part.len()].copy_from_slice(part);
            filled += part.len();
        });
    }

    fn each(&mut self, mut count: usize, mut act: impl FnMut(&[u8])) {
        while let Some((first, others)) = self.slices.split_first()
            && count > 0
        {
            let left = &first[self.taken..];
            let part = left.len().min(count);
            act(&left[..part]);
            count -= part;
            self.taken += part;
            if self.taken == first.len() {
                (self.slices, self.taken) = (others, 0);
            }
        }
        debug_assert_eq!(count, 0, "the caller measured the slices");
    }
}

/// Puts bytes into a list of slices, in order.
pub(crate) struct Scatter<'a, 'b> {
    slices: &'a mut [IoSliceMut<'b>],
    /// The slice to fill next, and how much of it is filled.
    next: usize,
    filled: usize,
}

impl<'a, 'b> Scatter<'a, 'b> {
    pub(crate) fn new(slices: &'a mut [IoSliceMut<'b>]) -> Self {
        Self { slices, next: 0, filled: 0 }
    }

    /// Puts `from` into the next bytes; the slices must have the room.
    pub(crate) fn put(&mut self, mut from: &[u8]) {
        self.each(from.len(), |room| {
            let (now, later) = from.split_at(room.len());
            room.copy_from_slice(now);
            from = later;
        });
    }

    /// Zeroes the next `count` bytes.
    pub(crate) fn put_zeroes(&mut self, count: usize) {
        self.each(count, |room| room.fill(0));
    }

    fn each(&mut self, mut count: usize, mut act: impl FnMut(&mut [u8])) {
        while let Some(slice) = self.slices.get_mut(self.next)
            && count > 0
        {
            let room = &mut slice[self.filled..];
            let part = room.len().min(count);
            act(&mut room[..part]);
            count -= part;
            self.filled += part;
            if self.filled == slice.len() {
                self.next += 1;
                self.filled = 0;
            }
        }
        debug_assert_eq!(count, 0, "the caller measured the slices");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gathering_crosses_slices_and_skips_empty_ones() {
        let slices = [&b"ab"[..], b"", b"cde", b"", b"f"].map(IoSlice::new);
        let mut gather = Gather::new(&slices);
        let (mut one, mut four, mut rest) = ([0; 1], [0; 4], [0; 1]);
        gather.fill(&mut one);
        gather.fill(&mut four);
        gather.fill(&mut rest);
        assert_eq!((&one, &four, &rest), (b"a", b"bcde", b"f"));
    }

    #[test]
    fn scattering_crosses_slices_and_skips_empty_ones() {
        let (mut a, mut b, mut c, mut d) = ([b'-'; 2], [b'-'; 0], [b'-'; 3], [b'-'; 2]);
        let mut slices = [&mut a[..], &mut b, &mut c, &mut d].map(IoSliceMut::new);
        let mut scatter = Scatter::new(&mut slices);
        scatter.put(b"x");
        scatter.put_zeroes(3);
        scatter.put(b"yz");
        assert_eq!((&a, &c, &d), (b"x\0", b"\0\0y", b"z-"));
    }

    #[test]
    fn a_sum_past_any_number_stays_at_the_largest() {
        assert_eq!(sum([usize::MAX, usize::MAX].into_iter()), u64::MAX);
    }
}

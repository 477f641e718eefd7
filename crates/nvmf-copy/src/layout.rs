//! Which bytes go where, judged before anything is done.

use std::ops::Range;

use crate::endpoint::{Destination, Identity, Rest, Source};
use crate::error::Error;

/// What is asked for; what is left out is everything.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Wanted {
    pub(crate) source_offset: u64,
    pub(crate) offset: Option<u64>,
    pub(crate) length: Option<u64>,
}

/// Which bytes go where. All arithmetic on it stays within `u64`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Layout {
    pub(crate) source_offset: u64,
    pub(crate) offset: u64,
    pub(crate) length: u64,
    pub(crate) rest: Rest,
}

impl Layout {
    /// Refuses what does not fit.
    pub(crate) fn new(
        wanted: Wanted,
        (source, from): (&dyn Source, &Identity),
        (destination, to): (&dyn Destination, &Identity),
    ) -> Result<Self, Error> {
        let Wanted { source_offset, offset, length } = wanted;
        let length = length.unwrap_or_else(|| from.size.saturating_sub(source_offset));
        let end = source_offset.checked_add(length);
        if end.is_none_or(|end| end > from.size) {
            let (name, size) = (source.name().to_owned(), from.size);
            return Err(Error::SourceRange { name, offset: source_offset, length, size });
        }
        let rest = match offset {
            Some(_) => Rest::Stays,
            None => Rest::Goes,
        };
        let offset = offset.unwrap_or(0);
        let most = if destination.grows() { i64::MAX.cast_unsigned() } else { to.size };
        let end = offset.checked_add(length);
        if end.is_none_or(|end| end > most) {
            let (name, size) = (destination.name().to_owned(), to.size);
            return Err(Error::DestinationRange { name, offset, length, size });
        }
        let layout = Self { source_offset, offset, length, rest };
        if from.place == to.place && layout.overlaps(destination.grows()) {
            let (source_name, destination) = (source.name().into(), destination.name().into());
            return Err(Error::Same { source_name, destination });
        }
        Ok(layout)
    }

    /// Whether bytes would be overwritten that are read, if both are of the same.
    fn overlaps(&self, grows: bool) -> bool {
        let emptied = grows && self.rest == Rest::Goes;
        emptied || self.source_offset.abs_diff(self.offset) < self.length
    }

    /// Where a range of the copy is in the source.
    pub(crate) fn in_source(&self, range: &Range<u64>) -> Range<u64> {
        self.source_offset + range.start..self.source_offset + range.end
    }

    /// Where a range of the copy is in the destination.
    pub(crate) fn in_destination(&self, range: &Range<u64>) -> Range<u64> {
        self.offset + range.start..self.offset + range.end
    }

    /// The last place at or before this one that is a multiple of `unit` in the destination, but not
    /// before the beginning.
    pub(crate) fn down(&self, at: u64, unit: u64) -> u64 {
        at.saturating_sub((self.offset + at) % unit.max(1))
    }

    /// The first place at or after this one that is a multiple of `unit` in the destination, but
    /// not past the end.
    pub(crate) fn up(&self, at: u64, unit: u64) -> u64 {
        let unit = unit.max(1);
        let past = (self.offset + at) % unit;
        let up = if past == 0 { at } else { at.saturating_add(unit - past) };
        up.min(self.length)
    }
}

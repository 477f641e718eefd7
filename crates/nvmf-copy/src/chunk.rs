//! One task: read and written, or compared.

use std::io;
use std::ops::Range;

use crate::endpoint::{Destination, Source};
use crate::error::Error;
use crate::layout::Layout;
use crate::pieces::{self, Piece};
use crate::plan::Task;

/// What becomes of zeroes.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[non_exhaustive]
pub enum Sparse {
    /// Holes of the source are made holes. Where the source does not know its holes (a block device,
    /// a namespace), zeroes are looked for in the data.
    #[default]
    Auto,
    /// Zeroes in the data of the source are made holes too.
    Always,
    /// Every byte is written.
    Never,
}

/// What a task came to, in bytes.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Moved {
    /// Written as data.
    pub(crate) written: u64,
    /// Made zero without writing it.
    pub(crate) zeroed: u64,
}

/// Both ends, and how they are used.
#[derive(Clone, Copy)]
pub(crate) struct Ends<'a> {
    pub(crate) source: &'a dyn Source,
    pub(crate) destination: &'a dyn Destination,
    pub(crate) layout: Layout,
    pub(crate) sparse: Sparse,
    /// What holes in the destination are cut at, in bytes.
    pub(crate) unit: u64,
}

impl Ends<'_> {
    /// Whether the source's map says where it has nothing.
    pub(crate) fn maps(&self) -> bool {
        self.sparse != Sparse::Never && self.source.has_map()
    }

    fn looks_for_zeroes(&self) -> bool {
        match self.sparse {
            Sparse::Auto => !self.source.has_map(),
            Sparse::Always => true,
            Sparse::Never => false,
        }
    }

    /// Copies what a task is about; `buffer` has room for a chunk.
    pub(crate) fn copy(&self, task: &Task, buffer: &mut [u8]) -> Result<Moved, Error> {
        let mut moved = Moved::default();
        for piece in self.known(task)? {
            match piece {
                Piece::Zeroes(range) => self.zero(&range, &mut moved)?,
                Piece::Data(range) => self.copy_data(&range, part(buffer, &range), &mut moved)?,
            }
        }
        Ok(moved)
    }

    /// What is known of a task's range before it is read.
    fn known(&self, task: &Task) -> Result<Vec<Piece>, Error> {
        match task {
            Task::Hole(range) => Ok(vec![Piece::Zeroes(range.clone())]),
            Task::Data(range) if !self.maps() => Ok(vec![Piece::Data(range.clone())]),
            Task::Data(range) => pieces::by_map(self.source, &self.layout, range, self.unit)
                .map_err(|source| self.unread(range, source)),
        }
    }

    fn copy_data(
        &self,
        range: &Range<u64>,
        bytes: &mut [u8],
        moved: &mut Moved,
    ) -> Result<(), Error> {
        self.read_source(range, bytes)?;
        if !self.looks_for_zeroes() {
            return self.write(range, bytes, moved);
        }
        for piece in pieces::by_content(&self.layout, range, bytes, self.unit) {
            match piece {
                Piece::Zeroes(part) => self.zero(&part, moved)?,
                Piece::Data(part) => self.write(&part, within(bytes, range, &part), moved)?,
            }
        }
        Ok(())
    }

    fn read_source(&self, range: &Range<u64>, bytes: &mut [u8]) -> Result<(), Error> {
        let from = self.layout.in_source(range);
        self.source.read_at(bytes, from.start).map_err(|source| self.unread(range, source))
    }

    fn write(&self, range: &Range<u64>, bytes: &[u8], moved: &mut Moved) -> Result<(), Error> {
        let to = self.layout.in_destination(range);
        self.destination.write_at(bytes, to.start).map_err(|source| {
            let name = self.destination.name().to_owned();
            Error::Write { name, offset: to.start, length: to.end - to.start, source }
        })?;
        moved.written += to.end - to.start;
        Ok(())
    }

    fn zero(&self, range: &Range<u64>, moved: &mut Moved) -> Result<(), Error> {
        let to = self.layout.in_destination(range);
        let length = to.end - to.start;
        self.destination.zero(to.start, length).map_err(|source| {
            let name = self.destination.name().to_owned();
            Error::Zero { name, offset: to.start, length, source }
        })?;
        moved.zeroed += length;
        Ok(())
    }

    /// Compares a range; gives the first byte that is different, counted from the beginning of the
    /// copy. The buffers have room for a chunk each.
    ///
    /// The source's map is not looked at: if it were wrong, this is what would tell.
    pub(crate) fn compare(
        &self,
        range: &Range<u64>,
        (ours, theirs): (&mut [u8], &mut [u8]),
    ) -> Result<Option<u64>, Error> {
        self.source.drop_cache(self.layout.in_source(range));
        self.destination.drop_cache(self.layout.in_destination(range));
        let (ours, theirs) = (part(ours, range), part(theirs, range));
        self.read_source(range, ours)?;
        self.read_destination(range, theirs)?;
        Ok(first_difference(ours, theirs).map(|at| range.start + at))
    }

    fn read_destination(&self, range: &Range<u64>, bytes: &mut [u8]) -> Result<(), Error> {
        let from = self.layout.in_destination(range);
        let read = self.destination.read_at(bytes, from.start);
        read.map_err(|source| {
            let name = self.destination.name().to_owned();
            Error::Read { name, offset: from.start, length: from.end - from.start, source }
        })
    }

    fn unread(&self, range: &Range<u64>, source: io::Error) -> Error {
        let from = self.layout.in_source(range);
        let name = self.source.name().to_owned();
        Error::Read { name, offset: from.start, length: from.end - from.start, source }
    }
}

/// As much of a buffer as a range has bytes.
fn part<'a>(buffer: &'a mut [u8], range: &Range<u64>) -> &'a mut [u8] {
    let length = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
    let room = buffer.len();
    &mut buffer[..length.min(room)]
}

/// The bytes of `part`, where `bytes` are those of `whole`.
fn within<'a>(bytes: &'a [u8], whole: &Range<u64>, part: &Range<u64>) -> &'a [u8] {
    let place = |at: u64| usize::try_from(at - whole.start).unwrap_or(usize::MAX).min(bytes.len());
    &bytes[place(part.start)..place(part.end)]
}

fn first_difference(ours: &[u8], theirs: &[u8]) -> Option<u64> {
    if ours == theirs {
        return None;
    }
    let at = ours.iter().zip(theirs).position(|(ours, theirs)| ours != theirs);
    at.and_then(|at| u64::try_from(at).ok())
}

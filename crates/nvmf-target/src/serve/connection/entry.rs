//! What a connection keeps of each command.

use std::ops::{Deref, Range};
use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;
use nvme_spec::{Sqe, Status};
use nvmf_engine::{Chunks, Lent, Message, Pool, Summand};
use nvmf_proto::capsule::DataLocation;
use nvmf_proto::digest::{Crc32c, crc32c};
use nvmf_proto::pdu::PayloadSource;

use crate::io::Operation;
use crate::subsystem::{KeptPlace, Namespace};

/// A command from its capsule until its answer is encoded.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) sqe: Sqe,
    /// When it came.
    pub(super) began: Option<Instant>,
    /// With what it is answered, if it is.
    pub(super) answer: Option<Status>,
    pub(super) data: DataLocation,
    /// Where data from the host is gathered.
    pub(super) staging: Staging,
    /// Data for the host, in order.
    pub(super) out: Outgoing,
    /// Memory that it is accounted for, in bytes.
    pub(super) held: usize,
    /// What the engine is busy with.
    pub(super) kept: Option<Operation<Arc<Namespace>>>,
    /// Its place among those who write, while the engine is busy with it.
    pub(super) writing: Option<KeptPlace>,
    pub(super) fused: Fused,
    /// It was not begun and not answered: it can be aborted.
    pub(super) pending: bool,
    /// The limits of its namespace have let it through.
    pub(super) admitted: bool,
    /// All of its data is in its staging, where it waits for something else.
    pub(super) arrived: bool,
    /// Its data was asked for.
    pub(super) requested: bool,
}

/// Whether a command is one of two.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Fused {
    #[default]
    No,
    /// The first, with the second once that has come.
    First(Option<u16>),
    /// The second, with the first.
    Second(u16),
}

/// Data for the host: mostly one piece.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    first: Lent,
    more: Vec<Lent>,
}

/// The commands of a connection by slot.
#[derive(Debug, Default)]
pub(super) struct Entries(Vec<Entry>);

impl Default for Entry {
    /// A slot without a command.
    fn default() -> Self {
        let (staging, out) = (Staging::default(), Outgoing::default());
        Self {
            sqe: Sqe::new(0),
            began: None,
            answer: None,
            data: DataLocation::None,
            staging,
            out,
            held: 0,
            kept: None,
            writing: None,
            fused: Fused::No,
            pending: false,
            admitted: false,
            arrived: false,
            requested: false,
        }
    }
}

impl Entry {
    /// There is nothing in it that a command would have to give back.
    fn is_bare(&self) -> bool {
        self.held == 0 && self.out.first.is_empty() && self.staging.length == 0
    }

    /// The command, and the length of its data in bytes.
    pub(super) fn whole(&self) -> (Sqe, u32) {
        (self.sqe, self.data.length())
    }

    /// Moves `length` bytes at `offset` of the data for the host into a message.
    pub(super) fn send(&mut self, offset: usize, length: usize, message: &mut Message) {
        if offset == 0 && length == self.out.first.len() {
            return message.push_shared(std::mem::take(&mut self.out.first));
        }
        for (piece, range) in in_range(self.out.pieces_mut(), offset, length) {
            message.push_shared(piece.slice(range));
        }
    }
}

impl Outgoing {
    pub(super) fn push(&mut self, piece: impl Into<Lent>) {
        let piece = piece.into();
        if self.first.is_empty() {
            self.first = piece;
        } else {
            self.more.push(piece);
        }
    }

    fn pieces(&self) -> impl Iterator<Item = &Lent> {
        std::iter::once(&self.first).chain(&self.more)
    }

    fn pieces_mut(&mut self) -> impl Iterator<Item = &mut Lent> {
        std::iter::once(&mut self.first).chain(&mut self.more)
    }
}

/// What `length` bytes at `offset` of all pieces together are of each.
fn in_range<P: Deref<Target = Lent>>(
    pieces: impl Iterator<Item = P>,
    mut offset: usize,
    mut length: usize,
) -> impl Iterator<Item = (P, Range<usize>)> {
    pieces.filter_map(move |piece| {
        let begin = offset.min(piece.len());
        let n = (piece.len() - begin).min(length);
        offset -= begin;
        length -= n;
        (n > 0).then_some((piece, begin..begin + n))
    })
}

impl Entries {
    /// A command came, into a slot that had none or whose command is [removed](Self::remove).
    pub(super) fn begin(&mut self, slot: u16, sqe: &Sqe, data: DataLocation) -> &mut Entry {
        let entry = self.get(slot);
        debug_assert!(entry.is_bare(), "slot {slot} is in use");
        (entry.sqe, entry.data, entry.answer, entry.fused) = (*sqe, data, None, Fused::No);
        entry.pending = true;
        (entry.admitted, entry.arrived, entry.requested) = (false, false, false);
        entry
    }

    /// The command in a slot that the protocol's state machine named.
    #[inline]
    pub(super) fn get(&mut self, slot: u16) -> &mut Entry {
        let at = usize::from(slot);
        if at >= self.0.len() {
            self.reach(slot);
        }
        &mut self.0[at]
    }

    /// The slots of commands on a namespace that were not begun.
    pub(super) fn pending_on(&self, nsid: u32) -> Vec<u16> {
        let slots = (0u16..).zip(&self.0);
        let pending = slots.filter(|(_, entry)| entry.pending && entry.sqe.nsid.get() == nsid);
        pending.map(|(slot, _)| slot).collect()
    }

    /// Forgets a command; returns the memory that it was accounted for.
    pub(super) fn remove(&mut self, pool: &mut Pool, slot: u16) -> usize {
        let entry = self.get(slot);
        entry.staging.discard(pool);
        entry.out = Outgoing::default();
        std::mem::take(&mut entry.held)
    }

    #[cold]
    fn reach(&mut self, slot: u16) {
        while self.0.len() <= usize::from(slot) {
            self.0.push(Entry::default());
        }
    }
}

impl Entries {
    /// What `length` bytes at `offset` of a command's data for the host are made of.
    fn outgoing(
        &self,
        tag: u16,
        offset: u32,
        length: u32,
    ) -> impl Iterator<Item = (&Lent, Range<usize>)> {
        let entry = self.0.get(usize::from(tag)).into_iter();
        entry.flat_map(move |entry| in_range(entry.out.pieces(), offset as usize, length as usize))
    }
}

impl PayloadSource for Entries {
    fn for_each<'a>(&'a self, tag: u16, offset: u32, length: u32, each: &mut dyn FnMut(&'a [u8])) {
        self.outgoing(tag, offset, length).for_each(|(piece, range)| each(&piece[range]));
    }

    fn digest(&self, tag: u16, offset: u32, length: u32) -> u32 {
        let mut crc = Crc32c::new();
        for (piece, range) in self.outgoing(tag, offset, length) {
            piece.summands(range, crc32c, |summand| match summand {
                Summand::Bytes(bytes) => crc.update(bytes),
                Summand::Block(digest) => crc.append(digest),
            });
        }
        crc.finish()
    }
}

// The digests that chunks keep are of the blocks that they can be put together from.
const _: () = assert!(Chunks::BLOCK == Crc32c::BLOCK);

/// Buffers for data from the host, cut where the namespace's own chunks are cut.
#[derive(Debug, Default)]
pub(super) struct Staging {
    /// In order; each begins where the last ends. An empty one is with the engine.
    parts: Vec<Part>,
    length: usize,
    /// Where the data begins in the chunk that it goes to.
    phase: usize,
}

#[derive(Debug)]
struct Part {
    start: usize,
    length: usize,
    buffer: BytesMut,
}

impl Staging {
    /// There will be `length` bytes that belong at byte `at` of the namespace. Takes no memory yet.
    pub(super) fn plan(&mut self, at: u64, length: usize) {
        // The remainder is below the chunk's length.
        self.phase = usize::try_from(at % Pool::LARGE as u64).unwrap_or(0);
        self.length = length;
    }

    /// Copies bytes to `offset`.
    pub(super) fn put(&mut self, pool: &mut Pool, offset: usize, mut bytes: &[u8]) {
        self.allocate(pool);
        let mut at = offset;
        for part in &mut self.parts {
            let end = part.start + part.length;
            if at >= end || part.buffer.is_empty() || bytes.is_empty() {
                continue;
            }
            let n = (end - at).min(bytes.len());
            let place = at - part.start;
            part.buffer[place..place + n].copy_from_slice(&bytes[..n]);
            bytes = &bytes[n..];
            at += n;
        }
    }

    fn allocate(&mut self, pool: &mut Pool) {
        if !self.parts.is_empty() {
            return;
        }
        let mut start = 0;
        while start < self.length {
            let to_border = Pool::LARGE - (self.phase + start) % Pool::LARGE;
            let length = to_border.min(self.length - start);
            self.parts.push(Part { start, length, buffer: pool.take(length) });
            start += length;
        }
    }

    /// Lends out the buffers of a range that is still to be received.
    pub(super) fn take(&mut self, offset: usize, length: usize) -> Vec<BytesMut> {
        let end = offset + length;
        self.cut(offset);
        self.cut(end);
        self.parts
            .iter_mut()
            .filter(|part| (offset..end).contains(&part.start))
            .map(|part| std::mem::take(&mut part.buffer))
            .collect()
    }

    /// Cuts the part around `at` in two.
    fn cut(&mut self, at: usize) {
        let inside = |part: &Part| part.start < at && at < part.start + part.length;
        let Some(i) = self.parts.iter().position(inside) else { return };
        let part = &mut self.parts[i];
        let place = at - part.start;
        if part.buffer.is_empty() {
            return;
        }
        let buffer = part.buffer.split_off(place);
        let length = std::mem::replace(&mut part.length, place) - place;
        self.parts.insert(i + 1, Part { start: at, length, buffer });
    }

    /// Takes lent buffers back.
    pub(super) fn restore(&mut self, buffers: Vec<BytesMut>) {
        let gaps = self.parts.iter_mut().filter(|part| part.buffer.is_empty());
        for (part, buffer) in gaps.zip(buffers) {
            part.buffer = buffer;
        }
    }

    /// Takes the buffers out: each but the first begins at the border of a chunk.
    pub(super) fn take_parts(&mut self) -> Vec<BytesMut> {
        let mut whole: Vec<BytesMut> = Vec::with_capacity(self.parts.len());
        for part in self.parts.drain(..) {
            let at_border = (self.phase + part.start).is_multiple_of(Pool::LARGE);
            match whole.last_mut() {
                // Cut off one buffer: joining moves nothing.
                Some(last) if !at_border => last.unsplit(part.buffer),
                _ => whole.push(part.buffer),
            }
        }
        whole
    }

    /// What is there, in one piece.
    pub(super) fn copied(&self) -> Vec<u8> {
        self.parts.iter().flat_map(|part| part.buffer.iter().copied()).collect()
    }

    fn discard(&mut self, pool: &mut Pool) {
        if !self.parts.is_empty() {
            self.take_parts().into_iter().for_each(|part| pool.give(part));
        }
        self.length = 0;
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn bytes(length: usize) -> Vec<u8> {
        (0..length).map(|i| u8::try_from(i % 251).unwrap()).collect()
    }

    #[test]
    fn data_lies_in_the_chunks_that_it_goes_to() {
        let mut pool = Pool::default();
        for (at, length) in [(0, 1), (0, 200_000), (61_440, 4096), (61_440, 8192), (4096, 131_072)]
        {
            let mut staging = Staging::default();
            staging.plan(at, length);
            let data = bytes(length);
            for (i, piece) in data.chunks(5000).enumerate() {
                staging.put(&mut pool, i * 5000, piece);
            }
            let parts = staging.take_parts();
            let mut place = usize::try_from(at).unwrap();
            for (i, part) in parts.iter().enumerate() {
                assert!(i == 0 || place % Pool::LARGE == 0, "{at} {length} {place}");
                place += part.len();
            }
            assert_eq!(parts.concat(), data);
        }
    }

    #[test]
    fn any_range_can_be_lent_and_comes_back_to_its_place() {
        let mut pool = Pool::default();
        let length = 200_000;
        let data = bytes(length);
        for (from, to) in [(0, 10), (10, 70_000), (65_536, 131_072), (100, 200_000), (0, 200_000)] {
            let mut staging = Staging::default();
            staging.plan(8192, length);
            staging.put(&mut pool, 0, &data[..from]);
            let mut lent = staging.take(from, to - from);
            assert!(!lent.is_empty() || from == 0);
            if lent.is_empty() {
                staging.put(&mut pool, from, &data[from..to]);
            }
            let mut at = from;
            for part in &mut lent {
                let n = part.len();
                part.copy_from_slice(&data[at..at + n]);
                at += n;
            }
            staging.restore(lent);
            staging.put(&mut pool, to, &data[to..]);
            let parts = staging.take_parts();
            assert_eq!(
                parts.iter().map(|part| part.len()).collect::<Vec<_>>(),
                [57_344, 65_536, 65_536, 11_584]
            );
            assert_eq!(parts.concat(), data);
        }
    }

    #[test]
    fn digests_are_those_of_the_bytes_whatever_is_kept_of_them() {
        let chunks = Chunks::new(2, 8 * Chunks::BLOCK);
        for index in 0..2 {
            let fill = |chunk: &mut [u8]| chunk.copy_from_slice(&bytes(chunk.len()));
            chunks.update(index, 0..8 * Chunks::BLOCK, fill).unwrap();
        }
        let mut entry = Entry::default();
        entry.out.push(chunks.lend(0, 1000..8 * Chunks::BLOCK).unwrap());
        entry.out.push(Bytes::from(bytes(5000)));
        entry.out.push(chunks.lend(1, 0..5 * Chunks::BLOCK + 3).unwrap());
        let total = 8 * Chunks::BLOCK - 1000 + 5000 + 5 * Chunks::BLOCK + 3;
        let entries = Entries(vec![entry]);
        for _ in 0..2 {
            for (offset, length) in [(0, total), (0, 0), (3096, 4096), (3095, 4098), (30_000, 9000)]
            {
                let (offset, length) =
                    (u32::try_from(offset).unwrap(), u32::try_from(length).unwrap());
                let mut plain = Crc32c::new();
                entries.for_each(0, offset, length, &mut |piece| plain.update(piece));
                assert_eq!(entries.digest(0, offset, length), plain.finish(), "{offset} {length}");
            }
        }
        assert_eq!(entries.digest(1, 0, 0), crc32c(&[]));
    }

    #[test]
    fn any_range_of_what_goes_out_is_found() {
        let data = bytes(1000);
        let mut entry = Entry::default();
        for piece in data.chunks(300) {
            entry.out.push(Bytes::copy_from_slice(piece));
        }
        let entries = Entries(vec![entry]);
        for (offset, length) in [(0, 1000), (0, 300), (299, 2), (300, 300), (999, 1), (150, 600)] {
            let mut found = Vec::new();
            entries.for_each(0, offset, length, &mut |piece| found.extend_from_slice(piece));
            assert_eq!(found, data[offset as usize..(offset + length) as usize]);
        }
        let mut entries = entries;
        let mut message = Message::new();
        entries.get(0).send(0, 300, &mut message);
        assert_eq!(message.to_vec(), data[..300]);
    }
}

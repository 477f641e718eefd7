//! Many PDUs, one gathered send.

use std::collections::VecDeque;
use std::io::IoSlice;

use nvme_spec::Cqe;
use nvme_spec::pdu::{
    CapsuleCmd, CapsuleResp, CommonHeader, Data, IcReq, IcResp, R2t, TermReq, flags, kind,
};
use zerocopy::IntoBytes;

use super::{DataHeader, Format, R2tHeader};
use crate::digest::{Crc32c, crc32c};

/// Where a batch finds the payload that it only refers to.
pub trait PayloadSource {
    /// Calls `each` with the pieces, in order, of `length` bytes at `offset` of the data of
    /// command `tag`: the tag is a slot for controllers and a command identifier for hosts.
    fn for_each<'a>(&'a self, tag: u16, offset: u32, length: u32, each: &mut dyn FnMut(&'a [u8]));

    /// The digest of the same bytes: for sources that need not read them for it.
    fn digest(&self, tag: u16, offset: u32, length: u32) -> u32 {
        let mut crc = Crc32c::new();
        self.for_each(tag, offset, length, &mut |piece| crc.update(piece));
        crc.finish()
    }
}

/// A [`PayloadSource`] has less, or more, of a command's data than was to be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the data of command {tag} that was to be sent is not there")]
pub struct MissingPayload {
    /// The command: its slot at a controller, its identifier at a host.
    pub tag: u16,
}

/// The source of an end that has no payload to send.
#[derive(Clone, Copy, Debug)]
pub struct NoPayload;

impl PayloadSource for NoPayload {
    fn for_each<'a>(&'a self, _: u16, _: u32, _: u32, _: &mut dyn FnMut(&'a [u8])) {}
}

/// Encoded PDUs, ready for one gathered send: headers and digests by value, payload by reference
/// to the commands it belongs to.
///
/// The driver owns it, so what is in flight stays where it is while the state machine goes on.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    segments: VecDeque<Segment>,
    /// Bytes of the first segment that are sent already.
    sent: usize,
    len: usize,
    finished: Vec<u16>,
}

/// A piece of a [`Batch`] that is handed over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Piece<'a> {
    /// Headers and digests.
    Bytes(&'a [u8]),
    /// Bytes of a command's data.
    Payload {
        /// The command: its slot at a controller, its identifier at a host.
        tag: u16,
        /// Offset in the command's data, in bytes.
        offset: u32,
        /// How many bytes.
        length: u32,
    },
}

#[derive(Clone, Copy, Debug)]
enum Segment {
    Bytes { start: usize, len: usize },
    Payload { tag: u16, offset: u32, len: u32 },
}

impl Segment {
    fn len(self) -> usize {
        match self {
            Self::Bytes { len, .. } => len,
            Self::Payload { len, .. } => len as usize,
        }
    }
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether everything is sent.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes still to be sent.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether payload of command `tag` is still to be sent.
    pub fn refers_to(&self, tag: u16) -> bool {
        self.segments.iter().any(|s| matches!(s, Segment::Payload { tag: t, .. } if *t == tag))
    }

    /// Appends what is to be sent, at most `max` pieces, to `slices`.
    ///
    /// # Errors
    ///
    /// If the source has not all of the payload: anything sent in its place would be taken for
    /// PDUs, so the connection has to end.
    pub fn io_slices<'a>(
        &'a self,
        source: &'a dyn PayloadSource,
        slices: &mut Vec<IoSlice<'a>>,
        max: usize,
    ) -> Result<(), MissingPayload> {
        let mut skip = self.sent;
        for segment in &self.segments {
            if slices.len() >= max {
                break;
            }
            match *segment {
                Segment::Bytes { start, len } => {
                    slices.push(IoSlice::new(&self.bytes[start + skip..start + len]));
                }
                Segment::Payload { tag, offset, len } => {
                    let skipped = u32::try_from(skip).unwrap_or(len).min(len);
                    let mut missing = (len - skipped) as usize;
                    source.for_each(tag, offset + skipped, len - skipped, &mut |piece| {
                        missing = missing.wrapping_sub(piece.len());
                        slices.push(IoSlice::new(piece));
                    });
                    if missing != 0 {
                        return Err(MissingPayload { tag });
                    }
                }
            }
            skip = 0;
        }
        slices.truncate(max.max(1));
        Ok(())
    }

    /// Hands everything over, in order, to a driver that owns what it sends: see [`Piece`].
    ///
    /// The batch is empty afterwards and everything in it counts as sent, so that
    /// [`take_finished`](Self::take_finished) names the slots whose answers were in it.
    pub fn drain(&mut self, mut each: impl FnMut(Piece<'_>)) {
        let mut skip = std::mem::take(&mut self.sent);
        for segment in self.segments.drain(..) {
            match segment {
                Segment::Bytes { start, len } => {
                    each(Piece::Bytes(&self.bytes[start + skip..start + len]));
                }
                Segment::Payload { tag, offset, len } => {
                    let skipped = u32::try_from(skip).unwrap_or(len).min(len);
                    let (offset, length) = (offset + skipped, len - skipped);
                    each(Piece::Payload { tag, offset, length });
                }
            }
            skip = 0;
        }
        self.bytes.clear();
        self.len = 0;
    }

    /// Notes that the next `n` bytes are sent.
    pub fn advance(&mut self, n: usize) {
        let mut n = n.min(self.len);
        self.len -= n;
        while let Some(first) = self.segments.front() {
            let left = first.len() - self.sent;
            if n < left {
                self.sent += n;
                return;
            }
            n -= left;
            self.sent = 0;
            self.segments.pop_front();
        }
        self.bytes.clear();
    }

    /// Headers that are kept though they are sent, in bytes.
    const MUCH: usize = 64 << 10;

    /// Drops the headers that are sent, before new ones are put behind them: a batch that is
    /// always refilled before it is empty must not grow.
    fn drop_sent(&mut self) {
        let first = self.segments.iter().find_map(|segment| match segment {
            Segment::Bytes { start, .. } => Some(*start),
            Segment::Payload { .. } => None,
        });
        let dead = first.unwrap_or(self.bytes.len());
        if dead < Self::MUCH || dead < self.bytes.len() / 2 {
            return;
        }
        self.bytes.drain(..dead);
        for segment in &mut self.segments {
            if let Segment::Bytes { start, .. } = segment {
                *start -= dead;
            }
        }
    }

    /// Takes the slots whose last byte is sent: to be given to the controller's `release`.
    ///
    /// Empty until the whole batch is sent.
    pub fn take_finished(&mut self) -> impl Iterator<Item = u16> + '_ {
        let n = if self.is_empty() { self.finished.len() } else { 0 };
        self.finished.drain(..n)
    }

    /// All bytes still to be sent, in one piece.
    ///
    /// # Errors
    ///
    /// As [`io_slices`](Self::io_slices).
    pub fn to_vec(&self, source: &dyn PayloadSource) -> Result<Vec<u8>, MissingPayload> {
        let mut slices = Vec::new();
        self.io_slices(source, &mut slices, usize::MAX)?;
        Ok(slices.iter().flat_map(|s| s.iter().copied()).collect())
    }

    /// Notes that with the bytes so far, the controller's slot is done.
    pub(crate) fn finish(&mut self, slot: u16) {
        self.finished.push(slot);
    }

    pub(crate) fn ic_req(&mut self, mut pdu: IcReq) {
        pdu.ch = common(kind::IC_REQ, 0, 128, 0, 128);
        self.push(pdu.as_bytes());
    }

    pub(crate) fn ic_resp(&mut self, mut pdu: IcResp) {
        pdu.ch = common(kind::IC_RESP, 0, 128, 0, 128);
        self.push(pdu.as_bytes());
    }

    /// A TermReq with a copy of the offending header.
    pub(crate) fn term_req(&mut self, kind: u8, fes: u16, fei: u32, offending: &[u8]) {
        let offending = &offending[..offending.len().min(128)];
        let plen = 24 + u32::try_from(offending.len()).unwrap_or(0);
        let pdu = TermReq {
            ch: common(kind, 0, 24, 0, plen),
            fes: fes.into(),
            fei: fei.into(),
            reserved: [0; 10],
        };
        self.push(pdu.as_bytes());
        if !offending.is_empty() {
            self.push(offending);
        }
    }

    /// A command capsule with `in_capsule` bytes of the data of command `tag`.
    pub(crate) fn command(
        &mut self,
        format: Format,
        sqe: &nvme_spec::Sqe,
        in_capsule: u32,
        source: &dyn PayloadSource,
    ) {
        let mut pdu = CapsuleCmd { ch: common(kind::CAPSULE_CMD, 0, 72, 0, 0), sqe: *sqe };
        let layout = Layout::new(format, 72, in_capsule);
        layout.fill(&mut pdu.ch, 0);
        self.header(format, pdu.as_bytes());
        self.payload(format, layout, sqe.cid.get(), 0, in_capsule, source);
    }

    pub(crate) fn response(&mut self, format: Format, cqe: Cqe) {
        let mut pdu = CapsuleResp { ch: common(kind::CAPSULE_RESP, 0, 24, 0, 0), cqe };
        Layout::new(format, 24, 0).fill(&mut pdu.ch, 0);
        self.header(format, pdu.as_bytes());
    }

    pub(crate) fn r2t(&mut self, format: Format, r2t: R2tHeader) {
        let mut pdu = R2t {
            ch: common(kind::R2T, 0, 24, 0, 0),
            cccid: r2t.cid.into(),
            ttag: r2t.ttag.into(),
            r2to: r2t.offset.into(),
            r2tl: r2t.length.into(),
            reserved: [0; 4],
        };
        Layout::new(format, 24, 0).fill(&mut pdu.ch, 0);
        self.header(format, pdu.as_bytes());
    }

    /// A data PDU of either kind, with its payload taken from the data of command `tag`.
    pub(crate) fn data(
        &mut self,
        format: Format,
        kind: u8,
        data: DataHeader,
        tag: u16,
        source: &dyn PayloadSource,
    ) {
        let mut pdu = Data {
            ch: common(kind, 0, 24, 0, 0),
            cccid: data.cid.into(),
            ttag: data.ttag.into(),
            datao: data.offset.into(),
            datal: data.length.into(),
            reserved: [0; 4],
        };
        let last = if data.last { flags::LAST } else { 0 };
        let success = if data.success { flags::SUCCESS } else { 0 };
        let layout = Layout::new(format, 24, data.length);
        layout.fill(&mut pdu.ch, last | success);
        self.header(format, pdu.as_bytes());
        self.payload(format, layout, tag, data.offset, data.length, source);
    }

    /// A header and its digest.
    #[inline]
    fn header(&mut self, format: Format, header: &[u8]) {
        self.push(header);
        if format.header_digest {
            self.push(&crc32c(header).to_le_bytes());
        }
    }

    /// Padding, payload and data digest.
    #[inline]
    fn payload(
        &mut self,
        format: Format,
        layout: Layout,
        tag: u16,
        offset: u32,
        len: u32,
        source: &dyn PayloadSource,
    ) {
        if len == 0 {
            return;
        }
        if layout.padding > 0 {
            self.push(&[0; 128][..usize::from(layout.padding)]);
        }
        self.segments.push_back(Segment::Payload { tag, offset, len });
        self.len += len as usize;
        if format.data_digest {
            self.push(&source.digest(tag, offset, len).to_le_bytes());
        }
    }

    #[inline]
    fn push(&mut self, bytes: &[u8]) {
        if self.bytes.len() >= Self::MUCH {
            self.drop_sent();
        }
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        self.len += bytes.len();
        match self.segments.back_mut() {
            Some(Segment::Bytes { start: s, len }) if *s + *len == start => *len += bytes.len(),
            _ => self.segments.push_back(Segment::Bytes { start, len: bytes.len() }),
        }
    }
}

fn common(kind: u8, flags: u8, hlen: u8, pdo: u8, plen: u32) -> CommonHeader {
    CommonHeader { kind, flags, hlen, pdo, plen: plen.into() }
}

/// Where a PDU's parts are.
#[derive(Clone, Copy)]
struct Layout {
    flags: u8,
    pdo: u8,
    padding: u8,
    plen: u32,
}

impl Layout {
    fn new(format: Format, hlen: u8, data: u32) -> Self {
        let header_end = hlen + format.header_digest_len();
        let mut flags = if format.header_digest { flags::HDGST } else { 0 };
        if data == 0 {
            return Self { flags, pdo: 0, padding: 0, plen: header_end.into() };
        }
        if format.data_digest {
            flags |= flags::DDGST;
        }
        let pdo = format.data_offset(hlen);
        let plen = u32::from(pdo).saturating_add(data).saturating_add(format.data_digest_len(data));
        Self { flags, pdo, padding: pdo - header_end, plen }
    }

    fn fill(self, ch: &mut CommonHeader, flags: u8) {
        ch.flags = self.flags | flags;
        ch.pdo = self.pdo;
        ch.plen.set(self.plen);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As much data as anybody asks for.
    struct Zeroes;

    impl PayloadSource for Zeroes {
        fn for_each<'a>(&'a self, _: u16, _: u32, n: u32, each: &mut dyn FnMut(&'a [u8])) {
            each(&[0; 4096][..n as usize]);
        }
    }

    #[test]
    fn a_batch_that_is_never_empty_does_not_grow() {
        let mut batch = Batch::new();
        let sqe = nvme_spec::Sqe::new(1);
        batch.command(Format::INITIAL, &sqe, 4096, &Zeroes);
        for _ in 0..100_000 {
            batch.command(Format::INITIAL, &sqe, 4096, &Zeroes);
            batch.advance(72 + 4096);
            assert!(!batch.is_empty());
        }
        assert!(batch.bytes.len() < 200 << 10, "{} bytes of headers kept", batch.bytes.len());
        let bytes = batch.to_vec(&Zeroes).unwrap();
        assert_eq!((bytes.len(), bytes[0], bytes[8]), (72 + 4096, 4, 1));
    }

    #[test]
    fn what_is_handed_over_is_what_would_have_been_sent() {
        let mut batch = Batch::new();
        for _ in 0..3 {
            batch.command(Format::INITIAL, &nvme_spec::Sqe::new(1), 100, &Zeroes);
        }
        for sent in [0, 10, 72 + 10] {
            batch.advance(sent);
            let mut copy = batch.to_vec(&Zeroes).unwrap();
            let mut pieces = 0;
            let mut other = Batch { segments: batch.segments.clone(), ..Batch::new() };
            (other.bytes, other.sent) = (batch.bytes.clone(), batch.sent);
            other.drain(|piece| {
                pieces += 1;
                let n = match piece {
                    Piece::Bytes(bytes) => {
                        assert_eq!(copy[..bytes.len()], *bytes);
                        bytes.len()
                    }
                    Piece::Payload { length, .. } => length as usize,
                };
                copy.drain(..n);
            });
            assert!(copy.is_empty() && other.is_empty() && pieces > 0);
        }
    }

    #[test]
    fn payload_that_is_not_there_is_an_error() {
        let mut batch = Batch::new();
        batch.command(Format::INITIAL, &nvme_spec::Sqe::new(1), 100, &Zeroes);
        assert_eq!(batch.to_vec(&NoPayload), Err(MissingPayload { tag: 0 }));
    }
}

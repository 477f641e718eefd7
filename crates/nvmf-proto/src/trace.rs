//! From PDU to PDU along one direction of a connection, beside the protocol: for whoever watches.
//!
//! A [`PduTracer`] is given the bytes of a stream as they come or as they are sent, in any pieces,
//! and tells each PDU's header. It knows nothing of the connection's state and judges no more than
//! it needs to find the next header, so it follows what the ends would refuse, too. It keeps one
//! header and no data.
//!
//! ```
//! use nvmf_proto::trace::{PduTracer, Seen};
//!
//! let mut tracer = PduTracer::new();
//! let r2t = [9, 0, 24, 0, 24, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0];
//! let mut seen = Vec::new();
//! for piece in r2t.chunks(5) {
//!     tracer.feed(piece, |pdu| match pdu {
//!         Seen::Header(header) => seen.push(header.to_vec()),
//!         Seen::Lost(lost) => panic!("{lost}"),
//!     });
//! }
//! assert_eq!(seen, [r2t]);
//! ```

use std::fmt;

use nvme_spec::pdu::{CommonHeader, TERM_REQ_MAX, kind, name};
use zerocopy::FromBytes;

/// The longest that is kept: a TermReq with the header that it complains of.
const KEPT: usize = TERM_REQ_MAX as usize;
/// The longest header that there is.
const HEADER: usize = 128;

/// Which way bytes go.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Direction {
    /// From the host to the controller.
    ToController,
    /// From the controller to the host.
    ToHost,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ToController => "H→C",
            Self::ToHost => "C→H",
        })
    }
}

/// What a [`PduTracer`] came across.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Seen<'a> {
    /// A PDU's header of HLEN bytes, without digest; of one longer than 128 bytes, those. Of a
    /// TermReq up to 152 bytes: the header that it complains of is part of it.
    Header(&'a [u8]),
    /// The stream cannot be followed from here on; told once, nothing comes after it.
    Lost(Lost),
}

/// A common header from which it cannot be told where the next one is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Lost {
    /// No PDU has this type: these are hardly PDUs at all.
    #[error("{kind:#04x} is no PDU type")]
    Kind {
        /// The type.
        kind: u8,
    },
    /// The header, or the PDU, is shorter than what it must have.
    #[error("a PDU of type {kind:#04x} with a header of {hlen} bytes and {plen} bytes in all")]
    Length {
        /// The type.
        kind: u8,
        /// HLEN.
        hlen: u8,
        /// PLEN.
        plen: u32,
    },
}

/// Follows one direction of a connection; see the [module](self).
#[derive(Clone, Debug)]
pub struct PduTracer {
    state: State,
    kept: [u8; KEPT],
    have: usize,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Header,
    /// So many bytes of the PDU are of no interest.
    Rest(u32),
    Lost,
}

impl PduTracer {
    /// A tracer at the beginning of a stream.
    pub fn new() -> Self {
        Self { state: State::Header, kept: [0; KEPT], have: 0 }
    }

    /// Takes the next bytes of the stream, and tells `each` of the headers that are complete with
    /// them.
    pub fn feed(&mut self, mut bytes: &[u8], mut each: impl FnMut(Seen<'_>)) {
        loop {
            match &mut self.state {
                State::Header => {
                    self.gather(&mut bytes, size_of::<CommonHeader>());
                    let Ok((ch, _)) = CommonHeader::read_from_prefix(&self.kept[..self.have])
                    else {
                        return;
                    };
                    let wanted = match wanted(&ch) {
                        Ok(wanted) => wanted,
                        Err(lost) => {
                            self.state = State::Lost;
                            return each(Seen::Lost(lost));
                        }
                    };
                    self.gather(&mut bytes, wanted);
                    if self.have < wanted {
                        return;
                    }
                    each(Seen::Header(&self.kept[..wanted]));
                    self.have = 0;
                    let told = u32::try_from(wanted).unwrap_or(u32::MAX);
                    self.state = State::Rest(ch.plen.get().saturating_sub(told));
                }
                State::Rest(left) => {
                    let n = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    bytes = &bytes[n..];
                    *left -= u32::try_from(n).unwrap_or(*left);
                    if *left > 0 {
                        return;
                    }
                    self.state = State::Header;
                }
                State::Lost => return,
            }
        }
    }

    /// Whether it follows the stream no more.
    pub fn is_lost(&self) -> bool {
        matches!(self.state, State::Lost)
    }

    /// Takes bytes until it has `wanted`, or as many as there are.
    fn gather(&mut self, bytes: &mut &[u8], wanted: usize) {
        let n = bytes.len().min(wanted.saturating_sub(self.have));
        let (taken, rest) = bytes.split_at(n);
        self.kept[self.have..self.have + n].copy_from_slice(taken);
        self.have += n;
        *bytes = rest;
    }
}

impl Default for PduTracer {
    fn default() -> Self {
        Self::new()
    }
}

/// How many bytes of the PDU are told: not less than a common header, not more than are kept.
fn wanted(ch: &CommonHeader) -> Result<usize, Lost> {
    let (kind, hlen, plen) = (ch.kind, ch.hlen, ch.plen.get());
    const UNKNOWN: &str = name(u8::MAX);
    if name(kind) == UNKNOWN {
        return Err(Lost::Kind { kind });
    }
    if usize::from(hlen) < size_of::<CommonHeader>() || plen < u32::from(hlen) {
        return Err(Lost::Length { kind, hlen, plen });
    }
    Ok(match kind {
        kind::H2C_TERM_REQ | kind::C2H_TERM_REQ => {
            usize::try_from(plen).unwrap_or(usize::MAX).min(KEPT)
        }
        _ => usize::from(hlen).min(HEADER),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A PDU with a header of `hlen` bytes and `plen` bytes in all.
    fn pdu(kind: u8, hlen: u8, plen: u32) -> Vec<u8> {
        let mut bytes = vec![kind, 0, hlen, 0];
        bytes.extend(plen.to_le_bytes());
        let left = usize::try_from(plen).unwrap() - bytes.len();
        bytes.extend((0..=u8::MAX).cycle().take(left));
        bytes
    }

    /// What is told of these pieces, each as bytes or as what was lost.
    fn told<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Result<Vec<u8>, Lost>> {
        let (mut tracer, mut told) = (PduTracer::new(), Vec::new());
        for piece in pieces {
            tracer.feed(piece, |seen| {
                told.push(match seen {
                    Seen::Header(header) => Ok(header.to_vec()),
                    Seen::Lost(lost) => Err(lost),
                });
            });
        }
        assert_eq!(tracer.is_lost(), told.last().is_some_and(Result::is_err));
        told
    }

    /// Of every kind one, with data, digests and padding behind the headers.
    fn stream() -> (Vec<u8>, Vec<Vec<u8>>) {
        let of = [
            (kind::IC_REQ, 128, 128, 128),
            (kind::CAPSULE_CMD, 72, 72, 72),
            (kind::CAPSULE_CMD, 72, 1100, 72),
            (kind::H2C_DATA, 24, 70_000, 24),
            (kind::R2T, 24, 28, 24),
            (kind::C2H_DATA, 24, 25, 24),
            (kind::CAPSULE_RESP, 24, 24, 24),
            (kind::IC_RESP, 128, 128, 128),
            (kind::H2C_TERM_REQ, 24, 96, 96),
            (kind::C2H_TERM_REQ, 24, 24, 24),
        ];
        let pdus = of.map(|(kind, hlen, plen, _)| pdu(kind, hlen, plen));
        let headers = pdus.iter().zip(of).map(|(pdu, (.., told))| pdu[..told].to_vec()).collect();
        (pdus.concat(), headers)
    }

    #[test]
    fn every_header_is_told_however_the_stream_is_cut() {
        let (bytes, headers) = stream();
        let expected: Vec<_> = headers.into_iter().map(Ok).collect();
        assert_eq!(told([&bytes[..]]), expected);
        for size in [1, 2, 7, 8, 9, 23, 24, 25, 127, 4096] {
            assert_eq!(told(bytes.chunks(size)), expected, "pieces of {size}");
        }
        for at in 0..300 {
            let (front, back) = bytes.split_at(at);
            assert_eq!(told([front, &[], back]), expected, "cut at {at}");
        }
    }

    #[test]
    fn a_header_is_told_as_soon_as_it_is_there() {
        let data = pdu(kind::H2C_DATA, 24, 1 << 20);
        assert!(told([&data[..23]]).is_empty());
        assert_eq!(told([&data[..24]]).len(), 1);
    }

    #[test]
    fn what_is_too_long_is_told_in_part_and_followed() {
        let next = pdu(kind::R2T, 24, 24);
        let long = [pdu(kind::CAPSULE_CMD, 255, 300), next.clone()].concat();
        assert_eq!(told([&long[..]]), [Ok(long[..128].to_vec()), Ok(next.clone())]);
        let term = [pdu(kind::H2C_TERM_REQ, 24, 5000), next.clone()].concat();
        assert_eq!(told([&term[..]]), [Ok(term[..152].to_vec()), Ok(next)]);
    }

    #[test]
    fn a_stream_that_cannot_be_followed_is_told_once() {
        let r2t = pdu(kind::R2T, 24, 24);
        let http = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        let kind = Lost::Kind { kind: b'G' };
        let bytes = [&r2t[..], http, &r2t].concat();
        for size in [1, 1000] {
            assert_eq!(told(bytes.chunks(size)), [Ok(r2t.clone()), Err(kind)]);
        }
        for (hlen, plen) in [(0, 24), (7, 24), (24, 23), (24, 8), (24, 0)] {
            let bytes = [&[9, 0, hlen, 0][..], &u32::to_le_bytes(plen), &r2t].concat();
            let lost = Lost::Length { kind: 9, hlen, plen };
            assert_eq!(told([&bytes[..]]), [Err(lost)]);
        }
        assert_eq!(told([&[8, 0, 8, 0, 8, 0, 0, 0][..]]), [Err(Lost::Kind { kind: 8 })]);
    }

    #[test]
    fn the_longest_pdu_there_can_be_is_skipped() {
        let mut tracer = PduTracer::new();
        let mut header = pdu(kind::C2H_DATA, 24, 24);
        header[4..8].copy_from_slice(&[0xff; 4]);
        let mut told = 0;
        tracer.feed(&header, |_| told += 1);
        let piece = vec![0xee; 1 << 20];
        for _ in 0..4095 {
            tracer.feed(&piece, |_| told += 1);
        }
        tracer.feed(&piece[..(1 << 20) - 1 - 24], |_| told += 1);
        assert_eq!(told, 1);
        tracer.feed(&pdu(kind::R2T, 24, 24), |_| told += 1);
        assert_eq!(told, 2);
    }

    proptest! {
        #[test]
        fn anything_is_told_the_same_whole_and_in_pieces(
            // Types that exist and lengths that are small, so that more than one is found.
            pdus in prop::collection::vec(
                (0u8..11, any::<u8>(), any::<u8>(), any::<u8>(), 0u32..400), 0..40),
            size in 1usize..50,
        ) {
            let bytes: Vec<u8> = pdus
                .iter()
                .flat_map(|(kind, flags, hlen, pdo, plen)| {
                    let start = [*kind, *flags, *hlen, *pdo].into_iter();
                    start.chain(plen.to_le_bytes()).chain(std::iter::repeat_n(4, 30))
                })
                .collect();
            prop_assert_eq!(told([&bytes[..]]), told(bytes.chunks(size)));
        }
    }
}

//! From a stream of bytes, cut anywhere, to PDUs.

use nvme_spec::pdu::{CommonHeader, DIGEST_LEN};

use super::Format;
use super::header::{Header, Pdu, Shape};
use crate::digest::{Crc32c, crc32c};
use crate::{Role, Violation};

mod quick;

/// The longest header with its digest.
const HEADER_MAX: usize = 128 + DIGEST_LEN;
const COMMON_LEN: usize = size_of::<CommonHeader>();

/// Decodes the PDUs that come to one end of a connection.
///
/// The stream may be cut anywhere. Only headers are kept here; payload stays with the driver.
#[derive(Debug)]
pub struct Decoder {
    role: Role,
    format: Format,
    /// Headers may come by the shorter way.
    quick: bool,
    state: State,
    /// The header that is coming, or the one that came last.
    partial: [u8; HEADER_MAX],
    have: usize,
    /// It is the one that came last: the next byte of a header begins another.
    whole: bool,
    /// The digest of the data so far, where data digests are on.
    crc: Crc32c,
}

#[derive(Debug)]
enum State {
    /// Header and header digest.
    Header,
    /// Padding before the data.
    Padding { left: u8, data_len: u32 },
    /// Data.
    Data { left: u32 },
    /// Data digest.
    DataDigest { expected: u32, have: usize, bytes: [u8; DIGEST_LEN] },
    /// After a TermReq: the peer has nothing more to say.
    Ended,
}

/// What the bytes just consumed meant.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Item {
    /// A whole header.
    Header(Header),
    /// The next `left` bytes are data of the PDU whose header came last; give them to
    /// [`Decoder::data`].
    Data {
        /// Bytes of data still to come, at least 1.
        left: u32,
    },
    /// The PDU's data is complete.
    End {
        /// The data digest was right, or there is none.
        intact: bool,
    },
}

impl Decoder {
    /// A decoder for the end in this role, in the layout of the handshake.
    pub fn new(role: Role) -> Self {
        Self {
            role,
            format: Format::INITIAL,
            quick: quick::is_possible(role, Format::INITIAL),
            state: State::Header,
            partial: [0; HEADER_MAX],
            have: 0,
            whole: false,
            crc: Crc32c::new(),
        }
    }

    /// Sets the layout of the PDUs that follow.
    pub fn set_format(&mut self, format: Format) {
        self.format = format;
        self.quick = quick::is_possible(self.role, format);
    }

    /// The layout of the PDUs that come.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Whether the byte that comes next is the first of a PDU.
    #[inline]
    pub fn is_between_pdus(&self) -> bool {
        matches!(self.state, State::Header) && (self.whole || self.have == 0)
    }

    /// The header of the PDU that was judged a violation, without digest, for the TermReq that
    /// answers it: all that has come of it, and no less than the common header.
    pub fn offending_header(&self) -> &[u8] {
        let hlen = usize::from(self.common().hlen).max(COMMON_LEN);
        &self.partial[..self.have.min(hlen)]
    }

    /// Takes bytes of the stream up to the next item.
    ///
    /// Returns how many were consumed, and the item; without one, all were consumed and more are
    /// needed. After an [`Item::Data`] nothing is consumed until [`data`](Self::data) was given
    /// the bytes.
    pub fn decode(&mut self, input: &[u8]) -> Result<(usize, Option<Item>), Violation> {
        let mut used = 0;
        loop {
            let rest = &input[used..];
            match &mut self.state {
                State::Header => {
                    let (n, header) = self.header(rest)?;
                    return Ok((used + n, header.map(Item::Header)));
                }
                State::Padding { left, data_len } => {
                    let n = rest.len().min(usize::from(*left));
                    used += n;
                    *left -= u8::try_from(n).unwrap_or(*left);
                    if *left > 0 {
                        return Ok((used, None));
                    }
                    self.state = State::Data { left: *data_len };
                    self.crc.reset();
                }
                State::Data { left } if *left > 0 => {
                    return Ok((used, Some(Item::Data { left: *left })));
                }
                State::Data { .. } if !self.format.data_digest => {
                    self.state = State::Header;
                    return Ok((used, Some(Item::End { intact: true })));
                }
                State::Data { .. } => {
                    let expected = self.crc.finish();
                    self.state = State::DataDigest { expected, have: 0, bytes: [0; DIGEST_LEN] };
                }
                State::DataDigest { expected, have, bytes } => {
                    let n = rest.len().min(DIGEST_LEN - *have);
                    bytes[*have..*have + n].copy_from_slice(&rest[..n]);
                    *have += n;
                    used += n;
                    if *have < DIGEST_LEN {
                        return Ok((used, None));
                    }
                    let intact = u32::from_le_bytes(*bytes) == *expected;
                    self.state = State::Header;
                    return Ok((used, Some(Item::End { intact })));
                }
                State::Ended => return Ok((input.len(), None)),
            }
        }
    }

    /// Takes payload bytes, wherever the driver put them: at most the `left` of [`Item::Data`].
    ///
    /// Returns how many of the bytes belong to the PDU's data.
    pub fn data(&mut self, bytes: &[u8]) -> usize {
        let State::Data { left } = &mut self.state else { return 0 };
        let n = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
        if self.format.data_digest {
            self.crc.update(&bytes[..n]);
        }
        *left -= u32::try_from(n).unwrap_or(*left);
        n
    }

    /// Takes bytes until a whole header is there.
    fn header(&mut self, input: &[u8]) -> Result<(usize, Option<Header>), Violation> {
        if self.whole {
            (self.have, self.whole) = (0, false);
        }
        let mut used = self.gather(input, COMMON_LEN);
        if self.have < COMMON_LEN {
            return Ok((used, None));
        }
        let shape = Shape::judge(&self.common(), self.role, self.format)?;
        used += self.gather(&input[used..], shape.header_len());
        if self.have < shape.header_len() {
            return Ok((used, None));
        }
        let (header, digest) = self.partial[..self.have].split_at(usize::from(shape.hlen));
        if let Ok(digest) = <[u8; DIGEST_LEN]>::try_from(digest) {
            let received = u32::from_le_bytes(digest);
            if received != crc32c(header) {
                return Err(Violation::HeaderDigest { received });
            }
        }
        let header = shape.read(header)?;
        self.state = match (header.pdu, header.data_len) {
            (Pdu::TermReq(_), _) => State::Ended,
            (_, 0) => State::Header,
            (_, data_len) => State::Padding { left: shape.padding, data_len },
        };
        self.whole = true;
        Ok((used, Some(header)))
    }

    /// Fills [`partial`](Self::partial) up to `wanted` bytes.
    fn gather(&mut self, input: &[u8], wanted: usize) -> usize {
        let n = input.len().min(wanted.saturating_sub(self.have));
        self.partial[self.have..self.have + n].copy_from_slice(&input[..n]);
        self.have += n;
        n
    }

    fn common(&self) -> CommonHeader {
        let bytes: [u8; COMMON_LEN] = std::array::from_fn(|i| self.partial[i]);
        zerocopy::transmute!(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A command capsule without data, its common header as given.
    fn capsule(flags: u8, hlen: u8, pdo: u8, plen: u32) -> [u8; 72] {
        let mut bytes = [0; 72];
        bytes[..4].copy_from_slice(&[4, flags, hlen, pdo]);
        bytes[4..8].copy_from_slice(&plen.to_le_bytes());
        bytes
    }

    #[test]
    fn the_header_last_decoded_is_kept_until_the_next_begins() {
        let mut decoder = Decoder::new(Role::Controller);
        let bytes = capsule(0, 72, 0, 72);
        decoder.decode(&bytes).unwrap();
        assert_eq!(decoder.offending_header(), bytes);
        assert!(decoder.decode(&[0x33; 8]).is_err());
        assert_eq!(decoder.offending_header(), [0x33; 8]);
    }

    #[test]
    fn between_pdus_is_where_none_has_begun() {
        let mut decoder = Decoder::new(Role::Controller);
        assert!(decoder.is_between_pdus());
        let bytes = capsule(0, 72, 0, 72);
        decoder.decode(&bytes[..1]).unwrap();
        assert!(!decoder.is_between_pdus());
        decoder.decode(&bytes[1..]).unwrap();
        assert!(decoder.is_between_pdus());
        // A capsule with four bytes of data.
        decoder.decode(&capsule(0, 72, 72, 76)).unwrap();
        assert!(!decoder.is_between_pdus());
        decoder.decode(&[]).unwrap();
        decoder.data(&[0; 4]);
        decoder.decode(&[]).unwrap();
        assert!(decoder.is_between_pdus());
    }

    #[test]
    fn a_wrong_header_length_does_not_pass_for_wrong_flags() {
        let mut decoder = Decoder::new(Role::Controller);
        decoder.set_format(Format { data_digest: true, ..Format::INITIAL });
        let violation = Violation::HeaderLength { kind: 4, hlen: 60 };
        assert_eq!(decoder.decode(&capsule(0, 60, 0, 72)), Err(violation));
    }

    #[test]
    fn data_that_begins_at_the_end_of_the_pdu_or_behind_it_has_a_wrong_offset() {
        for pdo in [80, 84] {
            let mut decoder = Decoder::new(Role::Controller);
            let violation = Violation::DataOffset { kind: 4, pdo };
            assert_eq!(decoder.decode(&capsule(0, 72, pdo, 80)), Err(violation));
        }
    }
}

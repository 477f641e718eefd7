//! The shorter way for what comes most: a header that is there as a whole, without digest and
//! padding, and the end of data.
//!
//! What does not fit is left to [`Decoder::decode`], untouched; what does is judged as there.

use nvme_spec::Cqe;
use nvme_spec::pdu::{CapsuleResp, Data, flags, kind};
use zerocopy::FromBytes;

use super::{Decoder, State};
use crate::Role;
use crate::digest::Crc32c;
use crate::pdu::{DataHeader, Format};

/// The length of the headers that come to a host.
pub(crate) const HEADER: usize = 24;

/// Whether headers can come this way at all.
pub(super) fn is_possible(role: Role, format: Format) -> bool {
    let without_padding = format.data_offset(24) == 24;
    role == Role::Host && !format.header_digest && without_padding
}

// What these return is small and given piece by piece: structures with bytes at odd places that are
// handed from one function to the next cost more than all that is done here.
impl Decoder {
    /// A header of [`HEADER`] bytes, if one is there and may be taken this way.
    #[inline]
    fn whole_header<'a>(&self, input: &'a [u8]) -> Option<&'a [u8; HEADER]> {
        let between = matches!(self.state, State::Header) && (self.whole || self.have == 0);
        if self.quick && between { input.first_chunk() } else { None }
    }

    #[inline]
    fn keep(&mut self, header: &[u8; HEADER]) {
        self.partial[..HEADER].copy_from_slice(header);
        (self.have, self.whole) = (HEADER, true);
    }

    /// Takes the header of a response capsule if one is there and is as most are; always
    /// [`HEADER`] bytes.
    #[inline]
    pub(crate) fn quick_response(&mut self, input: &[u8]) -> Option<Cqe> {
        let header = self.whole_header(input)?;
        if header[..8] != [kind::CAPSULE_RESP, 0, 24, 0, 24, 0, 0, 0] {
            return None;
        }
        let cqe = CapsuleResp::read_from_bytes(header).ok()?.cqe;
        self.keep(header);
        Some(cqe)
    }

    /// Takes the header of a C2HData PDU if one is there and is as most are, always [`HEADER`]
    /// bytes; and how many bytes of data it has.
    #[inline]
    pub(crate) fn quick_data(&mut self, input: &[u8]) -> Option<(DataHeader, u32)> {
        let header = self.whole_header(input)?;
        if header[0] != kind::C2H_DATA {
            return None;
        }
        let data = Data::read_from_bytes(header).ok()?;
        let digest = if self.format.data_digest { flags::DDGST } else { 0 };
        let ends = data.ch.flags & (flags::LAST | flags::SUCCESS);
        let plain = data.ch.flags == ends | digest && ends != flags::SUCCESS;
        let at_once = (usize::from(data.ch.hlen), usize::from(data.ch.pdo));
        if !plain || at_once != (HEADER, HEADER) {
            return None;
        }
        let around = 24 + self.format.data_digest_len(1);
        let left = data.ch.plen.get().checked_sub(around).filter(|left| *left > 0)?;
        self.state = State::Data { left };
        if self.format.data_digest {
            self.crc.reset();
        }
        self.keep(header);
        let header = DataHeader {
            cid: data.cccid.get(),
            ttag: data.ttag.get(),
            offset: data.datao.get(),
            length: data.datal.get(),
            last: ends & flags::LAST != 0,
            success: ends & flags::SUCCESS != 0,
        };
        Some((header, left))
    }

    /// Takes the end of data that has all come, if what belongs to it is there: how many bytes
    /// that was, and whether the data is intact.
    #[inline]
    pub(crate) fn quick_end(&mut self, input: &[u8]) -> Option<(usize, bool)> {
        if !matches!(self.state, State::Data { left: 0 }) {
            return None;
        }
        let mut end = (0, true);
        if self.format.data_digest {
            let digest = input.first_chunk()?;
            end = (digest.len(), u32::from_le_bytes(*digest) == Crc32c::finish(&self.crc));
        }
        self.state = State::Header;
        Some(end)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Violation;
    use crate::pdu::{Item, Pdu};

    /// What a stream means, and what would be told of its last header.
    type Meaning = (Vec<String>, Result<(), Violation>, Vec<u8>);

    /// Decodes pieces of a stream; by the shorter way first, if that is wanted.
    fn meaning(format: Format, pieces: &[&[u8]], quick: bool) -> Meaning {
        let mut decoder = Decoder::new(Role::Host);
        decoder.set_format(format);
        let (mut said, mut result) = (Vec::new(), Ok(()));
        'pieces: for piece in pieces {
            let mut rest = *piece;
            loop {
                if quick && let Some((n, intact)) = decoder.quick_end(rest) {
                    said.push(format!("end {intact}"));
                    rest = &rest[n..];
                }
                if quick && let Some(cqe) = decoder.quick_response(rest) {
                    said.push(format!("{cqe:?} 0"));
                    rest = &rest[HEADER..];
                    continue;
                }
                if quick && let Some((data, left)) = decoder.quick_data(rest) {
                    said.push(format!("{data:?} {left}"));
                    rest = &rest[HEADER..];
                    continue;
                }
                match decoder.decode(rest) {
                    Ok((_, None)) => continue 'pieces,
                    Ok((n, Some(item))) => {
                        rest = &rest[n..];
                        match item {
                            Item::Header(header) => said.push(match header.pdu {
                                Pdu::Data(data) => format!("{data:?} {}", header.data_len),
                                Pdu::Response(cqe) => format!("{cqe:?} {}", header.data_len),
                                other => format!("{other:?} {}", header.data_len),
                            }),
                            Item::Data { .. } if rest.is_empty() => continue 'pieces,
                            Item::Data { .. } => rest = &rest[decoder.data(rest)..],
                            Item::End { intact } => said.push(format!("end {intact}")),
                        }
                    }
                    Err(violation) => {
                        result = Err(violation);
                        break 'pieces;
                    }
                }
            }
        }
        (said, result, decoder.offending_header().to_vec())
    }

    /// A PDU that is mostly well-formed; what is wrong with it is a field, or its data's digest.
    fn pdu(format: Format) -> impl Strategy<Value = Vec<u8>> {
        let kinds = prop_oneof![4 => Just(7u8), 3 => Just(5u8), 1 => Just(9u8), 1 => any::<u8>()];
        let flags = prop_oneof![6 => prop::sample::select(vec![0u8, 4, 12]), 1 => any::<u8>()];
        let mostly = |right: u8| prop_oneof![12 => Just(right), 1 => any::<u8>()];
        let data = prop::collection::vec(any::<u8>(), 0..40);
        let pdo = mostly(format.data_offset(24));
        (kinds, flags, mostly(24), pdo, data, any::<[u8; 16]>(), mostly(0)).prop_map(
            move |(kind, flags, hlen, pdo, data, fields, error)| {
                let data = if kind == 7 { data } else { Vec::new() };
                let mut behind = Vec::new();
                if !data.is_empty() {
                    let begin = 24 + usize::from(format.header_digest_len());
                    behind.resize(usize::from(format.data_offset(24)) - begin, 0);
                    behind.extend(&data);
                    if format.data_digest {
                        let right = crate::digest::crc32c(&data);
                        behind.extend((right ^ u32::from(fields[0] & 1)).to_le_bytes());
                    }
                }
                let ddgst = format.data_digest && !data.is_empty();
                let flags = flags | u8::from(format.header_digest) | u8::from(ddgst) << 1;
                let length = 24 + usize::from(format.header_digest_len()) + behind.len();
                let length = u8::try_from(length).unwrap().wrapping_add(error);
                let pdo = if data.is_empty() { 0 } else { pdo };
                let mut pdu = vec![kind, flags, hlen, pdo, length, 0, 0, 0];
                pdu.extend(fields);
                if format.header_digest {
                    pdu.extend(crate::digest::crc32c(&pdu).to_le_bytes());
                }
                pdu.extend(behind);
                pdu
            },
        )
    }

    fn stream() -> impl Strategy<Value = (Format, Vec<u8>)> {
        let format = (any::<bool>(), any::<bool>(), prop::sample::select(vec![4u8, 8, 12, 16, 32]));
        format.prop_flat_map(|(header_digest, data_digest, alignment)| {
            let format = Format { header_digest, data_digest, alignment };
            let pdus = prop::collection::vec(pdu(format), 1..8);
            (Just(format), pdus.prop_map(|pdus| pdus.concat()))
        })
    }

    proptest! {
        #[test]
        fn the_shorter_way_comes_to_the_same(
            (format, bytes) in stream(),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            let mut at: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            at.extend([0, bytes.len()]);
            at.sort_unstable();
            let pieces: Vec<_> = at.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            prop_assert_eq!(meaning(format, &pieces, true), meaning(format, &pieces, false));
        }
    }
}

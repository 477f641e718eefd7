//! The shorter way for what comes most: a header that is there as a whole, without padding behind
//! it, and the end of data.
//!
//! What does not fit is left to [`Decoder::decode`], untouched; what does is judged as there.

use nvme_spec::Cqe;
use nvme_spec::pdu::{CapsuleCmd, CapsuleResp, Data, flags, kind};
use zerocopy::FromBytes;

use super::{Decoder, State};
use crate::Role;
use crate::digest::{Crc32c, crc32c};
use crate::pdu::{DataHeader, Format};

/// Length of a command capsule's header.
const COMMAND: usize = size_of::<CapsuleCmd>();
/// Length of the headers that come to a host.
const ANSWER: usize = size_of::<CapsuleResp>();

/// Whether headers can come this way at all.
pub(super) fn is_possible(role: Role, format: Format) -> bool {
    let header = match role {
        Role::Controller => 72,
        Role::Host => 24,
    };
    format.data_offset(header) == header + format.header_digest_len()
}

// What these return is small and given piece by piece: structures with bytes at odd places that are
// handed from one function to the next cost more than all that is done here. The first piece is how
// many bytes were taken.
impl Decoder {
    /// A header of this kind and length, if one is there, its digest right, and may be taken this
    /// way; and its length with the digest.
    #[inline]
    fn whole_header<'a, const N: usize>(
        &self,
        input: &'a [u8],
        kind: u8,
    ) -> Option<(&'a [u8; N], usize)> {
        let between = self.is_between_pdus();
        if !self.quick || !between {
            return None;
        }
        let (header, rest) = input.split_first_chunk::<N>()?;
        if header[0] != kind {
            return None;
        }
        if !self.format.header_digest {
            return Some((header, N));
        }
        let digest = rest.first_chunk()?;
        (u32::from_le_bytes(*digest) == crc32c(header)).then_some((header, N + digest.len()))
    }

    #[inline]
    fn keep<const N: usize>(&mut self, header: &[u8; N]) {
        self.partial[..N].copy_from_slice(header);
        (self.have, self.whole) = (N, true);
    }

    /// The flags of a PDU with data, or of one without, but for those that its kind has.
    #[inline]
    fn plain_flags(&self, with_data: bool) -> u8 {
        let header = if self.format.header_digest { flags::HDGST } else { 0 };
        let data = if with_data && self.format.data_digest { flags::DDGST } else { 0 };
        header | data
    }

    #[inline]
    fn begin_data(&mut self, left: u32) {
        self.state = State::Data { left };
        if self.format.data_digest {
            self.crc.reset();
        }
    }

    /// Takes the header of a command capsule if one is there and is as most are; and how many
    /// bytes of data it has.
    #[inline]
    pub(crate) fn quick_command<'a>(
        &mut self,
        input: &'a [u8],
    ) -> Option<(usize, &'a CapsuleCmd, u32)> {
        let (header, n) = self.whole_header::<COMMAND>(input, kind::CAPSULE_CMD)?;
        let command = CapsuleCmd::ref_from_bytes(header).ok()?;
        let (ch, plen) = (&command.ch, command.ch.plen.get());
        let behind = plen.checked_sub(u32::try_from(n).ok()?)?;
        let with_data = behind > 0;
        let data = behind.checked_sub(self.format.data_digest_len(behind))?;
        let begins = usize::from(ch.pdo) == n || (ch.pdo == 0 && !with_data);
        let plain = ch.flags == self.plain_flags(with_data) && usize::from(ch.hlen) == COMMAND;
        if !plain || !begins || (with_data && data == 0) {
            return None;
        }
        if with_data {
            self.begin_data(data);
        }
        self.keep(header);
        Some((n, command, data))
    }

    /// Takes the header of a response capsule if one is there and is as most are.
    #[inline]
    pub(crate) fn quick_response(&mut self, input: &[u8]) -> Option<(usize, Cqe)> {
        let (header, n) = self.whole_header::<ANSWER>(input, kind::CAPSULE_RESP)?;
        let CapsuleResp { ch, cqe } = CapsuleResp::read_from_bytes(header).ok()?;
        let plain =
            (ch.flags, usize::from(ch.hlen), ch.pdo) == (self.plain_flags(false), ANSWER, 0);
        if !plain || usize::try_from(ch.plen.get()) != Ok(n) {
            return None;
        }
        self.keep(header);
        Some((n, cqe))
    }

    /// Takes the header of a C2HData PDU if one is there and is as most are; and how many bytes of
    /// data it has.
    #[inline]
    pub(crate) fn quick_data(&mut self, input: &[u8]) -> Option<(usize, DataHeader, u32)> {
        let (header, n) = self.whole_header::<ANSWER>(input, kind::C2H_DATA)?;
        let data = Data::read_from_bytes(header).ok()?;
        let ends = data.ch.flags & (flags::LAST | flags::SUCCESS);
        let plain = data.ch.flags == ends | self.plain_flags(true) && ends != flags::SUCCESS;
        let at_once = (usize::from(data.ch.hlen), usize::from(data.ch.pdo));
        if !plain || at_once != (ANSWER, n) {
            return None;
        }
        let around = u32::from(data.ch.pdo) + self.format.data_digest_len(1);
        let left = data.ch.plen.get().checked_sub(around).filter(|left| *left > 0)?;
        self.begin_data(left);
        self.keep(header);
        let header = DataHeader {
            cid: data.cccid.get(),
            ttag: data.ttag.get(),
            offset: data.datao.get(),
            length: data.datal.get(),
            last: ends & flags::LAST != 0,
            success: ends & flags::SUCCESS != 0,
        };
        Some((n, header, left))
    }

    /// Takes the end of data that has all come, if what belongs to it is there; and whether the
    /// data is intact.
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
    fn meaning(role: Role, format: Format, pieces: &[&[u8]], quick: bool) -> Meaning {
        let mut decoder = Decoder::new(role);
        decoder.set_format(format);
        let (mut said, mut result) = (Vec::new(), Ok(()));
        'pieces: for piece in pieces {
            let mut rest = *piece;
            loop {
                if quick && let Some((n, intact)) = decoder.quick_end(rest) {
                    said.push(format!("end {intact}"));
                    rest = &rest[n..];
                }
                let mut quickly = None;
                if quick && role == Role::Host {
                    let response = decoder.quick_response(rest);
                    quickly = response.map(|(n, cqe)| (n, format!("{cqe:?} 0")));
                    if quickly.is_none() {
                        let data = decoder.quick_data(rest);
                        quickly = data.map(|(n, data, left)| (n, format!("{data:?} {left}")));
                    }
                } else if quick {
                    let command = decoder.quick_command(rest);
                    quickly = command.map(|(n, c, left)| (n, format!("{:?} {left}", c.sqe)));
                }
                if let Some((n, what)) = quickly {
                    said.push(what);
                    rest = &rest[n..];
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
                                Pdu::Command(sqe) => format!("{sqe:?} {}", header.data_len),
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

    /// A PDU that is mostly well-formed; what is wrong with it is a field, or a digest.
    fn pdu(role: Role, format: Format) -> impl Strategy<Value = Vec<u8>> {
        let (kinds, ends) = match role {
            Role::Host => ([7u8, 5, 9], vec![0u8, 4, 12]),
            Role::Controller => ([4, 4, 6], vec![0]),
        };
        let kinds = prop_oneof![
            4 => Just(kinds[0]), 3 => Just(kinds[1]), 1 => Just(kinds[2]), 1 => any::<u8>()
        ];
        let flags = prop_oneof![12 => prop::sample::select(ends), 1 => Just(8), 1 => any::<u8>()];
        let wrong = prop_oneof![12 => Just(None), 1 => any::<(u8, u8)>().prop_map(Some)];
        let data =
            prop_oneof![1 => Just(Vec::new()), 2 => prop::collection::vec(any::<u8>(), 0..40)];
        let pdo = prop_oneof![6 => Just(None), 1 => any::<u8>().prop_map(Some), 1 => Just(Some(0))];
        (kinds, flags, wrong, pdo, data, any::<[u8; 64]>()).prop_map(
            move |(kind, flags, wrong, pdo, data, fields)| {
                let hlen: u8 = if role == Role::Controller && kind == 4 { 72 } else { 24 };
                let data = if [4, 6, 7].contains(&kind) { data } else { Vec::new() };
                let begin = hlen + format.header_digest_len();
                let mut behind = Vec::new();
                if !data.is_empty() {
                    behind.resize(usize::from(format.data_offset(hlen) - begin), 0);
                    behind.extend(&data);
                    if format.data_digest {
                        let right = crc32c(&data);
                        behind.extend((right ^ u32::from(fields[0] & 1)).to_le_bytes());
                    }
                }
                let ddgst = format.data_digest && !data.is_empty();
                let flags = flags | u8::from(format.header_digest) | u8::from(ddgst) << 1;
                let right = if data.is_empty() { 0 } else { format.data_offset(hlen) };
                let length = begin + u8::try_from(behind.len()).unwrap();
                let mut pdu = vec![kind, flags, hlen, pdo.unwrap_or(right), length, 0, 0, 0];
                pdu.extend(&fields[..usize::from(hlen) - 8]);
                if let Some((at, value)) = wrong {
                    pdu[usize::from(at) % 8] = value;
                }
                if format.header_digest {
                    let right = crc32c(&pdu);
                    pdu.extend((right ^ u32::from(fields[1] < 20)).to_le_bytes());
                }
                pdu.extend(behind);
                pdu
            },
        )
    }

    fn stream() -> impl Strategy<Value = (Role, Format, Vec<u8>)> {
        let role = prop::sample::select(vec![Role::Host, Role::Controller]);
        let alignment = prop::sample::select(vec![4u8, 8, 12, 16, 32]);
        let format = (role, any::<bool>(), any::<bool>(), alignment);
        format.prop_flat_map(|(role, header_digest, data_digest, alignment)| {
            let format = Format { header_digest, data_digest, alignment };
            let pdus = prop::collection::vec(pdu(role, format), 1..8);
            (Just(role), Just(format), pdus.prop_map(|pdus| pdus.concat()))
        })
    }

    #[test]
    fn the_rest_of_a_header_is_not_taken_for_a_header() {
        // Its fields look like the beginning of a response capsule.
        let capsule = [[5, 0, 24, 0, 24, 0, 0, 0]; 3].concat();
        let bytes = [&capsule[..], &capsule].concat();
        let pieces = [&bytes[..8], &bytes[8..]];
        let of = |quick| meaning(Role::Host, Format::INITIAL, &pieces, quick);
        let (said, result, _) = of(true);
        assert_eq!((said.len(), result), (2, Ok(())));
        assert_eq!(of(true), of(false));
    }

    #[test]
    fn whatever_length_a_header_tells_the_shorter_way_comes_to_the_same() {
        for (role, kind, hlen) in
            [(Role::Controller, 4, 72u8), (Role::Host, 5, 24), (Role::Host, 7, 24)]
        {
            for (header_digest, data_digest) in [(false, false), (false, true), (true, true)] {
                let format = Format { header_digest, data_digest, alignment: 4 };
                let begin = hlen + format.header_digest_len();
                let headers = (0..=begin + 12).flat_map(|plen| {
                    let flags = [0u8, 2, 4].map(|flags| flags | u8::from(header_digest));
                    [0, hlen, begin].into_iter().flat_map(move |pdo| {
                        flags.map(|flags| vec![kind, flags, hlen, pdo, plen, 0, 0, 0])
                    })
                });
                for mut bytes in headers {
                    bytes.resize(usize::from(hlen), 0);
                    if header_digest {
                        bytes.extend(crc32c(&bytes).to_le_bytes());
                    }
                    bytes.extend([0; 20]);
                    let of = |quick| meaning(role, format, &[&bytes], quick);
                    assert_eq!(of(true), of(false), "{format:?} {bytes:?}");
                }
            }
        }
    }

    /// What comes most has to come by the shorter way, or it were of no use.
    #[test]
    fn what_comes_most_is_taken_the_shorter_way() {
        for (header_digest, data_digest) in
            [(false, false), (false, true), (true, false), (true, true)]
        {
            let format = Format { header_digest, data_digest, alignment: 4 };
            let mut host = Decoder::new(Role::Host);
            let mut controller = Decoder::new(Role::Controller);
            host.set_format(format);
            controller.set_format(format);
            let bytes = |kind, hlen: u8, data: u8| {
                let begin = hlen + format.header_digest_len();
                let behind = if data > 0 { data + u8::from(data_digest) * 4 } else { 0 };
                let flags = u8::from(header_digest) | u8::from(data_digest && data > 0) << 1;
                let pdo = if data > 0 { begin } else { 0 };
                let mut pdu = vec![kind, flags, hlen, pdo, begin + behind, 0, 0, 0];
                pdu.resize(usize::from(hlen), 0);
                if header_digest {
                    pdu.extend(crc32c(&pdu).to_le_bytes());
                }
                pdu
            };
            let read = bytes(4, 72, 0);
            let taken = controller.quick_command(&read).map(|(n, _, data)| (n, data));
            assert_eq!(taken, Some((read.len(), 0)));
            let write = bytes(4, 72, 9);
            let taken = controller.quick_command(&write).map(|(n, _, data)| (n, data));
            assert_eq!(taken, Some((write.len(), 9)));
            let answer = bytes(5, 24, 0);
            assert_eq!(host.quick_response(&answer).map(|(n, _)| n), Some(answer.len()));
            let data = bytes(7, 24, 9);
            let taken = host.quick_data(&data).map(|(n, _, left)| (n, left));
            assert_eq!(taken, Some((data.len(), 9)));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: 4000, failure_persistence: None, ..ProptestConfig::default()
        })]

        #[test]
        fn the_shorter_way_comes_to_the_same(
            (role, format, bytes) in stream(),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            let mut at: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            at.extend([0, bytes.len()]);
            at.sort_unstable();
            let pieces: Vec<_> = at.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            let of = |quick| meaning(role, format, &pieces, quick);
            prop_assert_eq!(of(true), of(false));
        }
    }
}

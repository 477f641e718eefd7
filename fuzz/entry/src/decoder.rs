//! The PDU decoder, under any segmentation of any bytes.

use nvmf_proto::digest::crc32c;
use nvmf_proto::pdu::{Decoder, Format, Header, Item, Pdu};
use nvmf_proto::{Role, Violation};

use crate::bytes::Bytes;

/// Bytes that come to a host.
pub fn pdu_decoder_host(data: &[u8]) {
    decoder(Role::Host, data);
}

/// Bytes that come to a controller.
pub fn pdu_decoder_controller(data: &[u8]) {
    decoder(Role::Controller, data);
}

/// What a decoder made of a stream; the same for any segmentation.
#[derive(Debug, PartialEq, Default)]
struct Trace {
    headers: Vec<Header>,
    data: Vec<u8>,
    ends: Vec<bool>,
    violation: Option<(Violation, Vec<u8>)>,
}

fn decoder(role: Role, data: &[u8]) {
    let mut bytes = Bytes(data);
    let format = format(&mut bytes);
    let repair = bytes.flag();
    let cuts = bytes.array::<7>();
    let mut stream = bytes.0.to_vec();
    if repair {
        repair_digests(&mut stream, format);
    }
    let whole = trace(role, format, &stream, &[0]);
    let cut = trace(role, format, &stream, &cuts);
    assert_eq!(whole, cut, "segmentation matters");
    let digests = if format.data_digest { whole.ends.len() * 4 } else { 0 };
    let headers: usize = whole.headers.iter().map(|h| header_len(&h.pdu)).sum();
    assert!(headers + whole.data.len() + digests <= stream.len(), "more came out than went in");
    if let Some((violation, offending)) = &whole.violation {
        assert!(violation.seen_by(role), "{violation:?} is not for a {role:?}");
        assert!((8..=128).contains(&offending.len()));
    }
}

pub fn format(bytes: &mut Bytes<'_>) -> Format {
    let flags = bytes.u8();
    Format {
        header_digest: flags & 1 != 0,
        data_digest: flags & 2 != 0,
        alignment: (flags >> 3) * 4 + 4,
    }
}

fn header_len(pdu: &Pdu) -> usize {
    match pdu {
        Pdu::IcReq(_) | Pdu::IcResp(_) => 128,
        Pdu::Command(_) => 72,
        Pdu::TermReq(_) | Pdu::Response(_) | Pdu::Data(_) | Pdu::R2t(_) => 24,
    }
}

/// Decodes a stream that comes in segments of these lengths, again and again; 0 is all there is.
fn trace(role: Role, format: Format, mut stream: &[u8], cuts: &[u8]) -> Trace {
    let mut decoder = Decoder::new(role);
    decoder.set_format(format);
    let mut trace = Trace::default();
    for cut in cuts.iter().cycle() {
        let len = if *cut == 0 { stream.len() } else { stream.len().min((*cut).into()) };
        let (mut segment, rest) = stream.split_at(len);
        stream = rest;
        loop {
            let (used, item) = match decoder.decode(segment) {
                Ok(decoded) => decoded,
                Err(violation) => {
                    trace.violation = Some((violation, decoder.offending_header().to_vec()));
                    return trace;
                }
            };
            assert!(used <= segment.len());
            segment = &segment[used..];
            match item {
                None => {
                    assert!(segment.is_empty(), "bytes left behind");
                    break;
                }
                Some(Item::Header(header)) => trace.headers.push(header),
                Some(Item::Data { left }) => {
                    assert!(left > 0);
                    let n = decoder.data(segment);
                    assert!(n <= segment.len() && n <= left as usize);
                    trace.data.extend_from_slice(&segment[..n]);
                    segment = &segment[n..];
                    if segment.is_empty() && n < left as usize {
                        break;
                    }
                }
                Some(Item::End { intact }) => trace.ends.push(intact),
            }
        }
        if stream.is_empty() {
            return trace;
        }
    }
    trace
}

/// Makes the digests right as far as the stream looks like PDUs: a fuzzer never would.
pub fn repair_digests(mut stream: &mut [u8], format: Format) {
    while stream.len() >= 8 {
        let hlen = match stream[0] {
            0 | 1 => 128,
            4 => 72,
            _ => 24,
        };
        let plen = u32::from_le_bytes([stream[4], stream[5], stream[6], stream[7]]) as usize;
        let pdo = usize::from(stream[3]);
        if plen < hlen || plen > stream.len() {
            return;
        }
        let (pdu, rest) = stream.split_at_mut(plen);
        if format.header_digest && hlen + 4 <= plen {
            let digest = crc32c(&pdu[..hlen]);
            pdu[hlen..hlen + 4].copy_from_slice(&digest.to_le_bytes());
        }
        if format.data_digest && pdo >= hlen && pdo + 4 < plen {
            let digest = crc32c(&pdu[pdo..plen - 4]);
            pdu[plen - 4..].copy_from_slice(&digest.to_le_bytes());
        }
        stream = rest;
    }
}

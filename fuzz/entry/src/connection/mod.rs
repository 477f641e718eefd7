//! Whole connections: after a valid handshake, any bytes and any PDUs from the peer, and any
//! decisions of the application.

mod controller;
mod host;

pub use controller::controller_connection;
pub use host::host_connection;

use std::sync::LazyLock;

use nvmf_proto::digest::crc32c;
use nvmf_proto::pdu::{Decoder, Format, Header, Item, PayloadSource, Pdu};
use nvmf_proto::{Answer, Role, Violation};

/// The most data that is moved here at once, in bytes.
const DATA_MAX: usize = 40_000;

/// The payload of every command: each byte tells its offset.
struct Pattern(&'static [u8]);

impl Pattern {
    fn new() -> Self {
        static BYTES: LazyLock<Vec<u8>> =
            LazyLock::new(|| (0..PERIOD + DATA_MAX).map(byte_at).collect());
        Self(&BYTES)
    }
}

/// After as many bytes the pattern begins anew.
const PERIOD: usize = 251;

fn byte_at(offset: usize) -> u8 {
    (offset % PERIOD) as u8
}

impl PayloadSource for Pattern {
    fn for_each<'a>(&'a self, _: u16, offset: u32, length: u32, each: &mut dyn FnMut(&'a [u8])) {
        each(&self.0[offset as usize % PERIOD..][..length as usize]);
    }
}

/// A PDU as the peer would send it: `fields` are what follows the common header.
fn pdu(format: Format, kind: u8, flags: u8, fields: &[u8], data: &[u8]) -> Vec<u8> {
    let hlen = 8 + fields.len();
    let handshake = kind <= 3;
    let hdgst = if format.header_digest && !handshake { 4 } else { 0 };
    let ddgst = if format.data_digest && !data.is_empty() { 4 } else { 0 };
    let pdo =
        if data.is_empty() { 0 } else { (hlen + hdgst).next_multiple_of(format.alignment.into()) };
    let plen = if data.is_empty() { hlen + hdgst } else { pdo + data.len() + ddgst };
    let flags = flags | u8::from(hdgst > 0) | if ddgst > 0 { 2 } else { 0 };
    let mut out = vec![kind, flags, hlen as u8, pdo as u8];
    out.extend((plen as u32).to_le_bytes());
    out.extend(fields);
    if hdgst > 0 {
        out.extend(crc32c(&out).to_le_bytes());
    }
    if !data.is_empty() {
        out.resize(pdo, 0);
        out.extend(data);
        if ddgst > 0 {
            out.extend(crc32c(data).to_le_bytes());
        }
    }
    assert_eq!(out.len(), plen);
    out
}

/// What an end sent, held against the rules of the end that gets it.
struct Listener {
    decoder: Decoder,
    offset: usize,
}

impl Listener {
    fn new(role: Role) -> Self {
        Self { decoder: Decoder::new(role), offset: 0 }
    }

    /// Takes whole PDUs, and gives their headers.
    fn hear(&mut self, mut bytes: &[u8], format: Format) -> Vec<Header> {
        let mut headers = Vec::new();
        loop {
            let (used, item) = self.decoder.decode(bytes).expect("only right PDUs are sent");
            bytes = &bytes[used..];
            match item {
                None => break,
                Some(Item::Header(header)) => {
                    match header.pdu {
                        Pdu::IcReq(_) | Pdu::IcResp(_) => self.decoder.set_format(format),
                        Pdu::Data(data) => self.offset = data.offset as usize,
                        _ => self.offset = 0,
                    }
                    headers.push(header);
                }
                Some(Item::Data { left }) => {
                    let n = self.decoder.data(bytes);
                    assert_eq!(n, left as usize, "a PDU was sent in part");
                    let right = Pattern::new().0;
                    assert!(bytes[..n] == right[self.offset % PERIOD..][..n], "wrong data sent");
                    bytes = &bytes[n..];
                }
                Some(Item::End { intact }) => assert!(intact, "wrong data digest sent"),
            }
        }
        assert!(bytes.is_empty());
        headers
    }
}

/// The end of a connection by a violation: one TermReq or nothing, as its answer says.
fn check_goodbye(violation: Violation, role: Role, sent: &[u8]) {
    assert!(violation.seen_by(role), "{violation:?} is not for a {role:?}");
    assert!(violation.is_fatal());
    match violation.answer() {
        Answer::Terminate { fes, fei } => {
            assert!((24..=152).contains(&sent.len()));
            assert_eq!(sent[0], if role == Role::Host { 2 } else { 3 });
            assert_eq!(sent[8..10], fes.to_le_bytes());
            assert_eq!(sent[10..14], fei.to_le_bytes());
        }
        _ => assert!(sent.is_empty()),
    }
}

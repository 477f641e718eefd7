//! An NBD client's handshake and requests.

use std::io;

use nvmf_nbd::protocol::{Command, Handshake, Head, RequestHeader, Step, Violation};
use nvmf_nbd::{BlockSizes, Device, Export, Terms, Zero};

use crate::bytes::Bytes;

/// A handshake, under any segmentation.
pub fn nbd_handshake(data: &[u8]) {
    let mut bytes = Bytes(data);
    let terms = terms(&mut bytes);
    let cuts = bytes.array::<7>();
    let mut stream = Vec::new();
    if bytes.flag() {
        // Past the first hurdle.
        stream.extend([0, 0, 0, bytes.u8() & 3]);
    }
    while bytes.flag() {
        let length = u32::from(bytes.u8());
        stream.extend(b"IHAVEOPT");
        stream.extend((u32::from(bytes.u8()) & 15).to_be_bytes());
        stream.extend(length.to_be_bytes());
        stream.extend(bytes.take(usize::try_from(length).unwrap()));
    }
    stream.extend(bytes.0);
    let whole = shake_hands(&terms, &stream, &[0]);
    let cut = shake_hands(&terms, &stream, &cuts);
    assert_eq!(whole, cut, "segmentation matters");
}

/// What came of a handshake, the bytes that it took of the stream, and what was said.
type Outcome = (Result<Step, Violation>, usize, Vec<u8>);

fn shake_hands(terms: &Terms, stream: &[u8], cuts: &[u8]) -> Outcome {
    let mut out = Vec::new();
    let mut handshake = Handshake::new(terms.clone(), &mut out);
    let mut at = 0;
    for cut in cuts.iter().cycle() {
        let rest = stream.len() - at;
        let end = if *cut == 0 { stream.len() } else { at + rest.min((*cut).into()) };
        while at < end {
            let (used, step) = match handshake.receive(&stream[at..end], &mut out) {
                Ok(received) => received,
                // How far it is then does not matter.
                Err(violation) => return (Err(violation), 0, out),
            };
            assert!(used > 0 && used <= end - at, "{used} bytes taken of {}", end - at);
            at += used;
            if step != Step::More {
                return (Ok(step), at, out);
            }
        }
        if at == stream.len() {
            return (Ok(Step::More), at, out);
        }
    }
    unreachable!("there are cuts")
}

/// Requests: what they may ask for, and what replies say.
pub fn nbd_requests(data: &[u8]) {
    let mut bytes = Bytes(data);
    let terms = terms(&mut bytes);
    let mut out = Vec::new();
    let mut handshake = Handshake::new(terms.clone(), &mut out);
    let structured: &[u8] = if bytes.flag() { b"IHAVEOPT\0\0\0\x08\0\0\0\0" } else { b"" };
    let go = b"IHAVEOPT\0\0\0\x07\0\0\0\x06\0\0\0\0\0\0";
    let mut stream = &[b"\0\0\0\x03", structured, go].concat()[..];
    let negotiated = loop {
        let (used, step) = handshake.receive(stream, &mut out).unwrap();
        stream = &stream[used..];
        if let Step::Transmission(negotiated) = step {
            break negotiated;
        }
    };
    while !bytes.is_empty() {
        let mut header = bytes.array::<{ RequestHeader::LENGTH }>();
        if bytes.flag() {
            header[..4].copy_from_slice(&[0x25, 0x60, 0x95, 0x13]);
        }
        let Ok(header) = RequestHeader::decode(&header) else { continue };
        let cookie = header.cookie();
        let head = match header.judge(&terms, negotiated) {
            Ok(command) => {
                check(&terms, command);
                match command {
                    Command::Read { offset, length } => {
                        Head::data(negotiated, cookie, offset, length)
                    }
                    _ => Head::done(negotiated, cookie),
                }
            }
            Err(failure) => Head::failed(negotiated, cookie, &failure),
        };
        // In replies of both kinds.
        assert_eq!(head.as_bytes()[8..16], cookie.to_be_bytes());
    }
}

/// What may be asked for is within the export.
fn check(terms: &Terms, command: Command) {
    let (offset, length, writes) = match command {
        Command::Read { offset, length } => {
            assert!(length <= terms.max_payload);
            (offset, length, false)
        }
        Command::Write { offset, length, .. } => {
            assert!(length <= terms.max_payload);
            (offset, length, true)
        }
        Command::Trim { offset, length, .. } | Command::WriteZeroes { offset, length, .. } => {
            (offset, length, true)
        }
        _ => return,
    };
    let end = offset.checked_add(length.into()).unwrap();
    assert!(end <= terms.size);
    let minimum = u64::from(terms.block_sizes.minimum());
    assert!(offset.is_multiple_of(minimum) && end.is_multiple_of(minimum));
    assert!(!(writes && terms.flags.to_wire(false) & 2 != 0), "it is read-only");
}

fn terms(bytes: &mut Bytes<'_>) -> Terms {
    let sizes = BlockSizes::new(1 << bytes.below(17), 1 << 16).unwrap();
    let size = u64::from(bytes.u32()) << 16;
    let device = Blank { size, sizes, read_only: bytes.flag() };
    let export = Export::new("disk".parse().unwrap(), device).unwrap().with_description("words");
    export.terms(bytes.u32())
}

struct Blank {
    size: u64,
    sizes: BlockSizes,
    read_only: bool,
}

impl Device for Blank {
    fn size(&self) -> u64 {
        self.size
    }

    fn is_read_only(&self) -> bool {
        self.read_only
    }

    fn block_sizes(&self) -> BlockSizes {
        self.sizes
    }

    fn read(&self, _: u64, _: usize) -> io::Result<::bytes::Bytes> {
        unreachable!()
    }

    fn write(&self, _: u64, _: ::bytes::Bytes, _: bool) -> io::Result<()> {
        unreachable!()
    }

    fn flush(&self) -> io::Result<()> {
        unreachable!()
    }

    fn trim(&self, _: u64, _: u64) -> io::Result<()> {
        unreachable!()
    }

    fn write_zeroes(&self, _: u64, _: u64, _: Zero) -> io::Result<()> {
        unreachable!()
    }
}

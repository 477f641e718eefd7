//! Requests ("Request message"): what came, and what it asks for.

use crate::device::Zero;
use crate::error::{ErrorCode, Failure};
use crate::export::Terms;

use super::{Negotiated, TransmissionFlags};

/// What every request begins with.
const MAGIC: u32 = 0x2560_9513;

/// "Request types".
mod kind {
    pub(super) const READ: u16 = 0;
    pub(super) const WRITE: u16 = 1;
    pub(super) const DISC: u16 = 2;
    pub(super) const FLUSH: u16 = 3;
    pub(super) const TRIM: u16 = 4;
    pub(super) const CACHE: u16 = 5;
    pub(super) const WRITE_ZEROES: u16 = 6;
    pub(super) const BLOCK_STATUS: u16 = 7;
}

/// "Command flags".
mod flag {
    pub(super) const FUA: u16 = 1;
    pub(super) const NO_HOLE: u16 = 1 << 1;
    pub(super) const DF: u16 = 1 << 2;
    pub(super) const FAST_ZERO: u16 = 1 << 4;
}

/// What should be a request is none: the stream makes no sense any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("what should be a request begins with {0:#010x}")]
pub struct BadMagic(pub u32);

/// A request as it came, without its data. Nothing of it but the magic number has been judged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RequestHeader {
    flags: u16,
    kind: u16,
    cookie: u64,
    offset: u64,
    length: u32,
}

impl RequestHeader {
    /// Bytes of it.
    pub const LENGTH: usize = 28;

    /// From its bytes.
    ///
    /// # Errors
    ///
    /// [`BadMagic`]: the connection is to be closed.
    pub fn decode(bytes: &[u8; Self::LENGTH]) -> Result<Self, BadMagic> {
        let mut fields = Fields(bytes);
        let magic = u32::from_be_bytes(fields.next());
        if magic != MAGIC {
            return Err(BadMagic(magic));
        }
        Ok(Self {
            flags: u16::from_be_bytes(fields.next()),
            kind: u16::from_be_bytes(fields.next()),
            cookie: u64::from_be_bytes(fields.next()),
            offset: u64::from_be_bytes(fields.next()),
            length: u32::from_be_bytes(fields.next()),
        })
    }

    /// The number that the reply has to have.
    pub fn cookie(&self) -> u64 {
        self.cookie
    }

    /// Bytes of data that follow it.
    pub fn payload(&self) -> u32 {
        if self.kind == kind::WRITE { self.length } else { 0 }
    }

    /// What it asks for, if that may be asked for.
    ///
    /// # Errors
    ///
    /// What the reply has to say. The [data](Self::payload) has to be taken in all the same.
    pub fn judge(&self, terms: &Terms, negotiated: Negotiated) -> Result<Command, Failure> {
        let Self { flags, kind, offset, length, .. } = *self;
        let allowed = flag::FUA
            | match kind {
                kind::READ if negotiated.structured => flag::DF,
                kind::WRITE_ZEROES => flag::NO_HOLE | flag::FAST_ZERO,
                _ => 0,
            };
        if kind == kind::DISC {
            return Ok(Command::Disconnect);
        }
        if flags & !allowed != 0 {
            return Err(invalid(format!("command {kind} has no flags {:#x}", flags & !allowed)));
        }
        let fua = flags & flag::FUA != 0;
        match kind {
            kind::READ => {
                self.check_payload(terms, negotiated.structured)?;
                self.check_range(terms, ErrorCode::Invalid)?;
                Ok(Command::Read { offset, length })
            }
            kind::WRITE => {
                check_writable(terms)?;
                self.check_payload(terms, false)?;
                self.check_range(terms, ErrorCode::NoSpace)?;
                Ok(Command::Write { offset, length, fua })
            }
            kind::FLUSH if (offset, length) == (0, 0) => Ok(Command::Flush),
            kind::FLUSH => Err(invalid("a flush has neither offset nor length")),
            kind::TRIM => {
                check_writable(terms)?;
                if !terms.flags.contains(TransmissionFlags::SEND_TRIM) {
                    return Err(invalid("nothing can be trimmed here"));
                }
                self.check_range(terms, ErrorCode::Invalid)?;
                Ok(Command::Trim { offset, length, fua })
            }
            kind::CACHE => {
                self.check_range(terms, ErrorCode::Invalid)?;
                Ok(Command::Cache)
            }
            kind::WRITE_ZEROES => {
                check_writable(terms)?;
                self.check_range(terms, ErrorCode::NoSpace)?;
                if flags & flag::FAST_ZERO != 0 && !terms.fast_zeroes {
                    let why = "writing zeroes is no faster than writing data here";
                    return Err(Failure::new(ErrorCode::Unsupported, why));
                }
                let zero = Zero::new(flags & flag::NO_HOLE == 0, fua);
                Ok(Command::WriteZeroes { offset, length, zero })
            }
            kind::BLOCK_STATUS => Err(invalid("no metadata context was selected")),
            _ => Err(invalid(format!("there is no command {kind}"))),
        }
    }

    /// `has_overflow` says whether the client knows that error.
    fn check_payload(&self, terms: &Terms, has_overflow: bool) -> Result<(), Failure> {
        let (length, most) = (self.length, terms.max_payload);
        if length <= most {
            return Ok(());
        }
        let code = if has_overflow { ErrorCode::Overflow } else { ErrorCode::Invalid };
        Err(Failure::new(code, format!("{length} bytes, where a request has {most} at most")))
    }

    fn check_range(&self, terms: &Terms, past_the_end: ErrorCode) -> Result<(), Failure> {
        let Self { offset, length, .. } = *self;
        let end = offset.checked_add(length.into());
        if end.is_none_or(|end| end > terms.size) {
            let size = terms.size;
            let why = format!("{length} bytes at offset {offset} of an export of {size} bytes");
            return Err(Failure::new(past_the_end, why));
        }
        if terms.block_sizes.fit(offset, length) {
            return Ok(());
        }
        let minimum = terms.block_sizes.minimum();
        Err(invalid(format!(
            "{length} bytes at offset {offset}, where both are multiples of {minimum}"
        )))
    }
}

/// What a client asks for. Ranges are within the export and aligned, data no more than it may be;
/// a length may be zero.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "offset and length are bytes, `fua` is force unit access")]
#[non_exhaustive]
pub enum Command {
    /// To read.
    Read { offset: u64, length: u32 },
    /// To write the data that follows.
    Write { offset: u64, length: u32, fua: bool },
    /// To make everything durable.
    Flush,
    /// To forget what is there.
    Trim { offset: u64, length: u32, fua: bool },
    /// To have something at hand: a hint.
    Cache,
    /// To write zeroes.
    WriteZeroes { offset: u64, length: u32, zero: Zero },
    /// To end the connection, once everything else is answered.
    Disconnect,
}

fn invalid(why: impl std::fmt::Display) -> Failure {
    Failure::new(ErrorCode::Invalid, why)
}

fn check_writable(terms: &Terms) -> Result<(), Failure> {
    if terms.flags.contains(TransmissionFlags::READ_ONLY) {
        return Err(Failure::new(ErrorCode::NotPermitted, "the export is read-only"));
    }
    Ok(())
}

/// Fields of a fixed length, one after the other.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    /// The next one; zeroes behind the end.
    fn next<const N: usize>(&mut self) -> [u8; N] {
        let Some((field, rest)) = self.0.split_first_chunk() else { return [0; N] };
        self.0 = rest;
        *field
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::BlockSizes;
    use crate::export::{Export, ExportName};
    use crate::protocol::testing::{Blank, request};

    const PLAIN: Negotiated = Negotiated { structured: false };
    const STRUCTURED: Negotiated = Negotiated { structured: true };
    const MIB: u32 = 1 << 20;

    fn terms(device: Blank) -> Terms {
        Export::new(ExportName::default(), device).unwrap().terms(32 * MIB)
    }

    fn judge(
        terms: &Terms,
        kind: u16,
        flags: u16,
        offset: u64,
        length: u32,
    ) -> Result<Command, ErrorCode> {
        let header = RequestHeader::decode(&request(kind, flags, 7, offset, length)).unwrap();
        assert_eq!(header.cookie(), 7);
        assert_eq!(header.payload(), if kind == kind::WRITE { length } else { 0 });
        header.judge(terms, PLAIN).map_err(|failure| failure.code())
    }

    #[test]
    fn every_command_is_understood() {
        let terms = terms(Blank { fast_zeroes: true, ..Blank::default() });
        let judge =
            |kind, flags, offset, length| judge(&terms, kind, flags, offset, length).unwrap();
        assert_eq!(judge(0, 0, 5, 9), Command::Read { offset: 5, length: 9 });
        assert_eq!(judge(1, 0, 0, MIB), Command::Write { offset: 0, length: MIB, fua: false });
        assert_eq!(judge(1, 1, 1, 2), Command::Write { offset: 1, length: 2, fua: true });
        assert_eq!(judge(2, 0xffff, 1, 1), Command::Disconnect);
        assert_eq!(judge(3, 1, 0, 0), Command::Flush);
        assert_eq!(judge(4, 1, 1, 2), Command::Trim { offset: 1, length: 2, fua: true });
        assert_eq!(judge(5, 0, 1, 2), Command::Cache);
        let zeroes = |may_deallocate, fua| {
            let zero = Zero { may_deallocate, fua };
            Command::WriteZeroes { offset: 1, length: 2, zero }
        };
        assert_eq!(judge(6, 0, 1, 2), zeroes(true, false));
        assert_eq!(judge(6, 0b10011, 1, 2), zeroes(false, true));
    }

    #[test]
    fn what_begins_otherwise_is_no_request() {
        let mut bytes = request(0, 0, 0, 0, 0);
        for magic in [0u32, 0x1256_0953, 0x2560_9514, 0x21e4_1c71, u32::MAX] {
            bytes[..4].copy_from_slice(&magic.to_be_bytes());
            assert_eq!(RequestHeader::decode(&bytes), Err(BadMagic(magic)));
        }
    }

    #[test]
    fn ranges_past_the_end_are_refused_as_the_command_wants_it() {
        let size = u64::from(64 * MIB);
        let terms = terms(Blank { size, ..Blank::default() });
        let ranges = [(size, 1), (size - 1, 2), (u64::MAX, 1), (u64::MAX - 3, 4), (size + 1, 0)];
        for (offset, length) in ranges {
            for (kind, code) in [
                (kind::READ, ErrorCode::Invalid),
                (kind::WRITE, ErrorCode::NoSpace),
                (kind::TRIM, ErrorCode::Invalid),
                (kind::CACHE, ErrorCode::Invalid),
                (kind::WRITE_ZEROES, ErrorCode::NoSpace),
            ] {
                assert_eq!(judge(&terms, kind, 0, offset, length), Err(code), "{kind} {offset}");
            }
        }
        for kind in [0, 1, 4, 5, 6] {
            assert!(judge(&terms, kind, 0, size, 0).is_ok());
            assert!(judge(&terms, kind, 0, size - 1, 1).is_ok());
        }
    }

    #[test]
    fn too_much_data_is_refused_and_other_lengths_are_not_bounded() {
        let terms = terms(Blank { size: 1 << 40, ..Blank::default() });
        let most = 32 * MIB;
        for kind in [kind::READ, kind::WRITE] {
            assert!(judge(&terms, kind, 0, 0, most).is_ok());
            assert_eq!(judge(&terms, kind, 0, 0, most + 1), Err(ErrorCode::Invalid));
        }
        let read = RequestHeader::decode(&request(kind::READ, 0, 0, 0, u32::MAX)).unwrap();
        let failure = read.judge(&terms, STRUCTURED).unwrap_err();
        assert_eq!(failure.code(), ErrorCode::Overflow);
        for kind in [kind::TRIM, kind::CACHE, kind::WRITE_ZEROES] {
            assert!(judge(&terms, kind, 0, 0, u32::MAX).is_ok());
        }
    }

    #[test]
    fn flags_that_a_command_has_not_are_refused() {
        let terms = terms(Blank { fast_zeroes: true, ..Blank::default() });
        for (kind, allowed) in [(0, 1), (1, 1), (3, 1), (4, 1), (5, 1), (6, 0b10011)] {
            for bit in (0..16).map(|bit| 1u16 << bit).filter(|bit| allowed & bit == 0) {
                let judged = judge(&terms, kind, bit, 0, 0);
                assert_eq!(judged, Err(ErrorCode::Invalid), "command {kind}, flag {bit:#x}");
            }
        }
        let unfragmented = RequestHeader::decode(&request(0, flag::DF, 0, 0, 1)).unwrap();
        assert!(unfragmented.judge(&terms, STRUCTURED).is_ok());
    }

    #[test]
    fn what_is_read_only_is_not_written() {
        let terms = terms(Blank { read_only: true, ..Blank::default() });
        for kind in [kind::WRITE, kind::TRIM, kind::WRITE_ZEROES] {
            assert_eq!(judge(&terms, kind, 0, 0, 1), Err(ErrorCode::NotPermitted));
        }
        assert!(judge(&terms, kind::READ, 0, 0, 1).is_ok());
        assert!(judge(&terms, kind::FLUSH, 0, 0, 0).is_ok());
    }

    #[test]
    fn blocks_are_not_cut() {
        let sizes = BlockSizes::new(512, 4096).unwrap();
        let terms = terms(Blank { sizes, ..Blank::default() });
        for kind in [0, 1, 4, 5, 6] {
            assert!(judge(&terms, kind, 0, 512, 1024).is_ok());
            for (offset, length) in [(1, 512), (512, 1), (511, 513)] {
                assert_eq!(judge(&terms, kind, 0, offset, length), Err(ErrorCode::Invalid));
            }
        }
    }

    #[test]
    fn what_cannot_be_done_is_refused() {
        let untrimmed = terms(Blank { trim: false, ..Blank::default() });
        let terms = terms(Blank::default());
        assert_eq!(judge(&terms, 6, flag::FAST_ZERO, 0, 1), Err(ErrorCode::Unsupported));
        assert_eq!(judge(&untrimmed, kind::TRIM, 0, 0, 1), Err(ErrorCode::Invalid));
        assert_eq!(judge(&terms, 3, 0, 1, 0), Err(ErrorCode::Invalid));
        assert_eq!(judge(&terms, 3, 0, 0, 1), Err(ErrorCode::Invalid));
        for kind in [7, 8, 9, 0x1000, u16::MAX] {
            assert_eq!(judge(&terms, kind, 0, 0, 0), Err(ErrorCode::Invalid), "command {kind}");
        }
    }
}

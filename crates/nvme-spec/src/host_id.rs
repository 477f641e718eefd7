//! Host Identifiers: the 128 bits that say which host this is, whatever queue or controller it uses
//! (Base 2.1: the feature of section 5.1.25 and the Connect data of section 6.3).

use core::fmt;
use core::str::FromStr;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// A 128-bit Host Identifier, in the order in which its bytes travel.
///
/// The text form is that of a UUID, and its bytes are sent in the order in which they are written
/// (`00112233-…` starts with byte 00h), as Linux and RFC 9562 do it; nothing is byte-swapped.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    FromBytes,
    IntoBytes,
    KnownLayout,
    Immutable,
    Unaligned,
)]
#[repr(transparent)]
pub struct HostId(pub [u8; 16]);

impl HostId {
    /// The identifier of these bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> HostId {
        HostId(bytes)
    }

    /// The sixteen bytes as they are sent.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// Whether all bits are zero, which names no host: such a host cannot hold reservations, and
    /// Connect refuses it where the specification demands an identifier.
    pub fn is_zero(&self) -> bool {
        self.0 == [0; 16]
    }
}

/// Why a text is not a Host Identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HostIdError {
    /// Neither 36 bytes (a UUID) nor 32 (hexadecimal digits): this many.
    Length(usize),
    /// The byte at this index is not a hexadecimal digit.
    NotHex(usize),
    /// A UUID has a `-` at this index, and this text has none there.
    MissingHyphen(usize),
}

impl fmt::Display for HostIdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HostIdError::Length(n) => {
                write!(f, "a host identifier is a UUID or 32 hexadecimal digits, not {n} bytes")
            }
            HostIdError::NotHex(at) => write!(f, "byte {at} is not a hexadecimal digit"),
            HostIdError::MissingHyphen(at) => write!(f, "a UUID has a hyphen at byte {at}"),
        }
    }
}

impl core::error::Error for HostIdError {}

impl FromStr for HostId {
    type Err = HostIdError;

    /// A UUID (`xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx`) or 32 hexadecimal digits, of either case.
    fn from_str(text: &str) -> Result<HostId, HostIdError> {
        parse_uuid(text.as_bytes(), true).map(HostId)
    }
}

/// The bytes of a UUID, in the order of the text; also of 32 bare digits if those are `bare_too`.
pub(crate) fn parse_uuid(text: &[u8], bare_too: bool) -> Result<[u8; 16], HostIdError> {
    let hyphens = match text.len() {
        36 => true,
        32 if bare_too => false,
        n => return Err(HostIdError::Length(n)),
    };
    let mut bytes = [0; 16];
    let mut digits = 0;
    for (at, &byte) in text.iter().enumerate() {
        if hyphens && matches!(at, 8 | 13 | 18 | 23) {
            if byte != b'-' {
                return Err(HostIdError::MissingHyphen(at));
            }
            continue;
        }
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            _ => return Err(HostIdError::NotHex(at)),
        };
        bytes[digits / 2] = bytes[digits / 2] << 4 | digit;
        digits += 1;
    }
    Ok(bytes)
}

/// Writes sixteen bytes as a UUID, lower case.
pub(crate) fn write_uuid(bytes: &[u8; 16], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (i, byte) in bytes.iter().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            f.write_str("-")?;
        }
        write!(f, "{byte:02x}")?;
    }
    Ok(())
}

impl fmt::Display for HostId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_uuid(&self.0, f)
    }
}

impl fmt::Debug for HostId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HostId({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    const TEXT: &str = "00112233-4455-6677-8899-aabbccddeeff";
    const BYTES: [u8; 16] = [
        0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee,
        0xff,
    ];

    #[test]
    fn the_text_is_in_the_order_of_the_bytes() {
        assert_eq!(TEXT.parse(), Ok(HostId(BYTES)));
        assert_eq!(HostId(BYTES).to_string(), TEXT);
        assert_eq!("00112233445566778899AABBCCDDEEFF".parse(), Ok(HostId(BYTES)));
    }

    #[test]
    fn a_bad_text_is_refused_with_the_place() {
        let parse = |text: &str| text.parse::<HostId>();
        assert_eq!(parse(""), Err(HostIdError::Length(0)));
        assert_eq!(parse("00112233-4455-6677-8899-aabbccddeef"), Err(HostIdError::Length(35)));
        assert_eq!(parse("00112233-4455-6677-8899-aabbccddeefg"), Err(HostIdError::NotHex(35)));
        assert_eq!(
            parse("00112233-4455-66770-899-aabbccddeeff"),
            Err(HostIdError::MissingHyphen(18))
        );
        assert_eq!(parse("0011223344556677-899aabbccddeeff"), Err(HostIdError::NotHex(16)));
        // Sixteen two-byte characters: the right length, and no digit among them.
        assert_eq!(parse("éééééééééééééééé"), Err(HostIdError::NotHex(0)));
    }

    #[test]
    fn only_all_zeroes_is_zero() {
        assert!(HostId::default().is_zero());
        for i in 0..16 {
            let mut bytes = [0; 16];
            bytes[i] = 1;
            assert!(!HostId(bytes).is_zero());
        }
    }
}

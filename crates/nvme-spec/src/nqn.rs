//! NVMe Qualified Names: how hosts and subsystems are called (NVMe Base 2.1, 4.7).

use core::fmt;
use core::hash::{Hash, Hasher};
use core::str::FromStr;

use crate::host_id::{parse_uuid, write_uuid};

/// The longest name, in bytes of UTF-8, the closing NUL not counted.
pub const NQN_MAX: usize = 223;

/// The size of the field that carries a name: name, NUL, and zeroes up to here.
pub const NQN_FIELD: usize = 256;

const DISCOVERY_TEXT: &str = "nqn.2014-08.org.nvmexpress.discovery";
const UUID_PREFIX: &str = "nqn.2014-08.org.nvmexpress:uuid:";

/// A name of 1..=223 bytes of UTF-8, without NUL.
///
/// Names compare byte by byte, case included, as the specification demands. What a peer sends is
/// only held to length and encoding ([`Nqn::from_wire`]), since names that break the format are in
/// use; one's own are held to the format as well ([`Nqn::parse_strict`]).
#[derive(Clone)]
pub struct Nqn {
    len: u8,
    bytes: [u8; NQN_MAX],
}

impl Nqn {
    /// The well-known name of every discovery subsystem.
    pub const DISCOVERY: Nqn = Nqn::well_known(DISCOVERY_TEXT);

    /// A text known to fit when this crate is built.
    const fn well_known(text: &str) -> Nqn {
        let mut bytes = [0; NQN_MAX];
        let (text, mut i) = (text.as_bytes(), 0);
        while i < text.len() {
            bytes[i] = text[i];
            i += 1;
        }
        #[allow(clippy::cast_possible_truncation, reason = "indexing above stops at 223")]
        Nqn { len: text.len() as u8, bytes }
    }

    /// Any 1..=223 bytes of text without a NUL, whatever their form.
    pub fn lenient(text: &str) -> Result<Nqn, NqnError> {
        if text.is_empty() {
            return Err(NqnError::Empty);
        }
        let len = match u8::try_from(text.len()) {
            Ok(len) if text.len() <= NQN_MAX => len,
            _ => return Err(NqnError::TooLong(text.len())),
        };
        if let Some(at) = text.bytes().position(|b| b == 0) {
            return Err(NqnError::Character { at, found: '\0' });
        }
        let mut bytes = [0; NQN_MAX];
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        Ok(Nqn { len, bytes })
    }

    /// A name of one of the two forms the specification knows, or the discovery name:
    /// `nqn.YYYY-MM.reverse.domain:name`, or `nqn.2014-08.org.nvmexpress:uuid:` and a UUID.
    pub fn parse_strict(text: &str) -> Result<Nqn, NqnError> {
        let nqn = Nqn::lenient(text)?;
        if text != DISCOVERY_TEXT {
            check_form(text)?;
        }
        Ok(nqn)
    }

    /// From the 256-byte field of a Connect command, discovery entry or Identify Controller.
    /// What stands after the first NUL is not looked at.
    pub fn from_wire(field: &[u8; NQN_FIELD]) -> Result<Nqn, NqnError> {
        let len = field.iter().position(|&b| b == 0).ok_or(NqnError::Unterminated)?;
        let text = str::from_utf8(&field[..len]).map_err(|e| NqnError::NotUtf8(e.valid_up_to()))?;
        Nqn::lenient(text)
    }

    /// The 256-byte field: the name, then zeroes.
    pub fn to_wire(&self) -> [u8; NQN_FIELD] {
        let mut field = [0; NQN_FIELD];
        field[..usize::from(self.len)].copy_from_slice(self.as_bytes());
        field
    }

    /// The name built from a UUID, whose bytes are in the order of its text.
    pub fn from_uuid(uuid: &[u8; 16]) -> Nqn {
        let mut nqn = Nqn::well_known(UUID_PREFIX);
        for (i, byte) in uuid.iter().enumerate() {
            if matches!(i, 4 | 6 | 8 | 10) {
                nqn.push(b'-');
            }
            for digit in [byte >> 4, byte & 0xf] {
                nqn.push(if digit < 10 { b'0' + digit } else { b'a' + digit - 10 });
            }
        }
        nqn
    }

    /// The UUID in a name of the UUID form.
    pub fn uuid(&self) -> Option<[u8; 16]> {
        parse_uuid(self.as_str().strip_prefix(UUID_PREFIX)?.as_bytes(), false).ok()
    }

    /// Only for names known to stay far below the limit.
    fn push(&mut self, byte: u8) {
        self.bytes[usize::from(self.len)] = byte;
        self.len += 1;
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        // Every constructor starts from a `str`, so there is always one to give back.
        str::from_utf8(self.as_bytes()).unwrap_or_default()
    }

    /// The bytes of the name, without a NUL.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// Whether this is the well-known discovery name. (A discovery subsystem may have a unique name
    /// of its own besides; that one cannot be told by looking at it.)
    pub fn is_discovery(&self) -> bool {
        self.as_bytes() == DISCOVERY_TEXT.as_bytes()
    }
}

/// Holds a text against `nqn.YYYY-MM.reverse.domain:name`.
fn check_form(text: &str) -> Result<(), NqnError> {
    const DATE: usize = 4;
    const DOMAIN: usize = 12;

    let bytes = text.as_bytes();
    if !text.starts_with("nqn.") {
        return Err(NqnError::Prefix);
    }
    for (i, want) in b"YYYY-MM.".iter().enumerate() {
        let right = match (want, bytes.get(DATE + i)) {
            (b'Y' | b'M', Some(byte)) => byte.is_ascii_digit(),
            (want, Some(byte)) => want == byte,
            (_, None) => false,
        };
        if !right {
            return Err(NqnError::Date(DATE + i));
        }
    }
    if !matches!(&bytes[9..11], b"10" | b"11" | b"12" | [b'0', b'1'..=b'9']) {
        return Err(NqnError::Month);
    }

    let colon = text.find(':').ok_or(NqnError::MissingColon)?;
    let mut at = DOMAIN;
    for label in bytes[DOMAIN..colon].split(|&b| b == b'.') {
        let edge = |b: Option<&u8>| b.is_none_or(|&b| b == b'-');
        if edge(label.first()) {
            return Err(NqnError::Domain(at));
        }
        if edge(label.last()) {
            return Err(NqnError::Domain(at + label.len() - 1));
        }
        if let Some(i) = label.iter().position(|b| !b.is_ascii_alphanumeric() && *b != b'-') {
            return Err(NqnError::Domain(at + i));
        }
        at += label.len() + 1;
    }

    let name = colon + 1;
    if name == text.len() {
        return Err(NqnError::MissingName);
    }
    if let Some((i, found)) =
        text[name..].char_indices().find(|(_, c)| c.is_control() || c.is_whitespace())
    {
        return Err(NqnError::Character { at: name + i, found });
    }
    match text.strip_prefix(UUID_PREFIX) {
        Some(uuid) if parse_uuid(uuid.as_bytes(), false).is_err() => Err(NqnError::Uuid),
        _ => Ok(()),
    }
}

/// Why something is not an NVMe Qualified Name. Places are byte indices from the start of the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NqnError {
    /// There is no name.
    Empty,
    /// The name is this many bytes long; 223 are allowed.
    TooLong(usize),
    /// The 256-byte field has no NUL.
    Unterminated,
    /// The bytes from here on are not UTF-8.
    NotUtf8(usize),
    /// The name does not start with `nqn.`.
    Prefix,
    /// `YYYY-MM.` is not what stands here.
    Date(usize),
    /// The month is not 01..12.
    Month,
    /// The reversed domain name is empty, or has an empty label, a hyphen at a label's edge, or a
    /// character domain names do not have, here.
    Domain(usize),
    /// No `:` follows the reversed domain name.
    MissingColon,
    /// Nothing follows the `:`.
    MissingName,
    /// A NUL, control character or white space.
    Character {
        /// Where it starts.
        at: usize,
        /// Which one it is.
        found: char,
    },
    /// What follows `nqn.2014-08.org.nvmexpress:uuid:` is not a UUID.
    Uuid,
}

impl fmt::Display for NqnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NqnError::Empty => f.write_str("the NQN is empty"),
            NqnError::TooLong(len) => {
                write!(f, "the NQN has {len} bytes; at most {NQN_MAX} are allowed")
            }
            NqnError::Unterminated => {
                write!(f, "the NQN is not closed by a NUL within {NQN_FIELD} bytes")
            }
            NqnError::NotUtf8(at) => write!(f, "the NQN is not UTF-8 from byte {at} on"),
            NqnError::Prefix => f.write_str("the NQN does not start with \"nqn.\""),
            NqnError::Date(at) => {
                write!(f, "the NQN has no date of the form YYYY-MM. after \"nqn.\" (byte {at})")
            }
            NqnError::Month => f.write_str("the month in the NQN is not 01 to 12"),
            NqnError::Domain(at) => {
                write!(f, "the NQN has no valid reversed domain name after its date (byte {at})")
            }
            NqnError::MissingColon => {
                f.write_str("the NQN has no \":\" after its reversed domain name")
            }
            NqnError::MissingName => f.write_str("the NQN has nothing after its \":\""),
            NqnError::Character { at, found } => {
                write!(f, "the NQN has a {found:?} at byte {at}")
            }
            NqnError::Uuid => write!(f, "the NQN has no UUID after \"{UUID_PREFIX}\""),
        }
    }
}

impl core::error::Error for NqnError {}

impl FromStr for Nqn {
    type Err = NqnError;

    /// As [`Nqn::parse_strict`].
    fn from_str(text: &str) -> Result<Nqn, NqnError> {
        Nqn::parse_strict(text)
    }
}

impl PartialEq for Nqn {
    fn eq(&self, other: &Nqn) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Nqn {}

impl PartialOrd for Nqn {
    fn partial_cmp(&self, other: &Nqn) -> Option<core::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Nqn {
    fn cmp(&self, other: &Nqn) -> core::cmp::Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

impl Hash for Nqn {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

impl fmt::Display for Nqn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for Nqn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Nqn({:?})", self.as_str())
    }
}

/// Sixteen bytes printed as a UUID, lower case, in the order they have.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct UuidText(pub [u8; 16]);

impl fmt::Display for UuidText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_uuid(&self.0, f)
    }
}

impl fmt::Debug for UuidText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_uuid(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::{String, ToString};

    fn field(text: &[u8]) -> [u8; 256] {
        let mut field = [0; 256];
        field[..text.len()].copy_from_slice(text);
        field
    }

    #[test]
    fn the_wire_takes_up_to_223_bytes() {
        let longest = "x".repeat(223);
        let nqn = Nqn::from_wire(&field(longest.as_bytes())).unwrap();
        assert_eq!(nqn.as_str(), longest);
        assert_eq!(nqn.to_wire(), field(longest.as_bytes()));
        assert_eq!(Nqn::from_wire(&field(&[b'x'; 224])), Err(NqnError::TooLong(224)));
        assert_eq!(Nqn::from_wire(&field(&[b'x'; 255])), Err(NqnError::TooLong(255)));
        assert_eq!(Nqn::from_wire(&[b'x'; 256]), Err(NqnError::Unterminated));
        assert_eq!(Nqn::from_wire(&[0; 256]), Err(NqnError::Empty));
    }

    #[test]
    fn the_wire_takes_only_utf8_but_any_form() {
        assert_eq!(Nqn::from_wire(&field(b"nqn.\xff")), Err(NqnError::NotUtf8(4)));
        assert_eq!(Nqn::from_wire(&field("täst".as_bytes())).unwrap().as_str(), "täst");
        // Garbage after the NUL is not part of the name.
        assert_eq!(Nqn::from_wire(&field(b"a\0b")).unwrap().as_str(), "a");
    }

    #[test]
    fn a_text_is_held_to_length_and_nul() {
        assert_eq!(Nqn::lenient(""), Err(NqnError::Empty));
        assert_eq!(Nqn::lenient(&"x".repeat(224)), Err(NqnError::TooLong(224)));
        assert_eq!(Nqn::lenient(&"x".repeat(300)), Err(NqnError::TooLong(300)));
        assert_eq!(Nqn::lenient("a\0b"), Err(NqnError::Character { at: 1, found: '\0' }));
    }

    #[test]
    fn well_formed_names_pass() {
        for text in [
            "nqn.2024-01.com.example:disk1",
            "nqn.2014-08.org.nvmexpress:uuid:00112233-4455-6677-8899-aabbccddeeff",
            "nqn.2014-08.org.nvmexpress.discovery",
            "nqn.2016-06.io.spdk:cnode1",
            "nqn.1999-12.com.some-where:a:b:c",
            "nqn.2024-10.com.example:größe",
        ] {
            assert_eq!(Nqn::parse_strict(text).map(|n| n.to_string()), Ok(String::from(text)));
        }
    }

    #[test]
    fn a_name_of_the_wrong_form_is_refused_with_the_place() {
        let uuid = "nqn.2014-08.org.nvmexpress:uuid:00112233-4455-6677-8899-aabbccddeef";
        for (text, error) in [
            ("", NqnError::Empty),
            ("iqn.2024-01.com.example:a", NqnError::Prefix),
            ("nqn.", NqnError::Date(4)),
            ("nqn.20x4-01.com.example:a", NqnError::Date(6)),
            ("nqn.2024/01.com.example:a", NqnError::Date(8)),
            ("nqn.2024-1.com.example:a", NqnError::Date(10)),
            ("nqn.2024-01", NqnError::Date(11)),
            ("nqn.2024-00.com.example:a", NqnError::Month),
            ("nqn.2024-13.com.example:a", NqnError::Month),
            ("nqn.2024-01.com.example", NqnError::MissingColon),
            ("nqn.2024-01.:a", NqnError::Domain(12)),
            ("nqn.2024-01.com..example:a", NqnError::Domain(16)),
            ("nqn.2024-01.com.exam ple:a", NqnError::Domain(20)),
            ("nqn.2024-01.com-.example:a", NqnError::Domain(15)),
            ("nqn.2024-01.com.example:", NqnError::MissingName),
            ("nqn.2024-01.com.example:a b", NqnError::Character { at: 25, found: ' ' }),
            ("nqn.2024-01.com.example:é\n", NqnError::Character { at: 26, found: '\n' }),
            (uuid, NqnError::Uuid),
            ("nqn.2014-08.org.nvmexpress.Discovery", NqnError::MissingColon),
        ] {
            assert_eq!(text.parse::<Nqn>(), Err(error), "{text}");
        }
    }

    #[test]
    fn any_text_is_judged_without_a_panic() {
        let whole = "nqn.2014-08.org.nvmexpress:uuid:0é";
        for end in 0..=whole.len() {
            if let Some(part) = whole.get(..end) {
                let _ = Nqn::parse_strict(part);
            }
        }
        // Multi-byte characters across every fixed place of the format.
        for at in 0..14 {
            let text = String::from("nqn.2014-08.or")[..at].to_string() + "é:ü";
            assert!(Nqn::parse_strict(&text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_uuid_form_goes_both_ways() {
        let uuid = [0x5a; 16];
        let nqn = Nqn::from_uuid(&uuid);
        assert_eq!(
            nqn.as_str(),
            "nqn.2014-08.org.nvmexpress:uuid:5a5a5a5a-5a5a-5a5a-5a5a-5a5a5a5a5a5a"
        );
        assert_eq!(nqn.uuid(), Some(uuid));
        assert_eq!(Nqn::parse_strict(nqn.as_str()), Ok(nqn));
        assert_eq!(Nqn::DISCOVERY.uuid(), None);
    }

    #[test]
    fn the_discovery_name_is_known() {
        assert!(Nqn::DISCOVERY.is_discovery());
        assert_eq!(Nqn::DISCOVERY.as_str(), "nqn.2014-08.org.nvmexpress.discovery");
        assert_eq!(Nqn::lenient("nqn.2014-08.org.nvmexpress.discovery").unwrap(), Nqn::DISCOVERY);
        assert!(!Nqn::lenient("nqn.2014-08.org.nvmexpress.discovery2").unwrap().is_discovery());
    }

    #[test]
    fn names_order_as_their_bytes() {
        let [a, b] = ["a", "ab"].map(|t| Nqn::lenient(t).unwrap());
        assert!(a < b && a != b);
    }
}

//! Namespace Identification Descriptors (CNS 03h; Base 2.1, section 5.1.13): the identifiers a
//! namespace keeps for life, one after the other in 4,096 bytes.
//!
//! Each has a header of four bytes: NIDT (which kind), NIDL (bytes of the value), two reserved.

use core::fmt;

use super::IDENTIFY_LEN;

const HEADER: usize = 4;

/// Namespace Identifier Types.
pub mod nidt {
    /// IEEE Extended Unique Identifier, 8 bytes.
    pub const EUI64: u8 = 1;
    /// Namespace Globally Unique Identifier, 16 bytes.
    pub const NGUID: u8 = 2;
    /// UUID, 16 bytes.
    pub const UUID: u8 = 3;
    /// Command Set Identifier, 1 byte.
    pub const CSI: u8 = 4;
}

/// One identifier of a namespace. Bytes are in the order in which they are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NamespaceId<'a> {
    /// IEEE Extended Unique Identifier.
    Eui64([u8; 8]),
    /// Namespace Globally Unique Identifier.
    Nguid([u8; 16]),
    /// UUID.
    Uuid([u8; 16]),
    /// Command Set Identifier.
    Csi(u8),
    /// Of a type this crate does not know, to be skipped as the specification says.
    Other {
        /// Namespace Identifier Type.
        nidt: u8,
        /// The identifier.
        value: &'a [u8],
    },
}

impl NamespaceId<'_> {
    /// Namespace Identifier Type.
    pub const fn nidt(&self) -> u8 {
        match self {
            NamespaceId::Eui64(_) => nidt::EUI64,
            NamespaceId::Nguid(_) => nidt::NGUID,
            NamespaceId::Uuid(_) => nidt::UUID,
            NamespaceId::Csi(_) => nidt::CSI,
            NamespaceId::Other { nidt, .. } => *nidt,
        }
    }

    /// The bytes of the identifier.
    pub const fn value(&self) -> &[u8] {
        match self {
            NamespaceId::Eui64(value) => value,
            NamespaceId::Nguid(value) | NamespaceId::Uuid(value) => value,
            NamespaceId::Csi(value) => core::slice::from_ref(value),
            NamespaceId::Other { value, .. } => value,
        }
    }
}

/// Reads the descriptors of a list, whatever its bytes are.
///
/// The list ends with a descriptor of length 0 or with the bytes. After an error nothing follows,
/// since what comes next cannot be found.
#[derive(Clone, Debug)]
pub struct Descriptors<'a> {
    list: &'a [u8],
    at: usize,
}

impl<'a> Descriptors<'a> {
    /// The descriptors in these bytes, usually 4,096.
    pub const fn new(list: &'a [u8]) -> Self {
        Self { list, at: 0 }
    }

    /// Where the next descriptor starts, in bytes from the start of the list.
    pub const fn position(&self) -> usize {
        self.at
    }

    fn parse(&mut self) -> Option<Result<NamespaceId<'a>, DescriptorError>> {
        let at = self.at;
        let rest = self.list.get(at..)?;
        let &[nidt, nidl, ..] = rest else {
            return None;
        };
        if nidl == 0 {
            return None;
        }
        let Some(value) = rest.get(HEADER..HEADER + usize::from(nidl)) else {
            return Some(Err(DescriptorError::Truncated { at, nidl }));
        };
        self.at = at + HEADER + value.len();
        let id = match nidt {
            nidt::EUI64 => value.try_into().map(NamespaceId::Eui64),
            nidt::NGUID => value.try_into().map(NamespaceId::Nguid),
            nidt::UUID => value.try_into().map(NamespaceId::Uuid),
            nidt::CSI => value.try_into().map(|[csi]: [u8; 1]| NamespaceId::Csi(csi)),
            _ => Ok(NamespaceId::Other { nidt, value }),
        };
        Some(id.map_err(|_| DescriptorError::Length { at, nidt, nidl }))
    }
}

impl<'a> Iterator for Descriptors<'a> {
    type Item = Result<NamespaceId<'a>, DescriptorError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.parse();
        if !matches!(next, Some(Ok(_))) {
            self.list = &[];
        }
        next
    }
}

/// What is wrong with a list of descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DescriptorError {
    /// A descriptor runs past the end of the list.
    Truncated {
        /// Where it starts, in bytes.
        at: usize,
        /// The length it claims.
        nidl: u8,
    },
    /// A descriptor of a known type has another length than that type.
    Length {
        /// Where it starts, in bytes.
        at: usize,
        /// Its type.
        nidt: u8,
        /// The length it claims.
        nidl: u8,
    },
}

impl fmt::Display for DescriptorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated { at, nidl } => write!(
                f,
                "the namespace descriptor at byte {at} claims {nidl} bytes and ends past its list"
            ),
            Self::Length { at, nidt, nidl } => write!(
                f,
                "the namespace descriptor at byte {at} is of type {nidt}, which does not have \
                 {nidl} bytes"
            ),
        }
    }
}

impl core::error::Error for DescriptorError {}

/// Builds a list of descriptors.
#[derive(Clone)]
pub struct DescriptorList {
    bytes: [u8; IDENTIFY_LEN],
    len: usize,
}

impl DescriptorList {
    /// An empty list.
    pub const fn new() -> Self {
        Self { bytes: [0; IDENTIFY_LEN], len: 0 }
    }

    /// Adds an identifier. Refused if it is empty, longer than 255 bytes, or finds no room.
    pub fn push(&mut self, id: NamespaceId<'_>) -> Result<(), DescriptorListFull> {
        let value = id.value();
        let nidl = u8::try_from(value.len()).map_err(|_| DescriptorListFull)?;
        let end = self.len + HEADER + value.len();
        if nidl == 0 || end > IDENTIFY_LEN {
            return Err(DescriptorListFull);
        }
        let to = &mut self.bytes[self.len..end];
        to[0] = id.nidt();
        to[1] = nidl;
        to[HEADER..].copy_from_slice(value);
        self.len = end;
        Ok(())
    }

    /// The 4,096 bytes to send.
    pub const fn as_bytes(&self) -> &[u8; IDENTIFY_LEN] {
        &self.bytes
    }
}

impl Default for DescriptorList {
    fn default() -> Self {
        Self::new()
    }
}

/// A descriptor does not go into its list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DescriptorListFull;

impl fmt::Display for DescriptorListFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the identifier is empty or does not fit into its namespace descriptor list")
    }
}

impl core::error::Error for DescriptorListFull {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn a_list_reads_back_as_it_was_built() {
        let ids = [
            NamespaceId::Eui64([1, 2, 3, 4, 5, 6, 7, 8]),
            NamespaceId::Nguid([0xaa; 16]),
            NamespaceId::Uuid([0x55; 16]),
            NamespaceId::Csi(0),
            NamespaceId::Other { nidt: 9, value: &[7, 7] },
        ];
        let mut list = DescriptorList::new();
        for id in ids {
            list.push(id).unwrap();
        }
        let bytes = list.as_bytes();
        assert_eq!(bytes[..12], [1, 8, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(bytes[12..17], [2, 16, 0, 0, 0xaa]);
        assert_eq!(bytes[32..37], [3, 16, 0, 0, 0x55]);
        assert_eq!(bytes[52..57], [4, 1, 0, 0, 0]);
        assert_eq!(bytes[57..63], [9, 2, 0, 0, 7, 7]);
        assert!(bytes[63..].iter().all(|&b| b == 0));
        let read: Result<Vec<_>, _> = Descriptors::new(bytes).collect();
        assert_eq!(read.unwrap(), ids);
    }

    #[test]
    fn a_full_list_takes_no_more() {
        let mut list = DescriptorList::new();
        for _ in 0..4096 / 20 {
            list.push(NamespaceId::Uuid([1; 16])).unwrap();
        }
        assert_eq!(list.push(NamespaceId::Uuid([1; 16])), Err(DescriptorListFull));
        list.push(NamespaceId::Eui64([1; 8])).unwrap();
        // No room is left, and still the list ends where it should.
        list.push(NamespaceId::Other { nidt: 9, value: &[] }).unwrap_err();
        assert_eq!(Descriptors::new(list.as_bytes()).count(), 205);
        assert!(list.push(NamespaceId::Other { nidt: 9, value: &[0; 256] }).is_err());
    }

    #[test]
    fn a_bad_descriptor_ends_the_list_with_an_error() {
        let parse = |bytes: &'static [u8]| Descriptors::new(bytes).collect::<Vec<_>>();
        assert_eq!(parse(&[]), []);
        assert_eq!(parse(&[1]), []);
        assert_eq!(parse(&[0, 0, 0, 0]), []);
        assert_eq!(parse(&[1, 8, 0]), [Err(DescriptorError::Truncated { at: 0, nidl: 8 })]);
        assert_eq!(
            parse(&[4, 1, 0, 0, 2, 1, 3, 0, 0, 1, 2, 3, 4, 1, 0, 0, 2]),
            [Ok(NamespaceId::Csi(2)), Err(DescriptorError::Length { at: 5, nidt: 1, nidl: 3 })]
        );
    }

    #[test]
    fn garbage_is_read_without_panic_and_comes_to_an_end() {
        let mut state = 1u32;
        for round in 0..2000 {
            let mut bytes = [0u8; 4096];
            for byte in &mut bytes[..64 + round] {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                *byte = state.to_le_bytes()[3];
                // Many known types and short lengths, so that parsing gets somewhere.
                if round % 2 == 0 {
                    *byte %= 17;
                }
            }
            let mut descriptors = Descriptors::new(&bytes);
            let mut count = 0;
            while descriptors.next().is_some() {
                count += 1;
            }
            assert!(count <= 1024 && descriptors.next().is_none());
        }
    }
}

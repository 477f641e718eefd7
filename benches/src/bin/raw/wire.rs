//! What goes over the wire: as long as NVMe/TCP's PDUs, but with only what these programs need.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// What every PDU begins with.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Clone, Copy, Default)]
#[repr(C)]
pub(crate) struct Header {
    pub kind: u8,
    /// What a command wants done.
    pub operation: u8,
    /// The command.
    pub cid: U16,
    /// Bytes that follow the PDU's header.
    pub payload: U32,
    /// Bytes that the command is about.
    pub length: U32,
    pub reserved: U32,
    /// Where in the store they are.
    pub offset: U64,
}

pub(crate) mod kind {
    pub(crate) const COMMAND: u8 = 1;
    pub(crate) const RESPONSE: u8 = 2;
    pub(crate) const DATA_TO_HOST: u8 = 3;
    pub(crate) const READY_TO_TRANSFER: u8 = 4;
    pub(crate) const DATA_TO_SERVER: u8 = 5;
}

pub(crate) mod operation {
    pub(crate) const READ: u8 = 1;
    /// With the data behind the command.
    pub(crate) const WRITE: u8 = 2;
    /// With the data when it is asked for.
    pub(crate) const WRITE_LATER: u8 = 3;
}

/// Bytes of any PDU's header but a command's.
pub(crate) const HEADER: usize = size_of::<Header>();
/// Bytes of a command's.
pub(crate) const COMMAND: usize = 72;

impl Header {
    /// With no payload and no command's parameters.
    pub(crate) fn new(kind: u8, cid: u16) -> Self {
        Self { kind, cid: cid.into(), ..Self::default() }
    }

    /// The one at the front of `bytes`, if there is all of it.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let (header, _) = Self::read_from_prefix(bytes).ok()?;
        (bytes.len() >= header.len()).then_some(header)
    }

    /// Bytes before the payload.
    pub(crate) fn len(&self) -> usize {
        if self.kind == kind::COMMAND { COMMAND } else { HEADER }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_as_long_as_those_of_nvme_tcp() {
        assert_eq!(HEADER, 24);
        let mut bytes = [0; COMMAND];
        bytes[..HEADER].copy_from_slice(Header::new(kind::COMMAND, 7).as_bytes());
        assert!(Header::read(&bytes[..COMMAND - 1]).is_none());
        assert_eq!(Header::read(&bytes).unwrap().cid.get(), 7);
        bytes[0] = kind::RESPONSE;
        assert!(Header::read(&bytes[..HEADER]).is_some());
    }
}

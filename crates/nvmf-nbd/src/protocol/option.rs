//! Options that a client sends during the handshake, and the replies to them.

use super::handshake::Violation;

/// What every option begins with: the ASCII of `IHAVEOPT`.
pub(super) const OPTION_MAGIC: u64 = 0x4948_4156_454f_5054;
/// What every reply to an option begins with.
const REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;

/// "Option types".
pub(super) mod kind {
    pub(in crate::protocol) const EXPORT_NAME: u32 = 1;
    pub(in crate::protocol) const ABORT: u32 = 2;
    pub(in crate::protocol) const LIST: u32 = 3;
    pub(in crate::protocol) const STARTTLS: u32 = 5;
    pub(in crate::protocol) const INFO: u32 = 6;
    pub(in crate::protocol) const GO: u32 = 7;
    pub(in crate::protocol) const STRUCTURED_REPLY: u32 = 8;
    pub(in crate::protocol) const LIST_META_CONTEXT: u32 = 9;
    pub(in crate::protocol) const SET_META_CONTEXT: u32 = 10;
}

/// "Option reply types".
pub(super) mod reply {
    pub(in crate::protocol) const ACK: u32 = 1;
    pub(in crate::protocol) const SERVER: u32 = 2;
    pub(in crate::protocol) const INFO: u32 = 3;
    const ERROR: u32 = 1 << 31;
    pub(in crate::protocol) const ERR_UNSUP: u32 = ERROR | 1;
    pub(in crate::protocol) const ERR_INVALID: u32 = ERROR | 3;
    pub(in crate::protocol) const ERR_UNKNOWN: u32 = ERROR | 6;
    pub(in crate::protocol) const ERR_TOO_BIG: u32 = ERROR | 9;
}

/// Information that `INFO` and `GO` ask for, and get.
pub(super) mod info {
    pub(in crate::protocol) const EXPORT: u16 = 0;
    pub(in crate::protocol) const NAME: u16 = 1;
    pub(in crate::protocol) const DESCRIPTION: u16 = 2;
    pub(in crate::protocol) const BLOCK_SIZE: u16 = 3;
}

/// What is in front of an option's data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct OptionHeader {
    pub(super) kind: u32,
    pub(super) length: u32,
}

impl OptionHeader {
    pub(super) const LENGTH: usize = 16;

    pub(super) fn decode(bytes: [u8; Self::LENGTH]) -> Result<Self, Violation> {
        let [magic @ .., k0, k1, k2, k3, l0, l1, l2, l3] = bytes;
        if u64::from_be_bytes(magic) != OPTION_MAGIC {
            return Err(Violation::OptionMagic);
        }
        Ok(Self {
            kind: u32::from_be_bytes([k0, k1, k2, k3]),
            length: u32::from_be_bytes([l0, l1, l2, l3]),
        })
    }
}

/// The data of `INFO` and `GO`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct InfoRequest<'a> {
    pub(super) name: &'a [u8],
    wanted: &'a [u8],
}

impl<'a> InfoRequest<'a> {
    /// `None` if lengths in it do not add up to its own.
    pub(super) fn decode(data: &'a [u8]) -> Option<Self> {
        let (length, rest) = data.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let (name, rest) = rest.split_at_checked(length)?;
        let (count, wanted) = rest.split_first_chunk::<2>()?;
        let count = usize::from(u16::from_be_bytes(*count));
        (wanted.len() == count * 2).then_some(Self { name, wanted })
    }

    /// Whether this information is asked for.
    pub(super) fn wants(&self, info: u16) -> bool {
        self.wanted.chunks_exact(2).any(|one| one == info.to_be_bytes())
    }
}

/// Appends a reply to an option.
pub(super) fn push_reply(out: &mut Vec<u8>, option: u32, reply: u32, data: &[&[u8]]) {
    // Strings in replies are 4096 bytes at most.
    let length: usize = data.iter().map(|part| part.len()).sum();
    out.extend(REPLY_MAGIC.to_be_bytes());
    out.extend(option.to_be_bytes());
    out.extend(reply.to_be_bytes());
    out.extend(u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    data.iter().for_each(|part| out.extend_from_slice(part));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_in_an_information_request_have_to_add_up() {
        let right = b"\0\0\0\x02ab\0\x02\0\x01\0\x03";
        let request = InfoRequest::decode(right).unwrap();
        assert_eq!(request.name, b"ab");
        assert!(request.wants(info::NAME) && request.wants(info::BLOCK_SIZE));
        assert!(!request.wants(info::DESCRIPTION) && !request.wants(0x0100));
        for cut in 0..right.len() {
            assert_eq!(InfoRequest::decode(&right[..cut]), None, "{cut} bytes");
        }
        assert_eq!(InfoRequest::decode(&[right, &b"\0"[..]].concat()), None);
        assert_eq!(InfoRequest::decode(b"\xff\xff\xff\xff\0\0"), None);
        assert!(InfoRequest::decode(b"\0\0\0\0\0\0").is_some());
    }
}

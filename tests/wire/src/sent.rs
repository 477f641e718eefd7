//! PDUs as they were sent: the bytes of a recording, read with `nvme-spec`'s structures.

use nvme_spec::pdu::{self, CommonHeader, flags, kind};
use nvme_spec::{Cqe, Sqe};
use zerocopy::FromBytes;

use crate::recording::{End, Recording};

/// A PDU with its bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pdu {
    /// Its connection.
    pub connection: usize,
    /// Who sent it.
    pub from: End,
    /// Where it begins in what that end sent, in bytes.
    pub at: usize,
    /// All of it, with digests and padding.
    pub bytes: Vec<u8>,
}

impl Pdu {
    /// What every PDU begins with.
    pub fn header(&self) -> &CommonHeader {
        CommonHeader::ref_from_prefix(&self.bytes).unwrap().0
    }

    /// The PDU's type.
    pub fn kind(&self) -> u8 {
        self.header().kind
    }

    /// The header as this structure, if the PDU is long enough.
    pub fn read<T: FromBytes>(&self) -> T {
        T::read_from_prefix(&self.bytes).unwrap_or_else(|_| panic!("{self:?} is too short")).0
    }

    /// The command, in a Command Capsule.
    pub fn sqe(&self) -> Option<Sqe> {
        (self.kind() == kind::CAPSULE_CMD).then(|| self.read::<pdu::CapsuleCmd>().sqe)
    }

    /// The response, in a Response Capsule.
    pub fn cqe(&self) -> Option<Cqe> {
        (self.kind() == kind::CAPSULE_RESP).then(|| self.read::<pdu::CapsuleResp>().cqe)
    }

    /// The header digest.
    pub fn header_digest(&self) -> Option<u32> {
        let header = self.header();
        let has = header.flags & flags::HDGST != 0 && !self.is_bare();
        has.then(|| word(&self.bytes[usize::from(header.hlen)..]))
    }

    /// The data digest.
    pub fn data_digest(&self) -> Option<u32> {
        let has = self.header().flags & flags::DDGST != 0 && !self.is_bare();
        has.then(|| word(&self.bytes[self.bytes.len() - pdu::DIGEST_LEN..]))
    }

    /// The data, without digest.
    pub fn data(&self) -> &[u8] {
        match usize::from(self.header().pdo) {
            0 => &[],
            from => {
                let digest = if self.data_digest().is_some() { pdu::DIGEST_LEN } else { 0 };
                &self.bytes[from..self.bytes.len() - digest]
            }
        }
    }

    /// Bytes between the header, or its digest, and the data.
    pub fn padding(&self) -> usize {
        let header = self.header();
        let digest = if self.header_digest().is_some() { pdu::DIGEST_LEN } else { 0 };
        usize::from(header.pdo).saturating_sub(usize::from(header.hlen) + digest)
    }

    /// Whether these flags are all set.
    pub fn has(&self, flags: u8) -> bool {
        self.header().flags & flags == flags
    }

    /// A PDU of a kind that never has digests.
    fn is_bare(&self) -> bool {
        self.kind() <= kind::C2H_TERM_REQ
    }
}

fn word(bytes: &[u8]) -> u32 {
    u32::from_le_bytes(bytes[..4].try_into().unwrap())
}

/// All PDUs of a recording: connection by connection, the host's before the controller's. What a
/// peer sends that is no PDU ends its part.
pub fn pdus(recording: &Recording) -> Vec<Pdu> {
    let mut pdus = Vec::new();
    for connection in 0..recording.connections() {
        for from in [End::Host, End::Controller] {
            let stream = recording.stream(connection, from);
            let mut at = 0;
            while let Ok((header, _)) = CommonHeader::ref_from_prefix(&stream[at..]) {
                let length = header.plen.get() as usize;
                if length < 8 || pdu::name(header.kind) == "Unknown" {
                    break;
                }
                let Some(bytes) = stream.get(at..at + length) else { break };
                pdus.push(Pdu { connection, from, at, bytes: bytes.to_vec() });
                at += length;
            }
        }
    }
    pdus
}

/// CRC32C, bit by bit: slow and plain, to judge the implementation that the library uses.
pub fn crc32c(bytes: &[u8]) -> u32 {
    const REVERSED_POLYNOMIAL: u32 = 0x82f6_3b78;
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            let carry = crc & 1;
            crc >>= 1;
            if carry == 1 {
                crc ^= REVERSED_POLYNOMIAL;
            }
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_crc_of_the_digits_is_the_one_in_every_catalogue() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }
}

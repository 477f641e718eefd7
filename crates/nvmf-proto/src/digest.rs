//! CRC32C, the digest of PDU headers and data (NVMe/TCP Transport 1.1, section 3.6.1.3).

use std::sync::LazyLock;

use crc_fast::CrcAlgorithm::Crc32Iscsi;

/// A CRC32C computed piece by piece.
#[derive(Clone, Debug)]
pub struct Crc32c(crc_fast::Digest);

impl Crc32c {
    /// The digest of no bytes.
    pub fn new() -> Self {
        Self(crc_fast::Digest::new(Crc32Iscsi))
    }

    /// Adds the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The length of what [`append`](Self::append) adds, in bytes.
    pub const BLOCK: usize = 4096;

    /// Adds the next [`BLOCK`](Self::BLOCK) bytes by their own digest, without reading them.
    pub fn append(&mut self, digest: u32) {
        let before = self.finish().to_le_bytes();
        let shifted = BEHIND_BLOCK.iter().zip(before).map(|(table, byte)| table[usize::from(byte)]);
        let both = shifted.fold(digest, |sum, part| sum ^ part);
        // The state of a CRC is its complement.
        self.0 = crc_fast::Digest::new_with_init_state(Crc32Iscsi, u64::from(!both));
    }

    /// Starts anew.
    pub fn reset(&mut self) {
        *self = Self::new();
    }

    /// The digest of all bytes so far, as the number that goes out in little-endian order.
    pub fn finish(&self) -> u32 {
        low(self.0.finalize())
    }
}

/// What each byte of a digest contributes to the digest of the same bytes and a block behind them,
/// of which the block's own is the rest: a CRC is linear.
static BEHIND_BLOCK: LazyLock<[[u32; 256]; 4]> = LazyLock::new(|| {
    let bit =
        |bit: usize| low(crc_fast::checksum_combine(Crc32Iscsi, 1 << bit, 0, Crc32c::BLOCK as u64));
    let bits: [u32; 32] = std::array::from_fn(bit);
    std::array::from_fn(|byte| {
        std::array::from_fn(|value| {
            let set = (0..8).filter(|bit| value >> bit & 1 == 1);
            set.fold(0, |sum, bit| sum ^ bits[8 * byte + bit])
        })
    })
});

impl Default for Crc32c {
    fn default() -> Self {
        Self::new()
    }
}

/// The digest of `bytes`.
pub fn crc32c(bytes: &[u8]) -> u32 {
    low(crc_fast::checksum(Crc32Iscsi, bytes))
}

/// The library keeps CRCs of all widths in 64 bits.
#[allow(clippy::cast_possible_truncation, reason = "a CRC32C has 32 bits")]
fn low(crc: u64) -> u32 {
    crc as u32
}

/// The CRC32C implementation chosen for this machine gives wrong digests.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "the CRC32C of \"123456789\" came out as {got:#010x}, not {CHECK:#010x}: refusing to use digests"
)]
pub struct SelfTestError {
    /// What it gave.
    pub got: u32,
}

/// The check value that the CRC's definition gives for `"123456789"`.
const CHECK: u32 = 0xe306_9283;

/// Checks the implementation chosen for this machine; to be called once, before digests are used.
///
/// The fast implementation picks instructions at run time, and a wrong pick would corrupt data
/// without a sound: a fault here must stop the program, not a user's file.
pub fn self_test() -> Result<(), SelfTestError> {
    let got = crc32c(b"123456789");
    let mut pieces = Crc32c::new();
    pieces.update(b"1234");
    pieces.update(b"56789");
    for got in [got, pieces.finish()] {
        if got != CHECK {
            return Err(SelfTestError { got });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Bit by bit, straight from the polynomial: slow and plain.
    fn plain(bytes: &[u8]) -> u32 {
        let mut crc = !0u32;
        for &byte in bytes {
            crc ^= u32::from(byte);
            for _ in 0..8 {
                crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
            }
        }
        !crc
    }

    #[test]
    fn the_self_test_passes_here() {
        self_test().unwrap();
    }

    #[test]
    fn rfc_3720_examples() {
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
    }

    proptest! {
        #[test]
        fn blocks_can_be_added_by_their_digests(seed: u64, head in 0usize..200, blocks in 0usize..4, tail in 0usize..200) {
            let mut state = seed;
            let bytes: Vec<u8> = std::iter::repeat_with(|| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                state.to_be_bytes()[0]
            }).take(head + blocks * Crc32c::BLOCK + tail).collect();
            let mut crc = Crc32c::new();
            crc.update(&[1; 5]);
            crc.reset();
            crc.update(&bytes[..head]);
            for block in bytes[head..bytes.len() - tail].chunks(Crc32c::BLOCK) {
                crc.append(plain(block));
            }
            crc.update(&bytes[bytes.len() - tail..]);
            prop_assert_eq!(crc.finish(), plain(&bytes));
        }

        #[test]
        fn any_split_gives_the_plain_digest(bytes in prop::collection::vec(any::<u8>(), 0..3000), cut in any::<prop::sample::Index>()) {
            let cut = cut.index(bytes.len() + 1);
            let mut crc = Crc32c::new();
            crc.update(&bytes[..cut]);
            crc.update(&bytes[cut..]);
            prop_assert_eq!(crc.finish(), plain(&bytes));
            prop_assert_eq!(crc32c(&bytes), plain(&bytes));
        }
    }
}

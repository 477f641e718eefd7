//! Buffers that every kind of backend needs.

/// The length of [`ZEROES`] in bytes.
pub(crate) const ZERO_BYTES: usize = 64 << 10;

/// Zeroes to lend and to write.
pub(crate) static ZEROES: [u8; ZERO_BYTES] = [0; ZERO_BYTES];

//! What an export can do ("Transmission flags").

use std::fmt;
use std::ops::BitOr;

/// A set of transmission flags.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TransmissionFlags(u16);

impl TransmissionFlags {
    /// There are flags at all.
    pub const HAS_FLAGS: Self = Self(1);
    /// Nothing can be written.
    pub const READ_ONLY: Self = Self(1 << 1);
    /// There is `NBD_CMD_FLUSH`.
    pub const SEND_FLUSH: Self = Self(1 << 2);
    /// There is `NBD_CMD_FLAG_FUA`.
    pub const SEND_FUA: Self = Self(1 << 3);
    /// There is `NBD_CMD_TRIM`.
    pub const SEND_TRIM: Self = Self(1 << 5);
    /// There is `NBD_CMD_WRITE_ZEROES`.
    pub const SEND_WRITE_ZEROES: Self = Self(1 << 6);
    /// There is `NBD_CMD_FLAG_DF`: where structured replies are negotiated.
    const SEND_DF: Self = Self(1 << 7);
    /// Several connections see one device.
    pub const CAN_MULTI_CONN: Self = Self(1 << 8);
    /// There is `NBD_CMD_CACHE`.
    pub const SEND_CACHE: Self = Self(1 << 10);
    /// There is `NBD_CMD_FLAG_FAST_ZERO`.
    pub const SEND_FAST_ZERO: Self = Self(1 << 11);

    /// Whether it has all of these.
    pub fn contains(self, flags: Self) -> bool {
        self.0 & flags.0 == flags.0
    }

    /// As they stand on the wire, with or without structured replies.
    pub fn to_wire(self, structured: bool) -> u16 {
        if structured { (self | Self::SEND_DF).0 } else { self.0 }
    }
}

impl BitOr for TransmissionFlags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl fmt::LowerHex for TransmissionFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::LowerHex::fmt(&self.0, f)
    }
}

//! What an operation in the kernel's hands stands for.

use crate::slots::Key;

/// An operation, as the number that the kernel gives back with its completions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Operation {
    /// Whether somebody used a waker.
    Alarm,
    /// Accepting from a listener.
    Accept(Key),
    /// Cancelling that.
    StopListener(Key),
    /// Receiving from a connection into provided buffers.
    Receive(Key),
    /// Receiving from a connection into its buffers to fill.
    Fill(Key),
    /// Sending on a connection.
    Send(Key),
    /// Cancelling something of a connection.
    StopConn(Key),
    /// Reading or writing a file.
    File(Key),
    /// Cancelling everything, at the end.
    Cancel,
}

/// A key has 56 bits; the kind is above it.
const SHIFT: u32 = 56;

impl Operation {
    pub(super) fn to_bits(self) -> u64 {
        let (kind, key): (u64, u64) = match self {
            Self::Cancel => (0, 0),
            Self::Alarm => (1, 0),
            Self::Accept(key) => (2, key.to_bits()),
            Self::StopListener(key) => (3, key.to_bits()),
            Self::Receive(key) => (4, key.to_bits()),
            Self::Fill(key) => (5, key.to_bits()),
            Self::Send(key) => (6, key.to_bits()),
            Self::StopConn(key) => (7, key.to_bits()),
            Self::File(key) => (8, key.to_bits()),
        };
        kind << SHIFT | key
    }

    /// The operation of [`to_bits`](Self::to_bits).
    pub(super) fn from_bits(bits: u64) -> Self {
        let key = Key::from_bits(bits & ((1 << SHIFT) - 1));
        match bits >> SHIFT {
            1 => Self::Alarm,
            2 => Self::Accept(key),
            3 => Self::StopListener(key),
            4 => Self::Receive(key),
            5 => Self::Fill(key),
            6 => Self::Send(key),
            7 => Self::StopConn(key),
            8 => Self::File(key),
            _ => Self::Cancel,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_survive_their_number() {
        let key = Key::from_bits(0x00ff_ffff_ffff_ffff);
        for operation in [
            Operation::Cancel,
            Operation::Alarm,
            Operation::Accept(key),
            Operation::StopListener(key),
            Operation::Receive(key),
            Operation::Fill(key),
            Operation::Send(key),
            Operation::StopConn(key),
            Operation::File(key),
        ] {
            assert_eq!(Operation::from_bits(operation.to_bits()), operation);
        }
    }
}

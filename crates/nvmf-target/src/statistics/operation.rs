//! The kinds of I/O commands that are counted apart.

use nvme_spec::opcode;

/// What an I/O command does, as far as counting goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Operation {
    /// Read.
    Read,
    /// Write.
    Write,
    /// Flush.
    Flush,
    /// Write Zeroes.
    WriteZeroes,
    /// Dataset Management.
    DatasetManagement,
    /// Compare.
    Compare,
    /// Verify.
    Verify,
    /// Copy.
    Copy,
    /// Write Uncorrectable.
    WriteUncorrectable,
    /// Reservation Register, Report, Acquire and Release.
    Reservation,
    /// Any other command, Fabrics commands on an I/O queue among them.
    Other,
}

impl Operation {
    /// Each of them, in the order of its number.
    pub const ALL: [Self; 11] = [
        Self::Read,
        Self::Write,
        Self::Flush,
        Self::WriteZeroes,
        Self::DatasetManagement,
        Self::Compare,
        Self::Verify,
        Self::Copy,
        Self::WriteUncorrectable,
        Self::Reservation,
        Self::Other,
    ];

    /// What a command with this opcode does, on an I/O queue (NVM Command Set 1.1, 3; Base 2.1, 7).
    pub fn of_opcode(opcode: u8) -> Self {
        match opcode {
            opcode::nvm::READ => Self::Read,
            opcode::nvm::WRITE => Self::Write,
            opcode::nvm::FLUSH => Self::Flush,
            opcode::nvm::WRITE_ZEROES => Self::WriteZeroes,
            opcode::nvm::DATASET_MANAGEMENT => Self::DatasetManagement,
            opcode::nvm::COMPARE => Self::Compare,
            opcode::nvm::VERIFY => Self::Verify,
            opcode::nvm::COPY => Self::Copy,
            opcode::nvm::WRITE_UNCORRECTABLE => Self::WriteUncorrectable,
            opcode::nvm::RESERVATION_REGISTER
            | opcode::nvm::RESERVATION_REPORT
            | opcode::nvm::RESERVATION_ACQUIRE
            | opcode::nvm::RESERVATION_RELEASE => Self::Reservation,
            _ => Self::Other,
        }
    }

    /// Its name in lower case, as in `write-zeroes`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Flush => "flush",
            Self::WriteZeroes => "write-zeroes",
            Self::DatasetManagement => "dataset-management",
            Self::Compare => "compare",
            Self::Verify => "verify",
            Self::Copy => "copy",
            Self::WriteUncorrectable => "write-uncorrectable",
            Self::Reservation => "reservation",
            Self::Other => "other",
        }
    }

    /// Its place in [`ALL`](Self::ALL).
    pub(super) fn index(self) -> usize {
        self as usize
    }

    /// Whether the SMART / Health log counts it among what hosts read.
    pub(super) fn reads(self) -> bool {
        matches!(self, Self::Read | Self::Compare | Self::Verify)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn each_has_its_own_place_and_name() {
        for (i, operation) in Operation::ALL.into_iter().enumerate() {
            assert_eq!(operation.index(), i);
        }
        let names: BTreeSet<_> = Operation::ALL.iter().map(|operation| operation.name()).collect();
        assert_eq!(names.len(), Operation::ALL.len());
    }

    #[test]
    fn opcodes_are_told_apart_and_what_is_unknown_is_other() {
        let seen: BTreeSet<_> = (0..=u8::MAX).map(Operation::of_opcode).collect();
        assert_eq!(seen, Operation::ALL.into());
        assert_eq!(Operation::of_opcode(0x02), Operation::Read);
        assert_eq!(Operation::of_opcode(0x01), Operation::Write);
        assert_eq!(Operation::of_opcode(0x08), Operation::WriteZeroes);
        assert_eq!(Operation::of_opcode(0x15), Operation::Reservation);
        assert_eq!(Operation::of_opcode(0x7f), Operation::Other);
    }
}

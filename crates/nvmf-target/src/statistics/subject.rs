//! As what a command is counted.

use nvme_spec::Sqe;
use nvme_spec::identify::NSID_ALL;

use super::{NSID_OTHER, Operation};
use crate::subsystem::View;

/// What a command on an I/O queue is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Subject {
    /// A namespace there is, or [`NSID_OTHER`], or FFFFFFFFh.
    pub(crate) nsid: u32,
    pub(crate) operation: Operation,
    /// The bytes that it moves, or that it is for where it moves none.
    pub(crate) bytes: u64,
}

impl Subject {
    /// Of a command with `data_len` bytes of data, of a host that sees `view`. Its fields may be wrong
    /// in any way.
    pub(crate) fn of(view: &View, sqe: &Sqe, data_len: u32) -> Self {
        if sqe.is_fabrics() {
            return Self { nsid: NSID_OTHER, operation: Operation::Other, bytes: 0 };
        }
        let operation = Operation::of_opcode(sqe.opcode);
        let ns = view.get(sqe.nsid.get());
        let nsid = match ns {
            Some(ns) => ns.nsid(),
            None if operation == Operation::Flush && sqe.nsid.get() == NSID_ALL => NSID_ALL,
            None => NSID_OTHER,
        };
        let bytes = match operation {
            Operation::Read | Operation::Write | Operation::Compare => data_len.into(),
            Operation::Verify | Operation::WriteZeroes => {
                let size = ns.map_or(0, |ns| {
                    1u64.checked_shl(ns.description.block_shift.into()).unwrap_or(0)
                });
                u64::from(sqe.block_count()).saturating_mul(size)
            }
            _ => 0,
        };
        Self { nsid, operation, bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{association, subsystem};
    use nvme_spec::opcode;

    fn of(opcode: u8, nsid: u32, data_len: u32) -> (u32, Operation, u64) {
        let mut sqe = Sqe::new(opcode);
        sqe.nsid.set(nsid);
        sqe.set_cdw(12, 7);
        let Subject { nsid, operation, bytes } =
            Subject::of(&association(&subsystem()).view(), &sqe, data_len);
        (nsid, operation, bytes)
    }

    #[test]
    fn commands_are_for_a_namespace_there_is() {
        use opcode::nvm::{FLUSH, READ, VERIFY, WRITE_ZEROES};
        assert_eq!(of(READ, 1, 4096), (1, Operation::Read, 4096));
        assert_eq!(of(VERIFY, 1, 0), (1, Operation::Verify, 8 * 512));
        assert_eq!(of(WRITE_ZEROES, 3, 0), (3, Operation::WriteZeroes, 8 * 4096));
        assert_eq!(of(FLUSH, NSID_ALL, 0), (NSID_ALL, Operation::Flush, 0));
        assert_eq!(of(READ, NSID_ALL, 512), (NSID_OTHER, Operation::Read, 512));
        for nsid in [0, 2, 4, 0xffff_fffe] {
            assert_eq!(of(WRITE_ZEROES, nsid, 0), (NSID_OTHER, Operation::WriteZeroes, 0));
        }
    }

    #[test]
    fn fabrics_commands_are_for_none() {
        // The namespace identifier's first byte is the Fabrics command type there.
        assert_eq!(of(opcode::FABRICS, 1, 1024), (NSID_OTHER, Operation::Other, 0));
    }
}

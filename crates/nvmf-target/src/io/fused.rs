//! Compare and Write, fused (Base 2.1, section 3.4.2; NVM Command Set 1.1, section 2.1.6).
//!
//! Two commands that come one behind the other on a queue are one operation: if the Compare finds
//! the blocks as it expects them, the Write is executed, and nobody writes in between. It is with
//! this that cluster file systems take locks on disk.
//!
//! Nobody writes *any* block of the namespace meanwhile. Whoever reads is not kept out, and sees each
//! block as it was or as it is.

use std::sync::Arc;

use nvme_spec::{Sqe, Status, opcode};
use nvmf::controller::identify::COMPARE_AND_WRITE_BYTES;

use super::operation::{By, Kind, Operation};
use super::{Failed, plan_one};
use crate::association::Association;
use crate::limit::Direction;
use crate::subsystem::{Namespace, View};

/// FUSE of the first command.
pub(crate) const FIRST: u8 = 1;
/// FUSE of the second command.
pub(crate) const SECOND: u8 = 2;

/// The other command failed, so this one was not executed.
pub(crate) const OTHER_FAILED: Status = Status::ABORTED_FAILED_FUSED.with_dnr(true);
/// There was no other command.
pub(crate) const ALONE: Status = Status::ABORTED_MISSING_FUSED.with_dnr(true);

/// A Compare and a Write of the same blocks.
#[derive(Debug)]
pub(crate) struct Pair<N> {
    compare: Operation<N>,
    write: Operation<N>,
}

/// How it went with each of two commands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Both {
    pub(crate) first: Result<(), Failed>,
    pub(crate) second: Result<(), Failed>,
}

impl Both {
    /// The first command failed, and with it the second.
    pub(crate) fn first_failed(failed: impl Into<Failed>) -> Self {
        Self { first: Err(failed.into()), second: Err(OTHER_FAILED.into()) }
    }

    /// The second command failed before anything was executed.
    pub(crate) fn second_failed(failed: impl Into<Failed>) -> Self {
        Self { first: Err(OTHER_FAILED.into()), second: Err(failed.into()) }
    }

    /// Neither was executed, for the same reason.
    pub(crate) fn neither(status: Status) -> Self {
        let failed = Err(status.into());
        Self { first: failed, second: failed }
    }
}

/// Judges two commands that are to be fused, each with its length of data. The error is how to
/// answer them.
pub(crate) fn plan_pair<'a>(
    association: &Association,
    view: &'a View,
    (first, first_len): &(Sqe, u32),
    (second, second_len): &(Sqe, u32),
) -> Result<Pair<&'a Arc<Namespace>>, Both> {
    let same = first.nsid == second.nsid
        && first.slba() == second.slba()
        && first.block_count() == second.block_count();
    let opcodes = (first.opcode, second.opcode);
    if opcodes != (opcode::nvm::COMPARE, opcode::nvm::WRITE) || !same {
        return Err(Both::neither(Status::INVALID_FIELD.with_dnr(true)));
    }
    let compare = plan_one(association, view, first, *first_len).map_err(Both::first_failed)?;
    let write = plan_one(association, view, second, *second_len).map_err(Both::second_failed)?;
    if u64::from(*first_len) > COMPARE_AND_WRITE_BYTES {
        return Err(Both::neither(Status::ATOMIC_WRITE_UNIT_EXCEEDED.with_dnr(true)));
    }
    Ok(Pair { compare, write })
}

impl Pair<&Arc<Namespace>> {
    /// The same, to be kept.
    pub(crate) fn keep(&self) -> Pair<Arc<Namespace>> {
        Pair { compare: self.compare.keep(), write: self.write.keep() }
    }
}

impl<N: AsRef<Namespace>> Pair<N> {
    pub(crate) fn namespace(&self) -> &Namespace {
        self.write.namespace()
    }

    /// Where in the namespace its blocks are, in bytes.
    pub(crate) fn place(&self) -> u64 {
        match self.write.kind() {
            Kind::Write { offset, .. } => offset,
            _ => 0,
        }
    }

    /// For the limits: a pair is one command that writes.
    pub(crate) fn cost(&self) -> Option<(Direction, u64)> {
        self.write.cost(&[])
    }

    /// Does both, alone; waits until it can. `expected` and `new` are as long as the blocks.
    pub(crate) fn execute(&self, expected: &mut [u8], new: &mut [u8], by: &By<'_>) -> Both {
        let ns = self.namespace();
        let _alone = ns.exclusion().close();
        // As for a command that writes: looked at once nobody else does.
        let host = by.host();
        if let Err(status) = ns.reservations().check(host, crate::reservation::Access::Write) {
            return Both::second_failed(status);
        }
        match self.compare.perform(expected, by) {
            Err(failed) => Both::first_failed(failed),
            Ok(()) => Both { first: Ok(()), second: self.write.perform(new, by) },
        }
    }
}

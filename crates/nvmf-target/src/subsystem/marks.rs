//! Which blocks of a namespace hosts marked as not to be read, and that this outlasts a restart.

use std::ops::Range;
use std::sync::{Mutex, OnceLock, PoisonError};

use nvme_spec::Status;
use nvmf_storage::{TooManyRanges, Uncorrectable};

use crate::persistence::Store;

/// The blocks that Write Uncorrectable marked, saved where there is a place for it.
///
/// Marking and clearing waits for that place then.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    blocks: Uncorrectable,
    store: OnceLock<Store>,
    /// Held by who changes the marks and saves them.
    changing: Mutex<()>,
}

impl Marks {
    /// These blocks are marked.
    pub(super) fn restore(
        ranges: impl IntoIterator<Item = Range<u64>>,
    ) -> Result<Self, TooManyRanges> {
        Ok(Self { blocks: Uncorrectable::from_ranges(ranges)?, ..Self::default() })
    }

    /// Has every change saved there before it takes effect. The first place that is said counts.
    pub(super) fn persist(&self, store: Store) {
        let _ = self.store.set(store);
    }

    /// Whether they outlast a restart, so that to change them is to wait.
    pub(crate) fn last(&self) -> bool {
        self.store.get().is_some()
    }

    /// Whether any of `count` blocks from block `first` on is marked: one load where none is.
    #[inline]
    pub(crate) fn overlaps(&self, first: u64, count: u64) -> bool {
        !self.blocks.is_empty() && self.blocks.overlaps(first, count)
    }

    /// Marks `count` blocks from block `first` on.
    pub(crate) fn mark(&self, first: u64, count: u64) -> Result<(), Status> {
        self.change(|blocks| blocks.mark(first, count))
    }

    /// Takes the marks of `count` blocks from block `first` on away, marked or not. If that fails
    /// they stay.
    pub(crate) fn clear(&self, first: u64, count: u64) -> Result<(), Status> {
        self.change(|blocks| blocks.clear(first, count))
    }

    fn change(
        &self,
        change: impl Fn(&Uncorrectable) -> Result<(), TooManyRanges>,
    ) -> Result<(), Status> {
        let Some(store) = self.store.get() else {
            return change(&self.blocks).map_err(no_room);
        };
        let _alone = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.blocks.ranges();
        let next = Uncorrectable::from_ranges(before.iter().cloned()).map_err(no_room)?;
        change(&next).map_err(no_room)?;
        let ranges = next.ranges();
        if ranges != before {
            store.save_uncorrectable(&ranges)?;
            change(&self.blocks).map_err(no_room)?;
        }
        Ok(())
    }
}

/// No room for marks of another range of blocks (media cannot say so; this is nearest).
fn no_room(_: TooManyRanges) -> Status {
    Status::NOT_ENOUGH_RESOURCES
}

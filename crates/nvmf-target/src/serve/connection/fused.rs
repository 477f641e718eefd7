//! Two commands of a queue that are one operation.
//!
//! The first waits until the next command comes, which has to be the second. A pair is begun under
//! the second's slot: there it waits for limits and memory. When the data of both has come, a job
//! does both, and answers both.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use nvme_spec::Status;
use nvmf_engine::Engine;
use nvmf_proto::capsule::DataLocation;

use super::entry::Fused;
use super::storage::{JobDone, Place};
use super::{Connection, Stage, has_room};
use crate::io::By;
use crate::io::fused::{ALONE, Both, FIRST, OTHER_FAILED, SECOND, plan_pair};
use crate::serve::core::{Context, Post};

/// What the next command of a queue can be the second to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum First {
    #[default]
    None,
    /// It is in this slot.
    Waiting(u16),
    /// It has failed already.
    Failed,
}

impl Connection {
    /// A command came that says it is one of two, or that comes where the second of two should have.
    /// False if it is answered, or waits.
    pub(super) fn fuse(&mut self, slot: u16) -> bool {
        let Stage::Io(stage) = &mut self.stage else { return true };
        let before = std::mem::take(&mut stage.first);
        let entry = self.entries.get(slot);
        let fuse = entry.sqe.fuse();
        match (fuse, before) {
            (SECOND, First::Waiting(first)) => return self.join(first, slot),
            (SECOND, First::Failed) => {
                self.io_fail(slot, OTHER_FAILED);
                return false;
            }
            (SECOND, First::None) => {
                self.io_fail(slot, ALONE);
                return false;
            }
            _ => {}
        }
        if fuse == FIRST {
            entry.fused = Fused::First(None);
            stage.first = First::Waiting(slot);
        }
        let in_capsule = matches!(entry.data, DataLocation::InCapsule { .. });
        if let First::Waiting(first) = before {
            self.io_fail(first, ALONE);
        }
        // What comes in the capsule has to be taken.
        fuse != FIRST || in_capsule
    }

    /// Both are there.
    fn join(&mut self, first: u16, second: u16) -> bool {
        self.entries.get(first).fused = Fused::First(Some(second));
        self.entries.get(second).fused = Fused::Second(first);
        match self.judge(first, second) {
            Ok(()) => true,
            Err(both) => {
                self.answer_both(first, second, both);
                false
            }
        }
    }

    fn judge(&mut self, first: u16, second: u16) -> Result<(), Both> {
        let Stage::Io(stage) = &mut self.stage else { return Ok(()) };
        let [compare, write] = [first, second].map(|slot| self.entries.get(slot).whole());
        let association = stage.membership.association();
        plan_pair(association, stage.view.load(), &compare, &write).map(drop)
    }

    /// Begins a pair, or goes on with it: asks for leave, then for data, then has it executed.
    pub(super) fn pair_command<E: Engine>(
        &mut self,
        cx: &mut Context,
        engine: &mut E,
        first: u16,
        second: u16,
    ) {
        let Stage::Io(stage) = &mut self.stage else { return };
        let association = stage.membership.association();
        let [compare, write] = [first, second].map(|slot| self.entries.get(slot).whole());
        let pair = match plan_pair(association, stage.view.load(), &compare, &write) {
            Ok(pair) => pair,
            Err(both) => return self.answer_both(first, second, both),
        };
        let missing = [first, second].map(|slot| !self.entries.get(slot).arrived);
        if !self.entries.get(second).admitted {
            if missing != [false; 2] && !has_room(self.held, write.1 as usize) {
                return self.waiting.push_back(second);
            }
            if let Some(cost) = pair.cost()
                && pair.namespace().limiter().is_limited()
                && !stage.limited.admits(pair.namespace(), cost, second, cx.now)
            {
                // What came in capsules: as for other commands that wait with data.
                for slot in [first, second] {
                    self.let_go(slot);
                }
                self.arm_limits(cx);
                return self.memory_is_free(cx, engine);
            }
            self.entries.get(second).admitted = true;
        }
        if missing == [false; 2] {
            let pair = pair.keep();
            let association = Arc::clone(association);
            let counters = Arc::clone(stage.membership.counters());
            let [mut expected, mut new] = [first, second].map(|slot| {
                let entry = self.entries.get(slot);
                entry.pending = false;
                entry.staging.take_parts().concat()
            });
            self.outside += 2;
            let (post, conn) = (cx.post.clone(), self.id);
            cx.shared.jobs.run(move || {
                let by = By { association: &association, counters: &counters };
                let work = || pair.execute(&mut expected, &mut new, &by);
                let both = catch_unwind(AssertUnwindSafe(work)).ok();
                let results = [both.map(|both| both.first), both.map(|both| both.second)];
                for (slot, result) in [first, second].into_iter().zip(results) {
                    let result = result.map(|result| result.map(|()| Vec::new()));
                    // Without the core there is nobody to tell.
                    let _ = post.post(Post::Job(JobDone { place: Place { conn, slot }, result }));
                }
            });
            return;
        }
        let at = pair.place();
        for slot in [first, second] {
            let entry = self.entries.get(slot);
            let here = matches!(entry.data, DataLocation::Transport { .. });
            if here && !entry.arrived && !std::mem::replace(&mut entry.requested, true) {
                self.request_data(cx, slot, at);
            }
        }
    }

    /// The data of one of two has come: it is kept until the other's is there.
    pub(super) fn pair_data<E: Engine>(
        &mut self,
        cx: &mut Context,
        engine: &mut E,
        slot: u16,
        whole: Option<&[u8]>,
    ) {
        self.keep_data(cx, slot, whole);
        match self.entries.get(slot).fused {
            Fused::First(Some(second)) => self.pair_command(cx, engine, slot, second),
            Fused::Second(first) => self.pair_command(cx, engine, first, slot),
            Fused::First(None) | Fused::No => {}
        }
    }

    /// Answers both of two.
    pub(super) fn answer_both(&mut self, first: u16, second: u16, both: Both) {
        for (slot, result) in [(first, both.first), (second, both.second)] {
            self.waits_no_more(slot);
            match result {
                Ok(()) => self.fail(slot, Status::SUCCESS),
                Err(failed) => self.io_fail(slot, failed),
            }
        }
    }

    /// Answers a command that was not begun and is not to be, and with it the other if it is one of
    /// two.
    pub(super) fn abort(&mut self, slot: u16, status: Status) {
        self.fail_unbegun(slot, status, status);
    }

    /// Answers a command whose data does not come as it should.
    pub(super) fn data_lost(&mut self, slot: u16, status: Status) {
        self.fail_unbegun(slot, status, OTHER_FAILED);
    }

    fn fail_unbegun(&mut self, slot: u16, status: Status, other: Status) {
        let failed = |status: Status| Err(status.into());
        match self.entries.get(slot).fused {
            Fused::First(Some(second)) => {
                let both = Both { first: failed(status), second: failed(other) };
                self.answer_both(slot, second, both);
            }
            Fused::Second(first) => {
                let both = Both { first: failed(other), second: failed(status) };
                self.answer_both(first, slot, both);
            }
            of => {
                if let (Fused::First(None), Stage::Io(stage)) = (of, &mut self.stage) {
                    stage.first = First::Failed;
                }
                self.waits_no_more(slot);
                self.io_fail(slot, status);
            }
        }
    }
}

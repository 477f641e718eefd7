//! A connection that is an I/O queue.

use std::time::Instant;

use nvme_spec::{Cqe, Status};
use nvmf_engine::Engine;

use super::entry::{Entry, Fused};
use super::fused::First;
use super::limited::Limited;
use super::storage::{self, Done, Execution, Place};
use super::{Connection, Stage, has_room};
use crate::association::IoQueue;
use crate::io::{Failed, Kind, Plan, Transfer, plan};
use crate::serve::connections::Stopper;
use crate::serve::core::Context;
use crate::subsystem::CachedView;
use crate::who::Who;

/// An I/O queue of a controller.
#[derive(Debug)]
pub(super) struct IoStage {
    pub(super) membership: IoQueue,
    pub(super) view: CachedView,
    stopper: Stopper,
    /// Commands that wait for the limits of their namespaces.
    pub(super) limited: Limited,
    /// What the next command may be fused with.
    pub(super) first: First,
}

impl IoStage {
    pub(super) fn new(membership: IoQueue, stopper: Stopper) -> Self {
        let view = membership.association().cached_view();
        Self { membership, view, stopper, limited: Limited::default(), first: First::None }
    }

    /// Takes out the first of two commands that waits for the second.
    pub(super) fn take_first(&mut self) -> Option<u16> {
        match std::mem::take(&mut self.first) {
            First::Waiting(slot) => Some(slot),
            First::None | First::Failed => None,
        }
    }

    pub(super) fn qid(&self) -> u16 {
        self.membership.qid()
    }

    pub(super) fn cntlid(&self) -> u16 {
        self.membership.association().cntlid()
    }

    /// Whether the association has ended it.
    pub(super) fn is_stopped(&self) -> bool {
        self.stopper.is_stopped()
    }

    /// Lets go of a view that is no more.
    pub(super) fn refresh(&mut self) {
        self.view.load();
    }

    /// Says whose it is.
    pub(super) fn belong_to(&self, who: &Who) {
        self.membership.counters().belong_to(who);
    }

    /// A command came.
    pub(super) fn count(&self) {
        self.membership.counters().command();
    }

    /// A command's answer leaves.
    pub(super) fn account(&mut self, entry: &mut Entry, now: Instant) {
        // A Connect came before this was a queue.
        if let (Some(began), Some(status)) = (entry.began.take(), entry.answer.take()) {
            let took = now.saturating_duration_since(began);
            let view = self.view.load();
            self.membership.account(view, &entry.sqe, entry.data.length(), took, status);
        }
    }
}

impl Connection {
    /// A command without data, or whose data is with the host.
    pub(super) fn io_command<E: Engine>(&mut self, cx: &mut Context, engine: &mut E, slot: u16) {
        if let Fused::Second(first) = self.entries.get(slot).fused {
            return self.pair_command(cx, engine, first, slot);
        }
        let Stage::Io(IoStage { membership, view, limited, .. }) = &mut self.stage else { return };
        let entry = self.entries.get(slot);
        let length = entry.data.length();
        // What is wrong is said before any data is moved.
        let done = match plan(membership.association(), view.load(), &entry.sqe, length) {
            Ok(Plan::Execute(operation)) => {
                let bytes = length as usize;
                if bytes > 0 && !has_room(self.held, bytes) {
                    return self.waiting.push_back(slot);
                }
                let ns = operation.namespace();
                // What a Copy moves is known when its data is there.
                if ns.limiter().is_limited()
                    && !entry.admitted
                    && !matches!(operation.kind(), Kind::Copy(_))
                    && let Some(cost) = operation.cost(&[])
                {
                    if !limited.admits(ns, cost, slot, cx.now) {
                        return self.arm_limits(cx);
                    }
                    entry.admitted = true;
                }
                if let Transfer::FromHost(_) = operation.transfer() {
                    let at = storage::place(&operation);
                    return self.request_data(cx, slot, at);
                }
                entry.held += bytes;
                self.held += bytes;
                entry.pending = false;
                let place = Place { conn: self.id, slot };
                Execution { membership, entry, whole: None, place, cx, engine }.run(&operation)
            }
            Ok(Plan::FlushAll(namespaces)) => {
                entry.pending = false;
                let place = Place { conn: self.id, slot };
                Execution { membership, entry, whole: None, place, cx, engine }
                    .flush_all(namespaces)
            }
            Ok(Plan::Disconnect) => return self.disconnect(slot),
            Err(status) => Done::Failed(status.into()),
        };
        self.io_done(slot, done);
    }

    /// A command whose data, if it needs any, is there: `whole`, or in its staging.
    pub(super) fn io_execute<E: Engine>(
        &mut self,
        cx: &mut Context,
        engine: &mut E,
        slot: u16,
        whole: Option<&[u8]>,
    ) {
        let entry = self.entries.get(slot);
        if entry.fused != Fused::No {
            return self.pair_data(cx, engine, slot, whole);
        }
        let Stage::Io(IoStage { membership, view, limited, .. }) = &mut self.stage else { return };
        let length = entry.data.length();
        let done = match plan(membership.association(), view.load(), &entry.sqe, length) {
            Ok(Plan::Execute(operation)) => {
                let ns = operation.namespace();
                if ns.limiter().is_limited() && !entry.admitted {
                    let list = match (operation.kind(), whole) {
                        (Kind::Copy(_), Some(whole)) => whole.to_vec(),
                        (Kind::Copy(_), None) => entry.staging.copied(),
                        _ => Vec::new(),
                    };
                    let cost = operation.cost(&list);
                    if cost.is_some_and(|cost| !limited.admits(ns, cost, slot, cx.now)) {
                        return self.wait_with_data(cx, engine, slot, whole);
                    }
                }
                entry.pending = false;
                let place = Place { conn: self.id, slot };
                Execution { membership, entry, whole, place, cx, engine }.run(&operation)
            }
            // Neither has data.
            Ok(Plan::FlushAll(_) | Plan::Disconnect) => Done::Failed(Status::INTERNAL_ERROR.into()),
            Err(status) => Done::Failed(status.into()),
        };
        self.io_done(slot, done);
    }

    /// A command waits for limits with data that came in its capsule, or with the ranges of a Copy.
    ///
    /// That does not count for the memory that commands hold, or those that pass would have to wait
    /// for it: there is no more of it than the queue has entries.
    fn wait_with_data<E: Engine>(
        &mut self,
        cx: &mut Context,
        engine: &mut E,
        slot: u16,
        whole: Option<&[u8]>,
    ) {
        self.keep_data(cx, slot, whole);
        self.let_go(slot);
        self.arm_limits(cx);
        self.memory_is_free(cx, engine);
    }

    /// Keeps the data of a command that has to wait: `whole`, or what is in its staging already.
    pub(super) fn keep_data(&mut self, cx: &mut Context, slot: u16, whole: Option<&[u8]>) {
        let entry = self.entries.get(slot);
        if let Some(whole) = whole {
            entry.staging.put(&mut cx.pool, 0, whole);
        }
        entry.arrived = true;
    }

    /// A command is about to be answered without having been begun, whatever it waits for.
    pub(super) fn waits_no_more(&mut self, slot: u16) {
        if self.tcp.awaits_data(slot) {
            // Its data is not told any more.
            self.owed = self.owed.saturating_sub(1);
        }
        self.waiting.retain(|other| *other != slot);
        if let Stage::Io(stage) = &mut self.stage {
            stage.limited.forget(slot);
        }
    }

    /// Reservations were preempted: commands on this namespace that wait for something are aborted.
    pub(in crate::serve) fn preempted(&mut self, nsid: u32) {
        for slot in self.entries.pending_on(nsid) {
            // It may be the other of two, and have gone with it.
            if self.entries.get(slot).pending {
                self.abort(slot, Status::ABORTED_PREEMPT);
            }
        }
    }

    fn disconnect(&mut self, slot: u16) {
        self.fail(slot, Status::SUCCESS);
        self.leave();
    }

    /// Answers a command as it went.
    fn io_done(&mut self, slot: u16, done: Done) {
        match done {
            Done::Succeeded => self.fail(slot, Status::SUCCESS),
            Done::Read => self.respond_with_data(slot),
            Done::Outside => self.outside += 1,
            Done::Failed(failed) => self.io_fail(slot, failed),
        }
    }

    /// Answers a command that failed.
    pub(super) fn io_fail(&mut self, slot: u16, failed: impl Into<Failed>) {
        let Failed { status, dw0 } = failed.into();
        let Stage::Io(stage) = &self.stage else { return };
        let (association, qid) = (stage.membership.association(), stage.qid());
        let status = association.failed(qid, &self.entries.get(slot).sqe, status);
        let mut cqe = Cqe::new(0, status);
        cqe.dw0.set(dw0);
        self.respond(slot, cqe);
    }

    /// A job or the ring is done with a command.
    fn came_back(&mut self, slot: u16, done: Done) {
        self.outside = self.outside.saturating_sub(1);
        self.io_done(slot, done);
    }

    /// A job is done with a command.
    pub(in crate::serve) fn job_done(&mut self, slot: u16, result: Result<Vec<u8>, Failed>) {
        let done = storage::job_done(result, self.entries.get(slot));
        self.came_back(slot, done);
    }

    /// A job panicked: what it did is unknown, and the queue goes with it.
    pub(in crate::serve) fn job_panicked(&mut self) {
        self.outside = self.outside.saturating_sub(1);
        self.life = super::Life::Over;
    }

    /// A read or write of a file is done.
    pub(in crate::serve) fn file_done(
        &mut self,
        cx: &mut Context,
        slot: u16,
        op: nvmf_engine::FileOp,
        result: std::io::Result<()>,
    ) {
        let Stage::Io(stage) = &self.stage else { return };
        let entry = self.entries.get(slot);
        let done = match entry.kept.take() {
            Some(operation) => {
                storage::file_done(&operation, &stage.membership, entry, op, result, cx)
            }
            None => Done::Failed(Status::INTERNAL_ERROR.into()),
        };
        self.came_back(slot, done);
    }
}

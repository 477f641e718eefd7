//! A connection that is an I/O queue.

use std::time::Instant;

use nvme_spec::Status;
use nvmf_engine::Engine;

use super::entry::Entry;
use super::storage::{self, Done, Execution, Place};
use super::{Connection, Stage, has_room};
use crate::association::IoQueue;
use crate::io::{Plan, Transfer, plan};
use crate::serve::connections::Stopper;
use crate::serve::core::Context;
use crate::subsystem::CachedView;
use crate::who::Who;

/// An I/O queue of a controller.
#[derive(Debug)]
pub(super) struct IoStage {
    membership: IoQueue,
    view: CachedView,
    stopper: Stopper,
}

impl IoStage {
    pub(super) fn new(membership: IoQueue, stopper: Stopper) -> Self {
        let view = membership.association().cached_view();
        Self { membership, view, stopper }
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
        let Stage::Io(IoStage { membership, view, .. }) = &mut self.stage else { return };
        let entry = self.entries.get(slot);
        let length = entry.data.length();
        // What is wrong is said before any data is moved.
        let done = match plan(membership.association(), view.load(), &entry.sqe, length) {
            Ok(Plan::Execute(operation)) => {
                let bytes = length as usize;
                if bytes > 0 && !has_room(self.held, bytes) {
                    return self.waiting.push_back(slot);
                }
                if let Transfer::FromHost(_) = operation.transfer() {
                    let at = storage::place(&operation);
                    return self.request_data(cx, slot, at);
                }
                entry.held += bytes;
                self.held += bytes;
                let place = Place { conn: self.id, slot };
                Execution { membership, entry, whole: None, place, cx, engine }.run(&operation)
            }
            Ok(Plan::FlushAll(namespaces)) => {
                let place = Place { conn: self.id, slot };
                Execution { membership, entry, whole: None, place, cx, engine }
                    .flush_all(namespaces)
            }
            Ok(Plan::Disconnect) => return self.disconnect(slot),
            Err(status) => Done::Failed(status),
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
        let Stage::Io(IoStage { membership, view, .. }) = &mut self.stage else { return };
        let entry = self.entries.get(slot);
        let length = entry.data.length();
        let done = match plan(membership.association(), view.load(), &entry.sqe, length) {
            Ok(Plan::Execute(operation)) => {
                let place = Place { conn: self.id, slot };
                Execution { membership, entry, whole, place, cx, engine }.run(&operation)
            }
            // Neither has data.
            Ok(Plan::FlushAll(_) | Plan::Disconnect) => Done::Failed(Status::INTERNAL_ERROR),
            Err(status) => Done::Failed(status),
        };
        self.io_done(slot, done);
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
            Done::Failed(status) => {
                let Stage::Io(stage) = &self.stage else { return };
                let (association, qid) = (stage.membership.association(), stage.qid());
                let status = association.failed(qid, &self.entries.get(slot).sqe, status);
                self.fail(slot, status);
            }
        }
    }

    /// A job or the ring is done with a command.
    fn came_back(&mut self, slot: u16, done: Done) {
        self.outside = self.outside.saturating_sub(1);
        self.io_done(slot, done);
    }

    /// A job is done with a command.
    pub(in crate::serve) fn job_done(&mut self, slot: u16, result: Result<Vec<u8>, Status>) {
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
            None => Done::Failed(Status::INTERNAL_ERROR),
        };
        self.came_back(slot, done);
    }
}

//! A connection that is an admin queue, and with it an association's life.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use nvme_spec::{Cqe, Status};

use super::ending::{Life, Why};
use super::{Connection, Stage};
use crate::abort::AbortReply;
use crate::admin::{Chore, Controller, Data, Outcome};
use crate::limits;
use crate::serve::Ending;
use crate::serve::core::{Context, Post};
use crate::who::{Who, say};

/// The admin queue's controller.
#[derive(Debug)]
pub(super) struct Admin {
    controller: Controller,
    /// Ends the association with this.
    association: Ending,
    /// Commands that wait for an event, by their identifiers.
    held: Vec<(u16, u16)>,
    busy: Busy,
    /// Commands that came while it was busy, with their data if that came too.
    stalled: VecDeque<(u16, Option<Vec<u8>>)>,
    /// Abort commands that wait to hear from an I/O queue.
    aborting: Vec<Aborting>,
    next_token: u64,
}

/// An Abort command that waits to hear from an I/O queue.
#[derive(Debug)]
struct Aborting {
    /// What the queue's word comes with: the slot may be another command's by then.
    token: u64,
    slot: u16,
    /// It waits no longer than to this time.
    until: Option<Instant>,
}

/// What has to end before the next command.
#[derive(Debug)]
enum Busy {
    No,
    /// The I/O queues have to go; then this command is answered. Until the deadline.
    Resetting {
        slot: u16,
        cqe: Cqe,
        deadline: Option<Instant>,
    },
    /// A chore has to be done; then this command is answered, or the shutdown complete.
    Waiting(Option<(u16, Cqe)>),
}

impl Admin {
    pub(super) fn new(controller: Controller) -> Self {
        let association = Ending(Arc::clone(controller.association()));
        Self {
            controller,
            association,
            held: Vec::new(),
            busy: Busy::No,
            stalled: VecDeque::new(),
            aborting: Vec::new(),
            next_token: 0,
        }
    }

    /// Says how others end the connection, and how they wake it to tell its host of events.
    pub(super) fn can_be_told(
        &self,
        peer: String,
        stop: impl Fn() + Send + 'static,
        wake: impl Fn() + Send + 'static,
    ) {
        self.association.0.admin_is(peer, stop);
        self.association.0.events().wake_by(wake);
    }

    pub(super) fn cntlid(&self) -> u16 {
        self.association.0.cntlid()
    }

    /// When there is something to look at.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.busy {
            // A host that waits for this controller is not silent.
            Busy::Resetting { deadline, .. } => deadline,
            Busy::Waiting(_) => None,
            Busy::No => {
                let aborts = self.aborting.iter().filter_map(|aborting| aborting.until);
                aborts.chain(self.controller.deadline()).min()
            }
        }
    }

    /// Whether the I/O queues are gone.
    pub(super) fn is_alone(&self) -> bool {
        self.association.0.is_idle()
    }

    /// Says in the log why it ends.
    pub(super) fn tell_end(who: &Who, why: Why) {
        match why {
            Why::Closed => say!(info, who, "host disconnected"),
            Why::Stopped => say!(info, who, "target stops"),
            Why::Expired => say!(warn, who, "host given up: Keep Alive Timeout expired"),
            Why::Failed => say!(error, who, "controller failed"),
        }
    }
}

impl Connection {
    /// A command on the admin queue without data, or whose data is with the host.
    pub(super) fn admin_command(&mut self, cx: &mut Context, slot: u16) {
        self.admin_execute(cx, slot, None);
    }

    /// A command on the admin queue whose data has come: `whole`, or in its staging.
    pub(super) fn admin_data(&mut self, cx: &mut Context, slot: u16, whole: Option<&[u8]>) {
        let data = match whole {
            Some(whole) => whole.to_vec(),
            None => self.entries.get(slot).staging.take_parts().concat(),
        };
        self.admin_execute(cx, slot, Some(data));
    }

    fn admin_execute(&mut self, cx: &mut Context, slot: u16, received: Option<Vec<u8>>) {
        let Stage::Admin(admin) = &mut self.stage else { return };
        if !matches!(admin.busy, Busy::No) {
            return admin.stalled.push_back((slot, received));
        }
        let entry = self.entries.get(slot);
        let sqe = entry.sqe;
        let data = match &received {
            Some(data) => Data::Here(data),
            None => Data::AtHost(entry.data.length()),
        };
        match admin.controller.execute(&sqe, data, cx.now) {
            Outcome::Receive(_) => self.request_data(cx, slot, 0),
            Outcome::Answer(cqe) => self.respond(slot, cqe),
            Outcome::Data(data) => {
                self.entries.get(slot).out.push(Bytes::from(data));
                self.respond_with_data(slot);
            }
            Outcome::Chore(chore, cqe) => self.begin_chore(cx, chore, Some((slot, cqe))),
            Outcome::Hold => admin.held.push((sqe.cid.get(), slot)),
            Outcome::AbortHeld(cid, cqe) => {
                let held = admin.held.iter().position(|(held, _)| *held == cid);
                if let Some(at) = held {
                    let (_, aborted) = admin.held.swap_remove(at);
                    self.fail(aborted, Status::ABORT_REQUESTED);
                }
                self.respond(slot, cqe);
            }
            Outcome::AbortIo { qid, cid } => self.abort_io(cx, slot, qid, cid),
            Outcome::Reset(cqe) => self.reset(cx, slot, cqe),
            Outcome::Shutdown(cqe) => {
                self.respond(slot, cqe);
                self.begin_chore(cx, Chore::Flush, None);
            }
        }
        self.tell_events();
        self.arm_anew(cx);
    }

    /// Sets the timer for what may have another time now: a host can ask to be given up sooner.
    fn arm_anew(&mut self, cx: &mut Context) {
        // When it ends, the timer is for that.
        if let (Life::Serving, Stage::Admin(admin)) = (self.life, &self.stage) {
            let deadline = admin.deadline();
            self.arm(cx, deadline);
        }
    }

    /// Answers the requests that wait for events with those that there are.
    pub(in crate::serve) fn tell_events(&mut self) {
        while let Stage::Admin(admin) = &mut self.stage
            && let Some((cid, cqe)) = admin.controller.next_event()
        {
            let Some(at) = admin.held.iter().position(|(held, _)| *held == cid) else { return };
            let (_, slot) = admin.held.swap_remove(at);
            self.respond(slot, cqe);
        }
    }

    /// The answer to CC.EN = 0 says that nothing of the old I/O queues is under way any more.
    fn reset(&mut self, cx: &mut Context, slot: u16, cqe: Cqe) {
        let Stage::Admin(admin) = &mut self.stage else { return };
        let deadline = cx.now.checked_add(limits::READY_TIMEOUT);
        admin.busy = Busy::Resetting { slot, cqe, deadline };
        let held = std::mem::take(&mut admin.held);
        admin.association.0.begin_reset();
        let (post, id) = (cx.post.clone(), self.id);
        admin.association.0.when_idle(move || drop(post.post(Post::QueuesGone(id))));
        for (_, held) in held {
            self.fail(held, Status::ABORT_REQUESTED);
        }
        self.arm(cx, deadline);
    }

    /// The I/O queues are gone.
    pub(in crate::serve) fn queues_gone(&mut self, cx: &mut Context) {
        let Stage::Admin(admin) = &mut self.stage else { return };
        if let Busy::Resetting { slot, cqe, .. } = admin.busy {
            admin.busy = Busy::No;
            self.respond(slot, cqe);
            self.go_on(cx);
        }
    }

    /// Asks an I/O queue to abort a command, and answers when it has said whether it did.
    fn abort_io(&mut self, cx: &mut Context, slot: u16, qid: u16, cid: u16) {
        let Stage::Admin(admin) = &mut self.stage else { return };
        let token = admin.next_token;
        admin.next_token = token.wrapping_add(1);
        admin.aborting.push(Aborting {
            token,
            slot,
            until: cx.now.checked_add(limits::ABORT_TIMEOUT),
        });
        let (post, conn) = (cx.post.clone(), self.id);
        let reply = AbortReply::new(move |aborted| {
            // Without the core there is nobody to tell.
            drop(post.post(Post::Aborted { conn, token, aborted }));
        });
        admin.association.0.abort(qid, cid, reply);
        let deadline = admin.deadline();
        self.arm(cx, deadline);
    }

    /// An I/O queue says whether it aborted a command.
    pub(in crate::serve) fn aborted(&mut self, cx: &mut Context, token: u64, aborted: bool) {
        let Stage::Admin(admin) = &mut self.stage else { return };
        let Some(at) = admin.aborting.iter().position(|aborting| aborting.token == token) else {
            return;
        };
        let slot = admin.aborting.swap_remove(at).slot;
        let cqe = admin.controller.abort_answer(aborted);
        let deadline = admin.deadline();
        self.respond(slot, cqe);
        self.arm(cx, deadline);
    }

    /// Does what may take long: for a command, or for a shutdown.
    fn begin_chore(&mut self, cx: &mut Context, chore: Chore, command: Option<(u16, Cqe)>) {
        let Stage::Admin(admin) = &mut self.stage else { return };
        admin.busy = Busy::Waiting(command);
        let association = Arc::clone(&admin.association.0);
        let (post, id) = (cx.post.clone(), self.id);
        self.outside += 1;
        cx.shared.jobs.run(move || {
            let work = AssertUnwindSafe(|| chore.run(&association));
            let done = catch_unwind(work).unwrap_or(Err(Status::INTERNAL_ERROR));
            // Without the core there is nobody to tell.
            let _ = post.post(Post::ChoreDone(id, done));
        });
        self.arm(cx, None);
    }

    /// A chore is done, or cannot be.
    pub(in crate::serve) fn chore_done(&mut self, cx: &mut Context, done: Result<(), Status>) {
        self.outside = self.outside.saturating_sub(1);
        let Stage::Admin(admin) = &mut self.stage else { return };
        let command = match std::mem::replace(&mut admin.busy, Busy::No) {
            Busy::Waiting(command) => command,
            other => {
                admin.busy = other;
                return;
            }
        };
        match (command, done) {
            (None, done) => admin.controller.shut_down(done),
            (Some((slot, cqe)), Ok(())) => self.respond(slot, cqe),
            (Some((slot, _)), Err(status)) => {
                let sqe = &self.entries.get(slot).sqe;
                let status = admin.association.0.failed(0, sqe, status);
                self.fail(slot, status);
            }
        }
        self.tell_events();
        self.go_on(cx);
    }

    /// Takes the commands that had to wait.
    fn go_on(&mut self, cx: &mut Context) {
        while let Stage::Admin(admin) = &mut self.stage
            && matches!(admin.busy, Busy::No)
            && let Some((slot, received)) = admin.stalled.pop_front()
        {
            self.admin_execute(cx, slot, received);
        }
        if let Stage::Admin(admin) = &self.stage {
            let deadline = admin.deadline();
            self.arm(cx, deadline);
        }
    }

    /// The admin queue's timer has run out.
    pub(super) fn admin_due(&mut self, cx: &mut Context) {
        let Stage::Admin(admin) = &mut self.stage else { return };
        if let Busy::Resetting { slot, .. } = admin.busy {
            admin.controller.fail();
            self.fail(slot, Status::INTERNAL_ERROR);
            self.why = Why::Failed;
            return self.leave();
        }
        if admin.controller.has_expired(cx.now) {
            self.why = Why::Expired;
            admin.association.0.subsystem().books().keep_alive_expired();
            self.life = Life::Over;
            return;
        }
        let late = admin.aborting.iter().filter(|abort| abort.until.is_some_and(|at| at <= cx.now));
        let late: Vec<u64> = late.map(|aborting| aborting.token).collect();
        late.into_iter().for_each(|token| self.aborted(cx, token, false));
        if let Stage::Admin(admin) = &self.stage {
            let deadline = admin.deadline();
            self.arm(cx, deadline);
        }
    }
}

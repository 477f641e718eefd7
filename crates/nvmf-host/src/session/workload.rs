//! What a path's queues do: commands from the inbox, and those of the admin queue.

use std::sync::Arc;
use std::time::Instant;

use nvmf::spec::Cqe;
use slab::Slab;

use super::admin::{Admin, News};
use super::breaker::Breaker;
use crate::multipath::command::{Command, Fate};
use crate::multipath::inbox::Inbox;
use crate::multipath::{Found, Head, Refused};
use crate::namespace::options::Settings;
use crate::{Buffer, CommandError, Next, Workload};

/// The admin queue's place among the queues of a path.
const ADMIN: usize = 0;

pub(crate) struct PathWorkload<'a> {
    head: &'a Head,
    /// The path's place.
    at: usize,
    inbox: Arc<Inbox>,
    found: Found,
    admin: Admin,
    breaker: &'a Breaker,
    under_way: Slab<UnderWay>,
    /// What the end of the connections caught.
    lost: Vec<Command>,
    /// The first of the times by which commands being aborted have to end.
    grace: Option<Instant>,
    /// Why the path was ended from here.
    cause: Option<String>,
    /// The controller was shut down before.
    orderly: bool,
}

struct UnderWay {
    command: Command,
    queue: usize,
    cid: u16,
    aborting: bool,
    /// It has ended by then, or the path ends: it changes something, and must not do so later.
    ends_by: Option<Instant>,
}

impl UnderWay {
    /// I/O queues have the identifiers from 1 on, in their order.
    fn sqid(&self) -> u16 {
        u16::try_from(self.queue).unwrap_or(u16::MAX)
    }
}

impl<'a> PathWorkload<'a> {
    pub(crate) fn new(
        head: &'a Head,
        at: usize,
        inbox: Arc<Inbox>,
        found: Found,
        admin: Admin,
        breaker: &'a Breaker,
    ) -> Self {
        Self {
            head,
            at,
            inbox,
            found,
            admin,
            breaker,
            under_way: Slab::new(),
            lost: Vec::new(),
            grace: None,
            cause: None,
            orderly: false,
        }
    }

    /// Why the path ended, if that is known here; the commands that were caught; whether the
    /// controller has shut down.
    pub(crate) fn into_parts(self) -> (Option<String>, Vec<Command>, bool) {
        let Self { cause, mut lost, mut under_way, orderly, .. } = self;
        // One that the queue would not take is not among those that were lost with it.
        lost.extend(under_way.drain().map(|entry| entry.command));
        (cause, lost, orderly)
    }

    fn next_io(&mut self, queue: usize) -> Next {
        while let Some(mut command) = self.inbox.pop() {
            if let Some(error) = command.is_cut() {
                self.inbox.completed();
                command.fail(error);
                continue;
            }
            let request = command.request();
            let entry = UnderWay { command, queue, cid: 0, aborting: false, ends_by: None };
            let token = self.under_way.insert(entry);
            return Next::Io(request.with_token(u64::try_from(token).unwrap_or(u64::MAX)));
        }
        Next::Later
    }

    fn next_admin(&mut self, now: Instant) -> Next {
        if let Some(cut) = self.inbox.take_cuts() {
            for (command, error) in cut {
                command.fail(error);
            }
            self.abort_cut(now);
        }
        self.judge_aborted(now);
        if self.under_way.is_empty() && self.inbox.is_finished() {
            self.admin.shut_down(now);
        }
        match (self.admin.next(now), self.grace) {
            (Next::LaterOrAt(time), Some(grace)) => Next::LaterOrAt(time.min(grace)),
            (Next::Later, Some(grace)) => Next::LaterOrAt(grace),
            (next, _) => next,
        }
    }

    /// Has those commands aborted that nobody waits for any more.
    fn abort_cut(&mut self, now: Instant) {
        for (_, entry) in &mut self.under_way {
            let Some(error) = entry.command.is_cut().filter(|_| !entry.aborting) else { continue };
            entry.aborting = true;
            self.admin.abort(entry.sqid(), entry.cid);
            if entry.command.changes() {
                let ends_by = now + Settings::ABORT_GRACE;
                entry.ends_by = Some(ends_by);
                self.grace.get_or_insert(ends_by);
            } else {
                // Whenever it ends: nothing is different then.
                entry.command.give_up(error);
            }
        }
    }

    /// Ends the path if a command goes on though it was aborted.
    fn judge_aborted(&mut self, now: Instant) {
        if self.grace.is_none_or(|grace| now < grace) {
            return;
        }
        self.grace = self.under_way.iter().filter_map(|(_, entry)| entry.ends_by).min();
        if self.grace.is_some_and(|grace| now >= grace) {
            self.grace = None;
            self.end("a command that was given up is not aborted".to_owned());
        }
    }

    fn completed_io(
        &mut self,
        token: u64,
        result: Result<&Cqe, CommandError>,
        buffer: Buffer,
        now: Instant,
    ) {
        let token = usize::try_from(token).unwrap_or(usize::MAX);
        let Some(entry) = self.under_way.try_remove(token) else { return };
        let lost = matches!(result, Err(CommandError::Lost));
        let delays = self.admin.facts.retry_delays;
        self.inbox.completed();
        if entry.aborting {
            self.admin.forget_abort(entry.sqid(), entry.cid);
        }
        let from = (self.at, now);
        match entry.command.answered(result.map(|_| ()), buffer, delays, from) {
            Fate::Complete => {}
            Fate::Again(command) if lost => self.lost.push(command),
            Fate::Again(command) => self.head.submit([command]),
            Fate::Elsewhere(command, state) => {
                self.admin.look_at_ana();
                // Without ANA nobody would say when that is over.
                if let Some(state) = state
                    && self.admin.facts.ana_log.is_some()
                {
                    self.head.ana_changed(self.at, state);
                }
                self.head.submit([command]);
            }
        }
    }

    fn told(&mut self, news: News) {
        match news {
            News::Ana(state) => self.head.ana_changed(self.at, state),
            News::Namespace(geometry) => {
                let ids = self.admin.facts.ids;
                let found = geometry.map(|geometry| Found { geometry, ids, ..self.found });
                if let Err(refused) = self.head.identified(self.at, found.as_ref()) {
                    self.end(refused.to_string());
                }
            }
            News::Ids(ids) if ids.may_be(&self.admin.facts.ids) => {}
            News::Ids(_) => self.end(Refused::Ids.to_string()),
            News::Storm => self.head.stormy(self.at),
            News::Broken(cause) => self.end(cause),
            News::Over => {
                self.orderly = true;
                self.end("the controller was shut down".to_owned());
            }
        }
    }

    /// Ends the path: the loop sees the ends of its connections.
    fn end(&mut self, cause: String) {
        self.cause.get_or_insert(cause);
        self.breaker.trip();
    }
}

impl Workload for PathWorkload<'_> {
    fn next(&mut self, queue: usize, now: Instant) -> Next {
        if queue == ADMIN { self.next_admin(now) } else { self.next_io(queue) }
    }

    fn submitted(&mut self, queue: usize, token: u64, cid: u16) {
        if queue != ADMIN
            && let Some(entry) =
                self.under_way.get_mut(usize::try_from(token).unwrap_or(usize::MAX))
        {
            entry.cid = cid;
        }
    }

    fn complete(
        &mut self,
        queue: usize,
        token: u64,
        result: Result<&Cqe, CommandError>,
        buffer: Buffer,
        now: Instant,
    ) {
        if queue != ADMIN {
            self.completed_io(token, result, buffer, now);
        } else if let Some(news) = self.admin.complete(token, result, &buffer, now) {
            self.told(news);
        }
    }
}

//! What a path's admin queue does: Keep Alive, events and what follows from them, Abort, shutdown.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use nvmf::host::{NamespaceIds, NamespaceInfo};
use nvmf::spec::event::{Event, kind, notice};
use nvmf::spec::fabrics::{PropertyGet, PropertySet};
use nvmf::spec::identify::{IDENTIFY_LEN, IdentifyController, IdentifyNamespace, cns};
use nvmf::spec::log::{AnaGroupDescriptor, AnaGroups, AnaHeader, AnaState, GetLogPage, lid};
use nvmf::spec::property::{Cc, Csts, offset};
use nvmf::spec::{Cqe, Sqe, Status, opcode};
use zerocopy::FromBytes;

use super::connect::ana_request;
use crate::multipath::retry::RetryDelays;
use crate::namespace::geometry::Geometry;
use crate::namespace::options::Settings;
use crate::{Buffer, CommandError, Next, Request};

/// What is known of the controller and the namespace.
#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) nsid: u32,
    pub(crate) configuration: Cc,
    /// Asynchronous Event Requests that the controller takes, at least 1.
    pub(crate) events: u16,
    /// Abort commands that it takes at once, at least 1.
    pub(crate) abort_limit: u16,
    /// The length of the ANA log without namespaces, if there is ANA.
    pub(crate) ana_log: Option<u32>,
    /// The namespace's ANA group.
    pub(crate) group: u32,
    pub(crate) max_transfer: u32,
    pub(crate) retry_delays: RetryDelays,
    pub(crate) ids: NamespaceIds,
    pub(crate) controller: Box<IdentifyController>,
}

/// A command of the admin queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Job {
    KeepAlive,
    Event,
    AnaLog,
    ChangedNamespaces,
    Identify,
    Descriptors,
    Abort { sqid: u16, cid: u16 },
    ShutDown,
    WatchShutdown,
}

/// What the path is to be told.
#[derive(Debug)]
pub(crate) enum News {
    /// The namespace is reached so now.
    Ana(AnaState),
    /// The namespace is like this now; nothing: it is not there.
    Namespace(Option<Geometry>),
    /// The namespace has these identifiers.
    Ids(NamespaceIds),
    /// The controller has events faster than anybody can do something about them.
    Storm,
    /// The path is of no more use.
    Broken(String),
    /// The controller has shut down.
    Over,
}

#[derive(Debug)]
pub(crate) struct Admin {
    pub(crate) facts: Facts,
    wanted: VecDeque<Job>,
    /// What is under way, by token.
    under_way: Vec<Option<Job>>,
    aborts: u16,
    events: Events,
    /// Between two Keep Alives; none where the controller waits forever.
    interval: Option<Duration>,
    keep_alive_due: Instant,
    /// When to look at the shutdown again.
    watch_at: Option<Instant>,
    shutting_down_since: Option<Instant>,
}

/// How many events came lately. Those of a controller that has one ready for each request would
/// otherwise keep both ends busy with nothing else.
#[derive(Debug)]
struct Events {
    since: Instant,
    taken: u32,
    /// It was said that there are too many.
    told: bool,
}

impl Events {
    /// So many are taken in so much time; the next one is not asked for before it is over.
    const MOST: u32 = 64;
    const TIME: Duration = Duration::from_secs(1);

    /// Notes an event; says whether it is the first that is one too many.
    fn came(&mut self, now: Instant) -> bool {
        if now >= self.since + Self::TIME {
            (self.since, self.taken) = (now, 0);
        }
        self.taken += 1;
        self.taken >= Self::MOST && !std::mem::replace(&mut self.told, true)
    }

    /// When the next may be asked for, if that is not now.
    fn held_until(&self, now: Instant) -> Option<Instant> {
        let end = self.since + Self::TIME;
        (self.taken >= Self::MOST && now < end).then_some(end)
    }
}

/// Asynchronous Event Requests that are kept under way, if the controller takes as many.
const EVENTS: u16 = 4;
/// How long a controller may take to shut down before it is left alone.
const SHUTDOWN_PATIENCE: Duration = Duration::from_secs(2);

impl Admin {
    pub(crate) fn new(facts: Facts, keep_alive: Duration, now: Instant) -> Self {
        // A quarter: the answer may take a half, and the last is for what is on its way.
        let interval = (!keep_alive.is_zero()).then_some(keep_alive / 4);
        let events = facts.events.min(EVENTS);
        Self {
            facts,
            wanted: (0..events).map(|_| Job::Event).collect(),
            under_way: Vec::new(),
            aborts: 0,
            events: Events { since: now, taken: 0, told: false },
            interval,
            keep_alive_due: now + interval.unwrap_or_default(),
            watch_at: None,
            shutting_down_since: None,
        }
    }

    /// What to send next.
    pub(crate) fn next(&mut self, now: Instant) -> Next {
        if let Some(interval) = self.interval
            && now >= self.keep_alive_due
            && !self.is_under_way(Job::KeepAlive)
        {
            self.keep_alive_due = now + interval;
            return Next::Io(self.request(Job::KeepAlive));
        }
        if self.watch_at.is_some_and(|time| time <= now) {
            self.watch_at = None;
            return Next::Io(self.request(Job::WatchShutdown));
        }
        if let Some(at) = self.wanted.iter().position(|job| self.may(*job, now))
            && let Some(job) = self.wanted.remove(at)
        {
            return Next::Io(self.request(job));
        }
        // Of a Keep Alive that is under way the answer comes, or its time runs out.
        let keep_alive = self.interval.filter(|_| !self.is_under_way(Job::KeepAlive));
        let keep_alive = keep_alive.map(|_| self.keep_alive_due);
        let events = self.events.held_until(now).filter(|_| self.wanted.contains(&Job::Event));
        match [keep_alive, self.watch_at, events].into_iter().flatten().min() {
            Some(time) => Next::LaterOrAt(time),
            None => Next::Later,
        }
    }

    /// Has the ANA log read.
    pub(crate) fn look_at_ana(&mut self) {
        if self.facts.ana_log.is_some() {
            self.want(Job::AnaLog);
        }
    }

    /// Has a command aborted.
    pub(crate) fn abort(&mut self, sqid: u16, cid: u16) {
        self.want(Job::Abort { sqid, cid });
    }

    /// A command has ended: its identifier may be another one's now, which is not to be aborted.
    pub(crate) fn forget_abort(&mut self, sqid: u16, cid: u16) {
        self.wanted.retain(|job| *job != Job::Abort { sqid, cid });
    }

    /// Has the controller shut down.
    pub(crate) fn shut_down(&mut self, now: Instant) {
        if self.shutting_down_since.is_none() {
            self.shutting_down_since = Some(now);
            self.want(Job::ShutDown);
        }
    }

    /// A command is complete.
    pub(crate) fn complete(
        &mut self,
        token: u64,
        result: Result<&Cqe, CommandError>,
        buffer: &Buffer,
        now: Instant,
    ) -> Option<News> {
        let at = usize::try_from(token).ok()?;
        let job = self.under_way.get_mut(at)?.take()?;
        let data = match buffer {
            Buffer::Read(data) => &data[..],
            Buffer::Write(_) | Buffer::None => &[],
        };
        match (job, result) {
            (_, Err(CommandError::Lost)) => None,
            (Job::Event, Ok(cqe)) => {
                self.note(Event::from_dw0(cqe.dw0.get()));
                self.want(Job::Event);
                self.events.came(now).then_some(News::Storm)
            }
            // One was too many, or they are not known: one less from now on.
            (Job::Event, Err(_)) => None,
            (Job::KeepAlive, Ok(_)) => None,
            (Job::KeepAlive, Err(error)) => {
                Some(News::Broken(format!("Keep Alive failed: {error}")))
            }
            (Job::AnaLog, Ok(_)) => match ana_state(data, self.facts.group) {
                // A group may go with its last namespace, which Identify tells of.
                Ok(state) => state.map(News::Ana),
                Err(reason) => {
                    Some(News::Broken(format!("the ANA log page makes no sense: {reason}")))
                }
            },
            // Not asked without a reason: how the namespace is reached is not known then.
            (Job::AnaLog, Err(error)) => {
                Some(News::Broken(format!("the ANA log page cannot be read: {error}")))
            }
            (Job::Descriptors, Ok(_)) => Some(match NamespaceIds::parse(data) {
                Ok(ids) => News::Ids(ids),
                Err(error) => News::Broken(error.to_string()),
            }),
            (Job::Identify, result) => self.identified(result, data),
            // The list is read for its event's sake: it is armed again then.
            (Job::ChangedNamespaces | Job::Descriptors, _) => None,
            (Job::Abort { .. }, _) => {
                self.aborts = self.aborts.saturating_sub(1);
                None
            }
            (Job::ShutDown, Ok(_)) => {
                self.watch_at = Some(now);
                None
            }
            (Job::WatchShutdown, Ok(cqe)) => self.watched(Csts(cqe.dw0.get()), now),
            (Job::ShutDown | Job::WatchShutdown, Err(_)) => Some(News::Over),
        }
    }

    /// What an event asks for.
    fn note(&mut self, event: Event) {
        tracing::debug!(%event);
        match (event.kind, event.info) {
            (kind::NOTICE, notice::NAMESPACE_ATTRIBUTE_CHANGED) => {
                self.want(Job::ChangedNamespaces);
                // Whether it still is what it was, before it is used again.
                self.want(Job::Descriptors);
                self.want(Job::Identify);
            }
            (kind::NOTICE, notice::ANA_CHANGE) => self.look_at_ana(),
            _ => {}
        }
    }

    fn identified(&mut self, result: Result<&Cqe, CommandError>, data: &[u8]) -> Option<News> {
        let nsid = self.facts.nsid;
        match result {
            Err(CommandError::Status(status)) if status.same_code(Status::INVALID_NAMESPACE) => {
                return Some(News::Namespace(None));
            }
            Err(error) => {
                tracing::info!(%error, "Identify Namespace failed");
                return None;
            }
            Ok(_) => {}
        }
        let Ok(namespace) = IdentifyNamespace::ref_from_bytes(data) else { return None };
        match NamespaceInfo::new(nsid, namespace) {
            Ok(info) => {
                let group = namespace.anagrpid.get();
                if group != self.facts.group {
                    self.facts.group = group;
                    self.look_at_ana();
                }
                let Facts { controller, max_transfer, .. } = &self.facts;
                let geometry = Geometry::new(&info, namespace, controller, *max_transfer);
                Some(News::Namespace(Some(geometry)))
            }
            Err(nvmf::Error::NoNamespace { .. }) => Some(News::Namespace(None)),
            Err(error) => Some(News::Broken(error.to_string())),
        }
    }

    fn watched(&mut self, csts: Csts, now: Instant) -> Option<News> {
        const COMPLETE: u8 = 2;
        const PAUSE: Duration = Duration::from_millis(10);
        let patient = self
            .shutting_down_since
            .is_some_and(|since| now.saturating_duration_since(since) < SHUTDOWN_PATIENCE);
        if csts.shst() == COMPLETE || csts.cfs() != 0 || !patient {
            return Some(News::Over);
        }
        self.watch_at = Some(now + PAUSE);
        None
    }

    /// Puts a job on the list, unless it is there.
    fn want(&mut self, job: Job) {
        if job == Job::Event || !self.wanted.contains(&job) {
            self.wanted.push_back(job);
        }
    }

    /// Whether it may be sent now. What is looked at again waits until the look before has ended:
    /// otherwise the older answer could come last.
    fn may(&self, job: Job, now: Instant) -> bool {
        match job {
            Job::Abort { .. } => self.aborts < self.facts.abort_limit,
            Job::Event => self.events.held_until(now).is_none(),
            job => !self.is_under_way(job),
        }
    }

    fn is_under_way(&self, job: Job) -> bool {
        self.under_way.iter().flatten().any(|other| *other == job)
    }

    fn request(&mut self, job: Job) -> Request {
        if matches!(job, Job::Abort { .. }) {
            self.aborts += 1;
        }
        let at = match self.under_way.iter().position(Option::is_none) {
            Some(at) => at,
            None => {
                self.under_way.push(None);
                self.under_way.len() - 1
            }
        };
        self.under_way[at] = Some(job);
        let (sqe, length) = self.command(job);
        let buffer = match length {
            0 => Buffer::None,
            length => Buffer::Read(BytesMut::zeroed(length)),
        };
        let request = Request::new(sqe, buffer).with_token(u64::try_from(at).unwrap_or(u64::MAX));
        match job {
            // It is answered when something happens.
            Job::Event => request.with_limit(Duration::MAX),
            Job::KeepAlive => {
                const LEAST: Duration = Duration::from_millis(50);
                let limit = self.interval.unwrap_or_default().saturating_mul(2);
                request.with_limit(limit.max(LEAST))
            }
            Job::Abort { .. } => request.with_limit(Settings::ABORT_GRACE * 2),
            Job::ShutDown | Job::WatchShutdown => request.with_limit(SHUTDOWN_PATIENCE),
            Job::AnaLog | Job::ChangedNamespaces | Job::Identify | Job::Descriptors => request,
        }
    }

    /// The command and the bytes that it gives.
    fn command(&self, job: Job) -> (Sqe, usize) {
        match job {
            Job::KeepAlive => (Sqe::new(opcode::admin::KEEP_ALIVE), 0),
            Job::Event => (Sqe::new(opcode::admin::ASYNC_EVENT_REQUEST), 0),
            Job::AnaLog => {
                let request = ana_request(self.facts.ana_log.unwrap_or(0).max(4));
                (request.to_sqe(), usize::try_from(request.len()).unwrap_or(0))
            }
            Job::ChangedNamespaces => {
                const LENGTH: u16 = 4096;
                let request = GetLogPage::new(lid::CHANGED_NAMESPACES, 0, LENGTH.into());
                (request.unwrap_or_default().to_sqe(), LENGTH.into())
            }
            Job::Identify => (self.identify(cns::NAMESPACE), IDENTIFY_LEN),
            Job::Descriptors => (self.identify(cns::NAMESPACE_DESCRIPTORS), IDENTIFY_LEN),
            Job::Abort { sqid, cid } => {
                let mut sqe = Sqe::new(opcode::admin::ABORT);
                sqe.set_cdw(10, u32::from(sqid) | u32::from(cid) << 16);
                (sqe, 0)
            }
            Job::ShutDown => {
                let normal = self.facts.configuration.with_shn(1);
                (PropertySet::new(offset::CC, normal.0.into(), false).to_sqe(), 0)
            }
            Job::WatchShutdown => (PropertyGet::new(offset::CSTS, false).to_sqe(), 0),
        }
    }

    fn identify(&self, cns: u8) -> Sqe {
        let mut sqe = Sqe::new(opcode::admin::IDENTIFY);
        sqe.nsid.set(self.facts.nsid);
        sqe.set_cdw(10, cns.into());
        sqe
    }
}

/// The length of the ANA log without namespaces; none where the controller has no ANA.
pub(super) fn ana_log_length(controller: &IdentifyController) -> Option<u32> {
    /// Groups that are read, at most: a page of 128 KiB.
    const MOST: u32 = 4095;
    if controller.cmic & IdentifyController::CMIC_ANA == 0 {
        return None;
    }
    let sizes = (size_of::<AnaHeader>(), size_of::<AnaGroupDescriptor>());
    let (header, group) = (u32::try_from(sizes.0).ok()?, u32::try_from(sizes.1).ok()?);
    Some(header + controller.nanagrpid.get().min(MOST) * group)
}

/// How a group's namespaces are reached, by a log without namespaces; nothing if there is no such
/// group.
pub(super) fn ana_state(page: &[u8], group: u32) -> Result<Option<AnaState>, String> {
    let (_, groups) = AnaGroups::parse(page).ok_or("it has no header")?;
    for found in groups {
        let found = found.map_err(|error| error.to_string())?;
        if found.descriptor.grpid.get() == group {
            let state = found.descriptor.state;
            let known =
                found.state().ok_or_else(|| format!("group {group} is in state {state:#x}"));
            return known.map(Some);
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests;

//! What the queues of one host's association share.
//!
//! The admin queue owns the association's state; I/O queues join and leave it. Nothing in here is
//! locked on the way of an I/O command that succeeds.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

use arc_swap::ArcSwap;
use nvme_spec::event::Event;
use nvme_spec::fabrics::Connect;
use nvme_spec::feature::ReservationNotificationMask;
use nvme_spec::reservation::Notification;
use nvme_spec::{HostId, Nqn, Sqe, Status};
use nvmf_proto::connect::{ConnectRequest, Refusal};

use crate::abort::AbortReply;
use crate::error_log::ErrorLog;
use crate::events::Events;
use crate::io::By;
use crate::limits::MaxTransfer;
use crate::port::Port;
use crate::reservation::ReservationLog;
use crate::statistics::{Counters, Subject};
use crate::subsystem::{CachedView, SharedView, Subsystem, View};

/// One host's association with a subsystem: a controller, made when its admin queue connected.
#[derive(Debug)]
pub(crate) struct Association {
    cntlid: u16,
    host: Nqn,
    host_id: HostId,
    subsystem: Arc<Subsystem>,
    port: Arc<Port>,
    /// The subsystem's: looked at for every command.
    max_transfer: MaxTransfer,
    view: SharedView,
    /// Held while the view is made anew, so that the last one made is the last one set.
    refreshing: Mutex<()>,
    events: Mutex<Events>,
    /// The Volatile Write Cache feature: off, every write is durable before it is answered.
    write_cache: AtomicBool,
    errors: Mutex<ErrorLog>,
    notices: Mutex<Notices>,
    /// The host has shut the controller down.
    shut_down: AtomicBool,
    queues: Mutex<Queues>,
    left: Condvar,
}

/// What its host is told of reservations.
#[derive(Debug, Default)]
struct Notices {
    log: ReservationLog,
    /// By namespace; nothing is masked where there is none.
    masks: BTreeMap<u32, ReservationNotificationMask>,
}

#[derive(Debug)]
struct Queues {
    phase: Phase,
    /// The admin queue's connection, with which all ends.
    admin: Option<AdminConnection>,
    /// How many I/O queues there may be; their identifiers are 1 to this.
    granted: u16,
    live: BTreeMap<u16, Entry>,
    /// Commands of I/O queues that have ended.
    past_commands: u64,
    /// To be called once no I/O queue is left.
    when_idle: Callbacks,
}

#[derive(Default)]
struct Callbacks(Vec<Box<dyn FnOnce() + Send>>);

impl fmt::Debug for Callbacks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} callbacks", self.0.len())
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// CC.EN is 0.
    Disabled,
    /// CC.EN is 1.
    Enabled,
    /// The admin queue is gone.
    Ended,
}

struct Entry {
    stop: Box<dyn Stop>,
    /// How to abort what has not begun; `None` where nothing waits.
    abort: Option<Box<dyn Abort>>,
    counters: Arc<Counters>,
}

/// Has a queue abort what it has not begun on a namespace, and drop the sender when that is so. Must
/// not block.
trait Abort: Fn(u32, mpsc::Sender<Infallible>) + Send {}

impl<F: Fn(u32, mpsc::Sender<Infallible>) + Send> Abort for F {}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry").finish_non_exhaustive()
    }
}

/// How to make an I/O queue's connection end soon. Must not block.
pub(crate) trait Stop: Send {
    /// Ends it; a command that is being executed is finished but perhaps not answered.
    fn stop(&self);

    /// Aborts the command of this identifier if it waits, for its data or for others, and says so
    /// to `reply`. A queue that executes one command after the other has none to abort.
    fn abort(&self, _cid: u16, reply: AbortReply) {
        reply.send(false);
    }
}

impl<F: Fn() + Send> Stop for F {
    fn stop(&self) {
        self();
    }
}

struct AdminConnection {
    peer: String,
    stop: Box<dyn Stop>,
}

impl fmt::Debug for AdminConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdminConnection").field("peer", &self.peer).finish_non_exhaustive()
    }
}

/// An I/O queue's membership in its association; dropping it leaves.
#[derive(Debug)]
pub(crate) struct IoQueue {
    qid: u16,
    association: Arc<Association>,
    counters: Arc<Counters>,
}

impl Association {
    pub(crate) fn new(
        cntlid: u16,
        request: &ConnectRequest,
        subsystem: Arc<Subsystem>,
        port: Arc<Port>,
    ) -> Self {
        let granted = subsystem.max_io_queues();
        let view = subsystem.view(&request.host, &port);
        Self {
            cntlid,
            host: request.host.clone(),
            host_id: request.host_id,
            max_transfer: subsystem.max_transfer(),
            subsystem,
            port,
            view: Arc::new(ArcSwap::from_pointee(view)),
            refreshing: Mutex::default(),
            events: Mutex::default(),
            write_cache: AtomicBool::new(true),
            errors: Mutex::default(),
            notices: Mutex::default(),
            shut_down: AtomicBool::new(false),
            queues: Mutex::new(Queues {
                phase: Phase::Disabled,
                admin: None,
                granted,
                live: BTreeMap::new(),
                past_commands: 0,
                when_idle: Callbacks::default(),
            }),
            left: Condvar::new(),
        }
    }

    pub(crate) fn cntlid(&self) -> u16 {
        self.cntlid
    }

    pub(crate) fn host(&self) -> &Nqn {
        &self.host
    }

    pub(crate) fn host_id(&self) -> HostId {
        self.host_id
    }

    pub(crate) fn subsystem(&self) -> &Arc<Subsystem> {
        &self.subsystem
    }

    /// The most data that one command moves, in bytes.
    pub(crate) fn max_transfer(&self) -> u32 {
        self.max_transfer.bytes()
    }

    /// The port that the admin queue came through.
    pub(crate) fn port(&self) -> &Arc<Port> {
        &self.port
    }

    /// What its host sees now.
    pub(crate) fn view(&self) -> Arc<View> {
        self.view.load_full()
    }

    /// A hold on what its host sees, for who looks often.
    pub(crate) fn cached_view(&self) -> CachedView {
        CachedView::new(Arc::clone(&self.view))
    }

    /// Looks what its host sees now, and raises the events for what is different.
    pub(crate) fn refresh(&self) {
        let _alone = self.refreshing.lock().unwrap_or_else(PoisonError::into_inner);
        let new = Arc::new(self.subsystem.view(&self.host, &self.port));
        let old = self.view.swap(Arc::clone(&new));
        let difference = old.difference(&new);
        let mut events = self.events();
        events.namespaces_changed(&difference.namespaces);
        if difference.ana {
            events.raise(Event::ANA_CHANGE);
        }
    }

    pub(crate) fn events(&self) -> MutexGuard<'_, Events> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells with whom the admin queue is connected, and how to end that.
    pub(crate) fn admin_is(&self, peer: String, stop: impl Stop + 'static) {
        self.queues().admin = Some(AdminConnection { peer, stop: Box::new(stop) });
    }

    /// With whom the admin queue is connected.
    pub(crate) fn peer(&self) -> String {
        self.queues().admin.as_ref().map_or_else(String::new, |admin| admin.peer.clone())
    }

    /// The identifiers of the I/O queues there are.
    pub(crate) fn io_queues(&self) -> Vec<u16> {
        self.queues().live.keys().copied().collect()
    }

    /// Ends the association from outside: all its connections are closed.
    pub(crate) fn disconnect(&self) {
        let queues = self.queues();
        queues.stop_all();
        if let Some(admin) = &queues.admin {
            admin.stop.stop();
        }
    }

    pub(crate) fn write_cache(&self) -> bool {
        self.write_cache.load(Ordering::Relaxed)
    }

    pub(crate) fn set_write_cache(&self, on: bool) {
        self.write_cache.store(on, Ordering::Relaxed);
    }

    pub(crate) fn errors(&self) -> MutexGuard<'_, ErrorLog> {
        self.errors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells its host of a reservation of a namespace that it sees, unless that is masked.
    pub(crate) fn notify(&self, nsid: u32, what: Notification) {
        let first = {
            let mut notices = self.notices();
            let mask = notices.masks.get(&nsid).copied().unwrap_or_default();
            if self.view.load().get(nsid).is_none() || mask.masks(what) {
                return;
            }
            notices.log.push(nsid, what)
        };
        if first {
            self.events().raise(Event::RESERVATION_LOG_AVAILABLE);
        }
    }

    /// Has the Reservation Notification log read.
    pub(crate) fn reservation_log<R>(&self, read: impl FnOnce(&mut ReservationLog) -> R) -> R {
        read(&mut self.notices().log)
    }

    /// The Reservation Notification Mask of a namespace (feature 82h).
    pub(crate) fn reservation_mask(&self, nsid: u32) -> ReservationNotificationMask {
        self.notices().masks.get(&nsid).copied().unwrap_or_default()
    }

    /// Sets the Reservation Notification Mask of a namespace, which has to exist (feature 82h).
    pub(crate) fn set_reservation_mask(&self, nsid: u32, mask: ReservationNotificationMask) {
        self.notices().masks.insert(nsid, mask);
    }

    fn notices(&self) -> MutexGuard<'_, Notices> {
        self.notices.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has every I/O queue abort what it has not begun on a namespace; each drops its clone of
    /// `done` when that is so.
    pub(crate) fn abort_on(&self, nsid: u32, done: &mpsc::Sender<Infallible>) {
        for entry in self.queues().live.values() {
            if let Some(abort) = &entry.abort {
                abort(nsid, done.clone());
            }
        }
    }

    /// Notes a failed command in the Error Information log, which the returned status says.
    pub(crate) fn failed(&self, qid: u16, sqe: &Sqe, status: Status) -> Status {
        // A fault that stays: what was written before may be lost.
        if status.same_code(Status::WRITE_FAULT) && status.dnr() {
            self.subsystem.lost_writes();
        }
        let status = status.with_more(true);
        self.errors().record(qid, sqe, status);
        status
    }

    /// Asks an I/O queue to abort a command; `reply` is told whether it did.
    pub(crate) fn abort(&self, qid: u16, cid: u16, reply: AbortReply) {
        // Of a queue that is not there the reply says no when it is dropped.
        if let Some(entry) = self.queues().live.get(&qid) {
            entry.stop.abort(cid, reply);
        }
    }

    /// How many I/O queues may connect.
    pub(crate) fn granted(&self) -> u16 {
        self.queues().granted
    }

    /// Set Features, Number of Queues: grants as many as asked for and possible. `None` if I/O
    /// queues exist already.
    pub(crate) fn grant(&self, asked: u32) -> Option<u16> {
        let most = self.subsystem.max_io_queues();
        let mut queues = self.queues();
        if !queues.live.is_empty() {
            return None;
        }
        queues.granted = u16::try_from(asked).unwrap_or(most).min(most);
        Some(queues.granted)
    }

    /// CC.EN went to 1: I/O queues may connect.
    pub(crate) fn enable(&self) {
        let mut queues = self.queues();
        if queues.phase == Phase::Disabled {
            queues.phase = Phase::Enabled;
            self.shut_down.store(false, Ordering::Relaxed);
        }
    }

    /// The host shuts the controller down: no other commands are taken before it is enabled again.
    pub(crate) fn begin_shutdown(&self) {
        let mut queues = self.queues();
        if queues.phase != Phase::Ended {
            queues.phase = Phase::Disabled;
        }
        self.shut_down.store(true, Ordering::Relaxed);
    }

    /// Whether the host has shut the controller down.
    pub(crate) fn is_shut_down(&self) -> bool {
        self.shut_down.load(Ordering::Relaxed)
    }

    /// CC.EN went to 0: drops the I/O queues and waits until none of their commands is being
    /// executed any more, since a host may send them again on other queues. False if that took
    /// longer than `patience`.
    pub(crate) fn reset(&self, patience: Duration) -> bool {
        self.begin_reset();
        self.wait_until_idle(patience)
    }

    /// CC.EN went to 0: drops the I/O queues; [`when_idle`](Self::when_idle) tells when they are
    /// gone.
    pub(crate) fn begin_reset(&self) {
        let mut queues = self.queues();
        queues.phase = Phase::Disabled;
        queues.granted = self.subsystem.max_io_queues();
        queues.stop_all();
        self.shut_down.store(false, Ordering::Relaxed);
        self.set_write_cache(true);
        // Features and pages are as they were at first; nothing of before is told.
        *self.notices() = Notices::default();
    }

    /// Calls `then`, which must not block, once there is no I/O queue: at once, or by the thread
    /// on which the last one leaves.
    pub(crate) fn when_idle(&self, then: impl FnOnce() + Send + 'static) {
        let mut queues = self.queues();
        if queues.live.is_empty() {
            drop(queues);
            then();
        } else {
            queues.when_idle.0.push(Box::new(then));
        }
    }

    /// Whether there is no I/O queue.
    pub(crate) fn is_idle(&self) -> bool {
        self.queues().live.is_empty()
    }

    /// The admin queue is gone: so are all I/O queues, and no others may come.
    pub(crate) fn end(&self) {
        let mut queues = self.queues();
        queues.phase = Phase::Ended;
        queues.stop_all();
    }

    /// Waits until the I/O queues have left by themselves; false if some have not after
    /// `patience`.
    pub(crate) fn wait_until_idle(&self, patience: Duration) -> bool {
        let (queues, _) = self
            .left
            .wait_timeout_while(self.queues(), patience, |queues| !queues.live.is_empty())
            .unwrap_or_else(PoisonError::into_inner);
        queues.live.is_empty()
    }

    /// Admits an I/O queue; `stop` is how to end its connection.
    pub(crate) fn join(
        self: &Arc<Self>,
        qid: u16,
        stop: impl Stop + 'static,
    ) -> Result<IoQueue, Refusal> {
        let mut queues = self.queues();
        if queues.phase != Phase::Enabled {
            // The host may enable the controller and come again.
            return Err(Refusal::Status(Status::COMMAND_SEQUENCE_ERROR));
        }
        if qid == 0 || qid > queues.granted {
            let reason = format!("{qid} of {} I/O queues", queues.granted);
            return Err(Refusal::command(Connect::OFFSET_QID, reason));
        }
        if queues.live.contains_key(&qid) {
            // Its old connection may be about to end: the host may come again.
            return Err(Refusal::Status(Status::COMMAND_SEQUENCE_ERROR));
        }
        let counters = self.subsystem.books().open(&self.host);
        let entry = Entry { stop: Box::new(stop), abort: None, counters: Arc::clone(&counters) };
        queues.live.insert(qid, entry);
        Ok(IoQueue { qid, association: Arc::clone(self), counters })
    }

    /// I/O commands that came on any queue since the association began.
    pub(crate) fn io_commands(&self) -> u64 {
        let queues = self.queues();
        queues
            .live
            .values()
            .fold(queues.past_commands, |sum, entry| sum.wrapping_add(entry.counters.commands()))
    }

    fn queues(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Association {
    fn drop(&mut self) {
        self.subsystem.forget_controller(self.cntlid);
    }
}

impl Queues {
    fn stop_all(&self) {
        self.live.values().for_each(|entry| entry.stop.stop());
    }
}

impl IoQueue {
    pub(crate) fn qid(&self) -> u16 {
        self.qid
    }

    pub(crate) fn association(&self) -> &Arc<Association> {
        &self.association
    }

    pub(crate) fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// Counts a command with `data_len` bytes of data, of a host that sees `view`, that was answered
    /// with this status, `took` after it had come.
    pub(crate) fn account(
        &self,
        view: &View,
        sqe: &Sqe,
        data_len: u32,
        took: Duration,
        status: Status,
    ) {
        let subject = Subject::of(view, sqe, data_len);
        let Subject { nsid, operation, bytes } = subject;
        if status.is_success() {
            self.counters.done(nsid, operation, bytes, took);
        } else {
            self.counters.failed(nsid, operation, status);
        }
    }

    /// On whose behalf its commands are executed.
    pub(crate) fn by(&self) -> By<'_> {
        By { association: &self.association, counters: &self.counters }
    }

    /// Says how commands of this queue that have not begun are aborted.
    pub(crate) fn abort_by(&self, abort: impl Fn(u32, mpsc::Sender<Infallible>) + Send + 'static) {
        if let Some(entry) = self.association.queues().live.get_mut(&self.qid) {
            entry.abort = Some(Box::new(abort));
        }
    }
}

impl Drop for IoQueue {
    fn drop(&mut self) {
        let mut queues = self.association.queues();
        queues.live.remove(&self.qid);
        queues.past_commands = queues.past_commands.wrapping_add(self.counters.commands());
        self.association.left.notify_all();
        if queues.live.is_empty() {
            let callbacks = std::mem::take(&mut queues.when_idle.0);
            drop(queues);
            callbacks.into_iter().for_each(|then| then());
        }
    }
}

#[cfg(test)]
mod tests;

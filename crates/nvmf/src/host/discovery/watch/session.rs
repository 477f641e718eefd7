//! One discovery controller that is watched: connected, lost, and connected again.

use std::hash::{BuildHasher, Hasher};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nvme_spec::event::Event;
use nvme_spec::feature::{AsyncEventConfig, fid};
use nvme_spec::identify::IdentifyController;
use nvme_spec::{Sqe, opcode};

use super::super::controller::DiscoveryController;
use super::super::{Changes, Discoverer, DiscoveryLog};
use super::DiscoveryEvent;
use crate::host::{Association, CommandId};
use crate::{Data, Deadline, Error};

/// How soon it is noticed that the watch is over.
const GLANCE: Duration = Duration::from_millis(250);
/// The least time from one look at the log to the next, whatever the controller tells.
const PAUSE: Duration = Duration::from_millis(100);
/// How often the log is read where the controller does not tell of changes.
const POLL: Duration = Duration::from_secs(30);

/// Watches a controller, in a thread of its own.
pub(super) struct Session {
    pub(super) discoverer: Discoverer,
    pub(super) controller: DiscoveryController,
    pub(super) halt: Arc<Halt>,
    /// False if nobody listens any more.
    pub(super) tell: Box<dyn Fn(DiscoveryEvent) -> bool + Send>,
}

/// Why a connection is over.
enum End {
    /// The watch is.
    Halted,
    /// It failed.
    Failed(Error),
}

impl From<Error> for End {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl Session {
    /// Goes on until it is halted.
    pub(super) fn run(self) {
        let mut backoff = Backoff::default();
        let mut last = None;
        // The first time counts: that it cannot be reached is news.
        let mut connected = true;
        loop {
            let began = Instant::now();
            let known = last.clone();
            let error = match self.connection(&mut last) {
                End::Halted => return,
                End::Failed(error) => error,
            };
            tracing::debug!(controller = %self.controller, %error, "discovery connection");
            // It was, if it has read a log.
            connected |= !same(known.as_ref(), last.as_ref());
            if connected && !(self.tell)(DiscoveryEvent::Lost { error }) {
                return;
            }
            connected = false;
            if began.elapsed() > Backoff::LASTED {
                backoff = Backoff::default();
            }
            if self.halt.wait(backoff.next()) {
                return;
            }
        }
    }

    /// One connection, to its end.
    fn connection(&self, last: &mut Option<Arc<DiscoveryLog>>) -> End {
        let connected = self.discoverer.connect_to_stay(&self.controller);
        let ended = connected.map_err(End::from).and_then(|association| {
            let mut connection = Connection::new(self, association)?;
            connection.follow(last)
        });
        match ended {
            Ok(never) => match never {},
            Err(end) => end,
        }
    }
}

/// Whether the log was not read again.
fn same(one: Option<&Arc<DiscoveryLog>>, other: Option<&Arc<DiscoveryLog>>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        (one, other) => one.is_none() && other.is_none(),
    }
}

/// A connection to a discovery controller, with an Asynchronous Event Request outstanding.
struct Connection<'a> {
    session: &'a Session,
    association: Association,
    request: CommandId,
    /// When the log is read without being told, where the controller tells nothing.
    poll: Option<Instant>,
}

impl<'a> Connection<'a> {
    fn new(session: &'a Session, mut association: Association) -> Result<Self, End> {
        let oaes = association.controller().oaes.get();
        let tells = oaes & IdentifyController::OAES_DISCOVERY_CHANGE != 0;
        if tells {
            let all = AsyncEventConfig::DISCOVERY_LOG;
            association.set_feature(fid::ASYNC_EVENT_CONFIG, 0, all, &[])?;
        } else {
            let controller = &session.controller;
            tracing::debug!(%controller, "it tells no changes; its log is read now and then");
        }
        let request = request(&mut association)?;
        let poll = (!tells).then(|| Instant::now() + POLL);
        Ok(Self { session, association, request, poll })
    }

    /// Tells the log, then each change of it.
    fn follow(
        &mut self,
        last: &mut Option<Arc<DiscoveryLog>>,
    ) -> Result<std::convert::Infallible, End> {
        self.look(last, true)?;
        loop {
            let told = self.told()?;
            let polled = self.poll.is_some_and(|poll| Instant::now() >= poll);
            if told || polled {
                self.poll = self.poll.map(|_| Instant::now() + POLL);
                self.look(last, false)?;
            }
            self.association.keep_alive_if_due()?;
        }
    }

    /// Reads the log, which also has the controller tell the next change, and tells what is new.
    fn look(&mut self, last: &mut Option<Arc<DiscoveryLog>>, first: bool) -> Result<(), End> {
        let log = Arc::new(self.association.discovery_log()?);
        let before = last.as_ref().map_or(&[][..], |log| &log.entries);
        let changes = Changes::between(before, &log.entries);
        *last = Some(Arc::clone(&log));
        let event = match first {
            true => DiscoveryEvent::Connected { log, changes },
            false if changes.is_empty() => return Ok(()),
            false => DiscoveryEvent::Changed { log, changes },
        };
        if (self.session.tell)(event) { Ok(()) } else { Err(End::Halted) }
    }

    /// Waits a little for the controller to tell something; whether it is that the log changed.
    fn told(&mut self) -> Result<bool, End> {
        let due = self.association.keep_alive_due();
        let until =
            [due, self.poll].into_iter().flatten().fold(Instant::now() + GLANCE, Instant::min);
        let answer = self.association.admin().wait(self.request, Deadline::at(until));
        if self.session.halt.is_halted() {
            return Err(End::Halted);
        }
        let completion = match answer {
            Err(error) if error.is_timeout() => return Ok(false),
            answer => answer?.into_result("Asynchronous Event Request")?,
        };
        // A controller that has something to tell all the time is heard ten times in a second.
        if self.session.halt.wait(PAUSE) {
            return Err(End::Halted);
        }
        self.request = request(&mut self.association)?;
        let event = Event::from_dw0(completion.cqe.dw0.get());
        tracing::debug!(controller = %self.session.controller, %event);
        let changed = Event::DISCOVERY_LOG_CHANGED;
        Ok((event.kind, event.info) == (changed.kind, changed.info))
    }
}

/// Asks for the next event.
fn request(association: &mut Association) -> Result<CommandId, Error> {
    let deadline = Deadline::after(association.options().timeout);
    let admin = association.admin();
    let request = admin.submit(Sqe::new(opcode::admin::ASYNC_EVENT_REQUEST), Data::None)?;
    admin.flush(deadline)?;
    Ok(request)
}

/// Whether a watch is over, for its thread to see or to be woken by.
#[derive(Debug, Default)]
pub(super) struct Halt {
    halted: Mutex<bool>,
    changed: Condvar,
}

impl Halt {
    /// Ends the watch.
    pub(super) fn halt(&self) {
        *self.halted.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }

    fn is_halted(&self) -> bool {
        *self.halted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits so long, or until the watch is over; whether it is.
    fn wait(&self, time: Duration) -> bool {
        let halted = self.halted.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(halted, time, |halted| !*halted);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// How long to wait before the next try: twice as long each time, and never the same for two
/// hosts that lost their target at the same moment.
struct Backoff {
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { next: Self::FIRST }
    }
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(200);
    const MOST: Duration = Duration::from_secs(20);
    /// A connection that was there for so long was a good one.
    const LASTED: Duration = Duration::from_secs(10);

    /// Half of the time, and up to as much again.
    fn next(&mut self) -> Duration {
        let half = self.next / 2;
        self.next = (self.next * 2).min(Self::MOST);
        half + half.mul_f64(random())
    }
}

/// 0 to 1. The standard library has no numbers by chance but the keys of its hash maps.
fn random() -> f64 {
    let hash = std::collections::hash_map::RandomState::new().build_hasher().finish();
    f64::from(u32::try_from(hash >> 32).unwrap_or_default()) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_become_rarer_and_differ() {
        let mut backoff = Backoff::default();
        let mut longest = Backoff::FIRST;
        for _ in 0..12 {
            let next = backoff.next();
            assert!((longest / 2..=longest).contains(&next), "{next:?} of {longest:?}");
            longest = (longest * 2).min(Backoff::MOST);
        }
        assert_eq!(longest, Backoff::MOST);
        let firsts: Vec<_> = (0..8).map(|_| Backoff::default().next()).collect();
        assert!(firsts.iter().any(|first| *first != firsts[0]), "{firsts:?}");
    }

    #[test]
    fn a_wait_ends_when_the_watch_does() {
        let halt = Arc::new(Halt::default());
        assert!(!halt.wait(Duration::from_millis(1)));
        let begun = Instant::now();
        std::thread::scope(|scope| {
            scope.spawn(|| halt.halt());
            assert!(halt.wait(Duration::from_secs(20)));
        });
        assert!(begun.elapsed() < Duration::from_secs(10));
        assert!(halt.is_halted());
    }
}

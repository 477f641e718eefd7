//! Watching discovery controllers: connections that last, and the events that come by them (Base
//! 2.1, sections 3.1.3.3 and 5.1.2).

mod session;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use super::controller::DiscoveryController;
use super::walk::{WalkLimits, walk};
use super::{Changes, Discoverer, DiscoveryLog};
use crate::{Deadline, Error};

use session::{Halt, Session};

/// What happened at a discovery controller.
#[derive(Debug)]
#[non_exhaustive]
pub enum DiscoveryEvent {
    /// It is connected, for the first time or again.
    Connected {
        /// Its log.
        log: Arc<DiscoveryLog>,
        /// What is different in it from when it was read last; the first time, all is new.
        changes: Changes,
    },
    /// Its log changed.
    Changed {
        /// The log as it is now.
        log: Arc<DiscoveryLog>,
        /// What is different.
        changes: Changes,
    },
    /// It cannot be reached, or the connection was lost. It is tried again, at first soon, then
    /// ever less often; the tries that fail are not told.
    Lost {
        /// Why.
        error: Error,
    },
    /// It is watched no more, because no log refers to it any more.
    Left,
}

/// An event, and whose it is.
#[derive(Debug)]
pub struct Watched {
    /// The controller.
    pub controller: DiscoveryController,
    /// What happened.
    pub event: DiscoveryEvent,
}

/// Events that wait to be taken, at most; controllers wait until there is room.
const QUEUE: usize = 16;

/// Discovery controllers that are watched, each by a thread with a connection of its own, until
/// this is dropped.
///
/// Where a log begins to refer to another controller, that one is watched too, within the
/// [`WalkLimits`] (but for their time); where no log refers to it any more, no longer.
///
/// ```no_run
/// use std::time::Duration;
///
/// use nvmf::Deadline;
/// use nvmf::host::HostOptions;
/// use nvmf::host::discovery::{Discoverer, DiscoveryController, DiscoveryEvent, WalkLimits};
///
/// let discoverer = Discoverer::new(HostOptions::from_system()?);
/// let begin = DiscoveryController::new("192.0.2.7", 8009);
/// let mut watch = discoverer.watch([begin], &WalkLimits::default());
/// while let Some(watched) = watch.next(Deadline::after(Duration::from_secs(60))) {
///     if let DiscoveryEvent::Changed { changes, .. } = watched.event {
///         println!("{}: {} entries came", watched.controller, changes.added.len());
///     }
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct DiscoveryWatch {
    discoverer: Discoverer,
    limits: WalkLimits,
    beginnings: Vec<DiscoveryController>,
    running: HashMap<DiscoveryController, Running>,
    /// Said before a thread is asked.
    ready: VecDeque<Watched>,
    /// How many referrals were not followed when that was last told.
    passed_over: usize,
    sender: SyncSender<Told>,
    receiver: Receiver<Told>,
    sessions: u64,
}

/// A controller that is watched.
#[derive(Debug)]
struct Running {
    session: u64,
    halt: Arc<Halt>,
    log: Option<Arc<DiscoveryLog>>,
}

/// What a thread says: of which session, since what one said that was stopped may still be under
/// way.
#[derive(Debug)]
struct Told {
    session: u64,
    watched: Watched,
}

impl DiscoveryWatch {
    pub(super) fn start(
        discoverer: Discoverer,
        beginnings: Vec<DiscoveryController>,
        limits: WalkLimits,
    ) -> Self {
        let (sender, receiver) = sync_channel(QUEUE);
        let mut watch = Self {
            discoverer,
            limits: WalkLimits { time: std::time::Duration::MAX, ..limits },
            beginnings,
            running: HashMap::new(),
            ready: VecDeque::new(),
            passed_over: 0,
            sender,
            receiver,
            sessions: 0,
        };
        watch.reconcile();
        watch
    }

    /// Watches from these controllers on, and no longer from others.
    pub fn set_beginnings(&mut self, beginnings: impl IntoIterator<Item = DiscoveryController>) {
        self.beginnings = beginnings.into_iter().collect();
        self.reconcile();
    }

    /// Waits for the next event; `None` if there is none before the deadline.
    pub fn next(&mut self, deadline: Deadline) -> Option<Watched> {
        loop {
            if let Some(watched) = self.ready.pop_front() {
                return Some(watched);
            }
            let left = deadline.remaining().unwrap_or_default();
            let Told { session, watched } = self.receiver.recv_timeout(left).ok()?;
            let Some(running) = self.running.get_mut(&watched.controller) else { continue };
            if running.session != session {
                continue;
            }
            if let DiscoveryEvent::Connected { log, .. } | DiscoveryEvent::Changed { log, .. } =
                &watched.event
            {
                running.log = Some(Arc::clone(log));
                self.reconcile();
            }
            return Some(watched);
        }
    }

    /// Watches those that are reached by the logs as they are, and no others. A controller that
    /// was lost still has the log that it had: it is not known to have changed.
    fn reconcile(&mut self) {
        let running = &self.running;
        let walked = walk(self.beginnings.iter().cloned(), &self.limits, |controller| {
            running.get(controller).and_then(|one| one.log.clone()).ok_or(())
        });
        let passed_over = walked.passed_over.iter().map(|one| one.count).sum();
        if passed_over > self.passed_over {
            for one in &walked.passed_over {
                let (from, reason) = (&walked.visits[one.referred_by].controller, one.reason);
                tracing::warn!(%from, referrals = one.count, %reason, "not followed");
            }
        }
        self.passed_over = passed_over;
        let wanted: HashSet<_> = walked.visits.into_iter().map(|visit| visit.controller).collect();
        self.running.retain(|controller, running| {
            let stays = wanted.contains(controller);
            if !stays {
                running.halt.halt();
                let controller = controller.clone();
                self.ready.push_back(Watched { controller, event: DiscoveryEvent::Left });
            }
            stays
        });
        for controller in wanted {
            if !self.running.contains_key(&controller) {
                self.begin(controller);
            }
        }
    }

    fn begin(&mut self, controller: DiscoveryController) {
        self.sessions += 1;
        let (session, halt) = (self.sessions, Arc::new(Halt::default()));
        let sender = self.sender.clone();
        let told = controller.clone();
        let run = Session {
            discoverer: self.discoverer.clone(),
            controller: controller.clone(),
            halt: Arc::clone(&halt),
            tell: Box::new(move |event| {
                let watched = Watched { controller: told.clone(), event };
                sender.send(Told { session, watched }).is_ok()
            }),
        };
        let spawned =
            thread::Builder::new().name("nvmf-discovery".to_owned()).spawn(move || run.run());
        if let Err(error) = spawned {
            let event = DiscoveryEvent::Lost { error: Error::Transport(error.into()) };
            self.ready.push_back(Watched { controller: controller.clone(), event });
        }
        self.running.insert(controller, Running { session, halt, log: None });
    }
}

/// The threads end within a moment; they are not waited for.
impl Drop for DiscoveryWatch {
    fn drop(&mut self) {
        self.running.values().for_each(|running| running.halt.halt());
    }
}

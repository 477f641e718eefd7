//! A namespace that is reached by several paths: which of them a command takes, and what becomes of
//! commands for which there is none at the moment.

pub(crate) mod command;
mod events;
pub(crate) mod inbox;
pub(crate) mod paths;
pub(crate) mod retry;
pub(crate) mod timers;

use std::collections::VecDeque;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nvmf::host::NamespaceIds;
use nvmf::spec::log::AnaState;

use crate::namespace::error::{Asked, IoError};
use crate::namespace::geometry::Geometry;
use crate::namespace::operation::Cut;
use crate::namespace::options::Settings;
use command::Command;
pub use events::Event;
use events::Subscribers;
use inbox::Inbox;
use paths::{Choice, Path, Phase, choose, complaints};
pub use paths::{PathState, PathStatus, Policy};
use timers::{Due, Timers};

/// What all who use a namespace share, and the threads of its paths.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) nsid: u32,
    pub(crate) settings: Settings,
    state: Mutex<State>,
    /// A path's phase changed, a command has to wait, or everything is over.
    changed: Condvar,
    timers: Timers,
    subscribers: Subscribers,
}

#[derive(Debug)]
struct State {
    paths: Vec<Path>,
    /// Commands without a path, or that have to wait.
    waiting: VecDeque<Command>,
    /// The path that was taken last.
    turn: usize,
    /// Known once a path was there.
    known: Option<Known>,
    closed: bool,
    /// Threads of paths that have not ended.
    threads: usize,
}

/// What the first path said of the namespace, and the later ones confirmed.
#[derive(Clone, Copy, Debug)]
struct Known {
    ids: NamespaceIds,
    geometry: Geometry,
}

/// What a path found at its end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    pub(crate) cntlid: u16,
    pub(crate) ids: NamespaceIds,
    pub(crate) geometry: Geometry,
    pub(crate) ana: AnaState,
}

/// Why a path is not to be used though it is there.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum Refused {
    #[error("it is another namespace: its identifiers differ")]
    Ids,
    #[error("its blocks have {now} bytes, and had {before}")]
    BlockSize { before: u32, now: u32 },
}

/// Commands that failed: they are told when no lock is held, for whoever waits may go on at once.
type Failed = Vec<(Command, Cause)>;

#[derive(Clone, Debug)]
enum Cause {
    Cut(IoError),
    Closed,
    NoPath(String),
    Gone,
}

impl Head {
    pub(crate) fn new(nsid: u32, settings: Settings) -> Self {
        let paths: Vec<_> = settings.paths.iter().map(|name| Path::new(name.clone())).collect();
        let state = State {
            threads: paths.len(),
            paths,
            waiting: VecDeque::new(),
            turn: 0,
            known: None,
            closed: false,
        };
        Self {
            nsid,
            settings,
            state: Mutex::new(state),
            changed: Condvar::new(),
            timers: Timers::default(),
            subscribers: Subscribers::default(),
        }
    }

    /// Sends commands by the paths there are, or has them wait for one.
    pub(crate) fn submit(&self, commands: impl IntoIterator<Item = Command>) {
        let (now, mut failed) = (Instant::now(), Failed::new());
        let waits = {
            let mut state = self.lock();
            let before = state.waiting.len();
            for command in commands {
                state.place(command, now, &self.settings, &mut failed);
            }
            // Whoever keeps the time knows of those before, and more of them change nothing for it.
            let mut new = state.waiting.iter().skip(before);
            before == 0 && new.len() > 0 || new.any(|command| command.not_before.is_some())
        };
        if waits {
            self.changed.notify_all();
        }
        self.tell(failed);
    }

    /// Has all threads look for operations that nobody waits for any more.
    pub(crate) fn look_for_cuts(&self) {
        let waits = {
            let state = self.lock();
            for path in &state.paths {
                path.inbox.cut();
            }
            !state.waiting.is_empty()
        };
        if waits {
            self.changed.notify_all();
        }
    }

    /// Has the thread that keeps the time look what is due.
    fn look_at_the_clock(&self) {
        // It has not looked yet, or sleeps already: not between the two, where it has the lock.
        drop(self.lock());
        self.changed.notify_all();
    }

    pub(crate) fn geometry(&self) -> Option<Geometry> {
        self.lock().known.map(|known| known.geometry)
    }

    pub(crate) fn ids(&self) -> Option<NamespaceIds> {
        self.lock().known.map(|known| known.ids)
    }

    pub(crate) fn inbox(&self, at: usize) -> Arc<Inbox> {
        Arc::clone(&self.lock().paths[at].inbox)
    }

    pub(crate) fn subscribe(&self) -> Receiver<Event> {
        self.subscribers.subscribe()
    }

    pub(crate) fn statuses(&self) -> Vec<PathStatus> {
        self.lock().paths.iter().map(Path::status).collect()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// No operation begins any more; those under way may end.
    pub(crate) fn close(&self) {
        let mut failed = Failed::new();
        {
            let mut state = self.lock();
            state.closed = true;
            failed.extend(state.waiting.drain(..).map(|command| (command, Cause::Closed)));
            for path in &state.paths {
                path.inbox.finish();
            }
        }
        self.changed.notify_all();
        self.tell(failed);
    }

    /// Waits until a path is there; the errors of all, if each has failed or none is there in time.
    pub(crate) fn wait_for_path(&self, deadline: Instant) -> Result<(), Vec<(String, Phase)>> {
        let mut state = self.lock();
        loop {
            if state.paths.iter().any(Path::is_live) {
                return Ok(());
            }
            let now = Instant::now();
            if now >= deadline || state.paths.iter().all(Path::has_failed) {
                let taken = |path: &mut Path| (path.name.clone(), path.phase.take_failure());
                return Err(state.paths.iter_mut().map(taken).collect());
            }
            state = self.wait(state, deadline - now);
        }
    }

    /// Sleeps, unless everything is over before.
    pub(crate) fn sleep(&self, pause: Duration) {
        let deadline = Instant::now() + pause;
        let mut state = self.lock();
        while !state.closed
            && let Some(left) = deadline.checked_duration_since(Instant::now())
            && !left.is_zero()
        {
            state = self.wait(state, left);
        }
    }

    /// Looks after what waits and what is due, until everything is over: the work of a thread.
    pub(crate) fn keep_time(&self) {
        loop {
            self.ring();
            let mut failed = Failed::new();
            {
                let mut state = self.lock();
                if state.closed && state.threads == 0 {
                    return;
                }
                let now = Instant::now();
                state.settle(now, &self.settings, &mut failed);
                if failed.is_empty() {
                    let due =
                        self.timers.next_look().map(|time| time.saturating_duration_since(now));
                    let look = state.next_look(now, &self.settings);
                    drop(self.wait(state, due.map_or(look, |due| due.min(look))));
                    continue;
                }
            }
            self.tell(failed);
        }
    }

    /// Does what is due.
    fn ring(&self) {
        let mut cut = false;
        for due in self.timers.take(Instant::now()) {
            match due {
                Due::Late(operation) => cut |= operation.cut(Cut::Late),
                Due::Wake(waker) => waker.wake(),
            }
        }
        if cut {
            self.look_for_cuts();
        }
    }

    /// The thread of a path has ended, for whatever reason.
    pub(crate) fn left(&self, at: usize) {
        let left = {
            let mut state = self.lock();
            state.threads = state.threads.saturating_sub(1);
            let path = &mut state.paths[at];
            if path.is_live() {
                path.phase = Phase::connecting("its thread has ended".to_owned());
            }
            path.phase.give_up();
            path.inbox.close()
        };
        self.submit(left);
        self.settle();
    }

    /// A path is there.
    pub(crate) fn connected(&self, at: usize, found: &Found) -> Result<(), Refused> {
        let (path, resized) = {
            let mut state = self.lock();
            let resized = state.learn(found)?;
            let path = &mut state.paths[at];
            path.phase = Phase::Live { state: found.ana, here: true, cntlid: found.cntlid };
            path.inbox.open();
            (path.name.clone(), resized)
        };
        self.subscribers.tell(&Event::Connected { path, cntlid: found.cntlid, state: found.ana });
        self.tell_resized(resized);
        self.settle();
        Ok(())
    }

    /// A path is gone, with these commands under way on it.
    pub(crate) fn lost(&self, at: usize, reason: String, commands: Vec<Command>) {
        let (path, left) = {
            let mut state = self.lock();
            let path = &mut state.paths[at];
            path.phase = Phase::connecting(reason.clone());
            (path.name.clone(), path.inbox.close())
        };
        for command in &commands {
            command.note(format!("{path}: {reason}"));
        }
        self.subscribers.tell(&Event::Lost { path, reason, commands: commands.len() });
        self.submit(left.into_iter().chain(commands));
        self.changed.notify_all();
    }

    /// A path could not be connected; says since when it is gone.
    pub(crate) fn failed(&self, at: usize, error: nvmf::Error, pause: Duration) -> Instant {
        let reason = error.to_string();
        let (path, since) = {
            let mut state = self.lock();
            let path = &mut state.paths[at];
            (path.name.clone(), path.phase.fail(error))
        };
        self.subscribers.tell(&Event::Failed { path, reason, pause });
        self.changed.notify_all();
        since
    }

    /// A path is given up.
    pub(crate) fn give_up(&self, at: usize) {
        let path = {
            let mut state = self.lock();
            let path = &mut state.paths[at];
            path.phase.give_up();
            path.name.clone()
        };
        self.subscribers.tell(&Event::GivenUp { path });
        self.settle();
    }

    /// The controller at a path's end has events all the time.
    pub(crate) fn stormy(&self, at: usize) {
        let path = self.lock().paths[at].name.clone();
        self.subscribers.tell(&Event::Storm { path });
    }

    /// The namespace is reached by a path in another way.
    pub(crate) fn ana_changed(&self, at: usize, now: AnaState) {
        let path = {
            let mut state = self.lock();
            let path = &mut state.paths[at];
            match &mut path.phase {
                Phase::Live { state, .. } if *state != now => *state = now,
                _ => return,
            }
            path.name.clone()
        };
        self.subscribers.tell(&Event::Ana { path, state: now });
        self.settle();
    }

    /// What a path's controller says of the namespace now; nothing if it is not there any more.
    pub(crate) fn identified(&self, at: usize, found: Option<&Found>) -> Result<(), Refused> {
        let (path, turned, resized) = {
            let mut state = self.lock();
            let resized = found.map_or(Ok(None), |found| state.learn(found))?;
            let path = &mut state.paths[at];
            let turned = match &mut path.phase {
                Phase::Live { here, .. } => std::mem::replace(here, found.is_some()) != *here,
                _ => false,
            };
            (path.name.clone(), turned, resized)
        };
        match found {
            Some(_) if turned => self.subscribers.tell(&Event::Back { path }),
            None if turned => self.subscribers.tell(&Event::Gone { path }),
            _ => {}
        }
        self.tell_resized(resized);
        self.settle();
        Ok(())
    }

    /// Looks again at what waits.
    fn settle(&self) {
        let mut failed = Failed::new();
        self.lock().settle(Instant::now(), &self.settings, &mut failed);
        self.changed.notify_all();
        self.tell(failed);
    }

    fn tell(&self, failed: Failed) {
        for (command, cause) in failed {
            let nsid = self.nsid;
            command.fail_with(|asked| cause.error(asked, nsid));
        }
    }

    fn tell_resized(&self, resized: Option<(u64, u64)>) {
        if let Some((from, to)) = resized {
            self.subscribers.tell(&Event::Resized { from, to });
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>, most: Duration) -> MutexGuard<'a, State> {
        self.changed.wait_timeout(state, most).unwrap_or_else(PoisonError::into_inner).0
    }
}

impl State {
    /// Sends a command, has it wait, or gives it up.
    fn place(&mut self, command: Command, now: Instant, settings: &Settings, failed: &mut Failed) {
        if let Some(mut error) = command.is_cut() {
            if let IoError::TimedOut { cause: cause @ None, .. } = &mut error {
                *cause = complaints(&self.paths);
            }
            failed.push((command, Cause::Cut(error)));
            return;
        }
        if self.closed {
            failed.push((command, Cause::Closed));
            return;
        }
        if command.not_before.is_some_and(|time| time > now) {
            self.waiting.push_back(command);
            return;
        }
        match choose(&self.paths, self.turn, command.avoid, now, settings) {
            Choice::Take(at) => {
                self.turn = at;
                if let Some(command) = self.paths[at].inbox.push(command) {
                    self.waiting.push_back(command);
                }
            }
            Choice::Wait => self.waiting.push_back(command),
            Choice::Gone => failed.push((command, Cause::Gone)),
            Choice::None(cause) => failed.push((command, Cause::NoPath(cause))),
        }
    }

    /// Looks at everything that waits.
    fn settle(&mut self, now: Instant, settings: &Settings, failed: &mut Failed) {
        for command in std::mem::take(&mut self.waiting) {
            self.place(command, now, settings, failed);
        }
    }

    /// How long nothing can become of what waits.
    fn next_look(&self, now: Instant, settings: &Settings) -> Duration {
        const LONGEST: Duration = Duration::from_secs(3600);
        if self.waiting.is_empty() {
            return LONGEST;
        }
        let commands = self.waiting.iter().filter_map(|command| command.not_before);
        let paths = self.paths.iter().filter_map(|path| path.fails_fast_at(settings));
        let next = commands.chain(paths).filter(|time| *time > now).min();
        next.map_or(LONGEST, |time| time - now)
    }

    /// Takes over what a path found; says from what to what the size changed.
    fn learn(&mut self, found: &Found) -> Result<Option<(u64, u64)>, Refused> {
        let Some(known) = &mut self.known else {
            self.known = Some(Known { ids: found.ids, geometry: found.geometry });
            return Ok(None);
        };
        if !known.ids.may_be(&found.ids) {
            return Err(Refused::Ids);
        }
        let (before, mut now) = (known.geometry, found.geometry);
        if before.block_size != now.block_size {
            let (before, now) = (before.block_size, now.block_size);
            return Err(Refused::BlockSize { before, now });
        }
        // What holds for every path that commands may take.
        now.max_transfer = now.max_transfer.min(before.max_transfer);
        let (a, b) = (&mut now.abilities, before.abilities);
        a.compare &= b.compare;
        a.write_zeroes &= b.write_zeroes;
        a.discard &= b.discard;
        a.write_cache |= b.write_cache;
        known.geometry = now;
        Ok((before.blocks != now.blocks).then(|| (before.bytes(), now.bytes())))
    }
}

impl Cause {
    fn error(self, asked: Asked, nsid: u32) -> IoError {
        match self {
            Self::Cut(error) => error,
            Self::Closed => IoError::Closed { asked },
            Self::NoPath(cause) => IoError::NoPath { asked, cause },
            Self::Gone => IoError::Gone { asked, nsid },
        }
    }
}

//! Threads that do tasks, and the one that waits for them.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::chunk::{Ends, Moved};
use crate::error::Error;
use crate::plan::{Plan, Task};
use crate::ranges::RangeSet;

/// How long the waiting thread waits before it looks again.
const LOOK: Duration = Duration::from_millis(100);

/// How a task ended that did not fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Done {
    Moved(Moved),
    /// Both sides have the same there.
    Same,
    /// The first byte that is different, counted from the beginning of the copy.
    Different(u64),
}

/// What all threads know.
pub(crate) struct Crew<'a> {
    ends: Ends<'a>,
    stop: Option<&'a AtomicBool>,
    pace: Option<Pace>,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    plan: Plan,
    /// Data handed out so far, in bytes.
    handed: u64,
    working: usize,
    /// No task is to be begun any more.
    over: bool,
    failure: Option<Error>,
    tally: Tally,
}

/// What came of the tasks that ended.
#[derive(Clone, Default, Debug)]
pub(crate) struct Tally {
    pub(crate) done: RangeSet,
    pub(crate) moved: Moved,
    /// The first byte that is different; nothing before it is.
    pub(crate) different: Option<u64>,
}

/// So many bytes a second, from now on.
struct Pace {
    started: Instant,
    rate: u64,
}

impl Pace {
    /// When data may be moved before which so much was.
    #[allow(clippy::cast_precision_loss, reason = "a pace need not be exact")]
    fn due(&self, before: u64) -> Instant {
        let seconds = before as f64 / self.rate as f64;
        // No rate is so low that this were not far enough away.
        let ever = Duration::from_secs(u64::from(u32::MAX));
        self.started + Duration::try_from_secs_f64(seconds).unwrap_or(ever).min(ever)
    }
}

impl<'a> Crew<'a> {
    /// `done` is what need not be done; `rate` bytes a second are moved at most.
    pub(crate) fn new(
        ends: Ends<'a>,
        plan: Plan,
        done: RangeSet,
        rate: Option<u64>,
        stop: Option<&'a AtomicBool>,
    ) -> Self {
        let tally = Tally { done, ..Tally::default() };
        let state = State { plan, handed: 0, working: 0, over: false, failure: None, tally };
        let pace = rate.map(|rate| Pace { started: Instant::now(), rate: rate.max(1) });
        Self { ends, stop, pace, state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Does all tasks by `jobs` threads, each of which has a worker of its own. Meanwhile `look` is
    /// called from time to time, with what came of them so far: no task is begun any more after it
    /// says so, or has an error.
    ///
    /// What is under way then, or when something fails, comes to its end.
    pub(crate) fn run<W: FnMut(&Task) -> Result<Done, Error> + Send>(
        self,
        jobs: usize,
        worker: impl Fn() -> W,
        mut look: impl FnMut(&dyn Fn() -> Tally) -> Result<ControlFlow<()>, Error>,
    ) -> (Tally, Result<(), Error>) {
        self.lock().working = jobs;
        thread::scope(|scope| {
            for number in 0..jobs {
                let (crew, worker) = (&self, worker());
                let name = format!("nvmf-copy-{number}");
                let spawned = thread::Builder::new().name(name).spawn_scoped(scope, move || {
                    let _presence = Presence(crew);
                    crew.work(worker);
                });
                if let Err(error) = spawned {
                    let mut state = self.lock();
                    state.working -= jobs - number;
                    state.fail(Error::Thread(error));
                    break;
                }
            }
            while self.wait() {
                match look(&|| self.lock().tally.clone()) {
                    Ok(ControlFlow::Continue(())) => {}
                    Ok(ControlFlow::Break(())) => self.lock().over = true,
                    Err(error) => self.lock().fail(error),
                }
            }
        });
        let state = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        (state.tally, state.failure.map_or(Ok(()), Err))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits a moment; false if nobody works any more.
    fn wait(&self) -> bool {
        let state = self.lock();
        if state.working == 0 {
            return false;
        }
        let (state, _) =
            self.changed.wait_timeout(state, LOOK).unwrap_or_else(PoisonError::into_inner);
        state.working > 0
    }

    fn work(&self, mut act: impl FnMut(&Task) -> Result<Done, Error>) {
        while let Some(task) = self.take() {
            match act(&task) {
                Ok(done) => self.note(&task, done),
                Err(error) => self.lock().fail(error),
            }
        }
    }

    /// The next task, when it is time for it; `None` when there is no more.
    fn take(&self) -> Option<Task> {
        let (task, before) = {
            let mut state = self.lock();
            if state.over {
                return None;
            }
            let task = match state.plan.next(self.ends.source) {
                Ok(task) => task?,
                Err((offset, source)) => {
                    let name = self.ends.source.name().to_owned();
                    state.fail(Error::Map { name, offset, source });
                    return None;
                }
            };
            if self.is_stopped() {
                state.fail(Error::Stopped);
                return None;
            }
            let before = state.handed;
            if let Task::Data(range) = &task {
                state.handed = state.handed.saturating_add(range.end - range.start);
            }
            (task, before)
        };
        self.wait_till_due(before).then_some(task)
    }

    /// False if it was stopped before.
    fn wait_till_due(&self, before: u64) -> bool {
        let Some(pace) = &self.pace else { return true };
        let due = pace.due(before);
        loop {
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            if self.is_stopped() {
                self.lock().fail(Error::Stopped);
            }
            if self.lock().over {
                return false;
            }
            thread::sleep(left.min(LOOK));
        }
    }

    fn is_stopped(&self) -> bool {
        self.stop.is_some_and(|stop| stop.load(Ordering::Relaxed))
    }

    fn note(&self, task: &Task, done: Done) {
        let mut state = self.lock();
        state.over |= matches!(done, Done::Different(_));
        let tally = &mut state.tally;
        match done {
            Done::Different(at) => {
                tally.different = Some(tally.different.map_or(at, |first| first.min(at)));
            }
            Done::Same => tally.done.insert(task.range()),
            Done::Moved(moved) => {
                tally.moved.written += moved.written;
                tally.moved.zeroed += moved.zeroed;
                tally.done.insert(task.range());
            }
        }
    }
}

impl State {
    /// The first thing that goes wrong is the one that is told.
    fn fail(&mut self, error: Error) {
        self.over = true;
        self.failure.get_or_insert(error);
    }
}

/// Says when a thread ends, however it does.
struct Presence<'a>(&'a Crew<'a>);

impl Drop for Presence<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.working -= 1;
        if thread::panicking() {
            // The scope passes the panic on; nobody is to work for nothing till then.
            state.fail(Error::Stopped);
        }
        drop(state);
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;
    use crate::chunk::Sparse;
    use crate::endpoint::Rest;
    use crate::layout::Layout;
    use crate::testing::Memory;

    #[test]
    fn of_several_differences_the_first_is_told_whoever_is_faster() {
        let bytes = Memory::zeroed(8192);
        let layout = Layout { source_offset: 0, offset: 0, length: 8192, rest: Rest::Stays };
        let (source, destination) = (&bytes, &bytes);
        let ends = Ends { source, destination, layout, sparse: Sparse::Never, unit: 4096 };
        let both = Barrier::new(2);
        let plan = Plan::new(layout, 4096, RangeSet::default(), false);
        let worker = || {
            |task: &Task| {
                both.wait();
                if task.range().start == 0 {
                    thread::sleep(Duration::from_millis(50));
                }
                Ok(Done::Different(task.range().start + 7))
            }
        };
        let crew = Crew::new(ends, plan, RangeSet::default(), None, None);
        let (tally, result) = crew.run(2, worker, |_| Ok(ControlFlow::Continue(())));
        assert_eq!((tally.different, result.is_ok()), (Some(7), true));
    }
}

//! Threads for what may wait.

use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// Runs what may wait on threads of its own, which come when they are needed and go when they are
/// not.
///
/// ```
/// let jobs = nvmf_engine::Jobs::new(2);
/// let (done, wait) = std::sync::mpsc::channel();
/// jobs.run(move || done.send(6 * 7).unwrap());
/// assert_eq!(wait.recv(), Ok(42));
/// ```
#[derive(Clone)]
pub struct Jobs(Arc<Shared>);

struct Shared {
    most: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Job>,
    threads: usize,
    idle: usize,
}

type Job = Box<dyn FnOnce() + Send>;

/// A thread without work ends after this long.
const LINGER: Duration = Duration::from_secs(5);

impl Jobs {
    /// Jobs on `most` threads at once, at least one; more jobs wait for their turn.
    pub fn new(most: usize) -> Self {
        let (state, changed) = (Mutex::default(), Condvar::new());
        Self(Arc::new(Shared { most: most.max(1), state, changed }))
    }

    /// Runs a job as soon as a thread has time. A panic in it ends that job alone.
    ///
    /// Where no thread can be started the job waits for one that runs, and is run at once, by the
    /// caller, if there is none.
    pub fn run(&self, job: impl FnOnce() + Send + 'static) {
        let mut state = self.0.lock();
        state.waiting.push_back(Box::new(job));
        if state.idle >= state.waiting.len() {
            drop(state);
            self.0.changed.notify_one();
            return;
        }
        if state.threads >= self.0.most {
            return;
        }
        state.threads += 1;
        drop(state);
        let shared = Arc::clone(&self.0);
        let started = thread::Builder::new().name("nvmf-job".into()).spawn(move || shared.work());
        if let Err(error) = started {
            tracing::warn!(%error, "no thread for what may wait");
            let mut state = self.0.lock();
            state.threads -= 1;
            if state.threads == 0 {
                let waiting = std::mem::take(&mut state.waiting);
                drop(state);
                waiting.into_iter().for_each(execute);
            }
        }
    }
}

impl Shared {
    fn work(&self) {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.waiting.pop_front() {
                drop(state);
                execute(job);
                state = self.lock();
                continue;
            }
            state.idle += 1;
            let (woken, timeout) = self
                .changed
                .wait_timeout_while(state, LINGER, |state| state.waiting.is_empty())
                .unwrap_or_else(PoisonError::into_inner);
            state = woken;
            state.idle -= 1;
            if timeout.timed_out() && state.waiting.is_empty() {
                state.threads -= 1;
                return;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn execute(job: Job) {
    if catch_unwind(AssertUnwindSafe(job)).is_err() {
        tracing::error!("a job panicked");
    }
}

impl fmt::Debug for Jobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jobs").field("most", &self.0.most).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    const SOON: Duration = Duration::from_secs(20);

    #[test]
    fn as_many_run_at_once_as_there_may_be_threads() {
        let jobs = Jobs::new(3);
        let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (done, wait) = mpsc::channel();
        for _ in 0..20 {
            let (running, most, done) = (running.clone(), most.clone(), done.clone());
            jobs.run(move || {
                most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                thread::sleep(Duration::from_millis(5));
                running.fetch_sub(1, Ordering::SeqCst);
                done.send(()).unwrap();
            });
        }
        (0..20).for_each(|_| wait.recv_timeout(SOON).unwrap());
        assert_eq!(most.load(Ordering::SeqCst), 3);
    }

    #[test]
    fn a_job_that_panics_does_not_take_its_thread_along() {
        let jobs = Jobs::new(1);
        jobs.run(|| panic!("as the test wants"));
        let (done, wait) = mpsc::channel();
        jobs.run(move || done.send(()).unwrap());
        wait.recv_timeout(SOON).unwrap();
    }
}

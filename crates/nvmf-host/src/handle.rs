//! Waking a run from other threads.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

/// Tells runs that what was [`Next::Later`](crate::Next::Later) may be over. To be given to any
/// number of runs by [`Options::handle`](crate::Options::handle), and kept by any number of threads.
#[derive(Clone, Debug, Default)]
pub struct Handle(Arc<Mutex<Runs>>);

#[derive(Debug, Default)]
struct Runs {
    wakers: Vec<(u64, Waker)>,
    begun: u64,
}

impl Handle {
    /// A handle that no run has yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes every run that has this handle ask its workload again, soon.
    pub fn wake(&self) {
        for (_, waker) in &self.lock().wakers {
            waker.wake_by_ref();
        }
    }

    /// Has a run be woken, until what this returns is dropped.
    pub(crate) fn register(&self, waker: Waker) -> Registration {
        let mut runs = self.lock();
        runs.begun += 1;
        let number = runs.begun;
        runs.wakers.push((number, waker));
        drop(runs);
        Registration { handle: self.clone(), number }
    }

    fn lock(&self) -> MutexGuard<'_, Runs> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A run that is woken.
#[derive(Debug)]
pub(crate) struct Registration {
    handle: Handle,
    number: u64,
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.handle.lock().wakers.retain(|(number, _)| *number != self.number);
    }
}

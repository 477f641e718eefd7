//! Waking a run from other threads.

use std::sync::{Arc, Mutex, PoisonError};

use nvmf_engine::Waker;

/// Tells runs that what was [`Next::Later`](crate::Next::Later) may be over. To be given to any
/// number of runs by [`Options::handle`](crate::Options::handle), and kept by any number of threads.
#[derive(Clone, Debug, Default)]
pub struct Handle(Arc<Mutex<Vec<Waker>>>);

impl Handle {
    /// A handle that no run has yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes every run that has this handle ask its workload again, soon.
    pub fn wake(&self) {
        for waker in self.lock().iter() {
            waker.wake();
        }
    }

    pub(crate) fn register(&self, waker: Waker) {
        self.lock().push(waker);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Waker>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

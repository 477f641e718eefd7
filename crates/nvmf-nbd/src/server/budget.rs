//! What the requests of one client may hold.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Bytes that there is room for.
#[derive(Debug)]
pub(super) struct Budget {
    free: Mutex<usize>,
    changed: Condvar,
}

/// Bytes that are in use, until this is dropped.
#[derive(Debug)]
pub(super) struct Taken<'b> {
    budget: &'b Budget,
    bytes: usize,
}

impl Budget {
    pub(super) fn new(bytes: usize) -> Self {
        Self { free: Mutex::new(bytes), changed: Condvar::new() }
    }

    /// Waits until there is room for so much, which is no more than there is altogether.
    pub(super) fn take(&self, bytes: usize) -> Taken<'_> {
        let mut free = self.lock();
        while *free < bytes {
            free = self.changed.wait(free).unwrap_or_else(PoisonError::into_inner);
        }
        *free -= bytes;
        Taken { budget: self, bytes }
    }

    fn lock(&self) -> MutexGuard<'_, usize> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        *self.budget.lock() += self.bytes;
        self.budget.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    #[test]
    fn who_wants_more_than_there_is_waits() {
        let budget = Budget::new(10);
        let first = budget.take(6);
        let (sender, receiver) = mpsc::channel();
        thread::scope(|scope| {
            scope.spawn(|| {
                let _second = budget.take(5);
                sender.send(()).unwrap();
            });
            assert!(receiver.recv_timeout(Duration::from_millis(50)).is_err());
            drop(first);
            receiver.recv_timeout(Duration::from_secs(10)).unwrap();
        });
        drop(budget.take(10));
    }
}

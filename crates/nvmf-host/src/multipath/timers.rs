//! Times at which something has to happen, whether or not anybody polls then.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::Instant;

use super::Head;
use crate::namespace::operation::Operation;

/// What has to happen.
#[derive(Debug)]
pub(crate) enum Due {
    /// An operation's time is over.
    Late(Arc<Operation>),
    /// Somebody wants to look at the clock.
    Wake(Waker),
}

/// What is due when.
#[derive(Debug, Default)]
pub(super) struct Timers(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    all: BTreeMap<Key, Due>,
    begun: u64,
    /// When whoever keeps the time looks again, if it looks for a time at all.
    looks_at: Option<Instant>,
}

/// A time, and a number among those at the same time.
type Key = (Instant, u64);

/// Something is due; no more once this is dropped.
#[derive(Debug)]
pub(crate) struct Timer {
    head: Arc<Head>,
    key: Key,
}

impl Timers {
    /// When to look again; what is set for a time before that has to be told.
    pub(super) fn next_look(&self) -> Option<Instant> {
        let mut state = self.lock();
        state.looks_at = state.all.first_key_value().map(|((time, _), _)| *time);
        state.looks_at
    }

    /// Takes out what is due.
    pub(super) fn take(&self, now: Instant) -> Vec<Due> {
        let mut state = self.lock();
        let later = state.all.split_off(&(now, u64::MAX));
        std::mem::replace(&mut state.all, later).into_values().collect()
    }

    /// Says also whether it is before the next look: most are not, for deadlines come in order.
    fn set(&self, time: Instant, due: Due) -> (Key, bool) {
        let mut state = self.lock();
        let key = (time, state.begun);
        state.begun += 1;
        state.all.insert(key, due);
        let sooner = state.looks_at.is_none_or(|next| time < next);
        if sooner {
            state.looks_at = Some(time);
        }
        (key, sooner)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Timer {
    /// Has something happen at this time.
    pub(crate) fn set(head: &Arc<Head>, time: Instant, due: Due) -> Self {
        let (key, sooner) = head.timers.set(time, due);
        if sooner {
            head.look_at_the_clock();
        }
        Self { head: Arc::clone(head), key }
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        // It is dropped when the lock is open: a waker may be the last of its task.
        let _due = self.head.timers.lock().all.remove(&self.key);
    }
}

/// Waits for a future; for nothing any more when the time is over.
pub(crate) async fn until<F: Future>(
    head: &Arc<Head>,
    deadline: Option<Instant>,
    future: F,
) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut timer = None;
    std::future::poll_fn(|context| {
        if let Poll::Ready(output) = future.as_mut().poll(context) {
            return Poll::Ready(Some(output));
        }
        let Some(deadline) = deadline else { return Poll::Pending };
        if deadline <= Instant::now() {
            return Poll::Ready(None);
        }
        // Who polled last is the one to be woken.
        timer = Some(Timer::set(head, deadline, Due::Wake(context.waker().clone())));
        Poll::Pending
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn what_is_due_is_taken_once_and_told_if_it_is_before_the_next_look() {
        let timers = Timers::default();
        let start = Instant::now();
        let wake = || Due::Wake(Waker::noop().clone());
        let at = |ms| start + Duration::from_millis(ms);
        assert!(timers.set(at(5), wake()).1);
        assert!(!timers.set(at(5), wake()).1 && !timers.set(at(9), wake()).1);
        assert!(timers.set(at(3), wake()).1);
        assert_eq!((timers.take(at(2)).len(), timers.take(at(5)).len()), (0, 3));
        assert_eq!((timers.take(at(5)).len(), timers.next_look()), (0, Some(at(9))));
        assert!(timers.set(at(8), wake()).1 && !timers.set(at(10), wake()).1);
    }
}

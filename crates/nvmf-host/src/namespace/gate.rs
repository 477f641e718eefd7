//! Who may write: any number of writers of whole blocks, or one that first reads what it writes in
//! part.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// A lock for writers, held across waits of any kind.
#[derive(Debug, Default)]
pub(super) struct Gate(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Writers of whole blocks.
    shared: usize,
    exclusive: bool,
    /// Those who wait; each asks again when it is woken.
    waiting: VecDeque<Waker>,
    /// Those among them who want it for themselves: nobody goes in before them.
    patient: usize,
}

/// A way through.
#[derive(Debug)]
pub(super) struct Pass<'a> {
    gate: &'a Gate,
    exclusive: bool,
}

/// Waits for a way through.
#[derive(Debug)]
pub(super) struct Wait<'a> {
    gate: &'a Gate,
    exclusive: bool,
    /// Counted among the patient.
    counted: bool,
}

impl Gate {
    /// For a writer of whole blocks.
    pub(super) fn shared(&self) -> Wait<'_> {
        Wait { gate: self, exclusive: false, counted: false }
    }

    /// For a writer that reads before.
    pub(super) fn exclusive(&self) -> Wait<'_> {
        Wait { gate: self, exclusive: true, counted: false }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn enter(&mut self, exclusive: bool) -> bool {
        let free = if exclusive {
            !self.exclusive && self.shared == 0
        } else {
            !self.exclusive && self.patient == 0
        };
        if free && exclusive {
            self.exclusive = true;
        } else if free {
            self.shared += 1;
        }
        free
    }
}

impl<'a> Future for Wait<'a> {
    type Output = Pass<'a>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Pass<'a>> {
        let (gate, exclusive) = (self.gate, self.exclusive);
        let mut state = gate.lock();
        if state.enter(exclusive) {
            state.patient -= usize::from(std::mem::take(&mut self.counted));
            return Poll::Ready(Pass { gate, exclusive });
        }
        if exclusive && !self.counted {
            self.counted = true;
            state.patient += 1;
        }
        state.waiting.push_back(context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        if self.counted {
            let mut state = self.gate.lock();
            state.patient -= 1;
            wake(state);
        }
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        let mut state = self.gate.lock();
        if self.exclusive {
            state.exclusive = false;
        } else {
            state.shared -= 1;
        }
        if state.exclusive || state.shared > 0 && state.patient > 0 {
            return;
        }
        wake(state);
    }
}

fn wake(mut state: MutexGuard<'_, State>) {
    let waiting = std::mem::take(&mut state.waiting);
    drop(state);
    waiting.into_iter().for_each(Waker::wake);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use crate::namespace::blocking::block_on;

    #[test]
    fn many_or_one() {
        let gate = Gate::default();
        let first = block_on(gate.shared(), None);
        let second = block_on(gate.shared(), None);
        let mut one = Box::pin(gate.exclusive());
        let mut context = Context::from_waker(Waker::noop());
        assert!(one.as_mut().poll(&mut context).is_pending());
        // Nobody goes in before the one who waits.
        let mut third = Box::pin(gate.shared());
        assert!(third.as_mut().poll(&mut context).is_pending());
        drop(first);
        assert!(one.as_mut().poll(&mut context).is_pending());
        drop(second);
        let Poll::Ready(pass) = one.as_mut().poll(&mut context) else { panic!("it is free") };
        assert!(third.as_mut().poll(&mut context).is_pending());
        drop(pass);
        assert!(third.as_mut().poll(&mut context).is_ready());
    }

    #[test]
    fn one_who_waits_no_more_holds_nobody_up() {
        let gate = Gate::default();
        let first = block_on(gate.shared(), None);
        let mut one = Box::pin(gate.exclusive());
        assert!(one.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        drop(one);
        drop(block_on(gate.shared(), None));
        drop(first);
    }

    #[test]
    fn threads_are_never_inside_together_with_the_one() {
        let gate = Arc::new(Gate::default());
        let inside = Arc::new(AtomicUsize::new(0));
        let threads: Vec<_> = (0..4)
            .map(|number| {
                let (gate, inside) = (Arc::clone(&gate), Arc::clone(&inside));
                std::thread::spawn(move || {
                    for round in 0..2000 {
                        if (round + number) % 5 == 0 {
                            let _pass = block_on(gate.exclusive(), None);
                            assert_eq!(inside.swap(100, Ordering::SeqCst), 0);
                            inside.store(0, Ordering::SeqCst);
                        } else {
                            let _pass = block_on(gate.shared(), None);
                            assert!(inside.fetch_add(1, Ordering::SeqCst) < 100);
                            inside.fetch_sub(1, Ordering::SeqCst);
                        }
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
    }
}

//! Who may write where: any number of writers of whole blocks, or one that first reads what it writes
//! in part.
//!
//! Whoever comes has a place in the order of arrival, and goes in as soon as nobody before has a claim
//! to the same blocks that excludes it. So nobody starves, and writers of other blocks know nothing of
//! it. A write that nobody waits for any more, but that a controller may still do, keeps its blocks:
//! what is written there next must not be overwritten by it.

use std::collections::BTreeMap;
use std::mem;
use std::ops::Range;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// A lock of ranges of blocks, held across waits of any kind.
#[derive(Debug, Default)]
pub(crate) struct Gate(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Those inside and those who wait, by the order in which they came.
    claims: BTreeMap<u64, Claim>,
    begun: u64,
    /// Claims that exclude all others, inside or not: without one nobody waits.
    exclusive: usize,
}

#[derive(Debug)]
struct Claim {
    blocks: Range<u64>,
    exclusive: bool,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Inside,
    Waits(Option<Waker>),
}

/// A way through, and a place in the order before that.
#[derive(Debug)]
pub(crate) struct Pass {
    gate: Arc<Gate>,
    number: u64,
}

/// Waits for a way through.
#[derive(Debug)]
pub(super) struct Wait(Option<Pass>);

impl Gate {
    /// For a writer of these blocks: of all of each, or exclusively.
    pub(super) fn enter(self: &Arc<Self>, blocks: Range<u64>, exclusive: bool) -> Wait {
        let mut state = self.lock();
        let number = state.begun;
        state.begun += 1;
        state.exclusive += usize::from(exclusive);
        let free = state.is_free(number, &blocks, exclusive);
        let place = if free { Place::Inside } else { Place::Waits(None) };
        state.claims.insert(number, Claim { blocks, exclusive, place });
        Wait(Some(Pass { gate: Arc::clone(self), number }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether nobody who came before `number` excludes it.
    fn is_free(&self, number: u64, blocks: &Range<u64>, exclusive: bool) -> bool {
        if self.exclusive == 0 {
            return true;
        }
        !self
            .claims
            .range(..number)
            .any(|(_, before)| (exclusive || before.exclusive) && meet(&before.blocks, blocks))
    }

    /// Ends a claim; those who are to be woken for it are inside.
    fn leave(&mut self, number: u64) -> Vec<Waker> {
        // Without exclusive claims nobody waits; this may be the last one.
        let some_may_wait = self.exclusive > 0;
        let Some(gone) = self.claims.remove(&number) else { return Vec::new() };
        self.exclusive -= usize::from(gone.exclusive);
        if !some_may_wait {
            return Vec::new();
        }
        let free: Vec<u64> = self
            .claims
            .range(number..)
            .filter(|(_, claim)| {
                matches!(claim.place, Place::Waits(_)) && meet(&claim.blocks, &gone.blocks)
            })
            .filter(|(number, claim)| self.is_free(**number, &claim.blocks, claim.exclusive))
            .map(|(number, _)| *number)
            .collect();
        let enter = |number| {
            let claim = self.claims.get_mut(&number)?;
            match mem::replace(&mut claim.place, Place::Inside) {
                Place::Waits(waker) => waker,
                Place::Inside => None,
            }
        };
        free.into_iter().filter_map(enter).collect()
    }
}

fn meet(a: &Range<u64>, b: &Range<u64>) -> bool {
    a.start < b.end && b.start < a.end
}

impl Pass {
    /// Nobody waits for the write any more, and it may still be done: whoever comes from now on waits
    /// until it has ended.
    pub(crate) fn abandon(&self) {
        let mut state = self.gate.lock();
        let State { claims, exclusive, .. } = &mut *state;
        if let Some(claim) = claims.get_mut(&self.number)
            && !mem::replace(&mut claim.exclusive, true)
        {
            *exclusive += 1;
        }
    }
}

impl Future for Wait {
    type Output = Pass;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Pass> {
        // What was there before is dropped when the lock is open: it may be the last of its task.
        let _before = {
            let Some(pass) = &self.0 else { return Poll::Pending };
            let mut state = pass.gate.lock();
            match state.claims.get_mut(&pass.number) {
                Some(Claim { place: Place::Waits(waker), .. }) => {
                    waker.replace(context.waker().clone())
                }
                _ => {
                    drop(state);
                    return self.0.take().map_or(Poll::Pending, Poll::Ready);
                }
            }
        };
        Poll::Pending
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let woken = self.gate.lock().leave(self.number);
        woken.into_iter().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use crate::namespace::blocking::block_on;

    fn is_inside(wait: &mut Wait) -> bool {
        Pin::new(wait).poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    fn enter(gate: &Arc<Gate>, blocks: Range<u64>, exclusive: bool) -> Pass {
        block_on(gate.enter(blocks, exclusive))
    }

    #[test]
    fn many_or_one() {
        let gate = Arc::default();
        let first = enter(&gate, 0..9, false);
        let second = enter(&gate, 3..5, false);
        let mut one = gate.enter(4..5, true);
        assert!(!is_inside(&mut one));
        // Nobody goes in before the one who waits.
        let mut third = gate.enter(4..6, false);
        assert!(!is_inside(&mut third));
        drop(first);
        assert!(!is_inside(&mut one));
        drop(second);
        let pass = block_on(one);
        assert!(!is_inside(&mut third));
        drop(pass);
        block_on(third);
    }

    #[test]
    fn other_blocks_are_another_matter() {
        let gate = Arc::default();
        let _one = enter(&gate, 4..5, true);
        let _before = enter(&gate, 0..4, true);
        let _behind = enter(&gate, 5..6, false);
    }

    #[test]
    fn who_came_first_goes_in_first_whatever_it_wants() {
        let gate = Arc::default();
        let first = enter(&gate, 0..1, true);
        let second = gate.enter(0..1, true);
        let mut shared = gate.enter(0..1, false);
        // One who wants it exclusively always waits, and the other one has its turn all the same.
        let _third = gate.enter(0..1, true);
        drop(first);
        let second = block_on(second);
        let _fourth = gate.enter(0..1, true);
        assert!(!is_inside(&mut shared));
        drop(second);
        assert!(is_inside(&mut shared));
    }

    #[test]
    fn one_who_waits_no_more_holds_nobody_up() {
        let gate = Arc::default();
        let first = enter(&gate, 0..1, false);
        let one = gate.enter(0..1, true);
        let mut third = gate.enter(0..1, false);
        assert!(!is_inside(&mut third));
        drop(one);
        drop(block_on(third));
        drop(first);
        let state = gate.lock();
        assert!(state.claims.is_empty() && state.exclusive == 0);
    }

    #[test]
    fn what_is_abandoned_lets_nobody_in_until_it_has_ended() {
        let gate = Arc::default();
        let first = enter(&gate, 0..2, false);
        first.abandon();
        first.abandon();
        let mut second = gate.enter(1..3, false);
        assert!(!is_inside(&mut second));
        enter(&gate, 3..4, false);
        drop(first);
        drop(block_on(second));
        assert_eq!(gate.lock().exclusive, 0);
    }

    #[test]
    fn asking_again_and_again_takes_no_room() {
        let gate = Arc::default();
        let first = enter(&gate, 0..1, true);
        let mut second = gate.enter(0..1, false);
        for _ in 0..1000 {
            assert!(!is_inside(&mut second));
        }
        assert_eq!(gate.lock().claims.len(), 2);
        drop(first);
        assert!(is_inside(&mut second));
    }

    #[test]
    fn threads_are_never_inside_together_with_the_one() {
        let gate: Arc<Gate> = Arc::default();
        let inside = Arc::new(AtomicUsize::new(0));
        let threads: Vec<_> = (0..4)
            .map(|number| {
                let (gate, inside) = (Arc::clone(&gate), Arc::clone(&inside));
                std::thread::spawn(move || {
                    for round in 0..2000 {
                        if (round + number) % 5 == 0 {
                            let _pass = block_on(gate.enter(0..4, true));
                            assert_eq!(inside.swap(100, Ordering::SeqCst), 0);
                            inside.store(0, Ordering::SeqCst);
                        } else {
                            let _pass = block_on(gate.enter(round % 4..4, false));
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

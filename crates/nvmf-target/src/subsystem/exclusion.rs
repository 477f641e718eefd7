//! Who may write a namespace while a fused Compare and Write is at it: nobody else.
//!
//! Whoever writes takes a [`Place`] and keeps it until the write is done, on whatever thread that
//! happens. A pair [closes](Exclusion::close) the namespace: it waits until all places are given back,
//! and none is given until it opens again. Pairs exclude each other.
//!
//! Writes are many and pairs are few, so that a write pays as little as possible: an atomic add on a
//! line that other cores seldom touch, a load of a flag that seldom changes, and the same to give
//! the place back.
//!
//! # Why no writer and pair meet
//!
//! A writer adds itself to its stripe, then looks at the flag. A pair sets the flag, then looks at
//! the stripes. All four are sequentially consistent, so there is one order of them all, and in it
//! either the writer's addition is before the pair's look, which then sees it and waits; or the flag
//! was set before the writer's look, which then sees it and gives its place back. A stripe that was
//! seen empty with the flag set stays without a writer that was admitted: whoever adds itself later
//! sees the flag. So it is enough to see each stripe empty once, one after the other.
//!
//! # Why nobody sleeps for good
//!
//! Who gives a place back looks at the flag afterwards, and if it is set takes the lock and wakes.
//! The pair looks at the stripes while it holds the lock, which it lets go of only by sleeping. If it
//! saw the stripe before the place was given back, the flag was set before that, the writer sees it,
//! and its call comes after the pair sleeps. A writer that has to wait is counted under the lock, and
//! the next pair waits until those who waited for the last one are in: neither can be kept out by
//! many of the other kind.
//!
//! A writer that waits must hold no place, and nothing that a writer with a place needs to finish. So
//! only those wait that run on a thread of their own and take their place there ([`Exclusion::wait`]);
//! an event loop asks ([`Exclusion::enter`]) and leaves the write to such a thread if it is refused.

use std::mem;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::Namespace;

/// How many lines writers are spread over: as many cores as there mostly are.
const STRIPES: usize = 16;

/// Keeps writers of a namespace from those who have to be alone.
#[derive(Debug, Default)]
pub(crate) struct Exclusion {
    stripes: [Stripe; STRIPES],
    /// Somebody is alone, or waits for it. Written under the lock.
    closed: AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
}

/// How many writers there are: a part of them, on a line of its own (two are fetched together).
#[derive(Debug, Default)]
#[repr(align(128))]
struct Stripe(AtomicU32);

#[derive(Debug, Default)]
struct State {
    closed: bool,
    /// Writers that wait.
    waiting: usize,
}

/// The right to write, until it is dropped.
#[derive(Debug)]
#[must_use]
pub(crate) struct Place<'a> {
    exclusion: &'a Exclusion,
    stripe: usize,
}

/// A [`Place`] that lasts longer than the namespace is borrowed.
#[derive(Debug)]
pub(crate) struct KeptPlace {
    ns: Arc<Namespace>,
    stripe: usize,
}

/// Nobody writes until it is dropped.
#[derive(Debug)]
#[must_use]
pub(crate) struct Alone<'a>(&'a Exclusion);

impl Exclusion {
    /// Takes a place, unless somebody is alone.
    #[inline]
    pub(crate) fn enter(&self) -> Option<Place<'_>> {
        let stripe = own_stripe();
        self.stripes[stripe].0.fetch_add(1, Ordering::SeqCst);
        let place = Place { exclusion: self, stripe };
        // If it is closed, the place is given back by being dropped.
        (!self.closed.load(Ordering::SeqCst)).then_some(place)
    }

    /// Takes a place, and waits for it if it has to.
    pub(crate) fn wait(&self) -> Place<'_> {
        if let Some(place) = self.enter() {
            return place;
        }
        let mut state = self.state();
        state.waiting += 1;
        while state.closed {
            state = self.sleep(state);
        }
        state.waiting -= 1;
        // Nobody can close it before the lock is free, and who does then sees this.
        let stripe = own_stripe();
        self.stripes[stripe].0.fetch_add(1, Ordering::SeqCst);
        self.changed.notify_all();
        Place { exclusion: self, stripe }
    }

    /// Waits until nobody writes, and keeps it so.
    pub(crate) fn close(&self) -> Alone<'_> {
        let mut state = self.state();
        while state.closed || state.waiting > 0 {
            state = self.sleep(state);
        }
        state.closed = true;
        self.closed.store(true, Ordering::SeqCst);
        for stripe in &self.stripes {
            while stripe.0.load(Ordering::SeqCst) != 0 {
                state = self.sleep(state);
            }
        }
        Alone(self)
    }

    #[inline]
    fn leave(&self, stripe: usize) {
        self.stripes[stripe].0.fetch_sub(1, Ordering::SeqCst);
        if self.closed.load(Ordering::SeqCst) {
            self.wake();
        }
    }

    #[cold]
    fn wake(&self) {
        drop(self.state());
        self.changed.notify_all();
    }

    fn sleep<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place<'_> {
    /// The same, held by the namespace that it is of.
    pub(crate) fn keep(self, ns: &Arc<Namespace>) -> KeptPlace {
        debug_assert!(std::ptr::eq(self.exclusion, ns.exclusion()));
        let stripe = self.stripe;
        mem::forget(self);
        KeptPlace { ns: Arc::clone(ns), stripe }
    }
}

impl Drop for Place<'_> {
    #[inline]
    fn drop(&mut self) {
        self.exclusion.leave(self.stripe);
    }
}

impl Drop for KeptPlace {
    fn drop(&mut self) {
        self.ns.exclusion().leave(self.stripe);
    }
}

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.closed = false;
        self.0.closed.store(false, Ordering::SeqCst);
        drop(state);
        self.0.changed.notify_all();
    }
}

/// The stripe of this thread.
#[inline]
fn own_stripe() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static OWN: usize = NEXT.fetch_add(1, Ordering::Relaxed) % STRIPES;
    }
    OWN.with(|own| *own)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    #[test]
    fn writers_do_not_exclude_each_other() {
        let exclusion = Exclusion::default();
        let _one = exclusion.enter().unwrap();
        let _two = exclusion.enter().unwrap();
    }

    #[test]
    fn who_is_alone_keeps_writers_out_until_it_is_done() {
        let exclusion = Exclusion::default();
        let alone = exclusion.close();
        assert!(exclusion.enter().is_none());
        drop(alone);
        assert!(exclusion.enter().is_some());
        drop(exclusion.close());
    }

    #[test]
    fn to_be_alone_one_waits_for_those_who_write() {
        let exclusion = Exclusion::default();
        let place = exclusion.enter().unwrap();
        let (tell, told) = mpsc::channel();
        thread::scope(|scope| {
            scope.spawn(|| {
                let alone = exclusion.close();
                tell.send(()).unwrap();
                drop(alone);
            });
            assert!(told.recv_timeout(Duration::from_millis(50)).is_err());
            drop(place);
            told.recv_timeout(Duration::from_secs(20)).unwrap();
        });
    }

    #[test]
    fn a_place_that_is_kept_is_kept_until_it_is_dropped() {
        let spec = "null:1M".parse().unwrap();
        let subsystem = crate::testing::nqn(crate::testing::NQN);
        let ns = Namespace::open(1, &spec).unwrap().build(&subsystem).unwrap();
        let kept = ns.exclusion().enter().unwrap().keep(&ns);
        let (tell, told) = mpsc::channel();
        thread::scope(|scope| {
            scope.spawn(|| {
                drop(ns.exclusion().close());
                tell.send(()).unwrap();
            });
            assert!(told.recv_timeout(Duration::from_millis(50)).is_err());
            drop(kept);
            told.recv_timeout(Duration::from_secs(20)).unwrap();
        });
    }

    #[test]
    fn who_waited_for_one_pair_is_in_before_the_next() {
        let exclusion = Exclusion::default();
        let alone = exclusion.close();
        thread::scope(|scope| {
            let writer = scope.spawn(|| drop(exclusion.wait()));
            while exclusion.state().waiting == 0 {
                thread::yield_now();
            }
            drop(alone);
            drop(exclusion.close());
            assert!(writer.is_finished() || exclusion.state().waiting == 0);
        });
    }

    /// Pairs read, think and write; writers that enter add in one step. If any two met that must
    /// not, an increment would be lost.
    #[test]
    fn no_increment_is_lost_between_pairs_and_writers() {
        const PAIRS: u64 = 3000;
        const WRITES: u64 = 30_000;
        let (exclusion, value) = (Exclusion::default(), AtomicU64::new(0));
        let inside = AtomicU64::new(0);
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..PAIRS {
                        let _alone = exclusion.close();
                        assert_eq!(inside.load(Ordering::Relaxed), 0);
                        let seen = value.load(Ordering::Relaxed);
                        thread::yield_now();
                        value.store(seen + 1, Ordering::Relaxed);
                    }
                });
                scope.spawn(|| {
                    for turn in 0..WRITES {
                        let place = match exclusion.enter() {
                            Some(place) => place,
                            None => exclusion.wait(),
                        };
                        inside.fetch_add(1, Ordering::Relaxed);
                        if turn % 64 == 0 {
                            thread::yield_now();
                        }
                        value.fetch_add(1, Ordering::Relaxed);
                        inside.fetch_sub(1, Ordering::Relaxed);
                        drop(place);
                    }
                });
            }
        });
        assert_eq!(value.into_inner(), 2 * PAIRS + 2 * WRITES);
    }
}

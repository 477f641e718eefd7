//! How long to look for work before sleeping.

use std::time::{Duration, Instant};

use crate::engine::Wait;

/// Decides, between the turns of an engine, whether to look again or to sleep.
///
/// After activity it looks again for a bounded time: what a peer answers at once is found without
/// the price of a wake-up. Where that mostly did not pay lately, because the next work came later than
/// that, it sleeps right away, and tries again now and then. Where a peer [owes](Pace::expect)
/// something, it looks longer.
///
/// ```no_run
/// # fn f<E: nvmf_engine::Engine, H: nvmf_engine::Handler<E>>(mut engine: E, mut handler: H) {
/// let mut pace = nvmf_engine::Pace::default();
/// let mut wait = nvmf_engine::Wait::No;
/// while let Ok(busy) = engine.turn(&mut handler, wait) {
///     wait = pace.next(busy, None);
/// }
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Pace {
    limit: Duration,
    /// When the looking began.
    since: Option<Instant>,
    asleep: bool,
    /// A peer owes something.
    expecting: bool,
    /// How well looking paid lately: above 0 it is worth it.
    score: i32,
    /// Sleeps since the last spin.
    skipped: u32,
    /// After how many of them it looks again.
    retry: u32,
}

impl Default for Pace {
    /// Looks for 30 µs: longer than a peer on the same machine, or in the next rack, takes for its
    /// next command when it waits for one at a time.
    fn default() -> Self {
        Self::new(Duration::from_micros(30))
    }
}

impl Pace {
    /// The best score: it bounds how long it takes to notice that looking does not pay any more.
    const BEST: i32 = 8;
    /// What a spin in vain costs of the score, where one that paid gains 1: looking has to pay four
    /// times out of five, since a spin in vain takes more CPU time than a wake-up.
    const WASTE: i32 = 4;
    /// Where it does not pay, it looks again after it has gone without so often: soon at first,
    /// since a peer that had to wait for its core, or this thread for its own, says nothing of what
    /// comes next; rarely where that was in vain again and again.
    const RETRY: u32 = 4;
    const RETRY_MOST: u32 = 256;
    /// So many times as long it looks for what a peer owes. What that is has left a queue on the
    /// other side; whoever fills the socket pays for the wake-up of who sleeps at its end.
    const OWED: u32 = 4;

    /// Looks for `limit` after activity; not at all where that is zero, and without an end, using
    /// all of a core, where it is [`Duration::MAX`].
    pub fn new(limit: Duration) -> Self {
        Self {
            limit,
            since: None,
            asleep: false,
            expecting: false,
            score: Self::BEST,
            skipped: 0,
            retry: Self::RETRY,
        }
    }

    /// Says whether a peer owes something that it sends without being asked again, such as data that
    /// it was told to send.
    pub fn expect(&mut self, owed: bool) {
        self.expecting = owed;
    }

    /// What the next turn is to do: `busy` is what the last one returned, `deadline` when there is
    /// something to do in any case.
    pub fn next(&mut self, busy: bool, deadline: Option<Instant>) -> Wait {
        if busy && self.worked() {
            return Wait::No;
        }
        self.idle(Instant::now(), deadline)
    }

    /// Something was done; whether to look for more in any case. Where looking does not pay, a
    /// sleep, which ends at once if there is more, is all that is asked for.
    fn worked(&mut self) -> bool {
        if !self.asleep && self.since.is_some() {
            self.score = (self.score + 1).clamp(1, Self::BEST);
            if self.score == Self::BEST {
                self.retry = Self::RETRY;
            }
        }
        (self.since, self.asleep) = (None, false);
        self.score > 0 && !self.limit.is_zero()
    }

    fn idle(&mut self, now: Instant, deadline: Option<Instant>) -> Wait {
        let due = deadline.is_some_and(|deadline| now >= deadline);
        let Some(since) = self.since else {
            self.since = Some(now);
            self.asleep = !self.spins();
            return if self.asleep { Wait::Until(deadline) } else { Wait::No };
        };
        let times = if self.expecting { Self::OWED } else { 1 };
        if !self.asleep && now.duration_since(since) < self.limit.saturating_mul(times) {
            return if due { Wait::Until(deadline) } else { Wait::No };
        }
        if !self.asleep {
            if self.score == 0 {
                self.retry = (self.retry * 2).min(Self::RETRY_MOST);
            }
            self.score = (self.score - Self::WASTE).max(0);
        }
        self.asleep = true;
        Wait::Until(deadline)
    }

    fn spins(&mut self) -> bool {
        if self.limit.is_zero() {
            return false;
        }
        if self.score > 0 {
            return true;
        }
        self.skipped += 1;
        if self.skipped < self.retry {
            return false;
        }
        self.skipped = 0;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLEEP: Wait = Wait::Until(None);

    fn after(start: Instant, us: u64) -> Instant {
        start + Duration::from_micros(us)
    }

    /// Work came `gap` after the last: how long was spun for it.
    fn round(pace: &mut Pace, start: Instant, gap: u64) -> u64 {
        if !pace.worked() && pace.idle(start, None) == SLEEP {
            return 0;
        }
        for us in 0..gap {
            if pace.idle(after(start, us), None) == SLEEP {
                return us;
            }
        }
        gap
    }

    #[test]
    fn it_looks_for_a_while_after_activity_and_then_sleeps() {
        let start = Instant::now();
        let mut pace = Pace::new(Duration::from_micros(30));
        assert_eq!(round(&mut pace, start, 1000), 30);
        assert_eq!(pace.idle(after(start, 2000), None), SLEEP, "until something happens");
    }

    #[test]
    fn it_looks_longer_for_what_is_owed() {
        let start = Instant::now();
        let mut pace = Pace::new(Duration::from_micros(30));
        pace.expect(true);
        assert!((0..100).all(|_| round(&mut pace, start, 100) == 100));
        assert_eq!(round(&mut pace, start, 1000), 120);
        pace.expect(false);
        assert_eq!(round(&mut pace, start, 100), 30);
    }

    #[test]
    fn where_work_comes_soon_it_never_sleeps() {
        let start = Instant::now();
        let mut pace = Pace::new(Duration::from_micros(30));
        assert!((0..1000).all(|_| round(&mut pace, start, 20) == 20));
    }

    #[test]
    fn where_looking_does_not_pay_it_is_rare() {
        let start = Instant::now();
        let mut pace = Pace::new(Duration::from_micros(30));
        let spun: u64 = (0..1000).map(|_| round(&mut pace, start, 50)).sum();
        assert!(spun < 1000, "{spun} µs of 50000");
    }

    #[test]
    fn where_looking_pays_every_other_time_only_it_is_rare() {
        let start = Instant::now();
        let mut pace = Pace::new(Duration::from_micros(30));
        let gaps = [20, 50, 80].into_iter().cycle().take(3000);
        let spun: u64 = gaps.map(|gap| round(&mut pace, start, gap)).sum();
        assert!(spun < 3000, "{spun} µs of 150000");
    }

    #[test]
    fn it_finds_out_that_looking_pays_again() {
        let start = Instant::now();
        let mut pace = Pace::new(Duration::from_micros(30));
        (0..1000).for_each(|_| {
            round(&mut pace, start, 50);
        });
        (0..Pace::RETRY_MOST).for_each(|_| {
            round(&mut pace, start, 20);
        });
        assert!((0..1000).all(|_| round(&mut pace, start, 20) == 20));
    }

    #[test]
    fn a_peer_that_was_away_for_once_does_not_count_for_long() {
        let start = Instant::now();
        let mut pace = Pace::new(Duration::from_micros(30));
        for _ in 0..100 {
            (0..100).for_each(|_| {
                round(&mut pace, start, 20);
            });
            (0..3).for_each(|_| {
                round(&mut pace, start, 1000);
            });
            let missed = (0..100).filter(|_| round(&mut pace, start, 20) != 20).count();
            assert!(missed <= 10, "{missed} of 100");
        }
    }

    #[test]
    fn the_limits_are_no_looking_and_no_sleeping() {
        let start = Instant::now();
        assert_eq!(round(&mut Pace::new(Duration::ZERO), start, 100), 0);
        assert_eq!(round(&mut Pace::new(Duration::MAX), start, 100_000), 100_000);
    }
}

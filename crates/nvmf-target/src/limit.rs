//! How much hosts may ask of a namespace in a second.
//!
//! A limit is a bucket of time: what is admitted is paid for by the time that the limit gives it, one
//! after the other, and a command is admitted while what is still to be paid for is no more than
//! [`BURST`]. So it does not matter how large a command is: it may leave a debt, which those that
//! come next wait for, and large commands wait no longer than small ones. Over any time `t` that is
//! at most `limit · (t + BURST)` and one command more.
//!
//! Who comes first when there is room again is decided by the callers.

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// What was not used lately may be used at once: as much as a limit gives in this time.
pub(crate) const BURST: Duration = Duration::from_millis(100);

/// What hosts together may ask of a namespace in a second; nothing is limited that is `None`.
///
/// A read is limited by those of reads and by those of all, a write likewise. A command that is over
/// a limit waits; those behind it that go the same way on the same queue wait with it, all others
/// pass. What was not used in the last tenth of a second may be used at once.
///
/// ```
/// use std::num::NonZeroU64;
/// use nvmf_target::Limits;
/// let limits = Limits { write_iops: NonZeroU64::new(500), ..Limits::default() };
/// assert!(limits.bandwidth.is_none());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Limits {
    /// Commands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iops: Option<NonZeroU64>,
    /// Commands that read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_iops: Option<NonZeroU64>,
    /// Commands that write.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write_iops: Option<NonZeroU64>,
    /// Bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<NonZeroU64>,
    /// Bytes that are read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_bandwidth: Option<NonZeroU64>,
    /// Bytes that are written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write_bandwidth: Option<NonZeroU64>,
}

/// Which way a command's data goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Direction {
    /// From the namespace.
    Read,
    /// To the namespace.
    Write,
}

/// Keeps [`Limits`], for any number of threads. Nobody waits in it.
#[derive(Debug)]
pub(crate) struct Limiter {
    /// Whether there is any limit.
    limited: AtomicBool,
    /// Times are counted from here.
    begin: Instant,
    all: Buckets,
    read: Buckets,
    write: Buckets,
    /// What is set; held while it is.
    limits: Mutex<Limits>,
}

#[derive(Debug, Default)]
struct Buckets {
    commands: Bucket,
    bytes: Bucket,
}

#[derive(Debug, Default)]
struct Bucket {
    /// Units in a second; 0: as many as there are.
    rate: AtomicU64,
    /// The [`Ticks`] at which all that was admitted is paid for.
    paid: AtomicU64,
}

/// Parts of a nanosecond since the limiter began, so fine that what a byte costs at 100 GB/s is not
/// rounded to nothing; 18 years of them can be counted.
type Ticks = u64;

const TICKS_PER_NANOSECOND: u64 = 32;
const TICKS_PER_SECOND: u64 = 1_000_000_000 * TICKS_PER_NANOSECOND;
const BURST_TICKS: Ticks = TICKS_PER_SECOND / 1000 * 100;
const _: () = assert!(BURST.as_millis() == 100);

impl Limiter {
    /// Without limits. No time that it is given later may be before `now`.
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            limited: AtomicBool::new(false),
            begin: now,
            all: Buckets::default(),
            read: Buckets::default(),
            write: Buckets::default(),
            limits: Mutex::default(),
        }
    }

    /// Whether there is any limit.
    #[inline]
    pub(crate) fn is_limited(&self) -> bool {
        self.limited.load(Ordering::Relaxed)
    }

    /// What is set.
    pub(crate) fn limits(&self) -> Limits {
        *self.limits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets limits, from `now` on. One that stays as it was goes on as if nothing had been set; one
    /// that changes forgives its debts, as they may be for times that make no sense any more. Who
    /// was told to come again later should ask again at once.
    pub(crate) fn set(&self, limits: Limits, now: Instant) {
        let mut set = self.limits.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.ticks(now);
        for (bucket, rate) in [
            (&self.all.commands, limits.iops),
            (&self.read.commands, limits.read_iops),
            (&self.write.commands, limits.write_iops),
            (&self.all.bytes, limits.bandwidth),
            (&self.read.bytes, limits.read_bandwidth),
            (&self.write.bytes, limits.write_bandwidth),
        ] {
            bucket.set(rate.map_or(0, NonZeroU64::get), now);
        }
        self.limited.store(limits != Limits::default(), Ordering::Relaxed);
        *set = limits;
    }

    /// Admits a command that moves this many bytes, and counts it; else says when to ask again, which
    /// is after `now`, and counts nothing.
    ///
    /// A command that moves nothing is one command all the same.
    pub(crate) fn admit(
        &self,
        direction: Direction,
        bytes: u64,
        now: Instant,
    ) -> Result<(), Instant> {
        if !self.is_limited() {
            return Ok(());
        }
        let own = match direction {
            Direction::Read => &self.read,
            Direction::Write => &self.write,
        };
        let claims = [
            (&self.all.commands, 1),
            (&own.commands, 1),
            (&self.all.bytes, bytes),
            (&own.bytes, bytes),
        ];
        self.take(claims, self.ticks(now)).map_err(|ready| self.instant(ready, now))
    }

    /// Takes from all buckets or from none; the error is when all will have room.
    fn take(&self, claims: [(&Bucket, u64); 4], now: Ticks) -> Result<(), Ticks> {
        let wanted = || claims.iter().filter(|(_, units)| *units > 0);
        let ready = || wanted().map(|(bucket, _)| bucket.ready()).max().unwrap_or(0);
        if ready() > now {
            return Err(ready().max(now.saturating_add(1)));
        }
        let mut costs = [0; 4];
        for (at, (bucket, units)) in claims.iter().enumerate().filter(|(_, claim)| claim.1 > 0) {
            match bucket.take(*units, now) {
                Ok(cost) => costs[at] = cost,
                Err(ready) => {
                    // Another thread was faster at this one.
                    let taken = claims.iter().zip(costs).take(at);
                    taken.for_each(|((bucket, _), cost)| bucket.give_back(cost));
                    return Err(ready);
                }
            }
        }
        Ok(())
    }

    fn ticks(&self, at: Instant) -> Ticks {
        let since = at.saturating_duration_since(self.begin).as_nanos();
        u64::try_from(since).unwrap_or(u64::MAX).saturating_mul(TICKS_PER_NANOSECOND)
    }

    /// The first instant that is not before `at`.
    fn instant(&self, at: Ticks, now: Instant) -> Instant {
        let since = Duration::from_nanos(at.div_ceil(TICKS_PER_NANOSECOND));
        self.begin.checked_add(since).unwrap_or(now + BURST)
    }
}

impl Bucket {
    fn set(&self, rate: u64, now: Ticks) {
        if self.rate.swap(rate, Ordering::Relaxed) == rate {
            return;
        }
        // Release: who takes after this finds the new rate.
        self.change(|paid| Some(paid.min(now.saturating_add(BURST_TICKS)))).ok();
    }

    /// When there is room, unless others take it.
    fn ready(&self) -> Ticks {
        match self.rate.load(Ordering::Relaxed) {
            0 => 0,
            _ => self.paid.load(Ordering::Relaxed).saturating_sub(BURST_TICKS),
        }
    }

    /// Takes some units if there is room; returns what they cost. The error is when there will be.
    fn take(&self, units: u64, now: Ticks) -> Result<Ticks, Ticks> {
        let rate = self.rate.load(Ordering::Relaxed);
        if rate == 0 {
            return Ok(0);
        }
        let cost = cost(units, rate);
        self.change(|paid| {
            let room = paid.saturating_sub(BURST_TICKS) <= now;
            room.then(|| paid.max(now).saturating_add(cost))
        })
        .map_err(|paid| paid.saturating_sub(BURST_TICKS))?;
        if self.rate.load(Ordering::Relaxed) != rate {
            // It was set meanwhile, and a debt at the old rate is for no sensible time.
            self.give_back(cost);
            return Ok(0);
        }
        Ok(cost)
    }

    fn give_back(&self, cost: Ticks) {
        self.change(|paid| Some(paid.saturating_sub(cost))).ok();
    }

    fn change(&self, to: impl Fn(Ticks) -> Option<Ticks>) -> Result<Ticks, Ticks> {
        self.paid.fetch_update(Ordering::AcqRel, Ordering::Relaxed, to)
    }
}

/// The time that a rate takes for some units, to the nearest tick.
fn cost(units: u64, rate: u64) -> Ticks {
    let (rate, ticks) = (u128::from(rate), u128::from(units) * u128::from(TICKS_PER_SECOND));
    u64::try_from((ticks + rate / 2) / rate.max(1)).unwrap_or(u64::MAX).max(1)
}

#[cfg(test)]
mod tests;

//! How long commands took.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Buckets of a [`Histogram`].
pub const BUCKETS: usize = 26;

/// How many commands took how long.
///
/// Bucket `i` has those that took at most 2^i µs and longer than the one before allows, up to 2^24 µs
/// (about 16.8 s); the last has all that took longer.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Histogram {
    /// Commands in each bucket, not cumulated.
    pub buckets: [u64; BUCKETS],
    /// Nanoseconds that all of them took together; stops at its greatest value.
    pub nanos: u64,
}

impl Histogram {
    /// How many commands there are.
    pub fn count(&self) -> u64 {
        self.buckets.iter().fold(0, |sum, n| sum.saturating_add(*n))
    }

    /// The longest time of a bucket, in seconds; infinity for the last one and those that are not.
    pub fn bound(bucket: usize) -> f64 {
        match u32::try_from(bucket) {
            Ok(bits) if bucket < BUCKETS - 1 => f64::from(1u32 << bits) / 1e6,
            _ => f64::INFINITY,
        }
    }

    /// Seconds that all commands took together.
    pub fn seconds(&self) -> f64 {
        Duration::from_nanos(self.nanos).as_secs_f64()
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (sum, n) in self.buckets.iter_mut().zip(other.buckets) {
            *sum = sum.saturating_add(n);
        }
        self.nanos = self.nanos.saturating_add(other.nanos);
    }
}

/// A histogram that counts.
#[derive(Debug, Default)]
pub(super) struct Clock {
    buckets: [AtomicU64; BUCKETS],
    nanos: AtomicU64,
}

impl Clock {
    pub(super) fn note(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.buckets[bucket_of(nanos)].fetch_add(1, Relaxed);
        self.nanos.fetch_add(nanos, Relaxed);
    }

    pub(super) fn read(&self) -> Histogram {
        let mut read = Histogram { nanos: self.nanos.load(Relaxed), ..Histogram::default() };
        for (to, from) in read.buckets.iter_mut().zip(&self.buckets) {
            *to = from.load(Relaxed);
        }
        read
    }
}

fn bucket_of(nanos: u64) -> usize {
    let micros = nanos.div_ceil(1000);
    // The bits of what is one less are how often it has to be halved: 2^i µs is in bucket i.
    let bits = u64::BITS - micros.saturating_sub(1).leading_zeros();
    (bits as usize).min(BUCKETS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_fall_into_the_bucket_whose_bound_is_the_next_that_they_do_not_exceed() {
        for (nanos, bucket) in [
            (0, 0),
            (999, 0),
            (1000, 0),
            (1001, 1),
            (2000, 1),
            (2001, 2),
            (4000, 2),
            (1_000_000, 10),
            (16_777_216_000, 24),
            (16_777_216_001, 25),
            (u64::MAX, 25),
        ] {
            assert_eq!(bucket_of(nanos), bucket, "{nanos} ns");
        }
    }

    #[test]
    fn every_time_is_within_its_bucket() {
        for shift in 0..40 {
            for nanos in [(1u64 << shift) - 1, 1 << shift, (1 << shift) + 1] {
                let bucket = bucket_of(nanos);
                let seconds = Duration::from_nanos(nanos).as_secs_f64();
                assert!(seconds <= Histogram::bound(bucket), "{nanos} ns");
                assert!(bucket == 0 || seconds > Histogram::bound(bucket - 1), "{nanos} ns");
            }
        }
    }

    #[test]
    fn bounds_are_powers_of_two_of_a_microsecond() {
        assert_eq!(Histogram::bound(0), 1e-6);
        assert_eq!(Histogram::bound(10), 1.024e-3);
        assert_eq!(Histogram::bound(24), 16.777216);
        assert_eq!(Histogram::bound(25), f64::INFINITY);
        assert_eq!(Histogram::bound(usize::MAX), f64::INFINITY);
    }

    #[test]
    fn what_is_noted_is_read() {
        let clock = Clock::default();
        clock.note(Duration::from_micros(3));
        clock.note(Duration::from_secs(100));
        let mut read = clock.read();
        assert_eq!((read.count(), read.buckets[2], read.buckets[25]), (2, 1, 1));
        assert_eq!(read.nanos, 100_000_003_000);
        read.add(&read.clone());
        assert_eq!((read.count(), read.buckets[2]), (4, 2));
        assert!((read.seconds() - 200.000_006).abs() < 1e-9);
        clock.note(Duration::MAX);
        assert_eq!(clock.read().count(), 3);
    }
}

//! How long I/Os took.

use std::time::Duration;

use hdrhistogram::Histogram;

use crate::report::LatencyUs;

/// Latencies from 1 ns to a minute, to three digits; longer ones count as a minute.
#[derive(Clone, Debug)]
pub struct Latencies {
    nanoseconds: Histogram<u64>,
}

const MINUTE_NS: u64 = 60_000_000_000;

impl Latencies {
    /// None yet.
    ///
    /// # Errors
    ///
    /// None with these bounds; the histogram checks them all the same.
    pub fn new() -> Result<Self, hdrhistogram::CreationError> {
        Ok(Self { nanoseconds: Histogram::new_with_bounds(1, MINUTE_NS, 3)? })
    }

    /// Adds one.
    pub fn record(&mut self, latency: Duration) {
        let ns = u64::try_from(latency.as_nanos()).unwrap_or(MINUTE_NS);
        self.nanoseconds.saturating_record(ns);
    }

    /// Adds those of another.
    pub fn add(&mut self, other: &Self) {
        // Both have the same bounds, so nothing of the other's is out of range.
        let _ = self.nanoseconds.add(&other.nanoseconds);
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.nanoseconds.reset();
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.nanoseconds.len()
    }

    /// Mean, extremes and percentiles; zeroes if there are none.
    pub fn summary(&self) -> LatencyUs {
        let at = |quantile| us(self.nanoseconds.value_at_quantile(quantile));
        LatencyUs {
            mean: self.nanoseconds.mean() / 1e3,
            min: us(self.nanoseconds.min()),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p99_9: at(0.999),
            p99_99: at(0.9999),
            max: us(self.nanoseconds.max()),
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "a minute in nanoseconds has 36 bits")]
fn us(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_in_microseconds() {
        let mut latencies = Latencies::new().unwrap();
        for n in 1..=100 {
            latencies.record(Duration::from_micros(n));
        }
        let summary = latencies.summary();
        assert_eq!(latencies.count(), 100);
        let near = |value: f64, expected: f64| (value / expected - 1.0).abs() < 0.002;
        assert!(near(summary.mean, 50.5), "{summary:?}");
        assert!(near(summary.p50, 50.0) && near(summary.p99, 99.0), "{summary:?}");
        assert!(near(summary.min, 1.0) && near(summary.max, 100.0), "{summary:?}");
    }

    #[test]
    fn no_latency_is_too_long_and_none_at_all_is_zero() {
        let mut latencies = Latencies::new().unwrap();
        assert_eq!(latencies.summary(), LatencyUs::default());
        latencies.record(Duration::from_secs(3600));
        assert_eq!(latencies.count(), 1);
    }
}

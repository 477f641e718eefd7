//! Counting commands and their latencies.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context;
use hdrhistogram::Histogram;

use super::pattern::Mismatch;

/// Commands of one kind and how long each took, in nanoseconds.
#[derive(Clone, Debug)]
pub(crate) struct Latency(Histogram<u64>);

impl Latency {
    /// The longest that is told from longer ones.
    const LONGEST: Duration = Duration::from_secs(3600);

    pub(crate) fn new() -> anyhow::Result<Self> {
        let longest = u64::try_from(Self::LONGEST.as_nanos()).unwrap_or(u64::MAX);
        // Three digits: what is told is off by a thousandth at most.
        Histogram::new_with_bounds(1, longest, 3).map(Self).context("cannot count latencies")
    }

    pub(crate) fn record(&mut self, nanoseconds: u64) {
        self.0.saturating_record(nanoseconds);
    }

    pub(crate) fn add(&mut self, other: &Self) {
        // It cannot fail: all have the same bounds.
        let _ = self.0.add(&other.0);
    }

    pub(crate) fn clear(&mut self) {
        self.0.reset();
    }

    pub(crate) fn count(&self) -> u64 {
        self.0.len()
    }

    #[allow(clippy::cast_precision_loss, reason = "three digits are kept")]
    fn microseconds(nanoseconds: u64) -> f64 {
        nanoseconds as f64 / 1000.0
    }

    pub(crate) fn mean(&self) -> f64 {
        self.0.mean() / 1000.0
    }

    pub(crate) fn min(&self) -> f64 {
        Self::microseconds(self.0.min())
    }

    pub(crate) fn max(&self) -> f64 {
        Self::microseconds(self.0.max())
    }

    /// What so many percent of the commands did not take longer than, in microseconds.
    pub(crate) fn percentile(&self, percent: f64) -> f64 {
        Self::microseconds(self.0.value_at_quantile(percent / 100.0))
    }
}

/// What was done in a while.
#[derive(Clone, Debug)]
pub(crate) struct Tally {
    pub reads: Latency,
    pub writes: Latency,
}

impl Tally {
    pub(crate) fn new() -> anyhow::Result<Self> {
        Ok(Self { reads: Latency::new()?, writes: Latency::new()? })
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.reads.add(&other.reads);
        self.writes.add(&other.writes);
    }

    pub(crate) fn clear(&mut self) {
        self.reads.clear();
        self.writes.clear();
    }

    pub(crate) fn total(&self) -> Latency {
        let mut total = self.reads.clone();
        total.add(&self.writes);
        total
    }
}

/// What went wrong without ending the benchmark.
#[derive(Clone, Debug, Default)]
pub(crate) struct Troubles {
    /// Commands that failed, by what the controller said.
    pub errors: BTreeMap<String, u64>,
    pub mismatches: u64,
    /// The first of them.
    pub examples: Vec<Mismatch>,
    /// Commands under way when a connection ended.
    pub lost: u64,
}

impl Troubles {
    /// Mismatches that are shown.
    const EXAMPLES: usize = 10;

    pub(crate) fn error(&mut self, what: String) {
        *self.errors.entry(what).or_default() += 1;
    }

    pub(crate) fn mismatch(&mut self, mismatch: Mismatch) {
        tracing::info!(%mismatch, "not what was written");
        self.mismatches += 1;
        if self.examples.len() < Self::EXAMPLES {
            self.examples.push(mismatch);
        }
    }

    pub(crate) fn errors(&self) -> u64 {
        self.errors.values().sum()
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (what, count) in &other.errors {
            *self.errors.entry(what.clone()).or_default() += count;
        }
        self.mismatches += other.mismatches;
        self.lost += other.lost;
        let room = Self::EXAMPLES.saturating_sub(self.examples.len());
        self.examples.extend(other.examples.iter().take(room));
    }
}

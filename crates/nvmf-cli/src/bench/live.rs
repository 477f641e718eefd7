//! How it goes, on a terminal.

use super::plan::Plan;
use super::tally::Tally;

/// What was done in the last second.
#[allow(clippy::cast_precision_loss, reason = "for a look")]
pub(crate) fn describe(plan: &Plan, tally: &Tally) -> String {
    let total = tally.total();
    let megabytes = total.count() as f64 * plan.bytes as f64 / 1e6;
    if total.count() == 0 {
        return "…".to_owned();
    }
    format!(
        "{} IOPS, {megabytes:.1} MB/s, p50 {:.1} µs, p99 {:.1} µs",
        total.count(),
        total.percentile(50.0),
        total.percentile(99.0)
    )
}

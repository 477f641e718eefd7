//! How it goes, on a terminal.

use std::io::{self, IsTerminal};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::plan::Plan;
use super::tally::Tally;

/// A line that is drawn again once a second; nothing where standard error is no terminal.
#[derive(Debug)]
pub(crate) struct Line(Option<ProgressBar>);

impl Line {
    pub(crate) fn new() -> Self {
        if !io::stderr().is_terminal() {
            return Self(None);
        }
        let style = ProgressStyle::with_template("{msg}")
            .unwrap_or_else(|_| ProgressStyle::default_spinner());
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        Self(Some(bar.with_style(style)))
    }

    /// Whether there is one to be drawn.
    pub(crate) fn is_seen(&self) -> bool {
        self.0.is_some()
    }

    pub(crate) fn say(&self, text: impl Into<String>) {
        if let Some(bar) = &self.0 {
            bar.set_message(text.into());
            bar.tick();
        }
    }

    pub(crate) fn clear(&self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

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

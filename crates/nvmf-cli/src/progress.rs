//! How it goes: how far a transfer is, and how fast it was.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A progress bar on a terminal, and one line at the end.
pub(crate) struct Progress {
    bar: ProgressBar,
    started: Instant,
}

impl Progress {
    /// `total` bytes are to be moved, if that is known.
    pub(crate) fn new(total: Option<u64>) -> Self {
        let target = if io::stderr().is_terminal() {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let template = match total {
            Some(_) => "{wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}",
            None => "{spinner} {bytes} {bytes_per_sec}",
        };
        let style =
            ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::with_draw_target(total, target).with_style(style);
        Self { bar, started: Instant::now() }
    }

    /// So many of `total` bytes are there already.
    pub(crate) fn going_on(done: u64, total: u64) -> Self {
        let progress = Self::new(Some(total));
        progress.bar.set_position(done);
        // What was there before says nothing of how fast it goes now.
        progress.bar.reset_eta();
        progress
    }

    /// So many bytes were moved so far.
    pub(crate) fn set(&self, bytes: u64) {
        self.bar.set_position(bytes);
    }

    /// Says on standard error what was moved, and how fast.
    pub(crate) fn finish(&self, verb: &str, bytes: u64) {
        self.bar.finish_and_clear();
        summarize(verb, bytes, self.started.elapsed(), "");
    }

    /// Takes the bar away before an error is reported.
    pub(crate) fn abandon(&self) {
        self.bar.finish_and_clear();
    }
}

/// Says on standard error what was moved, how fast, and what more there is to say of it.
pub(crate) fn summarize(verb: &str, bytes: u64, time: Duration, more: &str) {
    let said = summary(verb, bytes, time.as_secs_f64());
    // Where standard error cannot be written, the transfer is no worse for it.
    let _ = writeln!(io::stderr(), "{said}{more}");
}

/// A line that is drawn anew each time that it says something; nothing where standard error is no
/// terminal.
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

const MIB: f64 = 1_048_576.0;

#[allow(clippy::cast_precision_loss, reason = "a rate is shown with one digit after the point")]
fn summary(verb: &str, bytes: u64, seconds: f64) -> String {
    let mib = bytes as f64 / MIB;
    let rate = if seconds > 0.0 { mib / seconds } else { 0.0 };
    format!("{verb} {bytes} bytes ({mib:.1} MiB) in {seconds:.2} s, {rate:.1} MiB/s")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_has_bytes_seconds_and_rate() {
        assert_eq!(
            summary("read", 3 << 20, 1.5),
            "read 3145728 bytes (3.0 MiB) in 1.50 s, 2.0 MiB/s"
        );
        assert_eq!(summary("read", 0, 0.0), "read 0 bytes (0.0 MiB) in 0.00 s, 0.0 MiB/s");
    }
}

//! The longest latency of each tenth of a second, in a file: how long what happened to paths was felt.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context;

/// What is to be written when all is done.
#[derive(Clone, Debug)]
pub(crate) struct LatencyLog(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    file: File,
    windows: Mutex<BTreeMap<u64, Window>>,
}

/// A tenth of a second.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Window {
    commands: u64,
    /// Nanoseconds.
    longest: u64,
}

const MILLISECONDS: u64 = 100;

impl LatencyLog {
    pub(crate) fn create(path: &Path) -> anyhow::Result<Self> {
        let file = File::create(path)
            .with_context(|| format!("cannot write the latency log to {}", path.display()))?;
        let windows = Mutex::default();
        Ok(Self(Arc::new(Inner { path: path.to_owned(), file, windows })))
    }

    /// For one thread.
    pub(crate) fn part(&self) -> Part {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let base = u64::try_from(unix.as_millis()).unwrap_or(0);
        Part { log: self.clone(), base: (Instant::now(), base), at: 0, window: Window::default() }
    }

    /// Writes it.
    pub(crate) fn finish(self) -> anyhow::Result<()> {
        let Inner { path, file, windows } = &*self.0;
        let windows = windows.lock().unwrap_or_else(PoisonError::into_inner);
        let mut out = BufWriter::new(file);
        let mut write = || {
            for (at, Window { commands, longest }) in &*windows {
                writeln!(out, "{} {commands} {}", at * MILLISECONDS, longest / 1000)?;
            }
            out.flush()
        };
        write().with_context(|| format!("cannot write the latency log to {}", path.display()))
    }
}

/// One thread's.
#[derive(Debug)]
pub(crate) struct Part {
    log: LatencyLog,
    /// An instant, and what time it was in milliseconds.
    base: (Instant, u64),
    at: u64,
    window: Window,
}

impl Part {
    /// A command was seen to be complete at `now`, after so many nanoseconds.
    pub(crate) fn note(&mut self, now: Instant, latency: u64) {
        let since = now.saturating_duration_since(self.base.0).as_millis();
        let at = (self.base.1 + u64::try_from(since).unwrap_or(0)) / MILLISECONDS;
        if at != self.at {
            self.hand_over();
            self.at = at;
        }
        self.window.commands += 1;
        self.window.longest = self.window.longest.max(latency);
    }

    fn hand_over(&mut self) {
        let Window { commands, longest } = std::mem::take(&mut self.window);
        if commands > 0 {
            let mut windows = self.log.0.windows.lock().unwrap_or_else(PoisonError::into_inner);
            let window = windows.entry(self.at).or_default();
            window.commands += commands;
            window.longest = window.longest.max(longest);
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.hand_over();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn each_tenth_of_a_second_has_a_line() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let log = LatencyLog::create(&path).unwrap();
        let (mut one, mut other) = (log.part(), log.part());
        (one.base.1, other.base.1) = (5_000, 5_000);
        other.base.0 = one.base.0;
        let at = |ms| one.base.0 + Duration::from_millis(ms);
        let times = [at(0), at(99), at(100), at(250)];
        one.note(times[0], 7_000);
        one.note(times[1], 9_000);
        one.note(times[2], 1_000);
        other.note(times[1], 11_999);
        other.note(times[3], 1_000);
        drop((one, other));
        log.finish().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, "5000 3 11\n5100 1 1\n5200 1 1\n");
    }
}

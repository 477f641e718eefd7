//! Ending in order when somebody presses Ctrl-C.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::Context;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// What is added to a signal's number for the status of a program that it ended.
pub(crate) const KILLED_BY: i32 = 128;

/// Whether somebody pressed Ctrl-C.
pub(crate) struct Stop {
    asked: Arc<AtomicBool>,
    /// The signal's number; 0 before there was one.
    signal: Arc<AtomicUsize>,
}

impl Stop {
    /// The first signal is an order to end with what there is; the second one ends at once.
    pub(crate) fn on_signals() -> anyhow::Result<Self> {
        let asked = Arc::new(AtomicBool::new(false));
        let number = Arc::new(AtomicUsize::new(0));
        for signal in [SIGINT, SIGTERM] {
            let value = usize::try_from(signal)?;
            flag::register_conditional_shutdown(signal, KILLED_BY + signal, Arc::clone(&asked))
                .and_then(|_| flag::register_usize(signal, Arc::clone(&number), value))
                .and_then(|_| flag::register(signal, Arc::clone(&asked)))
                .context("cannot wait for signals")?;
        }
        Ok(Self { asked, signal: number })
    }

    pub(crate) fn is_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }

    /// True once it is asked for.
    pub(crate) fn flag(&self) -> &AtomicBool {
        &self.asked
    }

    /// The signal that asked for it.
    pub(crate) fn signal(&self) -> Option<i32> {
        i32::try_from(self.signal.load(Ordering::Relaxed)).ok().filter(|signal| *signal != 0)
    }
}

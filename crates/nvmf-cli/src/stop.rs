//! Being asked to end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// Whether somebody pressed Ctrl-C.
pub(crate) struct Stop(Arc<AtomicBool>);

impl Stop {
    /// The first signal asks to end with what there is; the second one ends at once.
    pub(crate) fn on_signals() -> anyhow::Result<Self> {
        const KILLED_BY: i32 = 128;
        let asked = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            flag::register_conditional_shutdown(signal, KILLED_BY + signal, Arc::clone(&asked))
                .and_then(|_| flag::register(signal, Arc::clone(&asked)))
                .context("cannot wait for signals")?;
        }
        Ok(Self(asked))
    }

    pub(crate) fn is_asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

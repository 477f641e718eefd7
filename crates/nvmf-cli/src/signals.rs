//! What ends a command that goes on until it is told to end.

use std::thread;

use anyhow::Context;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::stop::KILLED_BY;

/// Has `stop` called at the first SIGINT or SIGTERM, and ends the process at the second. If there is
/// something to be done at SIGHUP, that does not end it.
pub(crate) fn heed(
    stop: impl Fn() + Send + 'static,
    hang_up: Option<Box<dyn Fn() + Send>>,
) -> anyhow::Result<()> {
    let heeded = [SIGINT, SIGTERM].into_iter().chain(hang_up.is_some().then_some(SIGHUP));
    let mut signals = Signals::new(heeded).context("cannot wait for signals")?;
    thread::Builder::new()
        .name("nvmf-signals".to_owned())
        .spawn(move || {
            let mut stopping = false;
            for signal in signals.forever() {
                match &hang_up {
                    Some(hang_up) if signal == SIGHUP => hang_up(),
                    _ if stopping => std::process::exit(KILLED_BY + signal),
                    _ => {
                        tracing::info!(signal, "stopping");
                        stop();
                        stopping = true;
                    }
                }
            }
        })
        .context("cannot start a thread")?;
    Ok(())
}

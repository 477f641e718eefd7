//! What is due when, for the connections of a core.

use std::collections::BTreeSet;
use std::time::Instant;

use nvmf_engine::ConnId;

/// At most one point in time for each connection.
#[derive(Debug, Default)]
pub(super) struct Timers {
    set: BTreeSet<(Instant, ConnId)>,
}

/// A connection's own note of its timer.
#[derive(Debug, Default)]
pub(super) struct Timer(Option<Instant>);

impl Timers {
    /// Sets, moves or stops a connection's timer.
    pub(super) fn set(&mut self, conn: ConnId, timer: &mut Timer, at: Option<Instant>) {
        if timer.0 == at {
            return;
        }
        if let Some(old) = std::mem::replace(&mut timer.0, at) {
            self.set.remove(&(old, conn));
        }
        self.set.extend(at.map(|at| (at, conn)));
    }

    /// The earliest.
    pub(super) fn next(&self) -> Option<Instant> {
        self.set.first().map(|(at, _)| *at)
    }

    /// A connection whose timer has passed, as often as it has not set another.
    pub(super) fn due(&self, now: Instant) -> Vec<ConnId> {
        self.set.iter().take_while(|(at, _)| *at <= now).map(|(_, conn)| *conn).collect()
    }
}

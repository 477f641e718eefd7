//! What happens to connections, whatever they are connected to.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::SystemTime;

/// Counters that all connections of a target share: what they count is rare.
#[derive(Debug)]
pub(crate) struct Events {
    started: SystemTime,
    connections: AtomicU64,
    digest_errors: AtomicU64,
    violations: AtomicU64,
}

impl Default for Events {
    fn default() -> Self {
        Self {
            started: SystemTime::now(),
            connections: AtomicU64::default(),
            digest_errors: AtomicU64::default(),
            violations: AtomicU64::default(),
        }
    }
}

#[allow(dead_code, reason = "until the target's connections tell of them")]
impl Events {
    /// When the target was made.
    pub(crate) fn started(&self) -> SystemTime {
        self.started
    }

    /// A connection was taken.
    pub(crate) fn connected(&self) {
        self.connections.fetch_add(1, Relaxed);
    }

    /// A PDU's header or data had another digest than it said.
    pub(crate) fn digest_error(&self) {
        self.digest_errors.fetch_add(1, Relaxed);
    }

    /// A peer broke the protocol in another way.
    pub(crate) fn violated(&self) {
        self.violations.fetch_add(1, Relaxed);
    }

    pub(crate) fn connections(&self) -> u64 {
        self.connections.load(Relaxed)
    }

    pub(crate) fn digest_errors(&self) -> u64 {
        self.digest_errors.load(Relaxed)
    }

    pub(crate) fn violations(&self) -> u64 {
        self.violations.load(Relaxed)
    }
}

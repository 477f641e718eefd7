//! What happens to connections, whatever they are connected to.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::SystemTime;

use nvmf_proto::Violation;

/// Counters that all connections of a target share: what they count is rare.
#[derive(Debug)]
pub(crate) struct Events {
    started: SystemTime,
    digest_errors: AtomicU64,
    violations: AtomicU64,
}

impl Default for Events {
    fn default() -> Self {
        Self {
            started: SystemTime::now(),
            digest_errors: AtomicU64::default(),
            violations: AtomicU64::default(),
        }
    }
}

impl Events {
    /// When the target was made.
    pub(crate) fn started(&self) -> SystemTime {
        self.started
    }

    /// A peer broke the protocol.
    pub(crate) fn violated(&self, violation: &Violation) {
        let counter = match violation {
            Violation::HeaderDigest { .. } | Violation::DataDigest { .. } => &self.digest_errors,
            _ => &self.violations,
        };
        counter.fetch_add(1, Relaxed);
    }

    /// PDUs whose header or data digest was wrong.
    pub(crate) fn digest_errors(&self) -> u64 {
        self.digest_errors.load(Relaxed)
    }

    /// Other ways in which peers broke the protocol.
    pub(crate) fn violations(&self) -> u64 {
        self.violations.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_counted_apart_from_other_violations() {
        let events = Events::default();
        events.violated(&Violation::HeaderDigest { received: 1 });
        events.violated(&Violation::DataDigest { cid: 1 });
        events.violated(&Violation::PduType { kind: 9 });
        assert_eq!((events.digest_errors(), events.violations()), (2, 1));
    }
}

//! When a wait ends.

use std::time::{Duration, Instant};

/// The point in time at which a wait gives up.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct Deadline(Instant);

impl Deadline {
    /// This far from now. A duration too long for the clock is cut to a century.
    pub fn after(duration: Duration) -> Self {
        const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
        let now = Instant::now();
        Self(now.checked_add(duration.min(CENTURY)).unwrap_or(now))
    }

    /// At this instant.
    pub fn at(instant: Instant) -> Self {
        Self(instant)
    }

    /// The instant.
    pub fn instant(self) -> Instant {
        self.0
    }

    /// What is left, `None` once the deadline has passed.
    pub fn remaining(self) -> Option<Duration> {
        self.0.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
    }

    /// Whether it has passed.
    pub fn has_passed(self) -> bool {
        self.remaining().is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_passes_and_not_before() {
        let deadline = Deadline::after(Duration::from_millis(20));
        assert!(!deadline.has_passed());
        std::thread::sleep(Duration::from_millis(21));
        assert!(deadline.has_passed());
        assert_eq!(deadline.remaining(), None);
    }

    #[test]
    fn the_longest_duration_is_a_deadline_too() {
        assert!(!Deadline::after(Duration::MAX).has_passed());
    }
}

//! Keep Alive on both sides (Base 2.1, section 3.9).

use std::time::{Duration, Instant};

/// A controller's watch over its host.
#[derive(Clone, Debug)]
pub struct Watch {
    timeout: Option<Duration>,
    traffic_based: bool,
    deadline: Option<Instant>,
}

impl Watch {
    /// A watch with the KATO of an admin Connect, in milliseconds; 0 for none.
    ///
    /// The timeout is rounded up to `granularity` (KAS). With `traffic_based` (TBKAS), any
    /// command counts as a sign of life, else only Keep Alive.
    pub fn new(kato_ms: u32, granularity: Duration, traffic_based: bool, now: Instant) -> Self {
        let mut watch = Self { timeout: None, traffic_based, deadline: None };
        watch.set_timeout(kato_ms, granularity, now);
        watch
    }

    /// Changes the timeout (Set Features, Keep Alive Timer) and starts it anew.
    pub fn set_timeout(&mut self, kato_ms: u32, granularity: Duration, now: Instant) {
        let granularity_ms = granularity.as_millis().max(1);
        let rounded = u128::from(kato_ms).next_multiple_of(granularity_ms);
        let rounded = Duration::from_millis(u64::try_from(rounded).unwrap_or(u64::MAX));
        self.timeout = (kato_ms != 0).then_some(rounded);
        self.restart(now);
    }

    /// The timeout after rounding, if there is one.
    pub fn timeout(&self) -> Option<Duration> {
        self.timeout
    }

    /// A Keep Alive command came.
    pub fn keep_alive(&mut self, now: Instant) {
        self.restart(now);
    }

    /// Any other command came, on any queue of the controller.
    pub fn traffic(&mut self, now: Instant) {
        if self.traffic_based {
            self.restart(now);
        }
    }

    /// When the host is given up, if nothing is heard of it until then.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Whether the host is to be given up: the controller fails and every connection is closed.
    pub fn has_expired(&self, now: Instant) -> bool {
        self.deadline.is_some_and(|deadline| now >= deadline)
    }

    fn restart(&mut self, now: Instant) {
        self.deadline = self.timeout.and_then(|timeout| now.checked_add(timeout));
    }
}

/// A host's reminder to send Keep Alive in time.
#[derive(Clone, Debug)]
pub struct Reminder {
    interval: Option<Duration>,
    traffic_based: bool,
    due: Option<Instant>,
}

impl Reminder {
    /// A reminder for a controller that was given this KATO in milliseconds, 0 for none: due
    /// after half of it, so that one lost exchange is forgiven.
    pub fn new(kato_ms: u32, traffic_based: bool, now: Instant) -> Self {
        let interval = (kato_ms != 0).then(|| Duration::from_millis(u64::from(kato_ms / 2).max(1)));
        let mut reminder = Self { interval, traffic_based, due: None };
        reminder.restart(now);
        reminder
    }

    /// The controller counts any command as a sign of life (TBKAS), as Identify told.
    pub fn set_traffic_based(&mut self, traffic_based: bool) {
        self.traffic_based = traffic_based;
    }

    /// When the next Keep Alive is to be sent.
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Whether Keep Alive is to be sent now.
    pub fn is_due(&self, now: Instant) -> bool {
        self.due.is_some_and(|due| now >= due)
    }

    /// A Keep Alive was sent.
    pub fn sent(&mut self, now: Instant) {
        self.restart(now);
    }

    /// Any other command was sent on any queue of the association.
    pub fn traffic(&mut self, now: Instant) {
        if self.traffic_based {
            self.restart(now);
        }
    }

    fn restart(&mut self, now: Instant) {
        self.due = self.interval.and_then(|interval| now.checked_add(interval));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KAS: Duration = Duration::from_secs(1);

    fn after(start: Instant, ms: u64) -> Instant {
        start + Duration::from_millis(ms)
    }

    #[test]
    fn a_silent_host_is_given_up_after_the_rounded_timeout() {
        let t = Instant::now();
        let watch = Watch::new(1500, KAS, true, t);
        assert_eq!(watch.timeout(), Some(Duration::from_secs(2)));
        assert!(!watch.has_expired(after(t, 1999)));
        assert!(watch.has_expired(after(t, 2000)));
    }

    #[test]
    fn traffic_counts_only_where_it_was_promised() {
        let t = Instant::now();
        let mut with = Watch::new(1000, KAS, true, t);
        let mut without = Watch::new(1000, KAS, false, t);
        with.traffic(after(t, 900));
        without.traffic(after(t, 900));
        assert!(!with.has_expired(after(t, 1500)));
        assert!(without.has_expired(after(t, 1500)));
        without.keep_alive(after(t, 1500));
        assert!(!without.has_expired(after(t, 2400)));
    }

    #[test]
    fn without_a_timeout_nobody_is_given_up_or_reminded() {
        let t = Instant::now();
        assert_eq!(Watch::new(0, KAS, true, t).deadline(), None);
        assert_eq!(Reminder::new(0, true, t).due(), None);
    }

    #[test]
    fn the_longest_timeout_does_not_overflow() {
        let watch = Watch::new(u32::MAX, KAS, true, Instant::now());
        assert_eq!(watch.timeout(), Some(Duration::from_secs(4_294_968)));
    }

    #[test]
    fn keep_alive_is_due_at_half_the_timeout_and_again_after_that() {
        let t = Instant::now();
        let mut reminder = Reminder::new(1000, false, t);
        assert!(!reminder.is_due(after(t, 499)));
        assert!(reminder.is_due(after(t, 500)));
        reminder.sent(after(t, 500));
        reminder.traffic(after(t, 900));
        assert!(reminder.is_due(after(t, 1000)));
        reminder.set_traffic_based(true);
        reminder.traffic(after(t, 1000));
        assert!(!reminder.is_due(after(t, 1499)));
    }
}

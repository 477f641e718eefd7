//! How long to wait before the next try.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// Pauses that double up to a limit. Each is shortened by up to a quarter at random: when a target
/// comes back, its hosts do not all come at once.
#[derive(Debug)]
pub(crate) struct Backoff {
    most: Duration,
    next: Duration,
    random: RandomState,
    drawn: u64,
}

const FIRST: Duration = Duration::from_millis(50);

impl Backoff {
    pub(crate) fn new(most: Duration) -> Self {
        Self { most, next: FIRST.min(most), random: RandomState::new(), drawn: 0 }
    }

    /// The pause that comes next, as it is before it is shortened.
    pub(crate) fn peek(&self) -> Duration {
        self.next
    }

    /// A pause; the next one is longer.
    pub(crate) fn next(&mut self) -> Duration {
        self.drawn = self.drawn.wrapping_add(1);
        let quarter = self.next / 4;
        let part = u32::try_from(self.random.hash_one(self.drawn) % 1024).unwrap_or(0);
        let pause = self.next - quarter * part / 1024;
        self.next = self.next.saturating_mul(2).min(self.most);
        pause
    }

    /// The next pause is the first again.
    pub(crate) fn reset(&mut self) {
        self.next = FIRST.min(self.most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_limit_and_are_shortened_by_a_quarter_at_most() {
        let mut backoff = Backoff::new(Duration::from_millis(300));
        let whole: Vec<_> = (0..5)
            .map(|_| {
                let whole = backoff.peek();
                let pause = backoff.next();
                assert!(pause <= whole && pause >= whole * 3 / 4, "{pause:?} of {whole:?}");
                whole.as_millis()
            })
            .collect();
        assert_eq!(whole, [50, 100, 200, 300, 300]);
        backoff.reset();
        assert_eq!(backoff.peek(), FIRST);
    }

    #[test]
    fn pauses_of_two_hosts_differ() {
        let pauses = |mut backoff: Backoff| (0..8).map(|_| backoff.next()).collect::<Vec<_>>();
        let most = Duration::from_secs(1000);
        assert_ne!(pauses(Backoff::new(most)), pauses(Backoff::new(most)));
    }
}

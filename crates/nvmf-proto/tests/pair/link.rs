//! One direction of a connection in virtual time, and the randomness of everything.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// A small generator of numbers: a run is repeated by its seed.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Self(seed ^ 0x9e37_79b9_7f4a_7c15)
    }

    fn next(&mut self) -> u64 {
        // splitmix64
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// A number less than `end`.
    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end.max(1) as u64).unwrap()
    }

    /// 1 to `most`.
    pub fn up_to(&mut self, most: usize) -> usize {
        1 + self.below(most)
    }

    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

/// What goes wrong in a direction, at a byte of the stream.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// Nothing from this byte on arrives.
    Drop(usize),
    /// These bits of this byte are flipped.
    Flip(usize, u8),
}

/// Bytes on their way.
#[derive(Debug)]
pub struct Stream {
    segments: VecDeque<(Instant, Vec<u8>)>,
    arrival: Instant,
    /// Bytes sent so far.
    pub sent: usize,
    /// The longest segment.
    pub segment: usize,
    /// The longest delay.
    pub delay: Duration,
    pub fault: Option<Fault>,
}

impl Stream {
    pub fn new(now: Instant, segment: usize, delay: Duration) -> Self {
        Self { segments: VecDeque::new(), arrival: now, sent: 0, segment, delay, fault: None }
    }

    /// Sends bytes, cut and delayed at random, in order.
    pub fn send(&mut self, now: Instant, bytes: &[u8], rng: &mut Rng) {
        let mut bytes = bytes.to_vec();
        let start = self.sent;
        self.sent += bytes.len();
        match self.fault {
            Some(Fault::Drop(at)) => bytes.truncate(at.saturating_sub(start)),
            Some(Fault::Flip(at, bits)) if (start..self.sent).contains(&at) => {
                bytes[at - start] ^= bits;
            }
            _ => {}
        }
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let (segment, later) = rest.split_at(rng.up_to(self.segment).min(rest.len()));
            rest = later;
            let micros = usize::try_from(self.delay.as_micros()).unwrap();
            let delay = Duration::from_micros(rng.below(micros + 1) as u64);
            self.arrival = self.arrival.max(now + delay);
            self.segments.push_back((self.arrival, segment.to_vec()));
        }
    }

    pub fn is_dropped(&self) -> bool {
        matches!(self.fault, Some(Fault::Drop(at)) if self.sent > at)
    }

    pub fn next_arrival(&self) -> Option<Instant> {
        self.segments.front().map(|(at, _)| *at)
    }

    /// The next segment, if it has arrived.
    pub fn receive(&mut self, now: Instant) -> Option<Vec<u8>> {
        if self.next_arrival()? > now {
            return None;
        }
        self.segments.pop_front().map(|(_, segment)| segment)
    }
}

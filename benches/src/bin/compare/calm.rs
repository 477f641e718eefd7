//! Whether the cores are as near each other as they can be.
//!
//! The cores of a virtual machine move: now they share a cache, a second later they do not, and
//! everything that goes between them takes three times as long. A run that begins before such a move
//! and one that begins after it are not to be compared.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};
use std::{hint, io};

use nvmf_benches::affinity;

use crate::children::{Failure, Stop};

/// How long to wait for it.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(200);
/// So often a run is made again that ended otherwise than it began.
const TRIES: u32 = 10;

/// Runs are to begin and to end while a cache line goes from one core to the other and back within
/// `limit`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Calm {
    pub limit: Duration,
    pub cores: (usize, usize),
}

impl Calm {
    /// Makes a run, again where it has to be; the last one counts.
    pub(crate) fn during<T>(
        self,
        stop: &Stop,
        mut run: impl FnMut() -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut result;
        let mut tries = 0;
        loop {
            self.wait(stop)?;
            result = run();
            tries += 1;
            if tries == TRIES || result.is_err() || self.is_now()? {
                return result;
            }
        }
    }

    fn wait(self, stop: &Stop) -> Result<(), Failure> {
        let end = Instant::now() + PATIENCE;
        while !self.is_now()? && Instant::now() < end {
            if stop.load(Ordering::Relaxed) {
                return Err("interrupted".to_owned());
            }
            thread::sleep(PAUSE);
        }
        Ok(())
    }

    fn is_now(self) -> Result<bool, Failure> {
        let time = there_and_back(self.cores).map_err(|e| format!("cannot use the cores: {e}"))?;
        Ok(time <= self.limit)
    }
}

/// How long a cache line takes from one core to the other and back.
fn there_and_back((here, there): (usize, usize)) -> io::Result<Duration> {
    const TIMES: u32 = 50_000;
    // A core that does not answer is busy with something else.
    const LIMIT: Duration = Duration::from_secs(1);
    let line = Arc::new(Line(AtomicU32::new(0)));
    let ready = Arc::new(Barrier::new(2));
    let player = |core: usize, first: u32| {
        let (line, ready) = (Arc::clone(&line), Arc::clone(&ready));
        thread::spawn(move || -> io::Result<Duration> {
            let pinned = affinity::set_core(core);
            ready.wait();
            pinned?;
            let start = Instant::now();
            for turn in (first..2 * TIMES).step_by(2) {
                let mut looks = 0u32;
                while line.0.load(Ordering::Acquire) != turn {
                    looks += 1;
                    if looks.is_multiple_of(10_000) && start.elapsed() > LIMIT {
                        return Ok(LIMIT);
                    }
                    hint::spin_loop();
                }
                line.0.store(turn + 1, Ordering::Release);
            }
            Ok(start.elapsed() / TIMES)
        })
    };
    let players = [player(here, 0), player(there, 1)];
    let mut longest = Duration::ZERO;
    for player in players {
        let died = |_| io::Error::other("a thread died");
        longest = longest.max(player.join().map_err(died)??);
    }
    Ok(longest)
}

/// Nothing else is in its cache lines.
#[repr(align(128))]
struct Line(AtomicU32);

#[cfg(test)]
mod tests {
    use super::*;

    fn calm(limit: Duration) -> Calm {
        let all = affinity::get().unwrap();
        let mut cores = (0..1024).filter(|&core| all.is_set(core));
        let first = cores.next().unwrap();
        Calm { limit, cores: (first, cores.next().unwrap_or(first)) }
    }

    #[test]
    fn a_run_in_calm_is_made_once_and_one_without_again() {
        let mut runs = 0;
        let always = calm(Duration::MAX);
        let mut run = || {
            runs += 1;
            Ok(())
        };
        always.during(&Stop::default(), &mut run).unwrap();
        let stop = Stop::default();
        stop.store(true, Ordering::Relaxed);
        let never = calm(Duration::ZERO);
        assert!(never.during(&stop, &mut run).is_err(), "it waits, and is interrupted");
        assert_eq!(runs, 1);
    }

    #[test]
    fn a_failed_run_is_not_made_again() {
        let mut runs = 0;
        let result: Result<(), _> = calm(Duration::MAX).during(&Stop::default(), || {
            runs += 1;
            Err("it failed".to_owned())
        });
        assert_eq!((result, runs), (Err("it failed".to_owned()), 1));
    }
}

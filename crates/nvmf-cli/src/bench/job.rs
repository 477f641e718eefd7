//! What one thread of a benchmark does.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::BytesMut;
use nvmf::spec::Cqe;
use nvmf_host::{Buffer, CommandError, Handle, Next, Request, Workload};

use super::cpu::Cpu;
use super::latency_log::{LatencyLog, Part};
use super::ledger::Ledger;
use super::plan::Plan;
use super::random::Random;
use super::tally::{Tally, Troubles};

/// What the threads of a benchmark share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub handle: Handle,
    /// Nothing new is begun.
    halted: AtomicBool,
    /// Threads that are not yet ready, or still write what is to be read.
    filling: AtomicUsize,
    /// When the warm-up began.
    start: OnceLock<Instant>,
    /// What the processor had done when measuring began, and when it ended.
    cpu: [OnceLock<Cpu>; 2],
}

impl Shared {
    pub(crate) fn new(plan: &Plan) -> Self {
        Self {
            handle: Handle::new(),
            halted: AtomicBool::new(false),
            filling: AtomicUsize::new(plan.threads),
            start: OnceLock::new(),
            cpu: Default::default(),
        }
    }

    /// Makes every thread end soon.
    pub(crate) fn halt(&self) {
        self.halted.store(true, Ordering::Relaxed);
        self.handle.wake();
    }

    fn filled(&self) {
        if self.filling.fetch_sub(1, Ordering::AcqRel) == 1 {
            let _ = self.start.set(Instant::now());
            self.handle.wake();
        }
    }

    /// When the warm-up began, if it has.
    pub(crate) fn start(&self) -> Option<Instant> {
        self.start.get().copied()
    }

    /// How long was measured so far.
    pub(crate) fn measured(&self, plan: &Plan) -> Duration {
        self.start().map_or(Duration::ZERO, |start| {
            start.elapsed().saturating_sub(plan.warmup).min(plan.time)
        })
    }

    /// The time of the processor while it was measured.
    pub(crate) fn cpu(&self) -> Cpu {
        let from = self.cpu[0].get().copied().unwrap_or_else(Cpu::now);
        self.cpu[1].get_or_init(Cpu::now).since(from)
    }
}

/// What a thread is at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// Writes every unit, so that each read has something to be judged by.
    Fill(u64),
    /// Has no more to write before all others have none either.
    Filled,
    /// Does what was asked for.
    Run,
    /// Waits for the last answers.
    Drain,
    /// Reads every unit that was written.
    Check(u64),
}

/// A command under way.
#[derive(Clone, Copy, Debug)]
struct Io {
    /// From when on its latency counts, in nanoseconds of the job.
    since: u64,
    /// The unit, counted from the first one of this thread.
    unit: u64,
    generation: u32,
    write: bool,
}

/// One thread's share of a benchmark.
#[derive(Debug)]
pub(crate) struct Job {
    plan: Arc<Plan>,
    shared: Arc<Shared>,
    pub number: usize,
    part: Range<u64>,
    phase: Phase,
    clock: Clock,
    /// When measuring begins and ends, in nanoseconds of the job.
    from: u64,
    until: u64,
    measuring: bool,
    random: Random,
    /// The next unit of those in order.
    at: u64,
    /// Nanoseconds between commands, when the first one was due, and how many were sent.
    pace: Option<Pace>,
    ledger: Option<Ledger>,
    ios: Vec<Io>,
    free: Vec<u32>,
    buffers: Vec<BytesMut>,
    pub tally: Tally,
    pub troubles: Troubles,
    live: Option<Live>,
    log: Option<Part>,
}

/// Times as numbers.
#[derive(Clone, Copy, Debug)]
struct Clock {
    base: Instant,
    /// What was asked for last: mostly it is asked for again.
    last: (Instant, u64),
}

impl Clock {
    fn new(base: Instant) -> Self {
        Self { base, last: (base, 0) }
    }

    /// In nanoseconds since the base.
    fn nanoseconds(&mut self, now: Instant) -> u64 {
        if self.last.0 != now {
            let since = now.saturating_duration_since(self.base);
            let nanoseconds = since.as_secs() * 1_000_000_000 + u64::from(since.subsec_nanos());
            self.last = (now, nanoseconds);
        }
        self.last.1
    }

    fn instant(self, nanoseconds: u64) -> Instant {
        self.base + Duration::from_nanos(nanoseconds)
    }
}

/// Commands at a steady pace; times in nanoseconds of the job.
#[derive(Clone, Copy, Debug)]
struct Pace {
    interval: f64,
    first: u64,
    sent: u64,
    due: u64,
}

impl Pace {
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "nanoseconds up to weeks are whole in a double"
    )]
    fn advance(&mut self) {
        self.sent += 1;
        self.due = self.first + (self.sent as f64 * self.interval) as u64;
    }
}

/// Who is told once a second how it goes.
struct Live {
    tell: Box<dyn FnMut(&Tally) + Send>,
    due: Instant,
    /// What was done since.
    tally: Tally,
}

impl std::fmt::Debug for Live {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Live").field("due", &self.due).finish_non_exhaustive()
    }
}

/// Units tried for one that is free.
const TRIES: u64 = 64;

impl Job {
    pub(crate) fn new(
        plan: &Arc<Plan>,
        shared: &Arc<Shared>,
        number: usize,
        log: Option<LatencyLog>,
    ) -> anyhow::Result<Self> {
        let part = plan.part(number);
        let units = part.end - part.start;
        let ledger = plan
            .verify
            .then(|| {
                let first = plan.lba(part.start);
                Ledger::new(plan.run, first, units, plan.blocks, plan.block_size)
                    .context("there is not enough memory to verify so large a range; see --size")
            })
            .transpose()?;
        Ok(Self {
            clock: Clock::new(Instant::now()),
            phase: Phase::Fill(if plan.verify && plan.mix > 0 { 0 } else { units }),
            random: Random::new(plan.seed ^ u64::try_from(number)? << 48),
            plan: Arc::clone(plan),
            shared: Arc::clone(shared),
            number,
            part,
            from: u64::MAX,
            until: u64::MAX,
            measuring: false,
            at: 0,
            pace: None,
            ledger,
            ios: Vec::new(),
            free: Vec::new(),
            buffers: Vec::new(),
            tally: Tally::new()?,
            troubles: Troubles::default(),
            live: None,
            log: log.map(|log| log.part()),
        })
    }

    /// Tells once a second what was done in it.
    pub(crate) fn tell(&mut self, tell: impl FnMut(&Tally) + Send + 'static) -> anyhow::Result<()> {
        self.live = Some(Live { tell: Box::new(tell), due: Instant::now(), tally: Tally::new()? });
        Ok(())
    }

    fn units(&self) -> u64 {
        self.part.end - self.part.start
    }

    fn outstanding(&self) -> usize {
        self.ios.len() - self.free.len()
    }

    /// Begins with what was asked for.
    fn start(&mut self, start: Instant) {
        let mut at = |after| self.clock.nanoseconds(start + after);
        self.from = at(self.plan.warmup);
        self.until = at(self.plan.warmup + self.plan.time);
        self.pace = self.plan.rate.map(|rate| {
            #[allow(clippy::cast_precision_loss, reason = "a rate of so many digits is none")]
            let (rate, threads, number) =
                (rate as f64, self.plan.threads as f64, self.number as f64);
            let first = at(Duration::from_secs_f64(number / rate));
            Pace { interval: 1e9 * threads / rate, first, sent: 0, due: first }
        });
        self.phase = Phase::Run;
    }

    #[inline]
    fn run(&mut self, now: u64) -> Option<Next> {
        if now >= self.until {
            let _ = self.shared.cpu[1].get_or_init(Cpu::now);
            self.phase = Phase::Drain;
            return None;
        }
        if !self.measuring && now >= self.from {
            let _ = self.shared.cpu[0].get_or_init(Cpu::now);
            self.measuring = true;
        }
        let since = match &self.pace {
            Some(pace) if now < pace.due => {
                return Some(Next::NotBefore(self.clock.instant(pace.due)));
            }
            Some(pace) => pace.due,
            None => now,
        };
        let Some(unit) = self.pick() else { return Some(Next::Later) };
        if let Some(pace) = &mut self.pace {
            pace.advance();
        }
        let mix = u64::from(self.plan.mix);
        let read = mix == 100 || (mix > 0 && self.random.below(100) < mix);
        let known = self.ledger.as_ref().is_none_or(|ledger| ledger.knows(place(unit)));
        Some(if read && known { self.read(unit, since) } else { self.write(unit, since) })
    }

    /// The next unit, claimed if that matters; `None` if every one that was looked at is in use.
    #[inline]
    fn pick(&mut self) -> Option<u64> {
        let units = self.units();
        let random = self.plan.rw.is_random();
        let mut unit = if random { self.random.below(units) } else { self.at };
        if let Some(ledger) = &mut self.ledger {
            let mut tries = if random { TRIES.min(units) } else { 1 };
            while !ledger.claim(place(unit)) {
                tries -= 1;
                if tries == 0 {
                    return None;
                }
                unit = if unit + 1 < units { unit + 1 } else { 0 };
            }
        }
        if !random {
            self.at = if unit + 1 < units { unit + 1 } else { 0 };
        }
        Some(unit)
    }

    #[inline]
    fn read(&mut self, unit: u64, since: u64) -> Next {
        let buffer = self.buffer();
        let lba = self.plan.lba(self.part.start + unit);
        let token = self.note(Io { since, unit, generation: 0, write: false });
        Next::Io(Request::read(self.plan.nsid, lba, self.plan.blocks, buffer).with_token(token))
    }

    #[inline]
    fn write(&mut self, unit: u64, since: u64) -> Next {
        let (bytes, generation) = if self.ledger.is_some() {
            let mut buffer = self.buffer();
            let generation =
                self.ledger.as_mut().map_or(0, |ledger| ledger.fill(place(unit), &mut buffer));
            (buffer.freeze(), generation)
        } else {
            (self.plan.data.clone(), 0)
        };
        let lba = self.plan.lba(self.part.start + unit);
        let token = self.note(Io { since, unit, generation, write: true });
        Next::Io(Request::write(self.plan.nsid, lba, self.plan.blocks, bytes).with_token(token))
    }

    fn buffer(&mut self) -> BytesMut {
        self.buffers.pop().unwrap_or_else(|| BytesMut::zeroed(self.plan.bytes))
    }

    #[inline]
    fn note(&mut self, io: Io) -> u64 {
        match self.free.pop() {
            Some(token) => {
                self.ios[token as usize] = io;
                u64::from(token)
            }
            None => {
                self.ios.push(io);
                self.ios.len() as u64 - 1
            }
        }
    }

    fn fill(&mut self, unit: u64, now: u64) -> Option<Next> {
        if unit == self.units() {
            if self.outstanding() > 0 {
                return Some(Next::Later);
            }
            self.shared.filled();
            self.phase = Phase::Filled;
            return None;
        }
        self.phase = Phase::Fill(unit + 1);
        self.claim(unit);
        Some(self.write(unit, now))
    }

    fn check(&mut self, mut unit: u64, now: u64) -> Next {
        let Some(ledger) = &self.ledger else { return Next::Done };
        let units = self.part.end - self.part.start;
        while unit < units && !ledger.knows(place(unit)) {
            unit += 1;
        }
        self.phase = Phase::Check(units.min(unit + 1));
        if unit == units {
            return Next::Done;
        }
        self.claim(unit);
        self.read(unit, now)
    }

    fn claim(&mut self, unit: u64) {
        if let Some(ledger) = &mut self.ledger {
            ledger.claim(place(unit));
        }
    }

    /// Notes what came of a command; `bytes` are those of a read that succeeded.
    fn settle(&mut self, io: Io, result: Result<&Cqe, CommandError>, bytes: &[u8]) {
        match &result {
            Ok(_) => {}
            Err(CommandError::Lost) => self.troubles.lost += 1,
            Err(error) => self.troubles.error(error.to_string()),
        }
        let Some(ledger) = &mut self.ledger else { return };
        match (io.write, result) {
            (true, Ok(_)) => ledger.written(place(io.unit), io.generation),
            (true, Err(_)) => ledger.lost(place(io.unit), io.generation),
            (false, Ok(_)) => {
                if let Some(mismatch) = ledger.read(place(io.unit), bytes) {
                    self.troubles.mismatch(mismatch);
                }
            }
            (false, Err(_)) => ledger.unread(place(io.unit)),
        }
    }

    fn live(&mut self, now: Instant) {
        if let Some(Live { tell, due, tally }) = &mut self.live
            && now >= *due
        {
            tell(tally);
            self.tally.add(tally);
            tally.clear();
            *due = now + Duration::from_secs(1);
        }
    }

    /// All that was measured.
    pub(crate) fn tally(&self) -> Tally {
        let mut tally = self.tally.clone();
        if let Some(live) = &self.live {
            tally.add(&live.tally);
        }
        tally
    }
}

impl Workload for Job {
    fn next(&mut self, _: usize, now: Instant) -> Next {
        if self.shared.halted.load(Ordering::Relaxed) {
            return Next::Done;
        }
        let now = self.clock.nanoseconds(now);
        loop {
            let next = match self.phase {
                Phase::Run => self.run(now),
                Phase::Fill(unit) => self.fill(unit, now),
                Phase::Filled => match self.shared.start() {
                    Some(start) => {
                        self.start(start);
                        None
                    }
                    None => Some(Next::Later),
                },
                Phase::Drain if self.outstanding() > 0 => Some(Next::Later),
                Phase::Drain if self.plan.mix < 100 => {
                    self.phase = Phase::Check(0);
                    None
                }
                Phase::Drain => Some(Next::Done),
                Phase::Check(unit) => Some(self.check(unit, now)),
            };
            if let Some(next) = next {
                return next;
            }
        }
    }

    fn complete(
        &mut self,
        _: usize,
        token: u64,
        result: Result<&Cqe, CommandError>,
        buffer: Buffer,
        now: Instant,
    ) {
        let Ok(token) = u32::try_from(token) else { return };
        let Some(io) = self.ios.get(token as usize).copied() else { return };
        self.free.push(token);
        let seen = self.clock.nanoseconds(now);
        if result.is_ok() && seen >= self.from && seen < self.until {
            let tally = self.live.as_mut().map_or(&mut self.tally, |live| &mut live.tally);
            let latency = if io.write { &mut tally.writes } else { &mut tally.reads };
            latency.record(seen.saturating_sub(io.since));
            if let Some(log) = &mut self.log {
                log.note(now, seen.saturating_sub(io.since));
            }
        }
        let buffer = match buffer {
            Buffer::Read(bytes) => Some(bytes),
            Buffer::Write(bytes) if self.ledger.is_some() => bytes.try_into_mut().ok(),
            _ => None,
        };
        if self.ledger.is_some() || result.is_err() {
            self.settle(io, result, buffer.as_deref().unwrap_or_default());
        }
        // Of a read that was lost, the buffer may have lost a part.
        if let Some(bytes) = buffer
            && bytes.len() == self.plan.bytes
        {
            self.buffers.push(bytes);
        }
        self.live(now);
    }
}

/// The place of a unit in a table.
fn place(unit: u64) -> usize {
    usize::try_from(unit).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests;

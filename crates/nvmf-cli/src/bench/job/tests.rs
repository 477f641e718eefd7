use std::collections::VecDeque;

use nvmf::spec::Status;

use super::*;
use crate::bench::args::Rw;
use crate::bench::plan::tests::plan;

/// A namespace that answers in the order of the commands, and the time that passes with it.
struct Target {
    blocks: Vec<[u8; 4096]>,
    pending: VecDeque<(u64, bool, usize, Buffer)>,
    now: Instant,
}

impl Target {
    fn new(units: usize) -> Self {
        Self { blocks: vec![[0; 4096]; units], pending: VecDeque::new(), now: Instant::now() }
    }

    /// Asks the job until it wants nothing more, `depth` commands at most.
    fn ask(&mut self, job: &mut Job, depth: usize) -> Option<Next> {
        while self.pending.len() < depth {
            let next = job.next(0, self.now);
            let Next::Io(request) = next else { return Some(next) };
            let (sqe, buffer, token) = request.into_parts();
            let unit = usize::try_from(sqe.slba()).unwrap();
            let write = matches!(buffer, Buffer::Write(_));
            self.pending.push_back((token, write, unit, buffer));
        }
        None
    }

    /// Executes the oldest command and answers it 10 µs later.
    fn answer(&mut self, job: &mut Job, result: Result<(), CommandError>) {
        let (token, write, unit, mut buffer) = self.pending.pop_front().unwrap();
        self.now += Duration::from_micros(10);
        if result.is_ok() {
            match &mut buffer {
                Buffer::Write(bytes) => self.blocks[unit].copy_from_slice(bytes),
                Buffer::Read(bytes) => bytes.copy_from_slice(&self.blocks[unit]),
                Buffer::None => panic!("a command without data"),
            }
        }
        assert_eq!(write, matches!(buffer, Buffer::Write(_)));
        let cqe = Cqe::new(0, Status::SUCCESS);
        let result = result.map(|()| &cqe);
        job.complete(0, token, result, buffer, self.now);
    }

    /// Goes on until the job is done.
    fn finish(&mut self, job: &mut Job, depth: usize) {
        loop {
            let next = self.ask(job, depth);
            if self.pending.is_empty() {
                match next {
                    Some(Next::NotBefore(time)) => self.now = time,
                    Some(Next::Done) => return,
                    other => panic!("nothing under way, and {other:?}"),
                }
            } else {
                self.answer(job, Ok(()));
            }
        }
    }
}

fn job(plan: Plan) -> (Job, Arc<Shared>) {
    let shared = Arc::new(Shared::new(&plan));
    (Job::new(&Arc::new(plan), &shared, 0, None).unwrap(), shared)
}

/// When a job without anything to be written before begins.
fn ready(job: &mut Job, shared: &Shared) -> Instant {
    assert!(shared.start().is_none());
    assert!(job.fill(job.units(), 0).is_none());
    shared.start().unwrap()
}

fn verifying(rw: Rw, mix: u8, units: u64) -> Plan {
    let time = Duration::from_millis(20);
    Plan { rw, mix, verify: true, time, ..plan(units) }
}

#[test]
fn only_what_completes_in_the_time_measured_is_counted() {
    let warmup = Duration::from_micros(100);
    let (mut job, shared) = job(Plan { warmup, time: Duration::from_micros(995), ..plan(50) });
    let mut target = Target::new(50);
    target.now = ready(&mut job, &shared);
    target.finish(&mut job, 1);
    let reads = job.tally().reads;
    // Completions are at 10, 20, … 1100 µs; those from 100 on and before 1095 count.
    assert_eq!(reads.count(), 100);
    assert_eq!((reads.min().round(), reads.max().round()), (10.0, 10.0));
    assert_eq!(job.troubles.errors(), 0);
}

#[test]
fn commands_in_order_go_through_the_range_again_and_again() {
    let (mut job, shared) = job(Plan { rw: Rw::Read, ..plan(3) });
    let mut target = Target::new(3);
    target.now = ready(&mut job, &shared);
    target.ask(&mut job, 7);
    let units: Vec<_> = target.pending.iter().map(|(_, _, unit, _)| *unit).collect();
    assert_eq!(units, [0, 1, 2, 0, 1, 2, 0]);
}

#[test]
fn random_commands_reach_the_whole_range_and_the_mix_is_kept() {
    let (mut job, shared) = job(Plan { rw: Rw::Randrw, mix: 30, ..plan(20) });
    let mut target = Target::new(20);
    target.now = ready(&mut job, &shared);
    target.ask(&mut job, 10_000);
    let reads = target.pending.iter().filter(|(_, write, ..)| !write).count();
    assert!((2700..3300).contains(&reads), "{reads} reads");
    assert!((0..20).all(|unit| target.pending.iter().any(|(_, _, u, _)| *u == unit)));
}

#[test]
fn at_a_rate_commands_are_due_evenly_and_waiting_counts() {
    let plan = Plan { rate: Some(10_000), time: Duration::from_millis(10), ..plan(50) };
    let (mut job, shared) = job(plan);
    let start = ready(&mut job, &shared);
    let mut target = Target::new(50);
    target.now = start;
    target.ask(&mut job, 1);
    let Some(Next::NotBefore(due)) = target.ask(&mut job, 2) else { panic!("it is not due") };
    assert_eq!(due - start, Duration::from_micros(100));
    // Ten commands become due while the first one is under way.
    target.now = start + Duration::from_micros(950);
    target.answer(&mut job, Ok(()));
    target.ask(&mut job, 20);
    assert_eq!(target.pending.len(), 9);
    target.answer(&mut job, Ok(()));
    let reads = job.tally().reads;
    // Due at 0 and done at 960, due at 100 and done at 970; off by a thousandth at most.
    assert!((reads.max() - 960.0).abs() < 1.0 && (reads.min() - 870.0).abs() < 1.0);
    target.finish(&mut job, 20);
    assert_eq!(job.tally().reads.count(), 100);
}

#[test]
fn what_is_to_be_read_is_written_first_and_read_again_at_the_end() {
    for (rw, mix) in [(Rw::Randrw, 50), (Rw::Rw, 50), (Rw::Randread, 100), (Rw::Read, 100)] {
        let (mut job, shared) = job(verifying(rw, mix, 40));
        assert!(shared.start().is_none(), "it has to be filled first");
        let mut target = Target::new(40);
        target.finish(&mut job, 8);
        assert!(shared.start().is_some());
        let Tally { reads, writes } = job.tally();
        assert!(reads.count() > 500, "{rw:?}");
        assert_eq!(writes.count() > 0, mix < 100, "{rw:?}");
        assert_eq!(job.troubles.mismatches, 0, "{rw:?}: {:?}", job.troubles.examples);
    }
}

#[test]
fn a_bit_that_flips_is_found_while_reading_or_at_the_end() {
    for (rw, mix) in [(Rw::Randread, 100), (Rw::Randwrite, 0), (Rw::Write, 0)] {
        let (mut job, _) = job(verifying(rw, mix, 40));
        let mut target = Target::new(40);
        while job.phase != Phase::Drain {
            target.ask(&mut job, 4);
            if target.pending.is_empty() {
                break;
            }
            target.answer(&mut job, Ok(()));
        }
        target.blocks[7][1234] ^= 0x10;
        if rw == Rw::Randread {
            job.until += 10_000_000;
            job.phase = Phase::Run;
        }
        target.finish(&mut job, 4);
        assert!(job.troubles.mismatches > 0, "{rw:?}");
        let said = job.troubles.examples[0].to_string();
        assert!(said.starts_with("LBA 7, byte 1232: "), "{said}");
    }
}

#[test]
fn no_two_commands_are_under_way_for_one_unit() {
    let (mut job, _) = job(verifying(Rw::Randrw, 50, 10));
    let mut target = Target::new(10);
    for _ in 0..1000 {
        assert!(matches!(target.ask(&mut job, 100), Some(Next::Later)));
        let mut units: Vec<_> = target.pending.iter().map(|(_, _, unit, _)| *unit).collect();
        units.sort_unstable();
        units.dedup();
        assert_eq!(units.len(), target.pending.len());
        target.answer(&mut job, Ok(()));
    }
    assert_eq!(job.troubles.mismatches, 0);
}

#[test]
fn writes_that_were_lost_may_have_happened_or_not() {
    let time = Duration::from_millis(100);
    let (mut job, _) = job(Plan { time, ..verifying(Rw::Randrw, 50, 10) });
    let mut target = Target::new(10);
    let mut random = Random::new(3);
    for _ in 0..300 {
        target.ask(&mut job, 6);
        // The connection ends: some of what is under way has been done.
        while !target.pending.is_empty() {
            let (token, write, unit, buffer) = target.pending.pop_front().unwrap();
            if write
                && random.below(2) == 0
                && let Buffer::Write(bytes) = &buffer
            {
                target.blocks[unit].copy_from_slice(bytes);
            }
            job.complete(0, token, Err(CommandError::Lost), buffer, target.now);
        }
        for _ in 0..20 {
            target.ask(&mut job, 6);
            target.answer(&mut job, Ok(()));
        }
    }
    target.finish(&mut job, 6);
    assert!(job.troubles.lost > 1000);
    assert_eq!(job.troubles.mismatches, 0, "{:?}", job.troubles.examples);
}

#[test]
fn what_fails_is_counted_by_what_the_controller_said_and_is_no_mismatch() {
    let (mut job, _) = job(verifying(Rw::Randrw, 50, 10));
    let mut target = Target::new(10);
    for _ in 0..100 {
        target.ask(&mut job, 3);
        target.answer(&mut job, Err(CommandError::Status(Status::NAMESPACE_NOT_READY)));
        target.ask(&mut job, 3);
        target.answer(&mut job, Ok(()));
    }
    target.finish(&mut job, 3);
    assert_eq!((job.troubles.errors(), job.troubles.errors.len()), (100, 1));
    assert_eq!(job.troubles.mismatches, 0);
}

#[test]
fn a_job_that_was_halted_has_no_more_to_do() {
    let (mut job, shared) = job(verifying(Rw::Randread, 100, 10));
    let mut target = Target::new(10);
    target.ask(&mut job, 4);
    shared.halt();
    assert!(matches!(job.next(0, target.now), Next::Done));
}

#[test]
fn what_is_told_every_second_is_counted_once() {
    let (mut job, shared) = job(Plan { time: Duration::from_secs(3), ..plan(50) });
    let (sender, receiver) = std::sync::mpsc::channel();
    job.tell(move |tally| sender.send(tally.reads.count()).unwrap()).unwrap();
    let mut target = Target::new(50);
    target.now = ready(&mut job, &shared);
    target.finish(&mut job, 1);
    let told: Vec<_> = receiver.try_iter().collect();
    assert!(told.len() >= 3 && told[1] >= 99_000, "{told:?}");
    assert_eq!(job.tally().reads.count(), 299_999);
}

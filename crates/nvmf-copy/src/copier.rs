//! A copy from its beginning to its end.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use crate::chunk::{Ends, Moved, Sparse};
use crate::crew::{Crew, Done, Tally};
use crate::endpoint::{Destination, Identity, Source};
use crate::error::{Error, Unfinished};
use crate::journal::{Journal, JournalError, Record};
use crate::layout::{Layout, Wanted};
use crate::plan::{Plan, Task};
use crate::ranges::RangeSet;
use crate::report::{Phase, Progress, Report};

/// What holes are cut at, at least: the blocks of most file systems.
const LEAST_UNIT: u64 = 4096;

/// The largest chunk, in bytes.
const LARGEST_CHUNK: u64 = 64 << 20;

/// The most threads.
const MOST_JOBS: usize = 256;

/// A copy that can be run; see the [crate] for an example.
pub struct Copier<'a> {
    source: &'a dyn Source,
    destination: &'a dyn Destination,
    wanted: Wanted,
    jobs: usize,
    chunk: u64,
    rate: Option<u64>,
    sparse: Sparse,
    verify: bool,
    journal: Option<Journal>,
    resume: bool,
    checkpoint: Duration,
    stop: Option<&'a AtomicBool>,
    progress: Box<dyn FnMut(Progress) + 'a>,
}

impl<'a> Copier<'a> {
    /// Copies everything, by 16 threads in chunks of 1 MiB, without a journal.
    pub fn new(source: &'a dyn Source, destination: &'a dyn Destination) -> Self {
        Self {
            source,
            destination,
            wanted: Wanted::default(),
            jobs: 16,
            chunk: 1 << 20,
            rate: None,
            sparse: Sparse::default(),
            verify: false,
            journal: None,
            resume: false,
            checkpoint: Duration::from_secs(1),
            stop: None,
            progress: Box::new(|_| ()),
        }
    }

    /// Where in the source to begin, in bytes; 0 where left out.
    #[must_use]
    pub fn source_offset(mut self, offset: u64) -> Self {
        self.wanted.source_offset = offset;
        self
    }

    /// Where in the destination to begin, in bytes. A destination that grows then keeps what it has
    /// elsewhere ([`Rest::Stays`](crate::Rest::Stays)), and without it does not.
    #[must_use]
    pub fn offset(mut self, offset: impl Into<Option<u64>>) -> Self {
        self.wanted.offset = offset.into();
        self
    }

    /// How many bytes; up to the end of the source where left out.
    #[must_use]
    pub fn length(mut self, length: impl Into<Option<u64>>) -> Self {
        self.wanted.length = length.into();
        self
    }

    /// Threads, each with a chunk of its own under way: 1 to 256. So the copy has `jobs` chunks of
    /// memory, and twice that to verify.
    #[must_use]
    pub fn jobs(mut self, jobs: usize) -> Self {
        self.jobs = jobs.clamp(1, MOST_JOBS);
        self
    }

    /// The most that is read and written at once, in bytes: a power of two from 4 KiB to 64 MiB, or
    /// what is next to it, and no less than a block of the destination.
    #[must_use]
    pub fn chunk(mut self, bytes: u64) -> Self {
        self.chunk = bytes.clamp(LEAST_UNIT, LARGEST_CHUNK).next_power_of_two();
        self
    }

    /// Copies no more than so many bytes a second; holes do not count. Verifying is not held back.
    #[must_use]
    pub fn rate(mut self, bytes: impl Into<Option<u64>>) -> Self {
        self.rate = bytes.into();
        self
    }

    /// What becomes of zeroes.
    #[must_use]
    pub fn sparse(mut self, sparse: Sparse) -> Self {
        self.sparse = sparse;
        self
    }

    /// Reads both sides when everything is copied and durable, past caches as far as that is
    /// possible, and compares them.
    #[must_use]
    pub fn verify(mut self, verify: bool) -> Self {
        self.verify = verify;
        self
    }

    /// Notes in this journal what is done, whenever the destination was flushed. It is there from before the destination is changed until everything is done.
    #[must_use]
    pub fn journal(mut self, journal: impl Into<Option<Journal>>) -> Self {
        self.journal = journal.into();
        self
    }

    /// Goes on where the journal says that another run stopped. Where there is no journal, it begins
    /// at the beginning.
    #[must_use]
    pub fn resume(mut self, resume: bool) -> Self {
        self.resume = resume;
        self
    }

    /// How often the destination is flushed while it is copied to; a second where left out. It is less
    /// often where that takes long: no more than a fifth of the time is spent on it.
    #[must_use]
    pub fn checkpoint_every(mut self, interval: Duration) -> Self {
        self.checkpoint = interval;
        self
    }

    /// Stops in order once this is true: what is under way is finished, made durable and noted.
    #[must_use]
    pub fn stop(mut self, stop: &'a AtomicBool) -> Self {
        self.stop = Some(stop);
        self
    }

    /// Is told how far it is, ten times a second.
    #[must_use]
    pub fn progress(mut self, progress: impl FnMut(Progress) + 'a) -> Self {
        self.progress = Box::new(progress);
        self
    }

    /// Runs it. When it returns `Ok`, the copy is complete and durable.
    ///
    /// # Errors
    ///
    /// [`Unfinished`], which says why, and how far it came. If the ranges do not fit or the journal
    /// is one of another copy, nothing was changed. If not everything was copied, what was stays,
    /// and the journal too; if the two differ in the end ([`Error::Differs`]), what was copied
    /// stays.
    pub fn run(mut self) -> Result<Report, Unfinished> {
        let started = Instant::now();
        let begun = self.begin();
        let mut run =
            begun.map_err(|error| Unfinished { error, done: 0, length: 0, journal: None })?;
        self.copy(&mut run)?;
        let source_changed = match self.look_again(&run) {
            Ok(changed) => changed,
            // What is noted is of no use any more.
            Err(error) => return Err(self.give_up(&run, error)),
        };
        let copying = started.elapsed();
        let verifying = match self.verify {
            true => Some(self.compare(&run)?),
            false => None,
        };
        if let Some(journal) = &self.journal
            && let Err(error) = journal.remove()
        {
            return Err(run.unfinished(error.into(), None));
        }
        Ok(Report {
            length: run.ends.layout.length,
            resumed: run.resumed,
            written: run.moved.written,
            zeroed: run.moved.zeroed,
            repeated: run.repeated,
            copying,
            verifying,
            source_changed,
        })
    }

    /// Judges everything, and makes the destination ready.
    fn begin(&self) -> Result<Run<'a>, Error> {
        let from = look(self.source)?;
        let to = look(self.destination)?;
        let layout = Layout::new(self.wanted, (self.source, &from), (self.destination, &to))?;
        if self.destination.is_read_only() {
            return Err(Error::ReadOnly { name: self.destination.name().to_owned() });
        }
        let block = u64::from(self.destination.block_size()).next_power_of_two();
        let unit = block.max(LEAST_UNIT);
        let chunk = self.chunk.max(unit);
        let ends = Ends {
            source: self.source,
            destination: self.destination,
            layout,
            sparse: self.sparse,
            unit,
        };
        let grows = self.destination.grows();
        let names = (self.source.name(), self.destination.name());
        let record = Record::new(&layout, (names.0, &from), (names.1, &to), grows);
        let done = self.noted(&record, &layout, &to, unit)?;
        let mut run = Run {
            ends,
            chunk,
            from,
            record,
            resumed: done.total(),
            durable: done,
            losses: self.destination.losses(),
            moved: Moved::default(),
            repeated: 0,
        };
        if run.resumed == 0 {
            self.prepare(&mut run)?;
        }
        Ok(run)
    }

    /// What the journal says is done, if that is to be used.
    fn noted(
        &self,
        record: &Record,
        layout: &Layout,
        to: &Identity,
        unit: u64,
    ) -> Result<RangeSet, Error> {
        let Some(journal) = self.journal.as_ref().filter(|_| self.resume) else {
            return Ok(RangeSet::default());
        };
        let Some(found) = journal.load(record)? else { return Ok(RangeSet::default()) };
        let end = found.iter().last().map_or(0, |range| layout.in_destination(&range).end);
        if end > to.size {
            let path = journal.path().to_owned();
            let (name, size) = (self.destination.name(), to.size);
            let why = format!("{name} had {end} bytes copied to it, and has {size} now");
            return Err(JournalError::Other { path, why }.into());
        }
        // Blocks that are done in part are done again as a whole: no two tasks share one.
        let whole = found.iter().map(|range| {
            let start = if range.start == 0 { 0 } else { layout.up(range.start, unit) };
            let end =
                if range.end == layout.length { range.end } else { layout.down(range.end, unit) };
            start..end
        });
        Ok(whole.collect())
    }

    /// From here on the destination is changed, and that is noted first.
    fn prepare(&self, run: &mut Run<'a>) -> Result<(), Error> {
        self.note(run, &RangeSet::default())?;
        let layout = &run.ends.layout;
        let length = layout.offset + layout.length;
        self.destination.prepare(length, layout.rest).map_err(|source| {
            let name = self.destination.name().to_owned();
            Error::Prepare { name, length, source }
        })?;
        self.flush()
    }

    fn flush(&self) -> Result<(), Error> {
        self.destination.flush().map_err(|source| {
            let name = self.destination.name().to_owned();
            Error::Flush { name, source }
        })
    }

    /// Notes what is done, and durable.
    fn note(&self, run: &mut Run<'a>, done: &RangeSet) -> Result<(), Error> {
        if let Some(journal) = &self.journal {
            journal.save(&mut run.record, done)?;
        }
        run.durable = done.clone();
        Ok(())
    }

    /// Makes durable what is done, and then notes it; unless some of it may have been lost.
    fn checkpoint(&self, run: &mut Run<'a>, done: &RangeSet) -> Result<Pass, Error> {
        self.flush()?;
        let losses = self.destination.losses();
        if std::mem::replace(&mut run.losses, losses) != losses {
            return Ok(Pass::Again);
        }
        self.note(run, done)?;
        Ok(Pass::Complete)
    }

    fn copy(&mut self, run: &mut Run<'a>) -> Result<(), Unfinished> {
        loop {
            match self.pass(run) {
                Ok(Pass::Complete) => return Ok(()),
                Ok(Pass::Again) => {}
                Err(error) => return Err(run.unfinished(error, self.journal.as_ref())),
            }
        }
    }

    /// Copies all that is not done, up to where what is done may have been lost.
    fn pass(&mut self, run: &mut Run<'a>) -> Result<Pass, Error> {
        let ends = run.ends;
        let plan = Plan::new(ends.layout, run.chunk, run.durable.clone(), ends.maps());
        let crew = Crew::new(ends, plan, run.durable.clone(), self.rate, self.stop);
        let room = run.room();
        let worker = || {
            let mut buffer = vec![0; room];
            move |task: &Task| ends.copy(task, &mut buffer).map(Done::Moved)
        };
        let mut progress = std::mem::replace(&mut self.progress, Box::new(|_| ()));
        let mut due = Instant::now() + self.checkpoint;
        let mut again = false;
        let (tally, result) = crew.run(self.jobs, worker, |tally| {
            let tally = tally();
            progress(run.progress(Phase::Copy, &tally));
            if again || Instant::now() < due || tally.done == run.durable {
                return Ok(ControlFlow::Continue(()));
            }
            let began = Instant::now();
            again = self.checkpoint(run, &tally.done)? == Pass::Again;
            due = Instant::now() + self.checkpoint.max(4 * began.elapsed());
            Ok(if again { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        });
        progress(run.progress(Phase::Copy, &tally));
        self.progress = progress;
        run.moved.written += tally.moved.written;
        run.moved.zeroed += tally.moved.zeroed;
        // After a flush that failed, another one that succeeds would mean nothing.
        let lost = matches!(result, Err(Error::Flush { .. }));
        let noted = match again || lost {
            true => Ok(Pass::Again),
            false => self.checkpoint(run, &tally.done),
        };
        let pass = result.and(noted)?;
        run.repeated += tally.done.total() - run.durable.total();
        Ok(pass)
    }

    /// Whether the source is another one than it was; an error if bytes of it are gone.
    fn look_again(&self, run: &Run<'a>) -> Result<bool, Error> {
        let now = look(self.source)?;
        let Layout { source_offset, length, .. } = run.ends.layout;
        if now.size < source_offset + length {
            let (name, before, now) = (self.source.name().into(), run.from.size, now.size);
            return Err(Error::Shrank { name, before, now });
        }
        Ok(now != run.from)
    }

    /// Reads both sides; gives how long that took.
    fn compare(&mut self, run: &Run<'a>) -> Result<Duration, Unfinished> {
        let started = Instant::now();
        let ends = run.ends;
        let plan = Plan::new(ends.layout, run.chunk, RangeSet::default(), false);
        let crew = Crew::new(ends, plan, RangeSet::default(), None, self.stop);
        let room = run.room();
        let worker = || {
            let (mut ours, mut theirs) = (vec![0; room], vec![0; room]);
            move |task: &Task| {
                let found = ends.compare(&task.range(), (&mut ours, &mut theirs))?;
                Ok(found.map_or(Done::Same, Done::Different))
            }
        };
        let progress = &mut self.progress;
        let (tally, result) = crew.run(self.jobs, worker, |tally| {
            progress(run.progress(Phase::Verify, &tally()));
            Ok(ControlFlow::Continue(()))
        });
        progress(run.progress(Phase::Verify, &tally));
        result.map_err(|error| run.unfinished(error, self.journal.as_ref()))?;
        match tally.different {
            None => Ok(started.elapsed()),
            Some(at) => Err(self.give_up(run, self.differs(&ends.layout, at))),
        }
    }

    fn differs(&self, layout: &Layout, at: u64) -> Error {
        Error::Differs {
            source_name: self.source.name().to_owned(),
            destination: self.destination.name().to_owned(),
            offset: layout.offset + at,
            source_offset: layout.source_offset + at,
        }
    }

    /// Another run could not go on from here: it has to begin anew.
    fn give_up(&self, run: &Run<'a>, error: Error) -> Unfinished {
        let removed = self.journal.as_ref().map_or(Ok(()), Journal::remove);
        // What went wrong first is what matters; a journal that is left is refused or does no harm.
        drop(removed);
        run.unfinished(error, None)
    }
}

/// A copy under way.
struct Run<'a> {
    ends: Ends<'a>,
    chunk: u64,
    /// The source as it was.
    from: Identity,
    record: Record,
    /// Bytes that runs before had done.
    resumed: u64,
    /// What is done, durable, and noted.
    durable: RangeSet,
    /// What [`Destination::losses`] was when `durable` was all that was done.
    losses: u64,
    moved: Moved,
    /// Bytes that were done and are not in `durable`.
    repeated: u64,
}

/// What going through all that is not done comes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Pass {
    /// It is done, and durable.
    Complete,
    /// What was done since something was last durable may be lost.
    Again,
}

impl Run<'_> {
    /// Bytes of a buffer.
    fn room(&self) -> usize {
        usize::try_from(self.chunk.min(self.ends.layout.length)).unwrap_or(usize::MAX)
    }

    fn progress(&self, phase: Phase, tally: &Tally) -> Progress {
        Progress { phase, done: tally.done.total(), length: self.ends.layout.length }
    }

    fn unfinished(&self, error: Error, journal: Option<&Journal>) -> Unfinished {
        let journal = journal.map(|journal| PathBuf::from(journal.path()));
        let length = self.ends.layout.length;
        Unfinished { error, done: self.durable.total(), length, journal }
    }
}

fn look<S: Source + ?Sized>(endpoint: &S) -> Result<Identity, Error> {
    endpoint.identity().map_err(|source| Error::Look { name: endpoint.name().to_owned(), source })
}

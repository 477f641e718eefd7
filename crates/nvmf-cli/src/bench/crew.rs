//! The threads of a benchmark, and who looks after them meanwhile.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use anyhow::{Context, anyhow};

use super::With;
use super::job::Job;
use super::live;
use super::tally::Tally;

/// What threads say.
enum Said {
    /// What was done in the last second.
    Live(Tally),
    Ended(Box<Job>, anyhow::Result<()>),
}

/// The threads.
pub(crate) struct Crew<'a> {
    with: &'a With<'a>,
    sender: Sender<Said>,
    said: Receiver<Said>,
    started: anyhow::Result<()>,
}

impl<'a> Crew<'a> {
    pub(crate) fn new(with: &'a With<'a>) -> Self {
        let (sender, said) = mpsc::channel();
        Self { with, sender, said, started: Ok(()) }
    }

    /// Has a thread do a job.
    pub(crate) fn start(
        &mut self,
        mut job: Job,
        work: impl FnOnce(&mut Job) -> anyhow::Result<()> + Send + 'static,
    ) {
        if self.started.is_err() {
            return;
        }
        let sender = self.sender.clone();
        if self.with.line.is_seen() {
            let sender = sender.clone();
            let told = job.tell(move |tally| {
                let _ = sender.send(Said::Live(tally.clone()));
            });
            if told.is_err() {
                self.started = told;
                return;
            }
        }
        let pin_to = self.with.args.pin.as_ref().and_then(|cpus| cpus.0.get(job.number)).copied();
        self.started = thread::Builder::new()
            .name("nvmf-bench".to_owned())
            .spawn(move || {
                pin(pin_to);
                let result = work(&mut job);
                let _ = sender.send(Said::Ended(Box::new(job), result));
            })
            .map(|_| ())
            .context("cannot start a thread");
    }

    /// Waits until all threads have ended, and does `meanwhile` again and again; the jobs in their
    /// order, and the first failure.
    pub(crate) fn attend(
        self,
        mut meanwhile: impl FnMut() -> anyhow::Result<()>,
    ) -> (Vec<Job>, anyhow::Result<()>) {
        const LOOK: Duration = Duration::from_millis(100);
        let Self { with, sender, said, started: mut result } = self;
        drop(sender);
        let mut jobs = Vec::new();
        let mut second: Option<(usize, Tally)> = None;
        loop {
            let told = match said.recv_timeout(LOOK) {
                Ok(Said::Ended(job, ended)) => {
                    jobs.push(*job);
                    ended
                }
                Ok(Said::Live(tally)) => {
                    show(with, &mut second, tally);
                    Ok(())
                }
                Err(RecvTimeoutError::Timeout) => Ok(()),
                Err(RecvTimeoutError::Disconnected) => break,
            };
            if with.stop.is_asked() {
                with.shared.halt();
            }
            if result.is_ok() {
                result = told.and_then(|()| meanwhile());
            }
            if result.is_err() {
                with.shared.halt();
            }
        }
        jobs.sort_by_key(|job: &Job| job.number);
        if result.is_ok() && jobs.len() < with.plan.threads {
            result = Err(anyhow!("a thread of nvmf panicked"));
        }
        (jobs, result)
    }
}

/// Shows a second when all threads have told of theirs.
fn show(with: &With<'_>, second: &mut Option<(usize, Tally)>, tally: Tally) {
    let (told, sum) = match second.take() {
        None => (1, tally),
        Some((told, mut sum)) => {
            sum.add(&tally);
            (told + 1, sum)
        }
    };
    if told < with.plan.threads {
        *second = Some((told, sum));
    } else if with.shared.start().is_none() {
        with.line.say("writing what is to be read …");
    } else {
        with.line.say(live::describe(with.plan, &sum));
    }
}

/// Keeps the calling thread on a CPU.
#[cfg(target_os = "linux")]
fn pin(cpu: Option<usize>) {
    use rustix::thread::{CpuSet, sched_setaffinity};
    let Some(cpu) = cpu.filter(|cpu| *cpu < CpuSet::MAX_CPU) else { return };
    let mut set = CpuSet::new();
    set.set(cpu);
    if let Err(error) = sched_setaffinity(None, &set) {
        tracing::warn!(cpu, %error, "the thread is not kept on its CPU");
    }
}

#[cfg(not(target_os = "linux"))]
fn pin(cpu: Option<usize>) {
    if let Some(cpu) = cpu {
        tracing::warn!(cpu, "threads are kept on CPUs on Linux only");
    }
}

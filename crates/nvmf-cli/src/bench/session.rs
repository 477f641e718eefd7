//! The connections of a benchmark and the threads that use them.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use anyhow::{Context, anyhow, ensure};
use nvmf::host::{Association, NamespaceInfo, TcpQueue};
use nvmf::proto::queue::QueueSize;
use nvmf::spec::identify::IdentifyController;
use nvmf_host::{Options, Pace};

use super::args::Bench;
use super::job::{Job, Shared};
use super::live::{self, Line};
use super::plan::Plan;
use super::tally::Tally;
use crate::connect::Connector;
use crate::stop::Stop;

/// An association whose I/O queues are shared out among threads.
pub(crate) struct Session {
    association: Association,
    /// The queues of each thread.
    queues: Vec<Vec<TcpQueue>>,
}

/// Why a benchmark ended before its time.
pub(crate) struct Failure {
    pub error: anyhow::Error,
    /// A new connection may help.
    pub connection: bool,
}

impl Failure {
    fn new(error: impl Into<anyhow::Error>, connection: bool) -> Self {
        Self { error: error.into(), connection }
    }
}

/// What threads say.
enum Said {
    /// What was done in the last second.
    Live(Tally),
    Ended(Box<Job>, Result<(), nvmf_host::Error>),
}

/// Connects and looks at the namespace.
pub(crate) fn connect(connector: &Connector) -> anyhow::Result<(Association, NamespaceInfo)> {
    let mut association = connector.connect()?;
    let namespace = connector.namespace(&mut association)?;
    Ok((association, namespace))
}

impl Session {
    /// Connects the I/O queues.
    pub(crate) fn open(mut association: Association, plan: &Plan) -> anyhow::Result<Self> {
        let wanted = u16::try_from(plan.queues)?;
        let share = plan.share(0);
        let entries = u32::try_from(share).ok().and_then(|share| QueueSize::new(share + 1));
        let queues = association
            .connect_io_queues(wanted, Some(entries.unwrap_or(QueueSize::MAX_IO)))
            .context("cannot connect the I/O queues")?;
        let granted = queues.len();
        ensure!(
            granted == plan.queues,
            "the controller grants {granted} I/O queues, not {wanted}; see --queues"
        );
        let mut threads: Vec<Vec<_>> = (0..plan.threads).map(|_| Vec::new()).collect();
        for (at, queue) in queues.into_iter().enumerate() {
            let most = queue.capacity();
            ensure!(
                share <= usize::try_from(most)?,
                "an I/O queue of this controller takes {most} commands, not {share}; give more \
                 --queues or less --qd"
            );
            threads[at % plan.threads].push(queue.into_tcp()?);
        }
        Ok(Self { association, queues: threads })
    }

    /// Lets the threads do their jobs, and gives these back.
    pub(crate) fn run(
        self,
        args: &Bench,
        plan: &Plan,
        shared: &Shared,
        jobs: Vec<Job>,
        stop: &Stop,
        line: &Line,
    ) -> (Vec<Job>, Result<(), Failure>) {
        let Self { association, queues } = self;
        let (sender, receiver) = mpsc::channel();
        let mut options = Options::new(1);
        options.engine = args.engine.engine;
        options.timeout = args.connect.host.timeout;
        options.pace = Pace::new(args.spin);
        options.handle = Some(shared.handle.clone());
        options.disconnect =
            association.controller().ofcs.get() & IdentifyController::OFCS_DISCONNECT != 0;
        let mut started = Ok(());
        for (job, queues) in jobs.into_iter().zip(queues) {
            let mut options = options.clone();
            options.depth = plan.depth_of(job.number);
            let cpu = args.pin.as_ref().and_then(|cpus| cpus.0.get(job.number)).copied();
            started = started.and(start(job, queues, options, cpu, line, sender.clone()));
        }
        drop(sender);
        let mut attendance = Attendance { association, shared, stop, line, plan };
        let (mut jobs, mut result) = attendance.attend(&receiver);
        jobs.sort_by_key(|job| job.number);
        result = started.map_err(|error| Failure::new(error, false)).and(result);
        if result.is_ok() && jobs.len() < plan.threads {
            result = Err(Failure::new(anyhow!("a thread of nvmf panicked"), false));
        }
        if result.is_ok() {
            // All was done: whether the controller takes its leave well is no matter any more.
            if let Err(error) = attendance.association.shutdown(Vec::new()) {
                tracing::info!(%error, "the controller does not shut down");
            }
        }
        (jobs, result)
    }
}

fn start(
    mut job: Job,
    queues: Vec<TcpQueue>,
    options: Options,
    cpu: Option<usize>,
    line: &Line,
    sender: Sender<Said>,
) -> anyhow::Result<()> {
    if line.is_seen() {
        let sender = sender.clone();
        job.tell(move |tally| {
            let _ = sender.send(Said::Live(tally.clone()));
        })?;
    }
    thread::Builder::new()
        .name("nvmf-bench".to_owned())
        .spawn(move || {
            pin(cpu);
            let result = nvmf_host::run(queues, &mut job, &options);
            let _ = sender.send(Said::Ended(Box::new(job), result));
        })
        .context("cannot start a thread")?;
    Ok(())
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

/// The main thread meanwhile.
struct Attendance<'a> {
    association: Association,
    shared: &'a Shared,
    stop: &'a Stop,
    line: &'a Line,
    plan: &'a Plan,
}

impl Attendance<'_> {
    /// Keeps the association alive until all threads have ended.
    fn attend(&mut self, said: &Receiver<Said>) -> (Vec<Job>, Result<(), Failure>) {
        const LOOK: Duration = Duration::from_millis(100);
        let (mut jobs, mut result) = (Vec::new(), Ok(()));
        let mut second: Option<(usize, Tally)> = None;
        loop {
            match said.recv_timeout(LOOK) {
                Ok(Said::Ended(job, ended)) => {
                    jobs.push(*job);
                    if let Err(error) = ended {
                        let connection = error.is_connection();
                        self.fail(&mut result, Failure::new(error, connection));
                    }
                }
                Ok(Said::Live(tally)) => self.show(&mut second, tally),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return (jobs, result),
            }
            if self.stop.is_asked() {
                self.shared.halt(true);
            }
            if result.is_ok()
                && let Err(error) = self.association.keep_alive_if_due()
            {
                let error = anyhow!(error).context("the admin queue failed");
                self.fail(&mut result, Failure::new(error, true));
            }
        }
    }

    /// Ends all threads; the first failure is the one that is told.
    fn fail(&self, result: &mut Result<(), Failure>, failure: Failure) {
        self.shared.halt(true);
        if result.is_ok() {
            *result = Err(failure);
        }
    }

    /// Shows a second when all threads have told of theirs.
    fn show(&self, second: &mut Option<(usize, Tally)>, tally: Tally) {
        let (told, sum) = match second.take() {
            None => (1, tally),
            Some((told, mut sum)) => {
                sum.add(&tally);
                (told + 1, sum)
            }
        };
        if told < self.plan.threads {
            *second = Some((told, sum));
        } else if self.shared.start().is_none() {
            self.line.say("writing what is to be read …");
        } else {
            self.line.say(live::describe(self.plan, &sum));
        }
    }
}

//! `nvmf bench`

pub(crate) mod args;
mod cpu;
mod crew;
mod idle;
mod job;
mod latency_log;
mod ledger;
mod live;
mod object;
mod pattern;
mod plan;
mod random;
mod report;
mod session;
mod tally;

use std::sync::Arc;

use anyhow::{Context, anyhow, bail};

use crate::args::Format;
use crate::connect::Connector;
use crate::failure::Usage;
use crate::output;
use crate::progress::Line;
use crate::stop::Stop;
use args::Bench;
use job::{Job, Shared};
use latency_log::LatencyLog;
use object::Object;
use plan::{Measured, Plan};
use report::Report;
use session::Session;
use tally::{Tally, Troubles};

pub(crate) fn run(args: &Bench) -> anyhow::Result<()> {
    check(args)?;
    let connectors = connectors(args)?;
    if let Some(idle) = args.idle {
        return idle::run(args, only(&connectors)?, idle);
    }
    let report = measure(args, connectors)?;
    match args.output.format {
        Format::Json => output::print(format_args!("{:#}", report.json()))?,
        Format::Normal => output::print(report.text())?,
    }
    verdict(&report.troubles)
}

/// Each path to what is measured: at least one.
fn connectors(args: &Bench) -> anyhow::Result<Vec<Connector>> {
    let of = |target| Connector::new(&args.connect, target)?.with_namespace(args.namespace_id);
    if args.targets.is_empty() {
        return Ok(vec![of(None)?]);
    }
    args.targets.iter().map(|target| of(Some(target.clone()))).collect()
}

fn only(connectors: &[Connector]) -> anyhow::Result<&Connector> {
    match connectors {
        [one] => Ok(one),
        _ => Err(Usage::new("--idle has one target").into()),
    }
}

/// Refuses numbers that do not go together.
fn check(args: &Bench) -> anyhow::Result<()> {
    let Bench { qd, queues, cores, .. } = *args;
    if qd < u32::from(queues) {
        let what = format!("--qd {qd} is for all queues together, and there are {queues}");
        return Err(Usage::new(what).into());
    }
    if cores > queues {
        let what = format!("--cores {cores} has a thread without a queue; give as many --queues");
        return Err(Usage::new(what).into());
    }
    if let Some(cpus) = &args.pin
        && cpus.0.len() < usize::from(cores)
    {
        let what = format!("--pin names {} CPUs, and there are {cores} threads", cpus.0.len());
        return Err(Usage::new(what).into());
    }
    if qd.div_ceil(u32::from(queues)) > MOST_PER_QUEUE {
        let what = format!("a queue takes {MOST_PER_QUEUE} commands; give more --queues");
        return Err(Usage::new(what).into());
    }
    Ok(())
}

/// Commands outstanding on one queue at most.
const MOST_PER_QUEUE: u32 = 65_535;

/// What is measured, connected.
enum Subject {
    /// Queues of one association, which ends with them.
    Queues(Box<Session>),
    /// A namespace object, which goes on by other paths.
    Object(Object),
}

impl Subject {
    /// Connects; gives its name for messages, too.
    fn connect(args: &Bench, connectors: Vec<Connector>) -> anyhow::Result<(Self, String)> {
        if let ([connector], None) = (&connectors[..], args.reconnect) {
            let name = format!("namespace {} of {}", connector.nsid(), connector.name());
            return Ok((Self::Queues(Session::connect(connector).map(Box::new)?), name));
        }
        let object = Object::connect(args, connectors)?;
        let name = object.name.clone();
        Ok((Self::Object(object), name))
    }

    fn measured(&self) -> Measured {
        match self {
            Self::Queues(session) => session.measured,
            Self::Object(object) => object.measured(),
        }
    }

    fn run(self, with: &With<'_>, jobs: Vec<Job>) -> anyhow::Result<Done> {
        match self {
            Self::Queues(session) => session.run(with, jobs),
            Self::Object(object) => object.run(with, jobs),
        }
    }
}

/// What the threads did, and how often their connections were made again.
struct Done {
    jobs: Vec<Job>,
    reconnects: u64,
    lost: u64,
    result: anyhow::Result<()>,
}

fn measure(args: &Bench, connectors: Vec<Connector>) -> anyhow::Result<Report> {
    let stop = Stop::on_signals()?;
    let line = Line::new();
    let log = args.latency_log.as_deref().map(LatencyLog::create).transpose()?;
    let url = connectors.first().map(Connector::url).unwrap_or_default();
    let (subject, name) = Subject::connect(args, connectors)?;
    let cannot = || format!("cannot measure {name}");
    let plan = Plan::new(args, &subject.measured()).map(Arc::new).with_context(cannot)?;
    let shared = Arc::new(Shared::new(&plan));
    let jobs = (0..plan.threads)
        .map(|number| Job::new(&plan, &shared, number, log.clone()))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let with = With { args, plan: &plan, shared: &shared, stop: &stop, line: &line };
    let Done { jobs, reconnects, lost, result } = subject.run(&with, jobs).with_context(cannot)?;
    line.clear();
    result.with_context(cannot)?;
    let (mut tally, mut troubles) = (Tally::new()?, Troubles { lost, ..Troubles::default() });
    for job in &jobs {
        tally.add(&job.tally());
        troubles.add(&job.troubles);
    }
    drop(jobs);
    if let Some(log) = log {
        log.finish()?;
    }
    Ok(Report {
        target: url,
        header_digest: args.connect.host.hdgst,
        data_digest: args.connect.host.ddgst,
        measured: shared.measured(&plan),
        tally,
        troubles,
        cpu: shared.cpu(),
        reconnects,
        plan,
    })
}

/// What all threads of a benchmark go by.
struct With<'a> {
    args: &'a Bench,
    plan: &'a Arc<Plan>,
    shared: &'a Arc<Shared>,
    stop: &'a Stop,
    line: &'a Line,
}

/// Fails if anything that was read was wrong, or a command failed.
fn verdict(troubles: &Troubles) -> anyhow::Result<()> {
    let Troubles { mismatches, examples, errors, .. } = troubles;
    if let Some(first) = examples.first() {
        let more = match mismatches {
            1 => "1 command read".to_owned(),
            n => format!("{n} commands read"),
        };
        bail!("{more} something else than was written: {first}");
    }
    match errors.iter().max_by_key(|(_, count)| **count) {
        None => Ok(()),
        Some((status, _)) => {
            let all = troubles.errors();
            let commands = if all == 1 { "command" } else { "commands" };
            Err(anyhow!("{all} {commands} failed: {status}"))
        }
    }
}

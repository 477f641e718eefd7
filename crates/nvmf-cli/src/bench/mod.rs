//! `nvmf bench`

pub(crate) mod args;
mod cpu;
mod idle;
mod job;
mod ledger;
mod live;
mod pattern;
mod plan;
mod random;
mod report;
mod session;
mod tally;

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use nvmf::Deadline;

use crate::args::Format;
use crate::connect::Connector;
use crate::failure::{self, Usage};
use crate::output;
use crate::stop::Stop;
use args::Bench;
use job::{Job, Shared};
use live::Line;
use plan::Plan;
use report::Report;
use session::{Failure, Session};
use tally::{Tally, Troubles};

pub(crate) fn run(args: &Bench) -> anyhow::Result<()> {
    let (connector, more) = Connector::with_argument(&args.connect, args.target.as_deref(), None)?;
    if let Some(more) = more {
        return Err(Usage::new(format!("`{more}` is one argument too many")).into());
    }
    let connector = connector.with_namespace(args.namespace_id)?;
    check(args)?;
    if let Some(idle) = args.idle {
        return idle::run(args, &connector, idle);
    }
    let report = measure(args, &connector)?;
    match args.output.format {
        Format::Json => output::print(format_args!("{:#}", report.json()))?,
        Format::Normal => output::print(report.text())?,
    }
    verdict(&report.troubles)
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

fn measure(args: &Bench, connector: &Connector) -> anyhow::Result<Report> {
    let cannot =
        || format!("cannot measure namespace {} of {}", connector.nsid(), connector.name());
    let stop = Stop::on_signals()?;
    let (association, namespace) = session::connect(connector)?;
    let plan = Arc::new(Plan::new(args, &namespace, &association).with_context(cannot)?);
    let shared = Arc::new(Shared::new(&plan));
    let mut jobs = (0..plan.threads)
        .map(|number| Job::new(&plan, &shared, number))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let line = Line::new();
    let mut session = Session::open(association, &plan).with_context(cannot)?;
    let mut reconnects = 0;
    let ended = loop {
        let (left, result) = session.run(args, &plan, &shared, jobs, &stop, &line);
        jobs = left;
        let failure = match (result, args.reconnect) {
            (Ok(()), _) => break Ok(()),
            (Err(failure), Some(patience)) if failure.connection => (failure, patience),
            (Err(failure), _) => break Err(failure.error),
        };
        let (Failure { error, .. }, patience) = failure;
        tracing::info!(error = format!("{error:#}"), "reconnecting");
        match reconnect(connector, &plan, patience, error, &stop) {
            Ok(Some(again)) => session = again,
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
        shared.halt(false);
        reconnects += 1;
    };
    line.clear();
    ended.with_context(cannot)?;
    let (mut tally, mut troubles) = (Tally::new()?, Troubles::default());
    for job in &jobs {
        tally.add(&job.tally());
        troubles.add(&job.troubles);
    }
    Ok(Report {
        target: connector.url(),
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

/// Connects again, with ever longer pauses; `None` if that is not wanted any more.
fn reconnect(
    connector: &Connector,
    plan: &Plan,
    patience: Duration,
    cause: anyhow::Error,
    stop: &Stop,
) -> anyhow::Result<Option<Session>> {
    const FIRST_PAUSE: Duration = Duration::from_millis(20);
    const LONGEST_PAUSE: Duration = Duration::from_secs(1);
    let deadline = Deadline::after(patience);
    let mut pause = FIRST_PAUSE;
    loop {
        if stop.is_asked() {
            return Ok(None);
        }
        let opened = session::connect(connector).and_then(|(association, namespace)| {
            plan.check_again(&namespace)?;
            Session::open(association, plan)
        });
        let error = match opened {
            Ok(session) => return Ok(Some(session)),
            Err(error) => error,
        };
        let Some(left) = deadline.remaining() else {
            return Err(error.context(format!(
                "cannot connect again within {patience:?} (after: {})",
                failure::one_line(&cause)
            )));
        };
        tracing::debug!(error = format!("{error:#}"), "cannot connect again yet");
        thread::sleep(pause.min(left));
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
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

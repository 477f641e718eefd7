//! `nvmf discover`

pub(crate) mod args;
mod beginnings;
mod mdns;
mod shown;
mod watch;

use std::io;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use nvmf::Error;
use nvmf::host::DiscoveryLog;
use nvmf::host::discovery::{Discoverer, DiscoveryController, PassedOver, WalkLimits, walk};

use crate::args::Format;
use crate::connect;
use crate::failure::{self, Usage};
use crate::output;
use crate::progress::Line;
use crate::target;

use args::Discover;
use beginnings::Beginnings;
use shown::{Asked, Several, Single};

/// How long nothing need be said of what goes on.
const PATIENCE: Duration = Duration::from_secs(1);

pub(crate) fn run(args: &Discover) -> anyhow::Result<()> {
    let options = connect::host_options(&args.connect.host)?;
    let line = Line::new();
    if args.mdns && args.mdns_time > PATIENCE {
        line.say("looking for discovery controllers …");
    }
    let begun = Instant::now();
    let beginnings = Beginnings::new(args, &options);
    line.clear();
    let beginnings = beginnings?;
    let discoverer = Discoverer::new(options);
    let discoverer = match &args.connect.host.trace {
        Some(trace) => discoverer.trace_pdus(trace.clone()),
        None => discoverer,
    };
    let limits = if args.no_referrals { WalkLimits::no_referrals() } else { WalkLimits::default() };
    if args.watch {
        return watch::run(&discoverer, beginnings, &limits, args.output.format);
    }
    let all = beginnings.all();
    if all.is_empty() && beginnings.mdns.is_some() {
        let time = args.mdns_time;
        return Err(anyhow!(
            "multicast DNS found no discovery controller in {time:?}; --mdns-time looks longer"
        ));
    }
    let line = Line::new();
    let walked = walk(all, &limits, |controller| {
        if begun.elapsed() > PATIENCE {
            line.say(format!("asking {controller} …"));
        }
        ask(&discoverer, controller)
    });
    line.clear();
    let Beginnings { single, wrong, .. } = beginnings;
    // Where one was asked for and does not answer, there is nothing but its error.
    let list = args.output.format == Format::Json && !single;
    if list || walked.visits.iter().any(|visit| visit.log.is_ok()) {
        show(&walked.visits, single, args.output.format)?;
    }
    let left = left_out(&walked.visits, &walked.passed_over);
    failed(walked.visits, wrong + left, args)
}

/// A controller's log, or why there is none and what to try.
fn ask(discoverer: &Discoverer, controller: &DiscoveryController) -> anyhow::Result<DiscoveryLog> {
    let at = target::authority(controller.address(), controller.port());
    let mut association = match discoverer.connect(controller) {
        Ok(association) => association,
        Err(error @ Error::NotDiscovery { .. }) => return Err(error.into()),
        Err(error) => {
            let (nqn, options) = (controller.subsystem(), discoverer.options());
            return Err(connect::cannot_connect(&error, nqn, &at, options));
        }
    };
    // Discovery controllers need not be told that their host leaves.
    association.discovery_log().with_context(|| format!("cannot read the discovery log of {at}"))
}

fn leave_out(controller: &DiscoveryController) -> anyhow::Error {
    Usage::new(format!(
        "discover asks the discovery subsystem, not {}; leave the NQN out: `nvmf discover \
         nvme+tcp://{}`",
        controller.subsystem(),
        target::authority(controller.address(), controller.port())
    ))
    .into()
}

fn show(visits: &[Asked], single: bool, format: Format) -> io::Result<()> {
    match (format, single) {
        (Format::Json, true) => output::show(format, &Single(visits)),
        (Format::Json, false) => output::show(format, &Several(visits)),
        (Format::Normal, _) => output::print(shown::tables(visits, single)),
    }
}

/// Says which referrals were not followed; how many of these would have been without a limit.
fn left_out(visits: &[Asked], passed_over: &[PassedOver]) -> usize {
    for PassedOver { referred_by, count, reason } in passed_over {
        let from = &visits[*referred_by].controller;
        let what = if *count == 1 { "a referral" } else { "referrals" };
        let number = if *count == 1 { String::new() } else { format!("{count} ") };
        failure::say(&format!("{number}{what} of {from} passed over: {reason}"));
    }
    passed_over.iter().filter(|one| one.reason.is_limit()).map(|one| one.count).sum()
}

/// Says what went wrong: `others` things that were said are among it.
fn failed(visits: Vec<Asked>, others: usize, args: &Discover) -> anyhow::Result<()> {
    let asked = visits.len();
    let by: Vec<_> = visits.iter().map(|visit| visit.controller.to_string()).collect();
    let errors = visits.into_iter().filter_map(|visit| {
        let error = visit.log.err()?;
        let io = matches!(error.downcast_ref(), Some(Error::NotDiscovery { .. }));
        Some(match visit.referred_by {
            Some(at) => error.context(format!("{} refers to another one", by[at])),
            None if io => leave_out(&visit.controller),
            None => error,
        })
    });
    let mut errors: Vec<_> = errors.collect();
    match (errors.len(), others) {
        (0, 0) => Ok(()),
        (1, 0) => errors.pop().map_or(Ok(()), Err),
        (failed, others) => {
            let timeout = Some(args.connect.host.timeout);
            errors.iter().for_each(|error| failure::say(&failure::described(error, timeout)));
            Err(match (failed, others) {
                (0, _) => anyhow!("this is not all that there is"),
                (failed, 0) => anyhow!("{failed} of {asked} discovery controllers did not answer"),
                (failed, _) => anyhow!(
                    "{failed} of {asked} discovery controllers did not answer, and this is not all \
                     that there is"
                ),
            })
        }
    }
}

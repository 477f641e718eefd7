//! `nvmf connect-all`

use std::net::SocketAddr;

use anyhow::anyhow;
use nvmf::handoff::linux::{Candidate, Discovered, Kernel, Made, Options, candidates, discover};
use nvmf::host::TcpDialer;
use nvmf::spec::Nqn;
use nvmf::spec::print::{FieldSink, Fields};

use super::args::ConnectAll;
use super::{explain, made_text, options, plan, require_kernel, say_missing};
use crate::args::Format;
use crate::connect::Connector;
use crate::failure::{self, Usage};
use crate::output;

pub(crate) fn run(args: &ConnectAll) -> anyhow::Result<()> {
    if args.target.is_none() && args.how.connect.traddr.is_none() {
        let what = "no discovery controller; give nvme+tcp://HOST[:PORT] or -a HOST";
        return Err(Usage::new(what).into());
    }
    let connector = Connector::new(&args.how.connect, args.target.clone())?;
    let subsystem = connector.target.subsystem.clone().unwrap_or(Nqn::DISCOVERY);
    let kernel = Kernel::at(&args.how.machine.root);
    // What this machine lacks is said before the network is asked for anything.
    require_kernel(&kernel)?;
    let failed = |error| connector.explain(&error, &subsystem);
    let dialer = connector.dialer().map_err(failed)?;
    let found = discover(&dialer, &subsystem, connector.options()).map_err(failed)?;
    say_lost(&found);
    let template = options(&args.how.kernel, &connector);
    let mut report = Report::default();
    for candidate in candidates(&found.entries, &template, &kernel.sysfs.controllers()?) {
        match candidate {
            Candidate::Connect { address, options } => {
                let made = connect(args, &kernel, &options, address, &dialer, &connector);
                report.add(args.how.output.format, &options, address, made)?;
            }
            Candidate::Skip { subsystem, place, reason } => {
                let skipped = Skipped { subsystem, place, reason: reason.to_string() };
                if args.how.output.format == Format::Normal {
                    failure::say(&format!("{skipped}; left out"));
                }
                report.skipped.push(skipped);
            }
        }
    }
    report.end(args.how.output.format, &found)
}

/// One entry. It has an address of its own, and the same host.
fn connect(
    args: &ConnectAll,
    kernel: &Kernel,
    options: &Options,
    address: SocketAddr,
    dialer: &TcpDialer,
    connector: &Connector,
) -> anyhow::Result<Made> {
    let dialer = dialer.to(address);
    let plan = plan(&args.how.kernel, options, &dialer, connector);
    let at = address.to_string();
    kernel.connect(options, &plan).map_err(|error| explain(error, &options.nqn, &at, connector))
}

/// What was not followed, which may have had more subsystems.
fn say_lost(found: &Discovered) {
    for (address, error) in &found.failed {
        failure::say(&format!("cannot follow the referral to {address}: {error}"));
    }
    if found.truncated {
        failure::say("there are more discovery logs and entries than are followed");
    }
}

/// What came of each entry.
#[derive(Default)]
struct Report {
    made: Vec<Made>,
    skipped: Vec<Skipped>,
    failed: Vec<Failed>,
}

struct Skipped {
    subsystem: String,
    place: String,
    reason: String,
}

struct Failed {
    subsystem: String,
    place: String,
    error: String,
}

impl Report {
    /// Adds what came of an entry, and says it.
    fn add(
        &mut self,
        format: Format,
        options: &Options,
        address: SocketAddr,
        made: anyhow::Result<Made>,
    ) -> anyhow::Result<()> {
        match made {
            Ok(made) => {
                if format == Format::Normal {
                    output::print(made_text(&made))?;
                }
                say_missing(&made);
                self.made.push(made);
            }
            Err(error) => {
                let error = failure::one_line(&error);
                failure::say(&error);
                let place = format!("tcp {} {}", address.ip(), address.port());
                self.failed.push(Failed { subsystem: options.nqn.to_string(), place, error });
            }
        }
        Ok(())
    }

    /// The whole of it, and a failure if anything is not as it was asked for.
    fn end(&self, format: Format, found: &Discovered) -> anyhow::Result<()> {
        if format == Format::Json {
            output::show(format, self)?;
        } else if self.made.is_empty() && self.skipped.is_empty() && self.failed.is_empty() {
            output::print("the discovery log has no subsystem for this host")?;
        }
        let wanted = self.made.len() + self.failed.len();
        match (self.failed.len(), found.failed.len()) {
            (0, 0) => Ok(()),
            (0, lost) => Err(anyhow!("{lost} referrals could not be followed")),
            (failed, _) => Err(anyhow!("{failed} of {wanted} subsystems were not connected")),
        }
    }
}

impl std::fmt::Display for Skipped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at {}: {}", self.subsystem, self.place, self.reason)
    }
}

impl Fields for Report {
    fn fields(&self, out: &mut dyn FieldSink) {
        out.objects("connected", self.made.iter());
        out.objects("skipped", self.skipped.iter());
        out.objects("failed", self.failed.iter());
    }
}

impl Fields for Skipped {
    fn fields(&self, out: &mut dyn FieldSink) {
        out.text("SubsystemNQN", &self.subsystem);
        out.text("place", &self.place);
        out.text("reason", &self.reason);
    }
}

impl Fields for Failed {
    fn fields(&self, out: &mut dyn FieldSink) {
        out.text("SubsystemNQN", &self.subsystem);
        out.text("place", &self.place);
        out.text("error", &self.error);
    }
}

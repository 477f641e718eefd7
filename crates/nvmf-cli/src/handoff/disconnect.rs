//! `nvmf disconnect` and `nvmf disconnect-all`

use std::time::Duration;

use anyhow::anyhow;
use nvmf::Deadline;
use nvmf::handoff::linux::{Controller, DisconnectError, Sysfs, Which};
use nvmf::spec::print::{FieldSink, Fields};

use super::args::{Disconnect, DisconnectAll, Machine, Patience};
use crate::args::Format;
use crate::failure;
use crate::output;

pub(crate) fn run(args: &Disconnect) -> anyhow::Result<()> {
    let mut outcome = Outcome::new(&args.machine, &args.patience);
    for nqn in &args.nqn {
        let before = outcome.failed.len();
        let gone = outcome.add(Which::Subsystem(nqn));
        if gone == 0 && outcome.failed.len() == before {
            outcome.failed.push(anyhow!(
                "this machine is not connected to {nqn}; `nvmf list` shows what it is connected to"
            ));
        }
        if args.output.format == Format::Normal {
            output::print(format_args!("NQN:{nqn} disconnected {gone} controller(s)"))?;
        }
    }
    for device in &args.device {
        let gone = outcome.add(Which::Device(device));
        if args.output.format == Format::Normal && gone > 0 {
            output::print(format_args!("disconnected {device}"))?;
        }
    }
    outcome.end(args.output.format)
}

pub(crate) fn all(args: &DisconnectAll) -> anyhow::Result<()> {
    let mut outcome = Outcome::new(&args.machine, &args.patience);
    let gone = outcome.add(Which::All);
    if args.output.format == Format::Normal {
        output::print(format_args!("disconnected {gone} controller(s)"))?;
    }
    outcome.end(args.output.format)
}

/// What came of all that was named.
struct Outcome {
    sysfs: Sysfs,
    timeout: Duration,
    gone: Vec<Controller>,
    failed: Vec<anyhow::Error>,
}

impl Outcome {
    fn new(machine: &Machine, patience: &Patience) -> Self {
        let sysfs = Sysfs::at(&machine.root);
        Self { sysfs, timeout: patience.timeout, gone: Vec::new(), failed: Vec::new() }
    }

    /// How many went.
    fn add(&mut self, which: Which<'_>) -> usize {
        match self.sysfs.disconnect(which, Deadline::after(self.timeout)) {
            Ok(outcome) => {
                let gone = outcome.gone.len();
                self.gone.extend(outcome.gone);
                self.failed.extend(outcome.failed.into_iter().map(explain));
                gone
            }
            Err(error) => {
                self.failed.push(explain(error));
                0
            }
        }
    }

    /// Says what failed; the last of it is the command's error.
    fn end(mut self, format: Format) -> anyhow::Result<()> {
        if format == Format::Json {
            output::show(format, &Gone(&self.gone))?;
        }
        let last = self.failed.pop();
        for error in self.failed {
            failure::say(&failure::one_line(&error));
        }
        last.map_or(Ok(()), Err)
    }
}

fn explain(error: DisconnectError) -> anyhow::Error {
    match error {
        error @ DisconnectError::StillThere { .. } => anyhow!("{error}; --timeout waits longer"),
        error => error.into(),
    }
}

struct Gone<'a>(&'a [Controller]);

impl Fields for Gone<'_> {
    fn fields(&self, out: &mut dyn FieldSink) {
        out.objects("disconnected", self.0.iter());
    }
}

//! `nvmf connect`

use nvmf::handoff::linux::{Kernel, traddr};

use super::args::Connect;
use super::{explain, made_text, options, plan, require_kernel, say_missing};
use crate::args::Format;
use crate::connect::Connector;
use crate::failure::Usage;
use crate::output;

pub(crate) fn run(args: &Connect) -> anyhow::Result<()> {
    let connector = Connector::new(&args.how.connect, args.target.clone())?;
    if let Some(nsid) = connector.target.nsid {
        return Err(Usage::new(format!(
            "the kernel connects to subsystems, with all their namespaces; leave out /{nsid}"
        ))
        .into());
    }
    let subsystem = connector.subsystem()?;
    let kernel = Kernel::at(&args.how.machine.root);
    // What this machine lacks is said first, whatever the target's name is.
    require_kernel(&kernel)?;
    let dialer = connector.dialer().map_err(|error| connector.explain(&error, subsystem))?;
    let mut options = options(&args.how.kernel, &connector);
    options.nqn = subsystem.clone();
    // With a check it is the address that answers.
    options.traddr = dialer.addresses().first().copied().map(traddr);
    options.trsvcid = Some(connector.target.port.to_string());
    let made = kernel
        .connect(&options, &plan(&args.how.kernel, &options, &dialer, &connector))
        .map_err(|error| explain(error, subsystem, &connector.target.authority(), &connector))?;
    match args.how.output.format {
        Format::Json => output::show(Format::Json, &made)?,
        Format::Normal => output::print(made_text(&made))?,
    }
    say_missing(&made);
    Ok(())
}

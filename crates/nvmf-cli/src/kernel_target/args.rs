//! The command line of `nvmf kernel-target`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use nvmf_target::kernel;

use crate::args::Output;

pub(crate) const HELP: &str = "\
The kernel's target (nvmet) serves the same file as `nvmf serve --config` does; hosts find the same
disks, whichever of the two it is. It takes root and the modules nvmet and nvmet-tcp.

What nvmet cannot do (namespaces in memory, limits, namespaces for some hosts only, metrics …) is
refused with file, line and key, and nothing is changed. docs/kernel-target.md lists it.

Examples:
  nvmf kernel-target apply target.toml --dry-run    what would be done
  nvmf kernel-target apply target.toml
  nvmf kernel-target save target.toml               what the kernel has, as such a file
  nvmf kernel-target clear";

/// `nvmf kernel-target`
#[derive(Args, Debug)]
pub(crate) struct KernelTarget {
    /// Where nvmet is set up: its directory in configfs.
    #[arg(long, value_name = "DIR", default_value = kernel::KernelTarget::ROOT, global = true)]
    pub configfs: PathBuf,

    #[command(flatten)]
    pub output: Output,

    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Make the kernel's target what a configuration says
    #[command(after_help = "\
Examples:
  nvmf kernel-target apply target.toml
  nvmf kernel-target apply target.toml --dry-run
  nvmf kernel-target apply target.toml -o json | jq -r '.steps[].path'

The file is the whole truth: ports, subsystems, namespaces and hosts that the kernel has and the file
does not are taken away, whoever made them. What is as the file says is left alone, and so are hosts
that use it. If the kernel refuses a step, those before it are undone. After a restart of the machine
it has to be applied again.")]
    Apply {
        /// The configuration, as `nvmf serve --config` takes it.
        file: PathBuf,
        /// Print the steps, and take none.
        #[arg(long)]
        dry_run: bool,
    },
    /// Write down what the kernel's target is, as a configuration
    #[command(after_help = "\
Examples:
  nvmf kernel-target save
  nvmf kernel-target save target.toml && nvmf serve --config target.toml

What a configuration cannot say is left out, and said on standard error.")]
    Save {
        /// Write here and not to standard output. A file that is there is left alone.
        file: Option<PathBuf>,
    },
    /// Take away all that the kernel's target has
    #[command(after_help = "\
Examples:
  nvmf kernel-target clear --dry-run
  nvmf kernel-target clear

All ports, subsystems, namespaces and hosts go, whoever made them and whatever their transport is.
Hosts lose their connections. Nothing is asked.")]
    Clear {
        /// Print the steps, and take none.
        #[arg(long)]
        dry_run: bool,
    },
}

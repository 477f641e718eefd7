//! The command line of `nvmf config`.

use std::path::PathBuf;

use clap::Subcommand;

use crate::args::Output;

pub(crate) const HELP: &str = "\
A configuration says in TOML where a target listens, what it offers, and to whom:

  [[port]]
  listen = \"192.0.2.7:4420\"

  [[subsystem]]
  nqn = \"nqn.2026-01.org.example:disks\"
  hosts = [\"nqn.2026-01.org.example:client\"]    # or \"any\"
  [[subsystem.namespace]]
  source = \"file:/srv/disk.img,bs=512\"

Examples:
  nvmf config check target.toml
  nvmf config import /etc/nvmet/config.json --output target.toml
  nvmf config show target.toml -o json";

/// `nvmf config`
#[derive(Subcommand, Debug)]
pub(crate) enum Config {
    /// Say what a configuration would serve, or all that is wrong with it
    #[command(after_help = "\
Example:
  nvmf config check target.toml

What is wrong is said with file, line and key, a line each, and the status is 1. Nothing is opened:
whether the files are there, and the addresses are this machine's, shows when it is served.")]
    Check {
        /// The configuration.
        file: PathBuf,
    },
    /// Make a configuration of what nvmetcli saved of Linux's kernel target
    #[command(after_help = "\
Examples:
  nvmf config import /etc/nvmet/config.json
  nvmf config import /etc/nvmet/config.json --output target.toml
  sudo cat /etc/nvmet/config.json | nvmf config import /dev/stdin

What is left out, and what has to be looked at (the sizes of blocks, above all), is said on standard
error.")]
    Import {
        /// What nvmetcli saved, a JSON file.
        file: PathBuf,
        /// Write here and not to standard output. A file that is there is left alone.
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Show a configuration with all identifiers and without what is the default
    #[command(after_help = "\
Examples:
  nvmf config show target.toml
  nvmf config show target.toml -o json | jq '.subsystem[].nqn'")]
    Show {
        /// The configuration.
        file: PathBuf,
        #[command(flatten)]
        output: Output,
    },
}

//! The command line of `nvmf feature`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::args::{Connect, NSID_ALIASES, Output, parse_dword};
use crate::target::parse_nsid;

pub(crate) const HELP: &str = "\
Features, by name or by number (0x06):
  arbitration, power, temperature, error-recovery, write-cache, queues, write-atomicity, events,
  timestamp, keep-alive, host-behavior, host-id, reservation-mask, reservation-persistence,
  write-protection
or by the name that the specification has, as in \"Volatile Write Cache\".

A controller is there as long as the connection of its host: what is set and not kept by the subsystem
or a namespace ends with this command.

Examples:
  nvmf feature nvme+tcp://127.0.0.1/SUBNQN                     all that the controller has
  nvmf feature nvme+tcp://127.0.0.1/SUBNQN write-cache
  nvmf feature nvme+tcp://127.0.0.1/SUBNQN 0x04 --cdw11 0x100000 --select default -o json
  nvmf feature nvme+tcp://127.0.0.1/SUBNQN write-cache --value 0
  nvmf feature nvme+tcp://127.0.0.1/SUBNQN/1 reservation-persistence";

/// `nvmf feature`
#[derive(Args, Debug)]
pub(crate) struct Feature {
    /// nvme+tcp://HOST[:PORT]/SUBNQN[/NSID]
    pub target: Option<String>,
    /// The feature's name or number; all that the controller has where left out.
    pub feature: Option<String>,
    #[command(flatten)]
    pub output: Output,
    /// Which value to show, or what can be done with it.
    #[arg(long, value_name = "WHICH", default_value = "current")]
    pub select: Selected,
    /// Of this namespace; instead of TARGET's NSID. Else it is the controller's.
    #[arg(long, aliases = NSID_ALIASES, value_name = "NSID", value_parser = parse_nsid)]
    pub namespace_id: Option<u32>,
    /// What else Get Features says, in dword 11: which threshold, for temperature.
    #[arg(long, value_name = "N", value_parser = parse_dword, conflicts_with = "value")]
    pub cdw11: Option<u32>,
    /// Set the feature to this value, dword 11 of Set Features, and show what it is then.
    #[arg(long, value_name = "N", value_parser = parse_dword, conflicts_with = "select")]
    pub value: Option<u32>,
    /// Set the feature with the bytes of FILE, or of standard input: `-`.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["select", "cdw11"])]
    pub data: Option<PathBuf>,
    /// Print the feature's data as it is.
    #[arg(long, visible_alias = "raw-binary", conflicts_with = "output_format")]
    pub raw: bool,
    #[command(flatten)]
    pub connect: Connect,
}

/// Which value of a feature.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Selected {
    /// The one in effect.
    Current,
    /// The one that a controller starts with.
    Default,
    /// The one that is kept.
    Saved,
    /// Whether it can be saved and changed.
    Supported,
}

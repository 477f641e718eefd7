//! The command line of `nvmf export`.

use std::num::NonZeroU16;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use nvmf_nbd::ExportName;

use crate::args::{Connect, EngineOption, NSID_ALIASES};
use crate::paths::PathOptions;
use crate::target::{Target, parse_nsid};

pub(crate) const HELP: &str = "\
Examples:
  nvmf export nbd nvme+tcp://192.0.2.7/SUBNQN/1 --socket /run/disk.sock
  qemu-img info 'nbd+unix:///?socket=/run/disk.sock'";

const NBD_HELP: &str = "\
Programs that know NBD use the namespace then: qemu, nbd-client, libnbd's nbdinfo, nbdcopy and nbdfuse,
fio. Neither they nor this machine's kernel need NVMe. docs/nbd.md says what is served, and how.

Several targets are paths to one namespace. Where one is lost its requests take another one, and where
all are, they wait until one is back, for --ctrl-loss-tmo at most.

There is no encryption and no access control but the socket's mode, which is its owner's alone. Beyond
the loopback addresses --allow any has to be given: whoever reaches the address may do everything.

Examples:
  nvmf export nbd nvme+tcp://192.0.2.7/SUBNQN/1 --socket /run/disk.sock
  nvmf export nbd nvme+tcp://192.0.2.7/SUBNQN nvme+tcp://198.51.100.7/SUBNQN --socket disk.sock
  nvmf export nbd nvme+tcp://192.0.2.7/SUBNQN --listen 0.0.0.0 --allow any --name disk --read-only

Ctrl-C ends it: requests under way are finished, and what was written is flushed.";

/// `nvmf export`
#[derive(Subcommand, Debug)]
pub(crate) enum Export {
    /// Serve a namespace over NBD, to qemu, nbd-client and libnbd
    #[command(after_help = NBD_HELP)]
    Nbd(Nbd),
}

impl Export {
    /// How it connects to a target.
    pub(crate) fn connect(&mut self) -> &mut Connect {
        match self {
            Self::Nbd(args) => &mut args.connect,
        }
    }
}

/// `nvmf export nbd`
#[derive(Args, Debug)]
pub(crate) struct Nbd {
    /// nvme+tcp://HOST[:PORT]/SUBNQN[/NSID]; several are several paths to one namespace.
    #[arg(value_name = "TARGET")]
    pub targets: Vec<Target>,
    #[command(flatten)]
    pub place: Place,
    /// Let everybody use it who reaches the address; `any` has to be said where it is not one of
    /// loopback's.
    #[arg(long, value_name = "any")]
    pub allow: Option<Allowed>,
    /// The export's name. Clients that name none get it, too.
    #[arg(long, value_name = "EXPORT", default_value = "")]
    pub name: ExportName,
    /// Refuse writes.
    #[arg(long)]
    pub read_only: bool,
    /// Clients' connections at once; those that come on top are closed.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub connections: u16,
    /// Requests of each connection that are executed at once.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub requests: u16,
    /// The namespace, instead of TARGET's NSID (1 where both are left out).
    #[arg(long, aliases = NSID_ALIASES, value_name = "NSID", value_parser = parse_nsid)]
    pub namespace_id: Option<u32>,
    /// I/O queues on each path, a connection each.
    #[arg(long, value_name = "N", default_value = "2")]
    pub queues: NonZeroU16,
    #[command(flatten)]
    pub paths: PathOptions,
    #[command(flatten)]
    pub engine: EngineOption,
    #[command(flatten)]
    pub connect: Connect,
}

/// Where clients connect.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub(crate) struct Place {
    /// Serve it on this Unix socket, which only its owner may use.
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Serve it on this address; the port is 10809 where left out, and 0 any free one.
    #[arg(long, value_name = "ADDR[:PORT]")]
    pub listen: Option<String>,
}

/// Who may connect.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Allowed {
    /// Everybody.
    Any,
}

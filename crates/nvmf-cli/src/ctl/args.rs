//! The command line of `nvmf ctl`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args, Subcommand};
use nvmf_storage::parse_size;

use crate::args::Output;

pub(crate) const HELP: &str = "\
A target that was started with --config, or with --control SOCKET, is looked at and changed while it
runs. Hosts are told of changes and go on; a change takes place as a whole or not at all, and has
taken place when the command ends with status 0. With --state FILE the target has it after a crash,
too. docs/control.md describes the protocol.

Examples:
  nvmf ctl status
  nvmf ctl namespace add nqn.2026-01.org.example:disks file:/srv/b.img
  nvmf ctl namespace resize nqn.2026-01.org.example:disks 1 20G
  nvmf ctl ana 2 1 inaccessible            group 1 cannot be reached through port 2
  nvmf ctl top";

/// `nvmf ctl`
#[derive(Args, Debug)]
pub(crate) struct Ctl {
    /// The target's control socket; else $XDG_RUNTIME_DIR/nvmf.sock, or /run/nvmf.sock.
    #[arg(long, value_name = "PATH", env = "NVMF_CONTROL", global = true)]
    pub socket: Option<PathBuf>,

    #[command(flatten)]
    pub output: Output,

    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Show what is served, and how busy it is
    Status,
    /// Show the running configuration, as `nvmf serve --config` takes it
    Config,
    /// List controllers with their hosts and queues
    Controllers,
    /// Show what hosts do, again and again
    #[command(after_help = "\
Examples:
  nvmf ctl top
  nvmf ctl top --count 1 --interval 10 -o json    an object with the rates of ten seconds")]
    Top(Top),
    /// Add a subsystem, or take one away
    #[command(
        subcommand,
        after_help = "\
Examples:
  nvmf ctl subsystem add nqn.2026-01.org.example:more --allow nqn.2026-01.org.example:client
  nvmf ctl subsystem remove nqn.2026-01.org.example:more"
    )]
    Subsystem(Subsystem),
    /// Add, remove, resize, limit or change a namespace
    #[command(
        subcommand,
        after_help = "\
Examples:
  nvmf ctl namespace add SUBNQN file:/srv/b.img,bs=512 --ana-group 2    prints its identifier
  nvmf ctl namespace resize SUBNQN 2                as large as its file has become
  nvmf ctl namespace limit SUBNQN 2 --iops 5000 --write-bandwidth 100M
  nvmf ctl namespace limit SUBNQN 2 --none
  nvmf ctl namespace set SUBNQN 2 --read-only true"
    )]
    Namespace(Namespace),
    /// Say who may connect to a subsystem
    #[command(
        subcommand,
        after_help = "\
Examples:
  nvmf ctl host allow SUBNQN nqn.2026-01.org.example:client
  nvmf ctl host deny SUBNQN any                     only those that were named"
    )]
    Host(Host),
    /// Listen somewhere else too, or no more
    #[command(
        subcommand,
        after_help = "\
Examples:
  nvmf ctl port add 192.0.2.8:4420                  prints its identifier
  nvmf ctl port add 192.0.2.8:8009 --discovery-only
  nvmf ctl port remove 2"
    )]
    Port(Port),
    /// Set how an ANA group can be reached through a port
    #[command(after_help = "\
States: optimized, non-optimized, inaccessible, persistent-loss, change.

Example:
  nvmf ctl ana 2 1 non-optimized")]
    Ana {
        /// The port's identifier.
        port: u32,
        /// The group, 1 to 32.
        group: u32,
        /// The state.
        state: String,
    },
    /// End a controller; its host may come again
    Drop {
        /// The subsystem's NQN.
        subsystem: String,
        /// The controller's identifier.
        cntlid: u16,
    },
    /// Write the running configuration to FILE, or to the file that the target was started with
    Save {
        /// Where to.
        file: Option<PathBuf>,
    },
    /// Make the target what a configuration says, as a whole; what is different is applied
    #[command(after_help = "\
Examples:
  nvmf ctl config > target.toml && vi target.toml && nvmf ctl apply target.toml

Files of namespaces are looked for from where this is run.")]
    Apply {
        /// The configuration.
        file: PathBuf,
    },
    /// Have the configuration file read again; what is different is applied (SIGHUP does so too)
    Reload,
}

/// `nvmf ctl top`
#[derive(Args, Debug)]
pub(crate) struct Top {
    /// Seconds between two looks.
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = parse_interval)]
    pub interval: Duration,
    /// End after so many looks.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Subsystem {
    /// Add a subsystem, without namespaces yet
    Add {
        /// Its NQN.
        subsystem: String,
        /// Who may connect: a host's NQN, several times, or `any`.
        #[arg(long, value_name = "HOSTNQN|any")]
        allow: Vec<String>,
        /// Serial number.
        #[arg(long)]
        serial: Option<String>,
        /// Model number.
        #[arg(long)]
        model: Option<String>,
        /// Firmware revision.
        #[arg(long)]
        firmware: Option<String>,
    },
    /// Take a subsystem away, with its namespaces and controllers
    Remove {
        /// Its NQN.
        subsystem: String,
    },
}

#[derive(Subcommand, Debug)]
pub(crate) enum Namespace {
    /// Add a namespace
    Add {
        /// The subsystem's NQN.
        subsystem: String,
        /// Where its blocks are, as --namespace of `nvmf serve`: file:PATH, mem:SIZE, null:SIZE.
        source: String,
        /// Its identifier; else the lowest that is free.
        #[arg(long)]
        id: Option<u32>,
        /// Its ANA group.
        #[arg(long, value_name = "GROUP")]
        ana_group: Option<u32>,
        /// Make it private to this host; may be given several times.
        #[arg(long, value_name = "HOSTNQN")]
        host: Vec<String>,
        /// Its UUID.
        #[arg(long)]
        uuid: Option<String>,
        /// Refuse writes.
        #[arg(long)]
        read_only: bool,
    },
    /// Take a namespace away; what was written to it is made durable
    Remove {
        /// The subsystem's NQN.
        subsystem: String,
        /// Its identifier.
        id: u32,
    },
    /// Make a namespace larger
    Resize {
        /// The subsystem's NQN.
        subsystem: String,
        /// Its identifier.
        id: u32,
        /// To this size; where left out, to what its file or device has grown to.
        #[arg(value_parser = parse_size)]
        size: Option<u64>,
    },
    /// Limit what hosts may ask of a namespace in a second; what is not named has no limit then
    Limit {
        /// The subsystem's NQN.
        subsystem: String,
        /// Its identifier.
        id: u32,
        #[command(flatten)]
        limits: Limits,
    },
    /// Change how a namespace may be used
    #[command(group = ArgGroup::new("what").required(true).multiple(true).args([
        "ana_group", "read_only", "host",
    ]))]
    Set {
        /// The subsystem's NQN.
        subsystem: String,
        /// Its identifier.
        id: u32,
        /// Its ANA group.
        #[arg(long, value_name = "GROUP")]
        ana_group: Option<u32>,
        /// Whether writes are refused.
        #[arg(long, value_name = "true|false")]
        read_only: Option<bool>,
        /// Make it private to this host; may be given several times. `any`: to none.
        #[arg(long, value_name = "HOSTNQN|any")]
        host: Vec<String>,
    },
}

/// Limits of a namespace.
#[derive(Args, Debug)]
#[group(required = true, multiple = true)]
pub(crate) struct Limits {
    /// No limits at all.
    #[arg(long, conflicts_with_all = [
        "iops", "read_iops", "write_iops", "bandwidth", "read_bandwidth", "write_bandwidth",
    ])]
    pub none: bool,
    /// Commands.
    #[arg(long, value_name = "N")]
    pub iops: Option<u32>,
    /// Commands that read.
    #[arg(long, value_name = "N")]
    pub read_iops: Option<u32>,
    /// Commands that write.
    #[arg(long, value_name = "N")]
    pub write_iops: Option<u32>,
    /// Bytes.
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub bandwidth: Option<u64>,
    /// Bytes that are read.
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub read_bandwidth: Option<u64>,
    /// Bytes that are written.
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub write_bandwidth: Option<u64>,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Host {
    /// Let a host connect, or `any`
    Allow {
        /// The subsystem's NQN.
        subsystem: String,
        /// The host's NQN, or `any`.
        host: String,
    },
    /// Let a host connect no more, or `any` that was not named; its controllers end
    Deny {
        /// The subsystem's NQN.
        subsystem: String,
        /// The host's NQN, or `any`.
        host: String,
    },
}

#[derive(Subcommand, Debug)]
pub(crate) enum Port {
    /// Listen on this address too
    Add {
        /// IP:PORT or [IP6]:PORT.
        address: String,
        /// The port's identifier; else the lowest that is free.
        #[arg(long)]
        id: Option<u32>,
        /// What is reached through it, by its NQN; may be given several times. Else all.
        #[arg(long, value_name = "SUBNQN")]
        subsystem: Vec<String>,
        /// Nothing but discovery is reached through it.
        #[arg(long, conflicts_with = "subsystem")]
        discovery_only: bool,
    },
    /// Listen on a port no more; controllers of hosts that came through it end
    Remove {
        /// The port's identifier.
        id: u32,
    },
}

fn parse_interval(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    if !(0.1..=3600.0).contains(&seconds) {
        return Err("from 0.1 to 3600 seconds".to_owned());
    }
    Ok(Duration::from_secs_f64(seconds))
}

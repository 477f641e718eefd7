//! The command lines of what drives the kernel's host. Names are those of nvme-cli.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use nvmf::handoff::linux::Secret;

use crate::args::{Output, parse_seconds};
use crate::target::Target;

pub(crate) const CONNECT_HELP: &str = "\
The target is asked first, in user space, so that errors say what is wrong; --no-check leaves that
out. With TLS, authentication, -w or -f only the kernel can say, and nothing is asked. It needs root
and the kernel's module: `modprobe nvme-tcp`.

Examples:
  nvmf connect nvme+tcp://192.0.2.7/SUBNQN
  nvmf connect -t tcp -a 192.0.2.7 -s 4420 -n SUBNQN --nr-io-queues 4 --ctrl-loss-tmo=-1
  nvmf connect nvme+tcp://192.0.2.7/SUBNQN -o json";

pub(crate) const CONNECT_ALL_HELP: &str = "\
Referrals to other discovery controllers are followed. What is connected already is left alone. The
status is 1 if anything could not be connected, after everything was tried.

Examples:
  nvmf connect-all nvme+tcp://192.0.2.7:8009
  nvmf connect-all -t tcp -a 192.0.2.7 -s 8009 --keep-alive-tmo 30";

pub(crate) const DISCONNECT_HELP: &str = "\
Examples:
  nvmf disconnect -n SUBNQN       all controllers of a subsystem
  nvmf disconnect -d nvme3        one controller";

pub(crate) const DISCONNECT_ALL_HELP: &str = "\
Disks in slots of this machine stay.

Example:
  nvmf disconnect-all";

pub(crate) const LIST_HELP: &str = "\
JSON has the names of `nvme list -v -o json`. It needs neither root nor the module.

Examples:
  nvmf list
  nvmf list --verbose      controllers and paths, with their states
  nvmf list -o json";

/// `nvmf connect`
#[derive(Args, Debug)]
// The group of this name is that of the options within.
#[group(skip)]
pub(crate) struct Connect {
    /// nvme+tcp://HOST[:PORT]/SUBNQN
    pub target: Option<Target>,
    #[command(flatten)]
    pub how: How,
}

/// `nvmf connect-all`
#[derive(Args, Debug)]
pub(crate) struct ConnectAll {
    /// The discovery controller: nvme+tcp://HOST[:PORT]
    pub target: Option<Target>,
    #[command(flatten)]
    pub how: How,
}

/// How the kernel is to connect, and as who; and how to say what came of it.
#[derive(Args, Debug)]
pub(crate) struct How {
    #[command(flatten)]
    pub output: Output,
    #[command(flatten)]
    pub machine: Machine,
    #[command(flatten)]
    pub kernel: KernelOptions,
    #[command(flatten)]
    pub connect: crate::args::Connect,
}

/// `nvmf disconnect`
#[derive(Args, Debug)]
pub(crate) struct Disconnect {
    /// Controllers of this subsystem; may be given several times.
    #[arg(short = 'n', long, value_name = "SUBNQN", required_unless_present = "device")]
    pub nqn: Vec<String>,
    /// This controller, as nvme0 or /dev/nvme0; may be given several times, or several by commas.
    #[arg(short = 'd', long, value_name = "DEVICE", value_delimiter = ',')]
    pub device: Vec<String>,
    #[command(flatten)]
    pub output: Output,
    #[command(flatten)]
    pub machine: Machine,
    #[command(flatten)]
    pub patience: Patience,
}

/// `nvmf disconnect-all`
#[derive(Args, Debug)]
pub(crate) struct DisconnectAll {
    #[command(flatten)]
    pub output: Output,
    #[command(flatten)]
    pub machine: Machine,
    #[command(flatten)]
    pub patience: Patience,
}

/// Whose kernel.
#[derive(Args, Debug)]
pub(crate) struct Machine {
    /// Where the machine's /dev and /sys are, for tests and containers.
    #[arg(long, env = "NVMF_ROOT", value_name = "DIRECTORY", default_value = "/", hide = true)]
    pub root: PathBuf,
}

/// How long the kernel may take.
#[derive(Args, Debug)]
pub(crate) struct Patience {
    /// How long the kernel may take to shut controllers down: seconds.
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = parse_seconds)]
    pub timeout: Duration,
}

/// `nvmf list`
#[derive(Args, Debug)]
pub(crate) struct List {
    #[command(flatten)]
    pub output: Output,
    #[command(flatten)]
    pub machine: Machine,
}

/// What the kernel is told of a controller; what is left out is as the kernel has it by default.
#[derive(Args, Debug)]
#[command(next_help_heading = "Kernel")]
pub(crate) struct KernelOptions {
    /// I/O queues; the kernel takes no more than it has processors, and that many where left out.
    #[arg(short = 'i', long, value_name = "N")]
    pub nr_io_queues: Option<u32>,
    /// I/O queues on top, for writes only.
    #[arg(short = 'W', long, value_name = "N")]
    pub nr_write_queues: Option<u32>,
    /// I/O queues on top that are polled.
    #[arg(short = 'P', long, value_name = "N")]
    pub nr_poll_queues: Option<u32>,
    /// Entries of an I/O queue, 16 to 1024.
    #[arg(short = 'Q', long, value_name = "N")]
    pub queue_size: Option<u32>,
    /// Keep Alive Timeout, in seconds.
    #[arg(short = 'k', long, value_name = "SECONDS")]
    pub keep_alive_tmo: Option<u32>,
    /// Time between attempts to connect again, in seconds.
    #[arg(short = 'c', long, value_name = "SECONDS")]
    pub reconnect_delay: Option<u32>,
    /// When a controller that is lost is given up, in seconds; -1 is never.
    #[arg(short = 'l', long, value_name = "SECONDS", allow_negative_numbers = true)]
    pub ctrl_loss_tmo: Option<i32>,
    /// When commands fail while a controller is lost, in seconds; -1 is not before it is given up.
    #[arg(
        short = 'F',
        long = "fast_io_fail_tmo",
        alias = "fast-io-fail-tmo",
        value_name = "SECONDS",
        allow_negative_numbers = true
    )]
    pub fast_io_fail_tmo: Option<i32>,
    /// Type of service of the packets.
    #[arg(short = 'T', long, value_name = "TOS")]
    pub tos: Option<u8>,
    /// This machine's address to connect from.
    #[arg(short = 'w', long, value_name = "ADDRESS")]
    pub host_traddr: Option<IpAddr>,
    /// The network interface to connect by.
    #[arg(short = 'f', long, value_name = "INTERFACE")]
    pub host_iface: Option<String>,
    /// Connect although this host is connected to that subsystem at that address.
    #[arg(short = 'D', long)]
    pub duplicate_connect: bool,
    /// Do without submission queue flow control.
    #[arg(long)]
    pub disable_sqflow: bool,
    /// The secret by which this host authenticates itself, DHHC-1:…
    #[arg(short = 'S', long, value_name = "SECRET", value_parser = Secret::new)]
    pub dhchap_secret: Option<Secret>,
    /// The secret by which the controller has to authenticate itself.
    #[arg(short = 'C', long, value_name = "SECRET", value_parser = Secret::new)]
    pub dhchap_ctrl_secret: Option<Secret>,
    /// Connect by TLS.
    #[arg(long)]
    pub tls: bool,
    /// Connect by TLS with a key from the authentication.
    #[arg(long)]
    pub concat: bool,
    /// The keyring with the TLS keys, by its serial number (`keyctl show`).
    #[arg(long, value_name = "ID")]
    pub keyring: Option<i32>,
    /// The TLS key, by its serial number.
    #[arg(long, alias = "tls_key", value_name = "ID")]
    pub tls_key: Option<i32>,
    /// Do not ask the target before the kernel connects.
    #[arg(long)]
    pub no_check: bool,
    /// How long to wait for the disks: seconds.
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = parse_seconds)]
    pub wait: Duration,
}

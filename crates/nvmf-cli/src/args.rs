//! The command line.

mod values;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use nvmf::pdu_trace::PduTrace;
use nvmf::spec::{HostId, Nqn};
use nvmf_engine::EngineChoice;
use nvmf_storage::{NamespaceSpec, parse_size};
use nvmf_target::limits::{InCapsule, MaxTransfer};

pub(crate) use values::{
    Cpus, parse_byte, parse_cpus, parse_dword, parse_hostid, parse_in_capsule, parse_max_transfer,
    parse_number, parse_seconds, parse_spin,
};

use crate::bench::args::Bench;
use crate::target::{Target, parse_nsid, parse_port};

/// NVMe over Fabrics in user space: serve disks over NVMe/TCP, and read and write any NVMe/TCP
/// target. Needs no root and no kernel module.
#[derive(Parser, Debug)]
#[command(name = "nvmf", version, propagate_version = true, max_term_width = 100)]
#[command(after_help = "\
Examples:
  nvmf serve                                  a 256 MiB disk in memory, on 127.0.0.1:4420
  nvmf serve --namespace file:disk.img        a disk image
  nvmf discover nvme+tcp://127.0.0.1          what a target offers
  nvmf read nvme+tcp://HOST/SUBNQN copy.img   a whole namespace into a file")]
pub(crate) struct Cli {
    /// Say more on standard error: -v what happens, -vv every detail. NVMF_LOG (as in
    /// `NVMF_LOG=nvmf_target=debug`) says it more finely.
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    pub verbose: u8,

    /// How the log on standard error looks: text for people, json for programs, an object a line.
    #[arg(long, value_name = "FORMAT", default_value = "text", global = true)]
    pub log_format: LogFormat,

    /// Print every PDU that is sent or received, a line each, to standard error or into FILE. Data
    /// is not printed. It is slow.
    #[arg(
        long,
        value_name = "FILE",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "-",
        global = true
    )]
    pub trace_pdus: Option<PathBuf>,

    #[command(subcommand)]
    pub command: Command,
}

/// How the log looks.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// For programs.
    Json,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Serve namespaces to any number of hosts
    #[command(after_help = SERVE_HELP)]
    Serve(Serve),
    /// Check, show or import the configuration of a target
    #[command(subcommand, after_help = crate::config::args::HELP)]
    Config(crate::config::args::Config),
    /// Look at and change a target that runs
    #[command(after_help = crate::ctl::args::HELP)]
    Ctl(crate::ctl::args::Ctl),
    /// Set up the Linux kernel's own target by a configuration
    #[cfg(target_os = "linux")]
    #[command(after_help = crate::kernel_target::args::HELP)]
    KernelTarget(crate::kernel_target::args::KernelTarget),
    /// List the subsystems that targets offer
    #[command(after_help = crate::discover::args::HELP)]
    Discover(crate::discover::args::Discover),
    /// Show what a controller and its namespaces say of themselves
    #[command(after_help = "\
Examples:
  nvmf identify nvme+tcp://127.0.0.1/SUBNQN              the controller and every namespace
  nvmf identify nvme+tcp://127.0.0.1/SUBNQN/1            namespace 1
  nvmf identify -a 127.0.0.1 -n SUBNQN --controller -o json
  nvmf identify nvme+tcp://127.0.0.1/SUBNQN/1 --cns 3    any Identify data structure")]
    Identify(Identify),
    /// Show a controller's properties
    #[command(after_help = "\
Examples:
  nvmf property nvme+tcp://127.0.0.1/SUBNQN          all of them
  nvmf property nvme+tcp://127.0.0.1/SUBNQN csts     one, by name
  nvmf property nvme+tcp://127.0.0.1/SUBNQN 0x1c     or by offset")]
    Property(Property),
    /// Show a log page
    #[command(after_help = "\
Pages, by name or by number (0x02):
  supported, error, smart, firmware, changed-namespaces, effects, ana, feature-effects, discovery

JSON has the names of nvme-cli, but for the lists of `effects` and `changed-namespaces`: nvme-cli
makes a name of each entry's opcode or index, and here they are lists of objects.

Examples:
  nvmf log nvme+tcp://127.0.0.1/SUBNQN smart
  nvmf log nvme+tcp://127.0.0.1/SUBNQN 0xc0 --length 512 --raw > page.bin")]
    Log(Log),
    /// Show a controller's features, or set one
    #[command(after_help = crate::feature::args::HELP)]
    Feature(crate::feature::args::Feature),
    /// Send any admin command
    #[command(
        after_help = crate::passthru::args::ADMIN_HELP,
        mut_args(crate::passthru::args::as_nvme_cli)
    )]
    AdminPassthru(crate::passthru::args::Passthru),
    /// Send any I/O command
    #[command(
        after_help = crate::passthru::args::IO_HELP,
        mut_args(crate::passthru::args::as_nvme_cli)
    )]
    IoPassthru(crate::passthru::args::Passthru),
    /// Copy bytes from a namespace to a file or standard output
    #[command(after_help = "\
Examples:
  nvmf read nvme+tcp://127.0.0.1/SUBNQN copy.img                 all of namespace 1
  nvmf read nvme+tcp://127.0.0.1/SUBNQN/2 --length 1M | xxd      to standard output
  nvmf read nvme+tcp://127.0.0.1/SUBNQN part.img --offset 3000 --length 70000")]
    Read(Read),
    /// Copy bytes from a file or standard input to a namespace
    #[command(after_help = "\
Examples:
  nvmf write nvme+tcp://127.0.0.1/SUBNQN copy.img
  echo hello | nvmf write nvme+tcp://127.0.0.1/SUBNQN --offset 1000
  nvmf write nvme+tcp://127.0.0.1/SUBNQN/2 copy.img --length 1M

Blocks that are written only in part are read before, and so keep the rest of what they hold. The
last command is Flush: what was written is durable when nvmf ends with status 0.
Standard input without --length is copied up to its end. If it is too long, the namespace is
filled to its end, and nvmf fails.")]
    Write(Write),
    /// Copy between files, block devices and namespaces
    #[command(after_help = crate::copy::args::HELP)]
    Copy(crate::copy::args::Copy),
    /// Have the Linux kernel connect to a subsystem, and make disks of its namespaces
    #[cfg(target_os = "linux")]
    #[command(after_help = crate::handoff::args::CONNECT_HELP)]
    Connect(crate::handoff::args::Connect),
    /// Have the Linux kernel connect to all subsystems that a discovery controller tells of
    #[cfg(target_os = "linux")]
    #[command(after_help = crate::handoff::args::CONNECT_ALL_HELP)]
    ConnectAll(crate::handoff::args::ConnectAll),
    /// Have the Linux kernel disconnect from subsystems
    #[cfg(target_os = "linux")]
    #[command(after_help = crate::handoff::args::DISCONNECT_HELP)]
    Disconnect(crate::handoff::args::Disconnect),
    /// Have the Linux kernel disconnect from all subsystems
    #[cfg(target_os = "linux")]
    #[command(after_help = crate::handoff::args::DISCONNECT_ALL_HELP)]
    DisconnectAll(crate::handoff::args::DisconnectAll),
    /// List the NVMe subsystems, controllers and disks that the Linux kernel has
    #[cfg(target_os = "linux")]
    #[command(after_help = crate::handoff::args::LIST_HELP)]
    List(crate::handoff::args::List),
    /// Measure how fast a namespace is; writes overwrite it
    #[command(after_help = crate::bench::args::HELP)]
    Bench(Bench),
    /// Serve a namespace to programs that know no NVMe
    #[command(subcommand, after_help = crate::export::args::HELP)]
    Export(crate::export::args::Export),
    /// Print a completion script for a shell
    #[command(after_help = "\
Example:
  nvmf completions bash > ~/.local/share/bash-completion/completions/nvmf")]
    Completions {
        /// Which shell.
        shell: Shell,
    },
    /// Print the manual, or write the pages of all commands into a directory
    #[command(after_help = "\
Examples:
  nvmf man | man -l -
  nvmf man ~/.local/share/man/man1")]
    Man {
        /// Where to write nvmf.1, nvmf-serve.1 and so on.
        directory: Option<PathBuf>,
    },
}

impl Command {
    /// As whom it connects to a target, if it does.
    fn host(&mut self) -> Option<&mut AsHost> {
        match self {
            Self::Discover(args) => Some(&mut args.connect.host),
            Self::Identify(args) => Some(&mut args.connect.host),
            Self::Property(args) => Some(&mut args.connect.host),
            Self::Log(args) => Some(&mut args.connect.host),
            Self::Feature(args) => Some(&mut args.connect.host),
            Self::AdminPassthru(args) | Self::IoPassthru(args) => Some(&mut args.connect.host),
            Self::Read(args) => Some(&mut args.connect.host),
            Self::Write(args) => Some(&mut args.connect.host),
            Self::Copy(args) => Some(&mut args.host),
            Self::Bench(args) => Some(&mut args.connect.host),
            #[cfg(target_os = "linux")]
            Self::Connect(args) => Some(&mut args.how.connect.host),
            #[cfg(target_os = "linux")]
            Self::ConnectAll(args) => Some(&mut args.how.connect.host),
            #[cfg(target_os = "linux")]
            Self::Disconnect(_) | Self::DisconnectAll(_) | Self::List(_) => None,
            #[cfg(target_os = "linux")]
            Self::KernelTarget(_) => None,
            Self::Export(args) => Some(&mut args.connect().host),
            Self::Serve(_)
            | Self::Config(_)
            | Self::Ctl(_)
            | Self::Completions { .. }
            | Self::Man { .. } => None,
        }
    }

    /// How long it waits for the target, if it connects to one.
    pub(crate) fn timeout(&mut self) -> Option<Duration> {
        self.host().map(|host| host.timeout)
    }

    /// Has it tell its PDUs to this.
    pub(crate) fn trace_pdus(&mut self, trace: PduTrace) {
        match self {
            Self::Serve(args) => args.trace = Some(trace),
            _ => {
                if let Some(host) = self.host() {
                    host.trace = Some(trace);
                }
            }
        }
    }
}

const SERVE_HELP: &str = "\
SPEC is one of
  mem:SIZE[,bs=N]        in memory, gone when nvmf ends
  file:PATH[,bs=N][,ro][,direct]
                         a regular file or a block device; ro refuses writes, direct goes past
                         the page cache
  null:SIZE[,bs=N]       reads zeroes, forgets writes
with SIZE as in 256M or 1.5G, and blocks of N bytes, 512 or 4096 (the default). `,uuid=UUID` gives
the namespace a UUID other than the one derived from where it is.

Examples:
  nvmf serve
  nvmf serve --listen 0.0.0.0:4420 --allow any --namespace file:/srv/disk.img
  nvmf serve --config target.toml --state /var/lib/nvmf/state.json
  nvmf serve --nqn nqn.2026-01.org.example:disks --namespace mem:1G,bs=512 --namespace file:a.img,ro
  nvmf serve --pin 2-3 --namespace file:/dev/nvme0n1,direct

Ctrl-C ends it: commands under way are finished and files are synced.";

/// Names that `--namespace-id` had before.
pub(crate) const NSID_ALIASES: [&str; 2] = ["nsid", "namespace"];

/// `nvmf serve`
#[derive(Args, Debug)]
pub(crate) struct Serve {
    /// Listen here; may be given several times. Port 0 is any free one.
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:4420")]
    pub listen: Vec<String>,

    /// Serve what this file says; see `nvmf config` and docs/configuration.md. It is read again on
    /// SIGHUP.
    #[arg(long, value_name = "FILE", conflicts_with_all = [
        "listen", "nqn", "namespace", "allow", "discovery", "metrics", "mdns", "max_transfer",
        "max_queue_entries",
    ])]
    pub config: Option<PathBuf>,

    /// Keep in FILE what was changed by `nvmf ctl`, so that it is there after a restart or a crash.
    #[arg(long, value_name = "FILE")]
    pub state: Option<PathBuf>,

    /// Let `nvmf ctl` look at and change the target by this Unix socket. With --config it is
    /// $XDG_RUNTIME_DIR/nvmf.sock, or /run/nvmf.sock, where left out.
    #[arg(long, value_name = "PATH", env = "NVMF_CONTROL")]
    pub control: Option<PathBuf>,

    /// Who may connect: a host's NQN; may be given several times. `any` is everybody, which is what
    /// holds without it where all addresses are loopback's; where not, it has to be said.
    #[arg(long, value_name = "HOSTNQN|any")]
    pub allow: Vec<String>,

    /// Offer discovery, and nothing else, here too; 8009 is the port for it.
    #[arg(long, value_name = "ADDR:PORT")]
    pub discovery: Vec<String>,

    /// Announce discovery on the local network by mDNS/DNS-SD.
    #[arg(long)]
    pub mdns: bool,

    /// Serve metrics for Prometheus here, over HTTP; docs/metrics.md lists them.
    #[arg(long, value_name = "IP:PORT")]
    pub metrics: Option<SocketAddr>,

    /// Connections at once; those that come on top are closed. 8192 where left out.
    #[arg(long, value_name = "N")]
    pub max_connections: Option<usize>,

    /// The most data of one command: a power of two from 8K to 1M, which it is where left out.
    #[arg(long, value_name = "BYTES", value_parser = parse_max_transfer)]
    pub max_transfer: Option<MaxTransfer>,

    /// Entries of the largest I/O queue; 1024 where left out.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=1024))]
    pub max_queue_entries: Option<u32>,

    /// Data that a command capsule may bring on an I/O queue: a multiple of 16 up to 16K, which it is
    /// where left out.
    #[arg(long, value_name = "BYTES", value_parser = parse_in_capsule)]
    pub in_capsule: Option<InCapsule>,

    /// The subsystem's NQN; else one made from this machine's identifier, the same every time.
    #[arg(long, value_name = "SUBNQN", value_parser = Nqn::parse_strict)]
    pub nqn: Option<Nqn>,

    /// A namespace, see below; may be given several times. They are numbered from 1.
    #[arg(long, value_name = "SPEC", default_value = "mem:256M")]
    pub namespace: Vec<NamespaceSpec>,

    /// Let hosts use header digests (the default; hosts that do not ask have none).
    #[arg(long, visible_alias = "hdr-digest", conflicts_with = "no_hdgst")]
    pub hdgst: bool,

    /// Refuse header digests to hosts that ask for them.
    #[arg(long)]
    pub no_hdgst: bool,

    /// Let hosts use data digests (the default; hosts that do not ask have none).
    #[arg(long, visible_alias = "data-digest", conflicts_with = "no_ddgst")]
    pub ddgst: bool,

    /// Refuse data digests to hosts that ask for them.
    #[arg(long)]
    pub no_ddgst: bool,

    /// Threads that serve connections; as many as there are CPUs where left out.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub cores: Option<u16>,

    /// Keep each of those threads on a CPU of its own: 0,2 or 0-3. Says how many there are, too.
    #[arg(long, value_name = "CPUS", value_parser = parse_cpus, conflicts_with = "cores")]
    pub pin: Option<Cpus>,

    /// How long a thread looks for work, after some, before it sleeps: microseconds. 0 saves CPU
    /// time and costs latency; `forever` never sleeps.
    #[arg(long, value_name = "MICROSECONDS", value_parser = parse_spin)]
    pub spin: Option<Duration>,

    #[command(flatten)]
    pub engine: EngineOption,

    /// What `--trace-pdus` means.
    #[arg(skip)]
    pub trace: Option<PduTrace>,
}

/// `nvmf identify`
#[derive(Args, Debug)]
pub(crate) struct Identify {
    /// nvme+tcp://HOST[:PORT]/SUBNQN[/NSID]
    pub target: Option<Target>,
    #[command(flatten)]
    pub output: Output,
    /// Show the controller only.
    #[arg(long, conflicts_with_all = ["namespace_id", "cns"])]
    pub controller: bool,
    /// Show this namespace only; instead of TARGET's NSID.
    #[arg(long, aliases = NSID_ALIASES, value_name = "NSID", value_parser = parse_nsid)]
    pub namespace_id: Option<u32>,
    /// Show this Identify data structure, by its number in the specification.
    #[arg(long, value_name = "CNS", value_parser = parse_byte)]
    pub cns: Option<u8>,
    #[command(flatten)]
    pub connect: Connect,
}

/// `nvmf property`
#[derive(Args, Debug)]
pub(crate) struct Property {
    /// nvme+tcp://HOST[:PORT]/SUBNQN
    pub target: Option<String>,
    /// The property's name (cap, vs, cc, csts, nssr, crto) or offset; all where left out.
    pub property: Option<String>,
    #[command(flatten)]
    pub output: Output,
    #[command(flatten)]
    pub connect: Connect,
}

/// `nvmf log`
#[derive(Args, Debug)]
pub(crate) struct Log {
    /// nvme+tcp://HOST[:PORT]/SUBNQN
    pub target: Option<String>,
    /// The page's name or number.
    pub page: Option<String>,
    #[command(flatten)]
    pub output: Output,
    /// Ask for the page of this namespace; else it is the controller's.
    #[arg(long, aliases = NSID_ALIASES, value_name = "NSID", value_parser = parse_nsid)]
    pub namespace_id: Option<u32>,
    /// Log Specific Parameter: what of the page is asked for, as 1 for extended entries of the
    /// discovery log.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(..0x80), default_value = "0")]
    pub lsp: u8,
    /// Bytes to read; where left out, as many as the page has.
    #[arg(long, value_name = "BYTES", value_parser = parse_size)]
    pub length: Option<u64>,
    /// Where in the page to begin.
    #[arg(long, value_name = "BYTES", value_parser = parse_size, default_value = "0")]
    pub offset: u64,
    /// Print the page's bytes as they are.
    #[arg(long, visible_alias = "raw-binary", conflicts_with = "output_format")]
    pub raw: bool,
    #[command(flatten)]
    pub connect: Connect,
}

/// `nvmf read`
#[derive(Args, Debug)]
pub(crate) struct Read {
    /// nvme+tcp://HOST[:PORT]/SUBNQN[/NSID]
    pub target: Option<String>,
    /// Where to write; `-` or nothing is standard output.
    pub file: Option<String>,
    #[command(flatten)]
    pub transfer: Transfer,
    #[command(flatten)]
    pub connect: Connect,
}

/// `nvmf write`
#[derive(Args, Debug)]
pub(crate) struct Write {
    /// nvme+tcp://HOST[:PORT]/SUBNQN[/NSID]
    pub target: Option<String>,
    /// What to read; `-` or nothing is standard input.
    pub file: Option<String>,
    #[command(flatten)]
    pub transfer: Transfer,
    #[command(flatten)]
    pub connect: Connect,
}

/// Which bytes, and how fast.
#[derive(Args, Debug, Clone)]
pub(crate) struct Transfer {
    /// The namespace, instead of TARGET's NSID (1 where both are left out).
    #[arg(long, aliases = NSID_ALIASES, value_name = "NSID", value_parser = parse_nsid)]
    pub namespace_id: Option<u32>,
    /// Where in the namespace to begin: bytes, or with a unit (4K, 1.5G).
    #[arg(long, value_name = "BYTES", value_parser = parse_size, default_value = "0")]
    pub offset: u64,
    /// How many bytes; where left out, all there are.
    #[arg(long, value_name = "BYTES", value_parser = parse_size)]
    pub length: Option<u64>,
    /// I/O queues, a connection each.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub queues: u16,
    /// Commands outstanding at once, on all queues together.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub qd: u16,
    #[command(flatten)]
    pub engine: EngineOption,
}

/// Which event loop.
#[derive(Args, Debug, Clone, Copy)]
pub(crate) struct EngineOption {
    /// The event loop: auto, uring (io_uring) or poll (readiness).
    #[arg(long = "engine", env = "NVMF_ENGINE", value_name = "ENGINE", default_value_t)]
    pub engine: EngineChoice,
}

/// How to show things.
#[derive(Args, Debug, Clone, Copy)]
pub(crate) struct Output {
    /// How to print.
    #[arg(
        short = 'o',
        long = "output-format",
        id = "output_format",
        value_name = "FORMAT",
        default_value = "normal",
        // `nvmf ctl status -o json`, too
        global = true
    )]
    pub format: Format,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Format {
    /// For people.
    Normal,
    /// For scripts, with the names of nvme-cli.
    Json,
}

/// Whom to connect to, and as who.
#[derive(Args, Debug, Clone)]
#[command(next_help_heading = "Connection")]
pub(crate) struct Connect {
    /// Instead of TARGET: the transport; there is only tcp.
    #[arg(short = 't', long, value_name = "TRTYPE", requires = "traddr", value_parser = ["tcp"])]
    pub transport: Option<String>,
    /// Instead of TARGET: the target's name or IP address.
    #[arg(short = 'a', long, value_name = "HOST")]
    pub traddr: Option<String>,
    /// With -a: the port (4420 where left out).
    #[arg(short = 's', long, value_name = "PORT", requires = "traddr", value_parser = parse_port)]
    pub trsvcid: Option<u16>,
    /// With -a: the subsystem's NQN.
    #[arg(short = 'n', long, value_name = "SUBNQN", requires = "traddr", value_parser = Nqn::lenient)]
    pub nqn: Option<Nqn>,
    #[command(flatten)]
    pub host: AsHost,
}

/// As who to connect, and how.
#[derive(Args, Debug, Clone)]
#[command(next_help_heading = "Connection")]
pub(crate) struct AsHost {
    /// This host's NQN; else from /etc/nvme/hostnqn, else from the machine's UUID.
    #[arg(short = 'q', long, value_name = "NQN", value_parser = Nqn::parse_strict)]
    pub hostnqn: Option<Nqn>,
    /// This host's identifier, a UUID; else from /etc/nvme/hostid, else from the host's NQN.
    #[arg(short = 'I', long, value_name = "UUID", value_parser = parse_hostid)]
    pub hostid: Option<HostId>,
    /// Ask for header digests.
    #[arg(short = 'g', long, visible_alias = "hdr-digest")]
    pub hdgst: bool,
    /// Ask for data digests.
    #[arg(short = 'G', long, visible_alias = "data-digest")]
    pub ddgst: bool,
    /// Give up when the target does not answer for this long: seconds, as in 5 or 0.5.
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = parse_seconds)]
    pub timeout: Duration,
    /// What `--trace-pdus` means.
    #[arg(skip)]
    pub trace: Option<PduTrace>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}

//! The command line of `nvmf bench`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use nvmf_storage::parse_size;

use crate::args::{
    Connect, Cpus, EngineOption, NSID_ALIASES, Output, parse_cpus, parse_seconds, parse_spin,
};
use crate::paths::PathOptions;
use crate::target::{Target, parse_nsid};

pub(crate) const HELP: &str = "\
Examples:
  nvmf bench nvme+tcp://127.0.0.1/SUBNQN                         random reads of 4 KiB, 32 at once
  nvmf bench nvme+tcp://127.0.0.1/SUBNQN --rw write --bs 128k --qd 8 -o json
  nvmf bench nvme+tcp://127.0.0.1/SUBNQN --rw randrw --mix 70 --verify --size 64M
  nvmf bench nvme+tcp://127.0.0.1/SUBNQN --rate 10000 --qd 128   latency at a fixed rate
  nvmf bench nvme+tcp://127.0.0.1/SUBNQN --rw randrw --verify --size 1G --time 3600 --reconnect 30
  nvmf bench nvme+tcp://192.0.2.7/SUBNQN nvme+tcp://198.51.100.7/SUBNQN    by two paths
  nvmf bench nvme+tcp://127.0.0.1/SUBNQN --idle 1000 --time 30   what connections cost a target

Kinds of workload that write overwrite the range, and so does --verify: --offset and --size say
which bytes that is.

Latency is the time from when a command is handed to its queue until its completion is seen; with
--rate it begins when the command was due, so that waiting for room counts. Commands are counted
that complete in the time that is measured. CPU is that of the whole process in that time.

Ctrl-C ends it early, and what was measured so far is printed.";

/// `nvmf bench`
#[derive(Args, Debug)]
pub(crate) struct Bench {
    /// nvme+tcp://HOST[:PORT]/SUBNQN[/NSID]; several are several paths to one namespace
    #[arg(value_name = "TARGET")]
    pub targets: Vec<Target>,
    /// What to do; writes overwrite the range.
    #[arg(long, value_name = "KIND", default_value = "randread")]
    pub rw: Rw,
    /// With rw and randrw: this many percent of the commands are reads.
    #[arg(long, value_name = "PERCENT", default_value_t = 70, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub mix: u8,
    /// Bytes of one command: a multiple of the namespace's block size.
    #[arg(long, value_name = "BYTES", default_value = "4k", value_parser = parse_size)]
    pub bs: u64,
    /// Commands outstanding at once, on all queues together.
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub qd: u32,
    /// I/O queues, a connection each.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub queues: u16,
    /// How long to measure, in seconds.
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = parse_seconds)]
    pub time: Duration,
    /// How long to go on before that.
    #[arg(long, value_name = "SECONDS", default_value = "0.5", value_parser = parse_warmup)]
    pub warmup: Duration,
    /// Where in the namespace the range begins.
    #[arg(long, value_name = "BYTES", value_parser = parse_size, default_value = "0")]
    pub offset: u64,
    /// How long the range is; where left out, up to the end of the namespace.
    #[arg(long, value_name = "BYTES", value_parser = parse_size)]
    pub size: Option<u64>,
    /// What random numbers begin with: the same seed, the same order.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Threads; the queues are spread over them.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub cores: u16,
    /// How long to look for answers before sleeping, in microseconds; `forever` never sleeps.
    #[arg(long, value_name = "MICROSECONDS", default_value = "30", value_parser = parse_spin)]
    pub spin: Duration,
    /// Keep the threads on these CPUs, as in 0,2-3: the first thread on the first and so on.
    #[arg(long, value_name = "CPUS", value_parser = parse_cpus)]
    pub pin: Option<Cpus>,
    /// So many commands a second at a steady pace, however long each takes; latency counts from
    /// when a command was due.
    #[arg(long, value_name = "IOPS", value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub rate: Option<u64>,
    /// Write patterns, and check every byte that is read. What is to be read is written first, and
    /// what was written is read at the end.
    #[arg(long)]
    pub verify: bool,
    /// When a connection ends, connect again, and try that for so long; what was under way is done
    /// again. Several targets do so in any case.
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds)]
    pub reconnect: Option<Duration>,
    /// Write the longest latency of each tenth of a second into FILE: lines of Unix time in
    /// milliseconds, commands, and microseconds.
    #[arg(long, value_name = "FILE")]
    pub latency_log: Option<PathBuf>,
    /// Do nothing but keep this many associations with an I/O queue each for --time.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub idle: Option<u32>,
    #[command(flatten)]
    pub engine: EngineOption,
    /// The namespace, instead of TARGET's NSID (1 where both are left out).
    #[arg(long, aliases = NSID_ALIASES, value_name = "NSID", value_parser = parse_nsid)]
    pub namespace_id: Option<u32>,
    #[command(flatten)]
    pub output: Output,
    #[command(flatten)]
    pub paths: PathOptions,
    #[command(flatten)]
    pub connect: Connect,
}

/// What a workload does.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
#[allow(clippy::enum_variant_names, reason = "named as fio does")]
pub(crate) enum Rw {
    /// Reads in order.
    Read,
    /// Writes in order.
    Write,
    /// Reads anywhere.
    Randread,
    /// Writes anywhere.
    Randwrite,
    /// Reads and writes in order.
    Rw,
    /// Reads and writes anywhere.
    Randrw,
}

impl Rw {
    pub(crate) fn is_random(self) -> bool {
        matches!(self, Self::Randread | Self::Randwrite | Self::Randrw)
    }

    /// Percent of the commands that are reads.
    pub(crate) fn mix(self, mix: u8) -> u8 {
        match self {
            Self::Read | Self::Randread => 100,
            Self::Write | Self::Randwrite => 0,
            Self::Rw | Self::Randrw => mix,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Randread => "randread",
            Self::Randwrite => "randwrite",
            Self::Rw => "rw",
            Self::Randrw => "randrw",
        }
    }
}

fn parse_warmup(text: &str) -> Result<Duration, String> {
    if text.parse() == Ok(0.0) { Ok(Duration::ZERO) } else { parse_seconds(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warm_up_may_be_left_out() {
        assert_eq!(parse_warmup("0"), Ok(Duration::ZERO));
        assert_eq!(parse_warmup("0.0"), Ok(Duration::ZERO));
        assert_eq!(parse_warmup("2"), Ok(Duration::from_secs(2)));
        assert!(parse_warmup("-1").is_err());
    }
}

//! The raw ceiling of the loopback: a server and a load generator that move the bytes that NVMe/TCP
//! moves, and do nothing else. No target can serve faster over the same socket calls.
//!
//! A command is 72 bytes. A read is answered by 24 bytes and its data. A write's data comes behind
//! its command, up to `--in-capsule`; a longer write is asked for with 24 bytes and comes behind 24
//! more; then 24 bytes answer it. Each end polls on one core, and what one receive brought is
//! answered by one gathered send.

#![forbid(unsafe_code)]

mod connection;
mod load;
mod serve;
mod wire;

use std::io::Write;

use anyhow::Context;
use clap::{Args, Parser, Subcommand, ValueEnum};
use nvmf_benches::{affinity, size};

/// The raw ceiling of the loopback: NVMe/TCP's bytes, and nothing else.
#[derive(Parser, Debug)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Answer, until killed.
    Serve(Serve),
    /// Load a server, and say how fast it was.
    Load(Load),
}

#[derive(Args, Debug)]
struct Serve {
    /// Where to listen, on 127.0.0.1; 0 for any port that is free.
    #[arg(long, value_name = "PORT")]
    port: u16,
    /// The core to run on; any where left out.
    #[arg(long, value_name = "CORE")]
    core: Option<usize>,
}

#[derive(Args, Debug, Clone)]
struct Load {
    /// Where the server listens, on 127.0.0.1.
    #[arg(long, value_name = "PORT")]
    port: u16,
    /// The core to run on; any where left out.
    #[arg(long, value_name = "CORE")]
    core: Option<usize>,
    /// I/Os outstanding, over all connections together.
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    qd: u32,
    /// Connections.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    connections: u32,
    /// How long to measure, after half a second that does not count.
    #[arg(long, value_name = "SECONDS", default_value_t = 5.0)]
    seconds: f64,
    /// Bytes of one I/O, as in 4096 or 4k.
    #[arg(long, value_name = "BYTES", default_value = "4k", value_parser = size::parse)]
    bs: u32,
    /// Reads, writes, or both; always at random places.
    #[arg(long, value_enum, default_value_t = Rw::Read)]
    rw: Rw,
    /// With rw: reads of a hundred I/Os.
    #[arg(long, value_name = "PERCENT", default_value_t = 70, value_parser = clap::value_parser!(u8).range(0..=100))]
    mix: u8,
    /// Up to so many bytes, a write's data comes with its command.
    #[arg(long, value_name = "BYTES", default_value = "4k", value_parser = size::parse)]
    in_capsule: u32,
    /// Of the random places.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Print what `nvmf bench -o json` prints.
    #[arg(long)]
    json: bool,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
enum Rw {
    #[value(alias = "randread")]
    Read,
    #[value(alias = "randwrite")]
    Write,
    #[value(name = "rw", alias = "randrw")]
    Mixed,
}

impl Load {
    /// Reads of a hundred I/Os.
    fn reads(&self) -> u8 {
        match self.rw {
            Rw::Read => 100,
            Rw::Write => 0,
            Rw::Mixed => self.mix,
        }
    }
}

/// Bytes that the server has, all of them of the same value.
const STORE: u32 = size::MOST;

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Serve(args) => {
            pin(args.core)?;
            serve::run(args.port)
        }
        Command::Load(args) => {
            pin(args.core)?;
            let report = load::run(&args)?;
            let line =
                if args.json { serde_json::to_string(&report)? } else { load::line(&report) };
            writeln!(std::io::stdout(), "{line}").context("cannot print the result")
        }
    }
}

fn pin(core: Option<usize>) -> anyhow::Result<()> {
    core.map_or(Ok(()), affinity::set_core)
        .with_context(|| format!("cannot run on core {}", core.unwrap_or(0)))
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

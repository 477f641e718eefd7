//! The `nvmf` command.

#[cfg(all(feature = "jemalloc", target_os = "linux", target_arch = "x86_64", target_env = "gnu"))]
mod allocator;
mod args;
mod bench;
mod config;
mod connect;
mod copy;
mod ctl;
mod discover;
mod export;
mod failure;
mod feature;
mod generate;
#[cfg(target_os = "linux")]
mod handoff;
mod identify;
#[cfg(target_os = "linux")]
mod kernel_target;
mod limits;
mod log;
mod output;
mod passthru;
mod paths;
mod progress;
mod property;
mod read;
mod serve;
mod signals;
mod stop;
mod target;
mod transfer;
mod write;

use std::fs::File;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use nvmf::pdu_trace::PduTrace;
use tracing_subscriber::EnvFilter;

use args::{Cli, Command, LogFormat};

fn main() -> ExitCode {
    let mut cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return failure::report_usage(&error),
    };
    start_logging(cli.verbose, cli.log_format);
    let timeout = cli.command.timeout();
    if let Some(path) = &cli.trace_pdus {
        match trace_into(path) {
            Ok(trace) => cli.command.trace_pdus(trace),
            Err(error) => return failure::report(&error, None),
        }
    }
    let done = match cli.command {
        Command::Serve(args) => serve::run(&args),
        Command::Config(command) => config::run(&command),
        Command::Ctl(args) => ctl::run(args),
        #[cfg(target_os = "linux")]
        Command::KernelTarget(args) => kernel_target::run(&args),
        Command::Discover(args) => discover::run(&args),
        Command::Identify(args) => identify::run(&args),
        Command::Property(args) => property::run(&args),
        Command::Log(args) => log::run(&args),
        Command::Feature(args) => feature::run(&args),
        Command::AdminPassthru(args) => passthru::run(&args, passthru::Queue::Admin),
        Command::IoPassthru(args) => passthru::run(&args, passthru::Queue::Io),
        Command::Read(args) => read::run(&args),
        Command::Write(args) => write::run(&args),
        Command::Copy(args) => copy::run(&args),
        Command::Bench(args) => bench::run(&args),
        #[cfg(target_os = "linux")]
        Command::Connect(args) => handoff::connect(&args),
        #[cfg(target_os = "linux")]
        Command::ConnectAll(args) => handoff::connect_all(&args),
        #[cfg(target_os = "linux")]
        Command::Disconnect(args) => handoff::disconnect(&args),
        #[cfg(target_os = "linux")]
        Command::DisconnectAll(args) => handoff::disconnect_all(&args),
        #[cfg(target_os = "linux")]
        Command::List(args) => handoff::list(&args, cli.verbose > 0),
        Command::Export(args) => export::run(&args),
        Command::Completions { shell } => generate::completions(shell),
        Command::Man { directory } => generate::man(directory.as_deref()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failure::report(&error, timeout),
    }
}

/// Logs to standard error: warnings, or more of it as `-v` and `NVMF_LOG` say.
fn start_logging(verbose: u8, format: LogFormat) {
    let level = match verbose {
        0 => "warn",
        1 => "debug",
        _ => "trace",
    };
    let filter = EnvFilter::try_from_env("NVMF_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        // It would report that standard error cannot be written on standard error, and panic.
        .log_internal_errors(false);
    match format {
        LogFormat::Text => {
            builder.with_ansi(io::IsTerminal::is_terminal(&io::stderr())).init();
        }
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
}

/// A trace of PDUs into this file, which is made anew; `-` is standard error.
fn trace_into(path: &Path) -> anyhow::Result<PduTrace> {
    if path == Path::new("-") {
        return Ok(PduTrace::new(io::stderr()));
    }
    let file = File::create(path)
        .with_context(|| format!("cannot write the trace of PDUs to {}", path.display()))?;
    Ok(PduTrace::new(file))
}

//! Runs targets and load generators pinned to one core each, in alternation, and shows the ratios
//! of what they reach.
//!
//! An absolute figure says as much about the minute in which it was measured as about what was
//! measured. Here everything that is compared is run in every round, one soon after the other, and
//! a figure is the median of the rounds' ratios, with its spread.

#![forbid(unsafe_code)]

mod calm;
mod children;
mod formats;
mod hold;
mod measure;
mod plan;
mod plot;
mod prefill;
mod probe;
mod results;
mod run;
mod statistics;
mod table;
mod variables;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::children::Stop;
use crate::results::Results;

/// Compare NVMe/TCP targets and load generators, in alternation.
#[derive(Parser, Debug)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Measure what a plan says.
    Run(run::Args),
    /// Show results again.
    Render(Render),
    /// Connect hosts that then keep silent, until killed.
    Hold(hold::Hold),
}

#[derive(Args, Debug)]
struct Render {
    /// What `compare run` wrote; the table and the picture are put beside it.
    results: PathBuf,
}

fn main() -> anyhow::Result<ExitCode> {
    let stop = Stop::default();
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Stop::clone(&stop))
            .context("cannot wait for signals")?;
    }
    match Cli::parse().command {
        Command::Run(args) => {
            let path = run::run(&args, &stop)?;
            render(&path)
        }
        Command::Render(args) => render(&args.results),
        Command::Hold(args) => hold::run(&args, &stop).map(|()| ExitCode::SUCCESS),
    }
}

/// Writes the table and the picture of results, prints the table, and tells by the status whether
/// all went well.
fn render(path: &Path) -> anyhow::Result<ExitCode> {
    let results = Results::load(path)?;
    let markdown = table::markdown(&results);
    let beside = |name: &str| path.with_file_name(name);
    std::fs::write(beside("results.md"), &markdown).context("cannot write the table")?;
    plot::draw(&results, &beside("results.svg"))?;
    let mut out = std::io::stdout();
    write!(out, "{markdown}").context("cannot print the table")?;
    let well = results.errors().is_empty() && table::misses(&results) == 0;
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
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

//! How the command fails: one line, and an exit status.

use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::CommandFactory;

use crate::args::Cli;
use crate::stop::KILLED_BY;

/// The command line is wrong in a way that its grammar does not say.
#[derive(Debug)]
pub(crate) struct Usage(String);

impl Usage {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// A signal ended the command, in order.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("interrupted")]
pub(crate) struct Interrupted {
    /// The signal's number.
    pub(crate) signal: i32,
}

/// The status for wrong usage, as clap has it.
const USAGE: u8 = 2;

/// Prints an error in one line and says with which status to exit.
/// `timeout` is how long the target was waited for each time, if there is one.
pub(crate) fn report(error: &anyhow::Error, timeout: Option<Duration>) -> ExitCode {
    if is_broken_pipe(error) {
        // Whoever read our output has seen enough.
        return ExitCode::FAILURE;
    }
    write(&described(error, timeout));
    if let Some(Interrupted { signal }) = error.downcast_ref() {
        // As a shell has it.
        return u8::try_from(KILLED_BY + signal).map_or(ExitCode::FAILURE, ExitCode::from);
    }
    if error.is::<Usage>() { ExitCode::from(USAGE) } else { ExitCode::FAILURE }
}

/// An error in one line, with what to try where the target did not answer in this time.
pub(crate) fn described(error: &anyhow::Error, timeout: Option<Duration>) -> String {
    let hint = timeout.filter(|_| timed_out(error)).map(limit).unwrap_or_default();
    format!("{}{hint}", one_line(error))
}

/// Reports what clap says of a command line: help goes out as it is, an error in one line.
pub(crate) fn report_usage(error: &clap::Error) -> ExitCode {
    use clap::error::ErrorKind;
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => match error.print() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => report(&error.into(), None),
        },
        // `nvmf` alone: which commands there are helps more than one line.
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            ExitCode::from(USAGE)
        }
        _ => {
            let said = wrong(&error.to_string());
            write(&format!("{said}; see nvmf {}--help", subcommand()));
            ExitCode::from(USAGE)
        }
    }
}

/// What clap says is wrong, in one line and without its advice on help.
fn wrong(said: &str) -> String {
    let said = said.strip_prefix("error: ").unwrap_or(said);
    let mut line = String::new();
    for part in said.lines().map(str::trim).filter(|part| !part.is_empty()) {
        if part.starts_with("Usage: ") || part.starts_with("For more information") {
            break;
        }
        if !line.is_empty() {
            line.push_str(if part.starts_with("tip: ") { "; " } else { " " });
        }
        line.push_str(part);
    }
    printable(&line)
}

/// The subcommand that the command line names, and a space.
fn subcommand() -> String {
    let mut words = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned());
    let first = words.find(|word| !word.starts_with('-')).unwrap_or_default();
    let known = Cli::command().get_subcommands().any(|command| command.get_name() == first);
    if known { format!("{first} ") } else { String::new() }
}

/// Says something that is not the end on standard error, without what could steer a terminal.
pub(crate) fn say(line: &str) {
    write(&printable(line));
}

/// Where standard error cannot be written, the status has to do.
fn write(line: &str) {
    let _ = writeln!(io::stderr(), "nvmf: {line}");
}

/// What to add where the target did not answer within this time.
pub(crate) fn limit(timeout: Duration) -> String {
    format!(" ({timeout:?}; --timeout gives more)")
}

/// Whether the target did not answer in time.
pub(crate) fn timed_out(error: &anyhow::Error) -> bool {
    let of_a_queue = error.downcast_ref().and_then(|error| match error {
        nvmf_host::Error::Queue { source, .. } => Some(source),
        _ => None,
    });
    of_a_queue.or(error.downcast_ref()).is_some_and(nvmf::Error::is_timeout)
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
}

/// The error and its causes, without causes that are already said and without what could steer a
/// terminal.
pub(crate) fn one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        if line.contains(&cause) {
            continue;
        }
        if !line.is_empty() {
            line.push_str(": ");
        }
        line.push_str(&cause);
    }
    printable(&line)
}

/// The text without what could steer a terminal.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            let escaped = c.is_control().then(|| c.escape_default());
            escaped.into_iter().flatten().chain((!c.is_control()).then_some(c))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::anyhow;

    #[test]
    fn what_clap_says_is_one_line() {
        let said = "error: invalid value 'x' for '--to <TO>'\n  [possible values: a, b]\n\n  tip: \
                    try 'a'\n\nUsage: nvmf [OPTIONS]\n\nFor more information, try '--help'.\n";
        let line = "invalid value 'x' for '--to <TO>' [possible values: a, b]; tip: try 'a'";
        assert_eq!(wrong(said), line);
    }

    #[test]
    fn an_error_is_one_line_with_its_causes_and_without_repetition() {
        let error = anyhow!("no route").context("cannot connect: no route").context("reading");
        assert_eq!(one_line(&error), "reading: cannot connect: no route");
        let in_use = io::Error::from(io::ErrorKind::AddrInUse);
        let said = format!("cannot listen on 127.0.0.1:4420: {in_use}; end the other program");
        assert_eq!(one_line(&anyhow!(in_use).context(said.clone())), said);
        assert_eq!(one_line(&anyhow!("a\nb\u{1b}[0m")), "a\\nb\\u{1b}[0m");
    }
}

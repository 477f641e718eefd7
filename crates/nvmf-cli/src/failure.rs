//! How the command fails: one line, and an exit status.

use std::fmt;
use std::process::ExitCode;

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

/// The status for wrong usage, as clap has it.
const USAGE: u8 = 2;

/// Prints an error in one line and says with which status to exit.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    if is_broken_pipe(error) {
        // Whoever read our output has seen enough.
        return ExitCode::FAILURE;
    }
    eprintln!("nvmf: {}", one_line(error));
    if error.is::<Usage>() { ExitCode::from(USAGE) } else { ExitCode::FAILURE }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<std::io::Error>()
        .is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
}

/// The error and its causes, without what a cause only repeats and without what could steer a
/// terminal.
fn one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        if line.ends_with(&cause) {
            continue;
        }
        if !line.is_empty() {
            line.push_str(": ");
        }
        line.push_str(&cause);
    }
    line.chars()
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
    fn an_error_is_one_line_with_its_causes_and_without_repetition() {
        let error = anyhow!("no route").context("cannot connect: no route").context("reading");
        assert_eq!(one_line(&error), "reading: cannot connect: no route");
        assert_eq!(one_line(&anyhow!("a\nb\u{1b}[0m")), "a\\nb\\u{1b}[0m");
    }
}

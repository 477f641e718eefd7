//! What is wrong with a configuration: all of it, each with its line and key.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Problem {
    /// The line of the file, from 1, if it was read from a text.
    pub line: Option<usize>,
    /// Which key: `subsystem[0].namespace[1].source`, counted from 0. Empty for the whole.
    pub key: String,
    /// What is wrong and what to try, in one line.
    pub message: String,
}

impl Problem {
    pub(crate) fn new(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self { line: None, key: key.into(), message: message.into() }
    }
}

/// `12: subsystem[0].nqn: message`, without what is not known.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "{line}: ")?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)
    }
}

/// All that is wrong with a configuration, at least one problem.
///
/// It prints a line for each, `target.toml:12: subsystem[0].nqn: message`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    name: Option<String>,
    problems: Vec<Problem>,
}

impl ConfigError {
    /// `problems` is not empty.
    pub(crate) fn new(problems: Vec<Problem>) -> Self {
        Self { name: None, problems }
    }

    /// The same, with the line that each key is on.
    pub(super) fn located(mut self, line: impl Fn(&str) -> Option<usize>) -> Self {
        for problem in &mut self.problems {
            problem.line = line(&problem.key);
        }
        self.problems.sort_by_key(|problem| problem.line);
        self
    }

    /// The same, said of the file of this name.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// The problems, in the order of their lines.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// A line for each problem.
    pub fn lines(&self) -> impl Iterator<Item = String> + '_ {
        self.problems.iter().map(|problem| match (&self.name, problem.line) {
            (Some(name), Some(_)) => format!("{name}:{problem}"),
            (Some(name), None) => format!("{name}: {problem}"),
            (None, Some(_)) => format!("line {problem}"),
            (None, None) => problem.to_string(),
        })
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, line) in self.lines().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            f.write_str(&line)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// Why there is no layout in a file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is no configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

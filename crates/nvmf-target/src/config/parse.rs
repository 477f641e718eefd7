//! From TOML: every error with its line and key.
//!
//! serde stops at the first thing it does not know. So what is wrong is taken out of the document
//! and the rest tried again, until there is nothing wrong, or nothing left.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::Path;

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue, Deserializer};

use super::error::{ConfigError, Problem, ReadError};
use super::{Config, Layout};

/// The longest file that is read, in bytes.
const LONGEST: u64 = 4 << 20;

/// The most things that are said to be wrong with the form of one file.
const MOST: usize = 50;

impl Config {
    /// Reads a configuration and judges its form only: TOML, names of keys, kinds of values.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] with all that is wrong; of a text that is no TOML, the first.
    pub fn from_toml(text: &str) -> Result<Self, ConfigError> {
        Document::parse(text)?.config()
    }
}

impl Layout {
    /// Reads a configuration and judges all of it.
    ///
    /// # Errors
    ///
    /// [`ConfigError`], as [`Config::from_toml`] and [`Config::resolve`], with lines.
    pub fn from_toml(text: &str) -> Result<Self, ConfigError> {
        judge(text, |_, layout| Ok(layout))
    }

    /// The same of a file.
    ///
    /// # Errors
    ///
    /// [`ReadError`] if the file cannot be read, is longer than 4 MiB or is no configuration.
    pub fn read(path: &Path) -> Result<Self, ReadError> {
        judge_file(path, |_, layout| Ok(layout))
    }
}

/// Reads a configuration and judges all of it, and then makes something of it that may find more
/// that is wrong, which is located as well.
pub(crate) fn judge<T>(
    text: &str,
    make: impl FnOnce(&Config, Layout) -> Result<T, ConfigError>,
) -> Result<T, ConfigError> {
    let document = Document::parse(text)?;
    let config = document.config()?;
    let made = config.resolve().and_then(|layout| make(&config, layout));
    made.map_err(|error| error.located(|key| document.line_of(key)))
}

/// The same of a file.
pub(crate) fn judge_file<T>(
    path: &Path,
    make: impl FnOnce(&Config, Layout) -> Result<T, ConfigError>,
) -> Result<T, ReadError> {
    let text = read(path).map_err(|source| ReadError::Io { path: path.into(), source })?;
    Ok(judge(&text, make).map_err(|error| error.named(path.display().to_string()))?)
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(LONGEST + 1).read_to_string(&mut text)?;
    if text.len() as u64 > LONGEST {
        return Err(io::Error::other(format!("it is longer than {LONGEST} bytes")));
    }
    Ok(text)
}

/// A text and where in it everything is.
struct Document<'a> {
    root: Spanned<DeTable<'a>>,
    lines: Lines,
}

/// Where the lines end. A file may have as many errors as lines.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Self {
        Self(text.match_indices('\n').map(|(at, _)| at).collect())
    }

    /// The line of a byte, from 1.
    fn number(&self, at: usize) -> usize {
        1 + self.0.partition_point(|end| *end < at)
    }
}

impl<'a> Document<'a> {
    fn parse(text: &'a str) -> Result<Self, ConfigError> {
        let lines = Lines::of(text);
        match DeTable::parse(text) {
            Ok(root) => Ok(Self { root, lines }),
            Err(error) => {
                let mut problem = Problem::new("", one_line(error.message()));
                problem.line = error.span().map(|span| lines.number(span.start));
                Err(ConfigError::new(vec![problem]))
            }
        }
    }

    fn config(&self) -> Result<Config, ConfigError> {
        let mut root = self.root.clone();
        let mut problems: Vec<Problem> = Vec::new();
        let result = loop {
            let error = match Config::deserialize(Deserializer::from(root.clone())) {
                Ok(config) => break Ok(config),
                Err(error) => error,
            };
            let span = error.span().unwrap_or(0..0);
            let place = find(root.get_ref(), &span).unwrap_or_default();
            let missing = quoted(error.message(), "missing field ");
            let taken_out = match &missing {
                Some(name) => place.put(root.get_mut(), name),
                None => place.take(root.get_mut()),
            };
            let mut problem = match &missing {
                Some(name) => Problem::new(place.child(name).to_string(), "this key is missing"),
                None => Problem::new(place.to_string(), explain(error.message())),
            };
            // What was taken out because it was wrong is not missing.
            if !problems.iter().any(|other| other.key == problem.key) {
                problem.line = error.span().map(|span| self.lines.number(span.start));
                problems.push(problem);
            }
            if !taken_out || problems.len() >= MOST {
                break Err(());
            }
        };
        match result {
            Ok(config) if problems.is_empty() => Ok(config),
            _ => {
                problems.sort_by_key(|problem| problem.line);
                Err(ConfigError::new(problems))
            }
        }
    }

    /// The line of a key, or of what it would be in.
    fn line_of(&self, key: &str) -> Option<usize> {
        let mut table = self.root.get_ref();
        let mut found = None;
        for part in key.split('.').filter(|part| !part.is_empty()) {
            let (name, indices) = part.split_once('[').unwrap_or((part, ""));
            let Some((key, value)) = table.get_key_value(name) else { break };
            let mut value = value;
            found = Some(key.span());
            for index in indices.split('[').filter_map(|i| i.trim_end_matches(']').parse().ok()) {
                let index: usize = index;
                let Some(element) = value.get_ref().as_array().and_then(|all| all.get(index))
                else {
                    break;
                };
                value = element;
                found = Some(element.span());
            }
            match value.get_ref().as_table() {
                Some(inner) => table = inner,
                None => break,
            }
        }
        found.map(|span| self.lines.number(span.start))
    }
}

/// The way to a value: keys, and indices into arrays.
#[derive(Debug, Clone, Default)]
struct Place(Vec<Step>);

#[derive(Debug, Clone)]
enum Step {
    Key(String),
    Index(usize),
}

impl Place {
    fn child(&self, key: &str) -> Self {
        let mut place = self.clone();
        place.0.push(Step::Key(key.to_owned()));
        place
    }

    /// Takes the innermost key on the way out, so that no index changes. Says whether it was there.
    fn take(&self, root: &mut DeTable<'_>) -> bool {
        let Some(last) = self.0.iter().rposition(|step| matches!(step, Step::Key(_))) else {
            return false;
        };
        let (Some(Step::Key(key)), Some(table)) =
            (self.0.get(last), walk(root, self.0.get(..last).unwrap_or_default()))
        else {
            return false;
        };
        table.remove(key.as_str()).is_some()
    }

    /// Puts an empty text under a key that is missing here; all keys that may not be are texts.
    fn put(&self, root: &mut DeTable<'_>, key: &str) -> bool {
        let Some(table) = walk(root, &self.0) else { return false };
        let empty = DeValue::String(Cow::Borrowed(""));
        let key = Spanned::new(0..0, Cow::Owned(key.to_owned()));
        table.insert(key, Spanned::new(0..0, empty)).is_none()
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (i, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(key) if i == 0 => write!(f, "{}", key.escape_debug())?,
                Step::Key(key) => write!(f, ".{}", key.escape_debug())?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// The table at the end of the way.
fn walk<'t, 'a>(root: &'t mut DeTable<'a>, steps: &[Step]) -> Option<&'t mut DeTable<'a>> {
    let mut steps = steps.iter();
    let Some(first) = steps.next() else { return Some(root) };
    let Step::Key(key) = first else { return None };
    let mut value = root.get_mut(key.as_str())?.get_mut();
    for step in steps {
        value = match (step, value) {
            (Step::Key(key), DeValue::Table(table)) => table.get_mut(key.as_str())?.get_mut(),
            (Step::Index(index), DeValue::Array(array)) => array.get_mut(*index)?.get_mut(),
            _ => return None,
        };
    }
    match value {
        DeValue::Table(table) => Some(table),
        _ => None,
    }
}

/// The way to the key or value at exactly this place in the text; the innermost, if there are more.
fn find(table: &DeTable<'_>, span: &Range<usize>) -> Option<Place> {
    fn in_table(table: &DeTable<'_>, span: &Range<usize>, steps: &mut Vec<Step>) -> bool {
        table.iter().any(|(key, value)| {
            steps.push(Step::Key(key.get_ref().to_string()));
            let found = key.span() == *span || in_value(value, span, steps);
            if !found {
                steps.pop();
            }
            found
        })
    }
    fn in_value(value: &Spanned<DeValue<'_>>, span: &Range<usize>, steps: &mut Vec<Step>) -> bool {
        let inside = match value.get_ref() {
            DeValue::Table(table) => in_table(table, span, steps),
            DeValue::Array(array) => array.iter().enumerate().any(|(i, element)| {
                steps.push(Step::Index(i));
                let found = in_value(element, span, steps);
                if !found {
                    steps.pop();
                }
                found
            }),
            _ => false,
        };
        inside || value.span() == *span
    }
    let mut steps = Vec::new();
    in_table(table, span, &mut steps).then_some(Place(steps))
}

/// What serde says, in words for the one who wrote the file.
fn explain(message: &str) -> String {
    let Some(unknown) = quoted(message, "unknown field ") else { return one_line(message) };
    let known: Vec<&str> = message.split('`').skip(3).step_by(2).collect();
    let said = match nearest(&unknown, &known) {
        Some(near) => format!("there is no such key here; did you mean `{near}`? "),
        None => "there is no such key here; ".to_owned(),
    };
    format!("{said}Known are {}", known.join(", ")).replace("; Known", "; known")
}

/// What stands in backticks behind this beginning.
fn quoted(message: &str, beginning: &str) -> Option<String> {
    let rest = message.strip_prefix(beginning)?.strip_prefix('`')?;
    Some(rest.split_once('`')?.0.to_owned())
}

fn one_line(message: &str) -> String {
    message.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
}

/// The candidate that is most like a word, if one is like it.
pub(super) fn nearest<'a>(word: &str, candidates: &[&'a str]) -> Option<&'a str> {
    // Names are at most 223 bytes long, and more is like none of them.
    const LONGEST_WORD: usize = 256;
    const MOST_CANDIDATES: usize = 100;
    if word.len() > LONGEST_WORD {
        return None;
    }
    let close = 1 + word.chars().count() / 4;
    candidates
        .iter()
        .take(MOST_CANDIDATES)
        .map(|candidate| (edits(word, candidate), *candidate))
        .filter(|(edits, _)| *edits <= close)
        .min()
        .map(|(_, candidate)| candidate)
}

/// How many characters have to be put in, taken out or replaced to make one word the other.
fn edits(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        if let Some(first) = row.first_mut() {
            *first = left;
        }
        for (b, cell) in to.iter().zip(row.iter_mut().skip(1)) {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = *cell;
            left = replaced.min(diagonal + 1).min(left + 1);
            *cell = left;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests;

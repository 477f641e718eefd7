//! One thing that is done to the kernel's target.

use std::fmt;
use std::io;

use serde::{Serialize, Serializer};

use super::attribute::{is_secret, join};
use super::configfs::Configfs;

/// One system call below nvmet's directory, which all paths are relative to.
///
/// It prints as `write 1 to subsystems/nqn.2026-01.org.example:a/attr_allow_any_host`; as JSON it is
/// an object with `step`, `path`, and `to` or `value`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "step", rename_all = "lowercase")]
#[non_exhaustive]
pub enum Step {
    /// Make an item.
    Mkdir {
        /// Its directory.
        path: String,
    },
    /// Take an item away.
    Rmdir {
        /// Its directory.
        path: String,
    },
    /// Let a host in, or offer a subsystem.
    Link {
        /// The link.
        path: String,
        /// The directory that it is to.
        to: String,
    },
    /// Take that back.
    Unlink {
        /// The link.
        path: String,
    },
    /// Set something.
    Write {
        /// The file.
        path: String,
        /// What is written.
        value: Value,
    },
}

impl Step {
    pub(super) fn write(at: &str, name: &str, value: &str) -> Self {
        let value = Value { text: value.to_owned(), secret: is_secret(name) };
        Self::Write { path: join(at, name), value }
    }

    /// What is made, taken away or written.
    pub fn path(&self) -> &str {
        match self {
            Self::Mkdir { path }
            | Self::Rmdir { path }
            | Self::Link { path, .. }
            | Self::Unlink { path }
            | Self::Write { path, .. } => path,
        }
    }

    pub(super) fn take(&self, fs: &dyn Configfs) -> io::Result<()> {
        match self {
            Self::Mkdir { path } => fs.make_directory(path),
            Self::Rmdir { path } => fs.remove_directory(path),
            Self::Link { path, to } => fs.make_link(path, to),
            Self::Unlink { path } => fs.remove_link(path),
            Self::Write { path, value } => fs.write(path, &value.text),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path().escape_debug();
        match self {
            Self::Mkdir { .. } => write!(f, "mkdir {path}"),
            Self::Rmdir { .. } => write!(f, "rmdir {path}"),
            Self::Link { to, .. } => write!(f, "link {path} to {}", to.escape_debug()),
            Self::Unlink { .. } => write!(f, "unlink {path}"),
            Self::Write { value, .. } => write!(f, "write {value} to {path}"),
        }
    }
}

/// What is written into a file. A key is shown to nobody: it prints as `(a key)` and is `null` in
/// JSON.
#[derive(Clone, PartialEq, Eq)]
pub struct Value {
    text: String,
    secret: bool,
}

impl Value {
    /// The text, unless it is a key.
    pub fn as_str(&self) -> Option<&str> {
        (!self.secret).then_some(&self.text)
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.as_str() {
            Some(text) => write!(f, "{}", text.escape_debug()),
            None => f.write_str("(a key)"),
        }
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.as_str().serialize(serializer)
    }
}

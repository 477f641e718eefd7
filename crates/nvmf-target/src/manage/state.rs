//! What a target is, in a file, so that it is the same after a crash.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::config::{Config, ConfigError, Layout};

/// The file in which a target keeps what it is.
///
/// It holds two configurations: the one that the target was started with, and what became of it by
/// changes while it ran. Started again with the same one, it is what it was; started with one that
/// was edited meanwhile, that one counts, and what the file held is kept beside it.
#[derive(Debug)]
pub struct StateFile {
    path: PathBuf,
    base: Config,
}

/// Why a state file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// It cannot be read or written.
    #[error("state file {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not one.
    #[error("{} is no state file of this version: {source}; move it away to start without it", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// What it says is not right.
    #[error("state file {}: {source}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// Why.
        source: ConfigError,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Content {
    version: Version,
    base: Config,
    running: Config,
}

#[derive(Serialize, Deserialize)]
enum Version {
    #[serde(rename = "1")]
    One,
}

impl StateFile {
    /// Opens the state file at `path` for a target that is started with `base`; gives what it was
    /// when it last ran, which is `base` if there is no file yet, or if another one was edited.
    ///
    /// # Errors
    ///
    /// [`StateError`]: a file that is there and cannot be read is not passed over.
    pub fn open(path: impl Into<PathBuf>, base: &Layout) -> Result<(Self, Layout), StateError> {
        let file = Self { path: path.into(), base: base.config() };
        let bytes = match fs::read(&file.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok((file, base.clone()));
            }
            Err(source) => return Err(file.io(source)),
        };
        let content: Content = serde_json::from_slice(&bytes)
            .map_err(|source| StateError::Format { path: file.path.clone(), source })?;
        if content.base != file.base {
            let aside = file.beside("before");
            fs::rename(&file.path, &aside).map_err(|source| file.io(source))?;
            tracing::warn!(
                state = %file.path.display(), kept = %aside.display(),
                "the configuration was edited since: it counts, and not what was changed while the \
                 target ran"
            );
            return Ok((file, base.clone()));
        }
        let running = content
            .running
            .resolve()
            .map_err(|source| StateError::Config { path: file.path.clone(), source })?;
        Ok((file, running))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is said from now on to be what the target was started with: it was read anew.
    pub(super) fn set_base(&mut self, base: &Layout) {
        self.base = base.config();
    }

    /// Writes down what the target is: when this returns, that is what it is after a crash.
    pub(super) fn save(&mut self, layout: &Layout) -> Result<(), StateError> {
        let content =
            Content { version: Version::One, base: self.base.clone(), running: layout.config() };
        let mut bytes = serde_json::to_vec_pretty(&content)
            .map_err(|source| StateError::Format { path: self.path.clone(), source })?;
        bytes.push(b'\n');
        replace(&self.path, &self.beside("new"), &bytes).map_err(|source| self.io(source))
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(".");
        name.push(suffix);
        name.into()
    }

    fn io(&self, source: io::Error) -> StateError {
        StateError::Io { path: self.path.clone(), source }
    }
}

/// Replaces a file as a whole: after a crash it is the old one or the new one.
pub(crate) fn replace(path: &Path, temporary: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(temporary, path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

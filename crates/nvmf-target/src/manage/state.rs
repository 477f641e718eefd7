//! What a target is, in a file, so that it is the same after a crash.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::config::{Config, ConfigError, Layout};

/// The file in which a target keeps what it is.
///
/// It holds two configurations: the one that the target was started with, and what became of it by
/// changes while it ran. Started again with the same one, it is what it was; started with one that
/// was edited meanwhile, that one counts, and what the file held is kept beside it.
///
/// It is one target's at a time: as long as this is there, a file of the same name and `.lock` is
/// locked.
#[derive(Debug)]
pub struct StateFile {
    path: PathBuf,
    base: Config,
    /// The file itself is replaced each time, and cannot be what is locked.
    _lock: File,
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
    /// A target has it that runs.
    #[error("state file {} is another target's, which runs; give this one a file of its own", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
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
        let path = path.into();
        let lock = lock(&path)?;
        let file = Self { path, base: base.config(), _lock: lock };
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
        beside(&self.path, suffix)
    }

    fn io(&self, source: io::Error) -> StateError {
        StateError::Io { path: self.path.clone(), source }
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    name.into()
}

/// Makes a state file this target's.
fn lock(path: &Path) -> Result<File, StateError> {
    let failed = |source| StateError::Io { path: path.to_owned(), source };
    let file = File::create(beside(path, "lock")).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StateError::InUse { path: path.to_owned() }),
        Err(TryLockError::Error(source)) => Err(failed(source)),
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

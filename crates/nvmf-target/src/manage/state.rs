//! What a target is, in a file, so that it is the same after a crash.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nvme_spec::Nqn;
use nvmf_storage::replace_file;
use serde::{Deserialize, Serialize};

use crate::config::{Config, ConfigError, Layout};
use crate::{Persistence, SavedReservations};

/// The file in which a target keeps what it is.
///
/// It holds two configurations: the one that the target was started with, and what became of it by
/// changes while it ran. Started again with the same one, it is what it was; started with one that
/// was edited meanwhile, that one counts, and what the file held is kept beside it.
///
/// It is one target's at a time: as long as this is there, a file of the same name and `.lock` is
/// locked.
///
/// What hosts want to be kept is in there too: their reservations, which namespaces they protect
/// against writes, and which blocks they marked as not to be read.
#[derive(Debug, Clone)]
pub struct StateFile {
    store: Arc<Store>,
}

#[derive(Debug)]
struct Store {
    path: PathBuf,
    content: Mutex<Content>,
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

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Content {
    version: Version,
    base: Config,
    running: Config,
    /// What hosts left behind, by subsystem and namespace.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    hosts: BTreeMap<String, BTreeMap<u32, Left>>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
enum Version {
    #[serde(rename = "1")]
    One,
}

/// What hosts left behind on a namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(super) struct Left {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reservations: Option<SavedReservations>,
    /// A host has write-protected it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) protected: bool,
    /// Blocks that hosts marked as not to be read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) uncorrectable: Vec<Range<u64>>,
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
        let io = |source| StateError::Io { path: path.clone(), source };
        let new = Content {
            version: Version::One,
            base: base.config(),
            running: base.config(),
            hosts: BTreeMap::new(),
        };
        let (content, layout) = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => (new, base.clone()),
            Err(source) => return Err(io(source)),
            Ok(bytes) => {
                let old: Content = serde_json::from_slice(&bytes)
                    .map_err(|source| StateError::Format { path: path.clone(), source })?;
                if old.base == new.base {
                    let config = |source| StateError::Config { path: path.clone(), source };
                    let running = old.running.resolve().map_err(config)?;
                    (old, running)
                } else {
                    let aside = beside(&path, "before");
                    fs::rename(&path, &aside).map_err(io)?;
                    tracing::warn!(
                        state = %path.display(), kept = %aside.display(),
                        "the configuration was edited since: it counts, and not what was changed \
                         while the target ran"
                    );
                    (Content { hosts: old.hosts, ..new }, base.clone())
                }
            }
        };
        let store = Store { path, content: Mutex::new(content), _lock: lock };
        Ok((Self { store: Arc::new(store) }, layout))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.store.path
    }

    /// What is said from now on to be what the target was started with: it was read anew.
    pub(super) fn set_base(&self, base: &Layout) {
        self.store.content().base = base.config();
    }

    /// Writes down what the target is: when this returns, that is what it is after a crash. What
    /// hosts left on namespaces that are no more, or that `removed` names, goes.
    pub(super) fn save(&self, layout: &Layout, removed: &[(Nqn, u32)]) -> Result<(), StateError> {
        let kept = |nqn: &str, nsid: u32| {
            let subsystem = layout.subsystems().values().find(|s| s.nqn.as_str() == nqn);
            let there = subsystem.is_some_and(|s| s.namespaces.contains_key(&nsid));
            there && !removed.iter().any(|(of, gone)| of.as_str() == nqn && *gone == nsid)
        };
        self.store.change(|content| {
            content.running = layout.config();
            for (nqn, namespaces) in &mut content.hosts {
                namespaces.retain(|nsid, _| kept(nqn, *nsid));
            }
            content.hosts.retain(|_, namespaces| !namespaces.is_empty());
        })
    }

    /// What hosts left behind on a namespace.
    pub(super) fn left(&self, nqn: &Nqn, nsid: u32) -> Left {
        let content = self.store.content();
        let left = content.hosts.get(nqn.as_str()).and_then(|namespaces| namespaces.get(&nsid));
        left.cloned().unwrap_or_default()
    }

    /// Where a subsystem's hosts keep what is to last.
    pub(super) fn of(&self, nqn: &Nqn) -> Arc<dyn Persistence> {
        Arc::new(OfSubsystem { store: Arc::clone(&self.store), nqn: nqn.to_string() })
    }
}

impl Store {
    fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the file, or nothing.
    fn change(&self, change: impl FnOnce(&mut Content)) -> Result<(), StateError> {
        let mut content = self.content();
        let mut new = content.clone();
        change(&mut new);
        let mut bytes = serde_json::to_vec_pretty(&new)
            .map_err(|source| StateError::Format { path: self.path.clone(), source })?;
        bytes.push(b'\n');
        replace_file(&self.path, &bytes)
            .map_err(|source| StateError::Io { path: self.path.clone(), source })?;
        *content = new;
        Ok(())
    }
}

/// What a subsystem's hosts want to last.
#[derive(Debug)]
struct OfSubsystem {
    store: Arc<Store>,
    nqn: String,
}

impl OfSubsystem {
    fn change(&self, nsid: u32, change: impl FnOnce(&mut Left)) -> io::Result<()> {
        let changed = self.store.change(|content| {
            let namespaces = content.hosts.entry(self.nqn.clone()).or_default();
            change(namespaces.entry(nsid).or_default());
            namespaces.retain(|_, left| *left != Left::default());
        });
        changed.map_err(io::Error::other)
    }
}

impl Persistence for OfSubsystem {
    fn save_reservations(&self, nsid: u32, saved: Option<&SavedReservations>) -> io::Result<()> {
        self.change(nsid, |left| left.reservations = saved.cloned())
    }

    fn save_protection(&self, nsid: u32, protected: bool) -> io::Result<()> {
        self.change(nsid, |left| left.protected = protected)
    }

    fn save_uncorrectable(&self, nsid: u32, ranges: &[Range<u64>]) -> io::Result<()> {
        self.change(nsid, |left| left.uncorrectable = ranges.to_vec())
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

//! The files in which nvme-cli keeps whom to connect to: `discovery.conf` and `config.json`.
//!
//! | file | what | parsed by |
//! |---|---|---|
//! | `discovery.conf` | a line of `nvme discover`'s options for each discovery controller | [`DiscoveryConf`] |
//! | `config.json` | hosts, their subsystems, and for each its ports | [`ConfigJson`] |
//!
//! Both are lists of [`Connection`]s. [`hostnqn` and `hostid`](super::identity) are read with the
//! host's identity.
//!
//! ```
//! use nvmf::host::config_files::DiscoveryConf;
//!
//! let conf = DiscoveryConf::parse("# two ports\n-t tcp -a 192.0.2.7\n--transport=tcp -a 192.0.2.8 -s 4420\n");
//! let controllers: Vec<_> =
//!     conf.connections.iter().map(|one| one.discovery_controller().unwrap().to_string()).collect();
//! assert_eq!(controllers, ["nvme+tcp://192.0.2.7:8009", "nvme+tcp://192.0.2.8:4420"]);
//! assert!(conf.errors.is_empty());
//! ```

mod config_json;
mod connection;
mod discovery_conf;

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::identity::{Identity, IdentityError};

pub use config_json::{ConfigJson, ConfigJsonError};
pub use connection::{Connection, NotOverTcp, Secret};
pub use discovery_conf::{DiscoveryConf, LineError, LineProblem};

/// Where the files are.
pub const DIRECTORY: &str = "/etc/nvme";

/// The most bytes of a file that are read; what belongs there is far shorter.
const MOST: u64 = 1 << 20;

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigFileError {
    /// It is there and cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It is longer than any such file.
    #[error("{} has more than {MOST} bytes", path.display())]
    TooLong {
        /// Which file.
        path: PathBuf,
    },
    /// It is no configuration.
    #[error("{}: {source}", path.display())]
    Json {
        /// Which file.
        path: PathBuf,
        /// What is wrong, and where.
        source: ConfigJsonError,
    },
}

impl DiscoveryConf {
    /// Reads `discovery.conf` in this directory, usually [`DIRECTORY`]; `None` if there is none.
    ///
    /// # Errors
    ///
    /// If it cannot be read. What is wrong with single lines is in [`DiscoveryConf::errors`].
    pub fn read(directory: &Path) -> Result<Option<Self>, ConfigFileError> {
        let file = text_of(directory.join("discovery.conf"))?;
        Ok(file.map(|(_, text)| Self::parse(&text)))
    }
}

impl ConfigJson {
    /// Reads `config.json` in this directory, usually [`DIRECTORY`]; `None` if there is none.
    ///
    /// # Errors
    ///
    /// If it cannot be read, or is no configuration.
    pub fn read(directory: &Path) -> Result<Option<Self>, ConfigFileError> {
        let Some((path, text)) = text_of(directory.join("config.json"))? else { return Ok(None) };
        match Self::parse(&text) {
            Ok(config) => Ok(Some(config)),
            Err(source) => Err(ConfigFileError::Json { path, source }),
        }
    }
}

/// A file's text, with its path; `None` where there is no file.
fn text_of(path: PathBuf) -> Result<Option<(PathBuf, String)>, ConfigFileError> {
    let mut text = String::new();
    let read =
        std::fs::File::open(&path).and_then(|file| file.take(MOST + 1).read_to_string(&mut text));
    match read {
        Ok(length) if u64::try_from(length).is_ok_and(|length| length > MOST) => {
            Err(ConfigFileError::TooLong { path })
        }
        Ok(_) => Ok(Some((path, text))),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ConfigFileError::Read { path, source }),
    }
}

impl Connection {
    /// As whom to connect, if the file says anything of it: its host NQN and identifier, and what
    /// is left out of these from `this`, the identity of this machine.
    ///
    /// # Errors
    ///
    /// What `this` fails with; it is only asked where it is needed.
    pub fn identity(
        &self,
        this: impl FnOnce() -> Result<Identity, IdentityError>,
    ) -> Result<Option<Identity>, IdentityError> {
        if self.hostnqn.is_none() && self.hostid.is_none() {
            return Ok(None);
        }
        Identity::of(self.hostnqn.clone(), self.hostid, this).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let folder =
                std::env::temp_dir().join(format!("nvmf-files-{}-{name}", std::process::id()));
            fs::create_dir_all(&folder).unwrap();
            Self(folder)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn files_that_are_not_there_are_no_error_and_those_that_cannot_be_read_are() {
        let folder = Folder::new("none");
        assert!(DiscoveryConf::read(&folder.0).unwrap().is_none());
        assert!(ConfigJson::read(&folder.0).unwrap().is_none());
        fs::create_dir(folder.0.join("discovery.conf")).unwrap();
        let error = DiscoveryConf::read(&folder.0).unwrap_err().to_string();
        assert!(error.contains("discovery.conf"), "{error}");
    }

    #[test]
    fn a_file_that_is_too_long_is_read_no_further() {
        let folder = Folder::new("long");
        let path = folder.0.join("config.json");
        fs::File::create(&path).unwrap().set_len(1 << 40).unwrap();
        let error = ConfigJson::read(&folder.0).unwrap_err();
        assert!(matches!(error, ConfigFileError::TooLong { .. }), "{error}");
    }

    #[test]
    fn both_files_are_read_from_the_directory() {
        let folder = Folder::new("both");
        fs::write(folder.0.join("discovery.conf"), "-t tcp -a 192.0.2.7\n").unwrap();
        fs::write(folder.0.join("config.json"), "[{\"hostnqn\": 5}]").unwrap();
        let conf = DiscoveryConf::read(&folder.0).unwrap().unwrap();
        assert_eq!(conf.connections.len(), 1);
        let error = ConfigJson::read(&folder.0).unwrap_err().to_string();
        assert!(error.contains("config.json: ") && error.contains("hostnqn"), "{error}");
    }
}

//! Who this host is: its NQN and its host identifier (Base 2.1, sections 4.7 and 5.1.25.1.28).
//!
//! A host should be the same host on every connection: targets grant access by the NQN and keep
//! reservations by the identifier. The places looked at are those of nvme-cli, so that a program
//! of this library and the kernel of the same machine are one host to a target:
//!
//! | what | first | then |
//! |---|---|---|
//! | NQN | `/etc/nvme/hostnqn` | `nqn.2014-08.org.nvmexpress:uuid:` and the machine's UUID |
//! | identifier | `/etc/nvme/hostid` | the UUID in the NQN, or one derived from its text |
//!
//! The machine's UUID is `/sys/class/dmi/id/product_uuid` (which only root may read), else one
//! derived from `/etc/machine-id`, else, in a container that has neither, the boot's
//! (`/proc/sys/kernel/random/boot_id`), which lasts until the next one.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use nvme_spec::host_id::HostIdError;
use nvme_spec::nqn::NqnError;
use nvme_spec::{HostId, Nqn};
use uuid::Uuid;

/// The names under which a host connects.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Identity {
    /// The host's NQN.
    pub host: Nqn,
    /// The host's identifier.
    pub host_id: HostId,
}

/// Why this machine's identity cannot be told.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// A file is there and cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The host NQN on file is none.
    #[error("{}: {reason}", path.display())]
    Nqn {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        reason: NqnError,
    },
    /// The host identifier on file is none.
    #[error("{}: {reason}", path.display())]
    HostId {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        reason: HostIdError,
    },
    /// The host identifier on file is all zero, which names no host.
    #[error("{}: the host identifier is all zero", path.display())]
    Zero {
        /// Which file.
        path: PathBuf,
    },
    /// None of the places has anything.
    #[error("this machine has no UUID and no /etc/nvme/hostnqn")]
    Nothing,
}

impl Identity {
    /// This machine's identity; see the [module](self).
    ///
    /// # Errors
    ///
    /// A file of `/etc/nvme` that is there but unreadable or malformed is an error and not passed
    /// over: the host would quietly become another one.
    pub fn from_system() -> Result<Self, IdentityError> {
        Self::below(Path::new("/"))
    }

    /// The identity of a host called `host`: its identifier is [`host_id_of`] that name.
    pub fn named(host: Nqn) -> Self {
        let host_id = host_id_of(&host);
        Self { host, host_id }
    }

    /// The identity of which this much is given; the rest is [`host_id_of`] the name, or `this`
    /// identity's.
    ///
    /// # Errors
    ///
    /// What `this` fails with; it is only asked where there is no name.
    pub fn of(
        host: Option<Nqn>,
        host_id: Option<HostId>,
        this: impl FnOnce() -> Result<Self, IdentityError>,
    ) -> Result<Self, IdentityError> {
        let identity = match host {
            Some(host) => Self::named(host),
            None => this()?,
        };
        Ok(Self { host_id: host_id.unwrap_or(identity.host_id), ..identity })
    }

    /// The identity of the machine whose file system starts at `root`.
    fn below(root: &Path) -> Result<Self, IdentityError> {
        let host = match line_of(root.join("etc/nvme/hostnqn"))? {
            Some((path, text)) => {
                Nqn::parse_strict(&text).map_err(|reason| IdentityError::Nqn { path, reason })?
            }
            None => Nqn::from_uuid(&machine_uuid(root).ok_or(IdentityError::Nothing)?),
        };
        let host_id = match line_of(root.join("etc/nvme/hostid"))? {
            Some((path, text)) => match text.parse::<HostId>() {
                Ok(id) if id.is_zero() => return Err(IdentityError::Zero { path }),
                Ok(id) => id,
                Err(reason) => return Err(IdentityError::HostId { path, reason }),
            },
            None => host_id_of(&host),
        };
        Ok(Self { host, host_id })
    }
}

/// The identifier of a host of which only the NQN is known: the UUID in it, or a UUID derived from
/// its text (version 5), the same every time.
pub fn host_id_of(host: &Nqn) -> HostId {
    match host.uuid() {
        Some(uuid) if uuid != [0; 16] => HostId(uuid),
        _ => HostId(Uuid::new_v5(&NAMESPACE, host.as_bytes()).into_bytes()),
    }
}

/// The name space of the UUIDs derived here: that of the URI below among the URIs.
static NAMESPACE: std::sync::LazyLock<Uuid> =
    std::sync::LazyLock::new(|| Uuid::new_v5(&Uuid::NAMESPACE_URL, b"urn:nvmf:host-identity"));

/// The UUID of the machine, in the order in which it is written.
fn machine_uuid(root: &Path) -> Option<[u8; 16]> {
    let text = |path: &str| line_of(root.join(path)).ok().flatten().map(|(_, text)| text);
    let uuid = |path: &str| {
        let uuid = Uuid::try_parse(&text(path)?).ok()?;
        // What boards have whose maker did not care.
        (!uuid.is_nil() && !uuid.is_max()).then_some(uuid)
    };
    uuid("sys/class/dmi/id/product_uuid")
        // The machine id itself is meant to be kept to the machine.
        .or_else(|| uuid("etc/machine-id").map(|id| Uuid::new_v5(&NAMESPACE, id.as_bytes())))
        .or_else(|| uuid("proc/sys/kernel/random/boot_id"))
        .map(Uuid::into_bytes)
}

/// The most bytes of a file that are looked at; what belongs there is far shorter.
const MOST: u64 = 4096;

/// The first line of a file, with its path; `None` where there is no file, or nothing in it.
fn line_of(path: PathBuf) -> Result<Option<(PathBuf, String)>, IdentityError> {
    let mut text = String::new();
    let read =
        std::fs::File::open(&path).and_then(|file| file.take(MOST).read_to_string(&mut text));
    match read {
        Ok(_) => {
            let line = text.lines().next().unwrap_or_default().trim();
            Ok((!line.is_empty()).then(|| (path, line.to_owned())))
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(IdentityError::Read { path, source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const UUID: &str = "00112233-4455-6677-8899-aabbccddeeff";

    /// A root directory with these files, removed when the test is over.
    struct Root(PathBuf);

    impl Root {
        fn new(name: &str, files: &[(&str, &str)]) -> Self {
            let root =
                std::env::temp_dir().join(format!("nvmf-identity-{}-{name}", std::process::id()));
            for (path, text) in files {
                let path = root.join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            Self(root)
        }

        fn identity(&self) -> Result<Identity, IdentityError> {
            Identity::below(&self.0)
        }
    }

    impl Drop for Root {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn the_files_of_etc_nvme_come_first() {
        let root = Root::new(
            "etc",
            &[
                ("etc/nvme/hostnqn", "nqn.2024-01.example.host:me\n"),
                ("etc/nvme/hostid", &format!("{UUID}\n")),
                ("sys/class/dmi/id/product_uuid", "11111111-1111-1111-1111-111111111111\n"),
            ],
        );
        let identity = root.identity().unwrap();
        assert_eq!(identity.host.as_str(), "nqn.2024-01.example.host:me");
        assert_eq!(identity.host_id.to_string(), UUID);
    }

    #[test]
    fn without_files_host_nqn_and_identifier_are_the_machines_uuid() {
        let root = Root::new("dmi", &[("sys/class/dmi/id/product_uuid", &UUID.to_uppercase())]);
        let identity = root.identity().unwrap();
        assert_eq!(identity.host.as_str(), format!("nqn.2014-08.org.nvmexpress:uuid:{UUID}"));
        assert_eq!(identity.host_id.to_string(), UUID);
    }

    #[test]
    fn a_machine_id_gives_a_uuid_that_is_stable_and_not_itself() {
        let id = UUID.replace('-', "");
        let root = Root::new(
            "machine-id",
            &[
                ("etc/machine-id", &id),
                ("sys/class/dmi/id/product_uuid", "00000000-0000-0000-0000-000000000000"),
                ("etc/nvme/hostnqn", "\n"),
            ],
        );
        let identity = root.identity().unwrap();
        assert_eq!(identity, root.identity().unwrap());
        assert!(!identity.host.as_str().contains(UUID));
        assert_eq!(identity.host.uuid(), Some(identity.host_id.0));
    }

    #[test]
    fn an_nqn_without_a_uuid_gives_the_same_identifier_every_time() {
        let named = |text| Identity::named(Nqn::lenient(text).unwrap());
        let a = named("nqn.2024-01.example:a");
        assert_eq!(a, named("nqn.2024-01.example:a"));
        assert_ne!(a.host_id, named("nqn.2024-01.example:b").host_id);
        assert!(!a.host_id.is_zero());
    }

    #[test]
    fn what_is_not_given_is_derived_or_this_machines() {
        let this = || Ok(Identity::named(Nqn::lenient("nqn.2024-01.example:this").unwrap()));
        let given = Nqn::lenient("nqn.2024-01.example:given").unwrap();
        let of = |host: Option<&Nqn>, id| Identity::of(host.cloned(), id, this).unwrap();
        assert_eq!(of(Some(&given), None), Identity::named(given.clone()));
        let id = HostId([7; 16]);
        assert_eq!(of(Some(&given), Some(id)), Identity { host: given, host_id: id });
        assert_eq!(of(None, None), this().unwrap());
        assert_eq!(of(None, Some(id)), Identity { host_id: id, ..this().unwrap() });
        assert!(Identity::of(None, Some(id), || Err(IdentityError::Nothing)).is_err());
    }

    #[test]
    fn malformed_files_are_errors_that_name_the_file() {
        let root = Root::new("bad-nqn", &[("etc/nvme/hostnqn", "my-host")]);
        let error = root.identity().unwrap_err().to_string();
        assert!(error.contains("etc/nvme/hostnqn") && error.contains("nqn."), "{error}");

        let nqn = ("etc/nvme/hostnqn", "nqn.2024-01.example:a");
        let root = Root::new("bad-id", &[nqn, ("etc/nvme/hostid", "12")]);
        assert!(matches!(root.identity(), Err(IdentityError::HostId { .. })));
        let zero = "00000000-0000-0000-0000-000000000000";
        let root = Root::new("zero-id", &[nqn, ("etc/nvme/hostid", zero)]);
        assert!(matches!(root.identity(), Err(IdentityError::Zero { .. })));
        let root = Root::new("directory", &[("etc/nvme/hostnqn/x", "")]);
        assert!(matches!(root.identity(), Err(IdentityError::Read { .. })));
        let root = Root::new("nothing", &[("etc/x", "")]);
        assert!(matches!(root.identity(), Err(IdentityError::Nothing)));
    }
}

//! What the kernel says of its controllers, subsystems and namespaces.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::names::DeviceName;
use super::topology::{Address, Controller, Namespace, NamespacePath, Subsystem};

/// The file system that the kernel describes itself in, and the devices beside it.
#[derive(Clone, Debug)]
pub struct Sysfs {
    root: PathBuf,
}

/// Why the kernel's description cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SysfsError {
    /// A file or directory is there and cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// There is no such controller.
    #[error("there is no controller {0}; `nvmf list --verbose` shows those that there are")]
    NoController(String),
}

/// The most that is read of an attribute: a page, as sysfs gives no more.
const MOST: u64 = 4096;
/// Bytes of what sysfs calls a sector, whatever the disk's blocks are.
const SECTOR: u64 = 512;

impl Sysfs {
    /// This machine's.
    pub fn system() -> Self {
        Self::at("/")
    }

    /// That of the machine whose file system starts at `root`.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Every NVMe subsystem that the kernel is connected to or has in a slot, with its controllers and
    /// namespaces, in the order of their numbers. None where the kernel has no NVMe at all.
    ///
    /// What comes or goes meanwhile is there or not.
    ///
    /// # Errors
    ///
    /// [`SysfsError::Read`] for what is there and cannot be read.
    pub fn subsystems(&self) -> Result<Vec<Subsystem>, SysfsError> {
        let class = self.root.join("sys/class/nvme-subsystem");
        let mut found = Vec::new();
        for name in entries(&class)? {
            if let Some(number) =
                name.strip_prefix("nvme-subsys").and_then(|n| n.parse::<u32>().ok())
            {
                found.push((number, self.subsystem(&class.join(&name), name)?));
            }
        }
        found.sort_by_key(|(number, _)| *number);
        Ok(found.into_iter().map(|(_, subsystem)| subsystem).collect())
    }

    /// Every controller, in the order of their numbers, those whose subsystem is not known yet
    /// among them.
    ///
    /// # Errors
    ///
    /// [`SysfsError::Read`] for what is there and cannot be read.
    pub fn controllers(&self) -> Result<Vec<Controller>, SysfsError> {
        let mut found = self.controllers_in(&self.root.join("sys/class/nvme"))?;
        found.sort_by_key(|controller| controller.instance);
        Ok(found)
    }

    /// One controller, by its name.
    ///
    /// # Errors
    ///
    /// [`SysfsError::NoController`] if there is none, or [`SysfsError::Read`].
    pub fn controller(&self, name: &str) -> Result<Controller, SysfsError> {
        let known = self.controller_directory(name).filter(|directory| directory.exists());
        let directory = known.ok_or_else(|| SysfsError::NoController(name.to_owned()))?;
        match DeviceName::parse(name) {
            Some(DeviceName::Controller(instance)) => self.read_controller(&directory, instance),
            _ => Err(SysfsError::NoController(name.to_owned())),
        }
    }

    /// The namespaces that a controller has, each with the path by this controller only.
    ///
    /// # Errors
    ///
    /// [`SysfsError::NoController`] if there is none, or [`SysfsError::Read`].
    pub fn namespaces_of(&self, controller: &str) -> Result<Vec<Namespace>, SysfsError> {
        let directory = self
            .controller_directory(controller)
            .filter(|directory| directory.exists())
            .ok_or_else(|| SysfsError::NoController(controller.to_owned()))?;
        let mut found = Vec::new();
        self.add_namespaces_of(&directory, controller, &mut found)?;
        // The disks of paths hang below the subsystem.
        for namespace in &mut found {
            if let Some(disk) = self.disk_of_subsystem(&directory, &namespace.name)? {
                self.describe(namespace, &disk)?;
            }
        }
        sort(&mut found);
        Ok(found)
    }

    /// A controller's directory, of which it is not said that it is there; `None` for what is no name
    /// of one, which might be a way to somewhere else.
    pub(super) fn controller_directory(&self, name: &str) -> Option<PathBuf> {
        let DeviceName::Controller(_) = DeviceName::parse(name)? else { return None };
        Some(self.root.join("sys/class/nvme").join(name))
    }

    /// The device of a disk.
    pub(super) fn device_of(&self, name: &str) -> PathBuf {
        self.root.join("dev").join(name)
    }

    fn subsystem(&self, directory: &Path, name: String) -> Result<Subsystem, SysfsError> {
        let mut controllers = self.controllers_in(directory)?;
        controllers.sort_by_key(|controller| controller.instance);
        let mut namespaces = Vec::new();
        for disk in entries(directory)? {
            if let Some(DeviceName::Namespace(..)) = DeviceName::parse(&disk) {
                let path = directory.join(&disk);
                let mut namespace = Namespace::named(disk);
                self.describe(&mut namespace, &path)?;
                namespaces.push(namespace);
            }
        }
        for controller in &controllers {
            self.add_namespaces_of(
                &directory.join(&controller.name),
                &controller.name,
                &mut namespaces,
            )?;
        }
        sort(&mut namespaces);
        Ok(Subsystem {
            name,
            nqn: attribute(directory, "subsysnqn")?.unwrap_or_default(),
            kind: attribute(directory, "subsystype")?,
            io_policy: attribute(directory, "iopolicy")?,
            model: attribute(directory, "model")?,
            serial: attribute(directory, "serial")?,
            controllers,
            namespaces,
        })
    }

    /// The controllers below a directory, without order.
    fn controllers_in(&self, directory: &Path) -> Result<Vec<Controller>, SysfsError> {
        let mut found = Vec::new();
        for name in entries(directory)? {
            if let Some(DeviceName::Controller(instance)) = DeviceName::parse(&name) {
                found.push(self.read_controller(&directory.join(&name), instance)?);
            }
        }
        Ok(found)
    }

    fn read_controller(&self, directory: &Path, instance: u32) -> Result<Controller, SysfsError> {
        let text = |name| attribute(directory, name);
        let address = text("address")?.unwrap_or_default();
        Ok(Controller {
            name: format!("nvme{instance}"),
            instance,
            transport: text("transport")?.unwrap_or_default(),
            address: Address(address),
            subsystem: text("subsysnqn")?.unwrap_or_default(),
            state: text("state")?.unwrap_or_default(),
            kind: text("cntrltype")?,
            cntlid: number(text("cntlid")?),
            host: text("hostnqn")?,
            host_id: text("hostid")?,
            queue_count: number(text("queue_count")?),
            // 0's based, as the specification has it.
            queue_size: number::<u32>(text("sqsize")?).map(|size| size.saturating_add(1)),
            keep_alive: number(text("kato")?),
            ctrl_loss_tmo: text("ctrl_loss_tmo")?,
            reconnect_delay: text("reconnect_delay")?,
            fast_io_fail_tmo: text("fast_io_fail_tmo")?,
            model: text("model")?,
            serial: text("serial")?,
            firmware: text("firmware_rev")?,
        })
    }

    /// Adds to `namespaces` what is below a controller: with multipath its paths to them, without it
    /// the disks themselves.
    fn add_namespaces_of(
        &self,
        directory: &Path,
        controller: &str,
        namespaces: &mut Vec<Namespace>,
    ) -> Result<(), SysfsError> {
        for name in entries(directory)? {
            let disk = match DeviceName::parse(&name) {
                Some(DeviceName::Namespace(..)) => name.clone(),
                Some(DeviceName::Path(subsystem, _, head)) => format!("nvme{subsystem}n{head}"),
                _ => continue,
            };
            let below = directory.join(&name);
            let path = NamespacePath {
                controller: controller.to_owned(),
                ana_state: attribute(&below, "ana_state")?,
                ana_group: number(attribute(&below, "ana_grpid")?),
                name,
            };
            let at = match namespaces.iter().position(|namespace| namespace.name == disk) {
                Some(at) => at,
                None => {
                    // Without multipath it is the disk; with it one that has no way that can be used,
                    // for which the kernel makes no disk. Its path says the same of it.
                    let mut namespace = Namespace::named(disk);
                    self.describe(&mut namespace, &below)?;
                    namespaces.push(namespace);
                    namespaces.len() - 1
                }
            };
            namespaces[at].paths.push(path);
        }
        Ok(())
    }

    /// Where the disk of this name is below the subsystem of a controller, if it is.
    fn disk_of_subsystem(
        &self,
        controller: &Path,
        disk: &str,
    ) -> Result<Option<PathBuf>, SysfsError> {
        let Some(nqn) = attribute(controller, "subsysnqn")? else { return Ok(None) };
        let class = self.root.join("sys/class/nvme-subsystem");
        for name in entries(&class)? {
            let path = class.join(name);
            if path.join(disk).exists() && attribute(&path, "subsysnqn")?.as_ref() == Some(&nqn) {
                return Ok(Some(path.join(disk)));
            }
        }
        Ok(None)
    }

    /// Fills in what the directory of a disk or of a path says.
    fn describe(&self, namespace: &mut Namespace, directory: &Path) -> Result<(), SysfsError> {
        let text = |name| attribute(directory, name);
        namespace.nsid = number(text("nsid")?);
        namespace.bytes = number::<u64>(text("size")?).unwrap_or(0).saturating_mul(SECTOR);
        namespace.block_size = number(text("queue/logical_block_size")?).unwrap_or(0);
        namespace.read_only = text("ro")?.is_some_and(|ro| ro != "0");
        namespace.uuid = text("uuid")?;
        namespace.nguid = text("nguid")?;
        namespace.wwid = text("wwid")?;
        namespace.has_device = self.device_of(&namespace.name).exists();
        Ok(())
    }
}

fn sort(namespaces: &mut [Namespace]) {
    namespaces.sort_by_key(|namespace| DeviceName::parse(&namespace.name));
    for namespace in namespaces {
        namespace.paths.sort_by_key(|path| DeviceName::parse(&path.name));
    }
}

fn number<T: std::str::FromStr>(text: Option<String>) -> Option<T> {
    text?.parse().ok()
}

/// The text of an attribute, without what surrounds it; `None` where there is none, or where what it is
/// of has just gone.
pub(super) fn attribute(directory: &Path, name: &str) -> Result<Option<String>, SysfsError> {
    let path = directory.join(name);
    let mut bytes = Vec::new();
    match fs::File::open(&path).and_then(|file| file.take(MOST).read_to_end(&mut bytes)) {
        Ok(_) => Ok(Some(String::from_utf8_lossy(&bytes).trim().to_owned())),
        Err(error) if is_gone(&error) => Ok(None),
        Err(source) => Err(SysfsError::Read { path, source }),
    }
}

/// The names in a directory; none where it is not there.
fn entries(directory: &Path) -> Result<Vec<String>, SysfsError> {
    let failed = |source| SysfsError::Read { path: directory.to_owned(), source };
    let listing = match fs::read_dir(directory) {
        Ok(listing) => listing,
        Err(error) if is_gone(&error) => return Ok(Vec::new()),
        Err(source) => return Err(failed(source)),
    };
    let mut names = Vec::new();
    for entry in listing {
        // The kernel's names are text.
        if let Ok(name) = entry.map_err(failed)?.file_name().into_string() {
            names.push(name);
        }
    }
    Ok(names)
}

/// Whether an error says that there is no such thing, or not any more.
pub(super) fn is_gone(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::NOENT | Errno::NODEV | Errno::NXIO | Errno::NOTDIR)
    )
}

#[cfg(test)]
mod tests {
    use super::super::testing::{HOST, Machine, NQN};
    use super::*;

    /// Two paths to namespace 1, one of which cannot be used for namespace 2, which has no disk.
    fn machine() -> Machine {
        let machine = Machine::new();
        machine.subsystem(0, NQN);
        machine.controller(2, 0, "192.0.2.7");
        machine.controller(10, 0, "2001:db8::7");
        machine.head(0, 1, 1);
        machine.path(0, 2, 1, 1, "optimized");
        machine.path(0, 10, 1, 1, "non-optimized");
        machine.path(0, 2, 2, 5, "inaccessible");
        machine
    }

    #[test]
    fn a_subsystem_has_its_controllers_its_disks_and_the_paths_to_them() {
        let machine = machine();
        let found = Sysfs::at(machine.root()).subsystems().unwrap();
        let [subsystem] = &found[..] else { panic!("{found:?}") };
        assert_eq!((subsystem.name.as_str(), subsystem.nqn.as_str()), ("nvme-subsys0", NQN));
        assert_eq!(subsystem.io_policy.as_deref(), Some("numa"));
        let names: Vec<_> = subsystem.controllers.iter().map(|c| c.name.as_str()).collect();
        assert_eq!(names, ["nvme2", "nvme10"]);
        let [usable, other] = &subsystem.namespaces[..] else { panic!("{subsystem:?}") };
        assert_eq!(
            (usable.name.as_str(), usable.nsid, usable.bytes),
            ("nvme0n1", Some(1), 1 << 20)
        );
        assert_eq!((usable.block_size, usable.read_only, usable.has_device), (4096, false, true));
        let paths: Vec<_> = usable
            .paths
            .iter()
            .map(|path| (path.name.as_str(), path.controller.as_str(), path.ana_state.as_deref()))
            .collect();
        assert_eq!(
            paths,
            [
                ("nvme0c2n1", "nvme2", Some("optimized")),
                ("nvme0c10n1", "nvme10", Some("non-optimized"))
            ]
        );
        assert_eq!(
            (other.name.as_str(), other.nsid, other.has_device),
            ("nvme0n2", Some(5), false)
        );
        assert_eq!(other.paths[0].ana_state.as_deref(), Some("inaccessible"));
    }

    #[test]
    fn a_controller_is_as_its_attributes_say() {
        let machine = machine();
        let sysfs = Sysfs::at(machine.root());
        let controller = sysfs.controller("nvme10").unwrap();
        assert_eq!((controller.transport.as_str(), controller.state.as_str()), ("tcp", "live"));
        assert_eq!((controller.cntlid, controller.queue_count), (Some(7), Some(3)));
        assert_eq!(controller.queue_size, Some(128));
        assert_eq!(controller.address.field("traddr"), Some("2001:db8::7"));
        assert_eq!(controller.host.as_deref(), Some(HOST));
        // What this kernel does not tell.
        assert_eq!((controller.keep_alive, controller.ctrl_loss_tmo.as_deref()), (None, None));
        let all = sysfs.controllers().unwrap();
        assert_eq!(all.iter().map(|c| c.instance).collect::<Vec<_>>(), [2, 10]);
    }

    #[test]
    fn the_namespaces_of_one_controller_have_the_path_by_it() {
        let machine = machine();
        let found = Sysfs::at(machine.root()).namespaces_of("nvme10").unwrap();
        let [namespace] = &found[..] else { panic!("{found:?}") };
        assert_eq!((namespace.name.as_str(), namespace.has_device), ("nvme0n1", true));
        assert_eq!(namespace.paths.len(), 1);
    }

    #[test]
    fn without_multipath_the_disks_are_the_controllers() {
        let machine = Machine::new();
        machine.subsystem(0, NQN);
        machine.controller(0, 0, "192.0.2.7");
        machine.disk(&format!("{}/nvme0n1", Machine::controller_directory(0)), 1);
        machine.file("dev/nvme0n1", "");
        let found = Sysfs::at(machine.root()).subsystems().unwrap();
        let [namespace] = &found[0].namespaces[..] else { panic!("{found:?}") };
        assert_eq!((namespace.name.as_str(), namespace.nsid), ("nvme0n1", Some(1)));
        assert!(namespace.has_device);
        assert_eq!(
            (namespace.paths[0].name.as_str(), namespace.paths[0].ana_state.as_ref()),
            ("nvme0n1", None)
        );
    }

    #[test]
    fn a_kernel_without_nvme_has_no_subsystems() {
        let sysfs = Sysfs::at(Machine::new().root());
        assert!(sysfs.subsystems().unwrap().is_empty() && sysfs.controllers().unwrap().is_empty());
    }

    #[test]
    fn names_that_are_no_controllers_lead_nowhere() {
        let machine = machine();
        let sysfs = Sysfs::at(machine.root());
        for name in ["nvme3", "nvme0n1", "../nvme2", "", "nvme2/", "nvme0c2n1"] {
            let error = sysfs.controller(name).unwrap_err();
            assert!(matches!(error, SysfsError::NoController(_)), "{name}: {error}");
            assert!(sysfs.namespaces_of(name).is_err(), "{name}");
        }
    }

    #[test]
    fn attributes_that_make_no_sense_are_as_if_not_there() {
        let machine = machine();
        let directory = Machine::controller_directory(2);
        for (name, text) in [("cntlid", "99999"), ("sqsize", "4294967295"), ("queue_count", "-1")] {
            machine.file(&format!("{directory}/{name}"), text);
        }
        machine.file(
            &format!("{}/nvme0n1/size", Machine::subsystem_directory(0)),
            "18446744073709551615",
        );
        let sysfs = Sysfs::at(machine.root());
        let controller = sysfs.controller("nvme2").unwrap();
        assert_eq!((controller.cntlid, controller.queue_count), (None, None));
        assert_eq!(controller.queue_size, Some(u32::MAX));
        assert_eq!(sysfs.subsystems().unwrap()[0].namespaces[0].bytes, u64::MAX);
    }

    #[test]
    fn what_cannot_be_read_is_an_error_with_its_path() {
        let machine = machine();
        let state = machine.root().join(Machine::controller_directory(2)).join("state");
        fs::remove_file(&state).unwrap();
        fs::create_dir(&state).unwrap();
        let error = Sysfs::at(machine.root()).controllers().unwrap_err().to_string();
        assert!(error.contains("nvme2/state"), "{error}");
    }
}

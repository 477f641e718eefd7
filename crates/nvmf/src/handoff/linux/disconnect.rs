//! Having the kernel let go of controllers.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use super::names::DeviceName;
use super::sysfs::{Sysfs, SysfsError, is_gone};
use super::topology::Controller;
use crate::Deadline;

/// Which controllers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Which<'a> {
    /// All that are reached over a fabric.
    All,
    /// This one, by the kernel's name: `nvme0`, or the path of its device.
    Device(&'a str),
    /// All of this subsystem, by its NQN.
    Subsystem(&'a str),
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Disconnected {
    /// Controllers that are gone.
    pub gone: Vec<Controller>,
    /// Why others are still there.
    pub failed: Vec<DisconnectError>,
}

/// Why a controller is not let go of.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DisconnectError {
    /// What there is cannot be told, or there is no such controller.
    #[error(transparent)]
    Sysfs(#[from] SysfsError),
    /// A disk was named.
    #[error(
        "{0} is a disk, which may have several controllers; disconnect those, or its subsystem by -n"
    )]
    Disk(String),
    /// The controller is in a slot of this machine.
    #[error("{device} is no controller of a fabric (its transport is {transport})")]
    NotFabrics {
        /// The controller.
        device: String,
        /// Its transport.
        transport: String,
    },
    /// Only root may let go of controllers.
    #[error("{0} may not be disconnected: it needs root; try sudo")]
    Permission(String),
    /// The kernel does not do it.
    #[error("cannot disconnect {device}: {source}")]
    Delete {
        /// The controller.
        device: String,
        /// What it says.
        source: io::Error,
    },
    /// The kernel is not done.
    #[error("{device} is still there after {waited:?}; the kernel goes on taking it away")]
    StillThere {
        /// The controller.
        device: String,
        /// How long it was waited for.
        waited: Duration,
    },
}

impl Sysfs {
    /// Has the kernel shut controllers down and forget them, and waits until they are gone. Their
    /// disks go with the last of their paths.
    ///
    /// # Errors
    ///
    /// [`DisconnectError`] if none can be told to go; what happens to each is in the answer.
    pub fn disconnect(
        &self,
        which: Which<'_>,
        deadline: Deadline,
    ) -> Result<Disconnected, DisconnectError> {
        let patience = deadline.remaining().unwrap_or_default();
        let chosen = self.chosen(which)?;
        // The kernel answers when it is done, and with a target that is silent that takes long. So
        // they are told all at once, and the kernel is not waited for beyond the deadline.
        let mut told = Vec::new();
        for controller in chosen {
            let directory = self.controller_directory(&controller.name);
            let teller = directory.and_then(|directory| {
                thread::Builder::new()
                    .name("nvmf-disconnect".to_owned())
                    .spawn(move || delete(&directory))
                    .ok()
            });
            told.push((controller, teller));
        }
        let mut outcome = Disconnected::default();
        for (controller, teller) in told {
            let device = controller.name.clone();
            let gone = || self.controller_directory(&device).is_none_or(|path| !present(&path));
            let done = wait_until(deadline, || teller.as_ref().is_none_or(|t| t.is_finished()));
            let answer = match teller {
                Some(teller) if done => teller.join().unwrap_or_else(|_| Err(died())),
                Some(_) => Ok(()),
                None => Err(died()),
            };
            match answer {
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    outcome.failed.push(DisconnectError::Permission(device));
                }
                Err(source) => outcome.failed.push(DisconnectError::Delete { device, source }),
                Ok(()) if wait_until(deadline, gone) => outcome.gone.push(controller),
                Ok(()) => {
                    outcome.failed.push(DisconnectError::StillThere { device, waited: patience });
                }
            }
        }
        Ok(outcome)
    }

    fn chosen(&self, which: Which<'_>) -> Result<Vec<Controller>, DisconnectError> {
        let fabrics =
            || self.controllers().map(|all| all.into_iter().filter(Controller::is_fabrics));
        match which {
            Which::All => Ok(fabrics()?.collect()),
            Which::Subsystem(nqn) => Ok(fabrics()?.filter(|c| c.subsystem == nqn).collect()),
            Which::Device(device) => {
                let name = device.strip_prefix("/dev/").unwrap_or(device);
                if let Some(DeviceName::Namespace(..) | DeviceName::Path(..)) =
                    DeviceName::parse(name)
                {
                    return Err(DisconnectError::Disk(name.to_owned()));
                }
                let controller = self.controller(name)?;
                if !controller.is_fabrics() {
                    let (device, transport) = (controller.name, controller.transport);
                    return Err(DisconnectError::NotFabrics { device, transport });
                }
                Ok(vec![controller])
            }
        }
    }
}

fn died() -> io::Error {
    io::Error::other("there is no thread for it")
}

/// Tells the kernel. Somebody else may have told it just before.
fn delete(directory: &Path) -> io::Result<()> {
    let attribute: PathBuf = directory.join("delete_controller");
    let told =
        OpenOptions::new().write(true).open(attribute).and_then(|mut file| file.write_all(b"1"));
    match told {
        Err(error) if is_gone(&error) => Ok(()),
        told => told,
    }
}

fn present(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

/// Looks again and again; whether it was so before the deadline.
fn wait_until(deadline: Deadline, mut holds: impl FnMut() -> bool) -> bool {
    const PAUSE: Duration = Duration::from_millis(10);
    while !holds() {
        match deadline.remaining() {
            Some(left) => thread::sleep(left.min(PAUSE)),
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::testing::{Machine, NQN};
    use super::*;

    const OTHER: &str = "nqn.2026-01.org.example:other";

    /// Two controllers of one subsystem and one of another.
    fn machine() -> Machine {
        let machine = Machine::new();
        machine.subsystem(0, NQN);
        machine.subsystem(1, OTHER);
        machine.controller(0, 0, "192.0.2.7");
        machine.controller(1, 0, "192.0.2.8");
        machine.controller(2, 1, "192.0.2.7");
        machine
    }

    /// A kernel that takes controllers away when it is told to, for as long as the test runs.
    fn with_kernel<T>(machine: &Machine, controllers: &[u32], body: impl FnOnce() -> T) -> T {
        let over = std::sync::atomic::AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(std::sync::atomic::Ordering::Relaxed) {
                    for number in controllers {
                        let directory = machine.root().join(Machine::controller_directory(*number));
                        if fs::read_to_string(directory.join("delete_controller"))
                            .is_ok_and(|t| t == "1")
                        {
                            fs::remove_file(
                                machine.root().join(format!("sys/class/nvme/nvme{number}")),
                            )
                            .unwrap();
                            fs::remove_dir_all(directory).unwrap();
                        }
                    }
                    thread::sleep(Duration::from_millis(1));
                }
            });
            let result = body();
            over.store(true, std::sync::atomic::Ordering::Relaxed);
            result
        })
    }

    fn disconnect(
        machine: &Machine,
        which: Which<'_>,
        limit: Duration,
    ) -> (Vec<String>, Vec<String>) {
        let outcome = Sysfs::at(machine.root()).disconnect(which, Deadline::after(limit)).unwrap();
        (
            outcome.gone.into_iter().map(|controller| controller.name).collect(),
            outcome.failed.iter().map(ToString::to_string).collect(),
        )
    }

    const LONG: Duration = Duration::from_secs(10);

    #[test]
    fn controllers_go_by_device_by_subsystem_and_all_together() {
        let machine = machine();
        with_kernel(&machine, &[0, 1, 2], || {
            let none = Vec::<String>::new();
            let gone =
                |names: &[&str]| (names.iter().map(|n| (*n).to_owned()).collect(), none.clone());
            assert_eq!(disconnect(&machine, Which::Device("/dev/nvme1"), LONG), gone(&["nvme1"]));
            assert_eq!(disconnect(&machine, Which::Subsystem(NQN), LONG), gone(&["nvme0"]));
            assert_eq!(disconnect(&machine, Which::Subsystem(NQN), LONG), gone(&[]));
            assert_eq!(disconnect(&machine, Which::All, LONG), gone(&["nvme2"]));
        });
    }

    #[test]
    fn one_that_stays_is_said_to_and_the_others_go() {
        let machine = machine();
        let (gone, failed) = with_kernel(&machine, &[0, 2], || {
            disconnect(&machine, Which::All, Duration::from_millis(300))
        });
        assert_eq!(gone, ["nvme0", "nvme2"]);
        assert!(failed.len() == 1 && failed[0].contains("nvme1 is still there"), "{failed:?}");
    }

    #[test]
    fn a_kernel_that_does_not_do_it_is_quoted() {
        let machine = machine();
        let attribute =
            machine.root().join(Machine::controller_directory(2)).join("delete_controller");
        fs::remove_file(&attribute).unwrap();
        fs::create_dir(&attribute).unwrap();
        let (gone, failed) = disconnect(&machine, Which::Device("nvme2"), LONG);
        assert!(gone.is_empty() && failed[0].contains("cannot disconnect nvme2: "), "{failed:?}");
    }

    #[test]
    fn what_is_no_controller_of_a_fabric_is_refused() {
        let machine = machine();
        let refused = |which| {
            let sysfs = Sysfs::at(machine.root());
            sysfs.disconnect(which, Deadline::after(LONG)).unwrap_err().to_string()
        };
        assert!(refused(Which::Device("nvme9")).contains("no controller nvme9"));
        assert!(refused(Which::Device("../x")).contains("no controller ../x"));
        assert!(refused(Which::Device("/dev/nvme0n1")).contains("nvme0n1 is a disk"));
        machine.files(&Machine::controller_directory(2), &[("transport", "pcie")]);
        assert!(refused(Which::Device("nvme2")).contains("transport is pcie"));
        // Of all, those in slots are none.
        let chosen = Sysfs::at(machine.root()).chosen(Which::All).unwrap();
        assert_eq!(chosen.iter().map(|c| c.instance).collect::<Vec<_>>(), [0, 1]);
    }
}

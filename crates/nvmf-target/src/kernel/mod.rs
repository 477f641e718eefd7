//! The Linux kernel's own target (nvmet), by the same configuration as this one.
//!
//! A [`Config`] says what a target is; [`Wanted`] is what of it nvmet can be, and refuses the rest.
//! [`KernelTarget::plan`] compares that with what the kernel has and gives the [`Step`]s from one to
//! the other, which [`KernelTarget::apply`] takes: all of them, or, where the kernel refuses one, none.
//! [`KernelTarget::save`] is the way back.
//!
//! ```no_run
//! use std::path::Path;
//!
//! use nvmf_target::kernel::{KernelTarget, Wanted};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let wanted = Wanted::read(Path::new("target.toml"))?;
//! let kernel = KernelTarget::open(Path::new(KernelTarget::ROOT))?;
//! let plan = kernel.plan(&wanted)?;
//! for step in plan.steps() {
//!     println!("{step}");
//! }
//! kernel.apply(&plan)?; // as root
//! assert!(kernel.plan(&wanted)?.steps().is_empty());
//! # Ok(())
//! # }
//! ```
//!
//! # What is the same as in `nvmf serve`
//!
//! Whatever hosts know a disk by: the subsystem's serial and model number, the namespaces' UUIDs and
//! NGUIDs, the sizes of blocks. So a host finds its disks again when one of the two takes the place of
//! the other. Not the firmware revision, unless it is in the file: each says who it is.
//!
//! # What is not
//!
//! - The configuration is the whole truth: what the kernel has and it does not say is taken away, be
//!   it of another transport. But of what it says nothing, keys for authentication, vendor identifiers,
//!   `resv_enable`, is left as it is on items that stay.
//! - A host that is connected and may no more stays until it disconnects: nvmet looks at its list when
//!   a host connects. [`Plan::notes`] says so.
//! - Nothing of it outlasts a restart of the machine.
//!
//! How nvmet is set up is in Linux's `drivers/nvme/target/configfs.c`; there is no other specification
//! of it.

mod attribute;
mod blocks;
mod configfs;
mod error;
mod plan;
mod save;
mod state;
mod step;
mod wanted;

use std::collections::BTreeSet;
use std::path::{Path, absolute};

pub use error::{KernelError, Undone};
pub use step::{Step, Value};
pub use wanted::Wanted;

use crate::config::Config;
use crate::config::nvmetcli::Warning;
use attribute as a;
use configfs::{Configfs, Mounted};
use state::State;

/// The kernel's target, which is set up below a directory of configfs.
#[derive(Debug)]
pub struct KernelTarget {
    fs: Box<dyn Configfs>,
}

/// What has to be done, see [`KernelTarget::plan`].
#[derive(Debug, Clone)]
pub struct Plan {
    before: State,
    steps: Vec<Step>,
    notes: Vec<String>,
}

impl Plan {
    /// The steps in their order; none where everything is as it shall be.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// What is otherwise than it may seem, each in one line.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }
}

impl KernelTarget {
    /// Where nvmet is set up.
    pub const ROOT: &str = "/sys/kernel/config/nvmet";

    /// The target that is set up below this directory.
    ///
    /// # Errors
    ///
    /// [`KernelError::Absent`] if there is no such directory: nvmet is not loaded, or configfs not
    /// mounted. [`KernelError::Read`] if that cannot be looked at.
    pub fn open(root: &Path) -> Result<Self, KernelError> {
        let unreadable = |source| KernelError::Read { path: root.display().to_string(), source };
        let root = absolute(root).map_err(unreadable)?;
        if !root.join("subsystems").try_exists().map_err(unreadable)? {
            let configfs = root.parent().is_some_and(is_configfs);
            return Err(KernelError::Absent { root, configfs });
        }
        Ok(Self { fs: Box::new(Mounted::new(root)) })
    }

    /// What has to be done so that the kernel's target is what is wanted, and nothing else. Nothing is
    /// changed.
    ///
    /// A file or device that the kernel does not serve yet is opened for writing for a moment: what is
    /// mounted, or served by `nvmf serve`, must not be given to a second writer.
    ///
    /// # Errors
    ///
    /// [`KernelError::Read`] if what there is cannot be read, [`KernelError::InUse`] if the storage of
    /// a namespace is somebody else's, [`KernelError::Lacking`] if the kernel is too old.
    pub fn plan(&self, wanted: &Wanted) -> Result<Plan, KernelError> {
        let before = State::read(&*self.fs)?;
        let steps = plan::plan(&before, &wanted.state)?;
        let served = served(&before);
        for storage in &wanted.namespaces {
            if !served.contains(storage.path.as_str()) {
                try_to_write(storage)?;
            }
        }
        let notes = notes(&before, &wanted.state);
        Ok(Plan { before, steps, notes })
    }

    /// What has to be done so that nothing is left: no port, no subsystem, no host.
    ///
    /// # Errors
    ///
    /// [`KernelError::Read`] if what there is cannot be read.
    pub fn plan_clear(&self) -> Result<Plan, KernelError> {
        let before = State::read(&*self.fs)?;
        let steps = plan::plan(&before, &State::empty())?;
        Ok(Plan { before, steps, notes: Vec::new() })
    }

    /// Takes the steps of a plan.
    ///
    /// # Errors
    ///
    /// [`KernelError::Step`] if the kernel refuses one. Then those before it are undone, as far as the
    /// kernel lets them, and [`Undone`] says how far that is; hosts that were connected may have lost
    /// their connections.
    pub fn apply(&self, plan: &Plan) -> Result<(), KernelError> {
        for (taken, step) in plan.steps.iter().enumerate() {
            if let Err(source) = step.take(&*self.fs) {
                let undone = match taken {
                    0 => Undone::Nothing,
                    _ => self.undo(&plan.before),
                };
                return Err(KernelError::Step { step: Box::new(step.clone()), source, undone });
            }
        }
        Ok(())
    }

    /// Goes back to what there was, whatever there is now. What the kernel refuses is left out.
    fn undo(&self, before: &State) -> Undone {
        let back = State::read(&*self.fs).and_then(|now| Ok(plan::plan(&now, before)?));
        let steps = match back {
            Ok(steps) => steps,
            Err(error) => return Undone::Unknown(Box::new(error)),
        };
        let refused: Vec<_> = steps
            .into_iter()
            .filter_map(|step| step.take(&*self.fs).err().map(|error| (step, error)))
            .collect();
        if refused.is_empty() { Undone::All } else { Undone::But(refused) }
    }

    /// A configuration of what the kernel's target is now, and of what it does not say.
    ///
    /// Where it does not [resolve](Config::resolve), warnings say what is left to do by hand.
    ///
    /// # Errors
    ///
    /// [`KernelError::Read`] if what there is cannot be read, [`KernelError::Save`] if there is no port
    /// of TCP.
    pub fn save(&self) -> Result<(Config, Vec<Warning>), KernelError> {
        Ok(save::save(&State::read(&*self.fs)?)?)
    }
}

impl From<plan::Lacking> for KernelError {
    fn from(plan::Lacking { path, value }: plan::Lacking) -> Self {
        Self::Lacking { path, value }
    }
}

/// Whether configfs is mounted there.
fn is_configfs(path: &Path) -> bool {
    /// `CONFIGFS_MAGIC` of linux/magic.h.
    const MAGIC: u64 = 0x6265_6570;
    rustix::fs::statfs(path).is_ok_and(|fs| u64::try_from(fs.f_type).is_ok_and(|t| t == MAGIC))
}

/// The paths of what the kernel serves.
fn served(state: &State) -> BTreeSet<&str> {
    let namespaces = state.subsystems.values().flat_map(|subsystem| subsystem.namespaces.values());
    namespaces.filter(|ns| ns.is_on(a::ENABLE)).filter_map(|ns| ns.get(a::DEVICE_PATH)).collect()
}

/// Opens it as who writes it does: with its lock, and not if it is mounted.
fn try_to_write(storage: &wanted::Storage) -> Result<(), KernelError> {
    let nqn = || Box::new(storage.nqn.clone());
    let opened = storage.spec.open();
    opened.map(drop).map_err(|source| KernelError::InUse { nqn: nqn(), nsid: storage.nsid, source })
}

fn notes(before: &State, wanted: &State) -> Vec<String> {
    let mut notes = Vec::new();
    for (nqn, subsystem) in &wanted.subsystems {
        let Some(before) = before.subsystems.get(nqn) else { continue };
        let any = |of: &state::Subsystem| of.attributes.is_on(a::ALLOW_ANY_HOST);
        let out = any(before)
            || before.allowed_hosts.keys().any(|h| !subsystem.allowed_hosts.contains_key(h));
        if out && !any(subsystem) {
            notes.push(format!(
                "subsystem {nqn}: hosts that are connected and may no more stay until they disconnect"
            ));
        }
    }
    for host in wanted.hosts.keys() {
        let key =
            |host: &a::Attributes| host.iter().any(|(name, v)| a::is_secret(name) && !v.is_empty());
        if before.hosts.get(host).is_some_and(key) {
            notes.push(format!("host {host}: it has a key, which it goes on having to prove"));
        }
    }
    notes
}

#[cfg(test)]
mod tests;

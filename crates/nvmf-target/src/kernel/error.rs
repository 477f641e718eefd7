//! Why the kernel's target cannot be set up, or looked at.

use std::fmt;
use std::io;
use std::path::PathBuf;

use nvme_spec::Nqn;
use nvmf_storage::OpenError;
use rustix::io::Errno;

use super::step::Step;
use crate::config::nvmetcli::ImportError;

/// Why the kernel's target is not what it shall be, or nobody knows what it is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KernelError {
    /// Nvmet's directory is not there.
    #[error("there is no {}: {}", root.display(), why_absent(*configfs, root))]
    Absent {
        /// The directory.
        root: PathBuf,
        /// Whether configfs is mounted above it.
        configfs: bool,
    },
    /// What is there cannot be read.
    #[error("cannot read {path}: {source}{}", hint(None, source))]
    Read {
        /// What cannot be read, below nvmet's directory.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The storage of a namespace is somebody else's.
    #[error("namespace {nsid} of {nqn}: {source}")]
    InUse {
        /// The subsystem.
        nqn: Box<Nqn>,
        /// The namespace.
        nsid: u32,
        /// Why it cannot be written.
        source: OpenError,
    },
    /// This kernel's nvmet does not have what is asked for.
    #[error(
        "nothing was changed: this kernel has no {path}, which would have to be {value}; {}",
        without(path)
    )]
    Lacking {
        /// The file that is not there.
        path: String,
        /// What would be written to it.
        value: String,
    },
    /// The kernel refused a step.
    #[error("cannot {step}: {source}{}; {undone}", hint(Some(&**step), source))]
    Step {
        /// The step.
        step: Box<Step>,
        /// What the kernel said.
        source: io::Error,
        /// What became of the steps before.
        undone: Undone,
    },
    /// There is nothing that a configuration could say.
    #[error("there is no configuration of it: {0}")]
    Save(#[from] ImportError),
}

/// What became of what had been done when a step failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum Undone {
    /// Nothing had been done.
    Nothing,
    /// Everything is as it was before.
    All,
    /// It was tried, and this was refused.
    But(Vec<(Step, io::Error)>),
    /// What there is now cannot be read, so that nothing was tried.
    Unknown(Box<KernelError>),
}

impl fmt::Display for Undone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("nothing was changed"),
            Self::All => f.write_str("what had been done was undone"),
            Self::But(refused) => {
                f.write_str("what had been done was undone, except:")?;
                for (i, (step, error)) in refused.iter().enumerate() {
                    let separator = if i == 0 { "" } else { ";" };
                    write!(f, "{separator} cannot {step}: {error}")?;
                }
                Ok(())
            }
            Self::Unknown(error) => write!(f, "what had been done was not undone: {error}"),
        }
    }
}

fn why_absent(configfs: bool, root: &std::path::Path) -> String {
    let parent = root.parent().unwrap_or(root).display();
    match configfs {
        true => {
            "the kernel's target is not loaded; try `modprobe -a nvmet nvmet-tcp`, as root".into()
        }
        false => format!(
            "configfs is not mounted; try `mount -t configfs none {parent}` and `modprobe -a nvmet \
             nvmet-tcp`, as root"
        ),
    }
}

fn without(path: &str) -> &'static str {
    use super::attribute as a;
    match path.rsplit('/').next() {
        Some(a::FIRMWARE) => "leave out `firmware`",
        Some(a::QID_MAX) => "leave out `max-io-queues`",
        Some(a::CNTLID_MIN | a::CNTLID_MAX) => "leave out `cntlid-min` and `cntlid-max`",
        Some(a::MODEL) => "write model = \"Linux\", which it has anyway",
        Some(a::DISCOVERY_NQN) => "leave out `nqn` of [discovery]",
        _ => "a newer one may have it",
    }
}

/// What may help, where what the kernel says does not explain itself.
fn hint(step: Option<&Step>, error: &io::Error) -> &'static str {
    let Some(errno) = Errno::from_io_error(error) else { return "" };
    let path = step.map_or("", Step::path);
    match (step, errno) {
        // Of a port it may also mean that it was opened meanwhile.
        (_, Errno::ACCESS | Errno::PERM) => " (it takes root)",
        (Some(Step::Link { .. }), Errno::ADDRINUSE) => {
            " (another program listens there: `nvmf serve`, perhaps)"
        }
        (Some(Step::Link { .. }), Errno::ADDRNOTAVAIL) => " (it is no address of this machine)",
        (Some(Step::Link { .. }), Errno::INVAL) if path.starts_with("ports/") => {
            " (the kernel may lack nvmet-tcp; try `modprobe nvmet-tcp`)"
        }
        (Some(Step::Write { .. }), Errno::NOENT) if path.ends_with("/enable") => {
            " (the file or device is gone)"
        }
        (Some(Step::Write { .. }), Errno::NOENT) => " (this kernel has no such file)",
        (Some(Step::Write { .. }), Errno::MSGSIZE) => " (it is longer than the kernel takes)",
        (Some(Step::Write { .. } | Step::Link { .. }), Errno::INVAL) => {
            " (`dmesg` may have the kernel's reason)"
        }
        (Some(Step::Rmdir { .. }), Errno::BUSY | Errno::NOTEMPTY) => {
            " (something else was linked to it or put into it meanwhile)"
        }
        (Some(Step::Mkdir { .. } | Step::Link { .. }), Errno::EXIST) => {
            " (something else was made there meanwhile)"
        }
        _ => "",
    }
}

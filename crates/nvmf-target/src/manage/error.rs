//! Why a target cannot be made what its configuration says.

use nvme_spec::Nqn;
use nvmf_storage::OpenError;

use super::state::StateError;
use crate::config::ConfigError;
use crate::{ChangeError, SubsystemError, TargetError};

/// Why a target is not, or does not become, what is asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManageError {
    /// What is asked for is not right.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// What is to be changed is not there.
    #[error("{0}")]
    Missing(String),
    /// What is asked for clashes with what is there.
    #[error("{0}")]
    Clash(String),
    /// A target that runs cannot become this.
    #[error("{0} cannot change while the target runs; start it again for that")]
    Restart(&'static str),
    /// The storage of a namespace cannot be had.
    #[error("namespace {nsid} of {nqn}: {source}")]
    Open {
        /// The subsystem.
        nqn: Box<Nqn>,
        /// The namespace.
        nsid: u32,
        /// Why.
        source: OpenError,
    },
    /// Namespaces do not go together.
    #[error("{nqn}: {source}")]
    Subsystem {
        /// The subsystem.
        nqn: Box<Nqn>,
        /// Why.
        source: SubsystemError,
    },
    /// The target cannot be made, or not listen somewhere.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The running target does not take a change.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// What is to be there after a crash cannot be written down.
    #[error(transparent)]
    State(#[from] StateError),
    /// Some of it was done, and what is missing is not in the running configuration either.
    #[error("{what} is not there now, everything else is as asked for: {source}")]
    Partly {
        /// What is missing.
        what: String,
        /// Why.
        source: Box<ManageError>,
    },
}

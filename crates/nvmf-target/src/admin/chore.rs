//! What an admin command has done that may take long: it waits for storage.

use std::sync::Arc;

use nvme_spec::Status;

use crate::association::Association;
use crate::subsystem::{Namespace, Subsystem};

/// What is to be done, by a thread that may wait, before a command is answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Chore {
    /// Make durable all that was written.
    Flush,
    /// Set the Persist Through Power Loss state of these namespaces (feature 83h).
    PersistReservations {
        /// The namespaces.
        nsids: Vec<u32>,
        /// Whether reservations are to outlast a restart.
        on: bool,
    },
    /// Protect these namespaces against writes, or no more (feature 84h).
    Protect {
        /// The namespaces.
        nsids: Vec<u32>,
        /// Whether they are to be protected.
        on: bool,
    },
}

impl Chore {
    /// Does it; the error is the answer to the command.
    pub(crate) fn run(&self, association: &Association) -> Result<(), Status> {
        let subsystem = association.subsystem();
        match self {
            Self::Flush => subsystem.flush(),
            Self::PersistReservations { nsids, on } => {
                namespaces(subsystem, nsids).try_for_each(|ns| {
                    // No host is told, and no command aborted.
                    ns.reservations().set_persistence(*on).map(drop)
                })
            }
            Self::Protect { nsids, on } => {
                let protected =
                    namespaces(subsystem, nsids).try_for_each(|ns| ns.protect_by_host(*on));
                subsystem.refresh();
                protected?;
                // What was written before is not to be lost after.
                if *on { subsystem.flush() } else { Ok(()) }
            }
        }
    }
}

/// Those that there are of these; one that has gone meanwhile has nothing to be changed.
fn namespaces(subsystem: &Subsystem, nsids: &[u32]) -> impl Iterator<Item = Arc<Namespace>> {
    nsids.iter().filter_map(|nsid| subsystem.namespace(*nsid))
}

//! What an admin command has done that may take long: it waits for storage.

use nvme_spec::Status;

use crate::association::Association;

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
}

impl Chore {
    /// Does it; the error is the answer to the command.
    pub(crate) fn run(&self, association: &Association) -> Result<(), Status> {
        let subsystem = association.subsystem();
        match self {
            Self::Flush => subsystem.flush(),
            Self::PersistReservations { nsids, on } => {
                // One that has gone meanwhile has nothing that could last.
                nsids.iter().filter_map(|nsid| subsystem.namespace(*nsid)).try_for_each(|ns| {
                    // No host is told, and no command aborted.
                    ns.reservations().set_persistence(*on).map(drop)
                })
            }
        }
    }
}

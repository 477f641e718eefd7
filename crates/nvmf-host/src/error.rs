//! What can go wrong.

use std::io;

use nvmf::proto::violation::Violation;
use nvmf::spec::Status;
use nvmf::transport::TransportError;
use nvmf_engine::Unavailable;

/// A run failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Something failed on a queue. A command that was not answered in its time is
    /// [`TransportError::TimedOut`].
    #[error("{}: {source}", queue(*qid))]
    Queue {
        /// The queue's identifier; 0 is the admin queue.
        qid: u16,
        /// What failed.
        source: nvmf::Error,
    },
    /// The engine that was asked for does not work here.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// The event loop failed.
    #[error("the event loop failed: {0}")]
    Engine(#[from] io::Error),
}

impl Error {
    /// Whether a connection ended, failed or fell silent: what a new connection may help with.
    pub fn is_connection(&self) -> bool {
        use TransportError::{Closed, Io, Terminated, TimedOut};
        matches!(
            self,
            Self::Queue {
                source: nvmf::Error::Transport(Closed | Io(_) | Terminated(_) | TimedOut),
                ..
            }
        )
    }
}

fn queue(qid: u16) -> String {
    if qid == 0 { "admin queue".to_owned() } else { format!("I/O queue {qid}") }
}

/// A command did not succeed.
#[derive(Clone, Copy, PartialEq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// The controller says so.
    #[error("{0}")]
    Status(Status),
    /// Its data came damaged: a data digest was wrong.
    #[error("the data came damaged: {0}")]
    Damaged(Violation),
    /// The run failed before the answer came; whether the controller has executed the command is
    /// not known.
    #[error("the connection failed before the answer came")]
    Lost,
}

//! What can go wrong for a host.

use std::time::Duration;
use std::{fmt, io};

use nvme_spec::Status;
use nvmf_proto::connect::ConnectError;
use nvmf_proto::queue::QueueFull;

use crate::transport::TransportError;

/// A host's error. An NVMe status is kept as it came.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The transport failed; the queue pair is of no more use, but for a wait that timed out.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// A command was not answered before its deadline. It was given up.
    #[error("no answer to {command} within the time given")]
    NoAnswer {
        /// The command's name.
        command: &'static str,
    },
    /// The controller refused the Connect.
    #[error("Connect failed: {0}")]
    Connect(#[from] ConnectError),
    /// A command came back with a failure.
    #[error("{command} failed: {status}")]
    Status {
        /// The command's name.
        command: &'static str,
        /// Its status.
        status: Status,
    },
    /// The queue has no room for another command until one completes.
    #[error(transparent)]
    Full(#[from] QueueFull),
    /// More data than one command can carry.
    #[error("{length} bytes are more than one command can move")]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// The command that was to be waited for is not outstanding.
    #[error("command {0} is not outstanding on this queue")]
    NotOutstanding(u16),
    /// The target's name has no address.
    #[error("cannot find the address of {name}: {source}")]
    Resolve {
        /// The name.
        name: String,
        /// What the resolver says.
        source: io::Error,
    },
    /// The controller says something that cannot be.
    #[error("the target's {what} makes no sense: {reason}")]
    InvalidData {
        /// Which of its data.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The controller has failed (CSTS.CFS); only a reset could help.
    #[error("the controller reports a fatal error (CSTS.CFS)")]
    Fatal,
    /// The controller did not become ready, did not shut down, or was not connected with all that
    /// this takes, in its time.
    #[error("the controller is not {awaited} after {waited:?}")]
    NotReady {
        /// What it was to become.
        awaited: &'static str,
        /// How long it was waited for.
        waited: Duration,
    },
    /// There is no such namespace, or it is not active.
    #[error("the subsystem has no namespace {nsid}")]
    NoNamespace {
        /// Its identifier.
        nsid: u32,
    },
    /// A log page cannot have this length.
    #[error("a log page of {length} bytes cannot be read: 4 to 64 Mi, in fours")]
    LogLength {
        /// Its length in bytes.
        length: u64,
    },
    /// What was asked as a discovery controller is an I/O controller.
    #[error("{subsystem} is no discovery subsystem")]
    NotDiscovery {
        /// The subsystem's NQN.
        subsystem: String,
    },
    /// The target does without digests that are required.
    #[error("the target does without {}", match (header, data) {
        (true, true) => "header and data digests",
        (true, false) => "header digests",
        _ => "data digests",
    })]
    NoDigest {
        /// Those of headers.
        header: bool,
        /// Those of data.
        data: bool,
    },
    /// The discovery log changed each time while it was read.
    #[error("the discovery log changed each of the {attempts} times it was read")]
    DiscoveryUnstable {
        /// How often it was read.
        attempts: u32,
    },
}

impl Error {
    /// The NVMe status, if this is one.
    pub fn status(&self) -> Option<Status> {
        match self {
            Self::Status { status, .. } | Self::Connect(ConnectError::Status(status)) => {
                Some(*status)
            }
            Self::Connect(ConnectError::Invalid(_)) => Some(Status::CONNECT_INVALID_PARAMETERS),
            _ => None,
        }
    }

    /// Whether the controller answered with this status type and code.
    pub fn has_status(&self, status: Status) -> bool {
        self.status().is_some_and(|s| s.same_code(status))
    }

    /// An [`InvalidData`](Self::InvalidData).
    pub(crate) fn invalid(what: &'static str, reason: impl fmt::Display) -> Self {
        Self::InvalidData { what, reason: reason.to_string() }
    }

    /// Whether a wait ended at its deadline.
    pub fn is_timeout(&self) -> bool {
        use TransportError::{NoIcResp, TimedOut};
        matches!(self, Self::NoAnswer { .. } | Self::Transport(TimedOut | NoIcResp))
    }

    /// The same, naming the command if it is one that was not answered.
    pub(crate) fn of(command: &'static str) -> impl Fn(TransportError) -> Self {
        move |error| match error {
            TransportError::TimedOut => Self::NoAnswer { command },
            error => error.into(),
        }
    }
}

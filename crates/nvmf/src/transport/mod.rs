//! What carries capsules between a host and a controller.
//!
//! A transport is one queue pair's connection. Its two traits know commands, responses and data,
//! not how these travel: [`tcp`] makes PDUs of them, [`in_process`] hands them over as they are.

pub mod in_process;
pub mod tcp;

use std::fmt::Debug;
use std::io::{self, IoSlice, IoSliceMut};
use std::time::Duration;

use nvme_spec::{Cqe, Sqe};
use nvmf_proto::digest::SelfTestError;
use nvmf_proto::queue::{ControllerQueue, HostQueue, QueueSize};
pub use nvmf_proto::tcp::{Completion, Established, ReceivedCommand};
use nvmf_proto::tcp::{SubmitError, Terminated, TransferError};
use nvmf_proto::violation::Violation;

use crate::{Data, Deadline, Transfer};

/// A host's end of a queue pair's connection.
pub trait HostTransport: Send + Debug {
    /// Connect succeeded: the queue's size, the SQHD of the response, and whether the Connect had
    /// asked to switch flow control off.
    fn establish(&mut self, size: QueueSize, sqhd: u16, flow_control_off_asked: bool);

    /// The queue's command identifiers and flow control.
    fn queue(&self) -> &HostQueue;

    /// Takes a command with its data; it goes out with the next flush or wait.
    ///
    /// `sqe` gets its identifier and data pointer here.
    fn submit(&mut self, sqe: Sqe, data: Data) -> Result<u16, TransportError>;

    /// Waits for the next completion; gives the command's data back with it.
    fn next_completion(&mut self, deadline: Deadline)
    -> Result<(Completion, Data), TransportError>;

    /// Takes a command whose data is only lent, and waits for its completion.
    ///
    /// Completions of other commands that come meanwhile are left in `others`. On an error the
    /// command is forgotten: what still comes for it is dropped.
    fn execute(
        &mut self,
        sqe: Sqe,
        transfer: Transfer<'_>,
        others: &mut dyn FnMut(Completion, Data),
        deadline: Deadline,
    ) -> Result<Completion, TransportError>;

    /// Sends all that was submitted.
    fn flush(&mut self, deadline: Deadline) -> Result<(), TransportError>;

    /// Takes an idle connection apart, for an event loop to drive it.
    ///
    /// # Errors
    ///
    /// Why it cannot be; the connection is closed then.
    fn into_tcp(self: Box<Self>) -> Result<tcp::HostParts, TakeApartError> {
        Err(TakeApartError::NotTcp)
    }
}

/// A controller's end of a queue pair's connection.
pub trait ControllerTransport: Send + Debug {
    /// The queue's flow control.
    fn queue(&self) -> &ControllerQueue;

    /// Waits for the next command, its flags and data pointer checked; `None` once the host has
    /// closed the connection. Answers given so far are sent before it waits.
    fn receive(&mut self, deadline: Deadline) -> Result<Option<ReceivedCommand>, TransportError>;

    /// Receives the next bytes of a command's data, from its capsule or by asking for them.
    fn receive_data(
        &mut self,
        slot: u16,
        into: &mut [IoSliceMut<'_>],
        deadline: Deadline,
    ) -> Result<(), DataError>;

    /// Sends the next bytes of a command's data; with `finish` they are the last, and the command
    /// is answered with success.
    fn send_data(
        &mut self,
        slot: u16,
        from: &[IoSlice<'_>],
        finish: bool,
        deadline: Deadline,
    ) -> Result<(), DataError>;

    /// Answers a command; the answer goes out with the next flush or wait.
    fn respond(&mut self, slot: u16, cqe: Cqe);

    /// Accepts a Connect command with this answer.
    fn accept(&mut self, slot: u16, cqe: Cqe, established: Established);

    /// Sends all answers.
    fn flush(&mut self, deadline: Deadline) -> Result<(), TransportError>;
}

/// A transport's failure.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    /// The deadline passed. Nothing is lost: the wait may be taken up again.
    #[error("no answer within the time given")]
    TimedOut,
    /// The peer takes connections and does not answer the ICReq in time.
    #[error("no answer to ICReq within the time given")]
    NoIcResp,
    /// The peer closed the connection.
    #[error("the peer closed the connection")]
    Closed,
    /// The operating system reports an error.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The peer broke the protocol; it was told so, and the connection is closed.
    #[error("the peer broke the protocol: {0}")]
    Violation(#[from] Violation),
    /// The peer says that this end broke the protocol, and closed the connection.
    #[error("the peer ended the connection: {0}")]
    Terminated(#[from] Terminated),
    /// A command cannot be submitted.
    #[error(transparent)]
    Submit(#[from] SubmitError),
    /// The peer takes nothing of what is sent to it.
    #[error("the peer took nothing of what was sent to it for {0:?}")]
    Stalled(Duration),
    /// The connection failed before, or a command whose data was lent was given up half-sent.
    #[error("the connection is of no more use after an earlier failure")]
    Broken,
    /// This machine's CRC32C is wrong.
    #[error(transparent)]
    SelfTest(#[from] SelfTestError),
    /// More data than one command can carry.
    #[error("{length} bytes are more than one command can move")]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
}

/// A queue pair cannot be taken apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TakeApartError {
    /// Commands are not answered yet, some of them perhaps given up.
    #[error("{outstanding} commands are outstanding on the queue")]
    Outstanding {
        /// How many.
        outstanding: u32,
    },
    /// Completions were not fetched.
    #[error("{completions} completions of the queue are not fetched")]
    Unfetched {
        /// How many.
        completions: usize,
    },
    /// Bytes of a command that was answered early are still to be sent.
    #[error("not all of a command is sent")]
    Unsent,
    /// The connection failed before.
    #[error("the connection is of no more use after an earlier failure")]
    Broken,
    /// The transport is another one.
    #[error("the queue's transport is not TCP")]
    NotTcp,
}

/// A command's data cannot be moved.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// The transport failed.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The data came damaged: the command has to fail with Transient Transport Error.
    #[error("the command's data came damaged: {0}")]
    Digest(Violation),
    /// The command has no such data.
    #[error(transparent)]
    Range(#[from] TransferError),
}

/// A length on the wire has 32 bits.
pub(crate) fn wire_len(length: usize) -> Result<u32, TransportError> {
    u32::try_from(length).map_err(|_| TransportError::TooLong { length })
}

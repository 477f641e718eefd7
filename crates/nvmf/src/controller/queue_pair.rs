//! A controller's queue pair.

use std::io::{IoSlice, IoSliceMut};

use nvme_spec::{Cqe, Status};
use nvmf_proto::queue::QueueSize;
use nvmf_proto::tcp::TransferError;

use super::command::{Command, Orphans};
use crate::transport::{ControllerTransport, DataError, TransportError};
use crate::{Deadline, wire_log};

/// A controller's queue pair: a connection whose Connect was accepted.
///
/// Answers are gathered: they go out when the queue pair waits for the next command, when they
/// have become many, or by [`flush`](Self::flush). Dropping the queue pair closes the connection.
#[derive(Debug)]
pub struct QueuePair {
    transport: Box<dyn ControllerTransport>,
    qid: u16,
    orphans: Orphans,
}

impl QueuePair {
    pub(super) fn new(transport: Box<dyn ControllerTransport>, qid: u16) -> Self {
        Self { transport, qid, orphans: Orphans::default() }
    }

    /// The queue's identifier; 0 is the admin queue.
    pub fn qid(&self) -> u16 {
        self.qid
    }

    /// The submission queue's size.
    pub fn size(&self) -> QueueSize {
        self.transport.queue().size()
    }

    /// Whether submission queue flow control is on.
    pub fn flow_control(&self) -> bool {
        self.transport.queue().flow_control()
    }

    /// Waits for the next command; `None` once the host has closed the connection.
    ///
    /// [`TransportError::TimedOut`] means that none came: call again.
    pub fn receive(&mut self, deadline: Deadline) -> Result<Option<Command>, TransportError> {
        self.answer_orphans();
        let received = self.transport.receive(deadline)?;
        Ok(received.map(|received| {
            wire_log::command(self.qid, &received.sqe);
            Command::new(received, &self.orphans)
        }))
    }

    /// Receives bytes of a command's data, wherever the host has them: in the capsule, or to be
    /// asked for.
    ///
    /// `offset` is where `into` begins in the data. Ranges may be taken in any split; the
    /// transport moves bytes in order only, so a range further on is received with all before it,
    /// which is kept for a later call. A byte already given out cannot be had again.
    pub fn receive_data(
        &mut self,
        command: &mut Command,
        offset: u32,
        into: &mut [IoSliceMut<'_>],
        deadline: Deadline,
    ) -> Result<(), DataError> {
        let length = into.iter().map(|p| p.len()).sum::<usize>();
        let slot = command.slot();
        if offset == command.received_to && command.spill.is_empty() {
            self.transport.receive_data(slot, into, deadline)?;
            command.received_to += u32::try_from(length).unwrap_or(0);
            return Ok(());
        }
        let kept_from = command.received_to - u32::try_from(command.spill.len()).unwrap_or(0);
        let total = command.data_len();
        let range = || TransferError {
            offset,
            length: u32::try_from(length).unwrap_or(u32::MAX),
            total: total.saturating_sub(offset),
        };
        let end = u32::try_from(length)
            .ok()
            .and_then(|length| offset.checked_add(length))
            .filter(|end| offset >= kept_from && *end <= total)
            .ok_or_else(range)?;
        if end > command.received_to {
            let have = command.spill.len();
            command.spill.resize((end - kept_from) as usize, 0);
            let room = &mut [IoSliceMut::new(&mut command.spill[have..])];
            self.transport.receive_data(slot, room, deadline)?;
            command.received_to = end;
        }
        let mut at = (offset - kept_from) as usize;
        for piece in into {
            let next = at + piece.len();
            piece.copy_from_slice(&command.spill[at..next]);
            at = next;
        }
        Ok(())
    }

    /// Sends the next bytes of a command's data to the host.
    ///
    /// All of the command's data must be sent for it to succeed; the last of it by
    /// [`respond_with_data`](Self::respond_with_data), or a full answer after it by
    /// [`respond`](Self::respond).
    pub fn send_data(
        &mut self,
        command: &mut Command,
        from: &[IoSlice<'_>],
        deadline: Deadline,
    ) -> Result<(), DataError> {
        self.answer_orphans();
        self.transport.send_data(command.slot(), from, false, deadline)
    }

    /// Sends the last bytes of a command's data and answers it with success.
    ///
    /// With submission queue flow control off, that is one PDU and no response capsule. If
    /// `from` is not just what the command has left to get, the command fails with Internal
    /// Error and this returns [`DataError::Range`].
    pub fn respond_with_data(
        &mut self,
        command: Command,
        from: &[IoSlice<'_>],
        deadline: Deadline,
    ) -> Result<(), DataError> {
        self.answer_orphans();
        self.transport.send_data(command.slot(), from, true, deadline)?;
        command.answer();
        Ok(())
    }

    /// Answers a command; identifier and SQHD are filled in.
    pub fn respond(&mut self, command: Command, cqe: Cqe) {
        wire_log::response(self.qid, command.sqe().cid.get(), &cqe);
        self.transport.respond(command.answer(), cqe);
    }

    /// Answers a command with success and no result.
    pub fn succeed(&mut self, command: Command) {
        self.fail(command, Status::SUCCESS);
    }

    /// Answers a command with this status and no result.
    pub fn fail(&mut self, command: Command, status: Status) {
        self.respond(command, Cqe::new(0, status));
    }

    /// Sends all answers.
    pub fn flush(&mut self, deadline: Deadline) -> Result<(), TransportError> {
        self.answer_orphans();
        self.transport.flush(deadline)
    }

    fn answer_orphans(&mut self) {
        for slot in self.orphans.take() {
            self.transport.respond(slot, Cqe::new(0, Status::INTERNAL_ERROR));
        }
    }
}

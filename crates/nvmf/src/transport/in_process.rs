//! A transport inside one process: capsules and their data are handed over as they are.
//!
//! For tests without sockets and for programs that are both ends. It has no PDUs, no digests and
//! no handshake; queues, flow control, Connect and data transfers are as on any other transport.

use std::io::{IoSlice, IoSliceMut};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};

use bytes::{Buf, Bytes};
use nvme_spec::{Cqe, SglDescriptor, Sqe, Status};
use nvmf_proto::capsule::locate_data;
use nvmf_proto::queue::{ControllerQueue, HostQueue, QueueSize};
use nvmf_proto::tcp::{Completion, SubmitError, TransferError};
use nvmf_proto::violation::{Answer, Violation};

use super::{
    ControllerTransport, DataError, Established, HostTransport, ReceivedCommand, TransportError,
    wire_len,
};
use crate::{Data, Deadline, Transfer};

/// The two ends of a new connection.
pub fn pair() -> (HostInProcess, ControllerInProcess) {
    let (to_controller, from_host) = channel();
    let (to_host, from_controller) = channel();
    let host = HostInProcess {
        queue: HostQueue::new(),
        sender: to_controller,
        receiver: from_controller,
        commands: Vec::new(),
    };
    let controller = ControllerInProcess {
        queue: ControllerQueue::new(),
        sender: to_host,
        receiver: from_host,
        commands: Vec::new(),
        free: Vec::new(),
    };
    (host, controller)
}

/// A command and the bytes that the host has for it.
struct Capsule {
    sqe: Sqe,
    data: Vec<Bytes>,
}

/// What a controller says.
enum Message {
    /// The next bytes of a command's data.
    Data { cid: u16, offset: u32, bytes: Bytes },
    /// A command is complete.
    Response(Cqe),
}

/// A host's end.
#[derive(Debug)]
pub struct HostInProcess {
    queue: HostQueue,
    sender: Sender<Capsule>,
    receiver: Receiver<Message>,
    /// Outstanding commands by identifier.
    commands: Vec<Pending>,
}

/// An outstanding command of the host.
#[derive(Debug, Default)]
struct Pending {
    data: Data,
    /// Bytes that it gets, and those that have come.
    expected: u32,
    received: u32,
}

impl HostInProcess {
    /// Sends a command of `length` bytes of data: those in `bytes`, or as many to be received.
    fn send(
        &mut self,
        mut sqe: Sqe,
        bytes: Vec<Bytes>,
        length: u32,
    ) -> Result<u16, TransportError> {
        let cid = self.queue.submit().map_err(SubmitError::from)?;
        sqe.cid.set(cid);
        sqe.flags = sqe.flags & !Sqe::PSDT_MASK | Sqe::PSDT_SGL;
        sqe.sgl = SglDescriptor::transport(length);
        let expected = if bytes.is_empty() { length } else { 0 };
        self.sender.send(Capsule { sqe, data: bytes }).map_err(|_| TransportError::Closed)?;
        let index = usize::from(cid);
        if self.commands.len() <= index {
            self.commands.resize_with(index + 1, Pending::default);
        }
        self.commands[index] = Pending { expected, ..Pending::default() };
        Ok(cid)
    }

    fn take_data(&mut self, cid: u16) -> Data {
        self.commands.get_mut(usize::from(cid)).map(std::mem::take).unwrap_or_default().data
    }

    /// Waits for a completion; `place` puts the data of the command that is being waited for.
    fn next(
        &mut self,
        place: &mut dyn FnMut(u16, usize, &[u8]) -> bool,
        deadline: Deadline,
    ) -> Result<Completion, TransportError> {
        loop {
            match receive(&self.receiver, deadline)?.ok_or(TransportError::Closed)? {
                Message::Data { cid, offset, bytes } => {
                    let at = offset as usize;
                    let Some(command) = self.commands.get_mut(usize::from(cid)) else {
                        continue;
                    };
                    command.received = offset + wire_len(bytes.len())?;
                    if !place(cid, at, &bytes)
                        && let Data::Read(pieces) = &mut command.data
                    {
                        scatter(at, &bytes, pieces.iter_mut().map(|p| &mut **p));
                    }
                }
                Message::Response(cqe) => {
                    let cid = cqe.cid.get();
                    self.queue.take_head(&cqe)?;
                    self.queue.complete(cid);
                    if cqe.status().is_success()
                        && let Some(&Pending { expected, received: moved, .. }) =
                            self.commands.get(usize::from(cid))
                        && moved != expected
                    {
                        return Err(Violation::ShortTransfer { cid, moved, expected }.into());
                    }
                    return Ok(Completion { cid, cqe, violation: None });
                }
            }
        }
    }
}

/// Copies `bytes` into `pieces`, from the byte at `at` on; what does not fit is dropped.
fn scatter<'a>(at: usize, bytes: &[u8], pieces: impl Iterator<Item = &'a mut [u8]>) {
    let (mut skip, mut bytes) = (at, bytes);
    for piece in pieces {
        let from = skip.min(piece.len());
        skip -= from;
        let n = bytes.len().min(piece.len() - from);
        piece[from..from + n].copy_from_slice(&bytes[..n]);
        bytes = &bytes[n..];
    }
}

impl HostTransport for HostInProcess {
    fn establish(&mut self, size: QueueSize, sqhd: u16, _: bool) {
        self.queue.establish(size, sqhd);
    }

    fn queue(&self) -> &HostQueue {
        &self.queue
    }

    fn submit(&mut self, sqe: Sqe, data: Data) -> Result<u16, TransportError> {
        let length = wire_len(data.len())?;
        let bytes = match &data {
            Data::Write(pieces) => pieces.clone(),
            _ => Vec::new(),
        };
        let cid = self.send(sqe, bytes, length)?;
        self.commands[usize::from(cid)].data = data;
        Ok(cid)
    }

    fn next_completion(
        &mut self,
        deadline: Deadline,
    ) -> Result<(Completion, Data), TransportError> {
        let completion = self.next(&mut |_, _, _| false, deadline)?;
        Ok((completion, self.take_data(completion.cid)))
    }

    fn execute(
        &mut self,
        sqe: Sqe,
        transfer: Transfer<'_>,
        others: &mut dyn FnMut(Completion, Data),
        deadline: Deadline,
    ) -> Result<Completion, TransportError> {
        let length = wire_len(transfer.len())?;
        let bytes = match &transfer {
            Transfer::Write(pieces) => pieces.iter().map(|p| Bytes::copy_from_slice(p)).collect(),
            _ => Vec::new(),
        };
        let cid = self.send(sqe, bytes, length)?;
        let mut room = match transfer {
            Transfer::Read(pieces) => Some(pieces),
            _ => None,
        };
        loop {
            let mut place = |of: u16, at: usize, bytes: &[u8]| {
                if of == cid
                    && let Some(pieces) = &mut room
                {
                    scatter(at, bytes, pieces.iter_mut().map(|p| &mut **p));
                }
                of == cid
            };
            let completion = self.next(&mut place, deadline)?;
            if completion.cid == cid {
                return Ok(completion);
            }
            others(completion, self.take_data(completion.cid));
        }
    }

    fn flush(&mut self, _: Deadline) -> Result<(), TransportError> {
        Ok(())
    }
}

/// A controller's end.
#[derive(Debug)]
pub struct ControllerInProcess {
    queue: ControllerQueue,
    sender: Sender<Message>,
    receiver: Receiver<Capsule>,
    /// By slot.
    commands: Vec<Option<Outstanding>>,
    free: Vec<u16>,
}

/// A command that is not answered yet.
#[derive(Debug)]
struct Outstanding {
    cid: u16,
    length: u32,
    data: Vec<Bytes>,
    received: u32,
    sent: u32,
}

impl ControllerInProcess {
    /// Judges a command; one that is wrong in itself is answered here.
    fn admit(&mut self, capsule: Capsule) -> Result<Option<ReceivedCommand>, TransportError> {
        let sqe = capsule.sqe;
        let cid = sqe.cid.get();
        let located = self.queue.receive(cid).and_then(|()| locate_data(&sqe, 0));
        match located {
            Ok(location) => {
                let (data, length) = (capsule.data, location.length());
                let entry = Outstanding { cid, length, data, received: 0, sent: 0 };
                let slot = self.insert(entry)?;
                Ok(Some(ReceivedCommand { slot, sqe, data: location }))
            }
            Err(violation) => {
                let Answer::Fail(status) = violation.answer() else { return Err(violation.into()) };
                let mut cqe = Cqe::new(cid, status);
                let conflict = matches!(violation, Violation::CommandId { .. });
                let sqhd = if conflict {
                    self.queue.complete_conflict()
                } else {
                    self.queue.complete(cid)
                };
                cqe.sqhd.set(sqhd);
                // A host that is gone is noticed by the next receive.
                let _ = self.sender.send(Message::Response(cqe));
                Ok(None)
            }
        }
    }

    fn insert(&mut self, entry: Outstanding) -> Result<u16, TransportError> {
        if let Some(slot) = self.free.pop() {
            self.commands[usize::from(slot)] = Some(entry);
            return Ok(slot);
        }
        let size = self.queue.size().entries();
        let slot =
            u16::try_from(self.commands.len()).map_err(|_| Violation::QueueOverflow { size })?;
        self.commands.push(Some(entry));
        Ok(slot)
    }

    fn outstanding(&mut self, slot: u16) -> Option<&mut Outstanding> {
        self.commands.get_mut(usize::from(slot))?.as_mut()
    }

    /// Answers the command in `slot`; `sqhd` tells the queue and gives the answer's SQHD.
    fn answer(
        &mut self,
        slot: u16,
        mut cqe: Cqe,
        sqhd: impl FnOnce(&mut ControllerQueue, u16) -> u16,
    ) {
        let Some(entry) = self.commands.get_mut(usize::from(slot)).and_then(Option::take) else {
            return;
        };
        self.free.push(slot);
        cqe.cid.set(entry.cid);
        cqe.sqhd.set(sqhd(&mut self.queue, entry.cid));
        // A host that is gone is noticed by the next receive.
        let _ = self.sender.send(Message::Response(cqe));
    }
}

impl ControllerTransport for ControllerInProcess {
    fn queue(&self) -> &ControllerQueue {
        &self.queue
    }

    fn receive(&mut self, deadline: Deadline) -> Result<Option<ReceivedCommand>, TransportError> {
        loop {
            let Some(capsule) = receive(&self.receiver, deadline)? else { return Ok(None) };
            if let Some(command) = self.admit(capsule)? {
                return Ok(Some(command));
            }
        }
    }

    fn receive_data(
        &mut self,
        slot: u16,
        into: &mut [IoSliceMut<'_>],
        _: Deadline,
    ) -> Result<(), DataError> {
        let length = wire_len(into.iter().map(|p| p.len()).sum())?;
        let Some(entry) = self.outstanding(slot) else {
            return Err(TransferError { offset: 0, length, total: 0 }.into());
        };
        let have: usize = entry.data.iter().map(Bytes::len).sum();
        if have < length as usize {
            let total = u32::try_from(have).unwrap_or(u32::MAX);
            return Err(TransferError { offset: entry.received, length, total }.into());
        }
        entry.received += length;
        for piece in into {
            let mut room = &mut piece[..];
            while !room.is_empty()
                && let Some(first) = entry.data.first_mut()
            {
                let n = first.len().min(room.len());
                first.copy_to_slice(&mut room[..n]);
                room = &mut room[n..];
                if first.is_empty() {
                    entry.data.remove(0);
                }
            }
        }
        Ok(())
    }

    fn send_data(
        &mut self,
        slot: u16,
        from: &[IoSlice<'_>],
        finish: bool,
        _: Deadline,
    ) -> Result<(), DataError> {
        let length = wire_len(from.iter().map(|p| p.len()).sum())?;
        let sender = self.sender.clone();
        let Some(entry) = self.outstanding(slot) else {
            return Err(TransferError { offset: 0, length, total: 0 }.into());
        };
        let (offset, left) = (entry.sent, entry.length - entry.sent);
        if length > left || length == 0 || (finish && length != left) {
            return Err(TransferError { offset, length, total: left }.into());
        }
        entry.sent += length;
        let bytes = from.iter().flat_map(|p| p.iter().copied()).collect();
        let data = Message::Data { cid: entry.cid, offset, bytes };
        sender.send(data).map_err(|_| TransportError::Closed)?;
        if finish {
            self.respond(slot, Cqe::new(0, Status::SUCCESS));
        }
        Ok(())
    }

    fn respond(&mut self, slot: u16, cqe: Cqe) {
        self.answer(slot, cqe, ControllerQueue::complete);
    }

    fn accept(&mut self, slot: u16, cqe: Cqe, established: Established) {
        self.queue.establish(established.size, established.flow_control);
        self.answer(slot, cqe, ControllerQueue::complete_connect);
    }

    fn flush(&mut self, _: Deadline) -> Result<(), TransportError> {
        Ok(())
    }
}

/// Waits for a message; `None` once the other end is gone and all it sent is taken.
fn receive<T>(receiver: &Receiver<T>, deadline: Deadline) -> Result<Option<T>, TransportError> {
    let left = deadline.remaining().unwrap_or_default();
    match receiver.recv_timeout(left) {
        Ok(message) => Ok(Some(message)),
        Err(RecvTimeoutError::Disconnected) => Ok(None),
        Err(RecvTimeoutError::Timeout) => Err(TransportError::TimedOut),
    }
}

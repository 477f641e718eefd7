//! A controller's end of a TCP connection.

use std::collections::VecDeque;
use std::io::{IoSlice, IoSliceMut};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use nvme_spec::Cqe;
use nvmf_proto::capsule::DataLocation;
use nvmf_proto::pdu::{Batch, PayloadSource};
use nvmf_proto::queue::ControllerQueue;
use nvmf_proto::tcp::{
    Controller, ControllerConfig, ControllerEvent, Established, Negotiated, Payload,
    ReceivedCommand, TransferError,
};
use nvmf_proto::violation::Violation;

use super::socket::{Received, Socket, Wait};
use crate::Deadline;
use crate::data::{for_each_part, room_at};
use crate::transport::{ControllerTransport, DataError, TakeApartError, TransportError, wire_len};

/// Answers are gathered up to this many bytes before they are sent.
const GATHER: usize = 128 << 10;
/// Data up to this length is copied to be gathered with its neighbours; longer data is sent from
/// where it is.
const COPY: usize = 32 << 10;
/// Answers that are ready wait so long at most for others to be sent with.
const HOLD: Duration = Duration::from_millis(1);
/// A host that takes nothing of what is sent to it is given up after this long.
const STALL: Duration = Duration::from_secs(30);
/// How long a TermReq may take to be sent before the connection is closed anyway.
const GOODBYE: Duration = Duration::from_secs(1);

/// A controller's end of a TCP connection.
#[derive(Debug)]
pub struct ControllerTcp {
    socket: Socket,
    controller: Controller,
    batch: Batch,
    /// PDUs encoded and not yet sent.
    pending: Vec<u8>,
    /// Since when something is pending.
    pending_since: Option<Instant>,
    stall_limit: Duration,
    /// Commands whose in-capsule data has come.
    ready: VecDeque<ReceivedCommand>,
    /// By slot.
    commands: Vec<Progress>,
    ended: bool,
    broken: bool,
}

/// How far a command's data is.
#[derive(Debug, Default)]
struct Progress {
    /// The command itself, held back until its in-capsule data has come.
    held: Option<ReceivedCommand>,
    in_capsule: Vec<u8>,
    /// Bytes that the application has received.
    received: u32,
    /// Bytes that the application has sent.
    sent: u32,
    /// All data that was asked for has come.
    complete: bool,
    violation: Option<Violation>,
}

/// Where data that was asked for is to go.
struct Wanted<'a, 'b> {
    slot: u16,
    /// Offset of the first byte in the command's data.
    base: u32,
    pieces: &'a mut [IoSliceMut<'b>],
}

impl ControllerTcp {
    /// Does the handshake on a socket that was accepted, which this takes over.
    pub fn accept(
        stream: TcpStream,
        config: &ControllerConfig,
        deadline: Deadline,
    ) -> Result<Self, TransportError> {
        super::self_test()?;
        let mut tcp = Self {
            socket: Socket::new(stream)?,
            controller: Controller::new(*config),
            batch: Batch::new(),
            pending: Vec::new(),
            pending_since: None,
            stall_limit: STALL,
            ready: VecDeque::new(),
            commands: Vec::new(),
            ended: false,
            broken: false,
        };
        while tcp.controller.negotiated().is_none() {
            if tcp.ended {
                return Err(TransportError::Closed);
            }
            tcp.turn(None, deadline)?;
        }
        tcp.encode();
        tcp.flush(deadline)?;
        Ok(tcp)
    }

    /// What the handshake agreed on.
    pub fn negotiated(&self) -> Option<&Negotiated> {
        self.controller.negotiated()
    }

    /// The socket: to look at its addresses, or to end a wait from another thread by
    /// `shutdown(Shutdown::Read)` on its clone.
    pub fn stream(&self) -> &TcpStream {
        self.socket.stream()
    }

    /// Sets how long a host may take nothing of what is sent to it: 30 s if this is not called.
    /// The connection fails then with [`TransportError::Stalled`].
    pub fn set_stall_limit(&mut self, limit: Duration) {
        self.stall_limit = limit;
    }

    /// Does what can be done now: receive, send; waits only if that was nothing.
    fn turn(
        &mut self,
        wanted: Option<&mut Wanted<'_, '_>>,
        deadline: Deadline,
    ) -> Result<(), TransportError> {
        if self.broken {
            return Err(TransportError::Broken);
        }
        let result = self.try_turn(wanted, deadline);
        self.judge(result)
    }

    /// Notes a failure from which there is no way back.
    fn judge<T>(&mut self, result: Result<T, TransportError>) -> Result<T, TransportError> {
        match &result {
            Ok(_) | Err(TransportError::TimedOut) => {}
            Err(TransportError::Violation(violation)) => {
                tracing::warn!(%violation, "the host broke the protocol");
                self.encode();
                // The TermReq is a courtesy; the violation is what counts.
                let deadline = Deadline::after(GOODBYE);
                if self.send_pending(deadline).is_ok() {
                    self.socket.linger(deadline);
                }
                self.broken = true;
            }
            Err(_) => self.broken = true,
        }
        result
    }

    fn try_turn(
        &mut self,
        mut wanted: Option<&mut Wanted<'_, '_>>,
        deadline: Deadline,
    ) -> Result<(), TransportError> {
        self.encode();
        let all_sent = self.send_some(&nvmf_proto::pdu::NoPayload)?;
        if self.has_backlog() {
            // Who does not take answers may not go on asking for more.
            return self.socket.wait(Wait::Writable, deadline);
        }
        match self.receive(&mut wanted)? {
            Received::Bytes(_) => Ok(()),
            Received::Nothing => {
                let wait = if all_sent { Wait::Readable } else { Wait::Either };
                self.socket.wait(wait, deadline)
            }
            Received::End => {
                self.ended = true;
                Ok(())
            }
        }
    }

    /// Whether more is pending than a host can leave unread that keeps to its queue: an answer to
    /// each command it can have outstanding, and what is gathered.
    fn has_backlog(&self) -> bool {
        const ANSWER: usize = 28;
        let answers = self.controller.queue().size().entries() as usize * ANSWER;
        self.pending.len() > GATHER + answers
    }

    /// Sends what the socket takes now of what is pending and of the batch; `false` if that is
    /// not all.
    fn send_some(&mut self, source: &dyn PayloadSource) -> Result<bool, TransportError> {
        let all_sent = self.socket.send(&mut self.pending, &mut self.batch, source)?;
        if all_sent {
            self.pending_since = None;
        } else if self.socket.blocked_for() > self.stall_limit {
            return Err(TransportError::Stalled(self.stall_limit));
        }
        Ok(all_sent)
    }

    /// Sends answers that have waited long for their neighbours: commands that came together may
    /// take long to be executed one after the other.
    fn send_what_waited(&mut self) -> Result<(), TransportError> {
        if self.pending_since.is_some_and(|since| since.elapsed() > HOLD) {
            let sent = self.send_some(&nvmf_proto::pdu::NoPayload).map(|_| ());
            return self.judge(sent);
        }
        Ok(())
    }

    /// Handles what the receive buffer holds.
    fn handle_buffered(
        &mut self,
        wanted: &mut Option<&mut Wanted<'_, '_>>,
    ) -> Result<(), TransportError> {
        while !self.socket.buffered().is_empty() {
            if let Some(payload) = self.handle_some()? {
                self.place(payload, wanted)?;
            }
        }
        // With the last byte of its data, a command is complete.
        self.handle_some().map(|_| ())
    }

    /// Receives once and handles all that came.
    fn receive(
        &mut self,
        wanted: &mut Option<&mut Wanted<'_, '_>>,
    ) -> Result<Received, TransportError> {
        let received = match self.handle_some()? {
            Some(payload) => self.place(payload, wanted)?,
            None => self.socket.fill()?,
        };
        self.handle_buffered(wanted)?;
        Ok(received)
    }

    /// Handles events up to the next payload, or to the end of what was received.
    fn handle_some(&mut self) -> Result<Option<Payload>, TransportError> {
        loop {
            let (n, event) = self.controller.handle_bytes(self.socket.buffered())?;
            self.socket.consume(n);
            match event {
                None => return Ok(None),
                Some(ControllerEvent::Payload(payload)) => return Ok(Some(payload)),
                Some(ControllerEvent::Command(command)) => self.take_command(command),
                Some(ControllerEvent::Data { slot, violation }) => {
                    let progress = self.progress(slot);
                    progress.complete = true;
                    progress.violation = violation;
                    let held = progress.held.take();
                    self.ready.extend(held);
                }
                Some(ControllerEvent::Rejected { sqe, violation }) => {
                    tracing::debug!(?sqe, %violation, "command rejected");
                }
                Some(ControllerEvent::Terminated(terminated)) => return Err(terminated.into()),
                Some(_) => {}
            }
        }
    }

    fn take_command(&mut self, command: ReceivedCommand) {
        let progress = self.progress(command.slot);
        *progress = Progress::default();
        match command.data {
            DataLocation::InCapsule { length } => {
                // Bounded by the connection's in-capsule limit, which the core has checked.
                progress.in_capsule = vec![0; length as usize];
                progress.held = Some(command);
            }
            _ => self.ready.push_back(command),
        }
    }

    fn progress(&mut self, slot: u16) -> &mut Progress {
        let index = usize::from(slot);
        if self.commands.len() <= index {
            self.commands.resize_with(index + 1, Progress::default);
        }
        &mut self.commands[index]
    }

    /// Puts payload where it belongs.
    fn place(
        &mut self,
        payload: Payload,
        wanted: &mut Option<&mut Wanted<'_, '_>>,
    ) -> Result<Received, TransportError> {
        let mut dropped = [0; 4096];
        let (offset, length) = (payload.offset as usize, payload.length as usize);
        let commands = &mut self.commands;
        let room = payload.tag.and_then(|slot| match wanted {
            Some(w) if w.slot == slot => {
                let at = offset.checked_sub(w.base as usize)?;
                Some(room_at(w.pieces.iter_mut().map(|p| &mut **p), at))
            }
            _ => commands.get_mut(usize::from(slot))?.in_capsule.get_mut(offset..),
        });
        let room = room.filter(|room| !room.is_empty()).unwrap_or(&mut dropped);
        let room_len = room.len().min(length);
        let room = &mut room[..room_len];
        let received = self.socket.take_into(room)?;
        if let Received::Bytes(n) = received {
            self.controller.handle_payload(&room[..n]);
        }
        Ok(received)
    }

    /// Encodes what is ready; nothing of it has payload but what `send_data` sends itself.
    fn encode(&mut self) {
        self.encode_from(&nvmf_proto::pdu::NoPayload);
        self.gather(&nvmf_proto::pdu::NoPayload);
    }

    fn encode_from(&mut self, source: &dyn PayloadSource) {
        if self.controller.wants_transmit() {
            self.controller.poll_transmit(source, &mut self.batch, usize::MAX);
        }
    }

    /// Copies the batch behind what is pending.
    fn gather(&mut self, source: &dyn PayloadSource) {
        let mut slices = Vec::new();
        if let Err(missing) = self.batch.io_slices(source, &mut slices, usize::MAX) {
            tracing::error!(%missing, "the connection cannot go on");
            self.broken = true;
            return;
        }
        for slice in &slices {
            self.pending.extend_from_slice(slice);
        }
        drop(slices);
        self.batch.advance(usize::MAX);
        if !self.pending.is_empty() {
            self.pending_since.get_or_insert_with(Instant::now);
        }
        self.release();
    }

    fn release(&mut self) {
        for slot in self.batch.take_finished() {
            self.controller.release(slot);
            if let Some(progress) = self.commands.get_mut(usize::from(slot)) {
                progress.in_capsule = Vec::new();
            }
        }
    }

    fn send_pending(&mut self, deadline: Deadline) -> Result<(), TransportError> {
        self.send_with(&nvmf_proto::pdu::NoPayload, deadline)
    }

    /// Sends what is pending and the batch. While the host takes no more, what it sends is taken
    /// in: two ends that both only send would wait for each other forever.
    fn send_with(
        &mut self,
        source: &dyn PayloadSource,
        deadline: Deadline,
    ) -> Result<(), TransportError> {
        while !self.send_some(source)? {
            if !self.ended && self.receive(&mut None)? == Received::End {
                self.ended = true;
            }
            // The end of the stream stays readable forever.
            let wait = if self.ended { Wait::Writable } else { Wait::Either };
            self.socket.wait(wait, deadline)?;
        }
        self.release();
        Ok(())
    }
}

impl ControllerTransport for ControllerTcp {
    fn queue(&self) -> &ControllerQueue {
        self.controller.queue()
    }

    fn receive(&mut self, deadline: Deadline) -> Result<Option<ReceivedCommand>, TransportError> {
        loop {
            if !self.ready.is_empty() {
                self.send_what_waited()?;
            }
            if let Some(command) = self.ready.pop_front() {
                return Ok(Some(command));
            }
            if self.ended {
                self.flush(deadline)?;
                return Ok(None);
            }
            self.turn(None, deadline)?;
            // A host that always has something to say must not hold the caller beyond it.
            if self.ready.is_empty() && deadline.has_passed() {
                return Err(TransportError::TimedOut);
            }
        }
    }

    fn receive_data(
        &mut self,
        slot: u16,
        into: &mut [IoSliceMut<'_>],
        deadline: Deadline,
    ) -> Result<(), DataError> {
        let length = wire_len(into.iter().map(|p| p.len()).sum())?;
        if length == 0 {
            return Ok(());
        }
        let progress = self.progress(slot);
        let base = progress.received;
        if !progress.in_capsule.is_empty() {
            return copy_in_capsule(progress, base, length, into);
        }
        progress.complete = false;
        self.controller.request_data(slot, length)?;
        let mut wanted = Wanted { slot, base, pieces: into };
        while !self.progress(slot).complete {
            if self.ended {
                self.broken = true;
                return Err(TransportError::Closed.into());
            }
            if let Err(error) = self.turn(Some(&mut wanted), deadline) {
                // The data is on its way, and its place is gone.
                self.broken = true;
                return Err(error.into());
            }
        }
        let progress = self.progress(slot);
        progress.received = base + length;
        progress.violation.map_or(Ok(()), |violation| Err(DataError::Digest(violation)))
    }

    fn send_data(
        &mut self,
        slot: u16,
        from: &[IoSlice<'_>],
        finish: bool,
        deadline: Deadline,
    ) -> Result<(), DataError> {
        let length = wire_len(from.iter().map(|p| p.len()).sum())?;
        self.encode();
        self.controller.send_data(slot, length, finish)?;
        let progress = self.progress(slot);
        let base = progress.sent;
        progress.sent += length;
        let source = Source { slot, base, pieces: from };
        self.encode_from(&source);
        if length as usize <= COPY {
            self.gather(&source);
            if self.pending.len() >= GATHER {
                self.flush(deadline)?;
            }
            return Ok(());
        }
        let result = self.send_with(&source, deadline);
        // A PDU is out only in part, and the rest of it is gone with the caller's buffers.
        self.broken |= result.is_err();
        Ok(self.judge(result)?)
    }

    fn respond(&mut self, slot: u16, cqe: Cqe) {
        self.controller.respond(slot, cqe);
        self.encode();
    }

    fn accept(&mut self, slot: u16, cqe: Cqe, established: Established) {
        self.controller.accept(slot, cqe, established);
        self.encode();
    }

    fn flush(&mut self, deadline: Deadline) -> Result<(), TransportError> {
        if self.broken {
            return Err(TransportError::Broken);
        }
        self.encode();
        let result = self.send_pending(deadline);
        self.judge(result)
    }

    fn idle_tcp(&self, unanswered: u32) -> Result<(&TcpStream, &Controller), TakeApartError> {
        if self.broken || self.ended {
            return Err(TakeApartError::Broken);
        }
        let outstanding = u32::try_from(self.controller.queue().outstanding()).unwrap_or(u32::MAX);
        if outstanding != unanswered || !self.ready.is_empty() {
            return Err(TakeApartError::Outstanding { outstanding });
        }
        if !self.pending.is_empty() || !self.batch.is_empty() || self.controller.wants_transmit() {
            return Err(TakeApartError::Unsent);
        }
        self.socket.check_nothing_kept(self.controller.is_between_pdus())?;
        Ok((self.socket.stream(), &self.controller))
    }
}

/// Copies the next bytes of in-capsule data.
fn copy_in_capsule(
    progress: &mut Progress,
    base: u32,
    length: u32,
    into: &mut [IoSliceMut<'_>],
) -> Result<(), DataError> {
    if let Some(violation) = progress.violation {
        return Err(DataError::Digest(violation));
    }
    let have = &progress.in_capsule[base as usize..];
    if have.len() < length as usize {
        let total = u32::try_from(have.len()).unwrap_or(0);
        return Err(TransferError { offset: base, length, total }.into());
    }
    let mut at = 0;
    for piece in into {
        let next = at + piece.len();
        piece.copy_from_slice(&have[at..next]);
        at = next;
    }
    progress.received += length;
    Ok(())
}

/// Data lent for one command, from this offset of its data on.
struct Source<'s> {
    slot: u16,
    base: u32,
    pieces: &'s [IoSlice<'s>],
}

impl PayloadSource for Source<'_> {
    fn for_each<'a>(&'a self, slot: u16, offset: u32, length: u32, each: &mut dyn FnMut(&'a [u8])) {
        if slot == self.slot {
            let offset = offset.saturating_sub(self.base) as usize;
            for_each_part(self.pieces.iter().map(|p| &**p), offset, length as usize, each);
        }
    }
}

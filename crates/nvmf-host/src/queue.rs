//! One I/O queue: a connection, the protocol's state, and the commands outstanding.

use std::time::Instant;

use bytes::{Bytes, BytesMut};
use nvmf::host::TcpQueue;
use nvmf::pdu_trace::{ConnectionTrace, Direction};
use nvmf::proto::pdu::{Batch, PayloadSource, Piece};
use nvmf::proto::tcp::{Completion, Host, HostEvent, Payload, Transfer};
use nvmf::spec::Sqe;
use nvmf::spec::print::{IoCommand, Line};
use nvmf::transport::TransportError;
use nvmf_engine::{ConnId, Engine, Message};

use crate::request::{Buffer, Request, Workload};
use crate::{CommandError, Error};

/// As much is encoded into one gathered send; what is over goes with the next.
const MOST_AT_ONCE: usize = 256 << 10;
/// Bytes of a PDU that ends a command, or of the header of its data.
const RESPONSE: usize = 24;
/// Fewer commands than this are taken in all at once.
const FEW: usize = 8;
/// From this many bytes on, payload is received straight into its place.
const STRAIGHT: usize = 16 << 10;

/// What a queue waits for before the workload is asked again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Asks {
    /// For room alone.
    Now,
    /// For this time.
    NotBefore(Instant),
    /// For a completion on any queue, or a wake-up.
    Later,
    /// For the same, or this time.
    LaterOrAt(Instant),
    /// There is no more.
    Never,
}

#[derive(Debug)]
pub(crate) struct Queue {
    pub(crate) qid: u16,
    pub(crate) conn: ConnId,
    host: Host,
    batch: Batch,
    /// To be filled with what goes out next; none while it is on its way.
    message: Option<Message>,
    commands: Commands,
    /// Commands outstanding, and the bytes of their answers.
    outstanding: usize,
    owed: usize,
    /// How many of them there may be.
    share: usize,
    pub(crate) asks: Asks,
    /// Payload that the engine receives into its place.
    filling: Option<Filling>,
    /// The peer sends nothing more.
    pub(crate) ended: bool,
    /// Disconnect is sent.
    pub(crate) leaving: bool,
    trace: bool,
    /// Is shown every byte, where PDUs are traced.
    pub(crate) pdus: Option<Box<ConnectionTrace>>,
}

/// Outstanding commands by identifier.
#[derive(Debug, Default)]
struct Commands(Vec<Option<Command>>);

#[derive(Debug)]
struct Command {
    buffer: Buffer,
    token: u64,
    /// When it has to be answered, in nanoseconds of the run.
    due: u64,
    /// The bytes of its answer, all PDUs together, more or less.
    answer: usize,
    /// Not the workload's: nobody is told.
    internal: bool,
}

/// A part of a command's buffer that the engine has.
#[derive(Debug)]
struct Filling {
    cid: u16,
    /// What is behind that part.
    tail: BytesMut,
}

impl Commands {
    fn get_mut(&mut self, cid: u16) -> Option<&mut Command> {
        self.0.get_mut(usize::from(cid))?.as_mut()
    }

    fn put(&mut self, cid: u16, command: Command) {
        let index = usize::from(cid);
        if self.0.len() <= index {
            self.0.resize_with(index + 1, || None);
        }
        self.0[index] = Some(command);
    }

    fn take(&mut self, cid: u16) -> Option<Command> {
        self.0.get_mut(usize::from(cid))?.take()
    }

    /// Bytes of a command that writes.
    fn bytes(&self, cid: u16, offset: u32, length: u32) -> Option<(&Bytes, usize, usize)> {
        let Some(Some(Command { buffer: Buffer::Write(bytes), .. })) = self.0.get(usize::from(cid))
        else {
            return None;
        };
        let (from, to) = (offset as usize, offset as usize + length as usize);
        (to <= bytes.len()).then_some((bytes, from, to))
    }
}

impl PayloadSource for Commands {
    fn for_each<'a>(&'a self, cid: u16, offset: u32, length: u32, each: &mut dyn FnMut(&'a [u8])) {
        if let Some((bytes, from, to)) = self.bytes(cid, offset, length) {
            each(&bytes[from..to]);
        }
    }
}

impl Queue {
    /// A queue on an engine, and what was received on it before.
    pub(crate) fn attach<E: Engine>(
        engine: &mut E,
        queue: TcpQueue,
        share: usize,
    ) -> Result<(Self, Vec<u8>), Error> {
        let TcpQueue { qid, stream, host, received, trace: pdus } = queue;
        let conn = engine.attach(stream)?;
        let queue = Self {
            qid,
            conn,
            host,
            batch: Batch::new(),
            message: Some(Message::new()),
            commands: Commands::default(),
            outstanding: 0,
            owed: 0,
            share,
            asks: if share > 0 { Asks::Now } else { Asks::Never },
            filling: None,
            ended: false,
            leaving: false,
            pdus,
            trace: tracing::enabled!(tracing::Level::TRACE),
        };
        Ok((queue, received))
    }

    pub(crate) fn error(&self, source: impl Into<nvmf::Error>) -> Error {
        Error::Queue { qid: self.qid, source: source.into() }
    }

    pub(crate) fn is_idle(&self) -> bool {
        debug_assert!(self.outstanding > 0 || self.owed == 0, "{} bytes owed", self.owed);
        self.outstanding == 0
    }

    /// Whether the workload may be asked for another command.
    pub(crate) fn has_room(&self) -> bool {
        self.outstanding < self.share && self.host.queue().has_room()
    }

    /// Sends a command of the workload's, to be answered by `due`; returns its identifier.
    #[inline]
    pub(crate) fn submit(&mut self, request: Request, due: u64) -> Result<u16, Error> {
        let Request { sqe, buffer, token, .. } = request;
        let data = match &buffer {
            Buffer::Read(room) => room.len(),
            Buffer::Write(_) | Buffer::None => 0,
        };
        self.start(sqe, Command { buffer, token, due, answer: RESPONSE + data, internal: false })
    }

    /// Sends the Disconnect command, of which the workload knows nothing.
    pub(crate) fn leave(&mut self, sqe: Sqe, due: u64) -> Result<(), Error> {
        self.leaving = true;
        let command =
            Command { buffer: Buffer::None, token: 0, due, answer: RESPONSE, internal: true };
        self.start(sqe, command).map(|_| ())
    }

    #[inline]
    fn start(&mut self, sqe: Sqe, command: Command) -> Result<u16, Error> {
        let length = command.buffer.len();
        let length =
            u32::try_from(length).map_err(|_| self.error(TransportError::TooLong { length }))?;
        let transfer = match command.buffer {
            _ if length == 0 => Transfer::None,
            Buffer::None => Transfer::None,
            Buffer::Read(_) => Transfer::ToHost { length },
            Buffer::Write(_) => Transfer::ToController { length },
        };
        // What is encoded now leaves before anything is received: nothing in the batch can be a
        // command that is complete already.
        let cid = match self.message {
            Some(_) => self.host.submit_to(sqe, transfer, &mut self.batch),
            None => self.host.submit(sqe, transfer),
        };
        let cid = cid.map_err(|error| self.error(TransportError::from(error)))?;
        if self.trace {
            let sqe = Sqe { cid: cid.into(), ..sqe };
            tracing::trace!(qid = self.qid, command = %Line(&IoCommand(&sqe)));
        }
        self.owed += command.answer;
        self.commands.put(cid, command);
        self.outstanding += 1;
        Ok(cid)
    }

    /// Sends what is ready, if nothing is on its way.
    pub(crate) fn transmit<E: Engine>(&mut self, engine: &mut E) {
        engine.receive_at_most(self.conn, self.half());
        if self.batch.is_empty() && !self.host.wants_transmit() {
            return;
        }
        let Some(mut message) = self.message.take() else { return };
        self.host.poll_transmit(&self.commands, &mut self.batch, MOST_AT_ONCE);
        let commands = &self.commands;
        self.batch.drain(|piece| match piece {
            Piece::Bytes(bytes) => message.push(bytes),
            Piece::Payload { tag, offset, length } => {
                if let Some((bytes, from, to)) = commands.bytes(tag, offset, length) {
                    message.push_shared(bytes.slice(from..to));
                }
            }
        });
        if let Some(pdus) = &mut self.pdus {
            pdus.saw(Direction::ToController, message.slices());
        }
        if let Err(message) = engine.send(self.conn, message) {
            // The connection is gone, which is told elsewhere.
            self.message = Some(message);
        }
    }

    /// How much to take in before commands take the place of those that are complete with it, in
    /// bytes: who first takes in all there is has a controller without work meanwhile, and waits
    /// while it works. So half of what is owed is taken in while the controller works on the other;
    /// a few commands are not worth dividing.
    fn half(&self) -> usize {
        if self.outstanding < FEW { usize::MAX } else { self.owed / 2 }
    }

    /// A message is sent.
    pub(crate) fn sent(&mut self, mut message: Message) {
        message.clear(drop);
        self.message = Some(message);
    }

    /// Whether something is still to be sent or on its way.
    pub(crate) fn is_sending(&self) -> bool {
        self.message.is_none() || self.host.wants_transmit()
    }

    /// Takes in what came; returns how many commands are complete with it.
    pub(crate) fn received<E: Engine, W: Workload>(
        &mut self,
        engine: &mut E,
        mut bytes: &[u8],
        to: &mut Told<'_, W>,
    ) -> Result<usize, Error> {
        if let Some(pdus) = &mut self.pdus {
            pdus.saw(Direction::ToHost, [bytes]);
        }
        let mut complete = 0;
        loop {
            // Looked at where it is: moving it would take longer than making it.
            let taken = self.host.handle_bytes(bytes);
            let (n, event) = match &taken {
                Ok((n, event)) => (*n, event),
                Err(violation) => return Err(self.error(TransportError::from(*violation))),
            };
            bytes = &bytes[n..];
            match event {
                None => return Ok(complete),
                Some(HostEvent::Payload(payload)) => {
                    let n = self.place(*payload, bytes);
                    bytes = &bytes[n..];
                    let left = payload.length as usize - n;
                    if left > 0 {
                        if left >= STRAIGHT {
                            self.fill(engine, *payload, n);
                        }
                        return Ok(complete);
                    }
                }
                Some(HostEvent::Completion(completion)) => {
                    self.complete(completion, to)?;
                    complete += 1;
                }
                Some(HostEvent::Terminated(terminated)) => {
                    return Err(self.error(TransportError::from(*terminated)));
                }
                Some(_) => {}
            }
        }
    }

    /// Puts the first bytes of payload where they belong; returns how many those are.
    fn place(&mut self, payload: Payload, bytes: &[u8]) -> usize {
        let n = bytes.len().min(payload.length as usize);
        let bytes = &bytes[..n];
        let offset = payload.offset as usize;
        if let Some(cid) = payload.tag
            && let Some(Command { buffer: Buffer::Read(room), .. }) = self.commands.get_mut(cid)
            && let Some(room) = room.get_mut(offset..offset + n)
        {
            room.copy_from_slice(bytes);
        }
        self.host.handle_payload(bytes)
    }

    /// Has the engine receive what follows the first `done` bytes of payload into its place.
    fn fill<E: Engine>(&mut self, engine: &mut E, payload: Payload, done: usize) {
        let from = payload.offset as usize + done;
        let length = payload.length as usize - done;
        if let Some(cid) = payload.tag
            && let Some(Command { buffer: Buffer::Read(room), .. }) = self.commands.get_mut(cid)
            && room.len() >= from + length
        {
            let mut part = if from == 0 { std::mem::take(room) } else { room.split_off(from) };
            let tail = if part.len() > length { part.split_off(length) } else { BytesMut::new() };
            self.filling = Some(Filling { cid, tail });
            engine.fill(self.conn, vec![part]);
        }
    }

    /// Takes a part of a buffer back, filled.
    pub(crate) fn filled<E: Engine, W: Workload>(
        &mut self,
        engine: &mut E,
        parts: Vec<BytesMut>,
        to: &mut Told<'_, W>,
    ) -> Result<usize, Error> {
        let Some(Filling { cid, tail }) = self.filling.take() else { return Ok(0) };
        if let Some(pdus) = &mut self.pdus {
            pdus.saw(Direction::ToHost, parts.iter().map(|part| &**part));
        }
        for part in parts {
            self.host.handle_payload(&part);
            if let Some(Command { buffer: Buffer::Read(room), .. }) = self.commands.get_mut(cid) {
                room.unsplit(part);
            }
        }
        if let Some(Command { buffer: Buffer::Read(room), .. }) = self.commands.get_mut(cid) {
            room.unsplit(tail);
        }
        // The end of the data may be the end of the command.
        self.received(engine, &[], to)
    }

    fn complete<W: Workload>(
        &mut self,
        completion: &Completion,
        to: &mut Told<'_, W>,
    ) -> Result<(), Error> {
        let Completion { cid, cqe, violation } = completion;
        let cid = *cid;
        if self.trace {
            tracing::trace!(qid = self.qid, cid, response = %Line(cqe));
        }
        // Messages own what they send, so nothing refers to the command any more.
        self.host.release(cid);
        let Some(command) = self.commands.take(cid) else { return Ok(()) };
        self.outstanding -= 1;
        self.owed -= command.answer;
        let status = cqe.status();
        let result = match violation {
            Some(violation) => Err(CommandError::Damaged(*violation)),
            None if status.is_success() => Ok(cqe),
            None => Err(CommandError::Status(status)),
        };
        match (command.internal, result) {
            (false, result) => {
                to.workload.complete(to.queue, command.token, result, command.buffer, to.now);
                Ok(())
            }
            (true, Ok(_)) => Ok(()),
            (true, Err(_)) => {
                Err(self.error(nvmf::Error::Status { command: "Disconnect", status }))
            }
        }
    }

    /// When the first of the commands outstanding has to be answered.
    pub(crate) fn due(&self) -> Option<u64> {
        self.commands.0.iter().flatten().map(|command| command.due).min()
    }

    /// Gives up every command outstanding.
    pub(crate) fn lose<W: Workload>(&mut self, to: &mut Told<'_, W>) {
        for command in self.commands.0.iter_mut().filter_map(Option::take) {
            if !command.internal {
                let Command { token, buffer, .. } = command;
                to.workload.complete(to.queue, token, Err(CommandError::Lost), buffer, to.now);
            }
        }
        (self.outstanding, self.owed) = (0, 0);
    }
}

/// Who is told of a queue's completions, and when they were seen.
pub(crate) struct Told<'a, W> {
    pub(crate) workload: &'a mut W,
    pub(crate) queue: usize,
    pub(crate) now: Instant,
}

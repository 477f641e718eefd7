//! One TCP connection on a core: the protocol's state machine, driven by the engine.
//!
//! What comes is decoded where it lies; commands are begun as they come. What a command does
//! depends on the stage: [`connecting`], [`admin`], [`io`]. Answers leave together, in one message
//! at a time: what becomes ready while one is in flight is for the next.

mod abort;
mod admin;
mod connecting;
mod ending;
mod entry;
mod fused;
mod io;
mod limited;
mod storage;

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Instant;

use bytes::BytesMut;
use nvme_spec::{Cqe, Status};
use nvmf::pdu_trace::{ConnectionTrace, Direction};
use nvmf_engine::{ConnId, Engine, Message};
use nvmf_proto::capsule::DataLocation;
use nvmf_proto::pdu::{Batch, Piece};
use nvmf_proto::tcp::{self, ControllerEvent, Payload, ReceivedCommand};

use super::Origin;
use super::connections;
use super::core::Context;
use super::timers::Timer;
use crate::who::{Who, say};
use admin::Admin;
use connecting::Connecting;
use ending::{Life, Why};
use entry::Entries;
use fused::First;
use io::IoStage;

pub(super) use storage::{FileTable, JobDone};

/// Answers are gathered up to this many bytes; more is for the next message.
const GATHER: usize = 2 << 20;
/// From so many bytes on that are still to come, data is received straight into its place.
const STRAIGHT: usize = 8 << 10;
/// Data of commands that a connection holds, in bytes: received and not yet stored, or read and
/// not yet sent. Commands beyond it wait; one is always let through.
const HELD: usize = 2 << 20;

/// A connection.
#[derive(Debug)]
pub(super) struct Connection {
    id: ConnId,
    /// What it is to the target's books; gone, it is off them.
    guard: connections::Connection,
    origin: Origin,
    /// For every line of the log.
    who: Who,
    tcp: tcp::Controller,
    /// Is shown every byte, where PDUs are traced.
    trace: Option<Box<ConnectionTrace>>,
    entries: Entries,
    stage: Stage,
    life: Life,
    /// For the log, when it ends.
    why: Why,
    timer: Timer,
    batch: Batch,
    /// A message that was sent, for the next one to use its memory.
    spare: Message,
    /// The command whose data the engine is receiving straight into its place.
    filling: Option<u16>,
    /// Commands that wait for others to let go of memory.
    waiting: VecDeque<u16>,
    /// Bytes held by commands, and of those the ones in the message in flight.
    held: usize,
    flying: usize,
    /// Commands that a job or the ring is busy with.
    outside: usize,
    /// Commands whose data is still to come.
    owed: usize,
    owed_since: Instant,
    sending_since: Option<Instant>,
    heard: Instant,
}

/// How far a connection is.
#[derive(Debug)]
enum Stage {
    Connecting(Connecting),
    Admin(Box<Admin>),
    Io(IoStage),
}

/// Data that came whole within what was just received: where it lies in there.
type Arrived = Option<(u16, Range<usize>)>;

impl Connection {
    /// A connection that was just accepted.
    pub(super) fn new(
        id: ConnId,
        guard: connections::Connection,
        origin: Origin,
        cx: &mut Context,
    ) -> Self {
        let trace = cx.shared.trace.as_ref().map(|trace| trace.connection(&origin.peer).into());
        let mut new = Self {
            id,
            guard,
            who: origin.who(),
            origin,
            trace,
            tcp: tcp::Controller::new(cx.shared.tcp),
            entries: Entries::default(),
            stage: Stage::Connecting(Connecting::default()),
            life: Life::Serving,
            why: Why::Closed,
            timer: Timer::default(),
            batch: Batch::new(),
            spare: Message::new(),
            filling: None,
            waiting: VecDeque::new(),
            held: 0,
            flying: 0,
            outside: 0,
            owed: 0,
            owed_since: cx.now,
            sending_since: None,
            heard: cx.now,
        };
        new.arm(cx, cx.now.checked_add(cx.shared.connect_timeout));
        new
    }

    /// Takes what came.
    pub(super) fn received<E: Engine>(&mut self, cx: &mut Context, engine: &mut E, bytes: &[u8]) {
        self.heard = cx.now;
        if let Some(trace) = &mut self.trace {
            trace.saw(Direction::ToController, [bytes]);
        }
        let (mut at, mut arrived) = (0, None);
        while self.life == Life::Serving {
            let (n, event) = match self.tcp.handle_bytes(&bytes[at..]) {
                Ok(taken) => taken,
                Err(violation) => {
                    self.violated(cx, &violation);
                    break;
                }
            };
            at += n;
            match event {
                None => break,
                Some(ControllerEvent::Payload(payload)) if at < bytes.len() => {
                    at += self.place(cx, payload, bytes, at, &mut arrived);
                }
                Some(ControllerEvent::Payload(payload)) => {
                    self.receive_straight(engine, payload);
                    break;
                }
                Some(ControllerEvent::Command(command)) => self.command(cx, engine, &command),
                Some(ControllerEvent::Data { slot, violation }) => {
                    let whole = arrived.take().filter(|(of, _)| *of == slot);
                    let whole = whole.map(|(_, range)| &bytes[range]);
                    if let Some(violation) = &violation {
                        cx.shared.events.violated(violation);
                        say!(warn, self.who, %violation, "damaged data");
                    }
                    self.data(cx, engine, slot, whole, violation.is_some());
                }
                Some(ControllerEvent::Rejected { sqe, violation }) => {
                    cx.shared.events.violated(&violation);
                    say!(debug, self.who, ?sqe, %violation, "command rejected");
                }
                Some(ControllerEvent::Terminated(terminated)) => {
                    say!(warn, self.who, %terminated, "connection failed");
                    self.life = Life::Over;
                }
                Some(_) => {}
            }
        }
        if let Some((slot, range)) = arrived {
            self.entries.get(slot).staging.put(&mut cx.pool, 0, &bytes[range]);
        }
    }

    /// Takes data that was received straight into its place.
    pub(super) fn filled<E: Engine>(
        &mut self,
        cx: &mut Context,
        engine: &mut E,
        parts: Vec<BytesMut>,
    ) {
        let Some(slot) = self.filling.take() else { return };
        if let Some(trace) = &mut self.trace {
            trace.saw(Direction::ToController, parts.iter().map(|part| &**part));
        }
        for part in &parts {
            self.tcp.handle_payload(part);
        }
        self.entries.get(slot).staging.restore(parts);
        self.received(cx, engine, &[]);
    }

    /// Puts payload where it belongs; returns how much of it is there.
    fn place(
        &mut self,
        cx: &mut Context,
        payload: Payload,
        bytes: &[u8],
        at: usize,
        arrived: &mut Arrived,
    ) -> usize {
        let n = (bytes.len() - at).min(payload.length as usize);
        let piece = &bytes[at..at + n];
        self.tcp.handle_payload(piece);
        if let Some(slot) = payload.tag {
            let entry = self.entries.get(slot);
            if payload.offset == 0 && n == entry.data.length() as usize {
                *arrived = Some((slot, at..at + n));
            } else {
                entry.staging.put(&mut cx.pool, payload.offset as usize, piece);
            }
        }
        n
    }

    /// Lets the engine receive the rest of a PDU's data into its place, if that is worth it.
    fn receive_straight<E: Engine>(&mut self, engine: &mut E, payload: Payload) {
        let (offset, length) = (payload.offset as usize, payload.length as usize);
        if let Some(slot) = payload.tag.filter(|_| length >= STRAIGHT) {
            let parts = self.entries.get(slot).staging.take(offset, length);
            if !parts.is_empty() {
                self.filling = Some(slot);
                engine.fill(self.id, parts);
            }
        }
    }

    /// Takes a command; one with data in its capsule begins when that has come.
    fn command<E: Engine>(&mut self, cx: &mut Context, engine: &mut E, command: &ReceivedCommand) {
        let ReceivedCommand { slot, sqe, data } = *command;
        self.entries.begin(slot, &sqe, data);
        self.who.command(&sqe);
        if let Stage::Io(stage) = &self.stage {
            stage.count();
            self.entries.get(slot).began = Some(cx.now);
            let fused = sqe.fuse() != 0 || stage.first != First::None;
            if fused && !self.fuse(slot) {
                return;
            }
        }
        if let DataLocation::InCapsule { length } = data {
            self.owe(cx);
            self.entries.get(slot).staging.plan(0, length as usize);
            self.hold(slot, length as usize);
        } else {
            self.begin(cx, engine, slot);
        }
    }

    /// Begins a command whose data is not needed yet, or not there.
    fn begin<E: Engine>(&mut self, cx: &mut Context, engine: &mut E, slot: u16) {
        match &self.stage {
            Stage::Connecting(_) => self.connect_command(cx, slot),
            Stage::Admin(_) => self.admin_command(cx, slot),
            Stage::Io(_) => self.io_command(cx, engine, slot),
        }
    }

    /// All data of a command has come: `whole` if it lies in what was just received, else in its
    /// staging.
    fn data<E: Engine>(
        &mut self,
        cx: &mut Context,
        engine: &mut E,
        slot: u16,
        whole: Option<&[u8]>,
        damaged: bool,
    ) {
        self.owed = self.owed.saturating_sub(1);
        self.owed_since = cx.now;
        if damaged {
            return self.lost(slot, Status::TRANSIENT_TRANSPORT_ERROR);
        }
        match &self.stage {
            Stage::Connecting(_) => self.connect_data(cx, slot, whole),
            Stage::Admin(_) => self.admin_data(cx, slot, whole),
            Stage::Io(_) => self.io_execute(cx, engine, slot, whole),
        }
    }

    /// Asks for all of a command's data, to lie in the grid that `at`, its place in the namespace,
    /// gives.
    fn request_data(&mut self, cx: &Context, slot: u16, at: u64) {
        let entry = self.entries.get(slot);
        let length = entry.data.length();
        entry.staging.plan(at, length as usize);
        self.hold(slot, length as usize);
        match self.tcp.request_data(slot, length) {
            Ok(()) => self.owe(cx),
            // The command has other data than its fields say.
            Err(error) => {
                say!(warn, self.who, %error, "data not received");
                self.lost(slot, Status::DATA_TRANSFER_ERROR);
            }
        }
    }

    /// A command's data does not come as it should.
    fn lost(&mut self, slot: u16, status: Status) {
        match &self.stage {
            Stage::Io(_) => self.data_lost(slot, status),
            Stage::Connecting(_) | Stage::Admin(_) => self.fail(slot, status),
        }
    }

    /// Commands whose data is still to come.
    pub(super) fn owed(&self) -> usize {
        self.owed
    }

    /// A command's data is on its way.
    fn owe(&mut self, cx: &Context) {
        if self.owed == 0 {
            self.owed_since = cx.now;
        }
        self.owed += 1;
    }

    /// Notes memory that a command takes.
    fn hold(&mut self, slot: u16, bytes: usize) {
        self.entries.get(slot).held += bytes;
        self.held += bytes;
    }

    /// The memory that a command takes does not count while it waits.
    fn let_go(&mut self, slot: u16) {
        self.held -= std::mem::take(&mut self.entries.get(slot).held).min(self.held);
    }

    /// Answers a command.
    fn respond(&mut self, slot: u16, cqe: Cqe) {
        let entry = self.entries.get(slot);
        entry.pending = false;
        let cid = entry.sqe.cid.get();
        self.who.response(cid, &cqe);
        self.entries.get(slot).answer = Some(cqe.status());
        self.tcp.respond(slot, cqe);
    }

    /// Answers a command with this status and nothing else.
    fn fail(&mut self, slot: u16, status: Status) {
        self.respond(slot, Cqe::new(0, status));
    }

    /// Sends a command's data, all of it, and answers it with success.
    fn respond_with_data(&mut self, slot: u16) {
        let length = self.entries.get(slot).data.length();
        if let Err(error) = self.tcp.send_data(slot, length, true) {
            say!(warn, self.who, %error, "data not sent");
            return self.fail(slot, Status::INTERNAL_ERROR);
        }
        self.entries.get(slot).answer = Some(Status::SUCCESS);
    }

    /// Sends what is ready, unless a message is in flight.
    pub(super) fn transmit<E: Engine>(&mut self, cx: &mut Context, engine: &mut E) {
        if self.sending_since.is_some() {
            return;
        }
        if !self.tcp.wants_transmit() {
            return self.all_sent(cx);
        }
        self.tcp.poll_transmit(&self.entries, &mut self.batch, GATHER);
        let mut message = std::mem::take(&mut self.spare);
        let entries = &mut self.entries;
        self.batch.drain(|piece| match piece {
            Piece::Bytes(bytes) => message.push(bytes),
            Piece::Payload { tag, offset, length } => {
                entries.get(tag).send(offset as usize, length as usize, &mut message);
            }
        });
        // One look at the clock is for all that leaves together.
        let now = Instant::now();
        for slot in self.batch.take_finished() {
            if let Stage::Io(stage) = &mut self.stage {
                stage.account(self.entries.get(slot), now);
            }
            self.flying += self.entries.remove(&mut cx.pool, slot);
            self.tcp.release(slot);
        }
        self.sending_since = Some(cx.now);
        if let Some(trace) = &mut self.trace {
            trace.saw(Direction::ToHost, message.slices());
        }
        if engine.send(self.id, message).is_err() {
            self.life = Life::Over;
        }
    }

    /// A message is sent.
    pub(super) fn sent<E: Engine>(
        &mut self,
        cx: &mut Context,
        engine: &mut E,
        mut message: Message,
    ) {
        message.clear(|bytes| cx.pool.recycle(bytes));
        self.spare = message;
        self.sending_since = None;
        self.held -= std::mem::take(&mut self.flying).min(self.held);
        self.memory_is_free(cx, engine);
    }

    /// Begins commands that waited for memory, as many as there is room for.
    fn memory_is_free<E: Engine>(&mut self, cx: &mut Context, engine: &mut E) {
        while let Some(slot) = self.waiting.front().copied()
            && let length = self.entries.get(slot).data.length() as usize
            && has_room(self.held, length)
        {
            self.waiting.pop_front();
            self.begin(cx, engine, slot);
        }
    }

    /// Lets go of namespaces that are no more, and has those ask again that wait for limits.
    pub(super) fn refresh<E: Engine>(&mut self, cx: &mut Context, engine: &mut E) {
        if let Stage::Io(stage) = &mut self.stage {
            stage.refresh();
        }
        self.limits_changed(cx, engine);
    }

    /// Forgets its timer.
    pub(super) fn disarm(&mut self, cx: &mut Context) {
        self.arm(cx, None);
    }

    fn arm(&mut self, cx: &mut Context, at: Option<Instant>) {
        cx.timers.set(self.id, &mut self.timer, at);
    }
}

/// Whether a command that takes so much memory may begin where others hold `held`.
fn has_room(held: usize, bytes: usize) -> bool {
    held == 0 || held + bytes <= HELD
}

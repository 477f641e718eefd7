//! A controller, as its admin queue sees it: commands in, what to do with them out.
//!
//! Like [`io`](crate::io) this knows of no transport and no thread; time comes in as an argument.

mod chore;
mod features;
mod identify;
mod log_page;

use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use nvme_spec::event::Event;
use nvme_spec::{Cqe, Sqe, Status, opcode};
use nvmf::controller::identify::capabilities;
use nvmf_proto::keep_alive::Watch;
use nvmf_proto::registers::{Change, Registers};

use crate::association::Association;
use crate::directory::Directory;
use crate::discovery::Asker;
use crate::limits::{self, InCapsule};
pub(crate) use chore::Chore;
use features::Features;

/// A controller: the state that only its admin queue changes.
#[derive(Debug)]
pub(crate) struct Controller {
    association: Arc<Association>,
    role: Role,
    /// What a command capsule of an I/O queue may bring.
    in_capsule: InCapsule,
    registers: Registers,
    watch: Watch,
    /// I/O commands that had come when the watch was last told of them.
    io_commands: u64,
    features: Features,
    /// Asynchronous Event Requests that wait, by their command identifiers.
    held: Vec<u16>,
    /// Abort commands that wait to hear from an I/O queue.
    aborts: u8,
}

/// What kind of controller it is.
#[derive(Debug)]
enum Role {
    Io,
    /// Where the Discovery log page comes from, as it is told on this connection.
    Discovery(Box<Lookup>),
}

/// Where a discovery controller looks up what it tells.
#[derive(Debug)]
pub(crate) struct Lookup {
    pub(crate) directory: Arc<ArcSwap<Directory>>,
    pub(crate) asker: Asker,
}

/// The data that comes with a command.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Data<'a> {
    /// So many bytes, which the host still has, or is to get.
    AtHost(u32),
    /// These.
    Here(&'a [u8]),
}

impl Data<'_> {
    fn length(&self) -> u32 {
        match self {
            Self::AtHost(length) => *length,
            Self::Here(data) => u32::try_from(data.len()).unwrap_or(u32::MAX),
        }
    }
}

/// What to do with an admin command. Completions have no command identifier yet.
#[derive(Debug, PartialEq)]
#[must_use]
pub(crate) enum Outcome {
    /// Receive its data, of this length in bytes (at most [`MOST_DATA`]), and execute it again with
    /// that.
    Receive(u32),
    /// Answer it.
    Answer(Cqe),
    /// Send this data and answer with success; it is as long as the command's.
    Data(Vec<u8>),
    /// Do this, which may wait, then answer it; if that fails, with that.
    Chore(Chore, Cqe),
    /// Keep it unanswered: an Asynchronous Event Request.
    Hold,
    /// Fail the held command of this identifier with Command Abort Requested, and answer this one.
    AbortHeld(u16, Cqe),
    /// Try to abort this command of an I/O queue ([`Association::abort`]), then say to
    /// [`Controller::abort_answer`] whether that went, and answer this one with what it gives.
    AbortIo {
        /// The queue.
        qid: u16,
        /// The command's identifier.
        cid: u16,
    },
    /// Answer it once the I/O queues are dropped and ended, and all held commands failed.
    Reset(Cqe),
    /// Answer it, then make everything durable and call [`Controller::shut_down`].
    Shutdown(Cqe),
}

/// The most data of an admin command from the host, in bytes.
pub(crate) const MOST_DATA: u32 = 4096;

const INVALID_FIELD: Status = Status::INVALID_FIELD.with_dnr(true);
const INVALID_NAMESPACE: Status = Status::INVALID_NAMESPACE.with_dnr(true);

fn success() -> Outcome {
    Outcome::Answer(Cqe::new(0, Status::SUCCESS))
}

fn answer(dw0: u32) -> Outcome {
    Outcome::Answer(Cqe::with_dw0(0, dw0))
}

impl Controller {
    /// A controller for the host that connected with this Keep Alive Timeout, whose I/O queues take
    /// so much data in a capsule.
    pub(crate) fn io(
        association: Arc<Association>,
        in_capsule: InCapsule,
        kato_ms: u32,
        now: Instant,
    ) -> Self {
        Self { in_capsule, ..Self::new(association, Role::Io, kato_ms, now) }
    }

    /// A discovery controller that tells of what is in `lookup`.
    pub(crate) fn discovery(
        association: Arc<Association>,
        lookup: Lookup,
        kato_ms: u32,
        now: Instant,
    ) -> Self {
        let kato_ms = if kato_ms == 0 { limits::DISCOVERY_KATO_MS } else { kato_ms };
        Self::new(association, Role::Discovery(Box::new(lookup)), kato_ms, now)
    }

    fn new(association: Arc<Association>, role: Role, kato_ms: u32, now: Instant) -> Self {
        // Linux warns where this is less than its queues have, even if it will not have any.
        let entries = association.subsystem().max_queue_entries();
        let cap = capabilities(entries, limits::READY_TIMEOUT);
        Self {
            association,
            role,
            in_capsule: InCapsule::NONE,
            registers: Registers::new(cap, limits::VERSION),
            watch: Watch::new(kato_ms, limits::KEEP_ALIVE_GRANULARITY, true, now),
            io_commands: 0,
            features: Features::new(now),
            held: Vec::new(),
            aborts: 0,
        }
    }

    pub(crate) fn association(&self) -> &Arc<Association> {
        &self.association
    }

    /// Whether the host has been silent for too long and is to be given up.
    pub(crate) fn has_expired(&mut self, now: Instant) -> bool {
        let io_commands = self.association.io_commands();
        if io_commands != self.io_commands {
            self.io_commands = io_commands;
            self.watch.traffic(now);
        }
        self.watch.has_expired(now)
    }

    /// When to ask next whether the host [has expired](Self::has_expired); that asks for commands
    /// on I/O queues too, which may have moved it on.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.watch.deadline()
    }

    /// Everything that was acknowledged is durable now, and the shutdown complete; or it cannot be
    /// made so, and the host must not take it for safe.
    pub(crate) fn shut_down(&mut self, durable: Result<(), Status>) {
        if durable.is_ok() {
            return self.registers.shutdown_complete();
        }
        self.fail();
        self.association.events().raise(Event::PERSISTENT_INTERNAL_ERROR);
    }

    /// The controller cannot go on; the host reads it in CSTS.CFS.
    pub(crate) fn fail(&mut self) {
        self.registers.fail();
    }

    /// The next Asynchronous Event Request to answer, by its command identifier, and the answer.
    /// To be asked after each command, and when the association's events wake.
    pub(crate) fn next_event(&mut self) -> Option<(u16, Cqe)> {
        let cid = *self.held.first()?;
        let event = self.association.events().next()?;
        self.held.remove(0);
        Some((cid, Cqe::with_dw0(0, event.to_dw0())))
    }

    /// Judges a command that came on the admin queue, and executes it where that takes no more
    /// than the controller itself.
    pub(crate) fn execute(&mut self, sqe: &Sqe, data: Data<'_>, now: Instant) -> Outcome {
        self.watch.traffic(now);
        let outcome = self
            .judge(sqe, data, now)
            .unwrap_or_else(|status| Outcome::Answer(Cqe::new(0, status)));
        match outcome {
            Outcome::Answer(mut cqe) if !cqe.status().is_success() => {
                let status = self.association.failed(0, sqe, cqe.status());
                cqe.status.set(status.to_wire());
                Outcome::Answer(cqe)
            }
            outcome => outcome,
        }
    }

    fn judge(&mut self, sqe: &Sqe, data: Data<'_>, now: Instant) -> Result<Outcome, Status> {
        if sqe.is_fabrics() {
            return self.fabrics(sqe, now);
        }
        // Neither before it is ready nor after it was shut down.
        if !self.registers.is_ready() || self.registers.csts().shst() != 0 {
            return Err(Status::COMMAND_SEQUENCE_ERROR);
        }
        let data_len = data.length();
        // No fused operation is one of admin commands.
        if sqe.fuse() != 0 {
            return Err(INVALID_FIELD);
        }
        match sqe.opcode {
            opcode::admin::IDENTIFY => {
                check_length(data_len, identify::LENGTH)?;
                self.identify(sqe).map(Outcome::Data)
            }
            opcode::admin::GET_LOG_PAGE => self.log_page(sqe, data_len).map(Outcome::Data),
            opcode::admin::GET_FEATURES => self.features(sqe, data_len, now),
            opcode::admin::SET_FEATURES => self.set_features(sqe, data, now),
            opcode::admin::ASYNC_EVENT_REQUEST => self.async_event_request(sqe, data_len),
            opcode::admin::ABORT if matches!(self.role, Role::Io) => {
                check_length(data_len, 0)?;
                self.abort(sqe)
            }
            opcode::admin::KEEP_ALIVE => {
                check_length(data_len, 0)?;
                if self.watch.timeout().is_none() {
                    return Err(Status::KEEP_ALIVE_INVALID.with_dnr(true));
                }
                self.watch.keep_alive(now);
                Ok(success())
            }
            _ => Err(Status::INVALID_OPCODE.with_dnr(true)),
        }
    }

    fn fabrics(&mut self, sqe: &Sqe, now: Instant) -> Result<Outcome, Status> {
        if let Some((cqe, change)) = self.registers.execute(sqe) {
            return Ok(match change {
                Change::None => Outcome::Answer(cqe),
                Change::Enabled => {
                    self.association.enable();
                    Outcome::Answer(cqe)
                }
                Change::Reset => {
                    self.features = Features::new(now);
                    self.association.events().reset();
                    self.held.clear();
                    Outcome::Reset(cqe)
                }
                Change::Shutdown { .. } => {
                    self.association.begin_shutdown();
                    Outcome::Shutdown(cqe)
                }
            });
        }
        Err(match sqe.fctype() {
            opcode::fabrics::CONNECT => Status::COMMAND_SEQUENCE_ERROR,
            opcode::fabrics::DISCONNECT => Status::INVALID_QUEUE_TYPE,
            _ => Status::INVALID_OPCODE,
        }
        .with_dnr(true))
    }

    fn async_event_request(&mut self, sqe: &Sqe, data_len: u32) -> Result<Outcome, Status> {
        check_length(data_len, 0)?;
        if self.held.len() >= usize::from(limits::ASYNC_EVENTS) {
            return Err(Status::AER_LIMIT_EXCEEDED.with_dnr(true));
        }
        self.held.push(sqe.cid.get());
        Ok(Outcome::Hold)
    }

    /// Of admin commands, which are executed in the order they come, those that wait for an event
    /// can be aborted. Whether one of an I/O queue can, that queue knows.
    fn abort(&mut self, sqe: &Sqe) -> Result<Outcome, Status> {
        let [sqid0, sqid1, cid0, cid1] = sqe.cdw(10).to_le_bytes();
        let (sqid, cid) = (u16::from_le_bytes([sqid0, sqid1]), u16::from_le_bytes([cid0, cid1]));
        if sqid != 0 {
            if self.aborts >= limits::ABORTS {
                return Err(Status::ABORT_LIMIT);
            }
            self.aborts += 1;
            return Ok(Outcome::AbortIo { qid: sqid, cid });
        }
        Ok(match self.held.iter().position(|held| *held == cid) {
            Some(at) => Outcome::AbortHeld(self.held.remove(at), abort_answer(true)),
            None => Outcome::Answer(abort_answer(false)),
        })
    }

    /// The answer to an Abort command that waited for an I/O queue.
    pub(crate) fn abort_answer(&mut self, aborted: bool) -> Cqe {
        self.aborts = self.aborts.saturating_sub(1);
        abort_answer(aborted)
    }
}

/// Dword 0, bit 0: whether the command was not aborted.
fn abort_answer(aborted: bool) -> Cqe {
    Cqe::with_dw0(0, u32::from(!aborted))
}

/// The command's data must be as long as what it asks for: a host would wait for the rest, or
/// find bytes it did not ask for.
fn check_length(data_len: u32, length: u32) -> Result<(), Status> {
    if data_len == length { Ok(()) } else { Err(Status::DATA_SGL_LENGTH_INVALID.with_dnr(true)) }
}

#[cfg(test)]
mod tests;

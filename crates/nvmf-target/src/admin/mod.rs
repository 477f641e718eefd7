//! A controller, as its admin queue sees it: commands in, what to do with them out.
//!
//! Like [`io`](crate::io) this knows of no transport and no thread; time comes in as an argument.

mod features;
mod identify;
mod log_page;

use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use nvme_spec::{Cqe, Sqe, Status, opcode};
use nvmf::controller::identify::capabilities;
use nvmf_proto::keep_alive::Watch;
use nvmf_proto::registers::{Change, Registers};

use crate::association::Association;
use crate::discovery::Asker;
use crate::layout::Layout;
use crate::limits;
use features::Features;

/// A controller: the state that only its admin queue changes.
#[derive(Debug)]
pub(crate) struct Controller {
    association: Arc<Association>,
    role: Role,
    registers: Registers,
    watch: Watch,
    /// I/O commands that had come when the watch was last told of them.
    io_commands: u64,
    features: Features,
    /// Asynchronous Event Requests that wait, by their command identifiers.
    held: Vec<u16>,
}

/// What kind of controller it is.
#[derive(Debug)]
enum Role {
    Io,
    /// Where the Discovery log page comes from, as it is told on this connection.
    Discovery(Box<Directory>),
}

/// Where a discovery controller looks up what it tells.
#[derive(Debug)]
pub(crate) struct Directory {
    pub(crate) layout: Arc<ArcSwap<Layout>>,
    pub(crate) asker: Asker,
}

/// What to do with an admin command. Completions have no command identifier yet.
#[derive(Debug, PartialEq)]
#[must_use]
pub(crate) enum Outcome {
    /// Answer it.
    Answer(Cqe),
    /// Send this data and answer with success; it is as long as the command's.
    Data(Vec<u8>),
    /// Keep it unanswered: an Asynchronous Event Request.
    Hold,
    /// Fail the held command of this identifier with Command Abort Requested, and answer this one.
    AbortHeld(u16, Cqe),
    /// Answer it once the I/O queues are dropped and ended, and all held commands failed.
    Reset(Cqe),
    /// Answer it, then make everything durable and call [`Controller::shutdown_complete`].
    Shutdown(Cqe),
}

const INVALID_FIELD: Status = Status::INVALID_FIELD.with_dnr(true);

fn success() -> Outcome {
    Outcome::Answer(Cqe::new(0, Status::SUCCESS))
}

fn answer(dw0: u32) -> Outcome {
    Outcome::Answer(Cqe::with_dw0(0, dw0))
}

impl Controller {
    /// A controller for the host that connected with this Keep Alive Timeout.
    pub(crate) fn io(association: Arc<Association>, kato_ms: u32, now: Instant) -> Self {
        Self::new(association, Role::Io, kato_ms, now)
    }

    /// A discovery controller that tells of what is in `directory`.
    pub(crate) fn discovery(
        association: Arc<Association>,
        directory: Directory,
        kato_ms: u32,
        now: Instant,
    ) -> Self {
        let kato_ms = if kato_ms == 0 { limits::DISCOVERY_KATO_MS } else { kato_ms };
        Self::new(association, Role::Discovery(Box::new(directory)), kato_ms, now)
    }

    fn new(association: Arc<Association>, role: Role, kato_ms: u32, now: Instant) -> Self {
        // Linux warns where this is less than its queues have, even if it will not have any.
        let cap = capabilities(limits::IO_ENTRIES, limits::READY_TIMEOUT);
        Self {
            association,
            role,
            registers: Registers::new(cap, limits::VERSION),
            watch: Watch::new(kato_ms, limits::KEEP_ALIVE_GRANULARITY, true, now),
            io_commands: 0,
            features: Features::default(),
            held: Vec::new(),
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

    /// Everything that was acknowledged is durable now: the shutdown is complete.
    pub(crate) fn shutdown_complete(&mut self) {
        self.registers.shutdown_complete();
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

    /// Judges a command that came on the admin queue with `data_len` bytes of data, and executes
    /// it where that takes no more than the controller itself.
    pub(crate) fn execute(&mut self, sqe: &Sqe, data_len: u32, now: Instant) -> Outcome {
        self.watch.traffic(now);
        let outcome = self
            .judge(sqe, data_len, now)
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

    fn judge(&mut self, sqe: &Sqe, data_len: u32, now: Instant) -> Result<Outcome, Status> {
        if sqe.is_fabrics() {
            return self.fabrics(sqe);
        }
        if !self.registers.is_ready() {
            return Err(Status::COMMAND_SEQUENCE_ERROR);
        }
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
            opcode::admin::GET_FEATURES => self.features(sqe, data_len),
            opcode::admin::SET_FEATURES => self.set_features(sqe, now),
            opcode::admin::ASYNC_EVENT_REQUEST => self.async_event_request(sqe, data_len),
            opcode::admin::ABORT if matches!(self.role, Role::Io) => {
                check_length(data_len, 0)?;
                Ok(self.abort(sqe))
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

    fn fabrics(&mut self, sqe: &Sqe) -> Result<Outcome, Status> {
        if let Some((cqe, change)) = self.registers.execute(sqe) {
            return Ok(match change {
                Change::None => Outcome::Answer(cqe),
                Change::Enabled => {
                    self.association.enable();
                    Outcome::Answer(cqe)
                }
                Change::Reset => {
                    self.features = Features::default();
                    self.association.events().reset();
                    self.held.clear();
                    Outcome::Reset(cqe)
                }
                Change::Shutdown { .. } => Outcome::Shutdown(cqe),
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

    /// Commands are executed in the order they come, so all that can be aborted is what waits for
    /// an event; of everything else the answer says that it was not (dword 0, bit 0).
    fn abort(&mut self, sqe: &Sqe) -> Outcome {
        const NOT_ABORTED: u32 = 1;
        let [sqid0, sqid1, cid0, cid1] = sqe.cdw(10).to_le_bytes();
        let (sqid, cid) = (u16::from_le_bytes([sqid0, sqid1]), u16::from_le_bytes([cid0, cid1]));
        match self.held.iter().position(|held| sqid == 0 && *held == cid) {
            Some(at) => Outcome::AbortHeld(self.held.remove(at), Cqe::with_dw0(0, 0)),
            None => answer(NOT_ABORTED),
        }
    }
}

/// The command's data must be as long as what it asks for: a host would wait for the rest, or
/// find bytes it did not ask for.
fn check_length(data_len: u32, length: u32) -> Result<(), Status> {
    if data_len == length { Ok(()) } else { Err(Status::DATA_SGL_LENGTH_INVALID.with_dnr(true)) }
}

#[cfg(test)]
mod tests;

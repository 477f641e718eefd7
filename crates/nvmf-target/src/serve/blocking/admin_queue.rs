//! Serving an admin queue, which is an association's life.

use std::io::{IoSlice, IoSliceMut};
use std::sync::{Arc, mpsc};
use std::time::Instant;

use nvme_spec::{Cqe, Status};
use nvmf::Deadline;
use nvmf::controller::{Command, PendingConnect, QueuePair};
use nvmf::transport::{DataError, TransportError};

use super::{DATA_TIMEOUT, DRAIN, Next, Origin, Shared, next, refuse};
use crate::abort::AbortReply;
use crate::admin::{Controller, Data, MOST_DATA, Outcome};
use crate::limits;
use crate::serve::Ending;
use crate::who::{Who, say};

/// Serves the admin queue that this Connect asks for, until it or the target ends.
pub(super) fn serve(
    shared: &Shared,
    pending: PendingConnect,
    origin: &Origin,
    who: &mut Who,
) -> Result<(), TransportError> {
    let made = shared.open_controller(pending.request(), origin, Instant::now());
    let controller = match made {
        Ok(controller) => controller,
        Err(refusal) => return refuse(pending, &refusal, who),
    };
    let association = Ending(Arc::clone(controller.association()));
    let cntlid = association.0.cntlid();
    *who = who.connected(pending.request(), Some(cntlid));
    let queue = pending.accept(cntlid, Deadline::after(DATA_TIMEOUT))?;
    say!(info, who, "host connected");
    let mut admin = AdminQueue { queue, controller, held: Vec::new(), who: who.clone() };
    let end = admin.run(shared);
    match &end {
        Ok(End::Closed) => say!(info, who, "host disconnected"),
        Ok(End::Stopped) => say!(info, who, "target stops"),
        Ok(End::Expired) => {
            say!(warn, who, "host given up: Keep Alive Timeout expired");
        }
        Ok(End::Failed) => say!(error, who, "controller failed"),
        Err(_) => {}
    }
    end.map(|_| ())
}

/// Why an admin queue ended.
enum End {
    Closed,
    Stopped,
    Expired,
    Failed,
}

struct AdminQueue {
    queue: QueuePair,
    controller: Controller,
    /// Commands that wait for an event.
    held: Vec<Command>,
    who: Who,
}

impl AdminQueue {
    fn run(&mut self, shared: &Shared) -> Result<End, TransportError> {
        loop {
            match next(shared, &mut self.queue)? {
                Next::Command(command) => {
                    if let Some(end) = self.command(command)? {
                        return Ok(end);
                    }
                    self.tell_events();
                }
                // Only a silent connection can be one of a silent host: what waited while this
                // thread was busy counts.
                Next::Quiet => {
                    self.tell_events();
                    if self.controller.has_expired(Instant::now()) {
                        self.controller.association().subsystem().books().keep_alive_expired();
                        return Ok(End::Expired);
                    }
                }
                Next::End if shared.stop.is_raised() => {
                    // The I/O queues drain by themselves; the association ends after them.
                    self.controller.association().wait_until_idle(DRAIN + DATA_TIMEOUT);
                    return Ok(End::Stopped);
                }
                Next::End => return Ok(End::Closed),
            }
        }
    }

    fn command(&mut self, mut command: Command) -> Result<Option<End>, TransportError> {
        let deadline = Deadline::after(DATA_TIMEOUT);
        let data = Data::AtHost(command.data_len());
        let mut outcome = self.controller.execute(command.sqe(), data, Instant::now());
        if let Outcome::Receive(length) = outcome {
            let mut data = vec![0; length.min(MOST_DATA) as usize];
            let room = &mut [IoSliceMut::new(&mut data)];
            match self.queue.receive_data(&mut command, 0, room, deadline) {
                Ok(()) => {
                    let data = Data::Here(&data);
                    outcome = self.controller.execute(command.sqe(), data, Instant::now());
                }
                Err(DataError::Transport(error)) => return Err(error),
                Err(error) => {
                    say!(warn, self.who, %error, "admin data not received");
                    self.queue.fail(command, Status::DATA_TRANSFER_ERROR);
                    return Ok(None);
                }
            }
        }
        match outcome {
            // It was received.
            Outcome::Receive(_) => self.queue.fail(command, Status::INTERNAL_ERROR),
            Outcome::Answer(cqe) => self.queue.respond(command, cqe),
            Outcome::Data(data) => {
                match self.queue.respond_with_data(command, &[IoSlice::new(&data)], deadline) {
                    Ok(()) => {}
                    Err(DataError::Transport(error)) => return Err(error),
                    // The command was failed; it had other data than it said.
                    Err(error) => say!(warn, self.who, %error, "admin data not sent"),
                }
            }
            Outcome::Hold => self.held.push(command),
            Outcome::AbortHeld(cid, cqe) => {
                let held = self.held.iter().position(|held| held.sqe().cid.get() == cid);
                if let Some(at) = held {
                    let aborted = self.held.swap_remove(at);
                    self.queue.fail(aborted, Status::ABORT_REQUESTED);
                }
                self.queue.respond(command, cqe);
            }
            Outcome::AbortIo { qid, cid } => {
                let (tell, told) = mpsc::channel();
                let reply = AbortReply::new(move |aborted| {
                    // Nobody listens any more once it has taken too long.
                    let _ = tell.send(aborted);
                });
                self.controller.association().abort(qid, cid, reply);
                let aborted = told.recv_timeout(limits::ABORT_TIMEOUT).unwrap_or(false);
                let cqe = self.controller.abort_answer(aborted);
                self.queue.respond(command, cqe);
            }
            Outcome::Chore(chore, cqe) => {
                let association = self.controller.association();
                match chore.run(association) {
                    Ok(()) => self.queue.respond(command, cqe),
                    Err(status) => {
                        let status = association.failed(0, command.sqe(), status);
                        self.queue.fail(command, status);
                    }
                }
            }
            Outcome::Reset(cqe) => return self.reset(command, cqe),
            Outcome::Shutdown(cqe) => {
                self.queue.respond(command, cqe);
                self.queue.flush(deadline)?;
                let durable = self.controller.association().subsystem().flush();
                self.controller.shut_down(durable);
            }
        }
        Ok(None)
    }

    /// Answers the requests that wait for events with those that there are.
    fn tell_events(&mut self) {
        while let Some((cid, cqe)) = self.controller.next_event() {
            let held = self.held.iter().position(|held| held.sqe().cid.get() == cid);
            let Some(at) = held else { return };
            let request = self.held.swap_remove(at);
            self.queue.respond(request, cqe);
        }
    }

    /// The answer to CC.EN = 0 says that nothing of the old I/O queues is under way any more.
    fn reset(&mut self, command: Command, cqe: Cqe) -> Result<Option<End>, TransportError> {
        for held in self.held.drain(..) {
            self.queue.fail(held, Status::ABORT_REQUESTED);
        }
        if self.controller.association().reset(limits::READY_TIMEOUT) {
            self.queue.respond(command, cqe);
            return Ok(None);
        }
        self.controller.fail();
        self.queue.fail(command, Status::INTERNAL_ERROR);
        self.queue.flush(Deadline::after(DATA_TIMEOUT))?;
        Ok(Some(End::Failed))
    }
}

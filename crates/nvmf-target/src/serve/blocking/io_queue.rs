//! Serving an I/O queue.

use std::io::{IoSlice, IoSliceMut};
use std::sync::Arc;
use std::time::Instant;

use nvme_spec::Status;
use nvmf::Deadline;
use nvmf::controller::{Command, PendingConnect, QueuePair};
use nvmf::transport::{DataError, TransportError};

use super::{DATA_TIMEOUT, Next, Origin, Shared, next, refuse};
use crate::association::IoQueue;
use crate::io::{Operation, Plan, Transfer, flush_all, plan};
use crate::serve::connections::{Connection, Stopper};
use crate::subsystem::{CachedView, Namespace};
use crate::who::{Who, say};

/// Serves the I/O queue that this Connect asks for, until it, its association or the target ends.
pub(super) fn serve(
    shared: &Shared,
    connection: &Connection,
    pending: PendingConnect,
    origin: &Origin,
    who: &mut Who,
) -> Result<(), TransportError> {
    let stopper = connection.stopper();
    let stop = stopper.clone();
    let membership = match shared.join(pending.request(), origin, move || stop.stop()) {
        Ok(membership) => membership,
        Err(refusal) => return refuse(pending, &refusal, who),
    };
    let cntlid = membership.association().cntlid();
    *who = who.connected(pending.request(), Some(cntlid));
    membership.counters().belong_to(who);
    let queue = pending.accept(cntlid, Deadline::after(DATA_TIMEOUT))?;
    say!(debug, who, "I/O queue connected");
    let view = membership.association().cached_view();
    let mut served = Served { queue, membership, view, stopper, buffer: Vec::new() };
    let end = served.run(shared);
    if served.stopper.is_stopped() {
        // That the socket failed then is this end's own doing.
        say!(debug, who, "I/O queue dropped");
        return Ok(());
    }
    say!(debug, who, "I/O queue ended");
    end
}

struct Served {
    queue: QueuePair,
    membership: IoQueue,
    view: CachedView,
    stopper: Stopper,
    /// Room for one command's data: as much as the largest so far had.
    buffer: Vec<u8>,
}

/// Whether the queue goes on.
enum After {
    Continue,
    Close,
}

impl Served {
    fn run(&mut self, shared: &Shared) -> Result<(), TransportError> {
        while !self.stopper.is_stopped() {
            match next(shared, &mut self.queue)? {
                Next::Command(command) => {
                    self.membership.counters().command();
                    if let After::Close = self.command(command)? {
                        return Ok(());
                    }
                }
                Next::Quiet => drop(self.view.load()),
                Next::End => return Ok(()),
            }
        }
        Ok(())
    }

    fn command(&mut self, mut command: Command) -> Result<After, TransportError> {
        let began = Instant::now();
        let (sqe, length) = (*command.sqe(), command.data_len());
        let association = self.membership.association();
        let view = self.view.load();
        let done = match plan(association, view, command.sqe(), command.data_len()) {
            Ok(Plan::Execute(operation)) => execute(
                &operation,
                &mut command,
                &mut self.queue,
                &mut self.buffer,
                &self.membership,
            )?,
            Ok(Plan::FlushAll(namespaces)) => flush_all(&namespaces).map(|()| 0),
            Ok(Plan::Disconnect) => {
                self.membership.account(view, &sqe, length, began.elapsed(), Status::SUCCESS);
                self.queue.succeed(command);
                self.queue.flush(Deadline::after(DATA_TIMEOUT))?;
                return Ok(After::Close);
            }
            Err(status) => Err(status),
        };
        let status = done.err().unwrap_or(Status::SUCCESS);
        self.membership.account(view, &sqe, length, began.elapsed(), status);
        match done {
            Ok(0) => self.queue.succeed(command),
            Ok(length) => {
                let data = [IoSlice::new(&self.buffer[..length])];
                let deadline = Deadline::after(DATA_TIMEOUT);
                match self.queue.respond_with_data(command, &data, deadline) {
                    Ok(()) => {}
                    Err(DataError::Transport(error)) => return Err(error),
                    Err(error) => {
                        say!(warn, self.membership.counters().who(), %error, "data not sent")
                    }
                }
            }
            Err(status) => {
                let status = association.failed(self.membership.qid(), command.sqe(), status);
                self.queue.fail(command, status);
            }
        }
        Ok(After::Continue)
    }
}

/// Receives the command's data and executes it. Inside: how many bytes of the buffer are to be
/// sent, or the status to fail with.
fn execute(
    operation: &Operation<&Arc<Namespace>>,
    command: &mut Command,
    queue: &mut QueuePair,
    buffer: &mut Vec<u8>,
    membership: &IoQueue,
) -> Result<Result<usize, Status>, TransportError> {
    let counters = membership.counters();
    Ok(match operation.transfer() {
        Transfer::None => operation.execute(&mut [], counters).map(|()| 0),
        Transfer::ToHost(length) => {
            let room = room(buffer, length);
            operation.execute(room, counters).map(|()| room.len())
        }
        Transfer::FromHost(length) => {
            let room = room(buffer, length);
            let deadline = Deadline::after(DATA_TIMEOUT);
            match queue.receive_data(command, 0, &mut [IoSliceMut::new(room)], deadline) {
                Ok(()) => operation.execute(room, counters).map(|()| 0),
                Err(DataError::Transport(error)) => return Err(error),
                Err(DataError::Digest(violation)) => {
                    say!(warn, counters.who(), %violation, "damaged data");
                    Err(Status::TRANSIENT_TRANSPORT_ERROR)
                }
                Err(_) => Err(Status::DATA_TRANSFER_ERROR),
            }
        }
    })
}

/// The first `length` bytes of the buffer, which grows if it has to; `length` was checked against
/// the transfer limit.
fn room(buffer: &mut Vec<u8>, length: u32) -> &mut [u8] {
    let length = length as usize;
    if buffer.len() < length {
        buffer.resize(length, 0);
    }
    &mut buffer[..length]
}

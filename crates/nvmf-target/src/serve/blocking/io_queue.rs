//! Serving an I/O queue.

use std::collections::BTreeSet;
use std::io::{IoSlice, IoSliceMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nvme_spec::{Cqe, Status};
use nvmf::Deadline;
use nvmf::controller::{Command, PendingConnect, QueuePair};
use nvmf::transport::{DataError, TransportError};

use super::{DATA_TIMEOUT, Next, Origin, Shared, next, refuse};
use crate::association::IoQueue;
use crate::io::fused::{self, Both};
use crate::io::{By, Failed, Kind, Operation, Plan, Transfer, flush_all, plan};
use crate::limit::Direction;
use crate::serve::connections::{Connection, Stopper};
use crate::statistics::Counters;
use crate::subsystem::{CachedView, Namespace};
use crate::who::{Who, say};

/// How long a command that is over a limit sleeps at most before it looks again.
const LIMIT_STEP: Duration = Duration::from_millis(50);

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
    let patience = Patience::new(stopper, &membership);
    let mut served = Served { queue, membership, view, patience, first: None, buffer: Vec::new() };
    let end = served.run(shared);
    if served.patience.stopper.is_stopped() {
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
    patience: Patience,
    /// The first of two commands, while the second has not come.
    first: Option<Command>,
    /// Room for one command's data: as much as the largest so far had.
    buffer: Vec<u8>,
}

/// How long a command waits for limits.
struct Patience {
    stopper: Stopper,
    /// Namespaces on which what waits is to be aborted.
    preempted: Arc<Mutex<BTreeSet<u32>>>,
}

impl Patience {
    fn new(stopper: Stopper, membership: &IoQueue) -> Self {
        let preempted: Arc<Mutex<BTreeSet<u32>>> = Arc::default();
        let aborted = Arc::clone(&preempted);
        // A command that does not sleep now is being executed, or asks reservations first.
        membership.abort_by(move |nsid, _done| {
            aborted.lock().unwrap_or_else(PoisonError::into_inner).insert(nsid);
        });
        Self { stopper, preempted }
    }

    /// A command begins: what was preempted before does not concern it.
    fn begin(&self) {
        self.preempted().clear();
    }

    /// Sleeps for a command on this namespace; the error is why it must not go on.
    fn sleep(&self, wait: Duration, nsid: u32) -> Result<(), Status> {
        thread::sleep(wait);
        if self.preempted().contains(&nsid) {
            return Err(Status::ABORTED_PREEMPT);
        }
        if self.stopper.is_stopped() { Err(Status::COMMAND_INTERRUPTED) } else { Ok(()) }
    }

    fn preempted(&self) -> MutexGuard<'_, BTreeSet<u32>> {
        self.preempted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the queue goes on.
enum After {
    Continue,
    Close,
}

impl Served {
    fn run(&mut self, shared: &Shared) -> Result<(), TransportError> {
        while !self.patience.stopper.is_stopped() {
            match next(shared, &mut self.queue)? {
                Next::Command(command) => {
                    self.membership.counters().command();
                    self.patience.begin();
                    if let After::Close = self.take(shared, command)? {
                        return Ok(());
                    }
                }
                Next::Quiet => drop(self.view.load()),
                Next::End => return Ok(()),
            }
        }
        Ok(())
    }

    /// Puts two commands together that are one operation, and executes the others.
    fn take(&mut self, shared: &Shared, command: Command) -> Result<After, TransportError> {
        let before = self.first.take();
        match (command.sqe().fuse(), before) {
            (fused::SECOND, Some(first)) => {
                self.pair(shared, first, command)?;
                return Ok(After::Continue);
            }
            (fused::SECOND, None) => {
                self.leave_alone(command);
                return Ok(After::Continue);
            }
            (_, Some(first)) => self.leave_alone(first),
            (_, None) => {}
        }
        if command.sqe().fuse() == fused::FIRST {
            self.first = Some(command);
            return Ok(After::Continue);
        }
        self.command(shared, command)
    }

    /// Half of an operation came without the other.
    fn leave_alone(&mut self, command: Command) {
        self.account(&command, Instant::now(), fused::ALONE);
        self.fail(command, fused::ALONE.into());
    }

    /// Counts a command that is answered with this status.
    fn account(&mut self, command: &Command, began: Instant, status: Status) {
        let (sqe, length) = (command.sqe(), command.data_len());
        self.membership.account(self.view.load(), sqe, length, began.elapsed(), status);
    }

    fn command(&mut self, shared: &Shared, mut command: Command) -> Result<After, TransportError> {
        let began = Instant::now();
        let done = loop {
            let association = self.membership.association();
            let view = self.view.load();
            let operation = match plan(association, view, command.sqe(), command.data_len()) {
                Ok(Plan::Execute(operation)) => operation,
                Ok(Plan::FlushAll(namespaces)) => {
                    break flush_all(&namespaces).map(|()| 0).map_err(Failed::from);
                }
                Ok(Plan::Disconnect) => {
                    self.account(&command, began, Status::SUCCESS);
                    self.queue.succeed(command);
                    self.queue.flush(Deadline::after(DATA_TIMEOUT))?;
                    return Ok(After::Close);
                }
                Err(status) => break Err(status.into()),
            };
            // What a Copy moves is known when its data is there.
            let cost = match operation.kind() {
                Kind::Copy(_) => None,
                _ => operation.cost(&[]),
            };
            if let Some(wait) = over_limit(shared, operation.namespace(), cost) {
                match self.patience.sleep(wait, operation.namespace().nsid()) {
                    // What was right may be right no more.
                    Ok(()) => continue,
                    Err(status) => break Err(status.into()),
                }
            }
            let (queue, buffer) = (&mut self.queue, &mut self.buffer);
            let by = self.membership.by();
            let leave = |data: &[u8]| {
                let ns = operation.namespace();
                while let Some(wait) = over_limit(shared, ns, operation.cost(data)) {
                    if ns.is_detached() {
                        return Err(Status::INVALID_NAMESPACE.with_dnr(true));
                    }
                    self.patience.sleep(wait, ns.nsid())?;
                }
                Ok(())
            };
            break execute(&operation, &mut command, queue, buffer, &by, leave)?;
        };
        let status = done.as_ref().err().map_or(Status::SUCCESS, |failed| failed.status);
        self.account(&command, began, status);
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
            Err(failed) => self.fail(command, failed),
        }
        Ok(After::Continue)
    }

    /// Executes two commands that are one operation, and answers both.
    fn pair(
        &mut self,
        shared: &Shared,
        mut first: Command,
        mut second: Command,
    ) -> Result<(), TransportError> {
        let began = Instant::now();
        let both = self.execute_pair(shared, &mut first, &mut second)?;
        for (command, result) in [(first, both.first), (second, both.second)] {
            let status = result.as_ref().err().map_or(Status::SUCCESS, |failed| failed.status);
            self.account(&command, began, status);
            match result {
                Ok(()) => self.queue.succeed(command),
                Err(failed) => self.fail(command, failed),
            }
        }
        Ok(())
    }

    fn execute_pair(
        &mut self,
        shared: &Shared,
        first: &mut Command,
        second: &mut Command,
    ) -> Result<Both, TransportError> {
        let commands = [&*first, &*second].map(|command| (*command.sqe(), command.data_len()));
        let [compare, write] = commands;
        let pair = loop {
            let view = self.view.load();
            let association = self.membership.association();
            let pair = match fused::plan_pair(association, view, &compare, &write) {
                Ok(pair) => pair,
                Err(both) => return Ok(both),
            };
            match over_limit(shared, pair.namespace(), pair.cost()) {
                None => break pair,
                Some(wait) => {
                    if let Err(status) = self.patience.sleep(wait, pair.namespace().nsid()) {
                        return Ok(Both::neither(status));
                    }
                }
            }
        };
        let (mut expected, mut new) = (vec![0; compare.1 as usize], vec![0; write.1 as usize]);
        let who = self.membership.counters();
        if let Err(status) = receive(&mut self.queue, first, &mut expected, who)? {
            return Ok(Both::first_failed(status));
        }
        if let Err(status) = receive(&mut self.queue, second, &mut new, who)? {
            return Ok(Both::second_failed(status));
        }
        Ok(pair.execute(&mut expected, &mut new, &self.membership.by()))
    }

    fn fail(&mut self, command: Command, Failed { status, dw0 }: Failed) {
        let association = self.membership.association();
        let status = association.failed(self.membership.qid(), command.sqe(), status);
        let mut cqe = Cqe::new(0, status);
        cqe.dw0.set(dw0);
        self.queue.respond(command, cqe);
    }
}

/// How long to wait before asking the limits of a namespace again; `None`: the command is let through.
/// Where the target stops nothing is limited: it would wait for it.
fn over_limit(shared: &Shared, ns: &Namespace, cost: Option<(Direction, u64)>) -> Option<Duration> {
    let (direction, bytes) = cost?;
    if shared.stop.is_raised() {
        return None;
    }
    let now = Instant::now();
    let ready = ns.limiter().admit(direction, bytes, now).err()?;
    Some(ready.saturating_duration_since(now).min(LIMIT_STEP))
}

/// Receives all of a command's data. Inside: the status to fail with.
fn receive(
    queue: &mut QueuePair,
    command: &mut Command,
    room: &mut [u8],
    counters: &Counters,
) -> Result<Result<(), Status>, TransportError> {
    let deadline = Deadline::after(DATA_TIMEOUT);
    Ok(match queue.receive_data(command, 0, &mut [IoSliceMut::new(room)], deadline) {
        Ok(()) => Ok(()),
        Err(DataError::Transport(error)) => return Err(error),
        Err(DataError::Digest(violation)) => {
            say!(warn, counters.who(), %violation, "damaged data");
            Err(Status::TRANSIENT_TRANSPORT_ERROR)
        }
        Err(_) => Err(Status::DATA_TRANSFER_ERROR),
    })
}

/// Receives the command's data, asks for `leave` if what it costs is in there, and executes it. Inside: how many bytes of the buffer are to be
/// sent, or the status to fail with.
fn execute(
    operation: &Operation<&Arc<Namespace>>,
    command: &mut Command,
    queue: &mut QueuePair,
    buffer: &mut Vec<u8>,
    by: &By<'_>,
    leave: impl Fn(&[u8]) -> Result<(), Status>,
) -> Result<Result<usize, Failed>, TransportError> {
    Ok(match operation.transfer() {
        Transfer::None => operation.execute(&mut [], by).map(|()| 0),
        Transfer::ToHost(length) => {
            let room = room(buffer, length);
            operation.execute(room, by).map(|()| room.len())
        }
        Transfer::FromHost(length) => {
            let room = room(buffer, length);
            if let Err(status) = receive(queue, command, room, by.counters)? {
                return Ok(Err(status.into()));
            }
            if let Kind::Copy(_) = operation.kind()
                && let Err(status) = leave(room)
            {
                return Ok(Err(status.into()));
            }
            operation.execute(room, by).map(|()| 0)
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

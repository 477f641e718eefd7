//! Connections over other transports than TCP: a thread for each, over the blocking library.

mod admin_queue;
mod io_queue;

use std::time::{Duration, Instant};

use nvmf::Deadline;
use nvmf::controller::{AcceptError, Command, PendingConnect, QueuePair, accept};
use nvmf::transport::{ControllerTransport, TransportError};
use nvmf_proto::connect::Refusal;

use super::connections::Connection;
use super::{DATA_TIMEOUT, DRAIN, Origin, Shared};
use crate::who::{Who, say};

/// How often a thread that waits for a command looks whether its association has ended or its
/// host is to be given up.
const TICK: Duration = Duration::from_millis(200);

/// Serves a connection from its Connect, which has to come before `deadline`, to its end.
pub(super) fn serve(
    shared: &Shared,
    connection: Connection,
    transport: Box<dyn ControllerTransport>,
    origin: &Origin,
    deadline: Deadline,
) {
    let mut who = origin.who();
    let pending = match accept(transport, &shared.accept_options(), deadline) {
        Ok(pending) => pending,
        Err(AcceptError::Transport(TransportError::Closed)) => {
            say!(debug, who, "closed before Connect");
            return;
        }
        Err(error) => {
            say!(warn, who, %error, "no Connect");
            return;
        }
    };
    connection.established();
    who = who.connected(pending.request(), None);
    let result = if pending.request().command.qid == 0 {
        admin_queue::serve(shared, pending, origin, &mut who)
    } else {
        io_queue::serve(shared, &connection, pending, origin, &mut who)
    };
    if let Err(error) = result {
        say!(warn, who, %error, "connection failed");
    }
}

/// Refuses a Connect, and says so in the log.
fn refuse(pending: PendingConnect, refusal: &Refusal, who: &Who) -> Result<(), TransportError> {
    say!(warn, who, %refusal, "Connect refused");
    pending.refuse(refusal, Deadline::after(DATA_TIMEOUT))
}

/// What came of waiting for a command.
enum Next {
    Command(Command),
    /// Nothing for a tick.
    Quiet,
    /// The host closed the connection, or the target stops and nothing is under way any more.
    End,
}

/// Waits for the next command of a queue.
fn next(shared: &Shared, queue: &mut QueuePair) -> Result<Next, TransportError> {
    let wait = match shared.stop.since() {
        None => TICK,
        Some(since) => {
            let left = (since + DRAIN).saturating_duration_since(Instant::now());
            if left.is_zero() {
                queue.flush(Deadline::after(DATA_TIMEOUT))?;
                return Ok(Next::End);
            }
            left.min(TICK / 4)
        }
    };
    match queue.receive(Deadline::after(wait)) {
        Ok(Some(command)) => Ok(Next::Command(command)),
        Ok(None) => Ok(Next::End),
        // A host that sends nothing while the target stops has nothing under way.
        Err(TransportError::TimedOut) if shared.stop.is_raised() && wait != TICK => Ok(Next::End),
        Err(TransportError::TimedOut) => Ok(Next::Quiet),
        Err(error) => Err(error),
    }
}

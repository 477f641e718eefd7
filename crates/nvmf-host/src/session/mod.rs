//! The thread of a path: connects it, drives its queues, and connects it again when it is lost.

mod admin;
mod backoff;
mod breaker;
mod connect;
mod workload;

use std::sync::Arc;
use std::time::{Duration, Instant};

use nvmf::host::TcpQueue;

use crate::multipath::command::Command;
use crate::multipath::{Found, Head};
use crate::{Options, run};
use admin::{Admin, Facts};
use backoff::Backoff;
use breaker::Breaker;
use workload::PathWorkload;

/// A path that is connected: its queues, and what their controller said.
pub(crate) struct Session {
    /// The admin queue first, then those for I/O.
    queues: Vec<TcpQueue>,
    breaker: Breaker,
    found: Found,
    facts: Facts,
}

/// One that lasted this long was a good one: the next try comes at once.
const GOOD: Duration = Duration::from_secs(1);

/// Keeps a path connected until it is given up or everything is over: the work of a thread.
pub(crate) fn keep_connected(head: &Arc<Head>, at: usize) {
    let _leave = Leave { head, at };
    let mut backoff = Backoff::new(head.settings.reconnect_delay);
    while !head.is_closed() {
        let name = &head.settings.paths[at];
        let since = match connect::connect(head, name) {
            Ok(session) => match head.connected(at, &session.found) {
                Ok(()) => {
                    let begun = Instant::now();
                    let (reason, commands) = session.drive(head, at);
                    if begun.elapsed() >= GOOD {
                        backoff.reset();
                    }
                    head.lost(at, reason, commands);
                    Instant::now()
                }
                Err(refused) => {
                    let error =
                        nvmf::Error::InvalidData { what: "namespace", reason: refused.to_string() };
                    head.failed(at, error, backoff.peek())
                }
            },
            Err(error) => {
                tracing::debug!(path = name, %error, "cannot connect");
                head.failed(at, error, backoff.peek())
            }
        };
        let lost = head.settings.ctrl_loss;
        if lost.is_some_and(|limit| since.elapsed() >= limit) {
            head.give_up(at);
            return;
        }
        head.sleep(backoff.next());
    }
}

/// Says that a path's thread has ended, even if that is by a panic: nobody waits for it then.
struct Leave<'a> {
    head: &'a Head,
    at: usize,
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.head.left(self.at);
    }
}

impl Session {
    /// Drives the queues until something fails; says what, and gives the commands that were caught.
    fn drive(self, head: &Arc<Head>, at: usize) -> (String, Vec<Command>) {
        let Self { queues, breaker, found, facts } = self;
        let inbox = head.inbox(at);
        let mut options = Options::new(usize::MAX);
        options.engine = head.settings.engine;
        options.pace = head.settings.pace.clone();
        options.timeout = head.settings.io_timeout;
        options.handle = Some(inbox.handle.clone());
        let admin = Admin::new(facts, head.settings.host.keep_alive, Instant::now());
        let mut workload = PathWorkload::new(head, at, inbox, found, admin, &breaker);
        let result = run(queues, &mut workload, &options);
        let (cause, commands, orderly) = workload.into_parts();
        if !orderly {
            // What was not sent by now must never arrive: it may be sent again by another path.
            breaker.abort();
        }
        let reason = match (cause, result) {
            (Some(cause), _) => cause,
            (None, Err(error)) => error.to_string(),
            (None, Ok(())) => "its queues ended".to_owned(),
        };
        (reason, commands)
    }
}

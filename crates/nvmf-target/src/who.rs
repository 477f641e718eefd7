//! Whose connection it is: what every line of the log about a connection carries.
//!
//! Lines are written with `say!`, which puts these fields in front of the line's own. A span that is
//! entered wherever a connection acts would do the same and cost every command; here only what is
//! logged costs anything.

use std::fmt::{self, Display};
use std::sync::Arc;

use nvme_spec::print::{AdminCommand, IoCommand, Line};
use nvme_spec::{Cqe, Nqn, Sqe};
use nvmf_proto::connect::ConnectRequest;
use tracing::field::{DisplayValue, display};

/// What is known of a connection. Copies are cheap.
#[derive(Clone, Debug, Default)]
pub(crate) struct Who(Option<Arc<Known>>);

#[derive(Debug)]
struct Known {
    peer: String,
    queue: Option<Queue>,
}

/// What a Connect said.
#[derive(Debug)]
struct Queue {
    host: Nqn,
    subsystem: Nqn,
    /// `None` if there is no such controller.
    cntlid: Option<u16>,
    qid: u16,
}

/// Writes a line of the log about a connection: `say!(warn, who, %error, "what happened")`.
macro_rules! say {
    ($level:ident, $who:expr, $($rest:tt)+) => {{
        let who: &$crate::who::Who = &$who;
        tracing::$level!(
            peer = who.peer(),
            host = who.host(),
            subsystem = who.subsystem(),
            cntlid = who.cntlid(),
            qid = who.qid(),
            $($rest)+
        )
    }};
}
pub(crate) use say;

impl Who {
    /// A connection that has not sent its Connect.
    pub(crate) fn new(peer: impl Display) -> Self {
        Self(Some(Arc::new(Known { peer: peer.to_string(), queue: None })))
    }

    /// The same once it has: on the controller that it is given, if it is given one.
    pub(crate) fn connected(&self, request: &ConnectRequest, cntlid: Option<u16>) -> Self {
        let queue = Queue {
            host: request.host.clone(),
            subsystem: request.subsystem.clone(),
            cntlid,
            qid: request.command.qid,
        };
        let peer = self.0.as_ref().map_or_else(String::new, |known| known.peer.clone());
        Self(Some(Arc::new(Known { peer, queue: Some(queue) })))
    }

    pub(crate) fn peer(&self) -> Option<DisplayValue<&str>> {
        self.0.as_ref().map(|known| display(known.peer.as_str()))
    }

    fn queue(&self) -> Option<&Queue> {
        self.0.as_ref()?.queue.as_ref()
    }

    pub(crate) fn host(&self) -> Option<DisplayValue<&Nqn>> {
        self.queue().map(|queue| display(&queue.host))
    }

    pub(crate) fn subsystem(&self) -> Option<DisplayValue<&Nqn>> {
        self.queue().map(|queue| display(&queue.subsystem))
    }

    pub(crate) fn cntlid(&self) -> Option<u16> {
        self.queue()?.cntlid
    }

    pub(crate) fn qid(&self) -> Option<u16> {
        self.queue().map(|queue| queue.qid)
    }

    /// A command came.
    pub(crate) fn command(&self, sqe: &Sqe) {
        say!(trace, self, command = %Command(self, sqe));
    }

    /// A command is answered; the identifier is still to be filled in.
    pub(crate) fn response(&self, cid: u16, cqe: &Cqe) {
        say!(trace, self, cid, response = %Line(cqe));
    }
}

/// A command as one of its queue.
struct Command<'a>(&'a Who, &'a Sqe);

impl Display for Command<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.qid() {
            None | Some(0) => Line(&AdminCommand(self.1)).fmt(f),
            Some(_) => Line(&IoCommand(self.1)).fmt(f),
        }
    }
}

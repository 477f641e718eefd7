//! Which sockets have something.

use std::fmt::Debug;
use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

/// What is of interest of a socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Interest {
    pub(super) read: bool,
    pub(super) write: bool,
}

impl Interest {
    pub(super) const READ: Self = Self { read: true, write: false };
}

/// A socket has something.
#[derive(Clone, Copy, Debug)]
pub(super) struct Event {
    /// What was given with the socket.
    pub(super) data: u64,
    pub(super) readable: bool,
    pub(super) writable: bool,
}

/// Tells, again and again while it is so, which sockets have what is of interest.
pub(super) trait Readiness: Debug {
    fn add(&mut self, socket: BorrowedFd<'_>, data: u64, interest: Interest) -> io::Result<()>;

    fn modify(&mut self, socket: BorrowedFd<'_>, data: u64, interest: Interest) -> io::Result<()>;

    /// To be called before the socket is closed.
    fn remove(&mut self, socket: BorrowedFd<'_>);

    /// Appends events; waits for the first as long as `timeout` says, or as long as it takes.
    fn wait(&mut self, events: &mut Vec<Event>, timeout: Option<Duration>) -> io::Result<()>;
}

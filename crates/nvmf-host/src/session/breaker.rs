//! Ending a path's connections from outside of the loop that drives them.

use std::io;
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use nvmf::host::TcpQueue;
use socket2::SockRef;

/// Holds on to the sockets of a path.
#[derive(Debug)]
pub(crate) struct Breaker(Vec<TcpStream>);

impl Breaker {
    pub(crate) fn new(queues: &[TcpQueue]) -> io::Result<Self> {
        queues.iter().map(|queue| queue.stream.try_clone()).collect::<io::Result<_>>().map(Self)
    }

    /// Has the loop see the end of every connection, soon.
    pub(crate) fn trip(&self) {
        for stream in &self.0 {
            let _ = stream.shutdown(Shutdown::Read);
        }
    }

    /// Closes the connections so that nothing more is sent on them: otherwise the system goes on
    /// sending what it has for minutes, and a write that was done by another path meanwhile, and
    /// perhaps overwritten, could still arrive.
    pub(crate) fn abort(self) {
        for stream in &self.0 {
            if let Err(error) = SockRef::from(stream).set_linger(Some(Duration::ZERO)) {
                tracing::debug!(%error, "cannot drop what is not sent");
            }
        }
    }
}

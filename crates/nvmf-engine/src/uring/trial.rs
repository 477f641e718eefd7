//! Whether io_uring does here what the engine needs.

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use super::Uring;
use super::operation::Operation;
use crate::slots::Slots;

/// Far longer than it takes.
const LONG: Duration = Duration::from_secs(2);

impl Uring {
    /// Makes an engine and receives something by it.
    ///
    /// That there is an io_uring does not say that a multishot receive into provided buffers works,
    /// which nothing but trying tells.
    pub(crate) fn try_out() -> io::Result<()> {
        let mut engine = Self::new()?;
        let (socket, mut peer) = UnixStream::pair()?;
        let mut keys = Slots::default();
        let key = keys.insert_with(|_| ()).ok_or(io::ErrorKind::OutOfMemory)?;
        engine.ring.receive(socket.as_fd(), Operation::Receive(key));
        peer.write_all(b"?")?;
        let deadline = Instant::now() + LONG;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "it does not answer"));
            }
            engine.ring.wait(Some(left))?;
            while let Some(completion) = engine.ring.take() {
                if completion.operation == Operation::Receive(key) {
                    let received = completion.outcome()?;
                    return match (received, completion.buffer(), completion.more()) {
                        (1, Some(_), true) => Ok(()),
                        _ => Err(io::Error::new(
                            io::ErrorKind::Unsupported,
                            "no multishot receives into provided buffers",
                        )),
                    };
                }
            }
        }
    }
}

//! Waking an engine from other threads.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Wakes an engine from any thread.
#[derive(Clone, Debug)]
pub struct Waker(Arc<Bell>);

#[derive(Debug)]
struct Bell {
    /// It was rung and not yet heard.
    rung: AtomicBool,
    rope: UnixStream,
}

/// The engine's end.
#[derive(Debug)]
pub(crate) struct Alarm {
    bell: Waker,
    socket: UnixStream,
}

impl Waker {
    /// Makes [`Handler::woken`](crate::Handler::woken) be called soon: once for any number of
    /// calls before it, and never before the first of them.
    pub fn wake(&self) {
        if !self.0.rung.swap(true, Ordering::AcqRel) {
            // It cannot be full: it has one byte at most for each time it was heard.
            let _ = (&self.0.rope).write(&[1]);
        }
    }
}

impl Alarm {
    pub(crate) fn new() -> io::Result<Self> {
        let (rope, socket) = UnixStream::pair()?;
        rope.set_nonblocking(true)?;
        socket.set_nonblocking(true)?;
        let bell = Waker(Arc::new(Bell { rung: AtomicBool::new(false), rope }));
        Ok(Self { bell, socket })
    }

    pub(crate) fn waker(&self) -> Waker {
        self.bell.clone()
    }

    /// What becomes readable when it is rung.
    pub(crate) fn socket(&self) -> &UnixStream {
        &self.socket
    }

    /// Whether it was rung since the last call, without asking the system.
    pub(crate) fn is_rung(&self) -> bool {
        self.bell.0.rung.load(Ordering::Acquire)
    }

    /// Takes note that it was rung; what is posted from now on rings again.
    pub(crate) fn hear(&self) {
        let _ = (&self.socket).read(&mut [0; 64]);
        // Not a mere store: who found it rung and did not ring again has posted before that, and
        // must be seen to have when the caller looks for what was posted.
        self.bell.0.rung.swap(false, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_rings_once_until_it_is_heard() {
        let alarm = Alarm::new().unwrap();
        let waker = alarm.waker();
        (0..1000).for_each(|_| waker.wake());
        assert!(alarm.is_rung());
        assert_eq!(alarm.socket().read(&mut [0; 64]).unwrap(), 1);
        alarm.hear();
        assert!(!alarm.is_rung());
        waker.wake();
        assert_eq!(alarm.socket().read(&mut [0; 64]).unwrap(), 1);
    }
}

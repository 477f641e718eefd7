//! A non-blocking socket with a receive buffer, and the one place where a thread waits.

use std::io::{self, IoSlice, Read};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use nvmf_proto::pdu::{Batch, PayloadSource};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::gathered;
use crate::Deadline;
use crate::pdu_trace::{ConnectionTrace, Direction};
use crate::transport::{TakeApartError, TransportError};

/// Large enough for many commands or responses in one system call.
const RECEIVE_BUFFER: usize = 64 << 10;
/// The most pieces that one gathered send takes (IOV_MAX is 1024 on every system of note).
const MAX_SLICES: usize = 256;

/// Some systems count a poll's milliseconds with 31 bits.
const LONGEST_POLL: Duration = Duration::from_secs(3600);

/// From this many bytes of room on, payload skips the receive buffer.
const STRAIGHT: usize = 16 << 10;

/// How the last read ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Received {
    /// This many bytes came.
    Bytes(usize),
    /// Nothing is there yet.
    Nothing,
    /// The peer will send no more.
    End,
}

/// What to wait for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Wait {
    /// Bytes to read.
    Readable,
    /// Room to write. An end of the stream that was read already is no reason to wake up.
    Writable,
    /// Bytes to read, or room to write.
    Either,
}

#[derive(Debug)]
pub(super) struct Socket {
    stream: TcpStream,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    /// Since when the peer has taken nothing of what there was to send.
    blocked_since: Option<Instant>,
    /// Of a host's end: is shown every byte.
    pub(super) trace: Option<Box<ConnectionTrace>>,
}

impl Socket {
    pub(super) fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        gathered::prepare(&stream)?;
        Ok(Self {
            stream,
            buffer: vec![0; RECEIVE_BUFFER].into(),
            start: 0,
            end: 0,
            blocked_since: None,
            trace: None,
        })
    }

    pub(super) fn connect(addr: SocketAddr, deadline: Deadline) -> Result<Self, TransportError> {
        let left = deadline.remaining().ok_or(TransportError::TimedOut)?;
        let stream = TcpStream::connect_timeout(&addr, left).map_err(|e| match e.kind() {
            io::ErrorKind::TimedOut => TransportError::TimedOut,
            _ => e.into(),
        })?;
        Ok(Self::new(stream)?)
    }

    pub(super) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// The socket, the bytes received and not yet consumed, and the trace.
    pub(super) fn into_parts(self) -> (TcpStream, Vec<u8>, Option<Box<ConnectionTrace>>) {
        let left = self.buffered().to_vec();
        (self.stream, left, self.trace)
    }

    /// Bytes received and not yet consumed.
    pub(super) fn buffered(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Whether nothing that was received is kept on this side of the socket; `between_pdus` is what
    /// the protocol says of its own part.
    pub(super) fn check_nothing_kept(&self, between_pdus: bool) -> Result<(), TakeApartError> {
        match self.buffered().len() {
            0 if between_pdus => Ok(()),
            0 => Err(TakeApartError::Partial),
            bytes => Err(TakeApartError::Unread { bytes }),
        }
    }

    pub(super) fn consume(&mut self, n: usize) {
        self.start += n;
        if self.start >= self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Reads what is there into the buffer, which must have been consumed.
    pub(super) fn fill(&mut self) -> io::Result<Received> {
        let received = receive(&self.stream, &mut self.buffer)?;
        if let Received::Bytes(n) = received {
            (self.start, self.end) = (0, n);
            show_received(&mut self.trace, &self.buffer[..n]);
        }
        Ok(received)
    }

    /// Moves the next bytes into `room`: those in the buffer, else what the system has.
    ///
    /// Much is read straight into its place, little by way of the buffer, so that the headers
    /// behind it come with the same system call.
    pub(super) fn take_into(&mut self, room: &mut [u8]) -> io::Result<Received> {
        if self.buffered().is_empty() {
            if room.len() >= STRAIGHT {
                let received = receive(&self.stream, room)?;
                if let Received::Bytes(n) = received {
                    show_received(&mut self.trace, &room[..n]);
                }
                return Ok(received);
            }
            let received = self.fill()?;
            if !matches!(received, Received::Bytes(_)) {
                return Ok(received);
            }
        }
        let n = self.buffered().len().min(room.len());
        room[..n].copy_from_slice(&self.buffered()[..n]);
        self.consume(n);
        Ok(Received::Bytes(n))
    }

    /// Sends what the socket takes of `pending` and then of `batch`; `false` if it takes no more
    /// now.
    ///
    /// A connection that the peer has closed is an end to be read, not an error to be reported:
    /// the bytes are dropped, and the next read says why.
    pub(super) fn send(
        &mut self,
        pending: &mut Vec<u8>,
        batch: &mut Batch,
        source: &dyn PayloadSource,
    ) -> io::Result<bool> {
        while !pending.is_empty() || !batch.is_empty() {
            let mut slices = Vec::with_capacity(16);
            if !pending.is_empty() {
                slices.push(IoSlice::new(pending));
            }
            batch.io_slices(source, &mut slices, MAX_SLICES).map_err(io::Error::other)?;
            let n = match gathered::send(&self.stream, &slices) {
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    self.blocked_since.get_or_insert_with(Instant::now);
                    return Ok(false);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) if is_closed_by_peer(e.kind()) => {
                    pending.clear();
                    batch.advance(usize::MAX);
                    return Ok(true);
                }
                Err(e) => return Err(e),
            };
            self.blocked_since = None;
            if let Some(trace) = &mut self.trace {
                trace.saw(Direction::ToController, first(&slices, n));
            }
            let of_pending = n.min(pending.len());
            pending.drain(..of_pending);
            batch.advance(n - of_pending);
        }
        Ok(true)
    }

    /// How long the peer has taken nothing of what there was to send.
    pub(super) fn blocked_for(&self) -> Duration {
        self.blocked_since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Says that nothing more is sent, and drops what still comes until the peer has closed too or
    /// the deadline passes: a connection closed with bytes unread is reset, and that may take the
    /// last words of this end with it.
    pub(super) fn linger(&mut self, deadline: Deadline) {
        let _ = self.stream.shutdown(Shutdown::Write);
        while matches!(self.fill(), Ok(Received::Bytes(_) | Received::Nothing)) {
            if self.wait(Wait::Readable, deadline).is_err() {
                return;
            }
        }
    }

    /// Waits until the socket is ready or the deadline passes.
    pub(super) fn wait(&self, what: Wait, deadline: Deadline) -> Result<(), TransportError> {
        let flags = match what {
            Wait::Readable => PollFlags::IN,
            Wait::Writable => PollFlags::OUT,
            Wait::Either => PollFlags::IN | PollFlags::OUT,
        };
        loop {
            let left = deadline.remaining().ok_or(TransportError::TimedOut)?.min(LONGEST_POLL);
            let left = Timespec::try_from(left).map_err(io::Error::other)?;
            let mut fds = [PollFd::new(&self.stream, flags)];
            match poll(&mut fds, Some(&left)) {
                Ok(0) | Err(Errno::INTR) => {}
                Ok(_) => return Ok(()),
                Err(e) => return Err(io::Error::from(e).into()),
            }
        }
    }
}

fn is_closed_by_peer(kind: io::ErrorKind) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};
    matches!(kind, BrokenPipe | ConnectionReset | ConnectionAborted)
}

fn show_received(trace: &mut Option<Box<ConnectionTrace>>, bytes: &[u8]) {
    if let Some(trace) = trace {
        trace.saw(Direction::ToHost, [bytes]);
    }
}

/// The first `n` bytes of these pieces.
fn first<'a>(slices: &'a [IoSlice<'_>], mut n: usize) -> impl Iterator<Item = &'a [u8]> {
    slices.iter().map(move |slice| {
        let part = &slice[..slice.len().min(n)];
        n -= part.len();
        part
    })
}

fn receive(mut stream: &TcpStream, room: &mut [u8]) -> io::Result<Received> {
    loop {
        return match stream.read(room) {
            Ok(0) => Ok(Received::End),
            Ok(n) => Ok(Received::Bytes(n)),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(Received::Nothing),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            // Linux as host sends RST right behind its FIN: an end like any other.
            Err(e) if is_closed_by_peer(e.kind()) => Ok(Received::End),
            Err(e) => Err(e),
        };
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn what_was_received_is_kept_until_it_is_consumed() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let mut socket = Socket::new(listener.accept().unwrap().0).unwrap();
        assert_eq!(socket.check_nothing_kept(true), Ok(()));
        peer.write_all(&[0; 5]).unwrap();
        socket.wait(Wait::Readable, Deadline::after(Duration::from_secs(10))).unwrap();
        assert_eq!(socket.fill().unwrap(), Received::Bytes(5));
        assert_eq!(socket.check_nothing_kept(true), Err(TakeApartError::Unread { bytes: 5 }));
        socket.consume(5);
        assert_eq!(socket.check_nothing_kept(true), Ok(()));
        assert_eq!(socket.check_nothing_kept(false), Err(TakeApartError::Partial));
    }
}

//! Unix and TCP sockets alike.

use std::fmt;
use std::io::{self, IoSlice, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

/// Where clients connect.
pub struct Listener {
    // Is dropped before the socket is closed.
    _kept: Option<Box<dyn Send>>,
    socket: Listening,
}

#[derive(Debug)]
enum Listening {
    Unix(UnixListener),
    Tcp(TcpListener),
}

impl From<UnixListener> for Listener {
    /// The socket's file is the business of whoever made it; see [`Listener::keep`].
    fn from(listener: UnixListener) -> Self {
        Self { _kept: None, socket: Listening::Unix(listener) }
    }
}

impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Self {
        Self { _kept: None, socket: Listening::Tcp(listener) }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.socket {
            Listening::Unix(listener) => listener.as_fd(),
            Listening::Tcp(listener) => listener.as_fd(),
        }
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.socket.fmt(f)
    }
}

impl Listener {
    /// Drops this when clients are taken in no more, just before the socket is closed: what takes
    /// away the socket's file.
    #[must_use]
    pub fn keep(self, kept: impl Send + 'static) -> Self {
        Self { _kept: Some(Box::new(kept)), ..self }
    }

    /// Has [`accept`](Self::accept) not wait: a client may have gone before it is taken.
    pub(super) fn dont_wait(&self) -> io::Result<()> {
        match &self.socket {
            Listening::Unix(listener) => listener.set_nonblocking(true),
            Listening::Tcp(listener) => listener.set_nonblocking(true),
        }
    }

    /// The next client, in blocking mode.
    pub(super) fn accept(&self) -> io::Result<Socket> {
        match &self.socket {
            Listening::Unix(listener) => {
                let (stream, _) = listener.accept()?;
                stream.set_nonblocking(false)?;
                Ok(Socket { stream: Stream::Unix(stream), peer: "a local client".to_owned() })
            }
            Listening::Tcp(listener) => {
                let (stream, peer) = listener.accept()?;
                stream.set_nonblocking(false)?;
                stream.set_nodelay(true)?;
                // A client that is gone without a word is noticed some day.
                rustix::net::sockopt::set_socket_keepalive(&stream, true)?;
                Ok(Socket { stream: Stream::Tcp(stream), peer: peer.to_string() })
            }
        }
    }
}

/// A client's connection. It is read from and written to by reference, by several threads.
#[derive(Debug)]
pub(super) struct Socket {
    stream: Stream,
    peer: String,
}

#[derive(Debug)]
enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Socket {
    /// How long a read and a write may wait for the client.
    pub(super) fn set_patience(&self, patience: Duration) -> io::Result<()> {
        match &self.stream {
            Stream::Unix(stream) => {
                stream.set_read_timeout(Some(patience))?;
                stream.set_write_timeout(Some(patience))
            }
            Stream::Tcp(stream) => {
                stream.set_read_timeout(Some(patience))?;
                stream.set_write_timeout(Some(patience))
            }
        }
    }

    /// Ends what the client sends, or all of it; whoever waits for it wakes up. That it is gone
    /// already is no news.
    pub(super) fn shutdown(&self, how: Shutdown) {
        let _ = match &self.stream {
            Stream::Unix(stream) => stream.shutdown(how),
            Stream::Tcp(stream) => stream.shutdown(how),
        };
    }

    /// Writes all of both.
    pub(super) fn write_both(&self, head: &[u8], data: &[u8]) -> io::Result<()> {
        let mut slices = [IoSlice::new(head), IoSlice::new(data)];
        let mut slices = &mut slices[..];
        IoSlice::advance_slices(&mut slices, 0);
        let mut stream = self;
        while !slices.is_empty() {
            match stream.write_vectored(slices) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => IoSlice::advance_slices(&mut slices, written),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl fmt::Display for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.peer)
    }
}

impl Read for &Socket {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match &self.stream {
            Stream::Unix(stream) => (&mut &*stream).read(into),
            Stream::Tcp(stream) => (&mut &*stream).read(into),
        }
    }
}

impl Write for &Socket {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        match &self.stream {
            Stream::Unix(stream) => (&mut &*stream).write(from),
            Stream::Tcp(stream) => (&mut &*stream).write(from),
        }
    }

    fn write_vectored(&mut self, from: &[IoSlice<'_>]) -> io::Result<usize> {
        match &self.stream {
            Stream::Unix(stream) => (&mut &*stream).write_vectored(from),
            Stream::Tcp(stream) => (&mut &*stream).write_vectored(from),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

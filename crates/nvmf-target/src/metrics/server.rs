//! Hands out metrics over HTTP.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};

use super::connections::{Connection, Connections};
use super::http;

/// What is handed out: asked at each scrape, on one of the server's threads.
pub type Source = Arc<dyn Fn() -> String + Send + Sync>;

/// Connections at once.
const CONNECTIONS: usize = 16;

/// How long a request may take to come.
const READ: Duration = Duration::from_secs(5);

/// How long an answer may take to be taken.
const WRITE: Duration = Duration::from_secs(10);

/// How long to wait where the system cannot accept a connection: what it lacks may come back.
const BREATH: Duration = Duration::from_millis(100);

/// Serves `GET /metrics` and `GET /healthz`, from a thread of its own, until it is dropped.
///
/// It serves 16 connections at once, each for one request of at most 8 KiB, which has 5 s to come;
/// the answer has 10 s to be taken. Those that come on top wait for others to be done, and where none
/// is, the oldest that has not asked for anything is closed: who says nothing does not keep out those
/// who do.
///
/// There is no encryption and no access control: it belongs on a loopback address, or where only
/// those can reach it who may know what hosts there are and what they do.
pub struct MetricsServer {
    address: SocketAddr,
    /// Closed, it ends the thread.
    stop: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

impl fmt::Debug for MetricsServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MetricsServer").field("address", &self.address).finish_non_exhaustive()
    }
}

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MetricsError {
    /// The address cannot be listened on.
    #[error("cannot serve metrics at {address}: {source}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// There can be no thread.
    #[error("cannot start a thread to serve metrics: {0}")]
    Thread(#[source] io::Error),
}

impl MetricsServer {
    /// Serves what `source` gives at this address; port 0 is one that is free.
    ///
    /// # Errors
    ///
    /// [`MetricsError`].
    pub fn start(address: SocketAddr, source: Source) -> Result<Self, MetricsError> {
        let bound = |source| MetricsError::Bind { address, source };
        let listener = TcpListener::bind(address).map_err(bound)?;
        listener.set_nonblocking(true).map_err(bound)?;
        let address = listener.local_addr().map_err(bound)?;
        let (stop, stopped) = UnixStream::pair().map_err(MetricsError::Thread)?;
        let thread = thread::Builder::new()
            .name("nvmf-metrics".to_owned())
            .spawn(move || serve(&listener, &stopped, &source))
            .map_err(MetricsError::Thread)?;
        Ok(Self { address, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for MetricsServer {
    /// Ends it, and what it was answering.
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that serves metrics panicked");
        }
    }
}

/// Accepts connections until the other end of `stopped` is gone.
fn serve(listener: &TcpListener, stopped: &UnixStream, source: &Source) {
    let connections = Connections::new(CONNECTIONS);
    let mut threads: Vec<JoinHandle<()>> = Vec::new();
    while wait(listener, stopped) {
        threads.retain(|thread| !thread.is_finished());
        let accepted = listener.accept().and_then(|(socket, _)| {
            // Elsewhere than on Linux it inherits that the listener does not wait.
            socket.set_nonblocking(false)?;
            spawn(connections.admit(socket), source)
        });
        match accepted {
            Ok(thread) => threads.push(thread),
            Err(error) if is_passing(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "a scrape cannot be served");
                thread::sleep(BREATH);
            }
        }
    }
    connections.end_all();
    for thread in threads {
        if thread.join().is_err() {
            tracing::error!("a thread that served a scrape panicked");
        }
    }
}

/// Waits for a connection; false if there is to be none any more.
fn wait(listener: &TcpListener, stopped: &UnixStream) -> bool {
    let mut fds = [PollFd::new(listener, PollFlags::IN), PollFd::new(stopped, PollFlags::IN)];
    match poll(&mut fds, None) {
        Ok(_) => fds[1].revents().is_empty(),
        Err(rustix::io::Errno::INTR) => true,
        Err(error) => {
            tracing::error!(%error, "metrics are not served any more");
            false
        }
    }
}

/// The peer changed its mind, or the wait was interrupted.
fn is_passing(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, Interrupted, WouldBlock};
    matches!(error.kind(), ConnectionAborted | Interrupted | WouldBlock)
}

fn spawn(connection: Connection, source: &Source) -> io::Result<JoinHandle<()>> {
    let source = Arc::clone(source);
    thread::Builder::new().name("nvmf-scrape".to_owned()).spawn(move || {
        if let Err(error) = scrape(&connection, &source) {
            tracing::debug!(%error, "a scrape was not served");
        }
    })
}

fn scrape(connection: &Connection, source: &Source) -> io::Result<()> {
    let socket = connection.socket();
    let Some(request) = http::read(socket, Instant::now() + READ)? else { return Ok(()) };
    connection.asked();
    http::answer(socket, request, || source(), Instant::now() + WRITE)
}

#[cfg(test)]
mod tests;

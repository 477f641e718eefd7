//! The server: clients come, are served, and leave.

mod budget;
mod connection;
mod incoming;
mod socket;

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use crate::export::Export;

pub use socket::Listener;
use socket::Socket;

/// How clients are served.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// Clients' connections at once; those that come on top are closed.
    pub connections: usize,
    /// Requests of one connection that are executed at once, a thread each.
    pub requests: usize,
    /// The most data of one request, in bytes. Clients that do not ask expect 32 MiB.
    pub max_payload: u32,
    /// Data that the requests of one connection hold together, in bytes; as much as one request may
    /// have in any case.
    pub memory: usize,
    /// How long a handshake may take.
    pub handshake: Duration,
    /// How long a client may be silent within a message, or not take what is sent to it.
    pub stall: Duration,
    /// How long requests under way are waited for when the server stops, and then the last flush.
    pub drain: Duration,
}

impl Default for Options {
    /// 16 connections of 16 requests and 64 MiB each; 32 MiB for one request. 10 seconds for a
    /// handshake, 30 for a stall, 10 to end.
    fn default() -> Self {
        Self {
            connections: 16,
            requests: 16,
            max_payload: 32 << 20,
            memory: 64 << 20,
            handshake: Duration::from_secs(10),
            stall: Duration::from_secs(30),
            drain: Duration::from_secs(10),
        }
    }
}

/// Serving failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// Clients cannot be waited for.
    #[error("cannot wait for NBD clients: {0}")]
    Wait(#[source] io::Error),
    /// What clients wrote may not be on stable storage.
    #[error("the device could not be flushed in the end: {0}")]
    Flush(#[source] io::Error),
}

/// A server of one export.
#[derive(Debug)]
pub struct Server {
    listener: Listener,
    shared: Arc<Shared>,
    /// Its other end is the handles'.
    stopped: UnixStream,
}

impl Server {
    /// A server that is about to run. Clients may connect already, and wait.
    ///
    /// # Errors
    ///
    /// [`ServeError::Wait`], if the system has no sockets left.
    pub fn new(
        listener: impl Into<Listener>,
        export: Export,
        options: Options,
    ) -> Result<Self, ServeError> {
        let listener = listener.into();
        listener.dont_wait().map_err(ServeError::Wait)?;
        let (stopped, stop) = UnixStream::pair().map_err(ServeError::Wait)?;
        let shared = Shared {
            export,
            options,
            clients: Mutex::default(),
            left: Condvar::new(),
            stopping: AtomicBool::new(false),
            stop,
        };
        Ok(Self { listener, shared: Arc::new(shared), stopped })
    }

    /// What stops it.
    pub fn handle(&self) -> Handle {
        Handle(Arc::clone(&self.shared))
    }

    /// Serves clients until a [`Handle`] stops it: then it waits for the requests under way, answers
    /// what else has come with `NBD_ESHUTDOWN`, closes the connections, and flushes the device.
    ///
    /// # Errors
    ///
    /// [`ServeError`]. No client is served any more, then.
    pub fn run(self) -> Result<(), ServeError> {
        let Self { listener, shared, stopped } = self;
        let waited = accept(&listener, &shared, &stopped);
        shared.stopping.store(true, Ordering::Relaxed);
        drop(listener);
        shared.drain();
        let flushed = shared.flush();
        waited.map_err(ServeError::Wait)?;
        flushed.map_err(ServeError::Flush)
    }
}

/// Stops a [`Server`].
#[derive(Clone, Debug)]
pub struct Handle(Arc<Shared>);

impl Handle {
    /// Has [`Server::run`] come to its end. Said again, it does nothing.
    pub fn stop(&self) {
        if !self.0.stopping.swap(true, Ordering::Relaxed) {
            // That the server is gone already is no news.
            let _ = (&self.0.stop).write_all(&[0]);
        }
    }
}

/// What connections, the server and its handles share.
#[derive(Debug)]
struct Shared {
    export: Export,
    options: Options,
    clients: Mutex<Clients>,
    /// A client has left.
    left: Condvar,
    stopping: AtomicBool,
    /// What is written here wakes the server.
    stop: UnixStream,
}

/// Those that are connected, by number.
#[derive(Debug, Default)]
struct Clients {
    sockets: HashMap<u64, Arc<Socket>>,
    came: u64,
}

impl Shared {
    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    fn clients(&self) -> MutexGuard<'_, Clients> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends all connections: in order, and after a while in any case.
    fn drain(&self) {
        for (how, patience) in
            [(Shutdown::Read, self.options.drain), (Shutdown::Both, Duration::from_secs(1))]
        {
            for socket in self.clients().sockets.values() {
                socket.shutdown(how);
            }
            if self.wait_until_alone(patience) {
                return;
            }
        }
        tracing::warn!("requests are still under way, and are waited for no longer");
    }

    /// Makes durable what clients wrote: on a thread of its own, for a device may take any time.
    fn flush(&self) -> io::Result<()> {
        if self.export.is_read_only() {
            return Ok(());
        }
        let (done, flushed) = mpsc::channel();
        let device = Arc::clone(self.export.device());
        let flush = move || {
            // Whoever waited for too long does not take it any more.
            let _ = done.send(device.flush());
        };
        thread::Builder::new().name("nbd-flush".into()).spawn(flush)?;
        let patience = self.options.drain;
        flushed.recv_timeout(patience).unwrap_or_else(|error| match error {
            RecvTimeoutError::Timeout => {
                Err(io::Error::new(io::ErrorKind::TimedOut, format!("not done in {patience:?}")))
            }
            RecvTimeoutError::Disconnected => Err(io::Error::other("the device panicked")),
        })
    }

    fn wait_until_alone(&self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        let mut clients = self.clients();
        while !clients.sockets.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.left.wait_timeout(clients, left);
            (clients, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
        true
    }
}

/// Takes clients in until the server is to stop.
fn accept(listener: &Listener, shared: &Arc<Shared>, mut stopped: &UnixStream) -> io::Result<()> {
    /// How long to wait where the system has nothing left, for others to give something back.
    const PAUSE: Duration = Duration::from_millis(100);
    loop {
        let mut fds = [PollFd::new(listener, PollFlags::IN), PollFd::new(&stopped, PollFlags::IN)];
        match poll(&mut fds, None) {
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
        let [client, stop] = fds.map(|fd| !fd.revents().is_empty());
        if stop {
            // Whatever it is, it is the end.
            let _ = stopped.read(&mut [0]);
            return Ok(());
        }
        if !client {
            continue;
        }
        match listener.accept() {
            Ok(socket) => admit(socket, shared),
            // It has gone again.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => {
                tracing::warn!(%error, "an NBD client cannot be taken");
                thread::sleep(PAUSE);
            }
        }
    }
}

/// Serves a client on a thread of its own, if there is room for it.
fn admit(socket: Socket, shared: &Arc<Shared>) {
    let socket = Arc::new(socket);
    let mut clients = shared.clients();
    if clients.sockets.len() >= shared.options.connections {
        tracing::warn!(client = %socket, "there are too many NBD clients; this one is sent away");
        return;
    }
    clients.came += 1;
    let number = clients.came;
    clients.sockets.insert(number, Arc::clone(&socket));
    drop(clients);
    let seat = Seat { shared: Arc::clone(shared), number };
    let serve = move || match connection::serve(&socket, &seat.shared) {
        Ok(()) => tracing::info!(client = %socket, "NBD client left"),
        Err(error) => tracing::warn!(client = %socket, %error, "an NBD connection ended"),
    };
    if let Err(error) = thread::Builder::new().name("nbd-client".into()).spawn(serve) {
        tracing::warn!(%error, "an NBD client cannot be served");
    }
}

/// A client's place, until this is dropped.
#[derive(Debug)]
struct Seat {
    shared: Arc<Shared>,
    number: u64,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let socket = self.shared.clients().sockets.remove(&self.number);
        if let Some(socket) = socket {
            socket.shutdown(Shutdown::Both);
        }
        self.shared.left.notify_all();
    }
}

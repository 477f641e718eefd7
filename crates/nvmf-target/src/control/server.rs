//! The end of the control socket that belongs to the target.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nvmf_engine::{SocketFile, SocketFileError};

use super::execute::Executor;
use super::{MAX_LINE, Reply};
use crate::manage::{Applied, ManageError, Manager};

/// Clients at once.
const MOST: usize = 16;
/// How long a client may take to take an answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a client may say nothing.
const SILENCE: Duration = Duration::from_secs(300);

/// Why there is no control socket.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// A target uses this one.
    #[error("{} is the control socket of a target that runs; choose another", path.display())]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// It cannot be made.
    #[error("cannot make the control socket {}: {source}", path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// What is done to a target at its owner's request, be it by the socket or by a signal.
#[derive(Debug, Clone)]
pub struct Control {
    executor: Arc<Executor>,
}

impl Control {
    /// Control of the target of this manager, which was started with this file, if any.
    pub fn new(manager: Arc<Manager>, file: Option<PathBuf>) -> Self {
        let started = Instant::now();
        Self { executor: Arc::new(Executor { manager, file, started }) }
    }

    /// Reads the configuration file again and applies what is different.
    ///
    /// # Errors
    ///
    /// As [`Manager::reload`], and if there is no file.
    pub fn reload(&self) -> Result<Applied, ManageError> {
        self.executor.reload()
    }
}

/// A control socket that is had, and on which nobody is answered yet. Who connects waits.
///
/// With it a target makes sure that no other one is controlled there, before it touches anything
/// that the other one may be using.
#[derive(Debug)]
pub struct Listener {
    listener: UnixListener,
    file: SocketFile,
}

impl Listener {
    /// Listens at `path`, where a socket that nobody listens on may be left from before.
    ///
    /// # Errors
    ///
    /// [`ServerError`].
    pub fn bind(path: &Path) -> Result<Self, ServerError> {
        let (listener, file) = SocketFile::listen(path).map_err(|error| match error {
            SocketFileError::InUse { path } => ServerError::InUse { path },
            SocketFileError::Io { path, source } => failed(&path, source),
            other => failed(path, io::Error::other(other)),
        })?;
        Ok(Self { listener, file })
    }

    /// Answers from now on.
    ///
    /// # Errors
    ///
    /// [`ServerError::Io`] if there can be no thread for it.
    pub fn serve(self, control: Control) -> Result<Server, ServerError> {
        let Self { listener, file } = self;
        let work = move || accept(&listener, &control);
        thread::Builder::new()
            .name("nvmf-control".into())
            .spawn(work)
            .map_err(|source| failed(file.path(), source))?;
        Ok(Server { file })
    }
}

/// A control socket that is listened on; it is taken away when this is dropped.
#[derive(Debug)]
pub struct Server {
    file: SocketFile,
}

impl Server {
    /// [Listens](Listener::bind) and answers at once.
    ///
    /// # Errors
    ///
    /// [`ServerError`].
    pub fn start(path: &Path, control: Control) -> Result<Self, ServerError> {
        Listener::bind(path)?.serve(control)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.file.path()
    }
}

fn failed(path: &Path, source: io::Error) -> ServerError {
    ServerError::Io { path: path.to_owned(), source }
}

fn accept(listener: &UnixListener, control: &Control) {
    let clients = Arc::new(AtomicUsize::new(0));
    for stream in listener.incoming() {
        let stream = match stream {
            Ok(stream) => stream,
            Err(error) => {
                tracing::warn!(%error, "a control connection cannot be taken");
                thread::sleep(Duration::from_millis(100));
                continue;
            }
        };
        let seat = Seat::take(&clients);
        let executor = Arc::clone(&control.executor);
        let serve = move || {
            if let Err(error) = serve(&stream, seat.as_ref(), &executor) {
                tracing::debug!(%error, "control connection ended");
            }
        };
        if let Err(error) = thread::Builder::new().name("nvmf-control".into()).spawn(serve) {
            tracing::warn!(%error, "a control connection cannot be served");
        }
    }
}

/// One of the places for clients.
struct Seat(Arc<AtomicUsize>);

impl Seat {
    /// `None` if all are taken.
    fn take(clients: &Arc<AtomicUsize>) -> Option<Self> {
        let seat = Self(Arc::clone(clients));
        (clients.fetch_add(1, Ordering::Relaxed) < MOST).then_some(seat)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Answers a client, line by line.
fn serve(stream: &UnixStream, seat: Option<&Seat>, executor: &Executor) -> io::Result<()> {
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_read_timeout(Some(SILENCE))?;
    if seat.is_none() {
        return answer(stream, &refusal("there are too many control connections; try again"));
    }
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = Vec::new();
        let limit = MAX_LINE as u64 + 1;
        if reader.by_ref().take(limit).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        if line.len() > MAX_LINE {
            return answer(stream, &refusal("a request of more than 4 MiB"));
        }
        let reply = match serde_json::from_slice(&line) {
            Ok(request) => executor.execute(request),
            Err(error) => refusal(&format!("not a request: {error}; see docs/control.md")),
        };
        answer(stream, &reply)?;
    }
}

fn refusal(message: &str) -> Reply {
    Reply::Error { message: message.to_owned() }
}

fn answer(mut stream: &UnixStream, reply: &Reply) -> io::Result<()> {
    let mut line = serde_json::to_vec(reply)?;
    line.push(b'\n');
    stream.write_all(&line)
}

//! The other end of the control socket.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Reply, Request};

/// How long a target may take to do what is asked: it waits for commands under way.
const PATIENCE: Duration = Duration::from_secs(60);

/// The longest reply that is taken, in bytes: what a target says of itself grows with what it has.
const MAX_REPLY: u64 = 64 << 20;

/// Why a target was not told, or does not do, what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// Nobody listens there.
    #[error("no target listens on the control socket {}: {source}; start one with `nvmf serve --control`", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The connection broke.
    #[error("the control connection broke: {0}")]
    Io(#[from] io::Error),
    /// What came is no reply.
    #[error("not a reply: {0}")]
    Format(#[from] serde_json::Error),
    /// The target refuses.
    #[error("{0}")]
    Refused(String),
}

/// A connection to a target's control socket.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<UnixStream>,
}

impl Client {
    /// Connects to the socket at `path`.
    ///
    /// # Errors
    ///
    /// [`ClientError::Connect`].
    pub fn connect(path: &Path) -> Result<Self, ClientError> {
        let failed = |source| ClientError::Connect { path: path.to_owned(), source };
        let stream = UnixStream::connect(path).map_err(failed)?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
        stream.set_write_timeout(Some(PATIENCE)).map_err(failed)?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// Asks, and waits for the reply.
    ///
    /// # Errors
    ///
    /// [`ClientError::Refused`] with the target's words; anything else if there is no reply.
    pub fn call(&mut self, request: &Request) -> Result<Reply, ClientError> {
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        self.stream.get_mut().write_all(&line).map_err(plainly)?;
        let mut line = Vec::new();
        if self.stream.by_ref().take(MAX_REPLY).read_until(b'\n', &mut line).map_err(plainly)? == 0
        {
            let ended = io::Error::new(io::ErrorKind::UnexpectedEof, "the target ended it");
            return Err(ended.into());
        }
        match serde_json::from_slice(&line)? {
            Reply::Error { message } => Err(ClientError::Refused(message)),
            reply => Ok(reply),
        }
    }
}

/// What a timeout of a socket is called says nothing to anybody.
fn plainly(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::WouldBlock => {
            io::Error::new(io::ErrorKind::TimedOut, "the target does not answer in time")
        }
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_reply_may_be_longer_than_a_request() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let message = "m".repeat(5 << 20);
        let reply = serde_json::to_string(&Reply::Error { message: message.clone() }).unwrap();
        let answering = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(format!("{reply}\n").as_bytes())
        });
        let answer = Client::connect(&path).unwrap().call(&Request::Status {});
        assert!(matches!(answer, Err(ClientError::Refused(said)) if said == message));
        answering.join().unwrap().unwrap();
    }

    #[test]
    fn a_target_that_is_silent_or_gone_is_said_to_be() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let mut client = Client::connect(&path).unwrap();
        client.stream.get_ref().set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let error = client.call(&Request::Status {}).unwrap_err().to_string();
        assert!(error.ends_with("broke: the target does not answer in time"), "{error}");
        drop(listener.accept().unwrap());
        let error = client.call(&Request::Status {}).unwrap_err().to_string();
        assert!(error.contains("control connection broke"), "{error}");
    }
}

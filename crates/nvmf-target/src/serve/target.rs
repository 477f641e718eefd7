//! A target: subsystems, and where they listen.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use nvme_spec::{Nqn, Status};
use nvmf::Deadline;
use nvmf::transport::ControllerTransport;
use nvmf_proto::tcp::ControllerConfig;
use rustix::event::{PollFd, PollFlags, poll};

use super::connections::{Connection, Connections, StopFlag};
use super::{DRAIN, Origin, Shared, serve, serve_tcp};
use crate::subsystem::Subsystem;

/// Collects what a [`Target`] is made of.
#[derive(Debug)]
#[must_use]
pub struct TargetBuilder {
    subsystems: Vec<Arc<Subsystem>>,
    listen: Vec<SocketAddr>,
    tcp: ControllerConfig,
    flow_control: bool,
    connect_timeout: Duration,
    stop_timeout: Duration,
    max_connections: usize,
    max_half_open: usize,
}

/// Why there is no target, or why it did not end well.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {source}{}", hint(source))]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// Two subsystems have the same name.
    #[error("there are two subsystems {nqn}")]
    SameName {
        /// The name.
        nqn: Box<Nqn>,
    },
    /// The system fails at what listening needs besides.
    #[error("cannot wait for connections: {0}")]
    Wait(#[source] io::Error),
    /// At the end, what was written could not be made durable.
    #[error("data of {nqn} may be lost: flushing it failed: {status}")]
    Flush {
        /// The subsystem.
        nqn: Box<Nqn>,
        /// How.
        status: Status,
    },
    /// At the end, connections were still executing commands and were left behind.
    #[error("{0} connections did not end in time")]
    Stuck(usize),
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "; end the program that does, or choose another port",
        io::ErrorKind::PermissionDenied => "; ports below 1024 need privileges",
        io::ErrorKind::AddrNotAvailable => "; it is not an address of this machine",
        _ => "",
    }
}

impl TargetBuilder {
    /// Adds a subsystem.
    pub fn subsystem(mut self, subsystem: Arc<Subsystem>) -> Self {
        self.subsystems.push(subsystem);
        self
    }

    /// Listens on this address, too; port 0 is one that is free.
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.listen.push(address);
        self
    }

    /// Permits header digests (they are on only if the host asks for them) or not; permitted if
    /// not said.
    pub fn header_digest(mut self, permit: bool) -> Self {
        self.tcp.header_digest = permit;
        self
    }

    /// Permits data digests, likewise.
    pub fn data_digest(mut self, permit: bool) -> Self {
        self.tcp.data_digest = permit;
        self
    }

    /// Everything that can be said about the TCP transport; replaces what the digest methods said.
    pub fn tcp(mut self, config: ControllerConfig) -> Self {
        self.tcp = config;
        self
    }

    /// Keeps submission queue flow control on even for hosts that would do without; off if not
    /// said.
    pub fn flow_control(mut self, keep: bool) -> Self {
        self.flow_control = keep;
        self
    }

    /// How long a new connection may take until its Connect has come; 10 s if not said.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long commands that are under way may take when the target stops; 10 s if not said.
    pub fn stop_timeout(mut self, timeout: Duration) -> Self {
        self.stop_timeout = timeout;
        self
    }

    /// The most connections at once, each of which is a thread; 1024 if not said. Those that come
    /// on top are closed.
    pub fn max_connections(mut self, connections: usize) -> Self {
        self.max_connections = connections.max(1);
        self
    }

    /// The most connections that have not sent their Connect yet; 64 if not said.
    pub fn max_half_open(mut self, connections: usize) -> Self {
        self.max_half_open = connections.max(1);
        self
    }

    /// Opens the listeners.
    ///
    /// # Errors
    ///
    /// [`TargetError::Bind`], [`TargetError::SameName`], [`TargetError::Wait`].
    pub fn bind(self) -> Result<Target, TargetError> {
        for (i, subsystem) in self.subsystems.iter().enumerate() {
            if self.subsystems[..i].iter().any(|other| other.nqn() == subsystem.nqn()) {
                return Err(TargetError::SameName { nqn: Box::new(subsystem.nqn().clone()) });
            }
        }
        let mut listeners = Vec::new();
        let mut listen = Vec::new();
        for address in self.listen {
            let bound = |source| TargetError::Bind { address, source };
            let listener = TcpListener::bind(address).map_err(bound)?;
            listener.set_nonblocking(true).map_err(bound)?;
            listen.push(listener.local_addr().map_err(bound)?);
            listeners.push(listener);
        }
        let (waker, woken) = UnixStream::pair().map_err(TargetError::Wait)?;
        waker.set_nonblocking(true).map_err(TargetError::Wait)?;
        let shared = Arc::new(Shared {
            subsystems: self.subsystems,
            discovery: Subsystem::discovery(),
            listen,
            tcp: self.tcp,
            flow_control: self.flow_control,
            connect_timeout: self.connect_timeout,
            connections: Connections::new(self.max_connections, self.max_half_open),
            stop: StopFlag::default(),
        });
        let handle = Handle { shared, waker: Arc::new(waker) };
        Ok(Target { handle, listeners, woken, stop_timeout: self.stop_timeout })
    }
}

/// A target whose listeners are open: [`run`](Target::run) serves.
///
/// ```
/// use nvme_spec::{HostId, Nqn};
/// use nvmf::host::{Association, HostOptions};
/// use nvmf_target::{Subsystem, Target};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let nqn = Nqn::parse_strict("nqn.2026-01.org.example:disks")?;
/// let subsystem = Subsystem::builder(nqn.clone()).open(&"mem:1M".parse()?)?.build()?;
/// let target =
///     Target::builder().subsystem(subsystem).listen("127.0.0.1:0".parse()?).bind()?;
/// let (address, handle) = (target.local_addrs()[0], target.handle());
/// let running = std::thread::spawn(|| target.run());
///
/// let host = Nqn::parse_strict("nqn.2026-01.org.example:host")?;
/// let options = HostOptions::new(host, HostId([1; 16]));
/// let mut association = Association::connect_tcp(address, &nqn, options)?;
/// assert_eq!(association.active_namespaces()?, [1]);
/// association.shutdown(vec![])?;
///
/// handle.shutdown();
/// running.join().expect("the target does not panic")?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Target {
    handle: Handle,
    listeners: Vec<TcpListener>,
    woken: UnixStream,
    stop_timeout: Duration,
}

/// A target as others hold it while it runs.
#[derive(Clone, Debug)]
pub struct Handle {
    shared: Arc<Shared>,
    waker: Arc<UnixStream>,
}

impl Target {
    /// A target without subsystems, listening nowhere yet.
    pub fn builder() -> TargetBuilder {
        TargetBuilder {
            subsystems: Vec::new(),
            listen: Vec::new(),
            tcp: ControllerConfig::default(),
            flow_control: false,
            connect_timeout: Duration::from_secs(10),
            stop_timeout: Duration::from_secs(10),
            max_connections: 1024,
            max_half_open: 64,
        }
    }

    /// Where it listens, in the order in which it was told to; with the ports that port 0 became.
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.handle.shared.listen
    }

    /// A handle, to stop it or to bring it connections.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Serves until [`Handle::shutdown`]: then takes no more connections, lets the commands under
    /// way finish, and makes everything durable.
    ///
    /// # Errors
    ///
    /// [`TargetError::Wait`] if the system fails; [`TargetError::Stuck`] and
    /// [`TargetError::Flush`] if it did not end as it should.
    pub fn run(self) -> Result<(), TargetError> {
        let waited = self.accept_until_woken();
        let Self { handle, listeners, stop_timeout, .. } = self;
        handle.shared.stop.raise();
        drop(listeners);
        let ended = handle.end_connections(stop_timeout);
        // Whatever went wrong, what was acknowledged is made durable.
        let mut flushed = Ok(());
        for subsystem in &handle.shared.subsystems {
            let nqn = Box::new(subsystem.nqn().clone());
            let result = subsystem.flush().map_err(|status| TargetError::Flush { nqn, status });
            flushed = flushed.and(result);
        }
        waited.and(flushed).and(ended)
    }

    fn accept_until_woken(&self) -> Result<(), TargetError> {
        loop {
            let mut fds: Vec<PollFd<'_>> = std::iter::once(PollFd::new(&self.woken, PollFlags::IN))
                .chain(self.listeners.iter().map(|l| PollFd::new(l, PollFlags::IN)))
                .collect();
            match poll(&mut fds, None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(TargetError::Wait(error.into())),
            }
            let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
            if self.handle.shared.stop.is_raised() {
                return Ok(());
            }
            if ready[0] {
                // Nobody writes but to stop; whatever came is taken away.
                let _ = (&self.woken).read(&mut [0; 16]);
            }
            for (listener, _) in self.listeners.iter().zip(&ready[1..]).filter(|(_, ready)| **ready)
            {
                self.accept(listener);
            }
        }
    }

    /// Takes the connections that wait at a listener.
    fn accept(&self, listener: &TcpListener) {
        loop {
            match listener.accept() {
                Ok((stream, peer)) => self.handle.start(stream, peer),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    // Mostly too many open files: it goes when connections go.
                    tracing::error!(%error, "cannot accept a connection");
                    thread::sleep(Duration::from_millis(100));
                    return;
                }
            }
        }
    }
}

impl Handle {
    /// Asks the target to stop; [`Target::run`] returns once it has.
    pub fn shutdown(&self) {
        self.shared.stop.raise();
        // Full means that it has been woken already.
        let _ = (&*self.waker).write(&[0]);
    }

    /// How many connections there are.
    pub fn connections(&self) -> usize {
        self.shared.connections.count()
    }

    /// Serves a connection over any transport, such as the in-process one, on a thread of its own.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::ConnectionRefused`] if the target stops or has too many connections;
    /// whatever keeps a thread from starting.
    pub fn serve(&self, transport: Box<dyn ControllerTransport>) -> io::Result<()> {
        let connection = self.admit(None).ok_or(io::ErrorKind::ConnectionRefused)?;
        let shared = Arc::clone(&self.shared);
        let origin = Origin { peer: "in-process".into(), local: None };
        spawn(move || {
            let deadline = Deadline::after(shared.connect_timeout);
            serve(&shared, connection, transport, &origin, deadline);
        })
    }

    /// Starts a thread for a connection that was accepted.
    fn start(&self, stream: TcpStream, peer: SocketAddr) {
        let ending = match stream.try_clone() {
            Ok(ending) => ending,
            Err(error) => {
                tracing::error!(%peer, %error, "connection dropped");
                return;
            }
        };
        let Some(connection) = self.admit(Some(ending)) else {
            tracing::warn!(%peer, "connection dropped: there are too many");
            return;
        };
        let shared = Arc::clone(&self.shared);
        if let Err(error) = spawn(move || serve_tcp(&shared, connection, stream, peer)) {
            tracing::error!(%peer, %error, "connection dropped: no thread for it");
        }
    }

    fn admit(&self, socket: Option<TcpStream>) -> Option<Connection> {
        if self.shared.stop.is_raised() {
            return None;
        }
        self.shared.connections.admit(socket)
    }

    /// Waits for the connections to end by themselves, then ends them.
    fn end_connections(&self, patience: Duration) -> Result<(), TargetError> {
        let connections = &self.shared.connections;
        connections.close_half_open();
        if connections.wait_until_none(patience) {
            return Ok(());
        }
        tracing::warn!(connections = connections.count(), "closing connections");
        connections.close_all();
        if connections.wait_until_none(DRAIN) {
            return Ok(());
        }
        Err(TargetError::Stuck(connections.count()))
    }
}

/// Threads are not joined: each keeps its [`Connection`], whose end is waited for, and a panic in
/// one ends that connection alone.
fn spawn(work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name("nvmf-connection".into()).spawn(work).map(drop)
}

//! A target: subsystems, and where they listen.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nvme_spec::{Nqn, Status};
use nvmf::Deadline;
use nvmf::transport::ControllerTransport;
use nvmf_engine::{EngineChoice, EngineKind, Jobs, Pace, Sender, Unavailable};
use nvmf_proto::tcp::ControllerConfig;
use nvmf_storage::Access;

use super::connections::{Connections, StopFlag};
use super::core::{Core, Cores, Post};
use super::{DRAIN, Origin, Shared, blocking};
use crate::statistics::{Events, TargetReport};
use crate::subsystem::{Namespace, Subsystem};

/// Threads for slow storage, at most, whatever the number of cores.
const JOBS: usize = 32;

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
    engine: EngineChoice,
    cores: usize,
    pins: Vec<usize>,
    spin: Option<Duration>,
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
    /// The event loop that was asked for does not work here.
    #[error(transparent)]
    Engine(#[from] Unavailable),
    /// A core cannot be started, or its event loop failed.
    #[error("core {core} cannot go on: {source}")]
    Core {
        /// Which, from 0.
        core: usize,
        /// What the system says.
        source: io::Error,
    },
    /// A thread cannot be pinned to a CPU.
    #[error(
        "cannot pin core {core} to CPU {cpu}: {source}; is it one of this machine's, and permitted to this process?"
    )]
    Pin {
        /// Which core, from 0.
        core: usize,
        /// Which CPU.
        cpu: usize,
        /// What the system says.
        source: io::Error,
    },
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

/// Listens. Waits up to a second for an address that is in use: by a target that was killed, whose
/// io_uring the kernel takes apart in its own time, and its listening sockets with it.
fn listen_at(address: SocketAddr) -> io::Result<TcpListener> {
    const TRIES: u32 = 20;
    for _ in 0..TRIES {
        match TcpListener::bind(address) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                thread::sleep(Duration::from_millis(50));
            }
            result => return result,
        }
    }
    TcpListener::bind(address)
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

    /// Which event loop to use. If not said: io_uring where there are files and it works, else
    /// readiness.
    pub fn engine(mut self, engine: EngineChoice) -> Self {
        self.engine = engine;
        self
    }

    /// Over how many cores, a thread each, connections are spread; as many as this process may use
    /// if not said.
    pub fn cores(mut self, cores: usize) -> Self {
        self.cores = cores.max(1);
        self
    }

    /// Keeps each core's thread on a CPU of its own: the first on the first of these, and so on; as
    /// many cores as there are CPUs here.
    pub fn pin(mut self, cpus: Vec<usize>) -> Self {
        if !cpus.is_empty() {
            self.cores = cpus.len();
        }
        self.pins = cpus;
        self
    }

    /// How long a core looks for work, after some, before it sleeps; see [`Pace`].
    pub fn spin(mut self, spin: Duration) -> Self {
        self.spin = Some(spin);
        self
    }

    /// The most connections at once; 1024 if not said. Those that come on top are closed.
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
    /// [`TargetError::Bind`], [`TargetError::SameName`], [`TargetError::Engine`].
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
            let listener = listen_at(address).map_err(bound)?;
            listener.set_nonblocking(true).map_err(bound)?;
            listen.push(listener.local_addr().map_err(bound)?);
            listeners.push(listener);
        }
        let file = |ns: &Namespace| matches!(ns.backend().access(), Access::File(_));
        let files = self.subsystems.iter().any(|s| s.namespaces().iter().any(file));
        let engine = if files { self.engine } else { self.engine.for_sockets_alone() };
        let engine = EngineKind::probe(engine)?;
        let shared = Arc::new(Shared {
            subsystems: self.subsystems,
            discovery: Subsystem::discovery(),
            listen,
            tcp: self.tcp,
            flow_control: self.flow_control,
            connect_timeout: self.connect_timeout,
            connections: Connections::new(self.max_connections, self.max_half_open),
            stop: StopFlag::default(),
            events: Events::default(),
            jobs: Jobs::new(JOBS),
        });
        Ok(Target {
            handle: Handle { shared },
            listeners,
            stop_timeout: self.stop_timeout,
            engine,
            cores: self.cores,
            pins: self.pins,
            pace: self.spin.map_or_else(Pace::default, Pace::new),
        })
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
    stop_timeout: Duration,
    engine: EngineKind,
    cores: usize,
    pins: Vec<usize>,
    pace: Pace,
}

/// A target as others hold it while it runs.
#[derive(Clone, Debug)]
pub struct Handle {
    shared: Arc<Shared>,
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
            engine: EngineChoice::Auto,
            cores: thread::available_parallelism().map_or(1, usize::from),
            pins: Vec::new(),
            spin: None,
        }
    }

    /// Where it listens, in the order in which it was told to; with the ports that port 0 became.
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.handle.shared.listen
    }

    /// The event loop that it runs on.
    pub fn engine(&self) -> EngineKind {
        self.engine
    }

    /// Over how many cores connections are spread.
    pub fn cores(&self) -> usize {
        self.cores
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
    /// [`TargetError::Core`] and [`TargetError::Pin`] if it cannot run; [`TargetError::Stuck`] and
    /// [`TargetError::Flush`] if it did not end as it should.
    pub fn run(self) -> Result<(), TargetError> {
        let Self { handle, listeners, stop_timeout, engine, cores, pins, pace } = self;
        let shared = &handle.shared;
        let started = start_cores(shared, listeners, engine, cores, &pins, &pace);
        let (ended, failed) = match started {
            Ok(running) => {
                shared.stop.wait();
                running.cores.tell_all(|| Post::Stop);
                let ended = handle.end_connections(stop_timeout);
                running.cores.tell_all(|| Post::Exit);
                (ended, running.join())
            }
            Err(error) => {
                shared.stop.raise();
                (Ok(()), Err(error))
            }
        };
        // Whatever went wrong, what was acknowledged is made durable.
        let mut flushed = Ok(());
        for subsystem in &shared.subsystems {
            let nqn = Box::new(subsystem.nqn().clone());
            let result = subsystem.flush().map_err(|status| TargetError::Flush { nqn, status });
            flushed = flushed.and(result);
        }
        failed.and(flushed).and(ended)
    }
}

/// Cores that run.
struct RunningCores {
    cores: Arc<Cores>,
    threads: Vec<JoinHandle<Result<(), TargetError>>>,
}

impl RunningCores {
    fn join(self) -> Result<(), TargetError> {
        let mut result = Ok(());
        for (core, thread) in self.threads.into_iter().enumerate() {
            let ended = thread.join().unwrap_or_else(|_| {
                Err(TargetError::Core { core, source: io::Error::other("it panicked") })
            });
            result = result.and(ended);
        }
        result
    }
}

/// Starts the cores' threads; when this returns, each has its event loop.
fn start_cores(
    shared: &Arc<Shared>,
    listeners: Vec<TcpListener>,
    engine: EngineKind,
    count: usize,
    pins: &[usize],
    pace: &Pace,
) -> Result<RunningCores, TargetError> {
    // The first core accepts for all.
    let mut listeners = Some(listeners);
    let (ready, waiting) = mpsc::channel();
    let mut threads = Vec::with_capacity(count);
    let mut starts = Vec::with_capacity(count);
    for index in 0..count {
        let (start, started) = mpsc::channel::<Arc<Cores>>();
        let ready = ready.clone();
        let core = Core {
            index,
            shared: Arc::clone(shared),
            listeners: listeners.take().unwrap_or_default(),
            pace: pace.clone(),
            ready: Box::new(move |sender: Sender<Post>| {
                ready.send((index, sender)).ok()?;
                started.recv().ok()
            }),
        };
        let cpu = pins.get(index).copied();
        let stop = RaiseAtEnd(Arc::clone(shared));
        let thread = thread::Builder::new().name(format!("nvmf-core-{index}")).spawn(move || {
            // A core that ends before its time takes the target with it.
            let _stop = stop;
            if let Some(cpu) = cpu {
                pin(cpu).map_err(|source| TargetError::Pin { core: index, cpu, source })?;
            }
            let failed = |source| TargetError::Core { core: index, source };
            nvmf_engine::run(engine, core).and_then(|result| result).map_err(failed)
        });
        threads.push(thread.map_err(|source| TargetError::Core { core: index, source })?);
        starts.push(start);
    }
    drop(ready);
    let mut senders: Vec<(usize, Sender<Post>)> = waiting.iter().take(count).collect();
    senders.sort_by_key(|(index, _)| *index);
    let cores = Arc::new(Cores::new(senders.into_iter().map(|(_, sender)| sender).collect()));
    let running = RunningCores { cores: Arc::clone(&cores), threads };
    if cores.count() < count {
        // One has failed: the others end without having begun.
        drop(starts);
        let source = io::Error::other("it ended early");
        return Err(running.join().err().unwrap_or(TargetError::Core { core: 0, source }));
    }
    for start in starts {
        // One that has ended since raises the stop.
        let _ = start.send(Arc::clone(&cores));
    }
    Ok(running)
}

struct RaiseAtEnd(Arc<Shared>);

impl Drop for RaiseAtEnd {
    fn drop(&mut self) {
        self.0.stop.raise();
    }
}

/// Keeps this thread on one CPU.
#[cfg(target_os = "linux")]
fn pin(cpu: usize) -> io::Result<()> {
    let mut set = rustix::thread::CpuSet::new();
    if cpu >= rustix::thread::CpuSet::MAX_CPU {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    set.set(cpu);
    Ok(rustix::thread::sched_setaffinity(None, &set)?)
}

#[cfg(not(target_os = "linux"))]
fn pin(_: usize) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

impl Handle {
    /// Asks the target to stop; [`Target::run`] returns once it has.
    pub fn shutdown(&self) {
        self.shared.stop.raise();
    }

    /// How many connections there are.
    pub fn connections(&self) -> usize {
        self.shared.connections.count()
    }

    /// What hosts did since the target was made, and what goes on now.
    pub fn report(&self) -> TargetReport {
        let Shared { connections, events, subsystems, .. } = &*self.shared;
        TargetReport {
            started: events.started(),
            connections: connections.count() as u64,
            accepted: connections.ever(),
            digest_errors: events.digest_errors(),
            violations: events.violations(),
            subsystems: subsystems.iter().map(|subsystem| subsystem.report()).collect(),
        }
    }

    /// Serves a connection over any transport, such as the in-process one, on a thread of its own.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::ConnectionRefused`] if the target stops or has too many connections;
    /// whatever keeps a thread from starting.
    pub fn serve(&self, transport: Box<dyn ControllerTransport>) -> io::Result<()> {
        if self.shared.stop.is_raised() {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let admitted = self.shared.connections.admit(None);
        let connection = admitted.ok_or(io::ErrorKind::ConnectionRefused)?;
        let shared = Arc::clone(&self.shared);
        let origin = Origin { peer: "in-process".into(), local: None };
        spawn(move || {
            let deadline = Deadline::after(shared.connect_timeout);
            blocking::serve(&shared, connection, transport, &origin, deadline);
        })
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

//! A target: subsystems, and where they listen.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nvme_spec::{Nqn, Status};
use nvmf::Deadline;
use nvmf::transport::ControllerTransport;
use nvmf_engine::{EngineKind, Pace, Sender, Unavailable};

use super::builder::TargetBuilder;
use super::core::{Core, Cores, Post};
use super::{DRAIN, Listening, Origin, Shared, blocking};
use crate::port::Port;
use crate::statistics::TargetReport;

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
    /// Two ports have the same identifier.
    #[error("there are two ports {id}")]
    SamePort {
        /// The identifier.
        id: u16,
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

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "; end the program that does, or choose another port",
        io::ErrorKind::PermissionDenied => "; ports below 1024 need privileges",
        io::ErrorKind::AddrNotAvailable => "; it is not an address of this machine",
        _ => "",
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
    pub(super) handle: Handle,
    pub(super) stop_timeout: Duration,
    pub(super) engine: EngineKind,
    pub(super) cores: usize,
    pub(super) pins: Vec<usize>,
    pub(super) pace: Pace,
}

/// A target as others hold it while it runs.
#[derive(Clone, Debug)]
pub struct Handle {
    pub(super) shared: Arc<Shared>,
}

impl Target {
    /// A target without subsystems, listening nowhere yet.
    pub fn builder() -> TargetBuilder {
        TargetBuilder::new()
    }

    /// Where it listens, in the order in which it was told to; with the ports that port 0 became.
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.handle.ports().iter().map(|port| port.address()).collect()
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
        let Self { handle, stop_timeout, engine, cores, pins, pace } = self;
        let shared = &handle.shared;
        let started = start_cores(shared, engine, cores, &pins, &pace);
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
        for subsystem in &shared.directory.load().subsystems {
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
    engine: EngineKind,
    count: usize,
    pins: &[usize],
    pace: &Pace,
) -> Result<RunningCores, TargetError> {
    // No port comes or goes before there are cores to tell.
    let mut listening = shared.running();
    // The first core accepts for all.
    let mut listeners = match &mut *listening {
        Listening::NotYet(listeners) => Some(std::mem::take(listeners)),
        Listening::On(_) => None,
    };
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
    *listening = Listening::On(Arc::clone(&cores));
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
        let Shared { connections, events, directory, .. } = &*self.shared;
        TargetReport {
            started: events.started(),
            connections: connections.count() as u64,
            accepted: connections.ever(),
            digest_errors: events.digest_errors(),
            violations: events.violations(),
            subsystems: directory.load().subsystems.iter().map(|s| s.report()).collect(),
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
        let origin =
            Origin { peer: "in-process".into(), local: None, port: Arc::new(Port::none()) };
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

/// Threads are not joined: each keeps its [`Connection`](super::connections::Connection), whose end is
/// waited for, and a panic in one ends that connection alone.
fn spawn(work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name("nvmf-connection".into()).spawn(work).map(drop)
}

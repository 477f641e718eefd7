//! What a target is made of.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use arc_swap::ArcSwap;
use nvme_spec::Nqn;
use nvmf::pdu_trace::PduTrace;
use nvmf_engine::{EngineChoice, EngineKind, Jobs, Pace};
use nvmf_proto::tcp::ControllerConfig;
use nvmf_storage::Access;

use super::connections::{Connections, StopFlag};
use super::target::{Handle, Target, TargetError};
use super::{Listening, Shared};
use crate::config::layout::Transport;
use crate::directory::{Directory, Referral};
use crate::limits::{self, InCapsule};
use crate::port::Port;
use crate::statistics::Events;
use crate::subsystem::{Namespace, Subsystem};

/// Threads for slow storage, at most, whatever the number of cores.
const JOBS: usize = 32;

/// Collects what a [`Target`] is made of.
#[derive(Debug)]
#[must_use]
pub struct TargetBuilder {
    subsystems: Vec<Arc<Subsystem>>,
    discovery: Nqn,
    ports: Vec<Port>,
    referrals: Vec<Referral>,
    tcp: ControllerConfig,
    said: Said,
    flow_control: bool,
    connect_timeout: Duration,
    stop_timeout: Duration,
    max_half_open: usize,
    engine: EngineChoice,
    cores: usize,
    pins: Vec<usize>,
    spin: Option<Duration>,
    trace: Option<PduTrace>,
}

/// What a configuration can say, too, where it was not said here.
#[derive(Debug, Default)]
struct Said {
    header_digest: Option<bool>,
    data_digest: Option<bool>,
    in_capsule: Option<InCapsule>,
    max_connections: Option<usize>,
}

impl TargetBuilder {
    pub(super) fn new() -> Self {
        Self {
            subsystems: Vec::new(),
            discovery: Nqn::DISCOVERY,
            ports: Vec::new(),
            referrals: Vec::new(),
            tcp: ControllerConfig::default(),
            said: Said::default(),
            flow_control: false,
            connect_timeout: Duration::from_secs(10),
            stop_timeout: Duration::from_secs(10),
            max_half_open: 64,
            engine: EngineChoice::Auto,
            cores: thread::available_parallelism().map_or(1, usize::from),
            pins: Vec::new(),
            spin: None,
            trace: None,
        }
    }

    /// Adds a subsystem.
    pub fn subsystem(mut self, subsystem: Arc<Subsystem>) -> Self {
        self.subsystems.push(subsystem);
        self
    }

    /// Listens on this address, too; port 0 is one that is free. Its port identifier is the next
    /// after the greatest there is.
    pub fn listen(self, address: SocketAddr) -> Self {
        let last = self.ports.iter().map(Port::id).max();
        let id = last.unwrap_or(0).saturating_add(1);
        self.port(Port::new(id, address))
    }

    /// Listens on this port, too.
    pub fn port(mut self, port: Port) -> Self {
        self.ports.push(port);
        self
    }

    /// The unique name of the discovery subsystem, which is reached by the well-known one all the
    /// same; it has none other if not said.
    pub fn discovery(mut self, nqn: Nqn) -> Self {
        self.discovery = nqn;
        self
    }

    /// Tells hosts of these discovery services too.
    pub fn referrals(mut self, referrals: Vec<Referral>) -> Self {
        self.referrals = referrals;
        self
    }

    /// Permits header digests (they are on only if the host asks for them) or not; permitted if
    /// not said.
    pub fn header_digest(mut self, permit: bool) -> Self {
        self.said.header_digest = Some(permit);
        self
    }

    /// Permits data digests, likewise.
    pub fn data_digest(mut self, permit: bool) -> Self {
        self.said.data_digest = Some(permit);
        self
    }

    /// Everything that can be said about the TCP transport; replaces what the digest methods said.
    pub fn tcp(mut self, config: ControllerConfig) -> Self {
        self.said.header_digest = Some(config.header_digest);
        self.said.data_digest = Some(config.data_digest);
        self.tcp = config;
        self
    }

    /// The most data that a command on an I/O queue brings in its capsule; 16 KiB if not said. With
    /// less, a queue whose commands wait holds less, and hosts wait to be asked for the data of
    /// larger writes.
    pub fn in_capsule(mut self, most: InCapsule) -> Self {
        self.said.in_capsule = Some(most);
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

    /// Tells every PDU of every TCP connection, both ways; a line each. For finding faults: it is
    /// slow, and whoever reads slowly slows the target down.
    pub fn trace_pdus(mut self, trace: PduTrace) -> Self {
        self.trace = Some(trace);
        self
    }

    /// The most connections at once; 8192 if not said. Those that come on top are closed.
    pub fn max_connections(mut self, connections: usize) -> Self {
        self.said.max_connections = Some(connections.max(1));
        self
    }

    /// The most connections that have not sent their Connect yet; 64 if not said.
    pub fn max_half_open(mut self, connections: usize) -> Self {
        self.max_half_open = connections.max(1);
        self
    }

    /// Takes from a configuration what was not said here.
    pub(crate) fn configured(mut self, transport: &Transport) -> Self {
        let Said { header_digest, data_digest, in_capsule, max_connections } = &mut self.said;
        header_digest.get_or_insert(transport.header_digest);
        data_digest.get_or_insert(transport.data_digest);
        in_capsule.get_or_insert(transport.in_capsule);
        max_connections.get_or_insert(transport.max_connections);
        self
    }

    /// Opens the listeners.
    ///
    /// # Errors
    ///
    /// [`TargetError::Bind`], [`TargetError::SameName`], [`TargetError::SamePort`],
    /// [`TargetError::Engine`].
    pub fn bind(self) -> Result<Target, TargetError> {
        let Said { header_digest, data_digest, in_capsule, max_connections } = self.said;
        let tcp = ControllerConfig {
            header_digest: header_digest.unwrap_or(self.tcp.header_digest),
            data_digest: data_digest.unwrap_or(self.tcp.data_digest),
            ..self.tcp
        };
        let max_connections = max_connections.unwrap_or(limits::CONNECTIONS);
        let mut directory = Directory::new(self.discovery);
        directory.referrals = self.referrals;
        for subsystem in self.subsystems {
            if directory.subsystem(subsystem.nqn()).is_some() {
                return Err(TargetError::SameName { nqn: Box::new(subsystem.nqn().clone()) });
            }
            directory.subsystems.push(subsystem);
        }
        let mut listeners = Vec::new();
        for port in self.ports {
            if directory.port(port.id()).is_some() {
                return Err(TargetError::SamePort { id: port.id() });
            }
            let BoundPort { listener, port } = BoundPort::bind(port)?;
            directory.ports.push(Arc::clone(&port));
            listeners.push((listener, port));
        }
        let file = |ns: &Arc<Namespace>| matches!(ns.backend().access(), Access::File(_));
        let files = directory.subsystems.iter().any(|s| s.namespaces().iter().any(file));
        let engine = if files { self.engine } else { self.engine.for_sockets_alone() };
        let engine = EngineKind::probe(engine)?;
        let shared = Arc::new(Shared {
            directory: Arc::new(ArcSwap::from_pointee(directory)),
            running: Mutex::new(Listening::NotYet(listeners)),
            tcp,
            in_capsule: in_capsule.unwrap_or_default(),
            flow_control: self.flow_control,
            connect_timeout: self.connect_timeout,
            connections: Connections::new(max_connections, self.max_half_open),
            stop: StopFlag::default(),
            trace: self.trace,
            events: Events::default(),
            jobs: Jobs::new(JOBS),
        });
        Ok(Target {
            handle: Handle { shared },
            stop_timeout: self.stop_timeout,
            engine,
            cores: self.cores,
            pins: self.pins,
            pace: self.spin.map_or_else(Pace::default, Pace::new),
        })
    }
}

/// A port whose address is taken, and from which nothing is accepted yet.
#[derive(Debug)]
pub struct BoundPort {
    pub(super) listener: TcpListener,
    pub(super) port: Arc<Port>,
}

impl BoundPort {
    /// Takes the port's address; where its TCP port is 0, one that is free.
    ///
    /// # Errors
    ///
    /// [`TargetError::Bind`].
    pub fn bind(port: Port) -> Result<Self, TargetError> {
        let address = port.address();
        let bound = |source| TargetError::Bind { address, source };
        let listener = listen_at(address).map_err(bound)?;
        listener.set_nonblocking(true).map_err(bound)?;
        let port = Arc::new(port.at(listener.local_addr().map_err(bound)?));
        Ok(Self { listener, port })
    }

    /// The port, with the address that it got.
    pub fn port(&self) -> &Arc<Port> {
        &self.port
    }
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

//! What moves commands between connections and controllers.
//!
//! Everything that a command means is in [`admin`] and [`io`](crate::io). TCP
//! connections live on cores: a thread with an event loop each ([`core`]), on which a
//! [`Connection`](connection::Connection) drives the protocol and storage does what it can without
//! waiting. Connections over other transports have a thread each ([`blocking`]).

mod blocking;
mod builder;
mod connection;
mod connections;
mod core;
mod live;
mod target;
mod timers;

use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use nvme_spec::fabrics::{Connect, ConnectData};
use nvmf::controller::AcceptOptions;
use nvmf::pdu_trace::PduTrace;
use nvmf_engine::Jobs;
use nvmf_proto::connect::{
    ConnectLimits, ConnectRequest, ControllerChoice, ControllerModel, Refusal,
};

use crate::admin;
use crate::association::{Association, IoQueue, Stop};
use crate::directory::Directory;
use crate::discovery::Asker;
use crate::limits::{self, InCapsule};
use crate::port::Port;
use crate::statistics::Events;
use crate::subsystem::Subsystem;
use crate::who::Who;
pub use builder::{BoundPort, TargetBuilder};
use connections::{Connections, StopFlag};
use core::Cores;
pub use live::{ChangeError, ControllerInfo, NamespaceChange};
pub use target::{Handle, Target, TargetError};

/// How long a host may take to send or to take a command's data.
const DATA_TIMEOUT: Duration = Duration::from_secs(30);

/// When the target stops, a queue takes commands that are already under way for this long.
const DRAIN: Duration = Duration::from_millis(500);

/// What all connections of a target share.
#[derive(Debug)]
struct Shared {
    directory: Arc<ArcSwap<Directory>>,
    /// Held while the directory is changed, and what of it has to run follows.
    running: Mutex<Listening>,
    tcp: nvmf_proto::tcp::ControllerConfig,
    /// What a command capsule of an I/O queue may bring.
    in_capsule: InCapsule,
    /// Keep submission queue flow control on.
    flow_control: bool,
    connect_timeout: Duration,
    connections: Arc<Connections>,
    stop: StopFlag,
    /// Where every PDU is told.
    trace: Option<PduTrace>,
    events: Events,
    /// For what may wait: slow storage.
    jobs: Jobs,
}

/// A listening socket and its port.
type Listener = (TcpListener, Arc<Port>);

/// Where the listeners are.
#[derive(Debug)]
enum Listening {
    /// Here, until there are cores.
    NotYet(Vec<Listener>),
    /// With the first of the cores.
    On(Arc<Cores>),
}

impl Shared {
    /// The subsystem of the name asked for, at this port.
    fn subsystem(
        &self,
        request: &ConnectRequest,
        port: &Arc<Port>,
    ) -> Result<Arc<Subsystem>, Refusal> {
        let directory = self.directory.load();
        let subsystem = directory.subsystem(&request.subsystem);
        // A connection may have come just before its port was taken away; one that came over no
        // network has none.
        let there = port.id() == 0 || directory.ports.iter().any(|there| Arc::ptr_eq(there, port));
        let reached = |s: &&Arc<Subsystem>| there && (s.is_discovery() || port.serves(s.nqn()));
        subsystem.filter(reached).cloned().ok_or_else(|| {
            let reason = format!("there is no subsystem {} here", request.subsystem);
            Refusal::data(ConnectData::OFFSET_SUBNQN, reason)
        })
    }

    fn running(&self) -> MutexGuard<'_, Listening> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a controller for the host that asks for one, with its admin queue.
    fn open_controller(
        &self,
        request: &ConnectRequest,
        origin: &Origin,
        now: Instant,
    ) -> Result<admin::Controller, Refusal> {
        let subsystem = self.subsystem(request, &origin.port)?;
        let association = subsystem.connect_admin(request, &origin.port)?;
        // What was taken away meanwhile did not find this controller, to end it.
        self.subsystem(request, &origin.port)?;
        let kato_ms = request.command.kato_ms;
        Ok(if subsystem.is_discovery() {
            let asker = Asker {
                host: request.host.clone(),
                local: origin.local,
                flow_control: self.flow_control,
            };
            let lookup = admin::Lookup { directory: Arc::clone(&self.directory), asker };
            admin::Controller::discovery(association, lookup, kato_ms, now)
        } else {
            admin::Controller::io(association, self.in_capsule, kato_ms, now)
        })
    }

    /// Joins an I/O queue to the controller that it asks for; `stop` is how to end its connection.
    fn join(
        &self,
        request: &ConnectRequest,
        origin: &Origin,
        stop: impl Stop + 'static,
    ) -> Result<IoQueue, Refusal> {
        let subsystem = self.subsystem(request, &origin.port)?;
        let cntlid = io_queue_cntlid(request, &subsystem)?;
        subsystem.find_controller(cntlid, request)?.join(request.command.qid, stop)
    }

    fn accept_options(&self) -> AcceptOptions {
        AcceptOptions {
            limits: ConnectLimits {
                admin_entries: limits::ADMIN_ENTRIES,
                io_entries: Some(limits::IO_ENTRIES),
                model: ControllerModel::OfSubsystem,
            },
            flow_control: self.flow_control,
            in_capsule: self.in_capsule.bytes(),
        }
    }
}

/// Where a connection comes from.
#[derive(Debug, Clone)]
struct Origin {
    peer: String,
    local: Option<SocketAddr>,
    port: Arc<Port>,
}

impl Origin {
    fn who(&self) -> Who {
        Who::new(&self.peer)
    }
}

/// The controller that an I/O queue asks for.
fn io_queue_cntlid(request: &ConnectRequest, subsystem: &Subsystem) -> Result<u16, Refusal> {
    if subsystem.is_discovery() {
        let reason = "a discovery controller has no I/O queues";
        return Err(Refusal::command(Connect::OFFSET_QID, reason));
    }
    match request.controller {
        ControllerChoice::Id(cntlid) => Ok(cntlid),
        _ => Err(Refusal::data(ConnectData::OFFSET_CNTLID, "an I/O queue has to name one")),
    }
}

/// Ends the association when its admin queue is gone, even by a panic.
#[derive(Debug)]
struct Ending(Arc<Association>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.end();
    }
}

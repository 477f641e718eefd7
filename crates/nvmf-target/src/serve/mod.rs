//! What moves commands between connections and controllers.
//!
//! Everything that a command means is in [`admin`](crate::admin) and [`io`](crate::io). TCP
//! connections live on cores: a thread with an event loop each ([`core`]), on which a
//! [`Connection`](connection::Connection) drives the protocol and storage does what it can without
//! waiting. Connections over other transports have a thread each ([`blocking`]).

mod blocking;
mod connection;
mod connections;
mod core;
mod target;
mod timers;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nvme_spec::fabrics::{Connect, ConnectData};
use nvmf::controller::AcceptOptions;
use nvmf_engine::Jobs;
use nvmf_proto::connect::{ConnectLimits, ConnectRequest, ControllerChoice, Refusal};

use crate::admin;
use crate::association::{Association, IoQueue, Stop};
use crate::discovery;
use crate::limits;
use crate::statistics::Events;
use crate::subsystem::Subsystem;
use connections::{Connections, StopFlag};
pub use target::{Handle, Target, TargetBuilder, TargetError};

/// How long a host may take to send or to take a command's data.
const DATA_TIMEOUT: Duration = Duration::from_secs(30);

/// When the target stops, a queue takes commands that are already under way for this long.
const DRAIN: Duration = Duration::from_millis(500);

/// What all connections of a target share.
#[derive(Debug)]
struct Shared {
    subsystems: Vec<Arc<Subsystem>>,
    discovery: Arc<Subsystem>,
    listen: Vec<SocketAddr>,
    tcp: nvmf_proto::tcp::ControllerConfig,
    /// Keep submission queue flow control on.
    flow_control: bool,
    connect_timeout: Duration,
    connections: Arc<Connections>,
    stop: StopFlag,
    events: Events,
    /// For what may wait: slow storage.
    jobs: Jobs,
}

impl Shared {
    /// The subsystem of the name asked for.
    fn subsystem(&self, request: &ConnectRequest) -> Result<&Arc<Subsystem>, Refusal> {
        std::iter::once(&self.discovery)
            .chain(&self.subsystems)
            .find(|subsystem| *subsystem.nqn() == request.subsystem)
            .ok_or_else(|| {
                let reason = format!("there is no subsystem {}", request.subsystem);
                Refusal::data(ConnectData::OFFSET_SUBNQN, reason)
            })
    }

    /// Makes a controller for the host that asks for one, with its admin queue.
    fn open_controller(
        &self,
        request: &ConnectRequest,
        origin: &Origin,
        now: Instant,
    ) -> Result<admin::Controller, Refusal> {
        let association = self.subsystem(request)?.connect_admin(request)?;
        let kato_ms = request.command.kato_ms;
        Ok(if association.subsystem().is_discovery() {
            let page =
                discovery::page(&self.subsystems, &self.listen, origin.local, self.flow_control);
            admin::Controller::discovery(association, page.to_bytes(), kato_ms, now)
        } else {
            admin::Controller::io(association, kato_ms, now)
        })
    }

    /// Joins an I/O queue to the controller that it asks for; `stop` is how to end its connection.
    fn join(
        &self,
        request: &ConnectRequest,
        stop: impl Stop + 'static,
    ) -> Result<IoQueue, Refusal> {
        let subsystem = self.subsystem(request)?;
        let cntlid = io_queue_cntlid(request, subsystem)?;
        subsystem.find_controller(cntlid, request)?.join(request.command.qid, stop)
    }

    fn accept_options(&self) -> AcceptOptions {
        AcceptOptions {
            limits: ConnectLimits {
                admin_entries: limits::ADMIN_ENTRIES,
                io_entries: Some(limits::IO_ENTRIES),
                dynamic: true,
            },
            flow_control: self.flow_control,
            in_capsule: limits::IN_CAPSULE,
        }
    }
}

/// Where a connection comes from, for the log and for the Discovery log page.
#[derive(Debug, Clone)]
struct Origin {
    peer: String,
    local: Option<SocketAddr>,
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

//! The thin layer that moves commands between connections and controllers: a thread for each
//! connection.
//!
//! Everything that a command means is in [`admin`](crate::admin) and [`io`](crate::io); here are
//! waiting, moving data, and ending.

mod admin_queue;
mod connections;
mod io_queue;
mod target;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nvme_spec::fabrics::{Connect, ConnectData};
use nvmf::Deadline;
use nvmf::controller::{AcceptError, AcceptOptions, Command, PendingConnect, QueuePair, accept};
use nvmf::transport::tcp::ControllerTcp;
use nvmf::transport::{ControllerTransport, TransportError};
use nvmf_proto::connect::{ConnectLimits, ConnectRequest, ControllerChoice, Refusal};

use crate::limits;
use crate::subsystem::Subsystem;
use connections::{Connection, Connections, StopFlag};
pub use target::{Handle, Target, TargetBuilder, TargetError};

/// How often a thread that waits for a command looks whether its association has ended or its
/// host is to be given up.
const TICK: Duration = Duration::from_millis(200);

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

/// Serves a TCP connection from its handshake to its end.
fn serve_tcp(
    shared: &Shared,
    connection: Connection,
    stream: std::net::TcpStream,
    peer: SocketAddr,
) {
    let origin = Origin { peer: peer.to_string(), local: stream.local_addr().ok() };
    let deadline = Deadline::after(shared.connect_timeout);
    match ControllerTcp::accept(stream, &shared.tcp, deadline) {
        Ok(transport) => serve(shared, connection, Box::new(transport), &origin, deadline),
        Err(TransportError::Closed) => tracing::debug!(%peer, "closed before the handshake"),
        Err(error) => tracing::warn!(%peer, %error, "no NVMe/TCP handshake"),
    }
}

/// Serves a connection from its Connect, which has to come before `deadline`, to its end.
fn serve(
    shared: &Shared,
    connection: Connection,
    transport: Box<dyn ControllerTransport>,
    origin: &Origin,
    deadline: Deadline,
) {
    let peer = &origin.peer;
    let pending = match accept(transport, &shared.accept_options(), deadline) {
        Ok(pending) => pending,
        Err(AcceptError::Transport(TransportError::Closed)) => {
            tracing::debug!(%peer, "closed before Connect");
            return;
        }
        Err(error) => {
            tracing::warn!(%peer, %error, "no Connect");
            return;
        }
    };
    connection.established();
    let host = pending.request().host.clone();
    let result = if pending.request().command.qid == 0 {
        admin_queue::serve(shared, &connection, pending, origin)
    } else {
        io_queue::serve(shared, &connection, pending, origin)
    };
    if let Err(error) = result {
        tracing::warn!(%peer, %host, %error, "connection failed");
    }
}

/// Refuses a Connect, and says so in the log.
fn refuse(
    pending: PendingConnect,
    refusal: &Refusal,
    origin: &Origin,
) -> Result<(), TransportError> {
    let request = pending.request();
    tracing::warn!(
        peer = %origin.peer,
        host = %request.host,
        subsystem = %request.subsystem,
        qid = request.command.qid,
        %refusal,
        "Connect refused"
    );
    pending.refuse(refusal, Deadline::after(DATA_TIMEOUT))
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

/// What came of waiting for a command.
enum Next {
    Command(Command),
    /// Nothing for a tick.
    Quiet,
    /// The host closed the connection, or the target stops and nothing is under way any more.
    End,
}

/// Waits for the next command of a queue.
fn next(shared: &Shared, queue: &mut QueuePair) -> Result<Next, TransportError> {
    let wait = match shared.stop.since() {
        None => TICK,
        Some(since) => {
            let left = (since + DRAIN).saturating_duration_since(Instant::now());
            if left.is_zero() {
                queue.flush(Deadline::after(DATA_TIMEOUT))?;
                return Ok(Next::End);
            }
            left.min(TICK / 4)
        }
    };
    match queue.receive(Deadline::after(wait)) {
        Ok(Some(command)) => Ok(Next::Command(command)),
        Ok(None) => Ok(Next::End),
        // A host that sends nothing while the target stops has nothing under way.
        Err(TransportError::TimedOut) if shared.stop.is_raised() && wait != TICK => Ok(Next::End),
        Err(TransportError::TimedOut) => Ok(Next::Quiet),
        Err(error) => Err(error),
    }
}

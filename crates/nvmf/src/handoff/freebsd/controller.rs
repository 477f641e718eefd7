//! Queue pairs handed to nvmft(4), the NVMe over Fabrics frontend of the CAM target layer (CTL).
//!
//! A [`Port`] is a subsystem of the kernel: made, then enabled. A program accepts connections,
//! reads the Connect, and [`hand_over`] gives it to the port of its subsystem, which answers it
//! and serves the queue. The disks of a port are set up by `ctladm`(8).

use std::io;
use std::time::Duration;

use nvme_spec::{Nqn, nqn::NqnError};
use nvmf_proto::queue::QueueSize;
use zerocopy::IntoBytes;

use super::kernel::{CtlReply, Kernel, KernelError, PortAction};
use super::nvlist::{DecodeError, EncodeError, Missing, NvList};
use super::queue::{QueueError, QueueParams, TRTYPE_TCP, set_nonblocking};
use crate::controller::PendingConnect;

/// The target layer does not do as it is told.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CtlError {
    /// The connection cannot be handed over.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The call failed.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// It refuses, in these words.
    #[error("{call}: the kernel says: {message}")]
    Refused {
        /// Which call.
        call: &'static str,
        /// Its words.
        message: String,
    },
    /// There is no such association.
    #[error("there is no association of {0}")]
    NoAssociation(Which),
    /// Something does not fit into a list.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The result is no list.
    #[error("the kernel's answer is {0}")]
    Decode(#[from] DecodeError),
    /// The result lacks something.
    #[error(transparent)]
    Missing(#[from] Missing),
    /// The port's number cannot be one.
    #[error("the kernel says that the port has number {0}")]
    PortNumber(u64),
    /// The list of associations is not as it has to be.
    #[error("line {line} of the kernel's list of associations: {reason}")]
    List {
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// The list of associations does not end.
    #[error("the kernel's list of associations has more than {most} bytes")]
    ListLength {
        /// The most that is read.
        most: usize,
    },
}

/// A Connect that was not handed over, and why.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct NotHandedOver {
    /// Why.
    #[source]
    pub error: CtlError,
    /// The Connect, which nobody has answered yet: without an answer the host only sees its
    /// connection end. If the kernel has taken the socket already, an answer fails.
    pub connect: Box<PendingConnect>,
}

/// Gives a Connect to the port of the subsystem that it asks for. The kernel answers it.
///
/// # Errors
///
/// The connection has more on it than the Connect, or there is no port of this subsystem that is
/// enabled, or the kernel does not want the host: the Connect comes back, to be refused.
pub fn hand_over(connect: PendingConnect, kernel: &mut dyn Kernel) -> Result<(), NotHandedOver> {
    give(&connect, kernel).map_err(|error| {
        if let Ok((stream, _)) = connect.idle_tcp() {
            // If that fails, so will the answer.
            let _ = set_nonblocking(stream, true);
        }
        NotHandedOver { error, connect: Box::new(connect) }
    })
}

fn give(connect: &PendingConnect, kernel: &mut dyn Kernel) -> Result<(), CtlError> {
    let packed = to_nvlist(connect)?.encode()?;
    let (stream, _) = connect.idle_tcp().map_err(QueueError::from)?;
    set_nonblocking(stream, false)?;
    let call = "CTL_NVMF_HANDOFF";
    let reply = kernel.ctl_handoff(&packed).map_err(KernelError::of(call))?;
    judge(call, reply)
}

/// What the kernel is told of a Connect.
///
/// # Errors
///
/// The connection has more on it than the Connect, or is none over TCP.
pub fn to_nvlist(connect: &PendingConnect) -> Result<NvList, QueueError> {
    Ok(NvList::new()
        .with("trtype", TRTYPE_TCP)
        .with("params", QueueParams::of_connect(connect)?.to_nvlist())
        .with("cmd", connect.command().as_bytes())
        .with("data", &connect.data()[..]))
}

/// Statuses of `CTL_NVMF` (`ctl_nvmf_status`).
pub mod status {
    /// It is done.
    pub const OK: i32 = 0;
    /// It is not, and words say why.
    pub const ERROR: i32 = 1;
    /// The list has more bytes than there is room for.
    pub const LIST_NEED_MORE_SPACE: i32 = 2;
    /// There is no such association.
    pub const ASSOCIATION_NOT_FOUND: i32 = 3;
}

/// Statuses of `CTL_PORT_REQ` (`ctl_lun_status`).
pub mod port_status {
    /// It is done.
    pub const OK: i32 = 1;
    /// It is not, and words say why.
    pub const ERROR: i32 = 2;
    /// It is done, and words say what is strange about it.
    pub const WARNING: i32 = 3;
}

fn judge(call: &'static str, reply: CtlReply) -> Result<(), CtlError> {
    match reply.status {
        status::OK => Ok(()),
        _ => Err(refused(call, reply)),
    }
}

fn refused(call: &'static str, CtlReply { status, message }: CtlReply) -> CtlError {
    let message = if message.is_empty() { format!("status {status}") } else { message };
    CtlError::Refused { call, message }
}

/// Which associations are ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Which {
    /// All.
    All,
    /// Those of controllers with this identifier, of whichever port.
    Controller(u16),
    /// Those of this host.
    Host(Box<Nqn>),
}

impl std::fmt::Display for Which {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::All => f.write_str("any host"),
            Self::Controller(cntlid) => write!(f, "controller {cntlid}"),
            Self::Host(host) => write!(f, "host {host}"),
        }
    }
}

/// Ends associations.
///
/// # Errors
///
/// [`CtlError::NoAssociation`] if there is none to end, or whatever the kernel says.
pub fn terminate(which: &Which, kernel: &mut dyn Kernel) -> Result<(), CtlError> {
    let call = "CTL_NVMF_TERMINATE";
    let reply = kernel.ctl_terminate(which).map_err(KernelError::of(call))?;
    match reply.status {
        status::ASSOCIATION_NOT_FOUND => Err(CtlError::NoAssociation(which.clone())),
        _ => judge(call, reply),
    }
}

/// An association that a port has.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PortAssociation {
    /// The controller's identifier.
    pub cntlid: u16,
    /// The host.
    pub host: Nqn,
    /// The port's subsystem.
    pub subsystem: Nqn,
    /// The transport type.
    pub trtype: u8,
}

/// As large a list of associations is read.
const LIST_MAX: usize = 16 << 20;

/// The associations of all ports.
///
/// # Errors
///
/// [`CtlError::List`] also if a host chose a name that cannot be told from the list's own markup:
/// the kernel writes names as they came.
pub fn associations(kernel: &mut dyn Kernel) -> Result<Vec<PortAssociation>, CtlError> {
    let call = "CTL_NVMF_LIST";
    let mut room = vec![0; 4096];
    loop {
        let (reply, filled) = kernel.ctl_list(&mut room).map_err(KernelError::of(call))?;
        if reply.status != status::LIST_NEED_MORE_SPACE {
            judge(call, reply)?;
            return parse_list(&String::from_utf8_lossy(room.get(..filled).unwrap_or(&room)));
        }
        if room.len() >= LIST_MAX {
            return Err(CtlError::ListLength { most: LIST_MAX });
        }
        room = vec![0; room.len() * 4];
    }
}

/// Reads the kernel's list: a line for each association between the lines that open and close it.
fn parse_list(text: &str) -> Result<Vec<PortAssociation>, CtlError> {
    let mut found = Vec::new();
    let lines: Vec<&str> = text.trim_end_matches(['\0', '\n']).lines().collect();
    for (i, line) in lines.iter().enumerate() {
        let bad = |reason: String| CtlError::List { line: i + 1, reason };
        match *line {
            "<ctlnvmflist>" if i == 0 => {}
            "</ctlnvmflist>" if i + 1 == lines.len() && i > 0 => return Ok(found),
            line => found.push(parse_association(line).map_err(bad)?),
        }
    }
    let reason = "it ends before its end".to_owned();
    Err(CtlError::List { line: lines.len() + 1, reason })
}

fn parse_association(line: &str) -> Result<PortAssociation, String> {
    const MARKUP: [&str; 5] = [
        "<connection id=\"",
        "\"><hostnqn>",
        "</hostnqn><subnqn>",
        "</subnqn><trtype>",
        "</trtype></connection>",
    ];
    let strange = || format!("{line:?} is no association");
    let [opening, between @ ..] = MARKUP;
    let mut rest = line.strip_prefix(opening).ok_or_else(strange)?;
    let mut parts = Vec::new();
    for markup in between {
        let (part, behind) = rest.split_once(markup).ok_or_else(strange)?;
        if part.contains('<') {
            return Err(strange());
        }
        parts.push(part);
        rest = behind;
    }
    let &[cntlid, host, subsystem, trtype] = parts.as_slice() else { return Err(strange()) };
    if !rest.is_empty() {
        return Err(strange());
    }
    let nqn = |text: &str| Nqn::lenient(text).map_err(|e: NqnError| format!("{text:?}: {e}"));
    Ok(PortAssociation {
        cntlid: cntlid.parse().map_err(|_| strange())?,
        host: nqn(host)?,
        subsystem: nqn(subsystem)?,
        trtype: trtype.parse().map_err(|_| strange())?,
    })
}

/// A port to be made: a subsystem. What is left out is the kernel's choice.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Port {
    /// The subsystem.
    pub subsystem: Nqn,
    /// The port's identifier, as in the discovery log.
    pub portid: u16,
    /// The serial number.
    pub serial: Option<String>,
    /// The largest I/O queue.
    pub max_io_size: Option<QueueSize>,
    /// How long a controller may take to become ready, in half seconds.
    pub enable_timeout: Option<Duration>,
    /// The largest command capsule in bytes: 64 and the data, a multiple of 16.
    pub command_capsule: Option<u32>,
    /// The largest response capsule in bytes: a multiple of 16.
    pub response_capsule: Option<u32>,
    /// The highest namespace identifier.
    pub namespaces: Option<u32>,
}

/// A port of the target layer, by its number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct PortNumber(pub i32);

impl Port {
    /// A port of this subsystem, otherwise as the kernel likes.
    pub fn new(subsystem: Nqn, portid: u16) -> Self {
        Self {
            subsystem,
            portid,
            serial: None,
            max_io_size: None,
            enable_timeout: None,
            command_capsule: None,
            response_capsule: None,
            namespaces: None,
        }
    }

    /// Makes it. Nobody can use it before it is [enabled](enable).
    ///
    /// # Errors
    ///
    /// What the kernel says, for example that the subsystem has a port already.
    pub fn create(&self, kernel: &mut dyn Kernel) -> Result<PortNumber, CtlError> {
        let mut room = [0; 4096];
        let filled = request(PortAction::Create, &self.to_nvlist(), &mut room, kernel)?;
        let result = NvList::decode(room.get(..filled).unwrap_or(&room))?;
        let number = result.number("port_id")?;
        i32::try_from(number).map(PortNumber).map_err(|_| CtlError::PortNumber(number))
    }

    /// As the kernel takes it: all values are text.
    pub fn to_nvlist(&self) -> NvList {
        let texts = [
            ("subnqn", Some(self.subsystem.to_string())),
            ("portid", Some(self.portid.to_string())),
            ("serial", self.serial.clone()),
            ("max_io_qsize", self.max_io_size.map(|size| size.entries().to_string())),
            ("enable_timeout", self.enable_timeout.map(|time| time.as_millis().to_string())),
            ("ioccsz", self.command_capsule.map(|bytes| bytes.to_string())),
            ("iorcsz", self.response_capsule.map(|bytes| bytes.to_string())),
            ("nn", self.namespaces.map(|most| most.to_string())),
        ];
        texts.into_iter().fold(NvList::new(), |list, (name, text)| match text {
            Some(text) => list.with(name, text),
            None => list,
        })
    }
}

/// Takes a port away, its associations with it.
///
/// # Errors
///
/// What the kernel says, for example that the subsystem has no port.
pub fn remove(subsystem: &Nqn, kernel: &mut dyn Kernel) -> Result<(), CtlError> {
    let list = NvList::new().with("subnqn", subsystem.as_str());
    request(PortAction::Remove, &list, &mut [0; 64], kernel).map(|_| ())
}

/// Lets hosts use a port, or no longer.
///
/// # Errors
///
/// There is no such port.
pub fn enable(port: PortNumber, enable: bool, kernel: &mut dyn Kernel) -> Result<(), CtlError> {
    let call = if enable { "CTL_ENABLE_PORT" } else { "CTL_DISABLE_PORT" };
    Ok(kernel.ctl_enable_port(port.0, enable).map_err(KernelError::of(call))?)
}

fn request(
    action: PortAction,
    list: &NvList,
    room: &mut [u8],
    kernel: &mut dyn Kernel,
) -> Result<usize, CtlError> {
    let call = "CTL_PORT_REQ";
    let packed = list.encode()?;
    let done: io::Result<_> = kernel.ctl_port(action, &packed, room);
    let (reply, filled) = done.map_err(KernelError::of(call))?;
    match reply.status {
        port_status::OK => Ok(filled),
        port_status::WARNING => {
            tracing::warn!(message = reply.message, "the kernel has doubts about a port");
            Ok(filled)
        }
        _ => Err(refused(call, reply)),
    }
}

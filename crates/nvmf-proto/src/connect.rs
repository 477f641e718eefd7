//! The Connect command: what it must look like, and how each end answers it
//! (Base 2.1, section 6.3).

use nvme_spec::fabrics::{Connect, ConnectData, ConnectResult, InvalidParameter};
use nvme_spec::nqn::NqnError;
use nvme_spec::status::CommandKind;
use nvme_spec::{Cqe, HostId, Nqn, Sqe, Status};
use zerocopy::FromBytes;

use crate::capsule::DataLocation;
use crate::queue::{QueueSize, SQHD_FLOW_CONTROL_OFF};

/// Length of a Connect command's data in bytes.
pub const DATA_LEN: u32 = 1024;

/// Which controller a host asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum ControllerChoice {
    /// A new one (FFFFh).
    Dynamic,
    /// Any that is there (FFFEh).
    StaticAny,
    /// This one: what an I/O queue must ask for.
    Id(u16),
}

impl ControllerChoice {
    /// From the CNTLID field; `None` for FFF0h to FFFDh, which are reserved, and for 0.
    pub fn from_wire(cntlid: u16) -> Option<Self> {
        match cntlid {
            ConnectData::CNTLID_DYNAMIC => Some(Self::Dynamic),
            ConnectData::CNTLID_STATIC_ANY => Some(Self::StaticAny),
            0 => None,
            id if id <= ConnectData::CNTLID_MAX => Some(Self::Id(id)),
            _ => None,
        }
    }

    /// As the CNTLID field.
    pub fn to_wire(self) -> u16 {
        match self {
            Self::Dynamic => ConnectData::CNTLID_DYNAMIC,
            Self::StaticAny => ConnectData::CNTLID_STATIC_ANY,
            Self::Id(id) => id,
        }
    }
}

/// How the controllers of a subsystem come to be (Base 2.1, section 3.1.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum ControllerModel {
    /// Each host gets a new one: admin queues must ask for [`ControllerChoice::Dynamic`].
    Dynamic,
    /// They are there: admin queues must ask for one of them, or any.
    Static,
    /// The subsystem asked for knows, and the caller judges what is asked for.
    OfSubsystem,
}

/// What a controller takes in a Connect.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConnectLimits {
    /// The largest admin queue; never more than 4096 entries.
    pub admin_entries: QueueSize,
    /// The largest I/O queue; `None` where there are no I/O queues: a discovery controller.
    pub io_entries: Option<QueueSize>,
    /// Which controllers admin queues may ask for.
    pub model: ControllerModel,
}

/// A Connect command whose own fields are right; its data is still to be fetched.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConnectCommand {
    /// The queue's identifier; 0 is the admin queue.
    pub qid: u16,
    /// The submission queue's size.
    pub size: QueueSize,
    /// Keep Alive Timeout in milliseconds; 0 where there is none, and on I/O queues.
    pub kato_ms: u32,
    /// The host asks to switch submission queue flow control off.
    pub disable_flow_control: bool,
}

/// A Connect whose every field is right; whether there is such a subsystem, and whether the host
/// may use it, is for the target to say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConnectRequest {
    /// The command's part.
    pub command: ConnectCommand,
    /// Host identifier.
    pub host_id: HostId,
    /// The controller asked for.
    pub controller: ControllerChoice,
    /// The subsystem asked for.
    pub subsystem: Nqn,
    /// Who asks.
    pub host: Nqn,
}

/// Why a Connect is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Another command came before Connect.
    #[error("the first command is not Connect")]
    NotConnect,
    /// RECFMT is not 0.
    #[error("record format {0} is unknown")]
    Format(u16),
    /// A parameter is wrong; the reason is for this end's log.
    #[error("invalid {}: {reason}", parameter.name())]
    Invalid {
        /// Which.
        parameter: InvalidParameter,
        /// Why.
        reason: String,
    },
    /// There is no controller to be had now; the host may try again.
    #[error("no controller is free")]
    Busy,
    /// The host may not use this subsystem.
    #[error("the host is not allowed here")]
    Host,
    /// Any other status.
    #[error("{0}")]
    Status(Status),
}

impl Refusal {
    /// A wrong field of the command, at this offset of the SQE.
    pub fn command(offset: u16, reason: impl Into<String>) -> Self {
        let parameter = InvalidParameter { in_data: false, offset };
        Self::Invalid { parameter, reason: reason.into() }
    }

    /// A wrong field of the Connect data, at this offset of it.
    pub fn data(offset: u16, reason: impl Into<String>) -> Self {
        let parameter = InvalidParameter { in_data: true, offset };
        Self::Invalid { parameter, reason: reason.into() }
    }

    /// The response that refuses the command. Hosts do not retry but where it can help.
    pub fn cqe(&self) -> Cqe {
        let status = match self {
            Self::NotConnect => Status::COMMAND_SEQUENCE_ERROR.with_dnr(true),
            Self::Format(_) => Status::CONNECT_INCOMPATIBLE_FORMAT.with_dnr(true),
            Self::Invalid { .. } => Status::CONNECT_INVALID_PARAMETERS.with_dnr(true),
            Self::Busy => Status::CONNECT_CONTROLLER_BUSY,
            Self::Host => Status::CONNECT_INVALID_HOST.with_dnr(true),
            Self::Status(status) => *status,
        };
        let mut cqe = Cqe::new(0, status);
        if let Self::Invalid { parameter, .. } = self {
            cqe.dw0.set(parameter.to_dw0());
        }
        cqe
    }
}

/// Where the data pointer stands in an SQE.
const OFFSET_SGL: u16 = 24;

/// Judges a Connect command before its data is fetched.
pub fn judge_command(
    sqe: &Sqe,
    data: DataLocation,
    limits: &ConnectLimits,
) -> Result<ConnectCommand, Refusal> {
    let connect = Connect::from_sqe(sqe).ok_or(Refusal::NotConnect)?;
    if connect.recfmt != 0 {
        return Err(Refusal::Format(connect.recfmt.get()));
    }
    let qid = connect.qid.get();
    let most = if qid == 0 {
        limits.admin_entries.min(QueueSize::MAX_ADMIN)
    } else {
        limits.io_entries.ok_or_else(|| {
            Refusal::command(Connect::OFFSET_QID, "a discovery controller has no I/O queues")
        })?
    };
    let size = QueueSize::from_zero_based(connect.sqsize.get())
        .filter(|size| *size <= most)
        .ok_or_else(|| {
            let entries = u32::from(connect.sqsize.get()) + 1;
            let reason = format!("{entries} entries; 2 to {} are possible", most.entries());
            Refusal::command(Connect::OFFSET_SQSIZE, reason)
        })?;
    // Reserved on an I/O queue, where SPDK's host repeats that of the admin queue.
    let kato_ms = if qid == 0 { connect.kato.get() } else { 0 };
    if data.length() != DATA_LEN {
        let reason = format!("{} bytes of data, not {DATA_LEN}", data.length());
        return Err(Refusal::command(OFFSET_SGL, reason));
    }
    let disable_flow_control = connect.cattr & Connect::CATTR_DISABLE_SQ_FLOW != 0;
    Ok(ConnectCommand { qid, size, kato_ms, disable_flow_control })
}

/// Judges a Connect command's data.
pub fn judge_data(
    command: ConnectCommand,
    data: &[u8],
    limits: &ConnectLimits,
) -> Result<ConnectRequest, Refusal> {
    let data = ConnectData::ref_from_bytes(data)
        .map_err(|_| Refusal::command(OFFSET_SGL, format!("{} bytes of data", data.len())))?;
    let host_id = HostId(data.hostid);
    if host_id.is_zero() {
        return Err(Refusal::data(ConnectData::OFFSET_HOSTID, "all zero"));
    }
    let cntlid = data.cntlid.get();
    let controller = ControllerChoice::from_wire(cntlid)
        .filter(|choice| match (command.qid, choice) {
            (0, ControllerChoice::Dynamic) => limits.model != ControllerModel::Static,
            (0, _) => limits.model != ControllerModel::Dynamic,
            (_, ControllerChoice::Id(_)) => true,
            (_, _) => false,
        })
        .ok_or_else(|| {
            let reason = format!("{cntlid:#06x} cannot be asked for here");
            Refusal::data(ConnectData::OFFSET_CNTLID, reason)
        })?;
    let nqn = |bytes: &[u8; 256], offset| {
        Nqn::from_wire(bytes).map_err(|e: NqnError| Refusal::data(offset, e.to_string()))
    };
    let subsystem = nqn(&data.subnqn, ConnectData::OFFSET_SUBNQN)?;
    let host = nqn(&data.hostnqn, ConnectData::OFFSET_HOSTNQN)?;
    Ok(ConnectRequest { command, host_id, controller, subsystem, host })
}

/// What a host's Connect came back with, if it was accepted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Accepted {
    /// The controller's identifier.
    pub cntlid: u16,
    /// The response's SQHD, for [`HostQueue::establish`](crate::queue::HostQueue::establish).
    pub sqhd: u16,
}

/// Why a host's Connect failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// A parameter was refused.
    #[error("the controller calls {} invalid (offset {} of the {})", .0.name(), .0.offset, if .0.in_data { "Connect data" } else { "command" })]
    Invalid(InvalidParameter),
    /// Any other status.
    #[error("{}", .0.name_for(CommandKind::Fabrics))]
    Status(Status),
    /// The controller wants in-band authentication, which this host does not have.
    #[error("the controller requires in-band authentication, which is not supported")]
    Authentication,
    /// The controller gave itself an identifier that cannot be.
    #[error("the controller's identifier is {0:#06x}")]
    ControllerId(u16),
    /// Flow control is off, which was not asked for.
    #[error("the controller switched submission queue flow control off unasked")]
    FlowControl,
}

/// Judges the response to a host's Connect.
pub fn judge_response(cqe: &Cqe, asked_flow_control_off: bool) -> Result<Accepted, ConnectError> {
    let status = cqe.status();
    if status.same_code(Status::CONNECT_INVALID_PARAMETERS) {
        return Err(ConnectError::Invalid(InvalidParameter::from_dw0(cqe.dw0.get())));
    }
    if !status.is_success() {
        return Err(ConnectError::Status(status));
    }
    let result = ConnectResult(cqe.dw0.get());
    if result.authreq() != 0 {
        return Err(ConnectError::Authentication);
    }
    let sqhd = cqe.sqhd.get();
    if sqhd == SQHD_FLOW_CONTROL_OFF && !asked_flow_control_off {
        return Err(ConnectError::FlowControl);
    }
    if !matches!(ControllerChoice::from_wire(result.cntlid()), Some(ControllerChoice::Id(_))) {
        return Err(ConnectError::ControllerId(result.cntlid()));
    }
    Ok(Accepted { cntlid: result.cntlid(), sqhd })
}

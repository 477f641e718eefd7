//! From a connected transport to a queue pair: Connect, judged, then accepted or refused.

use std::io::IoSliceMut;
use std::net::TcpStream;

use nvme_spec::fabrics::ConnectData;
use nvme_spec::pdu::ADMIN_IN_CAPSULE;
use nvme_spec::{Cqe, Sqe, Status};
use nvmf_proto::connect::{
    ConnectLimits, ConnectRequest, ControllerModel, DATA_LEN, Refusal, judge_command, judge_data,
};
use nvmf_proto::queue::QueueSize;
use nvmf_proto::tcp::Controller;

use super::QueuePair;
use crate::Deadline;
use crate::transport::{
    ControllerTransport, DataError, Established, ReceivedCommand, TakeApartError, TransportError,
};

/// What a controller takes in a Connect, and what it gives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AcceptOptions {
    /// Which queues may be asked for.
    pub limits: ConnectLimits,
    /// Keep submission queue flow control on even if the host would do without.
    pub flow_control: bool,
    /// The most in-capsule data of commands on I/O queues, in bytes: (IOCCSZ − 4) · 16 of what
    /// Identify Controller says. Admin queues always take 8192.
    pub in_capsule: u32,
}

impl Default for AcceptOptions {
    /// New controllers, queues of up to 1024 entries, 8 KiB in a capsule.
    fn default() -> Self {
        let entries = QueueSize::new(1024).unwrap_or(QueueSize::MIN);
        let model = ControllerModel::Dynamic;
        let limits = ConnectLimits { admin_entries: entries, io_entries: Some(entries), model };
        Self { limits, flow_control: false, in_capsule: 8192 }
    }
}

/// A connection did not become a queue pair.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AcceptError {
    /// The transport failed.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The first command was no Connect that could be accepted; the host was told so.
    #[error("Connect refused: {0}")]
    Refused(Refusal),
}

/// A well-formed Connect that waits for its answer.
///
/// Dropped, it closes the connection without one.
#[derive(Debug)]
#[must_use = "a Connect is to be accepted or refused"]
pub struct PendingConnect {
    transport: Box<dyn ControllerTransport>,
    slot: u16,
    sqe: Sqe,
    data: Box<[u8; DATA_LEN as usize]>,
    request: ConnectRequest,
    options: AcceptOptions,
}

/// Waits for a connection's Connect and judges it by its form.
///
/// One that is ill-formed is refused here. Of one that is not, the caller judges whether there
/// is such a subsystem and controller and whether the host may use it.
pub fn accept(
    mut transport: Box<dyn ControllerTransport>,
    options: &AcceptOptions,
    deadline: Deadline,
) -> Result<PendingConnect, AcceptError> {
    let command = transport.receive(deadline)?.ok_or(TransportError::Closed)?;
    let mut data = Box::new([0; DATA_LEN as usize]);
    match judge(transport.as_mut(), &command, &mut data, options, deadline)? {
        Ok(request) => {
            let ReceivedCommand { slot, sqe, .. } = command;
            Ok(PendingConnect { transport, slot, sqe, data, request, options: *options })
        }
        Err(refusal) => {
            transport.respond(command.slot, refusal.cqe());
            transport.flush(deadline)?;
            Err(AcceptError::Refused(refusal))
        }
    }
}

/// Judges the command, then fetches its data and judges that.
fn judge(
    transport: &mut dyn ControllerTransport,
    command: &ReceivedCommand,
    data: &mut [u8; DATA_LEN as usize],
    options: &AcceptOptions,
    deadline: Deadline,
) -> Result<Result<ConnectRequest, Refusal>, TransportError> {
    let limits = &options.limits;
    let connect = match judge_command(&command.sqe, command.data, limits) {
        Ok(connect) => connect,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let room = &mut [IoSliceMut::new(data)];
    match transport.receive_data(command.slot, room, deadline) {
        Ok(()) => Ok(judge_data(connect, data, limits)),
        Err(DataError::Transport(error)) => Err(error),
        Err(_) => Ok(Err(Refusal::Status(Status::DATA_TRANSFER_ERROR))),
    }
}

impl PendingConnect {
    /// What is asked for, and by whom.
    pub fn request(&self) -> &ConnectRequest {
        &self.request
    }

    /// The Connect command as it came.
    pub fn command(&self) -> &Sqe {
        &self.sqe
    }

    /// The data of the Connect command as it came: 1024 bytes ([`ConnectData`]).
    pub fn data(&self) -> &[u8; DATA_LEN as usize] {
        &self.data
    }

    /// Whether submission queue flow control is on if it is accepted.
    pub fn flow_control(&self) -> bool {
        self.options.flow_control || !self.request.command.disable_flow_control
    }

    /// Socket and protocol state of a connection over TCP on which nothing is under way but this
    /// Connect, so that whoever has the socket and the Connect has all of it.
    ///
    /// # Errors
    ///
    /// Why it is none; nothing happens to it.
    pub fn idle_tcp(&self) -> Result<(&TcpStream, &Controller), TakeApartError> {
        self.transport.idle_tcp(1)
    }

    /// Accepts: the queue belongs to controller `cntlid` (1 to FFEFh).
    pub fn accept(mut self, cntlid: u16, deadline: Deadline) -> Result<QueuePair, TransportError> {
        debug_assert!((1..=ConnectData::CNTLID_MAX).contains(&cntlid));
        let command = self.request.command;
        let in_capsule = if command.qid == 0 { ADMIN_IN_CAPSULE } else { self.options.in_capsule };
        let established =
            Established { size: command.size, flow_control: self.flow_control(), in_capsule };
        self.transport.accept(self.slot, Cqe::with_dw0(0, cntlid.into()), established);
        self.transport.flush(deadline)?;
        Ok(QueuePair::new(self.transport, command.qid))
    }

    /// Refuses.
    pub fn refuse(mut self, refusal: &Refusal, deadline: Deadline) -> Result<(), TransportError> {
        self.transport.respond(self.slot, refusal.cqe());
        self.transport.flush(deadline)
    }
}

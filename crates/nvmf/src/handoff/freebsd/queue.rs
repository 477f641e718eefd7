//! What the kernel has to know of a queue pair over TCP.

use std::io;
use std::net::TcpStream;
use std::os::fd::{AsRawFd, RawFd};

use nvmf_proto::pdu::Format;
use nvmf_proto::queue::QueueSize;
use nvmf_proto::tcp::Negotiated;

use super::nvlist::NvList;
use crate::controller::PendingConnect;
use crate::host::QueuePair;
use crate::transport::TakeApartError;

/// The transport type of TCP, as in a discovery entry.
pub(super) const TRTYPE_TCP: u32 = nvme_spec::log::trtype::TCP as u32;

/// A queue pair cannot be handed over.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QueueError {
    /// It is not idle, or none over TCP.
    #[error(transparent)]
    TakeApart(#[from] TakeApartError),
    /// The controller's heads do not tell that it has taken all commands in, though it has
    /// answered all.
    #[error(
        "the submission queue's head is {sqhd} and its tail {sqtail}, with nothing outstanding"
    )]
    Head {
        /// The head.
        sqhd: u16,
        /// The tail.
        sqtail: u16,
    },
    /// The socket does not do as it is told.
    #[error("the socket cannot be set to blocking mode: {0}")]
    Socket(#[source] io::Error),
}

/// A queue pair over TCP, as the kernel takes it over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct QueueParams {
    /// It is the admin queue.
    pub admin: bool,
    /// Submission queue flow control is on.
    pub flow_control: bool,
    /// The submission queue's size.
    pub size: QueueSize,
    /// Where the submission queue's head stands; 0 without flow control.
    pub sqhd: u16,
    /// Where its tail stands, at a host's end.
    pub sqtail: Option<u16>,
    /// The socket.
    pub fd: RawFd,
    /// The layout of what is received.
    pub receive: Format,
    /// The layout of what is sent.
    pub send: Format,
    /// R2Ts that the host takes at once per command.
    pub r2ts_per_command: u32,
    /// The most data in one H2CData PDU, in bytes.
    pub maxh2cdata: u32,
    /// The most data that this end may send in a capsule, in bytes; 0 at a controller's end.
    pub in_capsule: u32,
}

impl QueueParams {
    /// Those of a host's queue pair, which has to be idle.
    ///
    /// # Errors
    ///
    /// It is not, or is none over TCP.
    pub fn of_host(queue: &QueuePair) -> Result<Self, QueueError> {
        let (stream, host) = queue.idle_tcp()?;
        let (sqhd, sqtail) = host.queue().position().unwrap_or_default();
        if sqhd != sqtail {
            return Err(QueueError::Head { sqhd, sqtail });
        }
        let Negotiated { r2ts_per_command, maxh2cdata, .. } = *negotiated(host.negotiated())?;
        Ok(Self {
            admin: queue.qid() == 0,
            flow_control: queue.flow_control(),
            size: queue.size(),
            sqhd,
            sqtail: Some(sqtail),
            fd: stream.as_raw_fd(),
            receive: host.receive_format(),
            send: host.send_format(),
            r2ts_per_command,
            maxh2cdata,
            in_capsule: host.config().in_capsule,
        })
    }

    /// Those of the queue pair that a Connect asks for.
    ///
    /// # Errors
    ///
    /// More has come than the Connect, or it came by another transport than TCP.
    pub fn of_connect(connect: &PendingConnect) -> Result<Self, QueueError> {
        let (stream, controller) = connect.idle_tcp()?;
        let Negotiated { r2ts_per_command, maxh2cdata, .. } = *negotiated(controller.negotiated())?;
        let command = &connect.request().command;
        Ok(Self {
            admin: command.qid == 0,
            flow_control: connect.flow_control(),
            size: command.size,
            sqhd: 0,
            sqtail: None,
            fd: stream.as_raw_fd(),
            receive: controller.receive_format(),
            send: controller.send_format(),
            r2ts_per_command,
            maxh2cdata,
            in_capsule: 0,
        })
    }

    /// As the kernel takes them.
    pub fn to_nvlist(&self) -> NvList {
        let list = NvList::new()
            .with("admin", self.admin)
            .with("sq_flow_control", self.flow_control)
            .with("qsize", self.size.entries())
            .with("sqhd", self.sqhd);
        let list = match self.sqtail {
            Some(sqtail) => list.with("sqtail", sqtail),
            None => list,
        };
        // An open descriptor is not negative.
        list.with("fd", u32::try_from(self.fd).unwrap_or(u32::MAX))
            .with("rxpda", u32::from(self.receive.alignment))
            .with("txpda", u32::from(self.send.alignment))
            .with("header_digests", self.send.header_digest)
            .with("data_digests", self.send.data_digest)
            // 0's based, as in an ICReq.
            .with("maxr2t", self.r2ts_per_command.saturating_sub(1))
            .with("maxh2cdata", self.maxh2cdata)
            .with("max_icd", self.in_capsule)
    }
}

/// What a handshake agreed on that is done: a queue pair has none else.
fn negotiated(negotiated: Option<&Negotiated>) -> Result<&Negotiated, TakeApartError> {
    negotiated.ok_or(TakeApartError::Broken)
}

/// Sets the mode of a socket: the kernel has them blocking, this library not.
pub(super) fn set_nonblocking(stream: &TcpStream, nonblocking: bool) -> Result<(), QueueError> {
    stream.set_nonblocking(nonblocking).map_err(QueueError::Socket)
}

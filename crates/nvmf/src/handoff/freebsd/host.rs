//! An association handed to nvmf(4).

use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use nvme_spec::Nqn;
use nvme_spec::identify::IdentifyController;
use nvme_spec::log::{DiscoveryEntry, adrfam, subtype, trtype};
use nvme_spec::nqn::NqnError;
use zerocopy::IntoBytes;

use super::kernel::{ControllerName, Kernel, KernelError};
use super::nvlist::{EncodeError, NvList};
use super::queue::{QueueError, QueueParams, TRTYPE_TCP, set_nonblocking};
use super::reconnect::{ReconnectParams, millis, seconds};
use crate::host::{Association, QueuePair};

/// An association to be handed over: an admin queue and at least one I/O queue, all over TCP, all
/// idle, the controller enabled.
///
/// The fields are what the kernel is told; [`new`](Self::new) takes them from an [`Association`].
#[derive(Debug)]
pub struct HandoffHost {
    /// The admin queue.
    pub admin: QueuePair,
    /// The I/O queues, all of the same size.
    pub io: Vec<QueuePair>,
    /// What Identify Controller says.
    pub controller: Box<IdentifyController>,
    /// The entry of the discovery log by which the controller was found; without one it is made
    /// from the controller's data and the address of the admin queue's connection.
    pub entry: Option<Box<DiscoveryEntry>>,
    /// The host's NQN.
    pub host: Nqn,
    /// The keep-alive time that the Connect asked for, zero for none: the kernel sends Keep Alive.
    pub keep_alive: Duration,
    /// Submission queue flow control was asked for.
    pub flow_control: bool,
    /// How long the kernel waits between two requests to reconnect; zero: it asks for none.
    pub reconnect_delay: Duration,
    /// How long the kernel keeps a controller that lost its association; zero: forever.
    pub controller_loss_timeout: Duration,
}

/// An association cannot be handed over.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandoffError {
    /// A queue pair cannot.
    #[error("queue {qid}: {source}")]
    Queue {
        /// Its identifier; 0 is the admin queue.
        qid: u16,
        /// Why not.
        source: QueueError,
    },
    /// There is no I/O queue.
    #[error("the kernel takes an association with at least one I/O queue, and there is none")]
    NoIoQueue,
    /// What is given as the admin queue is none, or is given as an I/O queue.
    #[error("queue {qid} is given for a queue of the other kind")]
    Kind {
        /// Its identifier.
        qid: u16,
    },
    /// A queue is of another association.
    #[error("queue {qid} is of controller {cntlid}, and the admin queue of controller {expected}")]
    Controller {
        /// Its identifier.
        qid: u16,
        /// Its controller.
        cntlid: u16,
        /// The admin queue's.
        expected: u16,
    },
    /// I/O queues are of different sizes.
    #[error("queue {qid} has {entries} entries; the kernel wants {expected}, as the first one has")]
    Size {
        /// The queue's identifier.
        qid: u16,
        /// Its size.
        entries: u32,
        /// The size of the first I/O queue.
        expected: u32,
    },
    /// The subsystem is not told, or told wrong.
    #[error("the subsystem's NQN in the {whose}: {source}")]
    Nqn {
        /// In what.
        whose: &'static str,
        /// What is wrong.
        source: NqnError,
    },
    /// The discovery entry is of another subsystem.
    #[error("the discovery entry is of {entry}, and the controller of {controller}")]
    Subsystem {
        /// The subsystem of the entry.
        entry: Box<Nqn>,
        /// That of the controller.
        controller: Box<Nqn>,
    },
    /// The discovery entry is of another transport.
    #[error("the discovery entry is of transport {}, not tcp", trtype::name(*trtype))]
    Transport {
        /// Which.
        trtype: u8,
    },
    /// The address of the admin queue's connection cannot be had.
    #[error("the address of the controller: {0}")]
    Address(#[source] io::Error),
    /// Something does not fit into a list.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The kernel refuses it.
    #[error(transparent)]
    Kernel(#[from] KernelError),
}

/// What was not handed over, and why.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct NotHandedOver {
    /// Why.
    #[source]
    pub error: HandoffError,
    /// The queues, as they were. If the error is of the kernel it may have taken sockets already:
    /// those fail from now on.
    pub handoff: Box<HandoffHost>,
}

impl HandoffHost {
    /// What nvmecontrol(8) waits between two attempts to reconnect.
    pub const RECONNECT_DELAY: Duration = Duration::from_secs(10);
    /// After what time nvmecontrol(8) gives a controller up.
    pub const CONTROLLER_LOSS_TIMEOUT: Duration = Duration::from_secs(600);

    /// All of an association, with the times that nvmecontrol(8) has.
    pub fn new(association: Association, io: Vec<QueuePair>) -> Self {
        let (admin, controller, options) = association.into_parts();
        Self {
            admin,
            io,
            controller,
            entry: None,
            host: options.host,
            keep_alive: options.keep_alive,
            flow_control: !options.disable_flow_control,
            reconnect_delay: Self::RECONNECT_DELAY,
            controller_loss_timeout: Self::CONTROLLER_LOSS_TIMEOUT,
        }
    }

    /// Makes a controller of it, `/dev/nvmeN`. The queues are the kernel's from then on.
    ///
    /// # Errors
    ///
    /// What is wrong with which queue, or what the kernel says; the queues come back.
    pub fn hand_over(self, kernel: &mut dyn Kernel) -> Result<(), NotHandedOver> {
        self.give(|packed| {
            kernel.handoff_host(packed).map_err(KernelError::of("NVMF_HANDOFF_HOST"))
        })
    }

    /// Gives it to a controller that lost its association. It has to be to the same subsystem.
    ///
    /// # Errors
    ///
    /// As [`hand_over`](Self::hand_over).
    pub fn reconnect(
        self,
        controller: &ControllerName,
        kernel: &mut dyn Kernel,
    ) -> Result<(), NotHandedOver> {
        self.give(|packed| {
            kernel
                .reconnect_host(controller, packed)
                .map_err(KernelError::of("NVMF_RECONNECT_HOST"))
        })
    }

    /// What the kernel is told.
    ///
    /// # Errors
    ///
    /// What keeps the association from being handed over, as far as it can be seen from here.
    pub fn to_nvlist(&self) -> Result<NvList, HandoffError> {
        let admin = params(&self.admin, true)?;
        self.check_io()?;
        let io = self.io.iter().map(|queue| params(queue, false));
        let io = io.collect::<Result<Vec<_>, HandoffError>>()?;
        let reconnect = self.reconnect_params()?;
        Ok(NvList::new()
            .with("trtype", TRTYPE_TCP)
            .with("kato", millis(self.keep_alive))
            .with("reconnect_delay", seconds(self.reconnect_delay))
            .with("controller_loss_timeout", seconds(self.controller_loss_timeout))
            .with("rparams", reconnect.to_nvlist())
            .with("admin", admin)
            .with("io", io)
            .with("cdata", self.controller.as_bytes()))
    }

    /// What has to be known to make the association again: the kernel keeps it.
    ///
    /// # Errors
    ///
    /// As [`to_nvlist`](Self::to_nvlist).
    pub fn reconnect_params(&self) -> Result<ReconnectParams, HandoffError> {
        let first = self.io.first().ok_or(HandoffError::NoIoQueue)?;
        let (stream, host) = self.admin.idle_tcp().map_err(failed(&self.admin))?;
        let asked = host.config();
        Ok(ReconnectParams {
            entry: self.discovery_entry(stream)?,
            host: self.host.clone(),
            io_queues: u32::try_from(self.io.len()).unwrap_or(u32::MAX),
            io_size: first.size(),
            keep_alive: self.keep_alive,
            reconnect_delay: self.reconnect_delay,
            controller_loss_timeout: self.controller_loss_timeout,
            flow_control: self.flow_control,
            header_digest: asked.header_digest,
            data_digest: asked.data_digest,
            r2ts_per_command: Some(asked.r2ts_per_command),
        })
    }

    fn give(
        self,
        call: impl FnOnce(&[u8]) -> Result<(), KernelError>,
    ) -> Result<(), NotHandedOver> {
        let given = self.packed().and_then(|packed| {
            self.queues().try_for_each(|queue| set_mode(queue, false))?;
            call(&packed).map_err(HandoffError::from)
        });
        given.map_err(|error| {
            for queue in self.queues() {
                // If that fails, the kernel has the socket, or the queue tells when it is used.
                let _ = set_mode(queue, true);
            }
            NotHandedOver { error, handoff: Box::new(self) }
        })
    }

    fn packed(&self) -> Result<Vec<u8>, HandoffError> {
        Ok(self.to_nvlist()?.encode()?)
    }

    fn queues(&self) -> impl Iterator<Item = &QueuePair> {
        std::iter::once(&self.admin).chain(&self.io)
    }

    /// Whether the I/O queues belong together.
    fn check_io(&self) -> Result<(), HandoffError> {
        let first = self.io.first().ok_or(HandoffError::NoIoQueue)?;
        let (expected, size) = (self.admin.cntlid(), first.size());
        for queue in &self.io {
            let (qid, cntlid) = (queue.qid(), queue.cntlid());
            if cntlid != expected {
                return Err(HandoffError::Controller { qid, cntlid, expected });
            }
            if queue.size() != size {
                let (entries, expected) = (queue.size().entries(), size.entries());
                return Err(HandoffError::Size { qid, entries, expected });
            }
        }
        Ok(())
    }

    /// The entry that the kernel keeps. It is of the controller's subsystem, to the last byte, and
    /// an address that a C program can read: a family, and no spaces behind.
    fn discovery_entry(&self, stream: &TcpStream) -> Result<Box<DiscoveryEntry>, HandoffError> {
        let controller = self.controller.subsystem_nqn().map_err(bad_nqn("controller's data"))?;
        let peer = stream.peer_addr().map_err(HandoffError::Address)?;
        let mut entry = match &self.entry {
            Some(entry) => entry.clone(),
            None => Box::new(self.entry_of(&controller, peer)?),
        };
        if entry.trtype != trtype::TCP {
            return Err(HandoffError::Transport { trtype: entry.trtype });
        }
        let of_entry = entry.subsystem_nqn().map_err(bad_nqn("discovery entry"))?;
        if of_entry != controller {
            let (entry, controller) = (Box::new(of_entry), Box::new(controller));
            return Err(HandoffError::Subsystem { entry, controller });
        }
        entry.subnqn = self.controller.subnqn;
        if !matches!(entry.adrfam, adrfam::IPV4 | adrfam::IPV6) {
            entry.adrfam = family(peer);
        }
        close_by_nul(&mut entry.traddr);
        close_by_nul(&mut entry.trsvcid);
        Ok(entry)
    }

    fn entry_of(&self, subsystem: &Nqn, peer: SocketAddr) -> Result<DiscoveryEntry, HandoffError> {
        let (address, port) = (peer.ip().to_canonical().to_string(), peer.port().to_string());
        let mut entry = DiscoveryEntry::tcp(subtype::NVM, subsystem, family(peer), &address, &port)
            .map_err(|long| HandoffError::Address(io::Error::other(long.to_string())))?;
        entry.asqsz.set(u16::try_from(self.admin.size().entries()).unwrap_or(u16::MAX));
        if self.controller.fcatt & IdentifyController::FCATT_STATIC != 0 {
            entry.cntlid = self.controller.cntlid;
        }
        Ok(entry)
    }
}

/// What the kernel is told of a queue.
fn params(queue: &QueuePair, is_admin: bool) -> Result<NvList, HandoffError> {
    let qid = queue.qid();
    if (qid == 0) != is_admin {
        return Err(HandoffError::Kind { qid });
    }
    Ok(QueueParams::of_host(queue).map_err(failed(queue))?.to_nvlist())
}

fn set_mode(queue: &QueuePair, nonblocking: bool) -> Result<(), HandoffError> {
    let (stream, _) = queue.idle_tcp().map_err(failed(queue))?;
    set_nonblocking(stream, nonblocking).map_err(failed(queue))
}

fn failed<E: Into<QueueError>>(queue: &QueuePair) -> impl Fn(E) -> HandoffError {
    let qid = queue.qid();
    move |source| HandoffError::Queue { qid, source: source.into() }
}

fn bad_nqn(whose: &'static str) -> impl Fn(NqnError) -> HandoffError {
    move |source| HandoffError::Nqn { whose, source }
}

fn family(peer: SocketAddr) -> u8 {
    match peer.ip().to_canonical() {
        IpAddr::V4(_) => adrfam::IPV4,
        IpAddr::V6(_) => adrfam::IPV6,
    }
}

/// Puts NULs where spaces pad a text.
fn close_by_nul(field: &mut [u8]) {
    let padding = field.iter_mut().rev().take_while(|byte| matches!(**byte, b' ' | 0));
    padding.for_each(|byte| *byte = 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_becomes_nul_and_text_stays() {
        let mut field = *b"192.0.2.7 x  \0  ";
        close_by_nul(&mut field);
        assert_eq!(&field, b"192.0.2.7 x\0\0\0\0\0");
        let mut blank = [b' '; 4];
        close_by_nul(&mut blank);
        assert_eq!(blank, [0; 4]);
    }

    #[test]
    fn an_address_in_the_other_ones_clothes_is_of_its_own_family() {
        let family = |address: &str| family(address.parse().unwrap());
        assert_eq!(family("192.0.2.7:1"), adrfam::IPV4);
        assert_eq!(family("[2001:db8::7]:1"), adrfam::IPV6);
        assert_eq!(family("[::ffff:192.0.2.7]:1"), adrfam::IPV4);
    }
}

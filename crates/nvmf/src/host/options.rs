//! What a host asks for when it connects.

use std::time::Duration;

use nvme_spec::{HostId, Nqn};
use nvmf_proto::queue::QueueSize;
use nvmf_proto::tcp::HostConfig;

use super::identity::{Identity, IdentityError};
use crate::Deadline;

/// How an association is made, and how long to wait for its answers.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HostOptions {
    /// The host's NQN.
    pub host: Nqn,
    /// The host's identifier.
    pub host_id: HostId,
    /// Ask for digests of PDU headers.
    pub header_digest: bool,
    /// Ask for digests of data.
    pub data_digest: bool,
    /// HPDA: the alignment of data sent to this host, in dwords, 0's based, at most 31. The
    /// Linux kernel's target takes only 0.
    pub hpda: u8,
    /// R2Ts taken at once per command, at least 1.
    pub r2ts_per_command: u32,
    /// Ask to do without submission queue flow control.
    pub disable_flow_control: bool,
    /// KATO: the controller gives this host up if it hears nothing for this long; zero for never.
    /// The well-known discovery subsystem is asked for none, unless
    /// [`persistent_discovery`](Self::persistent_discovery) says so.
    pub keep_alive: Duration,
    /// The connection to the discovery subsystem is to last: it has the keep-alive time, and with
    /// that its controller tells of changes (Base 2.1, section 3.1.3.3).
    pub persistent_discovery: bool,
    /// The admin queue's size.
    pub admin_entries: QueueSize,
    /// How long each wait may last: for a connection, for one command's answer, for the
    /// controller to become ready or shut down.
    pub timeout: Duration,
    /// Nothing is waited for beyond this: for a host that has a limit for all of connecting, too.
    pub deadline: Option<Deadline>,
}

impl HostOptions {
    /// The least that a discovery entry's ASQSZ may be, so every controller takes it.
    const ADMIN_ENTRIES: u32 = 32;

    /// No digests, no flow control, keep-alive after 30 s, answers within 5 s.
    pub fn new(host: Nqn, host_id: HostId) -> Self {
        Self {
            host,
            host_id,
            header_digest: false,
            data_digest: false,
            hpda: 0,
            r2ts_per_command: 4,
            disable_flow_control: true,
            keep_alive: Duration::from_secs(30),
            persistent_discovery: false,
            admin_entries: QueueSize::new(Self::ADMIN_ENTRIES).unwrap_or(QueueSize::MIN),
            timeout: Duration::from_secs(5),
            deadline: None,
        }
    }

    /// The same for the host that this machine is.
    ///
    /// # Errors
    ///
    /// As [`Identity::from_system`].
    pub fn from_system() -> Result<Self, IdentityError> {
        Ok(Self::from(Identity::from_system()?))
    }

    /// What the handshake of a connection asks for, with room for `in_capsule` bytes in a capsule.
    pub(super) fn handshake(&self, in_capsule: u32) -> HostConfig {
        HostConfig {
            hpda: self.hpda.min(31),
            header_digest: self.header_digest,
            data_digest: self.data_digest,
            r2ts_per_command: self.r2ts_per_command,
            in_capsule,
        }
    }

    /// When a wait that begins now ends.
    pub(super) fn wait(&self) -> Deadline {
        let this = Deadline::after(self.timeout);
        self.deadline.map_or(this, |all| this.min(all))
    }

    /// KATO in milliseconds.
    pub(super) fn kato_ms(&self) -> u32 {
        u32::try_from(self.keep_alive.as_millis()).unwrap_or(u32::MAX)
    }
}

impl From<Identity> for HostOptions {
    fn from(identity: Identity) -> Self {
        Self::new(identity.host, identity.host_id)
    }
}

//! What the kernel keeps of an association, and how it says that it stands.

use std::time::{Duration, SystemTime};

use nvme_spec::Nqn;
use nvme_spec::log::DiscoveryEntry;
use nvme_spec::nqn::NqnError;
use nvmf_proto::queue::QueueSize;
use zerocopy::{FromBytes, IntoBytes};

use super::kernel::KernelError;
use super::nvlist::{DecodeError, Missing, NvList};

/// What an association was made with, for whoever makes it again after it was lost: the kernel
/// keeps it and gives it back.
#[derive(Clone, PartialEq, Debug)]
pub struct ReconnectParams {
    /// Where the subsystem is, and what it is called.
    pub entry: Box<DiscoveryEntry>,
    /// The host's NQN.
    pub host: Nqn,
    /// I/O queues.
    pub io_queues: u32,
    /// Their size.
    pub io_size: QueueSize,
    /// The keep-alive time in whole milliseconds, zero for none.
    pub keep_alive: Duration,
    /// Between two attempts, in whole seconds; zero: none is asked for.
    pub reconnect_delay: Duration,
    /// From when on the controller is given up, in whole seconds; zero for never.
    pub controller_loss_timeout: Duration,
    /// Submission queue flow control was asked for.
    pub flow_control: bool,
    /// Header digests were asked for.
    pub header_digest: bool,
    /// Data digests were asked for.
    pub data_digest: bool,
    /// R2Ts taken at once per command. The kernel only keeps it; who did not use this library has
    /// not put it there.
    pub r2ts_per_command: Option<u32>,
}

/// How a controller's connection stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConnectionStatus {
    /// It has an association.
    pub connected: bool,
    /// When it lost one last.
    pub last_disconnect: Option<SystemTime>,
}

/// What the kernel keeps or says cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StatusError {
    /// The kernel refuses.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// It is no list.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// Something is missing.
    #[error(transparent)]
    Missing(#[from] Missing),
    /// The discovery entry has another length.
    #[error("the discovery entry has {len} bytes, not 1024")]
    EntryLength {
        /// Its length in bytes.
        len: usize,
    },
    /// The host's NQN is none.
    #[error("the host NQN: {0}")]
    Host(#[from] NqnError),
    /// A number is too large, or too small.
    #[error("{name} is {value}")]
    Range {
        /// Of what.
        name: &'static str,
        /// The number.
        value: u64,
    },
}

impl ReconnectParams {
    /// As the kernel keeps them.
    pub fn to_nvlist(&self) -> NvList {
        let list = NvList::new()
            .with("dle", self.entry.as_bytes())
            .with("hostnqn", self.host.as_str())
            .with("num_io_queues", self.io_queues)
            .with("kato", millis(self.keep_alive))
            .with("reconnect_delay", seconds(self.reconnect_delay))
            .with("controller_loss_timeout", seconds(self.controller_loss_timeout))
            .with("io_qsize", self.io_size.entries())
            .with("sq_flow_control", self.flow_control)
            .with("header_digests", self.header_digest)
            .with("data_digests", self.data_digest);
        match self.r2ts_per_command {
            Some(r2ts) => list.with("maxr2t", r2ts.saturating_sub(1)),
            None => list,
        }
    }

    /// From what the kernel keeps.
    ///
    /// # Errors
    ///
    /// It is not as it has to be; see [`StatusError`].
    pub fn from_packed(packed: &[u8]) -> Result<Self, StatusError> {
        let list = NvList::decode(packed)?;
        let entry = list.binary("dle")?;
        let entry = DiscoveryEntry::read_from_bytes(entry)
            .map_err(|_| StatusError::EntryLength { len: entry.len() })?;
        let optional = |name| list.number(name).unwrap_or(0);
        let io_size = number(&list, "io_qsize")?;
        Ok(Self {
            entry: Box::new(entry),
            host: Nqn::lenient(list.string("hostnqn")?)?,
            io_queues: number(&list, "num_io_queues")?,
            io_size: QueueSize::new(io_size)
                .ok_or(StatusError::Range { name: "io_qsize", value: io_size.into() })?,
            keep_alive: Duration::from_millis(optional("kato")),
            reconnect_delay: Duration::from_secs(optional("reconnect_delay")),
            controller_loss_timeout: Duration::from_secs(optional("controller_loss_timeout")),
            flow_control: list.bool("sq_flow_control")?,
            header_digest: list.bool("header_digests")?,
            data_digest: list.bool("data_digests")?,
            r2ts_per_command: match number(&list, "maxr2t") {
                Err(StatusError::Missing(_)) => None,
                maxr2t => Some(maxr2t?.saturating_add(1)),
            },
        })
    }
}

impl ConnectionStatus {
    /// From what the kernel says.
    ///
    /// # Errors
    ///
    /// It is not as it has to be; see [`StatusError`].
    pub fn from_packed(packed: &[u8]) -> Result<Self, StatusError> {
        let list = NvList::decode(packed)?;
        let last = list.list("last_disconnect")?;
        let (secs, nanos) = (last.number("tv_sec")?, number(last, "tv_nsec")?);
        let since = SystemTime::UNIX_EPOCH
            .checked_add(Duration::from_secs(secs))
            .and_then(|time| time.checked_add(Duration::from_nanos(nanos.into())))
            .ok_or(StatusError::Range { name: "tv_sec", value: secs })?;
        // The kernel has zero there until it happens.
        let last_disconnect = (since != SystemTime::UNIX_EPOCH).then_some(since);
        Ok(Self { connected: list.bool("connected")?, last_disconnect })
    }
}

/// A number that the kernel has 32 bits for.
fn number(list: &NvList, name: &'static str) -> Result<u32, StatusError> {
    let value = list.number(name)?;
    u32::try_from(value).map_err(|_| StatusError::Range { name, value })
}

/// In milliseconds, as many as the kernel can have.
pub(super) fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

/// In seconds, begun ones counted, as many as the kernel can have.
pub(super) fn seconds(duration: Duration) -> u32 {
    let begun = u64::from(duration.subsec_nanos() > 0);
    u32::try_from(duration.as_secs().saturating_add(begun)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_begun_second_is_one_and_none_is_none() {
        let s = |millis| seconds(Duration::from_millis(millis));
        assert_eq!([s(0), s(1), s(1000), s(1001)], [0, 1, 1, 2]);
        assert_eq!((seconds(Duration::MAX), millis(Duration::MAX)), (u32::MAX, u32::MAX));
    }
}

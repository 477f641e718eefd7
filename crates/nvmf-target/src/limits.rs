//! What this target offers at most, and what it reports of it.
//!
//! Some of it can be less: [`MaxTransfer`] and the size of I/O queues are a subsystem's, [`InCapsule`]
//! is a target's.

use std::time::Duration;

use nvme_spec::identify::IdentifyController;
use nvme_spec::property::Vs;
use nvmf_proto::queue::QueueSize;

/// The version in property VS.
///
/// What 2.0 and 2.1 ask for beyond 1.4 is answered (Supported Log Pages, Feature Identifiers
/// Supported and Effects, the I/O Command Set Independent namespace data), but for CRTO and scopes in
/// the Commands Supported and Effects page. By claiming it, hosts would read more at each connect
/// and learn nothing that matters here, and those of before 2.0 warn of command effects that have
/// scopes.
pub const VERSION: Vs = Vs::V1_4;

/// The greatest MDTS there is: the most data of one command is 2^8 pages of 4 KiB.
pub const MDTS: u8 = 8;

/// The most data of one command in bytes, which bounds what a queue allocates; a subsystem may have
/// [less](MaxTransfer).
pub const MAX_TRANSFER: u32 = PAGE << MDTS;

/// The unit of MDTS in bytes: CAP.MPSMIN is 0.
const PAGE: u32 = 4096;

/// WZSL: the most that one Write Zeroes can ask for, 65536 blocks of 4 KiB, is 2^16 pages.
pub const WRITE_ZEROES_LIMIT: u8 = 16;

/// The most bytes of data in a command capsule of an I/O queue; a target may take
/// [less](InCapsule).
pub const IN_CAPSULE: u32 = 16 << 10;

/// Entries of the largest I/O queue; a subsystem's may be smaller.
pub const IO_ENTRIES: QueueSize = entries(1024);

/// Entries of the largest admin queue.
pub const ADMIN_ENTRIES: QueueSize = entries(128);

/// I/O queues that a controller has at most, unless the subsystem says otherwise.
pub const IO_QUEUES: u16 = 128;

/// MNAN: namespaces of a subsystem.
pub const NAMESPACES: u32 = 1024;

/// ANAGRPMAX and NANAGRPID: ANA groups there are, from 1.
pub const ANA_GROUPS: u32 = 32;

/// ANATT: how long a group may be in the Change state.
pub const ANA_TRANSITION: Duration = Duration::from_secs(10);

/// Asynchronous Event Requests that a controller holds.
pub const ASYNC_EVENTS: u16 = 4;

/// Abort commands that a controller has under way at once (ACL).
pub const ABORTS: u8 = 4;

/// An Abort command is answered within this time: that the other was not aborted, if its queue has
/// not said so.
pub const ABORT_TIMEOUT: Duration = Duration::from_secs(5);

/// RTD3E: what a shutdown may take, which hosts wait for: storage may have much to write.
pub const SHUTDOWN_LATENCY: Duration = Duration::from_secs(15);

/// NWPC: hosts can protect a namespace and unprotect it, until the target ends.
pub const WRITE_PROTECTION: u8 = 1;

/// Entries of the Error Information log.
pub const ERROR_LOG_ENTRIES: usize = 64;

/// Hosts that can be registered with one namespace for reservations.
pub const REGISTRANTS: usize = 256;

/// Reservation Notification log pages that wait to be read; what comes when these are full is lost.
pub const RESERVATION_NOTIFICATIONS: usize = 255;

/// KAS: the granularity of the Keep Alive Timer.
pub const KEEP_ALIVE_GRANULARITY: Duration = Duration::from_secs(1);

/// The Keep Alive Timeout of a discovery controller whose host gave none, in milliseconds: such
/// hosts read the log and go, and one that does not go would be kept forever.
pub const DISCOVERY_KATO_MS: u32 = 120_000;

/// CAP.TO: a reset waits this long for commands that are being executed.
pub const READY_TIMEOUT: Duration = Duration::from_secs(15);

/// The optional I/O commands there are.
pub const OPTIONAL_COMMANDS: u16 = IdentifyController::ONCS_COMPARE
    | IdentifyController::ONCS_DSM
    | IdentifyController::ONCS_WRITE_ZEROES
    | IdentifyController::ONCS_SAVE_SELECT
    | IdentifyController::ONCS_TIMESTAMP
    | IdentifyController::ONCS_VERIFY
    | IdentifyController::ONCS_WRITE_UNCORRECTABLE
    | IdentifyController::ONCS_COPY
    | IdentifyController::ONCS_RESERVATIONS;

/// The model number in Identify Controller.
pub const MODEL: &str = "nvmf";

/// The firmware revision in Identify Controller: this crate's version.
pub const FIRMWARE: &str = env!("CARGO_PKG_VERSION");

/// The connections that a target has at once, unless it is told otherwise.
pub const CONNECTIONS: usize = 8192;

/// The most data that one command moves: a power of two, from 8 KiB to 1 MiB
/// (Base 2.1, section 5.1.13.2.1, MDTS).
///
/// There is no less: a page of 4 KiB would be an MDTS of 0, which means that there is no limit.
///
/// ```
/// use nvmf_target::limits::MaxTransfer;
///
/// assert_eq!(MaxTransfer::new(128 << 10).map(MaxTransfer::mdts), Some(5));
/// assert_eq!(MaxTransfer::new(100 << 10), None);
/// assert_eq!(MaxTransfer::new(4 << 10), None);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MaxTransfer(u32);

impl MaxTransfer {
    /// The least there is.
    pub const MIN: Self = Self(PAGE << 1);

    /// The most there is, which is what holds where nothing is said.
    pub const MAX: Self = Self(MAX_TRANSFER);

    /// So many bytes, `None` unless they are a power of two from 8 KiB to 1 MiB.
    pub const fn new(bytes: u32) -> Option<Self> {
        let fits = bytes >= Self::MIN.0 && bytes <= Self::MAX.0;
        if fits && bytes.is_power_of_two() { Some(Self(bytes)) } else { None }
    }

    /// In bytes.
    pub const fn bytes(self) -> u32 {
        self.0
    }

    /// As MDTS tells it: a power of two of pages of 4 KiB, 1 to 8.
    pub fn mdts(self) -> u8 {
        u8::try_from((self.0 / PAGE).trailing_zeros()).unwrap_or(MDTS)
    }
}

impl Default for MaxTransfer {
    fn default() -> Self {
        Self::MAX
    }
}

/// Bytes of data that a command on an I/O queue may bring in its capsule: a multiple of 16, up to
/// 16 KiB (Base 2.1, section 5.1.13.2.1, IOCCSZ). With none, hosts wait until they are asked for the
/// data of each write.
///
/// ```
/// use nvmf_target::limits::InCapsule;
///
/// assert_eq!(InCapsule::new(4096).map(InCapsule::bytes), Some(4096));
/// assert_eq!(InCapsule::new(0), Some(InCapsule::NONE));
/// assert_eq!(InCapsule::new(1000), None);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InCapsule(u32);

impl InCapsule {
    /// No data in capsules.
    pub const NONE: Self = Self(0);

    /// The most there is, which is what holds where nothing is said.
    pub const MAX: Self = Self(IN_CAPSULE);

    /// So many bytes, `None` unless they are a multiple of 16 up to 16 KiB.
    pub const fn new(bytes: u32) -> Option<Self> {
        if bytes <= Self::MAX.0 && bytes.is_multiple_of(16) { Some(Self(bytes)) } else { None }
    }

    /// In bytes.
    pub const fn bytes(self) -> u32 {
        self.0
    }
}

impl Default for InCapsule {
    fn default() -> Self {
        Self::MAX
    }
}

const fn entries(n: u32) -> QueueSize {
    match QueueSize::new(n) {
        Some(size) => size,
        None => QueueSize::MIN,
    }
}

//! What this target offers at most, and what it reports of it.

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

/// MDTS: the most data of one command is 2^8 pages of 4 KiB.
pub const MDTS: u8 = 8;

/// The most data of one command in bytes, which bounds what a queue allocates.
pub const MAX_TRANSFER: u32 = 4096 << MDTS;

/// WZSL: the most that one Write Zeroes can ask for, 65536 blocks of 4 KiB, is 2^16 pages.
pub const WRITE_ZEROES_LIMIT: u8 = 16;

/// Bytes of data in a command capsule of an I/O queue.
pub const IN_CAPSULE: u32 = 16 << 10;

/// Entries of the largest I/O queue.
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

const fn entries(n: u32) -> QueueSize {
    match QueueSize::new(n) {
        Some(size) => size,
        None => QueueSize::MIN,
    }
}

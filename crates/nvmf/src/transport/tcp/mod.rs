//! The TCP transport: one socket for each queue pair (NVMe/TCP Transport 1.1).

mod controller;
mod gathered;
mod host;
mod socket;

pub use controller::ControllerTcp;
pub use host::{HostParts, HostTcp};
pub use nvmf_proto::tcp::{ControllerConfig, HostConfig, Negotiated};

use std::sync::OnceLock;

use nvmf_proto::digest::{self, SelfTestError};

/// Checks this machine's CRC32C, once for the whole process.
fn self_test() -> Result<(), SelfTestError> {
    static RESULT: OnceLock<Result<(), SelfTestError>> = OnceLock::new();
    *RESULT.get_or_init(digest::self_test)
}

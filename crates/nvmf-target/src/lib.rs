//! Subsystems, namespaces, controllers and discovery: an NVMe over Fabrics target.

#![forbid(unsafe_code)]

mod admin;
mod association;
mod discovery;
mod error_log;
pub mod identity;
mod io;
pub mod limits;
mod serve;
mod statistics;
mod subsystem;
#[cfg(test)]
mod testing;

pub use serve::{Handle, Target, TargetBuilder, TargetError};
pub use statistics::Snapshot;
pub use subsystem::{Namespace, Subsystem, SubsystemBuilder, SubsystemError};

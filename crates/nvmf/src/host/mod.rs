//! The host: the end that connects, sends commands and gets answers.
//!
//! [`Association`] is the comfortable way in: it connects the admin queue, enables the
//! controller, identifies it, and connects I/O queues. [`QueuePair`] is one queue: commands with
//! their data in, completions out, as many outstanding as the queue has room for.
//!
//! [`discovery`] finds out what targets offer; feature `mdns` adds `mdns`, which finds discovery
//! controllers on the link, and feature `config-files` adds `config_files`, the files of nvme-cli
//! that name some. [`passthru`] is for commands that this library knows nothing of.

mod association;
#[cfg(feature = "config-files")]
pub mod config_files;
mod dial;
pub mod discovery;
mod feature;
mod identify;
pub mod identity;
mod log;
#[cfg(feature = "mdns")]
pub mod mdns;
mod options;
pub mod passthru;
mod queue_pair;

pub use association::Association;
pub use dial::{Dial, TcpDialer};
pub use discovery::{DiscoveryAttribute, DiscoveryLog};
pub use identify::{NamespaceIds, NamespaceInfo};
pub use options::HostOptions;
pub use queue_pair::{CommandId, Completion, ConnectOptions, QueuePair, TcpQueue};

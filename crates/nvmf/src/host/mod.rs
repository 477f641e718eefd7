//! The host: the end that connects, sends commands and gets answers.
//!
//! [`Association`] is the comfortable way in: it connects the admin queue, enables the
//! controller, identifies it, and connects I/O queues. [`QueuePair`] is one queue: commands with
//! their data in, completions out, as many outstanding as the queue has room for.

mod association;
mod dial;
mod discovery;
mod feature;
mod identify;
pub mod identity;
mod log;
mod options;
mod queue_pair;

pub use association::Association;
pub use dial::{Dial, TcpDialer};
pub use discovery::{DiscoveryAttribute, DiscoveryLog};
pub use identify::{NamespaceIds, NamespaceInfo};
pub use options::HostOptions;
pub use queue_pair::{CommandId, Completion, ConnectOptions, QueuePair, TcpQueue};

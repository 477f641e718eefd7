//! The controller: the end that is connected to, receives commands and answers them.
//!
//! [`accept`] receives and judges a Connect over a transport; the [`PendingConnect`] it gives is
//! accepted or refused, which makes it a [`QueuePair`]. From that come [`Command`]s, each of
//! which is answered once.
//!
//! What a controller says about itself is built by [`identify`], what a discovery controller
//! lists by [`discovery`].

mod accept;
mod command;
pub mod discovery;
pub mod identify;
mod queue_pair;
pub mod serial;

pub use accept::{AcceptError, AcceptOptions, PendingConnect, accept};
pub use command::Command;
pub use queue_pair::QueuePair;
pub use serial::SerialNumber;

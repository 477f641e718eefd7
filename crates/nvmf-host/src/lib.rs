//! A pipelined NVMe/TCP host: many I/O queues on one thread, many commands on each.
//!
//! `nvmf` connects: [`Association::connect_io_queues`] and [`QueuePair::into_tcp`] give idle queues.
//! [`run`] drives them on an event loop of [`nvmf_engine`] and asks a [`Workload`] what to do
//! whenever a queue has room. What becomes ready in one turn leaves in one gathered send for each
//! queue, and answers are taken in as many as have come.
//!
//! [`Association::connect_io_queues`]: nvmf::host::Association::connect_io_queues
//! [`QueuePair::into_tcp`]: nvmf::host::QueuePair::into_tcp
//!
//! # How data moves
//!
//! A [`Request`] owns its [`Buffer`] and the completion gives it back, so buffers can be used again.
//! What is written is sent by reference. What is read is received straight into the buffer where
//! 16 KiB or more of it are still to come, and copied from the receive buffer where it is less, so
//! that small answers share a system call.
//!
//! # How it ends
//!
//! When the workload says [`Next::Done`] for every queue and everything is answered, or at the first
//! thing that fails on any queue. Nothing waits without a limit: a command that is not answered in
//! its time is an error, and so are a connection that ends and a peer that breaks the protocol,
//! which is told so. Every request is completed in any case: those that a failure caught are
//! [`CommandError::Lost`].
//!
//! # What it does not do
//!
//! - No connecting, no Keep Alive, no reconnecting: the association belongs to another thread.
//! - No TLS, as in `nvmf`.

#![forbid(unsafe_code)]

mod error;
mod handle;
mod queue;
mod request;
mod run;

pub use error::{CommandError, Error};
pub use handle::Handle;
pub use nvmf_engine::{EngineChoice, EngineKind, Pace};
pub use request::{Buffer, Next, Request, Workload};
pub use run::{Options, run};

//! An NVMe/TCP host for programs that want blocks: a remote namespace as an object, and the pipelined
//! queues below it.
//!
//! [`Namespace`] is the one to begin with: bytes at offsets, for any number of threads, by several
//! paths that may come and go. [`AsyncNamespace`] is the same as futures; with the feature `tokio` it
//! has a cursor of tokio's traits, too.
//!
//! # Queues
//!
//! Below it are many I/O queues on one thread, and many commands on each.
//!
//! `nvmf` connects: [`Association::connect_io_queues`] and [`QueuePair::into_tcp`] give idle queues.
//! [`run`] drives them on an event loop of [`nvmf_engine`] and asks a [`Workload`] what to do
//! whenever a queue has room. What becomes ready in one turn leaves in one gathered send for each
//! queue, and answers are taken in as many as have come.
//!
//! ```no_run
//! use std::time::Instant;
//!
//! use bytes::BytesMut;
//! use nvmf::host::{Association, HostOptions};
//! use nvmf::spec::{Cqe, Nqn};
//! use nvmf_host::{Buffer, CommandError, Next, Options, Request, Workload, run};
//!
//! /// Reads a namespace's first blocks, one by one, into whatever `got` makes of them.
//! struct First<F> {
//!     left: std::ops::Range<u64>,
//!     got: F,
//! }
//!
//! impl<F: FnMut(u64, Buffer)> Workload for First<F> {
//!     fn next(&mut self, _queue: usize, _now: Instant) -> Next {
//!         match self.left.next() {
//!             None => Next::Done,
//!             Some(lba) => Next::Io(
//!                 Request::read(1, lba, 1, BytesMut::zeroed(4096)).with_token(lba),
//!             ),
//!         }
//!     }
//!
//!     fn complete(
//!         &mut self,
//!         _queue: usize,
//!         lba: u64,
//!         result: Result<&Cqe, CommandError>,
//!         buffer: Buffer,
//!         _now: Instant,
//!     ) {
//!         match result {
//!             Ok(_) => (self.got)(lba, buffer),
//!             Err(error) => eprintln!("block {lba}: {error}"),
//!         }
//!     }
//! }
//!
//! let subsystem = Nqn::parse_strict("nqn.2026-01.com.example:disk")?;
//! let mut association =
//!     Association::connect_tcp("192.0.2.7:4420", &subsystem, HostOptions::from_system()?)?;
//! let mut queues = Vec::new();
//! for queue in association.connect_io_queues(2, None)? {
//!     queues.push(queue.into_tcp()?);
//! }
//! run(queues, First { left: 0..1000, got: |_, _| () }, &Options::new(32))?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
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
//! - [`run`] connects nothing and sends no Keep Alive: the association belongs to another thread. A
//!   [`Namespace`] does both.
//! - No TLS, as in `nvmf`.

#![forbid(unsafe_code)]

mod error;
mod handle;
mod multipath;
mod namespace;
mod queue;
mod request;
mod run;
mod session;

pub use error::{CommandError, Error};
pub use handle::Handle;
pub use multipath::{Event, PathState, PathStatus, Policy};
#[cfg(feature = "tokio")]
pub use namespace::AsyncCursor;
pub use namespace::{
    Abilities, Asked, AsyncNamespace, ConnectError, Cursor, Geometry, IoError, IoOptions,
    Namespace, NamespaceBuilder, Verb,
};
pub use nvmf_engine::{EngineChoice, EngineKind, Pace};
pub use request::{Buffer, Next, Request, Workload};
pub use run::{Options, run};

/// The README's examples, compiled.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;

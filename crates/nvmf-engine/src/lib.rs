//! Event loops for sockets and files: one thread, many connections, no waiting.
//!
//! An [`Engine`] owns a thread's sockets. It accepts, receives, sends and reads and writes files,
//! and tells a [`Handler`] what happened. There are two, held to the same tests:
//!
//! | Engine | How | Where |
//! |---|---|---|
//! | [`Uring`] | io_uring: multishot receives into provided buffers, one gathered send, files in the ring | Linux 6.0 and later, where a sandbox does not forbid it |
//! | [`Poll`] | readiness: epoll on Linux, whatever [`polling`](https://docs.rs/polling) has elsewhere; files on helper threads | every Unix |
//!
//! [`EngineKind::probe`] finds out which one works here; [`run`] starts a [`Program`] on it.
//!
//! # How data moves
//!
//! - **What comes** is handed over as a slice of a buffer that all connections of the engine share,
//!   so a silent connection costs no memory. A handler that knows where the next bytes belong lends
//!   the engine the destination by [`Engine::fill`], and they are received straight into it.
//! - **What goes** is a [`Message`]: headers by value, payload by reference ([`Lent`]), so
//!   that many answers leave in one gathered send and payload is not copied. A connection has one
//!   message in flight; what becomes ready meanwhile is for the next one.
//! - **Whatever the kernel may still touch is owned by the engine,** and given back with the event
//!   that says that it is done: the interface is safe, whatever a handler does.
//!
//! [`SocketFile`] is a Unix socket with a name, for programs that are reached so.
//!
//! # Waiting
//!
//! [`Engine::turn`] does what can be done and says whether that was anything. A [`Pace`] decides how
//! long to go on looking before the thread sleeps: after activity it spins for as long as that has
//! been worth it lately, then blocks. An idle thread uses no CPU.
//!
//! # What it does not do
//!
//! - No DNS, no connecting, no TLS: sockets come in connected.
//! - No timers but the one deadline of a turn: who has many keeps them in order himself.
//! - No scheduling: a handler that takes long holds up its thread. [`Jobs`] takes what may wait.

#![deny(unsafe_code)]

mod chunks;
mod engine;
mod file;
mod filling;
mod jobs;
mod lent;
mod mailbox;
mod message;
mod pace;
mod poll;
mod pool;
mod prefetch;
mod run;
mod slots;
mod socket_file;
#[cfg(test)]
mod tests;
mod tuning;
#[cfg(target_os = "linux")]
mod uring;
mod waker;

pub use chunks::{Chunks, Replaced, Summand};
pub use engine::{ConnId, End, Engine, Handler, ListenerId, Wait};
pub use file::{FileId, FileOp};
pub use jobs::Jobs;
pub use lent::Lent;
pub use mailbox::{Mailbox, Sender};
pub use message::Message;
pub use pace::Pace;
pub use poll::Poll;
pub use pool::Pool;
pub use prefetch::prefetch;
pub use run::{EngineChoice, EngineKind, Program, Unavailable, run};
pub use socket_file::{SocketFile, SocketFileError};
#[cfg(target_os = "linux")]
pub use uring::Uring;
pub use waker::Waker;

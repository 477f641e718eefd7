//! An NBD server: a block device of any kind, for everything that speaks the
//! [Network Block Device protocol](https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md):
//! qemu, `nbd-client`, libnbd's programs, fio.
//!
//! A [`Device`] is what is served; a [`Server`] serves it to any number of clients over a Unix or a
//! TCP socket, until its [`Handle`] stops it.
//!
//! ```no_run
//! use std::io;
//! use std::net::TcpListener;
//!
//! use bytes::Bytes;
//! use nvmf_nbd::{Device, Export, Options, Server, Zero};
//!
//! /// 64 MiB of zeroes.
//! struct Zeroes;
//!
//! impl Device for Zeroes {
//!     fn size(&self) -> u64 {
//!         64 << 20
//!     }
//!     fn is_read_only(&self) -> bool {
//!         true
//!     }
//!     fn read(&self, _offset: u64, length: usize) -> io::Result<Bytes> {
//!         Ok(vec![0; length].into())
//!     }
//!     fn write(&self, _: u64, _: Bytes, _: bool) -> io::Result<()> {
//!         Err(io::ErrorKind::ReadOnlyFilesystem.into())
//!     }
//!     fn flush(&self) -> io::Result<()> {
//!         Ok(())
//!     }
//!     fn trim(&self, _: u64, _: u64) -> io::Result<()> {
//!         Err(io::ErrorKind::ReadOnlyFilesystem.into())
//!     }
//!     fn write_zeroes(&self, _: u64, _: u64, _: Zero) -> io::Result<()> {
//!         Err(io::ErrorKind::ReadOnlyFilesystem.into())
//!     }
//! }
//!
//! let listener = TcpListener::bind("127.0.0.1:10809")?;
//! let export = Export::new("zeroes".parse()?, Zeroes)?.with_description("nothing at all");
//! Server::new(listener, export, Options::default())?.run()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! With the feature `namespace`, an `nvmf_host::Namespace` is a device: a namespace of an NVMe target,
//! which is there for NBD clients whatever happens to the paths to it.
//!
//! # What clients get
//!
//! The fixed newstyle handshake with `INFO`, `GO`, `LIST`, `ABORT`, `STRUCTURED_REPLY` and, for old
//! clients, `EXPORT_NAME`; block sizes, name and description where they ask. Then read, write,
//! flush, trim, write zeroes (fast ones, too, where the device has them), cache (a hint that does
//! nothing) and FUA; over several connections at once, if the device allows that.
//!
//! # How it works
//!
//! [`protocol`] has the bytes and the rules, without I/O. A connection has as many threads as
//! requests are at work on it, up to [`Options::requests`]: whoever read a request lets the next
//! thread read, executes it, and sends the reply. So a single request costs no hand-over between
//! threads, many are executed at once, and replies leave as they become ready. A client that does not take its
//! replies holds up nobody but itself.
//!
//! What clients can make the server hold is bounded: connections, requests of each, bytes of each.
//! The handshake has a deadline, and so has the rest of a message that was begun; a client that is
//! silent between requests may be so forever.
//!
//! # What it does not do
//!
//! - No TLS: `STARTTLS` is refused. A Unix socket, or a tunnel, is for networks that are not trusted.
//! - No block status: nothing is known of what is allocated, so `base:allocation` is not offered. No
//!   extended headers, no resizing: a client sees the size that the device had when it connected.
//! - One export for each server.

#![forbid(unsafe_code)]

mod device;
mod error;
mod export;
#[cfg(feature = "namespace")]
mod namespace;
pub mod protocol;
mod server;
pub mod uri;

pub use device::{BlockSizes, Device, Zero};
pub use error::{ErrorCode, Failure};
pub use export::{Export, ExportName, NameError, RaggedEnd, Terms};
pub use server::{Handle, Listener, Options, ServeError, Server};

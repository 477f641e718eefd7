//! An NVMe over Fabrics target: subsystems, namespaces, controllers and discovery.
//!
//! A [`Subsystem`] is a name with namespaces under it, each in front of a
//! [`Backend`](nvmf_storage::Backend): memory, a file, a block device, or something of your own.
//! A [`Target`] listens, and serves any number of subsystems to any number of hosts, with
//! discovery on the same port.
//!
//! ```no_run
//! use nvmf_target::{Subsystem, Target, identity};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let subsystem = Subsystem::builder(identity::default_subsystem_nqn())
//!     .open(&"file:/srv/disk.img".parse()?)?
//!     .open(&"mem:256M,bs=512".parse()?)?
//!     .build()?;
//! let target = Target::builder().subsystem(subsystem).listen("0.0.0.0:4420".parse()?).bind()?;
//! let handle = target.handle(); // handle.shutdown() ends run()
//! target.run()?;
//! # Ok(())
//! # }
//! ```
//!
//! # How it is built
//!
//! What commands mean is apart from how they come: the admin commands are a state machine that
//! takes a command and the time and gives an outcome; an I/O command is judged before any of its
//! data is moved, and then executed on a buffer. Both are free of sockets and threads. Around
//! them is a thin layer with one thread for each connection, over the blocking [`nvmf`] library.
//! On the way of an I/O command that succeeds, nothing is shared with other queues but the blocks
//! themselves, and no lock is taken.
//!
//! # What hosts can rely on
//!
//! - A namespace's UUID and NGUID, and the subsystem's serial number, are the same after every
//!   restart ([`identity`]).
//! - When a controller reset (CC.EN = 0) is answered, no command of the old I/O queues is being
//!   executed any more, so that none can overtake what the host sends next.
//! - When a shutdown is complete (CSTS.SHST), everything that was acknowledged is durable; the
//!   same holds when [`Target::run`] returns `Ok`.
//! - A host that is silent for longer than its Keep Alive Timeout, and one whose admin
//!   connection ends, loses all its queues at once.
//!
//! # What a hostile host cannot do
//!
//! It cannot make the target allocate without bound (a queue has [`limits::MAX_TRANSFER`] for the
//! command it executes, and the capsules of those that wait: at most [`limits::IO_ENTRIES`] of
//! [`limits::IN_CAPSULE`]), hold a connection for long without a Connect, open more connections
//! than [`TargetBuilder`] says, join another host's association, or take down another connection.
//!
//! # What it does not do
//!
//! - No access control: every host that knows a subsystem's name may use it. No TLS, no in-band
//!   authentication.
//! - No namespace management: the namespaces of a subsystem are settled when it is built, so the
//!   events that tell of changes never come.
//! - No reservations, no Copy, no fused commands, no ANA, no metadata or protection information.
//! - The SMART / Health log counts since the program began; it has no temperature, which reads
//!   as 0 K.
//! - The commands of one queue are executed one after the other, in their order.

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

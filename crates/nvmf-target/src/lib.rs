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
//! data is moved, and then executed. Both are free of sockets and threads. Around them are cores:
//! each is a thread with an event loop ([`nvmf_engine`]) and any number of connections, which may be
//! queues of the same controller or of different ones. On the way of an I/O command that succeeds,
//! nothing is shared with other queues but the blocks themselves, and no lock is held for longer
//! than copying them takes.
//!
//! What storage does decides how: [memory](nvmf_storage::Resident) is read by reference and takes
//! over what was received; [a file](nvmf_storage::FileAccess) is tried first, and read or written by
//! the event loop where that would wait; everything else, flushing among it, has threads of its own.
//!
//! Connections over other transports ([`Handle::serve`]) have a thread each, over the blocking
//! [`nvmf`] library.
//!
//! # What hosts can rely on
//!
//! - A namespace's UUID and NGUID, and the subsystem's serial number, are the same after every
//!   restart ([`identity`]).
//! - When a controller reset (CC.EN = 0) is answered, no command of the old I/O queues is being
//!   executed any more, so that none can overtake what the host sends next.
//! - When a shutdown is complete (CSTS.SHST), everything that was acknowledged is durable; the
//!   same holds when [`Target::run`] returns `Ok`.
//! - Between the two halves of a fused Compare and Write nobody writes to the namespace, whichever way
//!   it goes. Who reads several blocks at that moment may see some of them new and some old; each
//!   block is seen whole, as far as the storage below does that. No more than one block is promised
//!   to be written at once (AWUN and AWUPF are 0).
//! - When a Reservation Acquire that preempts and aborts is answered, nothing is written any more that
//!   the reservation forbids, whenever it was sent; what waited of the hosts that lost their
//!   registrations is aborted, and what was being executed is done.
//! - Where there is a [`Persistence`] (a [`manage::StateFile`] has one for each subsystem), what hosts
//!   reserve to last over a power loss, which namespaces they protect against writes, and which blocks
//!   they mark as not to be read, is saved before they are answered.
//! - A host that is silent for longer than its Keep Alive Timeout, and one whose admin
//!   connection ends, loses all its queues at once.
//!
//! # What a hostile host cannot do
//!
//! It cannot make the target allocate without bound (a queue holds 2 MiB for the commands it
//! executes, and the capsules of those that wait: no more than it has entries, at most
//! [`limits::IO_ENTRIES`] or what [`SubsystemBuilder::max_queue_entries`] says, of
//! [`limits::IN_CAPSULE`] or what [`TargetBuilder::in_capsule`] says; a namespace remembers
//! [`limits::REGISTRANTS`] registrants and
//! [`Uncorrectable::MAX_RANGES`](nvmf_storage::Uncorrectable::MAX_RANGES) ranges of marked blocks),
//! hold a connection for long without a Connect, neither take what is sent to it nor send what it
//! owes for longer than 30 seconds, open more connections than [`TargetBuilder`] says, join another
//! host's association, or take down another connection.
//!
//! # Features
//!
//! - `mdns`: `announce` tells hosts on the link of the discovery service, by multicast DNS.
//! - `metrics`: what [`Handle::report`] tells, for Prometheus, over HTTP.
//!
//! # What it does not do
//!
//! - No TLS, no in-band authentication: a host is who it says it is.
//! - No namespace management by hosts: namespaces come and go by the [`Handle`] alone.
//! - No metadata or protection information, no directives. Copy takes its ranges from the namespace
//!   it writes to (descriptor format 0).
//! - What hosts set does not outlast the target, but for that which a [`Persistence`] keeps. Without
//!   one, hosts cannot ask for reservations to last, and a namespace that a host has write-protected
//!   or marked blocks of (Write Uncorrectable) is as if it had not when the target begins again.
//! - The SMART / Health log counts since the program began; it has no temperature, which reads
//!   as 0 K.
//! - Abort reaches commands that wait, for their data or for others, and none that is being executed.
//!   Those of one queue may be executed in another order than that in which they came, as the
//!   specification permits.
//!
//! What is there command by command, field by field, is in `docs/conformance.md`, which a test
//! compares with what controllers answer.

#![forbid(unsafe_code)]

mod abort;
mod admin;
#[cfg(feature = "mdns")]
pub mod announce;
mod association;
pub mod config;
pub mod control;
mod directory;
mod discovery;
mod error_log;
mod events;
pub mod identity;
mod io;
#[cfg(target_os = "linux")]
pub mod kernel;
mod limit;
pub mod limits;
pub mod manage;
#[cfg(feature = "metrics")]
pub mod metrics;
mod persistence;
mod port;
mod reservation;
mod serve;
pub mod statistics;
mod subsystem;
#[cfg(test)]
mod testing;
mod who;

pub use directory::Referral;
pub use limit::Limits;
pub use persistence::Persistence;
pub use port::Port;
pub use reservation::{RestoreError, Saved as SavedReservations};
pub use serve::{
    BoundPort, ChangeError, ControllerInfo, Handle, NamespaceChange, Target, TargetBuilder,
    TargetError,
};
pub use statistics::Snapshot;
pub use subsystem::{
    Hosts, Namespace, NamespaceBuilder, Subsystem, SubsystemBuilder, SubsystemError,
};

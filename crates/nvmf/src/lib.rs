//! NVMe over Fabrics for user space: hosts and controllers, without root or a kernel module.
//!
//! An *association* joins one host and one controller. It has an admin *queue pair* and I/O queue
//! pairs; each is one connection of a *transport* and carries *capsules*: commands one way,
//! responses the other, with data in them or beside them.
//!
//! - [`host`]: connect to a subsystem, send commands, fetch the discovery log.
//! - [`controller`]: accept a connection, judge its Connect, receive commands, move their data,
//!   answer them.
//! - [`handoff`]: have the operating system connect, and make disks of the namespaces.
//! - [`transport`]: what carries capsules: TCP, and an in-process transport for tests and for
//!   programs that are both ends.
//!
//! Everything blocks, every wait has a [`Deadline`], and data is vectored. The protocol's rules
//! are in [`nvmf_proto`], the structures in [`nvme_spec`]; both are re-exported.
//!
//! ```
//! use std::io::IoSliceMut;
//! use std::time::Duration;
//!
//! use nvmf::{Deadline, Transfer, controller, host, transport::in_process};
//! use nvmf::spec::{Cqe, HostId, Nqn, Sqe, opcode};
//!
//! let soon = || Deadline::after(Duration::from_secs(5));
//! let (a, b) = in_process::pair();
//!
//! // A controller that accepts whoever comes and answers one Read with sevens.
//! let controller = std::thread::spawn(move || {
//!     let options = controller::AcceptOptions::default();
//!     let connect = controller::accept(Box::new(b), &options, soon()).unwrap();
//!     let mut queue = connect.accept(1, soon()).unwrap();
//!     let command = queue.receive(soon()).unwrap().unwrap();
//!     let block = vec![7; command.data_len() as usize];
//!     queue.respond_with_data(command, &[std::io::IoSlice::new(&block)], soon()).unwrap();
//!     queue.flush(soon()).unwrap();
//! });
//!
//! let connect = host::ConnectOptions::new(
//!     Nqn::lenient("nqn.2026-01.example:host").unwrap(),
//!     HostId([1; 16]),
//!     Nqn::lenient("nqn.2026-01.example:disk").unwrap(),
//! );
//! let mut queue = host::QueuePair::connect(Box::new(a), &connect, soon()).unwrap();
//! let mut block = [0; 512];
//! let read = Transfer::Read(&mut [IoSliceMut::new(&mut block)]);
//! queue.execute(Sqe::new(opcode::nvm::READ), read, soon()).unwrap();
//! assert_eq!(block, [7; 512]);
//! controller.join().unwrap();
//! ```
//!
//! # What it does not do
//!
//! - No RDMA, no TLS, no in-band authentication; no multipath and no reconnecting: `nvmf-host` has
//!   them.
//! - It keeps one thread per waiting queue pair: right for a few hundred connections, not for
//!   many thousands.

#![forbid(unsafe_code)]

pub mod controller;
mod data;
mod deadline;
mod error;
pub mod handoff;
pub mod host;
pub mod pdu_trace;
pub mod transport;
pub mod wire_log;

pub use data::{Data, Transfer};
pub use deadline::Deadline;
pub use error::Error;
pub use nvme_spec as spec;
pub use nvmf_proto as proto;

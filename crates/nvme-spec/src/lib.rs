//! What the bytes of NVMe over Fabrics mean.
//!
//! Every structure that a host and a controller exchange, as a little-endian, alignment-1
//! [`zerocopy`] struct: read it in place from a received buffer, or take its bytes to send.
//! Nothing here talks, waits or allocates; the protocol's rules are in `nvmf-proto`.
//!
//! ```
//! use nvme_spec::{Sqe, opcode};
//! use zerocopy::{FromBytes, IntoBytes};
//!
//! let mut read = Sqe::new(opcode::nvm::READ);
//! read.nsid.set(1);
//! read.set_cdw(12, 7); // eight blocks: the count is 0's based
//! let wire: &[u8] = read.as_bytes();
//! assert_eq!((wire.len(), wire[0]), (64, 0x02));
//! assert_eq!(Sqe::read_from_bytes(wire).unwrap().nsid, 1);
//! ```
//!
//! # Reading and printing
//!
//! Fields keep the names of the specifications (NVM Express Base 2.1, NVM Command Set 1.1,
//! NVMe/TCP Transport 1.1). [`print`] turns any structure into a table, a line for a log, or
//! JSON with the field names that nvme-cli uses, all from one description.
//!
//! # What it does not do
//!
//! - No PCIe-only structures (PRPs, doorbells, queue creation).
//! - No key-value, zoned or computational command sets.
//! - It does not judge: reserved bits and odd values pass through unless a type says otherwise.

#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod copy;
pub mod cqe;
pub mod dataset_management;
pub mod event;
pub mod fabrics;
pub mod feature;
pub mod host_id;
pub mod identify;
pub mod log;
pub mod nqn;
pub mod opcode;
pub mod pdu;
pub mod print;
pub mod property;
pub mod reservation;
pub mod sgl;
pub mod sqe;
pub mod status;
mod wire;

pub use cqe::Cqe;
pub use host_id::HostId;
pub use nqn::Nqn;
pub use sgl::SglDescriptor;
pub use sqe::{DataDirection, Sqe};
pub use status::Status;

/// The TCP port of I/O controllers (NVMe/TCP Transport 1.1, section 3.1.1).
pub const IO_PORT: u16 = 4420;

/// The TCP port of discovery controllers (NVMe/TCP Transport 1.1, section 3.1.1).
pub const DISCOVERY_PORT: u16 = 8009;

//! FreeBSD: queue pairs handed to the kernel's host, nvmf(4), and to its controller, nvmft(4).
//!
//! - [`HandoffHost`]: an association's queues become `/dev/nvmeN` and its disks. Also
//!   reconnecting one that was lost. [`manage`]: how such controllers stand, and their end.
//! - [`controller`]: a host's Connect is answered by a port of the CAM target layer, which serves
//!   the queue from then on. Also making such a port, listing and ending associations.
//! - [`nvlist`]: the form in which all of this is told to the kernel.
//!
//! What is said to the kernel is said by a [`Kernel`], of which `System` is the real one, on
//! FreeBSD only. Everything else is the same everywhere, and tested against a kernel that is not
//! one. The real one was compiled for FreeBSD and has not run there.
//!
//! ```no_run
//! use nvmf::handoff::freebsd::{HandoffHost, Kernel};
//! use nvmf::host::{Association, HostOptions};
//! use nvmf::spec::Nqn;
//!
//! # fn connect(kernel: &mut dyn Kernel) -> Result<(), Box<dyn std::error::Error>> {
//! let subsystem = Nqn::parse_strict("nqn.2026-01.com.example:disk")?;
//! let mut association =
//!     Association::connect_tcp("192.0.2.7:4420", &subsystem, HostOptions::from_system()?)?;
//! let io = association.connect_io_queues(4, None)?;
//! HandoffHost::new(association, io).hand_over(kernel).map_err(|failed| failed.error)?;
//! # Ok(())
//! # }
//! ```

pub mod controller;
mod host;
#[cfg(any(target_os = "freebsd", test))]
mod ioctl;
mod kernel;
pub mod manage;
pub mod nvlist;
mod queue;
mod reconnect;
#[cfg(target_os = "freebsd")]
mod system;

pub use host::{HandoffError, HandoffHost, NotHandedOver};
pub use kernel::{ControllerName, CtlReply, Kernel, KernelError, NotAName, PortAction};
pub use queue::{QueueError, QueueParams};
pub use reconnect::{ConnectionStatus, ReconnectParams, StatusError};
#[cfg(target_os = "freebsd")]
pub use system::System;

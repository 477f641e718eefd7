//! The Linux kernel's host: `/dev/nvme-fabrics` and sysfs.
//!
//! [`Kernel`] does all of it: ask the target, have the kernel connect, wait for the disks. It consists of
//! two. [`Fabrics`] is the device to which a line of [`Options`] is written for each controller that is to
//! be; [`Sysfs`] is what the kernel says of those that are. Both are below a root directory, which is
//! `/` but for tests. Writing needs root, reading does not.
//!
//! [`check()`] asks the target before, and [`candidates`] says what of a discovery log the kernel can
//! connect to.
//!
//! ```no_run
//! use nvmf::handoff::linux::{Kernel, Options, Plan};
//! use nvmf::host::{HostOptions, TcpDialer};
//! use nvmf::spec::Nqn;
//!
//! let host = HostOptions::from_system()?;
//! let dialer = TcpDialer::new("192.0.2.7:4420".parse()?);
//! let mut options = Options::new("tcp", Nqn::parse_strict("nqn.2026-01.com.example:disk")?);
//! options.traddr = Some("192.0.2.7".to_owned());
//! options.trsvcid = Some("4420".to_owned());
//! options.hostnqn = Some(host.host.clone());
//! options.hostid = Some(host.host_id);
//! let made = Kernel::system().connect(&options, &Plan::checked(&dialer, &host))?;
//! for namespace in &made.namespaces {
//!     println!("/dev/{}: {} bytes", namespace.name, namespace.bytes);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod check;
mod disconnect;
mod discovery;
mod fabrics;
mod kernel;
mod known;
mod names;
mod options;
mod print;
mod sysfs;
mod topology;
mod wait;

#[cfg(test)]
mod testing;

pub use check::{Checked, check};
pub use disconnect::{DisconnectError, Disconnected, Which};
pub use discovery::{Candidate, Discovered, Skip, candidates, discover};
pub use fabrics::{Connected, Fabrics, FabricsError, Refusal};
pub use kernel::{HandoffError, Kernel, Made, Plan, traddr};
pub use known::{KnownOptions, KnownOptionsError};
pub use options::{Options, OptionsError, Secret, SecretError};
pub use print::Listing;
pub use sysfs::{Sysfs, SysfsError};
pub use topology::{Address, Controller, Namespace, NamespacePath, Subsystem};

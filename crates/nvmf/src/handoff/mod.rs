//! Handing connected queue pairs to the operating system's kernel, which goes on with them.
//!
//! A program connects, identifies and decides in user space; then the kernel has the sockets, and
//! the namespaces are disks like any other.

#[cfg(unix)]
pub mod freebsd;

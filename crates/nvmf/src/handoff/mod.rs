//! Handing over to the operating system's kernel, which makes disks of a subsystem's namespaces.
//!
//! What a program reads and writes by [`host`](crate::host) only that program sees. The kernel's host
//! has block devices for everybody, keeps connections alive and connects again when they are lost;
//! what it lacks are errors that say what is wrong. So the target is connected to by
//! [`Association`](crate::host::Association) first.
//!
//! On Linux the kernel is then told to connect itself. FreeBSD's takes the connected queue pairs, of a
//! host and of a controller, and goes on with them.

#[cfg(unix)]
pub mod freebsd;
#[cfg(target_os = "linux")]
pub mod linux;

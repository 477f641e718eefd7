//! Handing a subsystem over to the operating system's own host, which makes disks of its namespaces.
//!
//! What a program reads and writes by [`host`](crate::host) only that program sees. The kernel's host
//! has block devices for everybody, keeps connections alive and connects again when they are lost;
//! what it lacks are errors that say what is wrong. So this is both: the target is asked by
//! [`Association`](crate::host::Association) first, and then the kernel is told to connect.

#[cfg(target_os = "linux")]
pub mod linux;

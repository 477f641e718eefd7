//! What the target counts, for Prometheus and what understands its format.
//!
//! An [`Exposition`] turns a [`TargetReport`] into text at the moment of the scrape, and a
//! [`MetricsServer`] hands that text out over HTTP, from a thread of its own. `docs/metrics.md` says
//! what each metric means.
//!
//! ```
//! use std::io::{Read, Write};
//! use std::net::TcpStream;
//! use std::sync::Arc;
//! use std::time::SystemTime;
//!
//! use nvmf_target::metrics::{Exposition, MetricsServer};
//! use nvmf_target::statistics::TargetReport;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let exposition = Exposition::new(|| TargetReport {
//!     started: SystemTime::now(),
//!     connections: 3,
//!     accepted: 7,
//!     digest_errors: 0,
//!     violations: 0,
//!     subsystems: Vec::new(), // of a real one: Subsystem::report()
//! });
//! let server = MetricsServer::start("127.0.0.1:0".parse()?, Arc::new(move || exposition.render()))?;
//!
//! let mut stream = TcpStream::connect(server.local_addr())?;
//! stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
//! let mut answer = String::new();
//! stream.read_to_string(&mut answer)?;
//! assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"));
//! assert!(answer.contains("\nnvmf_connections 3\n"));
//! # Ok(())
//! # }
//! ```
//!
//! [`TargetReport`]: crate::statistics::TargetReport

mod connections;
mod exposition;
mod families;
mod http;
mod server;

pub use exposition::Exposition;
pub use server::{MetricsError, MetricsServer, Source};

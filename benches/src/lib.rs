//! What the programs that measure `nvmf` share: the report of a load generator, latencies, and
//! what Linux says about a process.
//!
//! The programs are `raw` (the ceiling of the loopback), `compare` (targets and load generators in
//! alternation) and `read_path` (instructions per read); `README.md` beside this crate says how to
//! run each, and what its figures mean.

#![forbid(unsafe_code)]

pub mod affinity;
pub mod latency;
pub mod pair;
pub mod proc;
pub mod report;
pub mod size;

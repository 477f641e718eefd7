//! Targets that lie: what the host says of each lie, that it says so soon and holds little memory,
//! that nothing false reaches the caller, and that work goes on by a path that is honest.
//!
//! `docs/bad-targets.md` lists them all.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "tests may stop at a surprise")]

mod admin;
mod connecting;
mod io;
mod liar;
mod page;
mod trial;

#[path = "../namespace/target.rs"]
#[allow(dead_code, reason = "not every test file uses all of it")]
mod target;

//! Queue pairs handed to FreeBSD's kernel, which is a fake one here.

#![cfg(unix)]
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "tests stop at a surprise")]

#[path = "../ends/mod.rs"]
mod ends;
#[path = "../scripted/mod.rs"]
mod scripted;

mod controller;
mod host;
mod kernel;

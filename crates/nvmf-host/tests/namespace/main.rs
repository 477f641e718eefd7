//! The namespace object against a target, by paths that are cut, stalled and flipped.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "tests may stop at a surprise")]

mod async_cursor;
mod asynchronous;
mod cursor;
mod model;
mod operations;
mod paths;
mod proxy;
mod target;

//! The namespace object against a target, by paths that are cut, stalled and flipped.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "tests may stop at a surprise")]

mod cursor;
mod operations;
mod paths;
mod proxy;
mod target;

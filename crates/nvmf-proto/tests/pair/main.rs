//! Both roles of the TCP transport, joined by two byte streams in virtual time.
//!
//! [`pair`] is the harness; [`inspect`] watches what goes over the wire with a parser of its own;
//! [`raw`] makes PDUs byte by byte for tests in which one end misbehaves. The rest are tests.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    unreachable_pub,
    reason = "tests stop at the first surprise, and nothing is outside of them"
)]

mod host_app;
mod inspect;
mod link;
mod pair;
mod raw;
mod target;

mod abort;
mod connect;
mod digests;
mod early_answers;
mod fused;
mod handshake;
mod queues;
mod random;
mod sessions;
mod termination;
mod transfers;
mod violations;

//! What the tests of the bytes on the wire need: a proxy that records conversations, a writer of
//! pcap files, and tshark, an independent reading of the protocol, to dissect them.
//!
//! Two readings of every recording are compared: [`sent`] walks the bytes with `nvme-spec`'s
//! structures, [`tshark`] asks Wireshark's dissectors. [`check`] lists where they differ, and
//! whatever tshark finds malformed or wrong. tshark's own errors are listed in [`exceptions`].

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "nothing but tests uses this: they stop at a surprise"
)]

pub mod check;
pub mod exceptions;
pub mod pcap;
pub mod recording;
pub mod sent;
pub mod talk;
pub mod target;
pub mod tshark;

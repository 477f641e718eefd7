//! The TCP transport of both roles (NVMe/TCP Transport 1.1).
//!
//! [`Host`] and [`Controller`] are one connection each, which is one queue pair. They take the
//! peer's bytes (`handle_bytes`, `handle_payload`) and the application's decisions (`submit`;
//! `request_data`, `send_data`, `respond`), and give events and, by `poll_transmit`, PDUs to send.
//!
//! # Receiving
//!
//! Call `handle_bytes` with what has come until it consumes all and gives no event. An
//! event [`Payload`] says where the next bytes of the stream belong: put them there, from the
//! receive buffer or straight from the socket, and pass them by `handle_payload` so that the
//! data digest can be checked. An error is fatal: send what `poll_transmit` still has (the
//! TermReq), then close.

mod controller;
mod host;
mod link;

pub use controller::{Controller, ControllerConfig, ControllerEvent, Established, TransferError};
pub use host::{Completion, Host, HostConfig, HostEvent, SubmitError, Transfer};
pub use link::{Negotiated, Terminated};

pub use crate::capsule::DataLocation;

/// Where the next bytes of the stream belong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Payload {
    /// The command: its slot at a controller, its identifier at a host. `None`: nobody wants
    /// the bytes any more, they are to be dropped (but still passed to `handle_payload`).
    pub tag: Option<u16>,
    /// Offset in the command's data, in bytes.
    pub offset: u32,
    /// How many bytes, at least 1.
    pub length: u32,
}

/// A command as it came, its data pointer checked.
#[derive(Clone, Copy, PartialEq, Debug)]
#[must_use = "a command must be answered"]
pub struct ReceivedCommand {
    /// The slot by which the controller's methods know the command until it is answered.
    pub slot: u16,
    /// The command.
    pub sqe: nvme_spec::Sqe,
    /// Where its data is. In-capsule data follows by [`Payload`] events.
    pub data: DataLocation,
}

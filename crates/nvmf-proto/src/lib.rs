//! How the two ends of NVMe over Fabrics talk, without doing any I/O.
//!
//! Everything here is a state machine in the sans-IO manner: bytes, the application's decisions
//! and the time go in as arguments (`handle_*`, `submit`, `respond`), and bytes to send, events
//! and deadlines come out (`poll_*`). There is no socket, no clock and no thread, so the same
//! rules drive a blocking library, an event loop, and tests in virtual time.
//!
//! | module | what it knows |
//! |---|---|
//! | [`tcp`] | the TCP transport of both roles: handshake, PDUs, digests, R2T, data transfers |
//! | [`queue`] | the queue pair of both roles: command identifiers and SQ flow control |
//! | [`connect`] | what a Connect command must look like, and how it is refused |
//! | [`registers`] | a controller's properties: enable, ready, reset, shutdown |
//! | [`keep_alive`] | when to send a Keep Alive and when to give a host up |
//! | [`capsule`] | where the data of a received command is |
//! | [`pdu`] | one PDU at a time: decode under any segmentation, encode for a gathered send |
//! | [`trace`] | where one PDU ends and the next begins, for whoever watches a connection |
//! | [`violation`] | every way in which a peer can misbehave, each with its one answer |
//!
//! Payload is never copied: decoding says where the next bytes of the stream belong
//! ([`tcp::Payload`]), encoding says which bytes of which command go out next ([`pdu::Batch`]).
//!
//! # One command, from host to controller and back
//!
//! ```
//! use nvme_spec::{Cqe, Sqe, Status, opcode};
//! use nvmf_proto::pdu::{Batch, NoPayload};
//! use nvmf_proto::tcp::{self, ControllerEvent, HostEvent, Transfer};
//!
//! let mut host = tcp::Host::new(tcp::HostConfig::default());
//! let mut controller = tcp::Controller::new(tcp::ControllerConfig::default());
//!
//! // A driver's loop: what one end has to send, the other end is given.
//! fn carry(send: &mut impl FnMut(&mut Batch), receive: &mut impl FnMut(&[u8]) -> usize) {
//!     let mut batch = Batch::new();
//!     send(&mut batch);
//!     let bytes = batch.to_vec(&NoPayload).unwrap();
//!     let mut at = 0;
//!     while at < bytes.len() {
//!         at += receive(&bytes[at..]);
//!     }
//! }
//!
//! // The handshake: ICReq, ICResp.
//! carry(&mut |b| host.poll_transmit(&NoPayload, b, usize::MAX), &mut |bytes| {
//!     controller.handle_bytes(bytes).unwrap().0
//! });
//! carry(&mut |b| controller.poll_transmit(&NoPayload, b, usize::MAX), &mut |bytes| {
//!     host.handle_bytes(bytes).unwrap().0
//! });
//! assert!(host.negotiated().is_some());
//!
//! // A Keep Alive, answered with success.
//! let cid = host.submit(Sqe::new(opcode::admin::KEEP_ALIVE), Transfer::None).unwrap();
//! let mut slot = None;
//! carry(&mut |b| host.poll_transmit(&NoPayload, b, usize::MAX), &mut |bytes| {
//!     let (n, event) = controller.handle_bytes(bytes).unwrap();
//!     if let Some(ControllerEvent::Command(command)) = event {
//!         slot = Some(command.slot);
//!     }
//!     n
//! });
//! controller.respond(slot.unwrap(), Cqe::new(cid, Status::SUCCESS));
//! let mut answered = false;
//! carry(&mut |b| controller.poll_transmit(&NoPayload, b, usize::MAX), &mut |bytes| {
//!     let (n, event) = host.handle_bytes(bytes).unwrap();
//!     answered |= matches!(event, Some(HostEvent::Completion(c)) if c.cid == cid);
//!     n
//! });
//! assert!(answered);
//! ```
//!
//! # What it does not do
//!
//! - No metadata, no authentication exchange, no TLS.
//! - It does not pair fused commands: both halves come as they are sent, one behind the other.
//! - It does not execute commands: that is a target's work.

#![forbid(unsafe_code)]

pub mod capsule;
pub mod connect;
pub mod digest;
pub mod keep_alive;
pub mod pdu;
pub mod queue;
pub mod registers;
pub mod tcp;
pub mod trace;
pub mod violation;

pub use violation::{Answer, Violation};

/// Which end of a connection this is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Role {
    /// The end that sends commands.
    Host,
    /// The end that answers them.
    Controller,
}

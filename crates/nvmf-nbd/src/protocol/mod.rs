//! The protocol's bytes and rules, without I/O: the fixed newstyle [`Handshake`], [`RequestHeader`]s
//! and what they ask for, and the heads of replies ([`Head`]).
//!
//! Numbers are in network byte order. Names in capitals, and sections in quotes, are those of the
//! [protocol's document](https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md).

mod flags;
mod handshake;
mod option;
mod reply;
mod request;
#[cfg(test)]
pub(crate) mod testing;

pub use flags::TransmissionFlags;
pub use handshake::{Handshake, Negotiated, Step, Violation};
pub use reply::Head;
pub use request::{BadMagic, Command, RequestHeader};

/// The protocol's limit of strings, in bytes.
pub(crate) const MAX_STRING: usize = 4096;

/// As much of a text as the protocol has room for.
pub(crate) fn cut(text: &str) -> &str {
    let mut end = text.len().min(MAX_STRING);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

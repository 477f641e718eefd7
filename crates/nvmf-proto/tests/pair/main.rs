//! Both roles of the TCP transport, joined by two byte streams in virtual time.
//!
//! [`pair`] is the harness; [`inspect`] watches what goes over the wire with a parser of its own;
//! [`raw`] makes PDUs byte by byte for tests in which one end misbehaves. The rest are tests.

mod host_app;
mod inspect;
mod link;
mod pair;
mod target;

mod random;
mod raw;
mod violations;

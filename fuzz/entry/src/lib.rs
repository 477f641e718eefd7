//! What the fuzz targets run, as plain functions of arbitrary bytes.
//!
//! libFuzzer calls them (`fuzz_targets/`), and so does proptest in nvmf-proto's tests, so that
//! stable CI runs the same code. Besides not panicking, each checks what must hold for any input.

#![forbid(unsafe_code)]

mod bytes;
mod connect;
mod connection;
mod decoder;
mod host;
mod print;
mod spec;

pub use connect::connect;
pub use connection::{controller_connection, host_connection};
pub use decoder::{pdu_decoder_controller, pdu_decoder_host};
pub use host::namespace;
pub use print::print;
pub use spec::{
    ana_log, discovery_log, get_log_page, identify, identify_descriptors, log_pages, nqn,
};

/// Every entry by the name of its fuzz target.
pub const ALL: &[(&str, fn(&[u8]))] = &[
    ("nqn", nqn),
    ("identify", identify),
    ("identify_descriptors", identify_descriptors),
    ("namespace", namespace),
    ("discovery_log", discovery_log),
    ("ana_log", ana_log),
    ("log_pages", log_pages),
    ("get_log_page", get_log_page),
    ("print", print),
    ("connect", connect),
    ("pdu_decoder_host", pdu_decoder_host),
    ("pdu_decoder_controller", pdu_decoder_controller),
    ("host_connection", host_connection),
    ("controller_connection", controller_connection),
];

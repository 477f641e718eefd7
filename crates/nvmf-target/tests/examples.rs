//! The examples, run as their readers run them.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "tests may stop at a surprise")]

mod common;

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use common::{assert_status, options, read, write};
use nvme_spec::{Nqn, Status};
use nvmf::host::Association;

/// A program that ends with the test.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts an example of this crate, which is built beside its tests.
fn start(example: &str) -> (Program, String) {
    let test = std::env::current_exe().unwrap();
    let built: PathBuf = test.ancestors().nth(2).unwrap().join("examples").join(example);
    let mut child =
        Command::new(&built).arg("127.0.0.1:0").stdout(Stdio::piped()).spawn().unwrap_or_else(
            |e| panic!("{}: {e}; `cargo test --examples` builds it", built.display()),
        );
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim().strip_prefix("serving at ").unwrap().to_owned();
    (Program(child), address)
}

#[test]
fn the_custom_namespace_is_read_over_the_network() {
    let (_program, address) = start("custom_namespace");
    let nqn = Nqn::parse_strict("nqn.2026-01.org.example:offsets").unwrap();
    let mut host = Association::connect_tcp(address, &nqn, options(1)).unwrap();
    assert_eq!(host.namespace(1).unwrap().bytes(), 1 << 40);
    let mut queues = host.connect_io_queues(1, None).unwrap();
    let slba = (1 << 28) - 16;
    let data = read(&mut queues[0], 1, slba, 4096, 16 * 4096).unwrap();
    let expected: Vec<u8> = (slba * 4096..1 << 40).step_by(8).flat_map(u64::to_le_bytes).collect();
    assert_eq!(data, expected);
    let refused = write(&mut queues[0], 1, 0, 4096, &[0; 4096]);
    assert_status(refused, Status::NAMESPACE_WRITE_PROTECTED);
    host.shutdown(queues).unwrap();
}

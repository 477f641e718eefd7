//! The example of a target, run as its readers run it, with a host of this library.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "tests may stop at a surprise")]

use std::io::{BufRead, BufReader, IoSlice, IoSliceMut};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nvmf::host::{Association, HostOptions};
use nvmf::spec::{HostId, Nqn, Sqe, Status, opcode};
use nvmf::{Deadline, Error, Transfer};

/// A program that ends with the test.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(20))
}

fn command(opcode: u8, slba: u64, blocks: u32) -> Sqe {
    let mut sqe = Sqe::new(opcode);
    sqe.nsid.set(1);
    sqe.set_slba(slba);
    sqe.set_cdw(12, blocks - 1);
    sqe
}

#[test]
fn the_example_keeps_what_a_host_writes() {
    let tests = std::env::current_exe().unwrap();
    // Examples are built beside the tests: target/debug/deps/this, target/debug/examples/target.
    let example = tests.ancestors().nth(2).unwrap().join("examples/target");
    let mut child = Command::new(&example)
        .arg("127.0.0.1:0")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{}: {e}", example.display()));
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let _program = Program(child);
    let address = line.trim().strip_prefix("serving at ").unwrap();

    let host = Nqn::parse_strict("nqn.2026-01.org.example:host").unwrap();
    let subsystem = Nqn::parse_strict("nqn.2026-01.org.example:ram").unwrap();
    let options = HostOptions::new(host, HostId([1; 16]));
    let mut association = Association::connect_tcp(address, &subsystem, options).unwrap();
    assert_eq!(association.active_namespaces().unwrap(), [1]);
    assert_eq!(association.namespace(1).unwrap().bytes(), 1 << 20);
    let mut queues = association.connect_io_queues(1, None).unwrap();
    let queue = &mut queues[0];

    // More than a capsule holds, so that R2T is used, and the last block of the namespace.
    let written: Vec<u8> = (0..64 * 512u32).map(|i| i.to_le_bytes()[1]).collect();
    let from = [IoSlice::new(&written)];
    queue.execute(command(opcode::nvm::WRITE, 1984, 64), Transfer::Write(&from), soon()).unwrap();
    let mut read = vec![0; written.len()];
    let into = Transfer::Read(&mut [IoSliceMut::new(&mut read)]);
    queue.execute(command(opcode::nvm::READ, 1984, 64), into, soon()).unwrap();
    assert_eq!(read, written);

    let into = Transfer::Read(&mut [IoSliceMut::new(&mut read)]);
    match queue.execute(command(opcode::nvm::READ, 1985, 64), into, soon()) {
        Err(Error::Status { status, .. }) => assert_eq!(status, Status::LBA_OUT_OF_RANGE),
        other => panic!("{other:?}"),
    }
    association.shutdown(queues).unwrap();
}

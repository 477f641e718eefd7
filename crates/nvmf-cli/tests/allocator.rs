//! Where the command has its memory from.

#![cfg(all(feature = "jemalloc", target_os = "linux", target_arch = "x86_64", target_env = "gnu"))]
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "tests may stop at a surprise")]

mod common;

use std::io::IoSlice;
use std::thread;
use std::time::{Duration, Instant};

use common::{NQN, Server, nvmf};
use nvmf::host::{Association, HostOptions, QueuePair};
use nvmf::spec::{HostId, Nqn, Sqe, opcode};
use nvmf::{Deadline, Transfer};

const MIB: u64 = 1 << 20;
/// Blocks in a MiB.
const BLOCKS: u32 = 256;

fn execute(queue: &mut QueuePair, opcode: u8, slba: u32, blocks: u32, transfer: Transfer<'_>) {
    /// Deallocate, of Write Zeroes.
    const DEAC: u32 = 1 << 25;
    let mut sqe = Sqe::new(opcode);
    sqe.nsid.set(1);
    sqe.set_slba(slba.into());
    let how = if opcode == opcode::nvm::WRITE_ZEROES { DEAC } else { 0 };
    sqe.set_cdw(12, how | (blocks - 1));
    queue.execute(sqe, transfer, Deadline::after(Duration::from_secs(20))).unwrap();
}

#[test]
fn the_allocator_has_the_options_that_were_meant() {
    let output =
        nvmf().arg("--version").env("_RJEM_MALLOC_CONF", "stats_print:true").output().unwrap();
    let report = String::from_utf8_lossy(&output.stderr);
    for option in ["opt.thp: \"always\"", "opt.narenas: 4", "opt.background_thread: true"] {
        assert!(report.contains(option), "no `{option}` in what jemalloc says:\n{report}");
    }
}

#[test]
fn blocks_that_are_deallocated_go_back_to_the_system_though_nothing_else_happens() {
    let server = Server::start(&["mem:64M"]);
    let subsystem = Nqn::parse_strict(NQN).unwrap();
    let options =
        HostOptions::new(Nqn::parse_strict("nqn.2026-01.org.example:a").unwrap(), HostId([1; 16]));
    let portal = format!("127.0.0.1:{}", server.port);
    let mut host = Association::connect_tcp(portal, &subsystem, options).unwrap();
    let mut queue = host.connect_io_queues(1, None).unwrap().remove(0);

    let data = vec![7; 1 << 20];
    for at in 0..64 {
        let pieces = &[IoSlice::new(&data)];
        execute(&mut queue, opcode::nvm::WRITE, at * BLOCKS, BLOCKS, Transfer::Write(pieces));
    }
    let full = server.anonymous_memory();
    assert!(full >= 64 * MIB, "{full} bytes");
    execute(&mut queue, opcode::nvm::WRITE_ZEROES, 0, 64 * BLOCKS, Transfer::None);

    let end = Instant::now() + Duration::from_secs(60);
    while server.anonymous_memory() > full - 48 * MIB {
        assert!(Instant::now() < end, "{full} bytes, a minute later {}", server.anonymous_memory());
        thread::sleep(Duration::from_millis(100));
    }
}

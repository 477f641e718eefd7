//! Targets that lie, and what `nvmf read` and the other commands make of them: nothing that was not
//! received is written, and the lie is named.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "tests may stop at a surprise")]

mod common;

#[path = "../../nvmf-host/tests/liar/liar.rs"]
#[allow(dead_code, reason = "not every test file uses all of it")]
mod liar;

use std::fs;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::{NQN, Random, Server, fails, ok, ok_with};
use liar::{Liar, Lie, Seen, data, instead, response, shortened, silence};
use nvmf::spec::Status;
use nvmf::spec::identify::cns;
use nvmf::spec::opcode::admin;
use nvmf::spec::pdu::kind;

/// Lies once this many reads were answered with the truth.
fn after(reads: usize, told: impl Fn(&Seen, Vec<u8>) -> Vec<u8> + Send + Sync + 'static) -> Lie {
    let count = AtomicUsize::new(0);
    let late = move |seen: &Seen| {
        seen.read() && seen.kind == kind::C2H_DATA && count.fetch_add(1, Ordering::SeqCst) >= reads
    };
    instead(late, told)
}

fn before(server: &Server, lie: Lie) -> (Liar, String) {
    let liar = Liar::start(SocketAddr::from(([127, 0, 0, 1], server.port)), lie);
    let target = format!("nvme+tcp://{}/{NQN}", liar.address);
    (liar, target)
}

#[test]
fn what_is_written_to_a_file_was_received_whatever_a_target_says() {
    let server = Server::start(&["mem:16M"]);
    let disk = Random(5).bytes(16 << 20);
    ok_with(&["write", &server.target(), "-"], &disk);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("out").display().to_string();
    let lies = [
        ("succeeded with 0 of", after(20, |seen, _| response(seen.cid(), Status::SUCCESS))),
        ("data length ", after(20, |_, pdu| shortened(pdu, 4096))),
        (
            "which is not outstanding",
            after(20, |seen, pdu| [pdu, response(seen.cid(), Status::SUCCESS)].concat()),
        ),
        (
            "came damaged",
            after(20, |_, mut pdu| {
                pdu[24 + 77] ^= 2;
                pdu
            }),
        ),
        ("PDU type 0xff", after(20, |_, _| vec![0xff; 512])),
        (
            "the peer broke the protocol",
            after(20, |_, mut pdu| {
                pdu[4..8].fill(0xff);
                pdu
            }),
        ),
    ];
    for (says, lie) in lies {
        let (liar, target) = before(&server, lie);
        let error = fails(1, &["read", &target, &file, "--ddgst", "--timeout", "2"]);
        assert!(error.contains("stopped after") && error.contains(says), "{says}: {error}");
        assert!(liar.has_lied());
        let read = fs::read(&file).unwrap();
        assert!(read.len() < disk.len() && disk.starts_with(&read), "{says}: {}", read.len());
        let told = format!("stopped after {} of", read.len());
        assert!(error.contains(&told), "{told}: {error}");
    }
}

#[test]
fn a_size_that_is_a_lie_ends_the_transfer_where_the_blocks_do() {
    let server = Server::start(&["mem:4M"]);
    let disk = Random(6).bytes(4 << 20);
    ok_with(&["write", &server.target(), "-"], &disk);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("out").display().to_string();
    let size = |blocks: u64| {
        data(
            |seen| seen.identify(cns::NAMESPACE),
            move |page| page[..8].copy_from_slice(&blocks.to_le_bytes()),
        )
    };
    let (_liar, target) = before(&server, size(1 << 51));
    let error = fails(1, &["read", &target, &file]);
    assert!(error.contains("stopped after") && error.contains("LBA Out of Range"), "{error}");
    assert!(disk.starts_with(&fs::read(&file).unwrap()));
    fs::remove_file(&file).unwrap();
    let (_liar, target) = before(&server, size(1 << 63));
    let error = fails(1, &["read", &target, &file]);
    assert!(error.contains("9223372036854775808 blocks"), "{error}");
    assert!(!fs::exists(&file).unwrap(), "nothing is made before the target was understood");
}

#[test]
fn a_target_that_stops_answering_says_at_which_command() {
    let server = Server::start(&["mem:4M"]);
    let (_liar, target) = before(&server, silence(|seen| seen.admin(admin::IDENTIFY)));
    let start = Instant::now();
    let error = fails(1, &["identify", &target, "--timeout", "0.5"]);
    assert!(error.contains("no answer to Identify"), "{error}");
    assert!(error.contains("--timeout gives more"), "{error}");
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert!(!ok(&["identify", &server.target()]).is_empty());
}

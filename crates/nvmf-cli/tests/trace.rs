//! `--trace-pdus`: what goes over the wire, line by line.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "tests may stop at a surprise")]

mod common;

use std::collections::HashMap;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;

use common::{HOST, NQN, Server, nvmf, ok, ok_with, run, text};
use tempfile::TempDir;

/// A server that traces into a file, with more options.
fn traced(directory: &TempDir, more: &[&str]) -> (Server, std::path::PathBuf) {
    let path = directory.path().join("pdus");
    let trace = format!("--trace-pdus={}", path.display());
    let args = [&["--nqn", NQN, "--namespace", "mem:8M", &trace], more].concat();
    (Server::start_with(&args), path)
}

/// The lines of a trace without their times, which on a connection never go back.
fn lines(path: &Path) -> Vec<String> {
    let mut last = HashMap::new();
    let written = fs::read_to_string(path).unwrap();
    let without_time = |line: &str| {
        let (time, rest) = line.split_once(' ').unwrap();
        let time: f64 = time.parse().unwrap();
        let peer = rest.split(' ').next().unwrap().to_owned();
        let before = last.insert(peer, time);
        assert!(before.is_none_or(|before| time >= before), "{line} after {before:?}");
        rest.to_owned()
    };
    written.lines().map(without_time).collect()
}

/// Lines that have all of these, each behind the one before it.
#[track_caller]
fn in_order(lines: &[String], wanted: &[&[&str]]) {
    let mut left = lines.iter();
    for parts in wanted {
        let found = left.any(|line| parts.iter().all(|part| line.contains(part)));
        assert!(found, "no {parts:?} (or not in order) in\n{}", lines.join("\n"));
    }
}

#[test]
fn an_identify_is_there_from_handshake_to_disconnect() {
    let directory = tempfile::tempdir().unwrap();
    let (server, path) = traced(&directory, &[]);
    ok(&["identify", &server.target(), "--controller"]);
    assert!(server.terminate().0.success());
    let lines = lines(&path);
    let host = format!("qid=0 host={}", HOST[1]);
    in_order(
        &lines,
        &[
            &["127.0.0.1:", " H→C ICReq flags=0x0 hlen=128 pdo=0 plen=128 pfv=0 hpda=0", "maxr2t="],
            &[" C→H ICResp flags=0x0 ", "cpda=0", "maxh2cdata="],
            &[" qid=0 H→C CapsuleCmd ", "plen=1096", "fctype=0x1 (Connect) recfmt=0 qid=0 "],
            &[&host, " C→H CapsuleResp ", "status=0x0 (Successful Completion)", "sqhd="],
            &[&host, " H→C CapsuleCmd ", "(Property Set)", "ofst=0x14 (CC)"],
            &[&host, " C→H CapsuleResp "],
            &[&host, " H→C CapsuleCmd ", "opcode=0x6 (Identify)", "cns=0x1"],
            &[&host, " C→H C2HData ", "(last, success)", "ttag=0 datao=0 datal=4096"],
        ],
    );
    // What is identified is data.
    assert!(!lines.concat().contains("subnqn"));
}

#[test]
fn data_has_its_places_and_digests_and_is_not_printed() {
    let directory = tempfile::tempdir().unwrap();
    let (server, path) = traced(&directory, &[]);
    let data = vec![b'!'; 1 << 20];
    let target = server.target();
    ok_with(&["write", &target, "--queues", "1", "--qd", "1", "-G"], &data);
    assert!(ok(&["read", &target, "--queues", "1", "--qd", "1", "--length", "1M", "-g"]) == data);
    assert!(server.terminate().0.success());
    let lines = lines(&path);
    in_order(
        &lines,
        &[
            &["H→C ICReq", "dgst=0x2 (data)"],
            &["C→H ICResp", "dgst=0x2 (data)"],
            &["qid=1 ", "H→C CapsuleCmd", "opcode=0x1 (Write)", "slba=0 "],
            &["qid=1 ", "C→H R2T flags=0x0 ", "ttag=0 r2to=0 r2tl="],
            &["qid=1 ", "H→C H2CData ", "data digest", "ttag=0 datao=0 datal="],
            &["H→C H2CData ", "last"],
            &["qid=1 ", "C→H CapsuleResp "],
            &["H→C ICReq", "dgst=0x1 (header)"],
            &["qid=1 ", "H→C CapsuleCmd flags=0x1 (header digest)", "opcode=0x2 (Read)"],
            &["qid=1 ", "C→H C2HData ", "header digest, last", "datao="],
            &["qid=1 ", "H→C CapsuleCmd", "(Disconnect)"],
        ],
    );
    // Whether data was received by the way or straight into its place, none of it is missing.
    let sum = |kind: &str| -> u64 {
        let of = lines.iter().filter(|line| line.contains("qid=1 ") && line.contains(kind));
        of.map(|line| {
            let length = line.split_once("datal=").unwrap().1;
            length.split(' ').next().unwrap().parse::<u64>().unwrap()
        })
        .sum()
    };
    assert_eq!((sum("H2CData"), sum("C2HData")), (1 << 20, 1 << 20));
    assert!(!lines.iter().any(|line| line.contains("followed no more") || line.contains("!!!")));
}

#[test]
fn a_stream_that_is_not_of_pdus_is_told_once_and_its_end_too() {
    let directory = tempfile::tempdir().unwrap();
    let (server, path) = traced(&directory, &[]);
    let mut socket = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    socket.write_all(b"GET / HTTP/1.1\r\nHost: example\r\n\r\n").unwrap();
    let _ = socket.read_to_end(&mut Vec::new());
    // Another connection is followed as ever.
    ok(&["identify", &server.target(), "--controller"]);
    assert!(server.terminate().0.success());
    let lines = lines(&path);
    let peer = socket.local_addr().unwrap().to_string();
    let of: Vec<_> = lines.iter().filter(|line| line.starts_with(&peer)).collect();
    let [lost, term] = of[..] else { panic!("{of:?}") };
    assert!(lost.ends_with("H→C followed no more: 0x47 is no PDU type"), "{lost}");
    assert!(term.contains("C→H C2HTermReq ") && term.contains("fes=0x1 (Inv"), "{term}");
    assert!(term.contains("pdu={type=0x47"), "{term}");
    assert!(lines.iter().any(|line| line.contains("(Identify)")));
}

#[test]
fn without_a_file_it_is_on_standard_error() {
    let server = Server::start_with(&["--nqn", NQN, "--namespace", "mem:1M", "--trace-pdus"]);
    ok(&["identify", &server.target(), "--controller"]);
    let (status, error) = server.terminate();
    assert!(status.success() && error.contains("H→C ICReq "), "{error}");
}

#[test]
fn hosts_trace_too_all_of_their_queues() {
    let server = Server::start(&["mem:8M"]);
    let output = run(&["--trace-pdus", "discover", &server.portal()]);
    let said = text(&output.stderr);
    assert!(output.status.success() && text(&output.stdout).contains(NQN), "{said}");
    let said: Vec<_> = said.lines().map(str::to_owned).collect();
    in_order(
        &said,
        &[&["H→C ICReq"], &["C→H ICResp"], &["qid=0 ", "(Get Log Page)"], &["C2HData"]],
    );
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pdus");
    let trace = format!("--trace-pdus={}", path.display());
    ok(&["read", &server.target(), "--queues", "2", &trace]);
    let lines = lines(&path);
    for qid in ["qid=1 ", "qid=2 "] {
        in_order(
            &lines,
            &[
                &[qid, "H→C CapsuleCmd", "(Connect)"],
                &[qid, "C→H CapsuleResp"],
                &[qid, "H→C CapsuleCmd", "opcode=0x2 (Read)"],
                &[qid, "C→H C2HData"],
                &[qid, "(Disconnect)"],
                &[qid, "C→H CapsuleResp"],
            ],
        );
    }
    let of = |what: &str| lines.iter().filter(|line| line.contains(what)).count();
    // Each queue was answered once for its Connect, whatever came with that.
    assert_eq!(of("(Connect)"), of("ICResp"));
    assert!(!lines.concat().contains("followed no more"));
}

#[test]
fn a_file_that_cannot_be_written_is_said_before_anything_is_done() {
    let output = nvmf().args(["serve", "--trace-pdus=/nonexistent/pdus"]).output().unwrap();
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    common::one_line(&error);
    assert!(error.contains("/nonexistent/pdus") && output.stdout.is_empty(), "{error}");
}

//! What `nvmf serve` logs of a connection says whose it is.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "tests may stop at a surprise")]

mod common;

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::net::TcpStream;

use common::{HOST, NQN, Server, image, json, ok, ok_with, run};
use serde_json::Value;

/// The lines of a log in JSON that are about connections, in order.
fn of_connections(log: &str) -> Vec<Value> {
    let lines = log.lines().map(|line| json(line.as_bytes()));
    let target = |line: &Value| line["target"].as_str().unwrap().to_owned();
    let serving = |line: &Value| {
        let target = target(line);
        target.starts_with("nvmf_target::serve::connection")
            || ["nvmf_target::who", "nvmf_target::io"].contains(&target.as_str())
    };
    lines.filter(serving).collect()
}

/// Every line has a peer; from a connection's Connect on, it has all that is known of it.
#[track_caller]
fn assert_complete(lines: &[Value]) {
    let mut queues: HashMap<String, (u64, u64)> = HashMap::new();
    for line in lines {
        let peer = line["peer"].as_str().unwrap_or_else(|| panic!("no peer: {line}")).to_owned();
        let connected = line["message"].as_str().is_some_and(|text| text.ends_with(" connected"));
        let Some(queue) = line["cntlid"].as_u64().zip(line["qid"].as_u64()) else {
            assert!(!connected && !queues.contains_key(&peer), "not whole: {line}");
            continue;
        };
        assert_eq!(*queues.entry(peer).or_insert(queue), queue, "{line}");
        assert_eq!((&line["host"], &line["subsystem"]), (&HOST[1].into(), &NQN.into()), "{line}");
    }
    assert!(!queues.is_empty());
}

#[test]
fn every_line_behind_a_connect_has_host_subsystem_controller_and_queue() {
    let args = ["--nqn", NQN, "--namespace", "mem:1M", "--log-format", "json", "-vv"];
    let server = Server::start_with(&args);
    ok_with(&["write", &server.target(), "--queues", "2"], &[7; 70_000]);
    let mut socket = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    socket.write_all(&[0x77; 128]).unwrap();
    // Until it is closed.
    let _ = socket.read_to_end(&mut Vec::new());
    let (_, log) = server.terminate();
    assert!(log.len() < 50_000, "{} bytes: nobody empties the pipe meanwhile", log.len());
    let lines = of_connections(&log);
    assert_complete(&lines);
    let has = |key: &str, text: &str, qid: u64| {
        let with = |line: &&Value| line[key].as_str().is_some_and(|value| value.contains(text));
        lines.iter().filter(with).any(|line| line["qid"].as_u64() == Some(qid))
    };
    for (key, text, qid) in [
        ("message", "host connected", 0),
        ("message", "I/O queue connected", 2),
        ("message", "I/O queue ended", 1),
        ("message", "host disconnected", 0),
        ("command", "(Identify)", 0),
    ] {
        assert!(has(key, text, qid), "no {key} {text} of queue {qid} in\n{log}");
    }
    // Which of the queues takes a write is a matter of time.
    for (key, text) in [("command", "(Write)"), ("response", "(Successful Completion)")] {
        assert!(has(key, text, 1) || has(key, text, 2), "no {key} {text} of a queue in\n{log}");
    }
    let broke = |line: &&Value| line["message"] == "the host broke the protocol";
    let broke = lines.iter().find(broke).unwrap();
    assert!(broke["peer"].is_string() && broke.get("host").is_none(), "{broke}");
}

#[test]
fn what_goes_wrong_says_whose_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk.img");
    let spec = image(&path, 1 << 20);
    let args = ["--nqn", NQN, "--namespace", &spec, "--log-format", "json"];
    let server = Server::start_with(&args);
    ok(&["read", &server.target(), "--length", "1"]);
    // The disk breaks: there is nothing behind its beginning any more.
    OpenOptions::new().write(true).open(&path).unwrap().set_len(0).unwrap();
    assert!(!run(&["read", &server.target()]).status.success());
    let unknown = format!("{}/nqn.2026-01.org.example:unknown", server.portal());
    assert!(!run(&["read", &unknown]).status.success());
    let (_, log) = server.terminate();
    let all: Vec<Value> = log.lines().map(|line| json(line.as_bytes())).collect();
    let find = |text: &str| {
        let found = all.iter().find(|line| line["message"] == text);
        found.unwrap_or_else(|| panic!("no {text:?} in {log}"))
    };
    let broken = find("the storage failed");
    assert_complete(std::slice::from_ref(broken));
    assert!(broken["qid"].as_u64() > Some(0) && broken["level"] == "ERROR", "{broken}");
    let refused = find("Connect refused");
    assert_eq!(refused["host"], HOST[1]);
    assert_eq!((&refused["qid"], refused.get("cntlid")), (&0.into(), None));
}

#[test]
fn text_has_the_same_fields() {
    let server = Server::start_with(&["--nqn", NQN, "--namespace", "mem:1M", "-v"]);
    ok(&["identify", &server.target(), "--controller"]);
    let (_, log) = server.terminate();
    let line = log.lines().find(|line| line.contains("host disconnected")).unwrap();
    let fields = format!("host={} subsystem={NQN} cntlid=1 qid=0", HOST[1]);
    assert!(line.contains("peer=127.0.0.1:") && line.contains(&fields), "{line}");
}

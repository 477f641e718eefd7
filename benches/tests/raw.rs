//! Both ends of `raw`, for a moment.

#![allow(clippy::unwrap_used, reason = "tests stop at a surprise")]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use nvmf_benches::report::Report;

const RAW: &str = env!("CARGO_BIN_EXE_raw");

struct Server {
    process: Child,
    port: String,
}

impl Server {
    fn start() -> Self {
        let mut process = Command::new(RAW)
            .args(["serve", "--port", "0"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port = line.trim().rsplit(':').next().unwrap().to_owned();
        Self { process, port }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn load(server: &Server, args: &[&str]) -> Report {
    let output = Command::new(RAW)
        .args(["load", "--json", "--seconds", "0.2", "--port", &server.port])
        .args(args)
        .output()
        .unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn reads_and_writes_of_every_kind_are_answered() {
    let server = Server::start();
    for args in [
        ["--rw", "read", "--bs", "4k", "--qd", "1", "--connections", "1"],
        ["--rw", "read", "--bs", "128k", "--qd", "7", "--connections", "3"],
        ["--rw", "write", "--bs", "4k", "--qd", "128", "--connections", "1"],
        ["--rw", "write", "--bs", "128k", "--qd", "8", "--connections", "2"],
    ] {
        let report = load(&server, &args);
        assert!(report.total.ios > 0, "{args:?}: {report:?}");
        let done = if args[1] == "read" { report.read.ios } else { report.write.ios };
        assert_eq!(done, report.total.ios, "{args:?}: {report:?}");
        assert!(report.total.latency_us.min > 0.0, "{args:?}: {report:?}");
    }
}

#[test]
fn a_mix_has_both() {
    let server = Server::start();
    let report = load(&server, &["--rw", "rw", "--mix", "70"]);
    let share = report.read.iops / report.total.iops;
    assert!((0.6..0.8).contains(&share), "{report:?}");
    assert_eq!(report.read.ios + report.write.ios, report.total.ios);
}

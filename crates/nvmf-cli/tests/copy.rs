//! `nvmf copy`: files and namespaces in any pairing, stopped and gone on with.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "tests may stop at a surprise")]

mod common;

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;
use std::process::{Child, Output, Stdio};

use common::{Random, Server, eventually, fails, image, json, nvmf, ok, one_line, run, text};
use serde_json::Value;
use tempfile::TempDir;

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn path(&self, name: &str) -> String {
        self.file(name).display().to_string()
    }

    fn write(&self, name: &str, bytes: &[u8]) -> String {
        fs::write(self.file(name), bytes).unwrap();
        self.path(name)
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.file(name)).unwrap()
    }
}

/// Random data, zeroes, and random data again: an odd number of bytes.
fn some(length: usize) -> Vec<u8> {
    let mut bytes = Random(5).bytes(length);
    bytes[length / 3..length * 2 / 3].fill(0);
    bytes
}

/// A copy that is to succeed, as JSON tells of it.
fn copy(from: &str, to: &str, more: &[&str]) -> Value {
    json(&ok(&[&["copy", from, to, "-o", "json"], more].concat()))
}

fn contents(target: &str, length: usize) -> Vec<u8> {
    ok(&["read", target, "--length", &length.to_string()])
}

#[test]
fn every_pairing_moves_every_byte() {
    const LENGTH: usize = 3_000_001;
    let server = Server::start(&["mem:4M,bs=512", "mem:4M", "mem:4M,bs=512", "mem:4M"]);
    let folder = Folder::new();
    let file = folder.write("file", &some(LENGTH));
    let length = ["--length", "3000001", "--verify"];
    for (from, to) in [(1, 2), (4, 3)] {
        let (from, to) = (server.namespace(from), server.namespace(to));
        let report = copy(&file, &from, &["--verify"]);
        assert_eq!(report["bytes"], LENGTH);
        assert_eq!(report["verified"], true);
        assert!(contents(&from, LENGTH) == some(LENGTH), "file to namespace");

        copy(&from, &to, &length);
        assert!(contents(&to, LENGTH) == some(LENGTH), "namespace to namespace");

        copy(&to, &folder.path("back"), &length);
        assert!(folder.read("back") == some(LENGTH), "namespace to file");

        copy(&folder.path("back"), &folder.path("again"), &["--verify", "--chunk", "64K"]);
        assert!(folder.read("again") == some(LENGTH), "file to file");
    }
    // The rest of the namespaces is as it was.
    assert!(contents(&server.namespace(2), 4 << 20)[LENGTH..].iter().all(|byte| *byte == 0));
    copy(&server.namespace(1), &folder.path("whole"), &[]);
    assert_eq!(folder.file("whole").metadata().unwrap().len(), 4 << 20);
}

#[test]
fn any_range_is_moved_and_nothing_beside_it_changes() {
    const SIZE: usize = 2 << 20;
    let server = Server::start(&["mem:2M,bs=512", "mem:2M"]);
    let folder = Folder::new();
    let data = Random(11).bytes(SIZE);
    let file = folder.write("file", &data);
    let mut random = Random(3);
    for (round, nsid) in [1, 2, 1, 2, 1, 2].into_iter().enumerate() {
        let target = server.namespace(nsid);
        copy(&file, &target, &[]);
        let length = random.below(if round < 2 { 5000 } else { SIZE / 2 }) + 1;
        let (from, to) = (random.below(SIZE - length), random.below(SIZE - length));
        let numbers = [from, to, length].map(|number| number.to_string());
        let range = [
            "--source-offset",
            &numbers[0],
            "--offset",
            &numbers[1],
            "--length",
            &numbers[2],
            "--chunk",
            "64K",
            "--verify",
        ];
        let mut model = data.clone();
        model[to..to + length].copy_from_slice(&data[from..from + length]);
        copy(&file, &target, &range);
        assert!(contents(&target, SIZE) == model, "{length} bytes from {from} to {to}");
    }
}

#[test]
fn zeroes_take_no_space_on_either_way() {
    let folder = Folder::new();
    let spec = image(&folder.file("disk"), 64 << 20);
    let server = Server::start(&[&spec]);
    let file = folder.path("file");
    let sparse = File::create(&file).unwrap();
    sparse.set_len(64 << 20).unwrap();
    let data = Random(1).bytes(200_000);
    sparse.write_all_at(&data, 40 << 20).unwrap();
    let space = |name: &str| folder.file(name).metadata().unwrap().blocks() * 512;

    // What was there has to go.
    ok(&["write", &server.target(), &folder.write("old", &vec![1; 8 << 20])]);
    let report = copy(&file, &server.target(), &["--verify"]);
    assert!(report["zeroed"].as_u64().unwrap() > 60 << 20, "{report}");
    assert!(space("disk") < 1 << 20, "{} bytes on the target", space("disk"));
    copy(&server.target(), &folder.path("back"), &["--verify"]);
    assert!(space("back") < 1 << 20, "{} bytes of the copy", space("back"));
    assert!(folder.read("back") == folder.read("file"));
    copy(&server.target(), &folder.path("full"), &["--sparse", "never"]);
    assert!(space("full") >= 64 << 20);
}

#[test]
fn the_summary_is_a_line_or_json() {
    let folder = Folder::new();
    let (from, to) = (folder.write("from", &vec![7; 1 << 20]), folder.path("to"));
    let output = run(&["copy", &from, &to, "--verify"]);
    let said = text(&output.stderr);
    assert!(said.starts_with("copied 1048576 bytes (1.0 MiB) in "), "{said}");
    assert!(said.contains("verified in") && said.lines().count() == 1, "{said}");
    assert!(output.stdout.is_empty());

    let output = run(&["copy", &from, &to, "-o", "json"]);
    assert!(output.stderr.is_empty(), "{}", text(&output.stderr));
    let report = json(&output.stdout);
    for (name, value) in [("bytes", 1 << 20), ("written", 1 << 20), ("zeroed", 0), ("resumed", 0)] {
        assert_eq!(report[name], value, "{name}");
    }
    assert!(report["seconds"].as_f64().unwrap() > 0.0);
    assert!(report["bytes-per-second"].as_f64().unwrap() > 0.0);
    assert_eq!((&report["verified"], &report["source-changed"]), (&false.into(), &false.into()));
    assert_eq!((&report["source"], &report["destination"]), (&from.into(), &to.into()));
}

#[test]
fn what_cannot_be_copied_is_refused_before_anything_changes() {
    let folder = Folder::new();
    let disk = image(&folder.file("disk"), 1 << 20);
    let server = Server::start(&["mem:1M", &format!("{disk},ro")]);
    let file = folder.write("file", &vec![1; (1 << 20) + 1]);
    let target = server.target();

    let error = fails(1, &["copy", &file, &target]);
    assert!(error.contains("has 1048576 bytes, and no room for 1048577 at offset 0"), "{error}");
    let error = fails(1, &["copy", &file, &server.namespace(2), "--length", "1"]);
    assert!(error.contains("write protected"), "{error}");
    let error = fails(1, &["copy", &target, &server.namespace(1)]);
    assert!(error.contains("are the same"), "{error}");
    let error = fails(1, &["copy", &file, &file]);
    assert!(error.contains("are the same"), "{error}");
    for (from, to) in [("-", file.as_str()), (file.as_str(), "-")] {
        let error = fails(2, &["copy", from, to]);
        assert!(error.contains("cannot be a pipe") && error.contains("nvmf read"), "{error}");
    }
    let error = fails(2, &["copy", "nvme+tcp://:x", &file]);
    assert!(error.contains("SRC `nvme+tcp://:x`"), "{error}");
    let error = fails(2, &["copy", &file, &server.portal()]);
    assert!(error.contains("no subsystem"), "{error}");
    let error = fails(1, &["copy", &format!("{target}/9"), &folder.path("new")]);
    assert!(error.contains("the subsystem has no namespace 9"), "{error}");
    assert!(!folder.file("new").exists());
    assert!(contents(&target, 1 << 20).iter().all(|byte| *byte == 0), "something was written");
    assert!(folder.read("file").iter().all(|byte| *byte == 1));

    let served = Folder::new();
    let spec = image(&served.file("disk"), 1 << 20);
    let _holds = Server::start(&[&spec]);
    let error = fails(1, &["copy", &target, &served.path("disk")]);
    assert!(error.contains("is it being served?"), "{error}");
}

/// A copy in the background that takes long.
struct Slow(Option<Child>);

impl Slow {
    fn start(args: &[&str]) -> Self {
        let mut command = nvmf();
        command.arg("copy").args(args).args(["--rate", "4M", "--chunk", "64K", "--qd", "4"]);
        command.args(common::HOST).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self(Some(command.spawn().unwrap()))
    }

    fn signal(&self, signal: &str) {
        let pid = self.0.as_ref().unwrap().id().to_string();
        assert!(
            std::process::Command::new("kill").args([signal, &pid]).status().unwrap().success()
        );
    }

    fn end(mut self) -> Output {
        self.0.take().unwrap().wait_with_output().unwrap()
    }
}

impl Drop for Slow {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Ranges that a journal says are done.
fn done(journal: &PathBuf) -> Vec<(usize, usize)> {
    let Ok(text) = fs::read(journal) else { return Vec::new() };
    let place = |at: &Value| usize::try_from(at.as_u64().unwrap()).unwrap();
    let ranges = json(&text)["done"].clone();
    ranges.as_array().unwrap().iter().map(|one| (place(&one[0]), place(&one[1]))).collect()
}

/// Whether all that a journal says is done is there, and it is a part of all.
fn check_noted(journal: &PathBuf, there: &[u8], wanted: &[u8]) {
    let done = done(journal);
    let total: usize = done.iter().map(|(from, to)| to - from).sum();
    assert!(total > 0 && total < wanted.len(), "{total} bytes are noted");
    for (from, to) in done {
        assert!(there[from..to] == wanted[from..to], "{from} to {to} is noted, and not there");
    }
}

#[test]
fn a_copy_to_a_file_that_is_killed_goes_on_with_what_was_noted() {
    let folder = Folder::new();
    let wanted = some((16 << 20) + 4321);
    let (from, to) = (folder.write("from", &wanted), folder.path("to"));
    let journal = folder.file("to.nvmf-copy");
    let slow = Slow::start(&[&from, &to]);
    eventually("something is noted", || !done(&journal).is_empty());
    slow.signal("-KILL");
    slow.end();
    check_noted(&journal, &folder.read("to"), &wanted);
    // Of what is not noted anything may have become.
    let file = File::options().write(true).open(&to).unwrap();
    let mut at = 0;
    for (from, to) in done(&journal).into_iter().chain([(wanted.len(), 0)]) {
        file.write_all_at(&vec![0xAA; from - at], at as u64).unwrap();
        at = to;
    }
    let report = copy(&from, &to, &["--resume", "--verify"]);
    assert!(report["resumed"].as_u64().unwrap() > 0, "{report}");
    assert!(folder.read("to") == wanted);
    assert!(!journal.exists());
    // Nothing is noted any more: it begins at the beginning.
    assert_eq!(copy(&from, &to, &["--resume"])["resumed"], 0);
}

#[test]
fn a_copy_to_a_namespace_that_is_killed_goes_on_with_its_state() {
    let server = Server::start(&["mem:16M"]);
    let folder = Folder::new();
    let wanted = some(16 << 20);
    let from = folder.write("from", &wanted);
    let (state, target) = (folder.path("state"), server.target());
    let slow = Slow::start(&[&from, &target, "--state", &state]);
    eventually("something is noted", || !done(&folder.file("state")).is_empty());
    slow.signal("-KILL");
    slow.end();
    check_noted(&folder.file("state"), &contents(&target, wanted.len()), &wanted);

    // It is the state of that copy, and of no other.
    let error = fails(1, &["copy", &from, &target, "--state", &state, "--resume", "--length", "9"]);
    assert!(error.contains("does not fit") && error.contains("begin anew"), "{error}");
    let report = copy(&from, &target, &["--state", &state, "--resume", "--verify"]);
    assert!(report["resumed"].as_u64().unwrap() > 0, "{report}");
    assert!(contents(&target, wanted.len()) == wanted);
    assert!(!folder.file("state").exists());
}

#[test]
fn a_signal_ends_a_copy_in_order_and_says_how_to_go_on() {
    let folder = Folder::new();
    let wanted = some(16 << 20);
    let (from, to) = (folder.write("from", &wanted), folder.path("to"));
    for (signal, status) in [("-INT", 130), ("-TERM", 143)] {
        let slow = Slow::start(&[&from, &to]);
        eventually("it is at work", || folder.file("to.nvmf-copy").exists());
        std::thread::sleep(std::time::Duration::from_millis(300));
        slow.signal(signal);
        let output = slow.end();
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{error}");
        one_line(&error);
        assert!(error.contains("of 16777216 bytes") && error.contains("--resume"), "{error}");
        check_noted(&folder.file("to.nvmf-copy"), &folder.read("to"), &wanted);
    }
    copy(&from, &to, &["--resume"]);
    assert!(folder.read("to") == wanted);

    // Without a state there is nothing to go on with, and that is said.
    let server = Server::start(&["mem:16M"]);
    let slow = Slow::start(&[&from, &server.target()]);
    std::thread::sleep(std::time::Duration::from_millis(500));
    slow.signal("-INT");
    let error = text(&slow.end().stderr);
    assert!(error.contains("--state FILE"), "{error}");
}

#[test]
fn a_source_that_was_changed_is_not_gone_on_with() {
    let folder = Folder::new();
    let (from, to) = (folder.write("from", &some(16 << 20)), folder.path("to"));
    let slow = Slow::start(&[&from, &to]);
    eventually("something is noted", || !done(&folder.file("to.nvmf-copy")).is_empty());
    slow.signal("-INT");
    slow.end();
    folder.write("from", &vec![1; 16 << 20]);
    let error = fails(1, &["copy", &from, &to, "--resume"]);
    assert!(error.contains("was changed meanwhile") && error.contains("begin anew"), "{error}");
    copy(&from, &to, &[]);
    assert!(folder.read("to") == [1; 16 << 20]);
}

#[test]
fn a_source_that_becomes_shorter_is_an_error() {
    let folder = Folder::new();
    let (from, to) = (folder.write("from", &some(16 << 20)), folder.path("to"));
    let slow = Slow::start(&[&from, &to]);
    eventually("it is at work", || folder.file("to.nvmf-copy").exists());
    File::options().write(true).open(&from).unwrap().set_len(1 << 20).unwrap();
    let output = slow.end();
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains(&from) && error.contains("shorter"), "{error}");
}

#[test]
fn a_destination_that_takes_no_more_is_an_error_that_says_where() {
    let folder = Folder::new();
    let (from, to) = (folder.write("from", &some(4 << 20)), folder.path("to"));
    // Files may have 1 MiB; the limit is told instead of killing.
    let script = "trap '' XFSZ; ulimit -f 1024; exec \"$@\"";
    let output = std::process::Command::new("bash")
        .args(["-c", script, "bash", env!("CARGO_BIN_EXE_nvmf"), "copy", &from, &to])
        .output()
        .unwrap();
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains(&format!("cannot make {to} ready")), "{error}");
    assert!(error.contains("File too large"), "{error}");
}

/// A file, and a target on a disk image that is to go away, and perhaps to come back.
struct Away {
    folder: Folder,
    /// What is in the file.
    wanted: Vec<u8>,
    from: String,
    spec: String,
    server: Server,
    address: String,
}

impl Away {
    fn new() -> Self {
        let folder = Folder::new();
        let wanted = some(16 << 20);
        let from = folder.write("from", &wanted);
        let spec = image(&folder.file("disk"), 16 << 20);
        let server = Server::start_apart(&[&spec]);
        let address = format!("{}:{}", server.host, server.port);
        Self { folder, wanted, from, spec, server, address }
    }
}

#[test]
fn a_copy_goes_on_when_a_target_was_away() {
    let Away { folder, wanted, from, spec, server, address } = Away::new();
    let target = server.target();
    let slow = Slow::start(&[&from, &target, "--verify", "-o", "json"]);
    std::thread::sleep(std::time::Duration::from_millis(800));
    server.kill();
    let again = Server::start_at(&address, &["--nqn", common::NQN, "--namespace", &spec]);
    let output = slow.end();
    assert!(output.status.success(), "{}", text(&output.stderr));
    // What was not flushed when the connection was lost may be lost, too.
    assert!(json(&output.stdout)["repeated"].as_u64().unwrap() > 0, "{}", text(&output.stdout));
    drop(again);
    assert!(folder.read("disk") == wanted);
}

#[test]
fn a_target_that_stays_away_ends_a_copy_that_can_be_gone_on_with() {
    let Away { folder, wanted, from, spec, server, address } = Away::new();
    let (target, state) = (server.target(), folder.path("state"));
    let slow = Slow::start(&[&from, &target, "--state", &state, "--ctrl-loss-tmo", "1"]);
    eventually("something is noted", || !done(&folder.file("state")).is_empty());
    server.kill();
    let output = slow.end();
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains(&target) && error.contains("no path to the namespace"), "{error}");
    assert!(error.contains("stopped after") && error.contains("--resume"), "{error}");
    check_noted(&folder.file("state"), &folder.read("disk"), &wanted);
    let _again = Server::start_at(&address, &["--nqn", common::NQN, "--namespace", &spec]);
    copy(&from, &target, &["--state", &state, "--resume"]);
    assert!(folder.read("disk") == wanted);
}

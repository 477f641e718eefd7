//! `nvmf serve`: what it prints, how it ends, and what is left then.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "tests may stop at a surprise")]

mod common;

use std::fs;

use common::{NQN, Random, Server, fails, image, nvmf, ok, ok_with, run, text};

/// Fails to start, with one line.
fn refused(status: i32, args: &[&str]) -> String {
    let output = nvmf().arg("serve").args(args).output().unwrap();
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{error}");
    common::one_line(&error);
    assert!(output.stdout.is_empty(), "{}", text(&output.stdout));
    error
}

#[test]
fn it_prints_the_lines_to_paste_when_it_is_ready() {
    let server = Server::start_with(&[]);
    let said = server.said.join("\n");
    assert!(said.contains("256M"), "{said}");
    let connect = server.said.iter().find(|line| line.contains("nvme connect")).unwrap();
    let port = server.port.to_string();
    assert!(connect.contains(&format!("-t tcp -a 127.0.0.1 -s {port} -n nqn.")), "{connect}");
    // The line for nvmf is a command that works, but for the name of the program.
    let directory = tempfile::tempdir().unwrap();
    let read = server.said.iter().find(|line| line.contains("nvmf read")).unwrap();
    let words: Vec<_> = read.split_whitespace().collect();
    let at = words.iter().position(|word| *word == "nvmf").unwrap();
    let status =
        nvmf().args(&words[at + 1..]).current_dir(directory.path()).output().unwrap().status;
    assert!(status.success(), "{read}");
    assert_eq!(directory.path().read_dir().unwrap().count(), 1);
}

#[test]
fn sigterm_and_sigint_end_it_with_success() {
    for signal in ["-TERM", "-INT"] {
        let server = Server::start(&["mem:1M"]);
        if signal == "-TERM" {
            let (status, error) = server.terminate();
            assert!(status.success() && error.is_empty(), "{status} {error}");
        } else {
            let (status, _) = server.signal(signal);
            assert!(status.success(), "{status}");
        }
    }
}

#[test]
fn after_sigterm_the_file_has_what_was_written() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk.img");
    let server = Server::start(&[&image(&path, 4 << 20)]);
    let data = Random(5).bytes(3_000_001);
    ok_with(&["write", &server.target(), "--offset", "77"], &data);
    let (status, error) = server.terminate();
    assert!(status.success() && error.is_empty(), "{status} {error}");
    let disk = fs::read(&path).unwrap();
    assert!(disk[77..77 + data.len()] == data);
}

#[test]
fn what_was_flushed_survives_a_kill() {
    let directory = tempfile::tempdir().unwrap();
    let spec = image(&directory.path().join("disk.img"), 4 << 20);
    let server = Server::start_apart(&[&spec]);
    let data = Random(6).bytes(4 << 20);
    ok_with(&["write", &server.target()], &data);
    server.kill();
    let again = Server::start(&[&spec]);
    assert!(ok(&["read", &again.target()]) == data);
}

#[test]
fn identifiers_are_the_same_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let spec = image(&directory.path().join("disk.img"), 1 << 20);
    let identify = || {
        let server = Server::start(&[&spec, "mem:1M"]);
        let all = common::json(&ok(&["identify", &server.target(), "-o", "json"]));
        let ids = |at: usize| all["namespaces"][at]["ns-descs"].clone();
        (ids(0), ids(1), all["controller"]["sn"].clone())
    };
    let (first, second) = (identify(), identify());
    assert_eq!(first, second);
    assert_ne!(first.0, first.1);
    assert!(first.0.as_array().is_some_and(|ids| !ids.is_empty()), "{first:?}");
}

#[test]
fn every_namespace_is_another_disk() {
    let server = Server::start(&["mem:1M", "mem:2M,bs=512", "null:1G"]);
    ok_with(&["write", &server.namespace(1)], b"one");
    ok_with(&["write", &server.namespace(2)], b"two");
    assert_eq!(ok(&["read", &server.namespace(1), "--length", "3"]), b"one");
    assert_eq!(ok(&["read", &server.namespace(2), "--length", "3"]), b"two");
    assert_eq!(ok(&["read", &server.namespace(3), "--length", "3"]), b"\0\0\0");
    assert_eq!(ok(&["read", &server.namespace(2)]).len(), 2 << 20);
}

#[test]
fn it_listens_at_several_addresses() {
    let server = Server::start_with(&["--nqn", NQN, "--listen", "127.0.0.1:0"]);
    let connects: Vec<_> =
        server.said.iter().filter(|line| line.contains("nvme connect")).collect();
    assert_eq!(connects.len(), 2, "{:?}", server.said);
    for connect in connects {
        let port = connect.split_once("-s ").unwrap().1.split(' ').next().unwrap();
        let log = ok(&["discover", "-a", "127.0.0.1", "-s", port, "-o", "json"]);
        let log = common::json(&log);
        assert!(log["records"].as_array().is_some_and(|records| !records.is_empty()));
    }
}

#[test]
fn a_port_in_use_is_one_line() {
    let server = Server::start(&["mem:1M"]);
    let listen = format!("127.0.0.1:{}", server.port);
    let error = refused(1, &["--listen", &listen]);
    assert!(error.contains(&listen), "{error}");
    assert_eq!(error.matches("in use").count(), 1, "{error}");
    // Namespaces were not touched: the first is still served.
    assert_eq!(ok(&["read", &server.target()]).len(), 1 << 20);
}

#[test]
fn what_cannot_be_served_is_said() {
    assert!(refused(2, &["--namespace", "mem:12"]).contains("mem:12"));
    assert!(refused(2, &["--namespace", "disk.img"]).contains("file:PATH"));
    assert!(refused(2, &["--nqn", "disk"]).contains("nqn."));
    let error = refused(1, &["--listen", "127.0.0.1:0", "--namespace", "file:/nonexistent/disk"]);
    assert!(error.contains("/nonexistent/disk"), "{error}");
    assert!(refused(2, &["--listen", "nonsense"]).contains("nonsense"));
    let discovery = "nqn.2014-08.org.nvmexpress.discovery";
    refused(1, &["--listen", "127.0.0.1:0", "--nqn", discovery]);
}

#[test]
fn digests_can_be_refused() {
    let server = Server::start_with(&["--nqn", NQN, "--no-ddgst", "--namespace", "mem:1M"]);
    // Without them everything works; a host that asks for them and is refused goes on without.
    for digests in [&[][..], &["--ddgst"], &["--hdgst"]] {
        let output = run(&[&["read", &server.target(), "--length", "9"], digests].concat());
        assert!(output.status.success() && output.stdout.len() == 9);
        // Asked for and not had: that is said, once.
        let warnings = text(&output.stderr).matches("without digests").count();
        assert_eq!(warnings, usize::from(digests == ["--ddgst"]), "{}", text(&output.stderr));
    }
}

#[test]
fn several_hosts_are_served_at_once() {
    let server = Server::start(&["mem:8M"]);
    let target = server.target();
    std::thread::scope(|scope| {
        for part in 0u64..4 {
            let target = &target;
            scope.spawn(move || {
                let data = Random(part + 1).bytes(2 << 20);
                let offset = (part << 21).to_string();
                ok_with(&["write", target, "--offset", &offset], &data);
                let read = ok(&["read", target, "--offset", &offset, "--length", "2M"]);
                assert!(read == data, "part {part}");
            });
        }
    });
}

#[test]
fn a_target_that_is_gone_is_an_error_of_one_line() {
    let server = Server::start_apart(&["mem:1M"]);
    let target = server.target();
    server.kill();
    let error = fails(1, &["read", &target]);
    assert!(error.contains("nvmf serve"), "{error}");
}

#[test]
fn it_takes_as_many_descriptors_as_it_may() {
    use std::io::{BufRead, BufReader};
    let mut child = std::process::Command::new("sh")
        .args(["-c", "ulimit -Sn 64; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_nvmf")])
        .args(["serve", "--listen", "127.0.0.1:0", "--namespace", "mem:1M"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("Ctrl-C")), "not ready");
    let limits = fs::read_to_string(format!("/proc/{}/limits", child.id())).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let files = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let [soft, hard] = files.split_whitespace().skip(3).take(2).collect::<Vec<_>>()[..] else {
        panic!("{files}")
    };
    assert_eq!(soft, hard);
    assert_ne!(soft, "64");
}

//! `nvmf read` and `nvmf write`: bytes go in, the same bytes come out, and nothing else changes.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "tests may stop at a surprise")]

mod common;

use std::fs;
use std::io::Write;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use common::{Random, Server, fails, fails_with, image, ok, ok_with, run, text};

#[test]
fn what_is_written_is_read_back_with_every_combination_of_digests() {
    let server = Server::start(&["mem:16M"]);
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    let mut random = Random(1);
    for digests in [&[][..], &["--hdgst"], &["--ddgst"], &["-g", "-G"]] {
        let data = random.bytes(9_000_000);
        fs::write(path("in"), &data).unwrap();
        let (source, copy) = (path("in"), path("out"));
        ok(&[&["write", &server.target(), &source], digests].concat());
        let all = ok(&[&["read", &server.target(), "-", "--length", "9000000"], digests].concat());
        assert!(all == data, "standard output, {digests:?}");
        ok(&[&["read", &server.target(), &copy], digests].concat());
        let copy = fs::read(copy).unwrap();
        assert_eq!(copy.len(), 16 << 20);
        assert!(copy[..data.len()] == data, "file, {digests:?}");
        assert!(copy[data.len()..].iter().all(|b| *b == 0), "the rest is as it was");
    }
}

#[test]
fn any_range_is_moved_and_nothing_beside_it_changes() {
    const SIZE: usize = 3 << 20;
    for spec in ["mem:3M,bs=512", "mem:3M"] {
        let server = Server::start(&[spec]);
        let mut model = vec![0; SIZE];
        let mut random = Random(7);
        for round in 0..25 {
            // Mostly small, so that ranges within a block and over its edge are common.
            let most = if round % 3 == 0 { SIZE } else { 10_000 };
            let length = random.below(most);
            let offset = random.below(SIZE - length);
            let (at, long) = (offset.to_string(), length.to_string());
            let data = random.bytes(length);
            let target = server.target();
            let range = ["--offset", &at, "--length", &long];
            // Standard input, its length known or found out.
            let known = if round % 2 == 0 { &range[..] } else { &range[..2] };
            let queues: [&[&str]; 3] =
                [&[], &["--queues", "1", "--qd", "1"], &["--queues", "4", "--qd", "3"]];
            let queues = queues[round % 3];
            ok_with(&[&["write", &target], known, queues].concat(), &data);
            model[offset..offset + length].copy_from_slice(&data);
            let read = ok(&[&["read", &target], &range[..], queues].concat());
            assert!(read == data, "{spec}: {length} bytes at {offset}");
        }
        assert!(ok(&["read", &server.target()]) == model, "{spec}");
    }
}

#[test]
fn one_queue_with_one_command_moves_what_many_queues_do() {
    let server = Server::start(&["mem:8M"]);
    let data = Random(3).bytes(8 << 20);
    ok_with(&["write", &server.target(), "-", "--queues", "8", "--qd", "64"], &data);
    let read = ok(&["read", &server.target(), "--queues", "1", "--qd", "1"]);
    assert!(read == data);
}

#[test]
fn files_and_namespaces_are_addressed_by_option_too() {
    let server = Server::start(&["mem:1M", "mem:2M"]);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("out").display().to_string();
    let port = server.port.to_string();
    let options =
        ["-t", "tcp", "-a", "127.0.0.1", "-s", &port, "-n", common::NQN, "--namespace-id", "2"];
    ok_with(&[&["write"], &options[..], &["--offset", "1M"]].concat(), b"hello");
    ok(&[&["read", &file], &options[..], &["--offset", "1M", "--length", "5"]].concat());
    assert_eq!(fs::read(&file).unwrap(), b"hello");
    let url = server.namespace(2);
    let error = fails(2, &[&["read", &url, &file], &options[..]].concat());
    assert!(error.contains("TARGET and -a"), "{error}");
    for name in ["--namespace-id", "--nsid", "--namespace"] {
        for target in [&server.target(), &url] {
            let range = ["--offset", "1M", "--length", "5"];
            assert_eq!(ok(&[&["read", target, name, "2"], &range[..]].concat()), b"hello");
        }
    }
    let error = fails(2, &["read", &url, "--namespace-id", "1"]);
    assert!(error.contains("namespace 2") && error.contains("--namespace-id 1"), "{error}");
}

#[test]
fn the_summary_goes_to_standard_error() {
    let server = Server::start(&["mem:1M"]);
    let output = run(&["read", &server.target()]);
    assert_eq!(output.stdout.len(), 1 << 20);
    let said = text(&output.stderr);
    assert!(
        said.starts_with("read 1048576 bytes (1.0 MiB) in ") && said.contains("MiB/s"),
        "{said}"
    );
}

#[test]
fn nothing_is_moved_for_an_empty_range() {
    let server = Server::start(&["mem:1M"]);
    let target = server.target();
    assert!(ok(&["read", &target, "--length", "0"]).is_empty());
    assert!(ok(&["read", &target, "--offset", "1M"]).is_empty());
    ok_with(&["write", &target, "--offset", "1M"], b"");
}

#[test]
fn a_range_past_the_end_is_refused_before_anything_is_moved() {
    let server = Server::start(&["mem:1M"]);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    let file = path.display().to_string();
    let target = server.target();
    for range in [
        ["--offset", "1048575", "--length", "2"],
        ["--offset", "1048577", "--length", "0"],
        ["--offset", "8191P", "--length", "8P"],
    ] {
        let error = fails(1, &[&["read", &target, &file], &range[..]].concat());
        assert!(error.contains("1048576 bytes"), "{error}");
        assert!(!path.exists(), "a file was made");
    }
    let error = fails(1, &["read", &target, &file, "--offset", "1M", "--length", "1"]);
    assert!(error.contains("1 byte at offset 1048576 is not in namespace 1"), "{error}");
    fs::write(&path, vec![1; 5000]).unwrap();
    let error = fails(1, &["write", &target, &file, "--offset", "1044000"]);
    assert!(error.contains("5000 bytes at offset 1044000"), "{error}");
    fails_with(1, &["write", &target, "--offset", "1M", "--length", "1"], b"x");
    assert!(ok(&["read", &target]).iter().all(|b| *b == 0), "something was written");
}

#[test]
fn a_file_shorter_than_the_length_is_refused_before_anything_is_written() {
    let server = Server::start(&["mem:1M"]);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    fs::write(&path, vec![1; 5000]).unwrap();
    let file = path.display().to_string();
    let error = fails(1, &["write", &server.target(), &file, "--length", "5001"]);
    assert!(error.contains("only 5000 bytes"), "{error}");
    assert!(ok(&["read", &server.target()]).iter().all(|b| *b == 0), "something was written");
    // Part of a file is fine.
    ok(&["write", &server.target(), &file, "--length", "3"]);
    assert_eq!(ok(&["read", &server.target(), "--length", "4"]), [1, 1, 1, 0]);
}

#[test]
fn standard_input_that_ends_early_or_late_is_an_error_that_says_what_was_written() {
    let server = Server::start(&["mem:1M"]);
    let target = server.target();
    let error = fails_with(1, &["write", &target, "--length", "100"], &[7; 60]);
    assert!(error.contains("ended after 60 of 100 bytes"), "{error}");
    assert!(error.contains("stopped after 60"), "{error}");
    assert_eq!(ok(&["read", &target, "--offset", "58", "--length", "4"]), [7, 7, 0, 0]);

    let error = fails_with(1, &["write", &target, "--offset", "1048000"], &[8; 1000]);
    assert!(error.contains("namespace ends") && error.contains("after 576 bytes"), "{error}");
    let end = ok(&["read", &target, "--offset", "1047999"]);
    assert!(end[0] == 0 && end[1..] == [8; 576]);
}

#[test]
fn a_read_only_namespace_is_read_and_not_written() {
    let directory = tempfile::tempdir().unwrap();
    let spec = image(&directory.path().join("disk"), 1 << 20);
    let server = Server::start(&[&format!("{spec},ro")]);
    let error = fails_with(1, &["write", &server.target()], b"x");
    assert!(error.contains("write protected") && error.contains("nothing was written"), "{error}");
    assert_eq!(ok(&["read", &server.target()]).len(), 1 << 20);
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let server = Server::start(&["mem:1M"]);
    let target = server.target();
    let error = fails(1, &["write", &target, "/nonexistent/file"]);
    assert!(error.contains("/nonexistent/file") && error.contains("No such file"), "{error}");
    let error = fails(1, &["write", &target, "/"]);
    assert!(error.contains("directory"), "{error}");
    let error = fails(1, &["read", &target, "/nonexistent/file"]);
    assert!(error.contains("/nonexistent/file"), "{error}");
}

#[test]
fn a_file_that_is_being_served_is_not_read_into() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk.img");
    let data = Random(9).bytes(1 << 20);
    fs::write(&path, &data).unwrap();
    let file = path.display().to_string();
    let server = Server::start(&[&format!("file:{file}")]);
    let error = fails(1, &["read", &server.target(), &file]);
    assert!(error.contains(&file) && error.contains("is it being served?"), "{error}");
    assert!(fs::read(&path).unwrap() == data, "the disk was changed");
    drop(server);
    // Served no longer, it is a file as any other: what it had is replaced, and no more is left.
    let other = Server::start(&["mem:64K"]);
    ok(&["read", &other.target(), &file]);
    assert!(fs::read(&path).unwrap() == [0; 64 << 10]);
}

#[test]
fn a_disk_that_is_full_stops_the_read_and_says_how_far_it_got() {
    let server = Server::start(&["mem:1M"]);
    let error = fails(1, &["read", &server.target(), "/dev/full"]);
    assert!(error.contains("/dev/full") && error.contains("of 1048576 bytes"), "{error}");
}

#[test]
fn a_target_that_dies_ends_a_write_whose_input_goes_on() {
    let server = Server::start_apart(&["mem:16M"]);
    let mut command = common::nvmf();
    command.args(["write", &server.target()]).args(common::HOST);
    let mut writer = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut input = writer.stdin.take().unwrap();
    input.write_all(&[1; 4 << 20]).unwrap();
    server.kill();
    // A pipe that stays open, with bytes to spare: somebody has to stop reading it.
    let _ = input.write_all(&[2; 4 << 20]);
    let end = Instant::now() + Duration::from_secs(10);
    while writer.try_wait().unwrap().is_none() {
        assert!(Instant::now() < end, "it does not end");
        thread::sleep(Duration::from_millis(10));
    }
    drop(input);
    let output = writer.wait_with_output().unwrap();
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("stopped after") && error.lines().count() == 1, "{error}");
}

//! `nvmf admin-passthru` and `nvmf io-passthru`: any command, with its data and its answer.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "tests may stop at a surprise")]

mod common;

use std::fs;

use common::{Random, Server, fails, json, nvmf, ok, ok_with, run, text};

#[test]
fn identify_is_what_identify_shows() {
    let server = Server::start(&["mem:1M"]);
    let target = server.target();
    let identify = ["admin-passthru", &target, "-o", "0x06", "--cdw10", "1", "-l", "4096"];
    let raw = ok(&[&identify[..], &["-r", "-b"]].concat());
    assert_eq!(raw.len(), 4096);
    let shown = json(&ok(&["identify", &target, "--controller", "-o", "json"]));
    let serial = text(&raw[4..24]).trim_end().to_owned();
    assert_eq!(shown["sn"].as_str().unwrap().trim_end(), serial);
    assert!(!serial.is_empty());

    let people = text(&ok(&identify));
    let (head, dump) = people.split_once('\n').unwrap();
    assert_eq!(head, "Identify (opcode 0x06): Successful Completion (sct 0h sc 00h), result 0x0");
    assert_eq!(dump.lines().count(), 256);
    let all = json(&ok(&[&identify[..], &["--output-format", "json", "-T"]].concat()));
    assert_eq!((&all["opcode"], &all["status"], &all["result"]), (&6.into(), &0.into(), &0.into()));
    assert!(all["latency_us"].is_u64(), "{all}");
    let hex: String = raw.iter().map(|byte| format!("{byte:02x}")).collect();
    let data = all["data"].as_str().unwrap();
    // The controller is another one each time.
    assert_eq!((data.len(), &data[8..156]), (hex.len(), &hex[8..156]));
}

#[test]
fn a_log_and_a_feature_are_had_by_their_numbers() {
    let server = Server::start(&["mem:1M"]);
    let target = server.target();
    let log = ["admin-passthru", &target, "-o", "2", "-n", "0xffffffff", "-4", "0x7f0002"];
    let smart = ok(&[&log[..], &["-l", "512", "-b"]].concat());
    let same = ok(&["log", &target, "smart", "--raw"]);
    // Spare and its threshold.
    assert_eq!((smart.len(), &smart[3..5]), (512, &same[3..5]));
    let set = ["admin-passthru", &target, "-o", "0x0a", "-4", "0x07", "--output-format", "json"];
    let queues = json(&ok(&set));
    assert!(queues["result"].as_u64().unwrap() > 0, "{queues}");
    assert!(queues.get("data").is_none(), "{queues}");
}

#[test]
fn what_is_written_is_read() {
    let server = Server::start(&["mem:1M"]);
    let (target, folder) = (server.namespace(1), tempfile::tempdir().unwrap());
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let block = Random(7).bytes(8192);
    fs::write(path("in"), &block).unwrap();
    let at = ["--cdw10", "5", "--cdw12", "1", "-l", "8192"];
    let io = |more: &[&str], stdin: &[u8]| {
        ok_with(&[&["io-passthru", &target][..], &at, more].concat(), stdin)
    };
    let said = text(&io(&["-o", "1", "-w", "-i", &path("in")], b""));
    assert!(said.starts_with("Write (opcode 0x01): Successful Completion"), "{said}");
    assert_eq!(said.lines().count(), 1);
    assert_eq!(io(&["-o", "2", "-b"], b""), block);
    let said = text(&io(&["-o", "2", "-i", &path("out")], b""));
    assert_eq!((fs::read(path("out")).unwrap(), said.lines().count()), (block.clone(), 1));
    assert_eq!(ok(&["read", &target, "--offset", "20480", "--length", "8192"]), block);

    // Standard input, and what it lacks.
    io(&["-o", "1", "--prefill", "0xee"], &[1; 100]);
    let mut short = vec![0xee; 8192];
    short[..100].fill(1);
    assert_eq!(io(&["-o", "2", "-b"], b""), short);
    // No more is taken of an input than there is to be.
    io(&["-o", "1"], &[3; 9000]);
    assert_eq!(io(&["-o", "2", "-b"], b""), [3; 8192]);
    // The namespace may be named by the option, which is the one that counts.
    let by_option =
        ["io-passthru", &server.target(), "-n", "1", "-o", "2", "-4", "5", "-l", "4096", "-b"];
    assert_eq!(ok(&by_option), [3; 4096]);
    ok(&["io-passthru", &target, "-o", "0"]);
}

#[test]
fn a_command_that_fails_says_its_status_and_fails() {
    let server = Server::start(&["mem:1M"]);
    let target = server.target();
    let error = fails(1, &["admin-passthru", &target, "-o", "0xc0"]);
    let said = "Vendor Specific (opcode 0xc0) failed: Invalid Command Opcode (sct 0h sc 01h";
    assert!(error.contains(said), "{error}");
    let output =
        run(&["admin-passthru", &target, "-o", "0xc2", "-l", "64", "--output-format", "json"]);
    assert_eq!(output.status.code(), Some(1));
    let answer = json(&output.stdout);
    assert_eq!(answer["status"].as_u64().unwrap() & 0x7ff, 1, "{answer}");
    assert!(answer["status_name"].as_str().unwrap().contains("Invalid Command Opcode"));
    let error = fails(1, &["io-passthru", &target, "-n", "0xfffffffe", "-o", "2", "-l", "4096"]);
    assert!(error.contains("Invalid Namespace or Format"), "{error}");
    let error = fails(1, &["io-passthru", &server.namespace(1), "-o", "2", "-l", "512"]);
    assert!(error.contains("Read (opcode 0x02) failed: "), "{error}");
}

#[test]
fn data_that_no_command_carries_is_refused() {
    let listen = ["--nqn", common::NQN, "--namespace", "mem:8M", "--max-transfer", "64K"];
    let server = Server::start_with(&listen);
    let target = server.namespace(1);
    let read = ["io-passthru", &target, "-o", "2", "-b"];
    assert_eq!(ok(&[&read[..], &["-6", "15", "-l", "65536"]].concat()).len(), 65536);
    let error = fails(2, &[&read[..], &["-6", "16", "-l", "69632"]].concat());
    assert!(
        error.contains("69632") && error.contains("65536") && error.contains("MDTS"),
        "{error}"
    );
    let error = fails(2, &[&read[..], &["-l", "4294967295"]].concat());
    assert!(error.contains("4294967295") && error.contains("1048576"), "{error}");
}

#[test]
fn what_contradicts_itself_is_refused_before_anything_is_sent() {
    let nowhere = "nvme+tcp://127.0.0.1:1/nqn.2026-01.a:b";
    for (args, said) in [
        (&["-o", "0x06", "-w", "-l", "4096"][..], "receives data"),
        (&["-o", "0x00", "-l", "512"], "moves no data"),
        (&["-o", "0xc3"], "both ways"),
        (&["-o", "0x02", "-f", "0x80"], "PSDT"),
        (&["-o", "0x02", "-m", "8"], "metadata"),
        (&["-o", "0x02", "-r", "-w"], "--write"),
        (&["-o", "0x100"], "0x100"),
        (&["-o", "2", "-l", "x"], "'x'"),
        (&["-o", "2", "-t", "0"], "milliseconds"),
        (&["-o", "2", "-b", "--output-format", "json"], "--output-format"),
        (&[], "--opcode"),
    ] {
        let error = fails(2, &[&["admin-passthru", nowhere][..], args].concat());
        assert!(error.contains(said), "{args:?}: no {said:?} in {error}");
    }
    let error = fails(2, &["io-passthru", "nvme+tcp://127.0.0.1:1", "-o", "2"]);
    assert!(error.contains("no subsystem"), "{error}");
    let error = fails(1, &["io-passthru", nowhere, "-o", "1", "-l", "8", "-i", "/nonexistent"]);
    assert!(error.contains("/nonexistent"), "{error}");
}

#[test]
fn a_command_is_shown_and_not_sent_where_that_is_wanted() {
    let nowhere = "nvme+tcp://127.0.0.1:1/nqn.2026-01.a:b/7";
    let set = ["admin-passthru", nowhere, "-o", "9", "-4", "0x06", "-5", "1", "-2", "3", "-d"];
    let shown = text(&ok(&set));
    assert!(shown.contains("Set Features") && shown.contains("Volatile Write Cache"), "{shown}");
    assert!(shown.contains("0x7"), "the namespace of the URL: {shown}");
    let json = json(&ok(&[&set[..], &["--output-format", "json"]].concat()));
    assert_eq!((&json["opcode"], &json["nsid"]), (&9.into(), &7.into()));

    let server = Server::start(&["mem:1M"]);
    let identify = ["admin-passthru", &server.target(), "-o", "6", "-4", "1", "-l", "4096"];
    let output = run(&[&identify[..], &["-b", "-s"]].concat());
    assert!(output.status.success() && output.stdout.len() == 4096);
    assert!(text(&output.stderr).contains("Identify"), "{}", text(&output.stderr));
}

#[test]
fn the_time_is_in_milliseconds_as_in_nvme_cli() {
    let server = Server::start(&["mem:1M"]);
    // An Asynchronous Event Request waits for an event.
    let error = fails(1, &["admin-passthru", &server.target(), "-o", "0x0c", "-t", "300"]);
    assert!(error.contains("no answer") && error.contains("300ms"), "{error}");
    let help = text(&nvmf().args(["io-passthru", "--help"]).output().unwrap().stdout);
    assert!(help.contains("-t, --timeout <MS>") && help.contains("milliseconds"), "{help}");
}

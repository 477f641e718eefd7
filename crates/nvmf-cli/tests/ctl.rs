//! `nvmf ctl`: what each of its commands does to a target, as hosts see it.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "tests may stop at a surprise")]

mod common;

use std::fs;
use std::path::Path;

use common::controlled::{CONFIG, Controlled};
use common::{HOST, NQN, fails, fails_with, json, nvmf, ok, ok_with, text};
use serde_json::Value;

/// What a host is told of a namespace.
fn identify(target: &Controlled, nsid: u32) -> Value {
    json(&ok(&["identify", &target.server.namespace(nsid), "-o", "json"]))
}

fn subsystems(target: &Controlled) -> String {
    text(&ok(&["discover", &target.server.portal()]))
}

#[test]
fn status_and_config_tell_what_runs() {
    let target = Controlled::start(CONFIG);
    let said = target.ctl(&["status"]);
    let address = format!("127.0.0.1:{}", target.server.port);
    for words in [NQN, &format!("port 1: {address}"), "namespace 1: ", "4M"] {
        assert!(said.contains(words), "no {words} in {said}");
    }
    let status = target.json(&["status"]);
    assert_eq!(status["pid"], target.server.pid());
    assert_eq!(status["ports"][0]["address"], address.as_str());
    assert_eq!(status["subsystems"][0]["namespaces"][0]["blocks"], 1024);

    let toml = target.ctl(&["config"]);
    fs::write(target.path("again.toml"), &toml).unwrap();
    let check = nvmf().args(["config", "check"]).arg(target.path("again.toml")).output().unwrap();
    assert!(check.status.success() && toml.contains("mem:4M"), "{toml}");
    assert_eq!(target.json(&["config"])["subsystem"][0]["nqn"], NQN);
}

#[test]
fn a_namespace_is_added_resized_and_taken_away() {
    let target = Controlled::start(CONFIG);
    assert_eq!(target.ctl(&["namespace", "add", NQN, "mem:2M,bs=512"]), "2\n");
    assert_eq!(identify(&target, 2)["nsze"], 4096);
    ok_with(&["write", &target.server.namespace(2)], b"kept");
    assert_eq!(target.json(&["namespace", "resize", NQN, "2", "4M"])["changes"], 1);
    assert_eq!(identify(&target, 2)["nsze"], 8192);
    assert_eq!(target.namespace(2)["source"], "mem:4M,bs=512");
    assert_eq!(ok(&["read", &target.server.namespace(2), "--length", "4"]), b"kept");

    let uuid = "5f2ca0b7-1f6c-4d2e-9a07-c5d10f7d8a31";
    let more = ["--id", "9", "--uuid", uuid, "--ana-group", "3", "--read-only"];
    let added = target.json(&[&["namespace", "add", NQN, "mem:1M"][..], &more].concat());
    assert_eq!(added["id"], 9, "{added}");
    assert_eq!(identify(&target, 9)["anagrpid"], 3);
    let of_ours = json(&ok(&["identify", &target.server.target(), "-o", "json"]));
    assert!(of_ours.to_string().contains(uuid), "{of_ours}");

    assert_eq!(target.ctl(&["namespace", "remove", NQN, "2"]), "");
    let error = fails(1, &["read", &target.server.namespace(2)]);
    assert!(error.contains("namespace 2"), "{error}");
    assert_eq!(target.namespace(2), Value::Null);
}

#[test]
fn a_file_that_grew_gives_its_namespace_its_size() {
    let target = Controlled::start(CONFIG);
    let file = target.path("disk.img");
    let spec = common::image(&file, 1 << 20);
    target.ctl(&["namespace", "add", NQN, &spec]);
    assert_eq!(identify(&target, 2)["nsze"], 256);
    fs::File::options().write(true).open(&file).unwrap().set_len(2 << 20).unwrap();
    target.ctl(&["namespace", "resize", NQN, "2"]);
    assert_eq!(identify(&target, 2)["nsze"], 512);
    let error = target.fails(1, &["namespace", "resize", NQN, "2", "1M"]);
    assert!(error.contains("shrink"), "{error}");
    assert_eq!(identify(&target, 2)["nsze"], 512);
}

#[test]
fn a_namespace_is_limited_protected_moved_and_made_private() {
    let target = Controlled::start(CONFIG);
    let (url, id) = (target.server.namespace(1), "1");
    target.ctl(&["namespace", "limit", NQN, id, "--write-iops", "7", "--bandwidth", "2M"]);
    let limits = &target.namespace(1)["limits"];
    assert_eq!((&limits["write-iops"], &limits["bandwidth"]), (&7.into(), &"2M".into()));
    target.ctl(&["namespace", "limit", NQN, id, "--iops", "100"]);
    assert_eq!(target.namespace(1)["limits"]["write-iops"], Value::Null, "not named, no limit");
    let bench = ["bench", &url, "--time", "1", "--warmup", "0.3", "-o", "json"];
    let iops = |bench: Value| bench["total"]["ios"].as_u64().unwrap();
    let limited = iops(json(&ok(&bench)));
    assert!((50..200).contains(&limited), "{limited} commands in a second");
    target.ctl(&["namespace", "limit", NQN, id, "--none"]);
    assert!(iops(json(&ok(&bench))) > 400);
    assert_eq!(target.namespace(1)["limits"], Value::Null);

    target.ctl(&["namespace", "set", NQN, id, "--read-only", "true"]);
    fails_with(1, &["write", &url], b"no");
    target.ctl(&["namespace", "set", NQN, id, "--read-only", "false", "--ana-group", "2"]);
    ok_with(&["write", &url], b"yes");
    assert_eq!(identify(&target, 1)["anagrpid"], 2);

    target.ctl(&["namespace", "set", NQN, id, "--host", "nqn.2026-01.org.example:another"]);
    fails(1, &["read", &url]);
    target.ctl(&["namespace", "set", NQN, id, "--host", HOST[1]]);
    assert_eq!(ok(&["read", &url, "--length", "3"]), b"yes");
    target.ctl(&["namespace", "set", NQN, id, "--host", "any"]);
    assert_eq!(target.namespace(1)["hosts"], Value::Null);
}

#[test]
fn hosts_are_let_in_and_shut_out() {
    let target = Controlled::start(CONFIG);
    let read = ["read", &target.server.target(), "--length", "1"];
    target.ctl(&["host", "deny", NQN, "any"]);
    assert!(fails(1, &read).contains(HOST[1]), "who is refused is named");
    target.ctl(&["host", "allow", NQN, HOST[1]]);
    ok(&read);
    let work = target.work("30");
    target.ctl(&["host", "deny", NQN, HOST[1]]);
    assert!(!work.end().status.success(), "who is there has to go");
    fails(1, &read);
    target.ctl(&["host", "allow", NQN, "any"]);
    ok(&read);
    let error = target.fails(1, &["host", "deny", NQN, HOST[1]]);
    assert!(error.contains("deny `any`"), "{error}");
}

#[test]
fn a_port_is_opened_its_groups_have_states_and_it_is_closed() {
    let target = Controlled::start(CONFIG);
    assert_eq!(target.ctl(&["port", "add", "127.0.0.1:0"]), "2\n");
    let through = target.through(2);
    ok(&["read", &through, "--length", "1"]);
    target.ctl(&["ana", "2", "1", "inaccessible"]);
    let error = fails(1, &["read", &through, "--length", "1"]);
    assert!(error.to_lowercase().contains("inaccessible"), "{error}");
    ok(&["read", &target.server.target(), "--length", "1"]);
    let ana = json(&ok(&["log", &through, "ana", "-o", "json"]));
    assert!(ana.to_string().contains("inaccessible"), "{ana}");
    assert_eq!(target.json(&["config"])["port"][1]["ana"]["1"], "inaccessible");
    target.ctl(&["ana", "2", "1", "optimized"]);
    ok(&["read", &through, "--length", "1"]);

    target.ctl(&["port", "remove", "2"]);
    fails(1, &["read", &through, "--length", "1"]);
    ok(&["read", &target.server.target(), "--length", "1"]);

    // Discovery, and nothing else.
    assert_eq!(target.ctl(&["port", "add", "127.0.0.1:0", "--id", "7", "--discovery-only"]), "7\n");
    let portal = format!("nvme+tcp://{}", target.address(7));
    assert!(text(&ok(&["discover", &portal])).contains(NQN));
    fails(1, &["read", &target.through(7), "--length", "1"]);
    target.ctl(&["port", "add", "127.0.0.1:0", "--id", "8", "--subsystem", NQN]);
    ok(&["read", &target.through(8), "--length", "1"]);
}

#[test]
fn a_subsystem_is_added_and_taken_away() {
    let target = Controlled::start(CONFIG);
    let other = "nqn.2026-01.org.example:other";
    let more = ["--allow", HOST[1], "--serial", "S1", "--model", "M1", "--firmware", "F1"];
    target.ctl(&[&["subsystem", "add", other][..], &more].concat());
    target.ctl(&["namespace", "add", other, "mem:1M"]);
    assert!(subsystems(&target).contains(other));
    let url = format!("{}/{other}", target.server.portal());
    let controller = json(&ok(&["identify", &url, "--controller", "-o", "json"]));
    for (key, value) in [("sn", "S1"), ("mn", "M1"), ("fr", "F1")] {
        assert_eq!(controller[key].as_str().unwrap().trim(), value);
    }
    ok(&["read", &url, "--length", "1"]);
    target.ctl(&["subsystem", "remove", other]);
    assert!(!subsystems(&target).contains(other));
    fails(1, &["read", &url, "--length", "1"]);
}

#[test]
fn controllers_are_listed_and_dropped() {
    let target = Controlled::start(CONFIG);
    let work = target.work("30");
    let listed = target.ctl(&["controllers"]);
    assert!(listed.contains(HOST[1]) && listed.contains("127.0.0.1:"), "{listed}");
    let controllers = target.json(&["controllers"]);
    let one = &controllers[0];
    assert_eq!((&one["hostnqn"], &one["subnqn"]), (&HOST[1].into(), &NQN.into()));
    assert_eq!(one["io-queues"], serde_json::json!([1]));
    let cntlid = one["cntlid"].to_string();
    assert_eq!(target.json(&["drop", NQN, &cntlid])["changes"], 1);
    assert!(!work.end().status.success(), "its connection ended");
    assert_eq!(target.json(&["controllers"]), serde_json::json!([]));
    let error = target.fails(1, &["drop", NQN, &cntlid]);
    assert!(error.contains("no controller"), "{error}");
    ok(&["read", &target.server.target(), "--length", "1"]);
}

#[test]
fn files_are_named_as_seen_from_where_ctl_runs() {
    let target = Controlled::start(CONFIG);
    let elsewhere = tempfile::tempdir().unwrap();
    // /tmp may be a link.
    let elsewhere = elsewhere.path().canonicalize().unwrap();
    common::image(&elsewhere.join("disk.img"), 1 << 20);
    let run = |args: &[&str]| {
        let output = target.run_in(&elsewhere, args);
        assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
        text(&output.stdout)
    };
    assert_eq!(run(&["namespace", "add", NQN, "file:disk.img,bs=512"]), "2\n");
    let disk = elsewhere.join("disk.img");
    assert_eq!(target.namespace(2)["source"], format!("file:{},bs=512", disk.display()));
    ok_with(&["write", &target.server.namespace(2)], b"there");
    assert_eq!(&fs::read(&disk).unwrap()[..5], b"there");

    let saved = elsewhere.join("saved.toml");
    assert_eq!(run(&["save", "saved.toml"]), format!("{}\n", saved.display()));
    let toml = fs::read_to_string(&saved).unwrap();
    assert_eq!(toml.trim(), target.ctl(&["config"]).trim());
    assert_eq!(json(run(&["save", "-o", "json"]).as_bytes())["path"], path_of(&target));
    assert_eq!(fs::read_to_string(target.path("target.toml")).unwrap(), toml);
    assert_eq!(target.json(&["reload"])["changes"], 0);
}

fn path_of(target: &Controlled) -> String {
    target.path("target.toml").to_str().unwrap().to_owned()
}

#[test]
fn every_change_says_in_json_what_came_of_it() {
    let target = Controlled::start(CONFIG);
    let other = "nqn.2026-01.org.example:other";
    let saved = target.path("saved.toml");
    for args in [
        &["subsystem", "add", other][..],
        &["host", "allow", other, HOST[1]],
        &["host", "deny", other, HOST[1]],
        &["namespace", "add", other, "mem:1M"],
        &["namespace", "resize", other, "1", "2M"],
        &["namespace", "limit", other, "1", "--iops", "1000"],
        &["namespace", "set", other, "1", "--ana-group", "2"],
        &["namespace", "remove", other, "1"],
        &["port", "add", "127.0.0.1:0"],
        &["ana", "2", "2", "change"],
        &["port", "remove", "2"],
        &["subsystem", "remove", other],
        &["reload"],
    ] {
        let said = target.json(args);
        let changes = said["changes"].as_u64().unwrap_or_else(|| panic!("{args:?}: {said}"));
        assert_eq!(changes > 0, args != ["reload"], "{args:?}: {said}");
        assert_eq!(said["id"].is_u64(), args.get(1) == Some(&"add") && args[0] != "subsystem");
    }
    assert_eq!(target.json(&["save", saved.to_str().unwrap()])["path"], saved.to_str().unwrap());
    assert!(saved.exists());
}

#[test]
fn a_refusal_is_one_line_and_changes_nothing() {
    let target = Controlled::start(CONFIG);
    let before = target.json(&["config"]);
    let port = format!("127.0.0.1:{}", target.server.port);
    for (args, says) in [
        (&["namespace", "add", NQN, "ram:1M"][..], "ram"),
        (&["namespace", "add", NQN, "file:/nonexistent/disk"], "/nonexistent/disk"),
        (&["namespace", "add", NQN, "mem:1M", "--id", "1"], "1"),
        (&["namespace", "add", "nqn.2026-01.org.example:no", "mem:1M"], "no subsystem"),
        (&["namespace", "remove", NQN, "5"], "no namespace 5"),
        (&["namespace", "resize", NQN, "1", "1M"], "smaller"),
        (&["namespace", "set", NQN, "1", "--ana-group", "33"], "32"),
        (&["namespace", "limit", NQN, "1", "--iops", "0"], "iops"),
        (&["subsystem", "add", "disks"], "nqn"),
        (&["subsystem", "add", "disks", "--serial", "more than twenty characters"], "serial"),
        (&["subsystem", "add", NQN], "has this NQN, too"),
        (&["subsystem", "remove", "nqn.2026-01.org.example:no"], "no subsystem"),
        (&["host", "allow", NQN, "somebody"], "somebody"),
        (&["port", "add", "localhost"], "localhost"),
        (&["port", "add", &port], &port),
        (&["port", "remove", "9"], "no port 9"),
        (&["ana", "1", "1", "best"], "optimized"),
        (&["ana", "1", "1000", "optimized"], "32"),
        (&["drop", NQN, "1"], "no controller 1"),
        (&["save", "/nonexistent/target.toml"], "/nonexistent/target.toml"),
    ] {
        for format in [&[][..], &["-o", "json"]] {
            let error = target.fails(1, &[args, format].concat());
            assert!(error.contains(says), "{args:?}: {error}");
            assert!(!error.contains("\\n"), "{args:?}: {error}");
        }
    }
    assert_eq!(target.json(&["config"]), before);
}

#[test]
fn wrong_usage_is_said_before_anything_is_asked() {
    let nobody = Path::new("/nonexistent/control.sock");
    let run =
        |args: &[&str]| nvmf().args(["ctl", "--socket"]).arg(nobody).args(args).output().unwrap();
    for args in [
        &["explode"][..],
        &["namespace", "add", NQN],
        &["namespace", "remove", NQN, "one"],
        &["namespace", "resize", NQN, "1", "large"],
        &["namespace", "limit", NQN, "1"],
        &["namespace", "limit", NQN, "1", "--none", "--iops", "1"],
        &["namespace", "set", NQN, "1", "--read-only", "maybe"],
        &["namespace", "set", NQN, "1"],
        &["port", "add", "127.0.0.1:0", "--discovery-only", "--subsystem", NQN],
        &["subsystem", "add", NQN, "--allow", "any", "--allow", HOST[1]],
        &["drop", NQN, "70000"],
        &["top", "--interval", "0"],
        &["top", "--count", "0"],
        &["status", "-o", "xml"],
    ] {
        let output = run(args);
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {error}");
        common::one_line(&error);
    }
    let output = run(&["status"]);
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    common::one_line(&error);
    assert!(error.contains("/nonexistent/control.sock") && error.contains("nvmf serve"), "{error}");
}

#[test]
fn top_shows_what_hosts_do() {
    let target = Controlled::start(CONFIG);
    let work = target.work("30");
    let shown = target.ctl(&["top", "--count", "2", "--interval", "0.3"]);
    let totals: Vec<_> = shown.lines().filter(|line| line.contains(" commands/s, ")).collect();
    assert_eq!(totals.len(), 2, "{shown}");
    for total in totals {
        let rate: u64 = total.split(' ').next().unwrap().parse().unwrap();
        assert!(rate > 50, "{total}");
    }
    assert!(
        shown.contains(HOST[1]) && shown.contains("read") && !shown.contains('\x1b'),
        "{shown}"
    );

    let lines = target.ctl(&["top", "--count", "2", "--interval", "0.3", "-o", "json"]);
    assert_eq!(lines.lines().count(), 2, "an object a line: {lines}");
    for line in lines.lines() {
        let look = json(line.as_bytes());
        let rate = &look["rates"][0];
        assert_eq!((&rate["host"], &rate["operation"]), (&HOST[1].into(), &"read".into()));
        assert!(rate["commands-per-second"].as_f64().unwrap() > 50.0, "{look}");
        assert!(rate["bytes-per-second"].as_f64().unwrap() > 50.0 * 4096.0, "{look}");
        assert!(rate["mean-seconds"].as_f64().unwrap() > 0.0, "{look}");
    }
    drop(work);
}

#[test]
fn a_whole_configuration_is_applied_or_refused_with_its_lines() {
    let target = Controlled::start(CONFIG);
    common::image(&target.path("more.img"), 1 << 20);
    let running = target.ctl(&["config"]);
    let whole = format!("{running}\n[[subsystem.namespace]]\nsource = \"file:more.img\"\n");
    fs::write(target.path("whole.toml"), &whole).unwrap();
    let output = target.run_in(target.folder.path(), &["apply", "whole.toml"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(identify(&target, 2)["nsze"], 256);

    fs::write(target.path("whole.toml"), whole.replace("more.img", "none.img")).unwrap();
    let output = target.run_in(target.folder.path(), &["apply", "whole.toml"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("none.img"), "{}", text(&output.stderr));
    fs::write(target.path("whole.toml"), whole.replace("[[port]]", "[[harbour]]")).unwrap();
    let output = target.run_in(target.folder.path(), &["apply", "whole.toml"]);
    assert!(text(&output.stderr).contains("harbour"), "{}", text(&output.stderr));
    assert_eq!(identify(&target, 2)["nsze"], 256, "as it was");
}

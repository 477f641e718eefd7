//! `nvmf serve --config`: edited files, states that outlive a crash, who is let in, and metrics.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "tests may stop at a surprise")]

mod common;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Output;

use common::controlled::{CONFIG, Controlled};
use common::{HOST, NQN, Server, eventually, fails, json, nvmf, ok, run, text};

/// Fails to start, with one line.
fn refused(status: i32, args: &[&str]) -> String {
    let output = serve(args);
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{args:?}: {error}");
    let (line, before) = error.lines().collect::<Vec<_>>().split_last().map_or_else(
        || panic!("nothing was said"),
        |(last, before)| ((*last).to_owned(), before.join("\n")),
    );
    common::one_line(&line);
    assert!(output.stdout.is_empty() && !before.contains("nvmf: "), "{error}");
    line
}

/// Runs `nvmf serve` to its end, which comes soon.
fn serve(args: &[&str]) -> Output {
    let mut command = nvmf();
    command.arg("serve").args(args);
    let timeout = std::time::Duration::from_secs(20);
    assert_cmd::Command::from_std(command).timeout(timeout).output().unwrap()
}

/// The identifiers of all namespaces, as a host sees them.
fn identifiers(target: &Controlled) -> Vec<(serde_json::Value, serde_json::Value)> {
    let all = json(&ok(&["identify", &target.server.target(), "-o", "json"]));
    let namespaces = all["namespaces"].as_array().unwrap();
    namespaces.iter().map(|ns| (ns["nsid"].clone(), ns["ns-descs"].clone())).collect()
}

#[test]
fn sighup_applies_an_edited_file_and_no_host_notices() {
    let target = Controlled::start(CONFIG);
    let work = target.work("2");
    target.edit(&format!("{CONFIG}[[subsystem.namespace]]\nsource = \"mem:1M,bs=512\"\n"));
    target.server.send("-HUP");
    eventually("the namespace is there", || target.namespace(2) != serde_json::Value::Null);
    let added = json(&ok(&["identify", &target.server.namespace(2), "-o", "json"]));
    assert_eq!(added["nsze"], 2048);
    // What was changed by hand and is not in the file is gone; that is what the file says.
    target.ctl(&["port", "add", "127.0.0.1:0"]);
    target.server.send("-HUP");
    eventually("the port is gone", || target.json(&["status"])["ports"][1].is_null());
    work.was_not_disturbed();
}

#[test]
fn a_wrong_edit_changes_nothing_and_is_said_with_line_and_key() {
    let target = Controlled::start(CONFIG);
    let work = target.work("2");
    let before = target.json(&["config"]);
    let wrong = CONFIG.replace("mem:4M", "ram:4M").replace("127.0.0.1:0", "localhost");
    target.edit(&wrong);
    target.server.send("-HUP");
    let file = target.path("target.toml").display().to_string();
    for (line, key) in [(3, "port[0].listen"), (9, "subsystem[0].namespace[0].source")] {
        let said = format!("{file}:{line}: {key}: ");
        eventually(&said, || target.server.log().contains(&said));
    }
    let error = target.fails(1, &["reload"]);
    assert!(error.contains(&format!("{file}:3: port[0].listen: ")), "{error}");
    // What only shows when it is tried is said likewise.
    target.edit(&CONFIG.replace("mem:4M", "file:/nonexistent/disk"));
    target.server.send("-HUP");
    eventually("it is said", || target.server.log().contains("/nonexistent/disk"));
    assert_eq!(target.json(&["config"]), before);
    work.was_not_disturbed();
    let (status, log) = target.server.terminate();
    assert!(status.success(), "{log}");
    assert!(log.lines().all(|line| line.contains("the configuration stays as it is")), "{log}");
}

#[test]
fn what_was_acknowledged_is_there_after_a_kill() {
    let mut target = Controlled::start_with_state(CONFIG);
    let disk = common::image(&target.path("disk.img"), 1 << 20);
    let other = "nqn.2026-01.org.example:other";
    for round in 0..3 {
        // The last change of each round is acknowledged right before the end.
        match round {
            0 => {
                target.ctl(&["namespace", "add", NQN, "mem:1M,bs=512"]);
                target.ctl(&["namespace", "add", NQN, &disk]);
                target.ctl(&["subsystem", "add", other, "--allow", HOST[1]]);
                target.ctl(&["namespace", "set", NQN, "2", "--ana-group", "4"]);
            }
            1 => {
                target.ctl(&["host", "deny", NQN, "any"]);
                target.ctl(&["host", "allow", NQN, HOST[1]]);
                target.ctl(&["ana", "1", "4", "non-optimized"]);
                target.ctl(&["namespace", "remove", NQN, "1"]);
            }
            _ => {
                target.ctl(&["namespace", "limit", NQN, "2", "--iops", "9"]);
                target.ctl(&["namespace", "resize", NQN, "2", "2M"]);
            }
        }
        let (config, ids) = (target.json(&["config"]), identifiers(&target));
        target = target.start_again_after_kill().unwrap();
        assert_eq!(target.json(&["config"]), config, "round {round}");
        assert_eq!(identifiers(&target), ids, "round {round}");
    }
    assert_eq!(target.namespace(2)["source"], "mem:2M,bs=512");
    assert!(text(&ok(&["discover", &target.server.portal()])).contains(other));
}

#[test]
fn a_kill_in_the_middle_of_changes_loses_none_that_was_acknowledged() {
    let target = Controlled::start_with_state(CONFIG);
    let (socket, pid) = (target.path("control.sock"), target.server.pid());
    let add = || {
        let mut command = nvmf();
        command.args(["ctl", "--socket"]).arg(&socket);
        command.args(["namespace", "add", NQN, "null:1M"]).output().unwrap()
    };
    let acknowledged: Vec<u64> = std::thread::scope(|scope| {
        let adding = scope.spawn(|| {
            let done = std::iter::repeat_with(add).take_while(|output| output.status.success());
            done.map(|output| text(&output.stdout).trim().parse().unwrap()).collect()
        });
        eventually("some are there", || target.namespace(9) != serde_json::Value::Null);
        let pid = pid.to_string();
        assert!(std::process::Command::new("kill").args(["-9", &pid]).status().unwrap().success());
        adding.join().unwrap()
    });
    assert!(acknowledged.len() >= 7, "{acknowledged:?}");
    let target = target.start_again_after_kill().unwrap();
    for id in &acknowledged {
        assert_eq!(target.namespace(*id)["source"], "null:1M", "namespace {id}");
    }
}

#[test]
fn what_is_saved_is_what_it_starts_with() {
    let target = Controlled::start_with_state(CONFIG);
    target.ctl(&["namespace", "add", NQN, "mem:1M"]);
    target.ctl(&["save"]);
    target.ctl(&["namespace", "add", NQN, "mem:2M"]);
    let target = target.start_again_after_kill().unwrap();
    assert_eq!(target.namespace(2)["source"], "mem:1M");
    assert_eq!(target.namespace(3)["source"], "mem:2M");
    assert!(!target.path("state.json.before").exists() && target.server.log().is_empty());
}

#[test]
fn a_target_without_a_configuration_is_controlled_and_keeps_its_state_too() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (socket, state) = (at("control.sock"), at("state.json"));
    let args = ["--nqn", NQN, "--namespace", "mem:1M", "--control", &socket, "--state", &state];
    let ctl = |args: &[&str]| nvmf().arg("ctl").args(args).env("NVMF_CONTROL", &socket).output();
    let server = Server::start_with(&args);
    assert!(ctl(&["namespace", "add", NQN, "mem:2M"]).unwrap().status.success());
    for (command, says) in [("reload", "without --config"), ("save", "name one")] {
        let output = ctl(&[command]).unwrap();
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{error}");
        common::one_line(&error);
        assert!(error.contains(says), "{error}");
    }
    server.send("-HUP");
    eventually("it is said", || server.log().contains("without --config"));
    drop(server);
    let server = Server::start_with(&args);
    assert_eq!(ok(&["read", &server.namespace(2)]).len(), 2 << 20);
}

#[test]
fn the_socket_has_a_place_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("target.toml");
    fs::write(&config, CONFIG).unwrap();
    let mut command = nvmf();
    command.args(["serve", "--config"]).arg(&config).env("XDG_RUNTIME_DIR", folder.path());
    let mut child = command.stdout(std::process::Stdio::null()).spawn().unwrap();
    let status = || {
        let mut command = nvmf();
        command.args(["ctl", "status", "-o", "json"]).env("XDG_RUNTIME_DIR", folder.path());
        command.output().unwrap()
    };
    eventually("it answers", || status().status.success());
    assert_eq!(json(&status().stdout)["pid"], child.id());
    assert!(folder.path().join("nvmf.sock").exists());
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_state_file_that_is_none_is_an_error_and_stays() {
    for garbage in ["", "garbage", "{\"version\":\"2\",\"base\":{},\"running\":{}}", "\0\0\0\0"] {
        let target = Controlled::start_with_state(CONFIG);
        let state = target.path("state.json");
        let (status, _) = {
            let Controlled { folder, server } = target;
            let ended = server.terminate();
            fs::write(&state, garbage).unwrap();
            let config = folder.path().join("target.toml");
            let args = ["--config", config.to_str().unwrap(), "--state", state.to_str().unwrap()];
            let socket = folder.path().join("control.sock");
            let error = refused(1, &[&args[..], &["--control", socket.to_str().unwrap()]].concat());
            assert!(error.contains("state.json") && error.contains("move it away"), "{error}");
            assert_eq!(fs::read_to_string(&state).unwrap(), garbage, "it is left alone");
            assert!(!socket.exists() && !state.with_extension("json.before").exists());
            ended
        };
        assert!(status.success());
    }
}

#[test]
fn an_edited_configuration_wins_and_the_state_before_is_kept() {
    let target = Controlled::start_with_state(CONFIG);
    target.ctl(&["namespace", "add", NQN, "mem:1M"]);
    let kept = fs::read(target.path("state.json")).unwrap();
    target.edit(&CONFIG.replace("mem:4M", "mem:8M"));
    let target = target.start_again_after_kill().unwrap();
    assert_eq!(target.namespace(1)["source"], "mem:8M");
    assert_eq!(target.namespace(2), serde_json::Value::Null);
    assert_eq!(fs::read(target.path("state.json.before")).unwrap(), kept);
    let log = target.server.log();
    assert!(log.contains("state.json.before") && log.contains("edited"), "{log}");
    // From now on that one counts.
    target.ctl(&["namespace", "add", NQN, "mem:2M"]);
    let target = target.start_again_after_kill().unwrap();
    assert_eq!(target.namespace(2)["source"], "mem:2M");
    // A file that was read again while the target ran is not edited since.
    target.edit(&CONFIG.replace("mem:4M", "mem:16M"));
    target.ctl(&["reload"]);
    target.ctl(&["namespace", "add", NQN, "mem:3M"]);
    let target = target.start_again_after_kill().unwrap();
    assert_eq!(target.namespace(2)["source"], "mem:3M");
}

#[test]
fn two_targets_do_not_share_a_socket() {
    let target = Controlled::start_with_state(CONFIG);
    let socket = target.path("control.sock");
    let socket = socket.to_str().unwrap();
    target.ctl(&["namespace", "add", NQN, "mem:1M"]);
    let listen = ["--listen", "127.0.0.1:0", "--control", socket];
    let error = refused(1, &listen);
    assert!(error.contains(socket) && error.contains("a target that runs"), "{error}");
    assert_eq!(target.json(&["status"])["pid"], target.server.pid(), "it is the first one's");
    // The second one has not touched what the first one keeps, either.
    let state = target.path("state.json");
    let before = fs::read(&state).unwrap();
    let edited = target.path("edited.toml");
    fs::write(&edited, CONFIG.replace("mem:4M", "mem:8M")).unwrap();
    let (edited, state_at) = (edited.to_str().unwrap(), state.to_str().unwrap());
    refused(1, &["--config", edited, "--control", socket, "--state", state_at]);
    assert!(fs::read(&state).unwrap() == before, "it was written");
    assert!(!target.path("state.json.before").exists());
    // A socket that was left is nobody's.
    let target = target.start_again_after_kill().unwrap();
    assert_eq!(target.json(&["status"])["pid"], target.server.pid());
    let gone = target.path("control.sock");
    assert!(target.server.terminate().0.success());
    assert!(!gone.exists(), "it goes with its target");
}

#[test]
fn two_targets_do_not_share_a_state_file() {
    let target = Controlled::start_with_state(CONFIG);
    target.ctl(&["namespace", "add", NQN, "mem:1M"]);
    let state = target.path("state.json");
    let before = fs::read(&state).unwrap();
    let state_at = state.to_str().unwrap();
    let error = refused(1, &["--listen", "127.0.0.1:0", "--state", state_at]);
    assert!(error.contains(state_at) && error.contains("another"), "{error}");
    assert!(fs::read(&state).unwrap() == before, "it was written");
    assert!(!target.path("state.json.before").exists());
}

#[test]
fn metrics_are_where_status_says_and_count_what_was_done() {
    let target = Controlled::start(&format!("[metrics]\nlisten = \"127.0.0.1:0\"\n{CONFIG}"));
    let status = target.json(&["status"]);
    let address = status["metrics"].as_str().unwrap();
    let said = target.server.said.join("\n");
    assert!(said.contains(&format!("http://{address}/metrics")), "{said}");
    assert!(target.ctl(&["status"]).contains(&format!("http://{address}/metrics")));
    ok(&["read", &target.server.target(), "--length", "1M"]);
    let page = scrape(address);
    let read =
        format!("subsystem=\"{NQN}\",namespace=\"1\",host=\"{}\",operation=\"read\"", HOST[1]);
    let line =
        page.lines().find(|line| line.starts_with("nvmf_bytes_total{") && line.contains(&read));
    let line = line.unwrap_or_else(|| panic!("{page}"));
    assert!(line.ends_with(" 1048576"), "{line}");
    assert!(page.contains("nvmf_connects_total") && page.contains("nvmf_build_info"), "{page}");

    target.ctl(&["namespace", "limit", NQN, "1", "--iops", "500", "--bandwidth", "1M"]);
    let page = scrape(address);
    for (gauge, value) in [("iops", "500"), ("bytes_per_second", "1048576")] {
        let start = format!("nvmf_namespace_limit_{gauge}{{");
        let line = page.lines().find(|line| line.starts_with(&start)).unwrap();
        assert!(line.ends_with(&format!(" {value}")), "{line}");
    }

    // They can be stopped and started, as any of it.
    target.edit(CONFIG);
    target.ctl(&["reload"]);
    assert!(target.json(&["status"])["metrics"].is_null());
    eventually("nobody listens there", || TcpStream::connect(address).is_err());
}

fn scrape(address: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).unwrap();
    assert!(page.starts_with("HTTP/1.1 200 "), "{page}");
    page
}

#[test]
fn beyond_loopback_it_has_to_be_said_who_may_connect() {
    for listen in ["0.0.0.0:0", "[::]:0"] {
        let error = refused(2, &["--listen", listen]);
        assert!(error.contains("--allow HOSTNQN") && error.contains("--allow any"), "{error}");
    }
    let listen = ["--listen", "0.0.0.0:0", "--nqn", NQN, "--namespace", "mem:1M"];
    let serve = |more: &[&str]| Server::serve("127.0.0.1", &[&listen[..], more].concat());
    let open = serve(&["--allow", "any"]);
    ok(&["read", &open.target(), "--length", "1"]);
    let another = "nqn.2026-01.org.example:another";
    let ours = serve(&["--allow", another, "--allow", HOST[1]]);
    ok(&["read", &ours.target(), "--length", "1"]);
    let theirs = serve(&["--allow", another]);
    let error = fails(1, &["read", &theirs.target(), "--length", "1"]);
    assert!(error.contains("Connect Invalid Host") && error.contains(HOST[1]), "{error}");
    let as_another =
        nvmf().args(["read", &theirs.target(), "--length", "1", "-q", another]).output().unwrap();
    assert!(as_another.status.success(), "{}", text(&as_another.stderr));
    assert!(!text(&ok(&["discover", &theirs.portal()])).contains(NQN), "it is not theirs to see");
}

#[test]
fn what_a_configuration_says_is_not_said_by_options() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("target.toml");
    fs::write(&config, CONFIG).unwrap();
    let config = config.to_str().unwrap();
    for option in [
        &["--listen", "127.0.0.1:0"][..],
        &["--nqn", NQN],
        &["--namespace", "mem:1M"],
        &["--allow", "any"],
        &["--discovery", "127.0.0.1:0"],
        &["--metrics", "127.0.0.1:0"],
        &["--mdns"],
    ] {
        let error = refused(2, &[&["--config", config][..], option].concat());
        assert!(error.contains("--config") && error.contains(option[0]), "{error}");
    }
}

#[test]
fn a_wrong_configuration_is_not_started() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("target.toml");
    let socket = folder.path().join("control.sock");
    let args = ["--config", config.to_str().unwrap(), "--control", socket.to_str().unwrap()];
    assert!(refused(1, &args).contains("target.toml"));
    fs::write(&config, CONFIG.replace("mem:4M", "ram:4M")).unwrap();
    let error = refused(1, &args);
    let said = format!("{}:9: subsystem[0].namespace[0].source: ", config.display());
    assert!(error.contains(&said), "{error}");
    fs::write(&config, CONFIG.replace("mem:4M", "file:/nonexistent/disk")).unwrap();
    assert!(refused(1, &args).contains("/nonexistent/disk"));
    assert!(!socket.exists());
    // A file that is no socket is not taken for one that was left.
    fs::write(&config, CONFIG).unwrap();
    fs::write(&socket, "precious").unwrap();
    assert!(refused(1, &args).contains("control.sock"));
    assert_eq!(fs::read_to_string(&socket).unwrap(), "precious");
}

#[test]
fn discovery_can_have_a_port_of_its_own() {
    let args = ["--nqn", NQN, "--namespace", "mem:1M", "--discovery", "127.0.0.1:0"];
    let server = Server::start_with(&args);
    let ports = server.said.iter().filter_map(|line| line.strip_prefix("Ready on "));
    let portals: Vec<_> = ports.map(|line| line.split(';').next().unwrap()).collect();
    assert_eq!(portals.len(), 2, "{:?}", server.said);
    let log = text(&ok(&["discover", &format!("nvme+tcp://{}", portals[1])]));
    assert!(log.contains(NQN) && log.contains(&server.port.to_string()), "{log}");
    let elsewhere = format!("nvme+tcp://{}/{NQN}", portals[1]);
    let output = run(&["read", &elsewhere, "--length", "1"]);
    assert_eq!(output.status.code(), Some(1));
    // Nor is it said that it could be read there.
    let said = server.said.join("\n");
    assert!(
        !said.contains(&elsewhere)
            && said.contains(&format!("nvmf discover nvme+tcp://{}", portals[1])),
        "{said}"
    );
}

//! `nvmf discover` of several controllers: referrals, the files of nvme-cli, multicast DNS.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "tests may stop at a surprise")]

mod common;

use std::fs;
use std::net::SocketAddr;

use common::controlled::{CONFIG, Controlled};
use common::{HOST, NQN, Server, fails, json, nvmf, ok, run, text};
use serde_json::Value;
use socket2::{Domain, Socket, Type};

/// A configuration whose discovery refers to these addresses.
fn referring(addresses: &[&str]) -> String {
    let referral = |address: &&str| format!("\n[[discovery.referral]]\naddress = \"{address}\"\n");
    format!("{CONFIG}{}", addresses.iter().map(referral).collect::<String>())
}

fn address(target: &Controlled) -> String {
    format!("127.0.0.1:{}", target.server.port)
}

/// An address at which nobody listens, while the socket is there.
fn dead() -> (Socket, String) {
    let held = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    held.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let address = held.local_addr().unwrap().as_socket().unwrap().to_string();
    (held, address)
}

/// The ports of the controllers in a list of logs.
fn ports(list: &Value) -> Vec<String> {
    let list = list.as_array().unwrap();
    list.iter().map(|one| one["trsvcid"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn referrals_are_followed_to_their_end_and_in_a_circle_only_once() {
    let last = Controlled::start(CONFIG);
    let middle = Controlled::start(&referring(&[&address(&last)]));
    let first = Controlled::start(&referring(&[&address(&middle), &address(&last)]));
    // The last one refers to the first one and to itself.
    last.edit(&referring(&[&address(&first), &address(&last)]));
    last.ctl(&["reload"]);

    let portal = first.server.portal();
    let log = json(&ok(&["discover", &portal, "-o", "json"]));
    assert!(log["genctr"].is_u64() && log["records"].is_array(), "{log}");
    let [a, b] = [&middle, &last].map(|target| target.server.port.to_string());
    assert_eq!(ports(&log["referrals"]), [a, b.clone()]);
    for referral in log["referrals"].as_array().unwrap() {
        assert_eq!(referral["referred_by"], portal.as_str());
        assert!(referral["records"].to_string().contains(NQN), "{referral}");
    }
    let table = text(&ok(&["discover", &portal]));
    let heads: Vec<_> = table.lines().filter(|line| line.starts_with("Discovery log")).collect();
    assert_eq!(heads.len(), 3, "{table}");
    assert!(heads[0].starts_with("Discovery log, generation "), "{table}");
    assert!(heads[2].contains(&b) && heads[2].contains("refers"), "{table}");
    assert!(table.lines().last().unwrap().starts_with("Try: nvmf identify '"), "{table}");

    let alone = json(&ok(&["discover", &portal, "--no-referrals", "-o", "json"]));
    assert_eq!((alone.get("referrals"), &alone["records"]), (None, &log["records"]));
}

#[test]
fn a_referral_at_which_nobody_listens_is_said_and_the_rest_is_shown() {
    let (_held, dead) = dead();
    let other = Controlled::start(CONFIG);
    let target = Controlled::start(&referring(&[&dead, &address(&other)]));
    let portal = target.server.portal();
    let output = run(&["discover", &portal, "-o", "json"]);
    assert_eq!(output.status.code(), Some(1));
    let error = text(&output.stderr);
    common::one_line(&error);
    for part in [&portal, &dead, "refused", "refers to another one"] {
        assert!(error.contains(part), "no {part} in {error}");
    }
    let log = json(&output.stdout);
    assert!(log["referrals"][0]["error"].as_str().unwrap().contains("refused"), "{log}");
    assert!(log["referrals"][1]["records"].to_string().contains(NQN), "{log}");
    assert!(run(&["discover", &portal, "--no-referrals"]).status.success());
}

#[test]
fn a_referral_to_an_io_subsystem_is_no_wrong_usage() {
    let own = "nqn.2026-01.org.example:no-discovery";
    let other = Controlled::start(&CONFIG.replace(NQN, own));
    let referring = referring(&[&address(&other)]);
    let target = Controlled::start(&format!("{referring}nqn = \"{own}\"\n"));
    let output = run(&["discover", &target.server.portal()]);
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains(&format!("{own} is no discovery subsystem")), "{error}");
    assert!(text(&output.stdout).contains(NQN));
}

#[test]
fn several_controllers_are_asked_and_those_that_fail_are_counted() {
    let (one, two) = (Server::start(&["mem:1M"]), Server::start(&["mem:1M"]));
    let both = [&*one.portal(), &two.portal()];
    let list = json(&ok(&["discover", both[0], both[1], both[0], "-o", "json"]));
    let controllers = &list["controllers"];
    assert_eq!(ports(controllers), [one.port.to_string(), two.port.to_string()]);
    let only = json(&ok(&["discover", both[1], "-o", "json"]));
    assert_eq!(controllers[1]["records"], only["records"]);
    assert_eq!(controllers[1]["subnqn"], "nqn.2014-08.org.nvmexpress.discovery");
    let table = text(&ok(&["discover", both[0], both[1]]));
    for portal in both {
        assert!(table.contains(&format!("Discovery log of {portal}, generation ")), "{table}");
    }

    let ((_a, a), (_b, b)) = (dead(), dead());
    let urls = [format!("nvme+tcp://{a}"), format!("nvme+tcp://{b}")];
    let output = run(&["discover", &urls[0], both[0], &urls[1]]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains(NQN));
    let error = text(&output.stderr);
    assert!(error.contains(&a) && error.contains(&b), "{error}");
    assert!(error.ends_with("nvmf: 2 of 3 discovery controllers did not answer\n"), "{error}");
    let error = fails(1, &["discover", &urls[0]]);
    assert!(error.contains(&a), "{error}");
}

#[test]
fn without_an_address_the_files_of_nvme_cli_are_asked() {
    let (one, two) = (Server::start(&["mem:1M"]), Server::start(&["mem:1M"]));
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().to_str().unwrap();
    let discover = ["discover", "--config-dir", directory, "-o", "json"];
    let error = fails(2, &discover);
    assert!(error.contains("no target") && error.contains(directory), "{error}");

    let conf = folder.path().join("discovery.conf");
    fs::write(&conf, format!("# ours\n-t tcp -a 127.0.0.1 -s {}\n", one.port)).unwrap();
    assert_eq!(ports(&json(&ok(&discover))["controllers"]), [one.port.to_string()]);

    let own = "nqn.2026-01.org.example:of-the-file";
    let config = folder.path().join("config.json");
    let port = |port: u16| {
        format!("{{\"transport\": \"tcp\", \"traddr\": \"127.0.0.1\", \"trsvcid\": \"{port}\"}}")
    };
    let host = format!(
        "[{{\"hostnqn\": \"{own}\", \"subsystems\": [\
         {{\"nqn\": \"{NQN}\", \"ports\": [{}]}}, \
         {{\"nqn\": \"nqn.2014-08.org.nvmexpress.discovery\", \"ports\": [{}, {}]}}]}}]",
        port(1),
        port(two.port),
        port(two.port)
    );
    fs::write(&config, host).unwrap();
    let controllers = json(&ok(&discover))["controllers"].take();
    assert_eq!(ports(&controllers), [one.port.to_string(), two.port.to_string()]);

    // What the command line names is all that is asked.
    let only = json(&ok(&["discover", &two.portal(), "--config-dir", directory, "-o", "json"]));
    assert!(only["records"].is_array(), "{only}");
}

#[test]
fn a_controller_of_a_file_is_asked_as_the_host_that_the_file_says() {
    let listen = ["--listen", "127.0.0.1:0", "--nqn", NQN, "--namespace", "mem:1M"];
    let own = "nqn.2026-01.org.example:of-the-file";
    let server = Server::serve("127.0.0.1", &[&listen[..], &["--allow", own]].concat());
    let folder = tempfile::tempdir().unwrap();
    let conf = folder.path().join("discovery.conf");
    let line = format!("--transport=tcp --traddr=127.0.0.1 --trsvcid={}", server.port);
    let asked = |more: &str| {
        fs::write(&conf, format!("{line} {more}\n")).unwrap();
        text(&ok(&["discover", "--config-dir", folder.path().to_str().unwrap()]))
    };
    assert!(!asked("").contains(NQN), "it is not ours to see");
    assert!(asked(&format!("--hostnqn={own}")).contains(NQN));
}

#[test]
fn what_is_wrong_in_the_files_is_said_with_its_place_and_the_rest_is_asked() {
    let server = Server::start(&["mem:1M"]);
    let folder = tempfile::tempdir().unwrap();
    let conf = folder.path().join("discovery.conf");
    let line = format!("-t tcp -a 127.0.0.1 -s {}", server.port);
    fs::write(&conf, format!("--frobnicate\n-t rdma -a 192.0.2.1\n{line} -w 127.0.0.9\n")).unwrap();
    let args = ["discover", "--config-dir", folder.path().to_str().unwrap()];
    let output = run(&args);
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(text(&output.stdout).contains(NQN));
    for part in ["discovery.conf: line 1: there is no option `--frobnicate`", "line 2", "rdma"] {
        assert!(error.contains(part), "no {part:?} in {error}");
    }
    assert!(error.contains("line 3") && error.contains("host-traddr"), "{error}");
    // What nobody could ask over TCP is no failure.
    fs::write(&conf, format!("-t rdma -a 192.0.2.1\n{line}\n")).unwrap();
    assert!(run(&args).status.success());

    fs::write(folder.path().join("config.json"), "[{\"subsystems\": 5}]").unwrap();
    let output = run(&args);
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("config.json: [0].subsystems: "), "{error}");
}

#[test]
fn a_target_that_announces_itself_is_found() {
    let listen = ["--listen", "127.0.0.1:0", "--nqn", NQN, "--namespace", "mem:1M", "--mdns"];
    let server = Server::serve("127.0.0.1", &listen);
    // Others on this machine may announce themselves, and come and go.
    let mut command = nvmf();
    command.args(["discover", "--mdns", "--mdns-time", "4", "-o", "json"]).args(HOST);
    let output = command.output().unwrap();
    assert!(!output.stdout.is_empty(), "{}: is there multicast?", text(&output.stderr));
    let list = json(&output.stdout);
    let controllers = list["controllers"].as_array().unwrap();
    let port = server.port.to_string();
    let found = controllers.iter().find(|one| one["trsvcid"] == port.as_str());
    assert!(found.unwrap()["records"].to_string().contains(NQN), "{list}");
}

#[test]
fn what_cannot_be_asked_together_is_refused() {
    let error = fails(2, &["discover", "nvme+tcp://127.0.0.1", "-a", "127.0.0.1"]);
    assert!(error.contains("give one"), "{error}");
    for args in [&["--mdns-time", "0"][..], &["nvme+tcp://127.0.0.1", "x"]] {
        fails(2, &[&["discover"], args].concat());
    }
}

//! The subcommands that show something: tables for people, JSON for scripts.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "tests may stop at a surprise")]

mod common;

use common::{NQN, Server, json, nvmf, ok, text};

#[test]
fn discover_lists_the_subsystem_with_the_names_of_nvme_cli() {
    let server = Server::start(&["mem:1M"]);
    let log = json(&ok(&["discover", &server.portal(), "-o", "json"]));
    assert!(log["genctr"].is_u64());
    let record = log["records"]
        .as_array()
        .unwrap()
        .iter()
        .find(|record| record["subnqn"] == NQN)
        .unwrap_or_else(|| panic!("{log}"));
    let fields: Vec<_> = record.as_object().unwrap().keys().map(String::as_str).collect();
    let wanted = [
        "trtype", "adrfam", "subtype", "treq", "portid", "trsvcid", "subnqn", "traddr", "eflags",
        "sectype",
    ];
    assert_eq!(fields, wanted);
    assert_eq!(record["trtype"], "tcp");
    assert_eq!(record["adrfam"], "ipv4");
    assert_eq!(record["subtype"], "nvme subsystem");
    assert_eq!(record["trsvcid"], server.port.to_string());
    assert_eq!(record["traddr"], "127.0.0.1");
    assert_eq!(record["sectype"], "none");
}

#[test]
fn discover_shows_a_table_whose_last_line_works() {
    let server = Server::start(&["mem:1M"]);
    let table = text(&ok(&["discover", &server.portal()]));
    let row = table.lines().find(|line| line.contains(NQN)).unwrap();
    assert!(row.contains("nvme subsystem") && row.contains(&server.port.to_string()), "{table}");
    let url = table.lines().last().unwrap().split('\'').nth(1).unwrap();
    assert_eq!(url, server.target());
    let port = server.port.to_string();
    let same = text(&ok(&["discover", "-t", "tcp", "-a", "127.0.0.1", "-s", &port]));
    assert_eq!(same, table);
}

#[test]
fn identify_shows_the_controller_and_every_namespace() {
    let server = Server::start(&["mem:1M", "mem:2M,bs=512"]);
    let all = json(&ok(&["identify", &server.target(), "-o", "json"]));
    assert_eq!(all["controller"]["subnqn"], NQN);
    let namespaces = all["namespaces"].as_array().unwrap();
    assert_eq!(namespaces.len(), 2);
    assert_eq!((&namespaces[0]["nsid"], &namespaces[0]["nsze"]), (&1.into(), &256.into()));
    assert_eq!((&namespaces[1]["nsid"], &namespaces[1]["nsze"]), (&2.into(), &4096.into()));

    let controller = json(&ok(&["identify", &server.target(), "--controller", "-o", "json"]));
    assert_eq!(controller["sn"], all["controller"]["sn"]);
    let by_url = json(&ok(&["identify", &server.namespace(2), "-o", "json"]));
    let by_option = json(&ok(&["identify", &server.target(), "--namespace-id", "2", "-o", "json"]));
    assert_eq!((&by_url["nsze"], &by_url), (&4096.into(), &by_option));
    assert!(by_url.get("nsid").is_none(), "nvme-cli has none there");

    let table = text(&ok(&["identify", &server.target()]));
    assert!(table.contains("subnqn") && table.contains("nsze") && table.contains(NQN), "{table}");
}

#[test]
fn identify_shows_any_data_structure() {
    let server = Server::start(&["mem:1M"]);
    let list = json(&ok(&["identify", &server.target(), "--cns", "2", "-o", "json"]));
    assert!(list.to_string().contains('1'), "{list}");
    let controller = json(&ok(&["identify", &server.target(), "--cns", "0x1", "-o", "json"]));
    assert_eq!(controller["subnqn"], NQN);
    let error = common::fails(1, &["identify", &server.target(), "--cns", "0xc5"]);
    assert!(error.contains("CNS 0xc5") && error.contains("Invalid Field"), "{error}");
}

#[test]
fn identify_works_on_the_discovery_subsystem() {
    let server = Server::start(&["mem:1M"]);
    let url = format!("{}/nqn.2014-08.org.nvmexpress.discovery", server.portal());
    let all = json(&ok(&["identify", &url, "-o", "json"]));
    assert_eq!(all["controller"]["cntrltype"], 2);
    assert_eq!(all["namespaces"].as_array().unwrap().len(), 0);
}

#[test]
fn property_shows_all_or_one() {
    let server = Server::start(&["mem:1M"]);
    let all = json(&ok(&["property", &server.target(), "-o", "json"]));
    assert_eq!(all["csts"], 1);
    assert!(all["cap"].as_u64().unwrap() > u64::from(u32::MAX), "CAP has eight bytes: {all}");
    for name in ["csts", "CSTS", "0x1c", "28"] {
        let one = json(&ok(&["property", &server.target(), name, "-o", "json"]));
        assert_eq!(one["csts"], 1, "{name}");
    }
    let table = text(&ok(&["property", &server.target()]));
    assert!(table.contains("ready") && table.contains("NVMe "), "{table}");
    let error = common::fails(2, &["property", &server.target(), "foo"]);
    assert!(error.contains("foo") && error.contains("csts"), "{error}");
    let error = common::fails(1, &["property", &server.target(), "0x50"]);
    assert!(error.contains("0x50") && error.contains("Invalid Field"), "{error}");
}

#[test]
fn log_shows_pages_by_name_and_number() {
    let server = Server::start(&["mem:1M"]);
    let target = server.target();
    common::ok_with(&["write", &target], &[1; 600_000]);
    let smart = json(&ok(&["log", &target, "smart", "-o", "json"]));
    assert_eq!(smart["critical_warning"], 0);
    assert!(smart["data_units_written"].as_u64().unwrap() > 0, "{smart}");
    assert_eq!(
        json(&ok(&["log", &target, "0x02", "-o", "json"]))["avail_spare"],
        smart["avail_spare"]
    );
    for page in ["error", "firmware", "changed-namespaces", "effects"] {
        json(&ok(&["log", &target, page, "-o", "json"]));
        assert!(!ok(&["log", &target, page]).is_empty(), "{page}");
    }
    let raw = ok(&["log", &target, "smart", "--raw"]);
    let part = ok(&["log", &target, "smart", "--raw", "--offset", "32", "--length", "16"]);
    assert_eq!((raw.len(), part.len()), (512, 16));
    let error = common::fails(1, &["log", &target, "0xc7"]);
    assert!(error.contains("Invalid Log Page"), "{error}");
    let error = common::fails(2, &["log", &target, "smort"]);
    assert!(error.contains("smort") && error.contains("smart"), "{error}");
    assert!(common::fails(2, &["log", &target]).contains("no page"));
    let discovery = format!("{}/nqn.2014-08.org.nvmexpress.discovery", server.portal());
    let log = json(&ok(&["log", &discovery, "discovery", "-o", "json"]));
    assert_eq!(log, json(&ok(&["discover", &server.portal(), "-o", "json"])));
}

#[test]
fn completions_and_manual_pages_are_made() {
    for shell in ["bash", "zsh", "fish"] {
        let output = nvmf().args(["completions", shell]).output().unwrap();
        assert!(output.status.success() && text(&output.stdout).contains("discover"), "{shell}");
    }
    let output = nvmf().arg("man").output().unwrap();
    assert!(text(&output.stdout).contains(".TH nvmf"));
    let directory = tempfile::tempdir().unwrap();
    assert!(nvmf().arg("man").arg(directory.path()).status().unwrap().success());
    assert!(directory.path().join("nvmf-serve.1").exists());
}

#[test]
fn the_help_of_log_says_where_its_json_is_not_that_of_nvme_cli() {
    let help = text(&nvmf().args(["log", "--help"]).output().unwrap().stdout);
    assert!(help.contains("JSON has the names of nvme-cli, but for"), "{help}");
    let server = Server::start(&["mem:1M"]);
    let log = |page| json(&ok(&["log", &server.target(), page, "-o", "json"]));
    assert_eq!(log("effects")["admin_cmd_set"][0]["name"], "Get Log Page");
    assert!(log("changed-namespaces")["nsid_list"].is_array());
}

#[test]
fn every_subcommand_has_help_with_an_example() {
    let commands =
        ["serve", "discover", "identify", "property", "log", "read", "write", "completions", "man"];
    for command in commands {
        let output = nvmf().args([command, "--help"]).output().unwrap();
        let help = text(&output.stdout);
        assert!(output.status.success() && help.contains("Example"), "{command}: {help}");
        assert!(help.contains(&format!("nvmf {command}")), "{command}: {help}");
    }
}

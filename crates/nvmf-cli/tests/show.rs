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
    // The list of the controller that is asked, whatever its number is.
    let sets = json(&ok(&["identify", &server.target(), "--cns", "0x1c", "-o", "json"]));
    assert!(sets.is_object(), "{sets}");
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
    let extended = json(&ok(&["log", &discovery, "discovery", "--lsp", "1", "-o", "json"]));
    assert_eq!((&extended["dlpf"], &extended["records"]), (&1.into(), &log["records"]));
}

#[test]
fn feature_shows_one_by_name_and_number_with_its_fields() {
    let server = Server::start(&["mem:1M"]);
    let target = server.target();
    for name in ["write-cache", "Volatile Write Cache", "0x06", "6"] {
        let one = json(&ok(&["feature", &target, name, "-o", "json"]));
        let keys: Vec<_> = one.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys, ["feature", "name", "select", "value", "fields"]);
        assert_eq!((&one["feature"], &one["name"]), (&6.into(), &"Volatile Write Cache".into()));
        assert_eq!((&one["select"], &one["value"]), (&"current".into(), &1.into()));
        assert_eq!(one["fields"]["wce"], 1);
    }
    let can = json(&ok(&["feature", &target, "6", "--select", "supported", "-o", "json"]));
    assert_eq!((&can["select"], &can["fields"]["changeable"]), (&"supported".into(), &1.into()));
    let under = ["feature", &target, "temperature", "--cdw11", "0x100000", "-o", "json"];
    assert_eq!(json(&ok(&under))["value"], 0, "the threshold for being under");
    let table = text(&ok(&["feature", &target, "keep-alive"]));
    assert!(table.contains("Keep Alive Timer") && table.contains("kato"), "{table}");
}

#[test]
fn feature_has_the_data_of_those_that_have_some() {
    let server = Server::start(&["mem:1M"]);
    let target = server.target();
    let hex = common::HOST[1].rsplit(':').next().unwrap().replace('-', "");
    let id = json(&ok(&["feature", &target, "host-id", "-o", "json"]));
    assert_eq!(id["data"], hex.as_str());
    let raw = ok(&["feature", &target, "0x81", "--raw"]);
    let digits: String = raw.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(digits, hex);
    assert!(common::fails(2, &["feature", &target, "6", "--raw"]).contains("has no data"));
}

#[test]
fn feature_shows_all_that_the_controller_has() {
    let server = Server::start(&["mem:1M"]);
    let all = json(&ok(&["feature", &server.target(), "-o", "json"]));
    let all = all["features"].as_array().unwrap();
    assert!(all.iter().any(|one| one["feature"] == 1) && all.len() > 6, "{all:?}");
    for one in all {
        let number = one["feature"].to_string();
        let alone = json(&ok(&["feature", &server.target(), &number, "-o", "json"]));
        assert_eq!(alone["name"], one["name"]);
        // A clock goes on.
        if one["name"] != "Timestamp" {
            assert_eq!(&alone, one);
        }
    }
    let table = text(&ok(&["feature", &server.target()]));
    assert_eq!(table.lines().count(), all.len() + 1, "{table}");
    let discovery = format!("{}/nqn.2014-08.org.nvmexpress.discovery", server.portal());
    let few = json(&ok(&["feature", &discovery, "-o", "json"]));
    assert!(few["features"].as_array().unwrap().len() < all.len(), "{few}");
}

#[test]
fn feature_sets_and_shows_what_it_is_then() {
    let server = Server::start(&["mem:1M"]);
    let target = server.target();
    let set = |feature: &str, value: &str| {
        json(&ok(&["feature", &target, feature, "--value", value, "-o", "json"]))
    };
    assert_eq!(set("write-cache", "0")["fields"]["wce"], 0);
    assert_eq!(set("keep-alive", "4500")["value"], 5000, "in steps");
    let under = set("temperature", "0x100150");
    assert_eq!(under["fields"]["tmpth"], 0x150, "the one that was set");
    let error = common::fails(1, &["feature", &target, "power", "--value", "1"]);
    assert!(error.contains("cannot set feature 0x02 (Power Management)"), "{error}");
    assert!(error.contains("Invalid Field in Command"), "{error}");
    // 2026-11-28 in milliseconds, that is.
    let stamp = 1_795_824_000_000u64.to_le_bytes();
    let data = ["feature", &target, "timestamp", "--data", "-", "-o", "json"];
    let set = json(&common::ok_with(&data, &stamp));
    let shown = set["fields"]["timestamp"].as_u64().unwrap();
    assert!((1_795_824_000_000..1_795_824_060_000).contains(&shown), "{set}");
    assert_eq!(set["fields"]["set_by_host"], true);
    let mask = ["feature", &server.namespace(1), "reservation-mask", "--value", "6", "-o", "json"];
    assert_eq!(json(&ok(&mask))["fields"]["resrel"], 1, "of the namespace");
    // The data of a host identifier goes out; that it cannot change is the controller's word.
    let data = ["feature", &target, "host-id", "--value", "1", "--data", "-"];
    let error = common::fails_with(1, &data, &[1; 16]);
    assert!(error.contains("Command Sequence Error"), "{error}");
}

#[test]
fn feature_says_what_is_wrong() {
    let server = Server::start(&["mem:1M"]);
    let target = server.target();
    let error = common::fails(1, &["feature", &target, "0xbf"]);
    assert!(error.contains("0xbf") && error.contains("Invalid Field in Command"), "{error}");
    let error = common::fails(2, &["feature", &target, "write-cash"]);
    assert!(error.contains("write-cash") && error.contains("write-cache"), "{error}");
    for args in [
        &["--value", "1"][..],
        &["6", "--value", "4294967296"],
        &["6", "--value", "1", "--select", "default"],
        &["6", "--value", "1", "--cdw11", "1"],
        &["6", "--select", "previous"],
        &["0x0e", "--data", "/dev/null"],
    ] {
        common::fails(2, &[&["feature", &target][..], args].concat());
    }
    let error = common::fails(1, &["feature", &target, "0x0e", "--data", "/nonexistent"]);
    assert!(error.contains("/nonexistent"), "{error}");
}

#[test]
fn completions_and_manual_pages_are_made() {
    for shell in ["bash", "zsh", "fish"] {
        let output = nvmf().args(["completions", shell]).output().unwrap();
        let script = text(&output.stdout);
        assert!(output.status.success() && script.contains("discover"), "{shell}");
        for word in ["controllers", "resize", "cdw11"] {
            assert!(script.contains(word), "{shell} does not know {word}");
        }
    }
    let output = nvmf().arg("man").output().unwrap();
    assert!(text(&output.stdout).contains(".TH nvmf"));
    let directory = tempfile::tempdir().unwrap();
    assert!(nvmf().arg("man").arg(directory.path()).status().unwrap().success());
    let page = |name: &str| std::fs::read_to_string(directory.path().join(name)).unwrap();
    assert!(page("nvmf-serve.1").contains("listen"));
    assert!(page("nvmf-feature.1").contains("cdw11"));
    for command in ["status", "top", "subsystem", "namespace", "host", "port", "save", "reload"] {
        assert!(page(&format!("nvmf-ctl-{command}.1")).contains("socket"), "{command}");
    }
    let add = page("nvmf-ctl-namespace-add.1");
    assert!(add.contains("\\- Add a namespace"), "{add}");
    assert!(add.contains("nvmf ctl namespace add") && add.contains("read\\-only"), "{add}");
}

#[test]
fn bash_completes_commands_of_commands_and_their_options() {
    let directory = tempfile::tempdir().unwrap();
    let script = directory.path().join("nvmf.bash");
    std::fs::write(&script, nvmf().args(["completions", "bash"]).output().unwrap().stdout).unwrap();
    for (words, begun, wanted) in [
        ("nvmf ctl ''", "", &["status", "namespace", "reload"][..]),
        ("nvmf ctl namespace ''", "", &["add", "resize", "limit"]),
        ("nvmf ctl namespace add --", "--", &["--ana-group", "--socket", "--output-format"]),
        ("nvmf feature --sel", "--sel", &["--select"]),
    ] {
        let asked = format!(
            "source {}; COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); \
             _nvmf nvmf '{begun}' \"${{COMP_WORDS[COMP_CWORD - 1]}}\"; echo \"${{COMPREPLY[@]}}\"",
            script.display()
        );
        let output = std::process::Command::new("bash").args(["-c", &asked]).output().unwrap();
        let offered = text(&output.stdout);
        let offered: Vec<_> = offered.split_whitespace().collect();
        for word in wanted {
            assert!(offered.contains(word), "{words}: {offered:?} {}", text(&output.stderr));
        }
    }
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
    let of_linux: &[&str] = if cfg!(target_os = "linux") {
        &["connect", "connect-all", "disconnect", "disconnect-all", "list"]
    } else {
        &[]
    };
    let everywhere = [
        "serve",
        "config",
        "ctl",
        "ctl top",
        "ctl subsystem",
        "ctl namespace",
        "ctl host",
        "ctl port",
        "ctl ana",
        #[cfg(target_os = "linux")]
        "kernel-target",
        #[cfg(target_os = "linux")]
        "kernel-target apply",
        "discover",
        "identify",
        "property",
        "log",
        "feature",
        "admin-passthru",
        "io-passthru",
        "read",
        "write",
        "bench",
        "completions",
        "man",
    ];
    for command in everywhere.iter().chain(of_linux) {
        let output = nvmf().args(command.split(' ')).arg("--help").output().unwrap();
        let help = text(&output.stdout);
        assert!(output.status.success() && help.contains("Example"), "{command}: {help}");
        assert!(help.contains(&format!("nvmf {command}")), "{command}: {help}");
    }
}

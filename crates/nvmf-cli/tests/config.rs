//! `nvmf config`: what is wrong with a file is said with line and key, and what is right is shown.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "tests may stop at a surprise")]

mod common;

use std::path::{Path, PathBuf};
use std::process::Output;

use common::{json, nvmf, text};
use tempfile::TempDir;

const RIGHT: &str = r#"
[[port]]
listen = "192.0.2.7:4420"

[[subsystem]]
nqn = "nqn.2026-01.org.example:disks"
hosts = ["nqn.2026-01.org.example:client"]
[[subsystem.namespace]]
source = "mem:1024K,bs=512"
[[subsystem.namespace]]
source = "file:/srv/disk.img"
read-only = true
"#;

const SAVED: &str = r#"{
  "hosts": [],
  "ports": [
    { "portid": 1, "subsystems": ["nqn.2026-01.org.example:disks"], "addr": {
      "trtype": "tcp", "adrfam": "ipv4", "traddr": "192.0.2.7", "trsvcid": "4420" } },
    { "portid": 2, "subsystems": ["nqn.2026-01.org.example:disks"], "addr": {
      "trtype": "rdma", "adrfam": "ipv4", "traddr": "192.0.2.7", "trsvcid": "4420" } }
  ],
  "subsystems": [{ "nqn": "nqn.2026-01.org.example:disks", "allowed_hosts": [],
    "attr": { "allow_any_host": "1", "serial": "0123456789" },
    "namespaces": [{ "nsid": 1, "enable": 1, "device": { "path": "/dev/vg0/disk",
      "uuid": "5f2ca0b7-1f6c-4d2e-9a07-c5d10f7d8a31" } }] }]
}"#;

/// A directory with a file of this name and text.
fn file(name: &str, content: &str) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    std::fs::write(&path, content).unwrap();
    (dir, path)
}

fn config(args: &[&str], path: &Path) -> Output {
    nvmf().arg("config").args(args).arg(path).output().unwrap()
}

/// Standard output of what has to succeed and to say nothing else.
fn shown(args: &[&str], path: &Path) -> Vec<u8> {
    let output = config(args, path);
    assert!(output.status.success() && output.stderr.is_empty(), "{}", text(&output.stderr));
    output.stdout
}

#[test]
fn check_says_what_would_be_served() {
    let (_dir, path) = file("target.toml", RIGHT);
    let said = text(&shown(&["check"], &path));
    for line in [
        "  port 1 on 192.0.2.7:4420: all subsystems",
        "  subsystem nqn.2026-01.org.example:disks: to 1 host through 1 port",
        "    namespace 1: mem:1M,bs=512",
        "    namespace 2: file:/srv/disk.img, write-protected",
    ] {
        assert!(said.lines().any(|l| l == line), "no {line:?} in\n{said}");
    }
}

#[test]
fn one_problem_is_one_line() {
    let (_dir, path) = file("target.toml", &RIGHT.replace("mem:1024K", "ram:1M"));
    for command in ["check", "show"] {
        let output = config(&[command], &path);
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{error}");
        common::one_line(&error);
        let start = format!("nvmf: {}:9: subsystem[0].namespace[0].source: ", path.display());
        assert!(error.starts_with(&start) && output.stdout.is_empty(), "{error}");
    }
}

#[test]
fn all_problems_are_said_a_line_each_and_counted() {
    let wrong = RIGHT
        .replace("192.0.2.7:4420", "local\\u001bhost")
        .replace("mem:1024K", "ram:1M")
        .replace("/srv/disk.img", "/srv/disk.img,bs=1");
    let (_dir, path) = file("target.toml", &wrong);
    let output = config(&["check"], &path);
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    let lines: Vec<_> = error.lines().collect();
    let file = path.display();
    let starts = [
        format!("nvmf: {file}:3: port[0].listen: "),
        format!("nvmf: {file}:9: subsystem[0].namespace[0].source: "),
        format!("nvmf: {file}:11: subsystem[0].namespace[1].source: "),
        format!("nvmf: {file}: 3 problems"),
    ];
    assert_eq!(lines.len(), starts.len(), "{error}");
    for (line, start) in lines.iter().zip(&starts) {
        assert!(line.starts_with(start.as_str()) && !line.contains('\u{1b}'), "{line:?} {start}");
    }
}

#[test]
fn a_file_that_is_not_there_is_said_not_to_be() {
    for command in ["check", "show", "import"] {
        let output = config(&[command], Path::new("/nonexistent/target.toml"));
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{error}");
        common::one_line(&error);
        assert!(error.contains("/nonexistent/target.toml"), "{error}");
    }
    for args in [&["config"][..], &["config", "check"], &["config", "frobnicate"]] {
        assert_eq!(nvmf().args(args).output().unwrap().status.code(), Some(2), "{args:?}");
    }
}

#[test]
fn show_has_all_identifiers_and_reads_back() {
    let (_dir, path) = file("target.toml", RIGHT);
    let toml = shown(&["show"], &path);
    assert!(text(&toml).contains("id = 2\nsource = \"file:/srv/disk.img\""), "{}", text(&toml));
    let (_dir, again) = file("again.toml", &text(&toml));
    assert_eq!(text(&shown(&["show"], &again)), text(&toml));

    let shown = json(&shown(&["show", "-o", "json"], &path));
    assert_eq!(shown["port"][0]["id"], 1);
    let namespace = &shown["subsystem"][0]["namespace"][1];
    assert_eq!((&namespace["id"], &namespace["read-only"]), (&2.into(), &true.into()));
}

#[test]
fn import_writes_what_check_takes_and_warns_of_what_it_left_out() {
    let (dir, path) = file("config.json", SAVED);
    let output = config(&["import"], &path);
    let (toml, warnings) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{warnings}");
    assert!(warnings.contains("nvmf: port 2: it is left out"), "{warnings}");
    assert!(toml.contains("hosts = \"any\"") && toml.contains("serial = \"0123456789\""), "{toml}");

    let to = dir.path().join("target.toml");
    let output_to = ["import", "--output", to.to_str().unwrap()];
    let written = config(&output_to, &path);
    assert!(written.status.success() && written.stdout.is_empty());
    assert_eq!(text(&written.stderr), warnings);
    assert_eq!(std::fs::read_to_string(&to).unwrap(), toml);
    shown(&["check"], &to);

    // What somebody wrote by hand is not lost.
    let again = config(&output_to, &path);
    assert_eq!(again.status.code(), Some(1));
    let error = text(&again.stderr);
    assert!(error.lines().last().unwrap().starts_with("nvmf: cannot write "), "{error}");
}

#[test]
fn import_of_what_cannot_be_served_fails_and_says_why() {
    let (_dir, path) = file("config.json", &SAVED.replace("\"tcp\"", "\"loop\""));
    let output = config(&["import"], &path);
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("port 1: it is left out") && output.stdout.is_empty(), "{error}");
    let last = error.lines().last().unwrap();
    assert!(last.contains("no port to listen on over TCP"), "{error}");
    let (_dir, path) = file("config.json", RIGHT);
    let error = text(&config(&["import"], &path).stderr);
    common::one_line(&error);
    assert!(error.contains("not JSON"), "{error}");
}

/// What stands in the documentation, by the language that its block says.
fn documented(language: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    let document = std::fs::read_to_string(path).unwrap();
    let begin = format!("```{language}\n");
    let blocks = document.split(&begin).skip(1);
    blocks.map(|block| block.split("```").next().unwrap().to_owned()).collect()
}

#[test]
fn what_the_documentation_shows_is_right_and_has_every_key() {
    let blocks = documented("toml");
    assert_eq!(blocks.len(), 2);
    for block in &blocks {
        let (_dir, path) = file("target.toml", block);
        shown(&["check"], &path);
    }
    // A key that is known is in the long example: an unknown one makes the program list them.
    for (table, at) in [
        ("", "x = 1\n"),
        ("[discovery]", "[discovery]\nx = 1\n"),
        ("[[discovery.referral]]", "[[discovery.referral]]\nx = 1\n"),
        ("[metrics]", "[metrics]\nx = 1\n"),
        ("[transport]", "[transport]\nx = 1\n"),
        ("[[port]]", "[[port]]\nx = 1\n"),
        ("[[subsystem]]", "[[subsystem]]\nx = 1\n"),
        ("[[subsystem.namespace]]", "[[subsystem]]\n[[subsystem.namespace]]\nx = 1\n"),
        (
            "[subsystem.namespace.limits]",
            "[[subsystem]]\n[[subsystem.namespace]]\n[subsystem.namespace.limits]\nx = 1\n",
        ),
    ] {
        let (_dir, path) = file("target.toml", at);
        let error = text(&config(&["check"], &path).stderr);
        let (_, known) = error.split_once("nown are ").unwrap();
        for key in known.lines().next().unwrap().split(", ") {
            let after = if table.is_empty() { Some(&*blocks[1]) } else { None };
            let after = after.or_else(|| Some(blocks[1].split_once(table)?.1)).unwrap();
            let is_shown = [format!("\n{key} = "), format!("[{key}]"), format!(".{key}]")];
            assert!(is_shown.iter().any(|form| after.contains(form)), "no {key} in {table}");
        }
    }
}

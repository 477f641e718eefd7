//! `nvmf kernel-target` on a tree of files that looks like configfs. What takes a kernel is tested in
//! guests (tests/vm).

#![cfg(target_os = "linux")]
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "tests may stop at a surprise")]

mod common;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Output;

use common::{json, nvmf, one_line, text};
use tempfile::TempDir;

const NQN: &str = "nqn.2026-01.org.example:disks";

/// A made-up nvmet with one subsystem that serves a file, on one port, and a configuration that says
/// the same, next to it.
struct Nvmet(TempDir);

impl Nvmet {
    fn new() -> Self {
        let nvmet = Self(tempfile::tempdir().unwrap());
        fs::write(nvmet.image(), vec![0; 1 << 20]).unwrap();
        let subsystem = format!("subsystems/{NQN}");
        nvmet.files(
            &subsystem,
            &[
                ("attr_allow_any_host", "0"),
                ("attr_serial", "0123456789          "),
                ("attr_model", "nvmf"),
                ("attr_cntlid_min", "1"),
                ("attr_cntlid_max", "65519"),
                ("attr_qid_max", "128"),
            ],
        );
        nvmet.files(&format!("{subsystem}/allowed_hosts"), &[]);
        nvmet.files("hosts/nqn.2026-01.org.example:host", &[]);
        symlink(
            "../../../hosts/nqn.2026-01.org.example:host",
            nvmet.root().join(&subsystem).join("allowed_hosts/nqn.2026-01.org.example:host"),
        )
        .unwrap();
        nvmet.files(
            &format!("{subsystem}/namespaces/1"),
            &[
                ("device_path", nvmet.image().to_str().unwrap()),
                ("device_uuid", "5f2ca0b7-1f6c-4d2e-9a07-c5d10f7d8a31"),
                ("device_nguid", "ef90689c-6c46-d44c-89c1-4067801309a8"),
                ("buffered_io", "1"),
                ("ana_grpid", "1"),
                ("enable", "1"),
            ],
        );
        nvmet.files(
            "ports/1",
            &[
                ("addr_trtype", "tcp"),
                ("addr_adrfam", "ipv4"),
                ("addr_traddr", "192.0.2.7"),
                ("addr_trsvcid", "4420"),
                ("addr_treq", "not specified"),
                ("param_inline_data_size", "16384"),
            ],
        );
        nvmet.files("ports/1/referrals", &[]);
        nvmet.files("ports/1/ana_groups/1", &[("ana_state", "optimized")]);
        nvmet.files("ports/1/subsystems", &[]);
        symlink(format!("../../../{subsystem}"), nvmet.root().join("ports/1/subsystems").join(NQN))
            .unwrap();
        nvmet
    }

    fn root(&self) -> PathBuf {
        self.0.path().join("nvmet")
    }

    fn image(&self) -> PathBuf {
        self.0.path().join("disk.img")
    }

    fn files(&self, at: &str, files: &[(&str, &str)]) {
        let at = self.root().join(at);
        fs::create_dir_all(&at).unwrap();
        for (name, value) in files {
            fs::write(at.join(name), format!("{value}\n")).unwrap();
        }
    }

    fn run(&self, args: &[&str]) -> Output {
        let mut command = nvmf();
        command.arg("kernel-target").args(args).arg("--configfs").arg(self.root());
        command.current_dir(self.0.path()).output().unwrap()
    }

    /// Standard output of what has to succeed and to say nothing else.
    fn ok(&self, args: &[&str]) -> Vec<u8> {
        let output = self.run(args);
        let error = text(&output.stderr);
        assert!(output.status.success() && error.is_empty(), "{args:?}: {error}");
        output.stdout
    }

    fn fails(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {}", text(&output.stdout));
        text(&output.stderr)
    }

    /// What is saved of it, in a file of this name.
    fn saved(&self, name: &str) -> String {
        self.ok(&["save", name]);
        fs::read_to_string(self.0.path().join(name)).unwrap()
    }
}

/// All files below a directory, with what is in them.
fn tree(root: &Path) -> Vec<(PathBuf, Option<String>)> {
    let mut found = Vec::new();
    let mut left = vec![root.to_owned()];
    while let Some(path) = left.pop() {
        if path.is_symlink() || path.is_file() {
            found.push((path.clone(), fs::read_to_string(&path).ok()));
        } else {
            found.push((path.clone(), None));
            left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    found.sort();
    found
}

#[test]
fn what_is_saved_is_a_configuration_of_what_is_there() {
    let nvmet = Nvmet::new();
    let saved = nvmet.saved("target.toml");
    for line in [
        "listen = \"192.0.2.7:4420\"",
        "hosts = [\"nqn.2026-01.org.example:host\"]",
        "serial = \"0123456789\"",
        "uuid = \"5f2ca0b7-1f6c-4d2e-9a07-c5d10f7d8a31\"",
        "nguid = \"ef90689c6c46d44c89c14067801309a8\"",
    ] {
        assert!(saved.lines().any(|l| l == line), "no {line} in\n{saved}");
    }
    let path = nvmet.0.path().join("target.toml");
    assert!(nvmf().args(["config", "check"]).arg(&path).status().unwrap().success());
    assert_eq!(text(&nvmet.ok(&["apply", "target.toml"])), "nothing to do\n");
    assert_eq!(text(&nvmet.ok(&["save"])), saved);
    let as_json = json(&nvmet.ok(&["save", "-o", "json"]));
    assert_eq!(as_json["subsystem"][0]["nqn"], NQN);
    let error = nvmet.fails(&["save", "target.toml"]);
    one_line(&error);
    assert!(error.contains("cannot write target.toml: File exists"), "{error}");
}

#[test]
fn what_cannot_be_saved_is_said() {
    let nvmet = Nvmet::new();
    nvmet.files("ports/2", &[("addr_trtype", "rdma"), ("addr_traddr", "192.0.2.7")]);
    for folder in ["referrals", "ana_groups", "subsystems"] {
        nvmet.files(&format!("ports/2/{folder}"), &[]);
    }
    let output = nvmet.run(&["save"]);
    let said = "nvmf: port 2: it is left out, because its transport is `rdma` and not tcp\n";
    assert!(output.status.success());
    assert_eq!(text(&output.stderr), said);
}

#[test]
fn a_dry_run_says_what_would_be_done_and_does_nothing() {
    let nvmet = Nvmet::new();
    let saved = nvmet.saved("target.toml");
    let changed = saved.replace("192.0.2.7", "192.0.2.8");
    fs::write(nvmet.0.path().join("changed.toml"), changed).unwrap();
    let before = tree(&nvmet.root());
    let steps = [
        format!("unlink ports/1/subsystems/{NQN}"),
        "write 192.0.2.8 to ports/1/addr_traddr".to_owned(),
        format!("link ports/1/subsystems/{NQN} to subsystems/{NQN}"),
    ];
    let shown = text(&nvmet.ok(&["apply", "changed.toml", "--dry-run"]));
    assert_eq!(shown.lines().collect::<Vec<_>>(), steps);
    let shown = json(&nvmet.ok(&["apply", "changed.toml", "--dry-run", "-o", "json"]));
    assert_eq!(shown["done"], false);
    assert_eq!(shown["notes"].as_array().unwrap().len(), 0);
    assert_eq!(shown["steps"][1]["step"], "write");
    assert_eq!(shown["steps"][1]["path"], "ports/1/addr_traddr");
    assert_eq!(shown["steps"][1]["value"], "192.0.2.8");
    let cleared = text(&nvmet.ok(&["clear", "--dry-run"]));
    assert_eq!(cleared.lines().last(), Some("rmdir hosts/nqn.2026-01.org.example:host"));
    assert_eq!(tree(&nvmet.root()), before);
}

#[test]
fn a_change_is_made_and_a_second_time_there_is_nothing_to_do() {
    let nvmet = Nvmet::new();
    let saved = nvmet.saved("target.toml");
    fs::write(nvmet.0.path().join("changed.toml"), saved.replace("192.0.2.7", "192.0.2.8"))
        .unwrap();
    assert_eq!(text(&nvmet.ok(&["apply", "changed.toml"])).lines().count(), 3);
    let written = fs::read_to_string(nvmet.root().join("ports/1/addr_traddr")).unwrap();
    // No file of configfs is any longer than what was written into it last.
    assert!(written.starts_with("192.0.2.8"), "{written}");
    assert!(nvmet.root().join("ports/1/subsystems").join(NQN).join("attr_serial").exists());
    assert_eq!(text(&nvmet.ok(&["apply", "changed.toml"])), "nothing to do\n");
}

#[test]
fn what_nvmet_cannot_do_is_refused_before_nvmet_is_looked_for() {
    let nvmet = Nvmet::new();
    let wrong = "[metrics]\nlisten = \"127.0.0.1:1\"\n[[port]]\nlisten = \"127.0.0.1:4420\"\n\
                 [[subsystem]]\nnqn = \"nqn.2026-01.org.example:a\"\n[[subsystem.namespace]]\n\
                 source = \"mem:1M\"\n";
    fs::write(nvmet.0.path().join("wrong.toml"), wrong).unwrap();
    fs::remove_dir_all(nvmet.root()).unwrap();
    let error = nvmet.fails(&["apply", "wrong.toml"]);
    let lines: Vec<_> = error.lines().collect();
    assert_eq!(lines.len(), 3, "{error}");
    assert!(lines[0].starts_with("nvmf: wrong.toml:1: metrics: nvmet has no metrics"), "{error}");
    assert!(lines[1].starts_with("nvmf: wrong.toml:8: subsystem[0].namespace[0].source: nvmet"));
    assert_eq!(lines[2], "nvmf: wrong.toml: 2 problems");
}

#[test]
fn where_there_is_no_nvmet_it_says_what_to_try() {
    let nvmet = Nvmet::new();
    fs::remove_dir_all(nvmet.root()).unwrap();
    for args in [&["save"][..], &["clear"], &["clear", "--dry-run"]] {
        let error = nvmet.fails(args);
        one_line(&error);
        assert!(error.contains("configfs is not mounted; try `mount -t configfs none"), "{error}");
        assert!(error.contains("modprobe -a nvmet nvmet-tcp"), "{error}");
    }
}

#[test]
fn a_step_that_fails_is_said_with_its_path_and_what_became_of_the_others() {
    let nvmet = Nvmet::new();
    // Here directories have files that go with them only in configfs.
    let error = nvmet.fails(&["clear"]);
    one_line(&error);
    assert!(error.contains("cannot rmdir ports/1: Directory not empty"), "{error}");
    assert!(error.contains("; what had been done was undone"), "{error}");
    assert!(nvmet.root().join("ports/1/subsystems").join(NQN).exists());
}

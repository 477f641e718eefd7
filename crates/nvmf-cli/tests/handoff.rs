//! The kernel's host, on a made-up machine: what is said of it, and what goes wrong before it is told
//! anything. That it connects is tested with kernels, in tests/vm.

#![cfg(target_os = "linux")]
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "tests may stop at a surprise")]

mod common;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use common::controlled::{CONFIG, Controlled};
use common::{HOST, NQN, Server, eventually, fails, json, nvmf, ok, one_line, text};
use tempfile::TempDir;

/// Some of what Linux 6.12 knows, and a byte more for each that may be written over it.
const KNOWN: &str = "instance=-1,cntlid=-1,transport=%s,traddr=%s,trsvcid=%s,nqn=%s,queue_size=%d,\
    nr_io_queues=%d,keep_alive_tmo=%d,hostnqn=%s,host_iface=%s,hostid=%s,duplicate_connect,hdr_digest,\
    data_digest,ctrl_loss_tmo=%d,discovery,tls\n";

/// A root directory with a device that is a file: what is written to it can be looked at, and it
/// answers with no controller.
struct Machine(TempDir);

impl Machine {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn with_device() -> Self {
        let machine = Self::new();
        machine.file("dev/nvme-fabrics", KNOWN);
        machine
    }

    /// One controller of the tests' subsystem, with a disk and a path to it.
    fn connected(port: u16) -> Self {
        let machine = Self::with_device();
        let (subsystem, controller) = ("sys/devices/nvme-subsys3", "sys/devices/nvme4");
        for (name, text) in [("subsysnqn", NQN), ("iopolicy", "numa")] {
            machine.file(&format!("{subsystem}/{name}"), text);
        }
        let address = format!("traddr=127.0.0.1,trsvcid={port},src_addr=127.0.0.1");
        for (name, text) in [
            ("subsysnqn", NQN),
            ("transport", "tcp"),
            ("address", &address),
            ("state", "connecting"),
            ("cntlid", "7"),
            ("hostnqn", HOST[1]),
            ("delete_controller", ""),
            ("nvme3c4n1/nsid", "1"),
            ("nvme3c4n1/ana_state", "non-optimized"),
        ] {
            machine.file(&format!("{controller}/{name}"), text);
        }
        for (name, text) in [("nsid", "1"), ("size", "2048"), ("queue/logical_block_size", "512")] {
            machine.file(&format!("{subsystem}/nvme3n1/{name}"), text);
        }
        machine.file("dev/nvme3n1", "");
        machine.link("sys/class/nvme-subsystem/nvme-subsys3", subsystem);
        machine.link(&format!("{subsystem}/nvme4"), controller);
        machine.link("sys/class/nvme/nvme4", controller);
        machine
    }

    fn file(&self, path: &str, text: &str) {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn link(&self, from: &str, to: &str) {
        let from = self.0.path().join(from);
        fs::create_dir_all(from.parent().unwrap()).unwrap();
        symlink(self.0.path().join(to), from).unwrap();
    }

    fn root(&self) -> &str {
        self.0.path().to_str().unwrap()
    }

    /// What was written to the device: the options as far as the comma before what was there.
    fn written(&self) -> String {
        fs::read_to_string(Path::new(self.root()).join("dev/nvme-fabrics")).unwrap()
    }

    fn fails(&self, status: i32, args: &[&str]) -> String {
        fails(status, &[args, &["--root", self.root()]].concat())
    }

    /// Standard output of a command that has to succeed and connects to nothing.
    fn shows(&self, args: &[&str]) -> String {
        let output = nvmf().args(args).args(["--root", self.root()]).output().unwrap();
        assert!(output.status.success(), "nvmf {args:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// The error of a command that has to fail and connects to nothing.
    fn refuses(&self, status: i32, args: &[&str]) -> String {
        let output = nvmf().args(args).args(["--root", self.root()]).output().unwrap();
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "nvmf {args:?}: {error}");
        one_line(&error);
        error
    }
}

#[test]
fn a_machine_without_the_module_is_told_how_to_load_it_before_anything_is_asked() {
    let machine = Machine::new();
    let nobody = format!("nvme+tcp://127.0.0.1:1/{NQN}");
    for args in [["connect", &nobody], ["connect-all", "nvme+tcp://127.0.0.1:1"]] {
        let error = machine.fails(1, &args);
        assert!(
            error.contains("modprobe nvme-tcp") && error.contains("dev/nvme-fabrics"),
            "{error}"
        );
    }
}

#[test]
fn the_target_is_asked_first_and_says_what_is_wrong() {
    let server = Server::start_with(&["--nqn", NQN, "--namespace", "mem:1M", "--no-hdgst"]);
    let machine = Machine::with_device();
    let unknown = format!("{}/nqn.2026-01.org.example:unknown", server.portal());
    let error = machine.fails(1, &["connect", &unknown]);
    assert!(error.contains("no such subsystem") && error.contains("nvmf discover"), "{error}");
    let error = machine.fails(1, &["connect", &server.target(), "--hdr-digest"]);
    assert!(
        error.contains("does without header digests") && error.contains("without -g"),
        "{error}"
    );
    let others = Server::start_with(&["--nqn", NQN, "--allow", "nqn.2026-01.org.example:other"]);
    let error = machine.fails(1, &["connect", &others.target()]);
    assert!(error.contains("Connect Invalid Host") && error.contains("try -q"), "{error}");
    let closed = format!("nvme+tcp://127.0.0.1:1/{NQN}");
    let error = machine.fails(1, &["connect", &closed]);
    assert!(error.contains("refused") && error.contains("127.0.0.1:1"), "{error}");
    // The kernel was told nothing.
    assert_eq!(machine.written(), KNOWN);
}

#[test]
fn the_kernel_is_told_what_was_asked_for() {
    let server = Server::start(&["mem:1M"]);
    let machine = Machine::with_device();
    let options =
        ["-k", "20", "-l", "-1", "-g", "-Q", "64", "-I", "00000000-0000-4000-8000-000000000001"];
    // A file has no controller to tell of.
    let error = machine.fails(1, &[&["connect", &server.target()], &options[..]].concat());
    assert!(error.contains("names no controller"), "{error}");
    let wanted = format!(
        "transport=tcp,traddr=127.0.0.1,trsvcid={},nqn={NQN},hostnqn={},\
         hostid=00000000-0000-4000-8000-000000000001,queue_size=64,keep_alive_tmo=20,\
         ctrl_loss_tmo=-1,hdr_digest",
        server.port, HOST[1]
    );
    assert!(machine.written().starts_with(&wanted), "{}\n{wanted}", machine.written());
}

#[test]
fn of_a_name_the_kernel_gets_the_address_that_answers() {
    let server = Server::start(&["mem:1M"]);
    let machine = Machine::with_device();
    // Where it is ::1, too, that comes first, and nobody listens there.
    let url = format!("nvme+tcp://localhost:{}/{NQN}", server.port);
    let error = machine.fails(1, &["connect", &url]);
    assert!(error.contains("names no controller"), "{error}");
    let written = machine.written();
    assert!(written.starts_with("transport=tcp,traddr=127.0.0.1,"), "{written}");
}

#[test]
fn without_a_check_the_target_is_not_asked() {
    let machine = Machine::with_device();
    let error =
        machine.fails(1, &["connect", &format!("nvme+tcp://127.0.0.1:1/{NQN}"), "--no-check"]);
    assert!(error.contains("names no controller"), "{error}");
    assert!(machine.written().starts_with("transport=tcp,traddr=127.0.0.1,trsvcid=1,nqn="));
}

#[test]
fn what_the_kernel_would_not_take_is_refused_by_name() {
    let machine = Machine::with_device();
    let target = format!("nvme+tcp://127.0.0.1:1/{NQN}");
    let refused = |options: &[&str]| machine.fails(1, &[&["connect", &target], options].concat());
    assert!(refused(&["--concat"]).contains("this kernel does not know the option concat"));
    assert!(refused(&["-Q", "8"]).contains("queue_size is 8, and the kernel takes 16 to 1024"));
    assert!(refused(&["-f", "eth0,tls"]).contains("host_iface cannot have ','"));
    let secret = machine.fails(2, &["connect", &target, "-S", "secret"]);
    assert!(secret.contains("DHHC-1:"), "{secret}");
    assert_eq!(machine.written(), KNOWN);
}

#[test]
fn wrong_usage_has_status_2() {
    let machine = Machine::with_device();
    let error = machine.fails(2, &["connect", &format!("nvme+tcp://127.0.0.1:1/{NQN}/1")]);
    assert!(error.contains("leave out /1"), "{error}");
    assert!(machine.fails(2, &["connect", "nvme+tcp://127.0.0.1:1"]).contains("no subsystem"));
    assert!(machine.fails(2, &["connect-all"]).contains("no discovery controller"));
    assert!(machine.refuses(2, &["disconnect"]).contains("--nqn"));
}

#[test]
fn a_subsystem_that_is_connected_is_said_to_be_by_which_controller() {
    let server = Server::start(&["mem:1M"]);
    let machine = Machine::connected(server.port);
    let error = machine.fails(1, &["connect", &server.target()]);
    assert!(error.contains("already connected to it as nvme4"), "{error}");
    let error = machine.fails(1, &["connect", &server.target(), "-D"]);
    assert!(error.contains("names no controller"), "{error}");
    assert!(machine.written().contains(",duplicate_connect"), "{}", machine.written());
}

#[test]
fn connect_all_leaves_alone_what_is_connected() {
    let server = Server::start(&["mem:1M"]);
    let machine = Machine::connected(server.port);
    let out = ok(&["connect-all", &server.portal(), "-o", "json", "--root", machine.root()]);
    let report = json(&out);
    assert_eq!(report["skipped"][0]["SubsystemNQN"], NQN, "{report}");
    assert_eq!(report["skipped"][0]["reason"], "already connected as nvme4");
    assert!(report["connected"].as_array().unwrap().is_empty());
    assert_eq!(machine.written(), KNOWN);
}

/// A target that refers to discovery controllers at these addresses.
fn refers_to(addresses: &[String]) -> String {
    let referrals = addresses
        .iter()
        .map(|address| format!("\n[[discovery.referral]]\naddress = \"{address}\"\n"));
    CONFIG.to_owned() + &referrals.collect::<String>()
}

#[test]
fn referrals_that_lead_back_are_followed_once() {
    let first = Controlled::start(CONFIG);
    let first_address = format!("127.0.0.1:{}", first.server.port);
    let second = Controlled::start(&refers_to(&[first_address]));
    first.edit(&refers_to(&[format!("127.0.0.1:{}", second.server.port)]));
    first.server.send("-HUP");
    eventually("the first refers to the second", || {
        text(&ok(&["discover", &first.server.portal()])).contains("referral")
    });
    let machine = Machine::with_device();
    let args = ["connect-all", &first.server.portal(), "-o", "json", "--root", machine.root()];
    let output = common::run(&args);
    // Both have the same subsystem, which is another way to it.
    let report = json(&output.stdout);
    let places: Vec<_> =
        report["failed"].as_array().unwrap().iter().map(|entry| entry["place"].clone()).collect();
    let ports = [first.server.port, second.server.port];
    assert_eq!(places, ports.map(|port| format!("tcp 127.0.0.1 {port}")), "{report}");
    let said = text(&output.stderr);
    assert!(!said.contains("there are more") && !said.contains("referral"), "{said}");
}

#[test]
fn where_there_is_nothing_for_this_host_connect_all_says_so() {
    let server = Server::start_with(&["--nqn", NQN, "--allow", "nqn.2026-01.org.example:other"]);
    let machine = Machine::with_device();
    let out = ok(&["connect-all", &server.portal(), "--root", machine.root()]);
    assert_eq!(text(&out), "the discovery log has no subsystem for this host\n");
}

#[test]
fn connect_all_follows_referrals_and_goes_on_after_failures() {
    let other = Server::start_with(&["--nqn", "nqn.2026-01.org.example:other"]);
    let nobody = "127.0.0.1:1".to_owned();
    let first = Controlled::start(&refers_to(&[format!("127.0.0.1:{}", other.port), nobody]));
    let machine = Machine::with_device();
    let args = ["connect-all", &first.server.portal(), "-o", "json", "--root", machine.root()];
    let output = common::run(&args);
    assert_eq!(output.status.code(), Some(1));
    let report = json(&output.stdout);
    let failed: Vec<_> =
        report["failed"].as_array().unwrap().iter().map(|entry| &entry["SubsystemNQN"]).collect();
    assert_eq!(failed, [NQN, "nqn.2026-01.org.example:other"], "{report}");
    let said = text(&output.stderr);
    assert!(said.contains("cannot follow the referral to 127.0.0.1:1: "), "{said}");
    assert!(said.ends_with("nvmf: 2 of 2 subsystems were not connected\n"), "{said}");
}

#[test]
fn list_shows_disks_and_with_verbose_controllers_and_paths() {
    let machine = Machine::connected(4420);
    let shown = machine.shows(&["list"]);
    let disk = shown.lines().find(|line| line.starts_with("/dev/nvme3n1")).unwrap();
    for part in ["1M", "512", NQN, "nvme4 (connecting, non-optimized)"] {
        assert!(disk.contains(part), "no {part} in {shown}");
    }
    let shown = machine.shows(&["list", "--verbose"]);
    for part in [
        &format!("nvme-subsys3 {NQN}, numa"),
        "traddr=127.0.0.1,trsvcid=4420",
        "nvme3c4n1",
        "non-optimized",
    ] {
        assert!(shown.contains(part), "no {part} in {shown}");
    }
}

#[test]
fn list_in_json_has_the_names_of_nvme_cli() {
    let machine = Machine::connected(4420);
    let host = &json(machine.shows(&["list", "-o", "json"]).as_bytes())["Devices"][0];
    assert_eq!(host["HostNQN"], HOST[1]);
    let subsystem = &host["Subsystems"][0];
    assert_eq!(subsystem["SubsystemNQN"], NQN);
    let controller = &subsystem["Controllers"][0];
    assert_eq!(
        (&controller["Controller"], &controller["State"]),
        (&"nvme4".into(), &"connecting".into())
    );
    assert_eq!(controller["Paths"][0]["ANAState"], "non-optimized");
    let namespace = &subsystem["Namespaces"][0];
    assert_eq!(
        (&namespace["NameSpace"], &namespace["PhysicalSize"]),
        (&"nvme3n1".into(), &(1 << 20).into())
    );
}

#[test]
fn a_machine_without_nvme_has_nothing_to_list_and_nothing_to_disconnect() {
    let machine = Machine::new();
    assert_eq!(machine.shows(&["list"]), "no NVMe subsystems\n");
    assert_eq!(machine.shows(&["list", "--verbose"]), "no NVMe subsystems\n");
    assert_eq!(
        json(machine.shows(&["list", "-o", "json"]).as_bytes())["Devices"],
        serde_json::json!([])
    );
    assert_eq!(machine.shows(&["disconnect-all"]), "disconnected 0 controller(s)\n");
}

#[test]
fn disconnect_says_what_is_not_there_and_what_does_not_go() {
    let machine = Machine::connected(4420);
    let error = machine.refuses(1, &["disconnect", "-d", "nvme9"]);
    assert!(error.contains("no controller nvme9") && error.contains("nvmf list"), "{error}");
    let error = machine.refuses(1, &["disconnect", "-d", "nvme3n1"]);
    assert!(error.contains("nvme3n1 is a disk"), "{error}");
    let error = machine.refuses(1, &["disconnect", "-n", "nqn.2026-01.org.example:other"]);
    assert!(error.contains("not connected to nqn.2026-01.org.example:other"), "{error}");
    // Nobody takes it away here, but it was told to go.
    let error = machine.refuses(1, &["disconnect-all", "--timeout", "0.2"]);
    assert!(error.contains("nvme4 is still there") && error.contains("--timeout"), "{error}");
    let told =
        fs::read_to_string(Path::new(machine.root()).join("sys/devices/nvme4/delete_controller"));
    assert_eq!(told.unwrap(), "1");
}

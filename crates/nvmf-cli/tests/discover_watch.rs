//! `nvmf discover --watch`: what changes is told soon, also after the target was gone.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "tests may stop at a surprise")]

mod common;

use std::io::{BufRead, BufReader};
use std::process::{self, Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use common::controlled::{CONFIG, Controlled};
use common::{HOST, NQN, json, nvmf};
use serde_json::Value;

const OTHER: &str = "nqn.2026-01.org.example:other";

/// A running `nvmf discover --watch`.
struct Watch {
    child: Child,
    lines: Receiver<String>,
}

impl Watch {
    fn start(args: &[&str]) -> Self {
        let mut command = nvmf();
        command.args(["discover", "--watch"]).args(args).args(HOST).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { child, lines: receiver }
    }

    #[track_caller]
    fn line(&self) -> String {
        let line = self.lines.recv_timeout(Duration::from_secs(20));
        line.unwrap_or_else(|_| panic!("it tells nothing"))
    }

    /// The next event, which has to be this one.
    #[track_caller]
    fn event(&self, name: &str) -> Value {
        let event = json(self.line().as_bytes());
        assert_eq!(event["event"], name, "{event}");
        event
    }

    #[track_caller]
    fn nothing_more(&self) {
        let more = self.lines.recv_timeout(Duration::from_millis(400));
        assert_eq!(more, Err(RecvTimeoutError::Timeout));
    }

    /// Ends it as a person would.
    fn end(mut self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
        let begun = Instant::now();
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The names of a list of entries.
fn names(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|one| one["subnqn"].as_str().unwrap()).collect()
}

#[test]
fn changes_are_told_within_a_second() {
    let target = Controlled::start(CONFIG);
    let watch = Watch::start(&[&target.server.portal(), "-o", "json"]);
    let first = watch.event("connected");
    assert!(names(&first["added"]).contains(&NQN), "{first}");
    assert_eq!(first["trsvcid"], target.server.port.to_string());

    let mut fastest = Duration::MAX;
    for _ in 0..3 {
        for (what, list) in [("add", "added"), ("remove", "removed")] {
            let mut command = vec!["subsystem", what, OTHER];
            if what == "add" {
                command.extend(["--allow", "any"]);
            }
            let begun = Instant::now();
            target.ctl(&command);
            let event = watch.event("changed");
            fastest = fastest.min(begun.elapsed());
            assert_eq!(names(&event[list]), [OTHER], "{event}");
            assert!(event["genctr"].as_u64() > first["genctr"].as_u64(), "{event}");
        }
    }
    // A machine may be busy for a second, but not all the time.
    assert!(fastest < Duration::from_secs(1), "{fastest:?}");
    // A namespace is nothing that discovery tells of.
    target.ctl(&["namespace", "add", NQN, "mem:1M"]);
    watch.nothing_more();
    watch.end("-TERM");
}

#[test]
fn people_read_what_came_and_what_went() {
    let target = Controlled::start(CONFIG);
    let portal = target.server.portal();
    let watch = Watch::start(&[&portal]);
    let head = watch.line();
    assert!(head.starts_with(&format!("{portal} connected, generation ")), "{head}");
    let entries = [watch.line(), watch.line()];
    assert!(
        entries.iter().any(|line| line.starts_with("  + ") && line.contains(NQN)),
        "{entries:?}"
    );
    target.ctl(&["subsystem", "add", OTHER, "--allow", "any"]);
    assert!(watch.line().starts_with(&format!("{portal} changed, generation ")));
    assert!(watch.line().starts_with(&format!("  + {OTHER}")));
    target.ctl(&["subsystem", "remove", OTHER]);
    watch.line();
    assert!(watch.line().starts_with(&format!("  - {OTHER}")));
    watch.end("-INT");
}

#[test]
fn a_target_that_was_gone_is_watched_again_and_only_what_differs_is_told() {
    // An address that no other test has: nobody takes it while the target is gone.
    let [.., high, low] = process::id().to_be_bytes();
    let listen = format!("127.{}.{low}.201:4420", 1 + high % 254);
    let target = Controlled::start_with_state(&CONFIG.replace("127.0.0.1:0", &listen));
    let watch = Watch::start(&[&format!("nvme+tcp://{listen}"), "-o", "json"]);
    watch.event("connected");
    target.ctl(&["subsystem", "add", OTHER, "--allow", "any"]);
    assert_eq!(names(&watch.event("changed")["added"]), [OTHER]);

    let target = target.start_again_after_kill().unwrap();
    let lost = watch.event("lost");
    assert!(lost["error"].is_string(), "{lost}");
    let again = watch.event("connected");
    for list in ["added", "removed", "changed"] {
        assert_eq!(names(&again[list]), [""; 0], "{again}");
    }
    target.ctl(&["subsystem", "remove", OTHER]);
    assert_eq!(names(&watch.event("changed")["removed"]), [OTHER]);
    watch.end("-TERM");
}

#[test]
fn a_referral_that_comes_is_watched_and_one_that_goes_is_not() {
    let other = Controlled::start(CONFIG);
    let target = Controlled::start(CONFIG);
    let watch = Watch::start(&[&target.server.portal(), "-o", "json"]);
    watch.event("connected");
    let port = other.server.port;
    let referral = format!("\n[[discovery.referral]]\naddress = \"127.0.0.1:{port}\"\n");
    target.edit(&format!("{CONFIG}{referral}"));
    target.ctl(&["reload"]);
    assert_eq!(watch.event("changed")["added"][0]["trsvcid"], port.to_string());
    assert_eq!(watch.event("connected")["trsvcid"], port.to_string());
    other.ctl(&["subsystem", "add", OTHER, "--allow", "any"]);
    let told = watch.event("changed");
    assert_eq!((&told["trsvcid"], names(&told["added"])), (&port.to_string().into(), vec![OTHER]));

    target.edit(CONFIG);
    target.ctl(&["reload"]);
    watch.event("changed");
    assert_eq!(watch.event("left")["trsvcid"], port.to_string());
    other.ctl(&["subsystem", "remove", OTHER]);
    watch.nothing_more();
    watch.end("-TERM");
}

#[test]
fn one_that_is_not_there_is_lost_once_and_comes_when_it_comes() {
    let [.., high, low] = process::id().to_be_bytes();
    let listen = format!("127.{}.{low}.202:4420", 1 + high % 254);
    let watch = Watch::start(&[&format!("nvme+tcp://{listen}"), "-o", "json"]);
    let lost = watch.event("lost");
    assert!(lost["error"].as_str().unwrap().contains("refused"), "{lost}");
    watch.nothing_more();
    let _target = Controlled::start(&CONFIG.replace("127.0.0.1:0", &listen));
    assert!(names(&watch.event("connected")["added"]).contains(&NQN));
    watch.end("-TERM");
}

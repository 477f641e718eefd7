//! What nvmet cannot do is refused, with line and key.

use super::{ANY, IMAGES, simple};
use crate::kernel::Wanted;

/// The one problem of a text, without its line.
#[track_caller]
fn refused(toml: &str) -> (usize, String) {
    let error = Wanted::from_toml(toml).map(drop).unwrap_err();
    let [problem] = error.problems() else { panic!("{error}") };
    (problem.line.unwrap(), format!("{}: {}", problem.key, problem.message))
}

#[test]
fn what_nvmet_cannot_do_is_refused_with_line_and_key() {
    // Behind a line of `simple`, counted from 1; a text; where, and what is said.
    let cases: [(usize, &str, usize, &str); 14] = [
        (1, "[discovery]\nmdns = true\n", 3, "discovery.mdns: nvmet does not announce itself"),
        (
            1,
            "[[discovery.referral]]\naddress = \"192.0.2.8:8009\"\nnqn = \"nqn.2026-01.org:d\"",
            4,
            "discovery.referral[0].nqn: nvmet refers to the well-known",
        ),
        (1, "[metrics]\nlisten = \"127.0.0.1:1\"", 2, "metrics: nvmet has no metrics"),
        (
            1,
            "[transport]\nheader-digest = false",
            3,
            "transport.header-digest: nvmet gives digests",
        ),
        (1, "[transport]\ndata-digest = false", 3, "transport.data-digest: nvmet gives digests"),
        (1, "[transport]\nmax-connections = 9", 3, "transport.max-connections: nvmet does not"),
        (
            1,
            "[transport]\nin-capsule = 1008",
            3,
            "transport.in-capsule: nvmet takes the 1024 bytes",
        ),
        (6, "max-io-queues = 129", 7, "subsystem[0].max-io-queues: nvmet has at most 128"),
        (6, "max-transfer = \"128K\"", 7, "subsystem[0].max-transfer: nvmet does not bound"),
        (6, "max-queue-entries = 64", 7, "subsystem[0].max-queue-entries: nvmet's queues"),
        (6, "static-controllers = 3", 7, "subsystem[0].static-controllers: nvmet makes"),
        (8, "read-only = true", 9, "subsystem[0].namespace[0].read-only: nvmet protects"),
        (8, "eui64 = \"0123456789abcdef\"", 9, "subsystem[0].namespace[0].eui64: nvmet's"),
        (
            8,
            "[subsystem.namespace.limits]\niops = 1",
            9,
            "subsystem[0].namespace[0].limits: nvmet does not limit",
        ),
    ];
    for (after, text, line, said) in cases {
        let mut lines: Vec<String> = simple(ANY).lines().map(str::to_owned).collect();
        lines.insert(after, text.to_owned());
        let (at, message) = refused(&lines.join("\n"));
        assert!(message.starts_with(said), "{message}");
        assert_eq!(at, line, "{message}");
    }
    assert!(Wanted::from_toml(&simple(ANY)).is_ok());
}

#[test]
fn sources_that_nvmet_does_not_have_are_refused() {
    let right = IMAGES.source("a", false);
    let other = if right.contains("bs=4096") { "bs=512" } else { "bs=4096" };
    let path = IMAGES.path("a");
    let wrong_blocks = format!("file:{},{other}", path.display());
    for (source, said) in [
        ("mem:1M".to_owned(), "nvmet has files and block devices only"),
        ("null:1M".to_owned(), "nvmet has files and block devices only"),
        (format!("{right},ro"), "nvmet opens all files for writing"),
        (wrong_blocks, "this asks for blocks of "),
        ("file:/nowhere/at/all".to_owned(), "cannot open /nowhere/at/all: no such file"),
        (format!("file:{}", IMAGES.0.path().display()), "cannot serve "),
    ] {
        let (line, message) = refused(&simple(ANY).replace(&right, &source));
        assert_eq!(line, 8);
        let message = message.strip_prefix("subsystem[0].namespace[0].source: ").unwrap();
        assert!(message.starts_with(said), "{message}");
    }
}

#[test]
fn names_are_of_directories() {
    let toml = simple(ANY).replace("example:a", "example:a/b");
    assert!(refused(&toml).1.starts_with("subsystem[0].nqn: nvmet makes a directory"));
    let hosts = "hosts = [\"nqn.2026-01.org.example:h\", \"nqn.2026-01.org.example:a/b\"]";
    assert!(
        refused(&simple(hosts)).1.starts_with("subsystem[0].hosts[1]: nvmet makes a directory")
    );
}

#[test]
fn a_subsystem_is_not_called_almost_like_discovery() {
    let discovery = "[discovery]\nnqn = \"nqn.2026-01.org.example:a\"\n";
    let toml = format!("{discovery}{}", simple(ANY).replace("example:a", "example:ab"));
    assert!(refused(&toml).1.starts_with("subsystem[0].nqn: this begins with discovery.nqn"));
}

#[test]
fn a_namespace_of_some_hosts_is_refused() {
    let toml = format!("{}hosts = [\"nqn.2026-01.org.example:h\"]\n", simple(ANY));
    assert!(refused(&toml).1.starts_with("subsystem[0].namespace[0].hosts: nvmet shows all"));
}

#[test]
fn a_port_has_a_number_and_something_to_offer() {
    let toml = simple(ANY).replace(":4420", ":0");
    assert!(refused(&toml).1.starts_with("port[0].listen: nvmet would not say"));
    let toml = simple(ANY).replace("[[subsystem]]", "subsystems = []\n[[subsystem]]");
    let (line, message) = refused(&toml);
    assert!(message.starts_with("port[0].subsystems: nvmet listens only where"), "{message}");
    assert_eq!(line, 4);
}

#[test]
fn one_file_by_two_names_is_refused() {
    let link = IMAGES.0.path().join("link to b");
    let _ = std::fs::remove_file(&link);
    std::os::unix::fs::symlink(IMAGES.path("b"), &link).unwrap();
    let right = IMAGES.source("b", false);
    let linked =
        right.replace(&IMAGES.path("b").display().to_string(), &link.display().to_string());
    let namespace = format!("[[subsystem.namespace]]\nsource = \"{right}\"\n");
    let toml = format!("{}{namespace}{}", simple(ANY), namespace.replace(&right, &linked));
    let (_, message) = refused(&toml);
    assert!(
        message.starts_with("subsystem[0].namespace[2].source: namespace 2 has the same UUID"),
        "{message}"
    );
}

#[test]
fn all_that_is_wrong_is_said_at_once_in_the_order_of_lines() {
    let toml = format!("[metrics]\nlisten = \"127.0.0.1:1\"\n{}read-only = true", simple(ANY));
    let error = Wanted::from_toml(&toml).unwrap_err();
    let lines: Vec<_> = error.problems().iter().map(|problem| problem.line.unwrap()).collect();
    assert_eq!(lines, [1, 11]);
}

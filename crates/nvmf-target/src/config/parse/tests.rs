//! Errors name line and key, all at once.

use proptest::prelude::*;

use super::super::testing::EVERYTHING;
use super::*;

/// All that is wrong, a line each.
fn wrong(text: &str) -> Vec<String> {
    let error = Layout::from_toml(text).expect_err(text);
    error.named("t.toml").lines().collect()
}

#[test]
fn a_text_that_is_no_toml_is_said_with_its_line() {
    let lines = wrong("[discovery]\nmdns = true\n[[port\n");
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].starts_with("t.toml:3: "), "{lines:?}");
    assert!(wrong("a = \n")[0].starts_with("t.toml:1: "));
}

#[test]
fn unknown_keys_are_all_named_with_what_is_known_and_what_was_meant() {
    let lines = wrong(
        "[[port]]\nlisten = \"127.0.0.1:4420\"\nsubsytems = []\n\n[[subsystem]]\n\
         nqn = \"nqn.2026-01.org.example:a\"\n[[subsystem.namespace]]\nsource = \"mem:1M\"\n\
         colour = 1\n[extra]\n[metrics]\nlisten = \"127.0.0.1:1\"\nx.y = 1\n",
    );
    assert_eq!(
        lines,
        [
            "t.toml:3: port[0].subsytems: there is no such key here; did you mean `subsystems`? \
             Known are id, listen, subsystems, ana",
            "t.toml:9: subsystem[0].namespace[0].colour: there is no such key here; known are id, \
             source, uuid, nguid, eui64, ana-group, read-only, hosts, limits",
            "t.toml:10: extra: there is no such key here; known are discovery, metrics, \
             transport, port, subsystem",
            "t.toml:13: metrics.x: there is no such key here; known are listen",
        ]
    );
}

#[test]
fn values_of_another_kind_and_missing_keys_are_all_named() {
    let lines = wrong(
        "[[port]]\nid = \"one\"\nlisten = 4420\n\n[[port]]\nid = -1\n\n[[subsystem]]\n\
         nqn = \"nqn.2026-01.org.example:a\"\nhosts = \"all\"\n[[subsystem]]\nhosts = [1]\n\
         [[subsystem.namespace]]\nid = 1\n[subsystem.namespace.limits]\nbandwidth = -5\n\
         iops = 5000000000\n",
    );
    let starts = [
        "t.toml:2: port[0].id: invalid type: string \"one\"",
        "t.toml:3: port[0].listen: invalid type: integer `4420`",
        "t.toml:5: port[1].listen: this key is missing",
        "t.toml:6: port[1].id: invalid value: integer `-1`",
        "t.toml:10: subsystem[0].hosts: invalid value: string \"all\", expected a list of host \
         NQNs, or \"any\"",
        "t.toml:11: subsystem[1].nqn: this key is missing",
        "t.toml:12: subsystem[1].hosts[0]: invalid type: integer `1`",
        "t.toml:13: subsystem[1].namespace[0].source: this key is missing",
        "t.toml:16: subsystem[1].namespace[0].limits.bandwidth: invalid value: integer `-5`",
        "t.toml:17: subsystem[1].namespace[0].limits.iops: invalid value: integer `5000000000`",
    ];
    assert_eq!(lines.len(), starts.len(), "{lines:#?}");
    for (line, start) in lines.iter().zip(starts) {
        assert!(line.starts_with(start), "{start:?} does not begin\n{line:?}");
        assert_eq!(line.lines().count(), 1);
    }
}

#[test]
fn what_does_not_fit_has_the_line_of_its_key_or_of_what_the_key_would_be_in() {
    let lines = wrong(
        "# first\n[[port]]\nlisten = \"192.0.2.7:4420\"\n\n[[subsystem]]\n\
         nqn = \"nqn.2026-01.org.example:a\"\n\n[[subsystem.namespace]]\nsource = \"mem:1M\"\n\
         [[subsystem.namespace]]\nsource = \"mem:1M\"\n  uuid = \"x\"\n\
         [subsystem.namespace.limits]\n\
         iops = 0\n",
    );
    let starts = [
        "t.toml:5: subsystem[0].hosts: ",
        "t.toml:12: subsystem[0].namespace[1].uuid: ",
        "t.toml:14: subsystem[0].namespace[1].limits.iops: ",
    ];
    assert_eq!(lines.len(), starts.len(), "{lines:#?}");
    for (line, start) in lines.iter().zip(starts) {
        assert!(line.starts_with(start), "{start:?} does not begin\n{line:?}");
    }
    // Inline tables, and strings over many lines, have lines, too.
    let lines = wrong("port = [\n  { listen = \"x\" },\n  { listen = \"\"\"\ny\"\"\" },\n]\n");
    assert!(lines[0].starts_with("t.toml:2: port[0].listen: "), "{lines:?}");
    assert!(lines[1].starts_with("t.toml:3: port[1].listen: "), "{lines:?}");
}

#[test]
fn a_file_full_of_errors_is_given_up() {
    let keys: String = (0..1000).map(|n| format!("k{n} = 1\n")).collect();
    assert_eq!(wrong(&keys).len(), MOST);
}

#[test]
fn a_file_is_read_and_named_or_said_to_be_unreadable() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("target.toml");
    let error = Layout::read(&path).unwrap_err().to_string();
    assert!(error.starts_with(&format!("cannot read {}: ", path.display())), "{error}");
    std::fs::write(&path, EVERYTHING).unwrap();
    assert_eq!(Layout::read(&path).unwrap(), Layout::from_toml(EVERYTHING).unwrap());
    std::fs::write(&path, "x = 1").unwrap();
    let error = Layout::read(&path).unwrap_err().to_string();
    assert!(error.starts_with(&format!("{}:1: x: ", path.display())), "{error}");
    File::create(&path).unwrap().set_len(LONGEST + 1).unwrap();
    let error = Layout::read(&path).unwrap_err().to_string();
    assert!(error.contains("longer than 4194304 bytes"), "{error}");
}

#[test]
fn the_nearest_word_is_near() {
    assert_eq!(nearest("lisen", &["listen", "id"]), Some("listen"));
    assert_eq!(nearest("subsystem", &["subsystems", "ana"]), Some("subsystems"));
    assert_eq!(nearest("colour", &["listen", "id"]), None);
    assert_eq!(edits("kitten", "sitting"), 3);
    assert_eq!(edits("", "abc"), 3);
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(
        text in "\\PC{0,40}",
        at in 0..EVERYTHING.len(),
        cut in 0_usize..40,
    ) {
        let _ = Layout::from_toml(&text);
        // A file of which a piece is another.
        let mut whole = EVERYTHING.to_owned();
        whole.replace_range(at..(at + cut).min(EVERYTHING.len()), &text);
        let _ = Layout::from_toml(&whole);
    }
}

//! The examples, run as their readers run them.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "tests may stop at a surprise")]

#[allow(dead_code, reason = "the tests of the namespace use all of it")]
#[path = "namespace/target.rs"]
mod target;

use std::process::Command;

use target::{Running, nqn, pattern};

/// Runs an example of this crate, which is built beside its tests, to its end; says what it printed.
#[track_caller]
fn run(example: &str, arguments: &[String]) -> String {
    let test = std::env::current_exe().unwrap();
    let built = test.ancestors().nth(2).unwrap().join("examples").join(example);
    let output = Command::new(&built).args(arguments).output().unwrap_or_else(|e| {
        panic!("{}: {e}; `cargo test -p nvmf-host --examples` builds it", built.display())
    });
    let (printed, failed) = (output.stdout, String::from_utf8_lossy(&output.stderr).into_owned());
    assert!(output.status.success(), "{example}: {failed}");
    String::from_utf8(printed).unwrap()
}

#[test]
fn the_namespace_is_used_by_two_paths() {
    let target = Running::start("mem:4M", 2);
    let paths = target.addresses.iter().map(ToString::to_string);
    let arguments: Vec<_> = [nqn().to_string()].into_iter().chain(paths).collect();
    let printed = run("namespace", &arguments);
    for line in [
        "4194304 bytes in blocks of 4096\n",
        "read: anywhere, of any length\n",
        "read: a line\n",
        &format!("path: {} ", arguments[1]),
        &format!("path: {} ", arguments[2]),
    ] {
        assert!(printed.contains(line), "{line:?} is not in {printed}");
    }
    let disk = target.namespace();
    assert!(disk.read_bytes_at(1 << 20, 7).unwrap() == b"a line\n"[..]);
    assert!(disk.read_bytes_at(8192, 4096).unwrap() == vec![0; 4096]);
}

#[test]
fn a_file_goes_to_the_disk_and_back_by_tokio() {
    let target = Running::start("mem:4M", 1);
    let (data, directory) = (pattern(1, 3_000_001), tempfile::tempdir().unwrap());
    let file = directory.path().join("file");
    std::fs::write(&file, &data).unwrap();
    let arguments =
        [nqn().to_string(), target.addresses[0].to_string(), file.display().to_string()];
    let printed = run("tokio", &arguments);
    let expected = "copied 3000001 bytes to the disk\nread 262144 bytes by 64 tasks\n\
                    copied 3000001 bytes from the disk\n";
    assert_eq!(printed, expected);
    assert!(target.namespace().read_bytes_at(0, data.len()).unwrap() == data);
    assert!(std::fs::read(directory.path().join("file.copy")).unwrap() == data);
}

//! Where the command has its memory from.

#![cfg(all(feature = "jemalloc", target_os = "linux", target_arch = "x86_64", target_env = "gnu"))]

use assert_cmd::Command;

#[test]
fn the_allocator_has_the_options_that_were_meant() {
    let output = Command::cargo_bin("nvmf")
        .unwrap()
        .arg("--version")
        .env("_RJEM_MALLOC_CONF", "stats_print:true")
        .output()
        .unwrap();
    let report = String::from_utf8_lossy(&output.stderr);
    for option in ["opt.thp: \"always\"", "opt.narenas: 4", "opt.background_thread: true"] {
        assert!(report.contains(option), "no `{option}` in what jemalloc says:\n{report}");
    }
}

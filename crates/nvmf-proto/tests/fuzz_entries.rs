//! The fuzz targets' entry points under proptest, so that they also run where there is no fuzzer.

#![allow(clippy::unwrap_used, reason = "tests stop at the first surprise")]

use nvmf_fuzz_entry as entry;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

/// Bytes of which many mean something in an NVMe/TCP stream. Of one seed, fewer bytes are the
/// first of more bytes, so that a failure shrinks.
fn bytes(seed: u64, length: usize) -> Vec<u8> {
    const TELLING: [u8; 8] = [24, 28, 72, 76, 128, 152, 0x5a, 0xff];
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..length)
        .map(|_| match next() {
            [0..144, _, byte, ..] => byte,
            [144..224, _, byte, ..] => byte & 0xf,
            [_, _, byte, ..] => TELLING[usize::from(byte & 7)],
        })
        .collect()
}

fn run(entry: fn(&[u8]), longest: usize, cases: u32) {
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    TestRunner::new(config)
        .run(&(any::<u64>(), 0..longest), |(seed, length)| {
            entry(&bytes(seed, length));
            Ok(())
        })
        .unwrap();
}

macro_rules! entries {
    ($($name:ident: $longest:literal bytes, $cases:literal cases;)*) => {
        $( #[test]
        fn $name() {
            run(entry::$name, $longest, $cases);
        } )*

        const RUN: &[&str] = &[$(stringify!($name)),*];
    };
}

entries! {
    nqn: 300 bytes, 4000 cases;
    identify: 4096 bytes, 1000 cases;
    identify_descriptors: 600 bytes, 4000 cases;
    namespace: 600 bytes, 4000 cases;
    discovery_log: 4096 bytes, 1000 cases;
    ana_log: 600 bytes, 4000 cases;
    log_pages: 4096 bytes, 1000 cases;
    get_log_page: 80 bytes, 4000 cases;
    print: 4200 bytes, 1000 cases;
    connect: 1200 bytes, 4000 cases;
    pdu_decoder_host: 600 bytes, 4000 cases;
    pdu_decoder_controller: 600 bytes, 4000 cases;
    host_connection: 600 bytes, 3000 cases;
    controller_connection: 600 bytes, 3000 cases;
}

#[test]
fn every_fuzz_target_is_run_here_and_has_an_entry() {
    let fuzz = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/fuzz_targets");
    let mut targets: Vec<String> = std::fs::read_dir(fuzz)
        .unwrap()
        .map(|file| file.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    let mut run: Vec<String> = RUN.iter().map(ToString::to_string).collect();
    let mut all: Vec<String> = entry::ALL.iter().map(|(name, _)| name.to_string()).collect();
    for list in [&mut targets, &mut run, &mut all] {
        list.sort_unstable();
    }
    assert_eq!(targets, run);
    assert_eq!(all, run);
}

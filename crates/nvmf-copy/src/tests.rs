//! Whole copies, between endpoints in memory that fail at any moment.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use proptest::prelude::*;
use tempfile::TempDir;

use crate::testing::Memory;
use crate::{Copier, Error, Journal, JournalError, Phase, Report, Sparse};

/// Bytes with stretches of zeroes, the same every time.
fn content(length: usize, data: &[(usize, usize)]) -> Vec<u8> {
    let mut bytes = vec![0; length];
    for (at, long) in data {
        let at = (*at).min(length);
        let end = (at + long).min(length);
        for (place, byte) in (at..end).zip(&mut bytes[at..end]) {
            *byte = u8::try_from(place % 251).unwrap() | 1;
        }
    }
    bytes
}

fn some() -> Vec<u8> {
    content(1_000_000, &[(0, 50_000), (300_000, 200_000), (900_000, 100_000)])
}

/// A journal's place, and what is in it.
struct Noted(TempDir);

impl Noted {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn journal(&self) -> Journal {
        Journal::at(self.path())
    }

    fn path(&self) -> std::path::PathBuf {
        self.0.path().join("journal")
    }

    /// Ranges that are said to be done; `None` if there is no journal.
    fn done(&self) -> Option<Vec<(usize, usize)>> {
        done_in(&self.path())
    }
}

fn done_in(path: &Path) -> Option<Vec<(usize, usize)>> {
    let text = fs::read(path).ok()?;
    let found: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let place = |at: &serde_json::Value| usize::try_from(at.as_u64().unwrap()).unwrap();
    let ranges = found["done"].as_array().unwrap().iter();
    Some(ranges.map(|range| (place(&range[0]), place(&range[1]))).collect())
}

#[test]
fn what_is_copied_is_counted() {
    let source = Memory::new("a", some());
    let destination = Memory::new("b", vec![0xEE; 1_000_000]);
    let mut seen = Vec::new();
    let report = Copier::new(&source, &destination)
        .chunk(65_536)
        .verify(true)
        .progress(|progress| seen.push(progress))
        .run()
        .unwrap();
    assert!(*destination.bytes() == some());
    assert!(destination.durable() == some());
    assert_eq!(report.written + report.zeroed, 1_000_000);
    assert!(report.written >= 350_000 && report.written < 400_000, "{report:?}");
    assert!(report.verifying.is_some() && !report.source_changed);
    let last = |phase| seen.iter().rev().find(|seen| seen.phase == phase).unwrap();
    for phase in [Phase::Copy, Phase::Verify] {
        assert_eq!((last(phase).done, last(phase).length), (1_000_000, 1_000_000));
    }
}

#[test]
fn zeroes_in_the_data_are_written_or_not_as_asked() {
    for (map, sparse, most) in [
        (true, Sparse::Auto, 400_000),
        (false, Sparse::Auto, 400_000),
        (false, Sparse::Always, 400_000),
        (true, Sparse::Never, 1_000_000),
        (false, Sparse::Never, 1_000_000),
    ] {
        let source = Memory::new("a", some());
        let source = if map { source } else { source.without_map() };
        let destination = Memory::new("b", vec![0xEE; 1_000_000]);
        let report = Copier::new(&source, &destination).sparse(sparse).run().unwrap();
        assert!(*destination.bytes() == some());
        let written = report.written;
        assert!(written <= most && (sparse != Sparse::Never || written == most), "{report:?}");
    }
}

#[test]
fn a_difference_is_found_where_it_is_first() {
    let source = Memory::new("a", some());
    for at in [vec![0], vec![999_999], vec![499_999, 345_678, 999_999]] {
        let destination = Memory::new("b", vec![0; 2_000_000]).damaging(&at);
        let noted = Noted::new();
        let copy = Copier::new(&source, &destination).chunk(4096).verify(true);
        let failed = copy.offset(1_000_000).journal(noted.journal()).run().unwrap_err();
        let first = at.iter().min().unwrap();
        let Error::Differs { offset, source_offset, .. } = failed.error else {
            panic!("{failed}");
        };
        assert_eq!((offset, source_offset), (1_000_000 + first, *first));
        assert_eq!(failed.journal, None);
        assert!(noted.done().is_none(), "nothing is left to be gone on with");
    }
}

#[test]
fn ranges_that_do_not_fit_are_refused_before_anything_is_changed() {
    let source = Memory::new("a", vec![1; 1000]);
    let noted = Noted::new();
    let destination = Memory::new("b", vec![2; 1000]);
    let refused = |copy: Copier<'_>| copy.journal(noted.journal()).run().unwrap_err().to_string();
    let copy = || Copier::new(&source, &destination);
    let said = refused(copy().length(1001));
    assert!(said.contains("a has 1000 bytes, and not 1001 at offset 0"), "{said}");
    let said = refused(copy().source_offset(1001));
    assert!(said.contains("a has 1000 bytes"), "{said}");
    let said = refused(copy().source_offset(u64::MAX).length(u64::MAX));
    assert!(said.contains("nothing was copied"), "{said}");
    let said = refused(copy().offset(1));
    assert!(said.contains("b has 1000 bytes, and no room for 1000 at offset 1"), "{said}");
    let said = refused(copy().offset(u64::MAX));
    assert!(said.contains("no room"), "{said}");
    assert!(destination.bytes().iter().all(|byte| *byte == 2));
    assert!(noted.done().is_none(), "a journal was made");
}

#[test]
fn bytes_are_not_copied_over_themselves() {
    let bytes = Memory::new("a", some());
    let said = Copier::new(&bytes, &bytes).run().unwrap_err().to_string();
    assert!(said.contains("are the same"), "{said}");
    let half = |from, to| Copier::new(&bytes, &bytes).source_offset(from).offset(to);
    assert!(matches!(
        half(0, 499_999).length(500_000).run().unwrap_err().error,
        Error::Same { .. }
    ));
    assert!(matches!(
        half(499_999, 0).length(500_000).run().unwrap_err().error,
        Error::Same { .. }
    ));
    half(0, 500_000).length(500_000).run().unwrap();
    assert!(bytes.bytes()[500_000..] == some()[..500_000]);
    // What grows is emptied before, where no offset says that the rest stays.
    let file = Memory::new("a", some()).growing();
    let said = Copier::new(&file, &file).source_offset(600_000).length(1).run().unwrap_err();
    assert!(matches!(said.error, Error::Same { .. }));
}

#[test]
fn a_destination_that_grows_becomes_the_copy_or_keeps_its_rest() {
    let source = Memory::new("a", some());
    let whole = Memory::new("b", vec![0xEE; 2_000_000]).growing();
    Copier::new(&source, &whole).run().unwrap();
    assert!(*whole.bytes() == some());
    let part = Memory::new("b", vec![0xEE; 2000]).growing();
    Copier::new(&source, &part).offset(1000).run().unwrap();
    assert_eq!(part.bytes()[..1000], [0xEE; 1000]);
    assert!(part.bytes()[1000..] == some());
}

#[test]
fn a_copy_that_is_stopped_goes_on_where_it_was() {
    let source = Memory::new("a", some());
    let destination = Memory::new("b", vec![0xEE; 1_000_000]);
    let noted = Noted::new();
    let stop = AtomicBool::new(false);
    let copy = || Copier::new(&source, &destination).journal(noted.journal()).jobs(2).chunk(4096);
    // So slow that it is stopped long before its end.
    let failed = copy()
        .rate(200_000)
        .stop(&stop)
        .progress(|progress| stop.store(progress.done > 0, Ordering::Relaxed))
        .run()
        .unwrap_err();
    assert!(matches!(failed.error, Error::Stopped), "{failed}");
    assert_eq!(failed.journal.as_deref(), Some(noted.path().as_path()));
    assert!(failed.done > 0 && failed.done < failed.length, "{failed:?}");
    let report = copy().resume(true).run().unwrap();
    assert_eq!(report.resumed, failed.done);
    assert_eq!(report.resumed + report.written + report.zeroed, 1_000_000);
    assert!(*destination.bytes() == some());
    assert!(noted.done().is_none(), "the journal is there still");
}

#[test]
fn without_resuming_an_old_journal_is_of_no_account() {
    let source = Memory::new("a", some());
    let destination = Memory::new("b", vec![0xEE; 1_000_000]);
    let noted = Noted::new();
    fs::write(noted.path(), "something else").unwrap();
    let copy = || Copier::new(&source, &destination).journal(noted.journal());
    let refused = copy().resume(true).run().unwrap_err();
    assert!(matches!(refused.error, Error::Journal(JournalError::Malformed { .. })), "{refused}");
    assert!(destination.bytes().iter().all(|byte| *byte == 0xEE));
    copy().run().unwrap();
    assert!(*destination.bytes() == some() && noted.done().is_none());
}

#[test]
fn a_journal_of_another_copy_is_refused() {
    let noted = Noted::new();
    let other = [("a", 1_000_000), ("a", 999_999), ("x", 1_000_000)];
    let others = other.map(|(name, length)| {
        let mut bytes = some();
        bytes.truncate(length);
        Memory::new(name, bytes)
    });
    let destination = Memory::new("b", vec![0; 3_000_000]);
    let elsewhere = Memory::new("c", vec![0; 3_000_000]);
    let stop = AtomicBool::new(true);
    let copy = |from, to| Copier::new(from, to).journal(noted.journal()).length(5000);
    copy(&others[0], &destination).stop(&stop).run().unwrap_err();
    let refused = |copy: Copier<'_>| {
        let error = copy.resume(true).run().unwrap_err().to_string();
        assert!(error.contains("does not fit") && error.contains("begin anew"), "{error}");
        error
    };
    let said = refused(copy(&others[1], &destination));
    assert!(said.contains("its source, a, had 1000000 bytes and has 999999 bytes now"), "{said}");
    let said = refused(copy(&others[2], &destination));
    assert!(said.contains("its source was a (a), and is not x (x)"), "{said}");
    let said = refused(copy(&others[0], &elsewhere));
    assert!(said.contains("its destination was b"), "{said}");
    assert!(refused(copy(&others[0], &destination).length(5001)).contains("of 5000 bytes"));
    assert!(refused(copy(&others[0], &destination).offset(1)).contains("offset 0, and not at 1"));
    assert!(refused(copy(&others[0], &destination).source_offset(1)).contains("its source began"));
    copy(&others[0], &destination).resume(true).run().unwrap();
}

#[test]
fn ranges_in_a_journal_are_judged() {
    let source = Memory::new("a", some());
    let destination = Memory::new("b", vec![0; 1_000_000]);
    let noted = Noted::new();
    let stop = AtomicBool::new(true);
    let copy = || Copier::new(&source, &destination).journal(noted.journal());
    copy().stop(&stop).run().unwrap_err();
    let text = fs::read_to_string(noted.path()).unwrap();
    for bad in ["[[5,4]]", "[[0,1000001]]", "[[0,-1]]", "[[0]]", "[[0,1e30]]", "{}"] {
        fs::write(noted.path(), text.replace("\"done\":[]", &format!("\"done\":{bad}"))).unwrap();
        let error = copy().resume(true).run().unwrap_err().to_string();
        assert!(error.contains("not a journal"), "{bad}: {error}");
    }
    // Parts of blocks are done again: nobody shares a block with anybody.
    let done = "\"done\":[[0,4097],[5000,8193],[20000,999999]]";
    fs::write(noted.path(), text.replace("\"done\":[]", done)).unwrap();
    assert_eq!(copy().resume(true).run().unwrap().resumed, 4096 + 999_424 - 20_480);
}

#[test]
fn a_panic_in_an_endpoint_is_passed_on_and_nobody_waits() {
    let source = Memory::new("a", some());
    // Shorter than it says: the tests' endpoint does not survive that.
    let destination = Memory::new("b", vec![0; 1_000_000]).panicking();
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _ = Copier::new(&source, &destination).run();
    }));
    assert!(result.is_err());
}

/// A copy whose endpoints fail after so many calls.
#[derive(Debug, Clone)]
struct Trial {
    content: Vec<u8>,
    source_offset: usize,
    offset: usize,
    length: usize,
    map: bool,
    sparse: Sparse,
    jobs: usize,
    chunk: u64,
}

impl Trial {
    fn copier<'a>(&self, source: &'a Memory, destination: &'a Memory, noted: &Noted) -> Copier<'a> {
        Copier::new(source, destination)
            .source_offset(self.source_offset as u64)
            .offset(self.offset as u64)
            .length(self.length as u64)
            .sparse(self.sparse)
            .jobs(self.jobs)
            .chunk(self.chunk)
            .journal(noted.journal())
            .checkpoint_every(Duration::ZERO)
    }

    fn source(&self) -> Memory {
        let source = Memory::new("a", self.content.clone());
        if self.map { source } else { source.without_map() }
    }

    fn wanted(&self) -> &[u8] {
        &self.content[self.source_offset..self.source_offset + self.length]
    }

    /// Whether what is copied is there, and nothing else was touched.
    fn check(&self, bytes: &[u8]) -> Result<(), TestCaseError> {
        let end = self.offset + self.length;
        prop_assert!(bytes[self.offset..end] == *self.wanted(), "a byte is wrong");
        prop_assert!(bytes[..self.offset].iter().all(|byte| *byte == 0xEE), "before it");
        prop_assert!(bytes[end..].iter().all(|byte| *byte == 0xEE), "behind it");
        Ok(())
    }
}

prop_compose! {
    fn trial()(
        content in (1_usize..400_000, prop::collection::vec((0_usize..400_000, 1_usize..60_000), 0..6)),
        places in (any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0_usize..20_000),
        map: bool,
        sparse in prop::sample::select(vec![Sparse::Auto, Sparse::Always, Sparse::Never]),
        jobs in 1_usize..8,
        chunk in prop::sample::select(vec![4096_u64, 8192, 65_536, 1 << 20]),
    ) -> Trial {
        let content = self::content(content.0, &content.1);
        let source_offset = places.0.index(content.len());
        let length = places.1.index(content.len() - source_offset + 1);
        Trial { content, source_offset, offset: places.2, length, map, sparse, jobs, chunk }
    }
}

proptest! {
    // Each case is several copies, which sync a journal many times.
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn every_byte_arrives_and_no_other_changes(trial in trial()) {
        let (source, noted) = (trial.source(), Noted::new());
        let destination = Memory::new("b", vec![0xEE; trial.offset + trial.length + 5000]);
        let copy = trial.copier(&source, &destination, &noted).verify(true);
        let report = copy.run().unwrap();
        trial.check(&destination.bytes())?;
        trial.check(&destination.durable())?;
        prop_assert_eq!(report.written + report.zeroed, trial.length as u64);
        prop_assert!(noted.done().is_none());
    }

    #[test]
    fn what_a_target_lost_with_its_power_is_copied_again(
        trial in trial(),
        losses in prop::collection::vec(1_u64..60, 1..4),
    ) {
        let (source, noted) = (trial.source(), Noted::new());
        let destination = Memory::new("b", vec![0xEE; trial.offset + trial.length + 5000]);
        for calls in losses {
            destination.lose_power_after(calls);
            let report = trial.copier(&source, &destination, &noted).run().unwrap();
            trial.check(&destination.durable())?;
            let Report { written, zeroed, repeated, .. } = report;
            prop_assert_eq!(written + zeroed, trial.length as u64 + repeated);
            destination.forget();
        }
    }

    #[test]
    fn failures_and_losses_of_power_cost_nothing_that_was_noted(
        trial in trial(),
        failures in prop::collection::vec((1_u64..60, any::<bool>()), 0..5),
    ) {
        let (source, noted) = (trial.source(), Noted::new());
        let destination = Memory::new("b", vec![0xEE; trial.offset + trial.length + 5000]);
        for (calls, of_source) in failures {
            let failing = if of_source { &source } else { &destination };
            failing.fail_after(calls);
            let result = trial.copier(&source, &destination, &noted).resume(true).run();
            failing.repair();
            destination.lose_power();
            let Err(failed) = result else {
                trial.check(&destination.bytes())?;
                continue;
            };
            let told = failed.to_string();
            prop_assert!(told.contains("told to fail"), "{}", told);
            let done = noted.done().unwrap_or_default();
            prop_assert!(done.iter().map(|(from, to)| to - from).sum::<usize>() as u64 >= failed.done);
            let mut bytes = destination.bytes();
            let there = &mut bytes[trial.offset..trial.offset + trial.length];
            let mut garbage = 0;
            for (from, to) in &done {
                prop_assert!(there[*from..*to] == trial.wanted()[*from..*to], "noted and not there");
                there[garbage..*from].fill(0xAA);
                garbage = *to;
            }
            // Of what was not noted anything may have become.
            there[garbage..].fill(0xAA);
        }
        trial.copier(&source, &destination, &noted).resume(true).verify(true).run().unwrap();
        trial.check(&destination.bytes())?;
    }
}

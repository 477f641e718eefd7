//! Copies of files, as the file system has them.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "tests may stop at a surprise")]

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use nvmf_copy::{
    Copier, Error, FileDestination, FileError, FileSource, Journal, JournalError, Report, Sparse,
    Unfinished,
};
use tempfile::TempDir;

/// A folder with a file `from` in it.
struct Folder(TempDir);

impl Folder {
    fn with(content: &[u8]) -> Self {
        let folder = Self::new();
        fs::write(folder.path("from"), content).unwrap();
        folder
    }

    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    /// Copies `from` to `to`.
    fn copy(&self, with: impl Fn(Copier<'_>) -> Copier<'_>) -> Result<Report, Unfinished> {
        copy(&self.path("from"), &self.path("to"), with)
    }
}

fn copy(
    from: &Path,
    to: &Path,
    with: impl Fn(Copier<'_>) -> Copier<'_>,
) -> Result<Report, Unfinished> {
    let source = FileSource::open(from).unwrap();
    let destination = FileDestination::open(to).unwrap();
    let copier = Copier::new(&source, &destination).journal(Journal::beside(to));
    with(copier).run()
}

fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|at| u8::try_from(at % 251).unwrap() | 1).collect()
}

/// Bytes on the disk.
fn allocated(path: &Path) -> u64 {
    fs::metadata(path).unwrap().blocks() * 512
}

#[test]
fn files_of_any_size_become_the_same() {
    for length in [0, 1, 511, 4096, 4097, 1 << 20, (3 << 20) + 12_345] {
        let folder = Folder::with(&bytes(length));
        let report = folder.copy(|copier| copier.verify(true).chunk(65_536)).unwrap();
        assert!(folder.read("to") == bytes(length));
        assert_eq!(report.written, length as u64);
        assert!(!folder.path("to.nvmf-copy").exists(), "a journal is left");
        // What was there before goes, whether it was longer or shorter.
        fs::write(folder.path("from"), bytes(2000)).unwrap();
        folder.copy(|copier| copier).unwrap();
        assert!(folder.read("to") == bytes(2000));
    }
}

#[test]
fn with_an_offset_the_rest_of_a_file_stays() {
    let folder = Folder::with(&bytes(10_000));
    fs::write(folder.path("to"), [7; 20_000]).unwrap();
    folder.copy(|copier| copier.source_offset(100).offset(5000).length(3000)).unwrap();
    let mut expected = vec![7; 20_000];
    expected[5000..8000].copy_from_slice(&bytes(10_000)[100..3100]);
    assert!(folder.read("to") == expected);
    folder.copy(|copier| copier.offset(30_000)).unwrap();
    expected.resize(30_000, 0);
    expected.extend(bytes(10_000));
    assert!(folder.read("to") == expected);
}

/// A file of 64 MiB with 64 KiB of data at each of three places.
fn sparse_file(path: &Path) -> Vec<u8> {
    let file = File::create(path).unwrap();
    file.set_len(64 << 20).unwrap();
    let mut expected = vec![0; 64 << 20];
    for at in [0, 10_000_384, (64 << 20) - 65_536] {
        file.write_all_at(&bytes(65_536), at).unwrap();
        let at = usize::try_from(at).unwrap();
        expected[at..at + 65_536].copy_from_slice(&bytes(65_536));
    }
    expected
}

#[test]
fn holes_stay_holes_and_zeroes_become_some_where_that_is_asked() {
    let folder = Folder::new();
    let expected = sparse_file(&folder.path("from"));
    let most = 1 << 20;
    assert!(allocated(&folder.path("from")) < most, "this file system has no holes");

    let report = folder.copy(|copier| copier.verify(true)).unwrap();
    assert!(folder.read("to") == expected);
    assert!(allocated(&folder.path("to")) < most);
    assert!(report.written < most && report.zeroed > 60 << 20, "{report:?}");

    folder.copy(|copier| copier.sparse(Sparse::Never)).unwrap();
    assert!(folder.read("to") == expected);
    assert!(allocated(&folder.path("to")) >= 64 << 20);

    // Now the source has zeroes, and no holes.
    let (full, thin) = (folder.path("to"), folder.path("thin"));
    copy(&full, &thin, |copier| copier).unwrap();
    assert!(allocated(&thin) >= 64 << 20, "auto leaves zeroes what they are");
    copy(&full, &thin, |copier| copier.sparse(Sparse::Always)).unwrap();
    assert!(fs::read(&thin).unwrap() == expected && allocated(&thin) < most);

    // Holes are punched into what was there.
    fs::write(&thin, vec![9; 64 << 20]).unwrap();
    copy(&folder.path("from"), &thin, |copier| copier.offset(0)).unwrap();
    assert!(fs::read(&thin).unwrap() == expected && allocated(&thin) < most);
}

#[test]
fn a_file_is_not_copied_over_itself_by_any_name() {
    let folder = Folder::with(&bytes(5000));
    fs::hard_link(folder.path("from"), folder.path("hard")).unwrap();
    symlink(folder.path("from"), folder.path("soft")).unwrap();
    for name in ["from", "hard", "soft"] {
        let refused = copy(&folder.path("from"), &folder.path(name), |copier| copier).unwrap_err();
        assert!(matches!(refused.error, Error::Same { .. }), "{name}: {refused}");
        assert!(folder.read("from") == bytes(5000), "{name}");
    }
    // Within a file is fine, as long as nothing is read that was written.
    copy(&folder.path("from"), &folder.path("hard"), |copier| copier.offset(5000)).unwrap();
    assert!(folder.read("from") == [bytes(5000), bytes(5000)].concat());
}

#[test]
fn what_is_no_file_is_refused_by_what_it_is() {
    let folder = Folder::with(b"x");
    let source = |path: &Path| FileSource::open(path).unwrap_err().to_string();
    let destination = |path: &Path| FileDestination::open(path).unwrap_err().to_string();
    for said in [source(folder.0.path()), destination(folder.0.path())] {
        assert!(said.contains("is a directory; only files"), "{said}");
    }
    assert!(source(Path::new("/dev/zero")).contains("a character device"));
    assert!(destination(Path::new("/dev/null")).contains("a character device"));
    assert!(source(&folder.path("none")).contains("No such file"));
    assert!(destination(&folder.path("none/none")).contains("No such file"));
}

#[test]
fn a_file_that_others_hold_a_lock_on_is_left_alone() {
    let folder = Folder::with(&bytes(5000));
    let held = FileDestination::open(folder.path("from")).unwrap();
    let refused = FileDestination::open(folder.path("from")).unwrap_err();
    assert!(matches!(refused, FileError::Locked { .. }), "{refused}");
    // Reading is nobody's business.
    FileSource::open(folder.path("from")).unwrap();
    drop(held);
    FileDestination::open(folder.path("from")).unwrap();
}

#[test]
fn a_file_that_was_made_for_nothing_goes_again() {
    let folder = Folder::with(&bytes(5000));
    folder.copy(|copier| copier.length(5001)).unwrap_err();
    assert!(!folder.path("to").exists() && !folder.path("to.nvmf-copy").exists());
    // One that was there stays.
    fs::write(folder.path("to"), "kept").unwrap();
    folder.copy(|copier| copier.length(5001)).unwrap_err();
    assert_eq!(folder.read("to"), b"kept");
}

/// Copies a part, and stops.
fn stop_early(folder: &Folder) -> Unfinished {
    let stop = AtomicBool::new(false);
    let source = FileSource::open(folder.path("from")).unwrap();
    let destination = FileDestination::open(folder.path("to")).unwrap();
    Copier::new(&source, &destination)
        .journal(Journal::beside(folder.path("to")))
        .jobs(1)
        .chunk(4096)
        .rate(100_000)
        .stop(&stop)
        .progress(|progress| stop.store(progress.done > 0, Ordering::Relaxed))
        .run()
        .unwrap_err()
}

#[test]
fn a_copy_goes_on_with_the_same_files_and_with_no_others() {
    let folder = Folder::with(&bytes(1_000_000));
    let stopped = stop_early(&folder);
    assert!(stopped.done > 0, "{stopped:?}");
    let is_other = |result: Result<Report, Unfinished>, why: &str| {
        let refused = result.unwrap_err();
        let other = matches!(refused.error, Error::Journal(JournalError::Other { .. }));
        assert!(other && refused.to_string().contains(why), "{refused}");
    };

    // The source is written to, and then as it was.
    let before = fs::metadata(folder.path("from")).unwrap().modified().unwrap();
    let source = File::options().write(true).open(folder.path("from")).unwrap();
    source.write_all_at(b"changed", 0).unwrap();
    source.set_modified(before + std::time::Duration::from_nanos(1_000_000)).unwrap();
    is_other(folder.copy(|copier| copier.resume(true)), "was changed meanwhile");
    source.write_all_at(&bytes(7), 0).unwrap();
    source.set_modified(before).unwrap();

    // The destination is another file, or has lost bytes.
    fs::rename(folder.path("to"), folder.path("kept")).unwrap();
    is_other(folder.copy(|copier| copier.resume(true)), "its destination was");
    fs::rename(folder.path("kept"), folder.path("to")).unwrap();
    let destination = File::options().write(true).open(folder.path("to")).unwrap();
    destination.set_len(100).unwrap();
    is_other(folder.copy(|copier| copier.resume(true)), "and has 100 now");
    destination.set_len(1_000_000).unwrap();
    destination.write_all_at(&bytes(4096), 0).unwrap();

    let done = usize::try_from(stopped.done).unwrap();
    destination.write_all_at(&bytes(done), 0).unwrap();
    let report = folder.copy(|copier| copier.resume(true).verify(true)).unwrap();
    assert_eq!(report.resumed, stopped.done);
    assert!(folder.read("to") == bytes(1_000_000));
    assert!(!folder.path("to.nvmf-copy").exists());
}

#[test]
fn a_source_that_becomes_shorter_is_an_error() {
    let folder = Folder::with(&bytes(1_000_000));
    let file = File::options().write(true).open(folder.path("from")).unwrap();
    let source = FileSource::open(folder.path("from")).unwrap();
    for (holes, from) in [(false, bytes(1_000_000)), (true, vec![])] {
        fs::write(folder.path("from"), &from).unwrap();
        file.set_len(1_000_000).unwrap();
        let destination = FileDestination::open(folder.path("to")).unwrap();
        let failed = Copier::new(&source, &destination)
            .chunk(4096)
            .jobs(2)
            .rate(1_000_000)
            .progress(|_| file.set_len(500_000).unwrap())
            .run()
            .unwrap_err();
        let said = failed.to_string();
        assert!(said.contains("shorter") && said.contains("from"), "{holes}: {said}");
    }
}

#[test]
fn a_source_that_is_written_to_is_told() {
    let folder = Folder::with(&bytes(400_000));
    let file = File::options().write(true).open(folder.path("from")).unwrap();
    let source = FileSource::open(folder.path("from")).unwrap();
    let destination = FileDestination::open(folder.path("to")).unwrap();
    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(5);
    let report = Copier::new(&source, &destination)
        .chunk(4096)
        .rate(1_000_000)
        .progress(|_| file.set_modified(later).unwrap())
        .run()
        .unwrap();
    assert!(report.source_changed);
}

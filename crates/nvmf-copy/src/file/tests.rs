//! What only devices do, by files that are taken for some; and what a system may refuse.

use std::path::Path;

use super::*;
use crate::{Copier, Error, Sparse};

fn device_source(path: &Path) -> FileSource {
    FileSource { kind: FileKind::Device, ..FileSource::open(path).unwrap() }
}

fn device(path: &Path) -> FileDestination {
    let mut device = FileDestination::open(path).unwrap();
    device.common.kind = FileKind::Device;
    device
}

fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|at| u8::try_from(at % 251).unwrap() | 1).collect()
}

/// Data with 200000 zeroes in it.
fn with_zeroes() -> Vec<u8> {
    let mut data = bytes(500_000);
    data[100_000..300_000].fill(0);
    data
}

#[test]
fn a_device_keeps_its_size_and_what_is_not_copied_to() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    fs::write(&from, with_zeroes()).unwrap();
    fs::write(&to, bytes(1_000_000)).unwrap();
    let (source, destination) = (FileSource::open(&from).unwrap(), device(&to));
    assert_eq!(destination.identity().unwrap().size, 1_000_000);
    assert!(!destination.grows());
    let copier = Copier::new(&source, &destination).sparse(Sparse::Always).verify(true);
    assert!(copier.run().unwrap().zeroed > 190_000);
    let mut expected = bytes(1_000_000);
    expected[..500_000].copy_from_slice(&with_zeroes());
    assert!(fs::read(&to).unwrap() == expected);
}

#[test]
fn zeroes_are_looked_for_in_a_device_which_does_not_know_its_holes() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    fs::write(&from, with_zeroes()).unwrap();
    let source = device_source(&from);
    assert!(!source.has_map() && source.identity().unwrap().size == 500_000);
    let destination = FileDestination::open(&to).unwrap();
    let report = Copier::new(&source, &destination).verify(true).run().unwrap();
    assert!(report.zeroed > 190_000, "{report:?}");
    assert!(fs::read(&to).unwrap() == with_zeroes());
}

#[test]
fn a_device_that_is_too_small_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    fs::write(&from, bytes(5001)).unwrap();
    fs::write(&to, vec![9; 5000]).unwrap();
    let destination = device(&to);
    let source = FileSource::open(&from).unwrap();
    let refused = Copier::new(&source, &destination).run().unwrap_err();
    assert!(matches!(refused.error, Error::DestinationRange { size: 5000, .. }), "{refused}");
    assert!(fs::read(&to).unwrap() == [9; 5000]);
}

#[test]
fn zeroes_are_written_where_the_system_makes_no_holes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    for known in 0..=Way::ALL.len() {
        fs::write(&path, bytes(300_000)).unwrap();
        let destination = FileDestination::open(&path).unwrap();
        for can in &destination.can[..known] {
            can.store(false, Ordering::Relaxed);
        }
        destination.zero(1000, 200_001).unwrap();
        let mut expected = bytes(300_000);
        expected[1000..201_001].fill(0);
        assert!(fs::read(&path).unwrap() == expected, "{known} ways are refused");
    }
}

#[test]
fn what_is_blank_is_not_zeroed_again_and_what_is_not_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    fs::write(&path, bytes(10_000)).unwrap();
    let destination = FileDestination::open(&path).unwrap();
    destination.prepare(50_000, Rest::Stays).unwrap();
    for can in &destination.can {
        can.store(false, Ordering::Relaxed);
    }
    destination.zero(5000, 40_000).unwrap();
    let mut expected = bytes(10_000);
    expected.resize(50_000, 0);
    expected[5000..].fill(0);
    assert!(fs::read(&path).unwrap() == expected);
    // Nothing was written behind what there was.
    assert!(fs::metadata(&path).unwrap().blocks() * 512 < 20_000);
}

#[test]
fn never_sparse_is_written_whole() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    fs::File::create(&from).unwrap().set_len(1 << 20).unwrap();
    let source = FileSource::open(&from).unwrap();
    let destination = FileDestination::open(&to).unwrap();
    let report = Copier::new(&source, &destination).sparse(Sparse::Never).run().unwrap();
    assert_eq!((report.written, report.zeroed), (1 << 20, 0));
    assert!(fs::metadata(&to).unwrap().blocks() * 512 >= 1 << 20);
}

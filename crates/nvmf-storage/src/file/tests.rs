use super::*;
use std::os::unix::fs::MetadataExt;
use tempfile::NamedTempFile;

const BLOCK: u64 = 4096;

fn image(bytes: u64) -> (NamedTempFile, File) {
    let image = NamedTempFile::new().unwrap();
    image.as_file().set_len(bytes).unwrap();
    let file = File::open(image.path(), BlockSize::B4096, false).unwrap();
    (image, file)
}

fn fill(file: &File, byte: u8) {
    let bytes = vec![byte; usize::try_from(file.geometry().bytes()).unwrap()];
    file.write(0, &[IoSlice::new(&bytes)], Durability::Cached).unwrap();
    file.flush().unwrap();
}

fn contents(file: &File) -> Vec<u8> {
    let mut bytes = vec![0xEE; usize::try_from(file.geometry().bytes()).unwrap()];
    file.read(0, &mut [IoSliceMut::new(&mut bytes)]).unwrap();
    bytes
}

/// As if the file system had said that it cannot.
fn forget_how_to(abilities: &[&AtomicBool]) {
    abilities.iter().for_each(|ability| ability.store(false, Ordering::Relaxed));
}

#[test]
fn without_holes_zeroes_are_written_and_nothing_around_them() {
    // Shorter and longer than the fallback's buffer and its longest single write (1 MiB).
    for blocks in [1, 16, 17, 256, 3 * 256 + 21] {
        for deallocate in [false, true] {
            let (_image, file) = image((blocks + 2) * BLOCK);
            fill(&file, 7);
            forget_how_to(&[&file.can.punch_hole, &file.can.zero_range]);
            let durability = Durability::ForceUnitAccess;
            file.write_zeroes(BLOCK, blocks * BLOCK, Zero { deallocate, durability }).unwrap();
            let (bytes, block) = (contents(&file), usize::try_from(BLOCK).unwrap());
            let (end, last) = (bytes.len() - block, &bytes[bytes.len() - block..]);
            assert!(bytes[..block].iter().chain(last).all(|byte| *byte == 7));
            assert!(bytes[block..end].iter().all(|byte| *byte == 0));
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_way_that_the_system_refuses_is_not_tried_again() {
    // procfs has neither kind of hole, and says so.
    let (_image, mut file) = image(4 * BLOCK);
    file.file = fs::OpenOptions::new().write(true).open("/proc/self/comm").unwrap();
    for (way, can) in [(Hole::Punch, &file.can.punch_hole), (Hole::ZeroRange, &file.can.zero_range)]
    {
        let error = transfer::make_hole(&file.file, 0, BLOCK, way).unwrap_err();
        assert!(refused(&error), "{way:?}: {error}");
        assert!(can.load(Ordering::Relaxed));
    }
    let _ = file.zero(0, BLOCK, &[Hole::Punch, Hole::ZeroRange]);
    assert!(!file.can.punch_hole.load(Ordering::Relaxed));
    assert!(!file.can.zero_range.load(Ordering::Relaxed));
}

#[cfg(target_os = "linux")]
#[test]
fn a_system_that_cannot_tell_whether_it_waits_is_asked_once() {
    // A file of procfs cannot, and says so.
    let (_image, mut file) = image(4 * BLOCK);
    file.file = fs::OpenOptions::new().read(true).write(true).open("/proc/self/mem").unwrap();
    assert!(file.try_read(0, &mut [0; 4096]).is_none());
    assert!(file.try_write(0, &[1; 4096]).is_none());
    assert!(!file.can.read_nowait.load(Ordering::Relaxed));
    assert!(!file.can.write_nowait.load(Ordering::Relaxed));
}

#[test]
fn a_write_through_works_without_the_system_call_for_it() {
    let (_image, file) = image(2 * BLOCK);
    forget_how_to(&[&file.can.write_dsync]);
    let block = vec![9; 4096];
    file.write(BLOCK, &[IoSlice::new(&block)], Durability::ForceUnitAccess).unwrap();
    assert_eq!(contents(&file)[4096..], block);
}

#[test]
fn after_a_failed_flush_no_flush_and_no_write_through_succeeds() {
    let (_image, file) = image(2 * BLOCK);
    let failed = file.remember(Err(rustix::io::Errno::IO.into()));
    assert!(matches!(failed, Err(Error::Io(_))), "the first one tells what happened");

    let block = vec![1; 4096];
    let from = [IoSlice::new(&block)];
    let durably = Zero { deallocate: true, durability: Durability::ForceUnitAccess };
    for result in [
        file.flush(),
        file.write(0, &from, Durability::ForceUnitAccess),
        file.write_zeroes(0, BLOCK, durably),
    ] {
        assert!(matches!(result, Err(Error::WritesLost)), "{result:?}");
    }
    // What promises nothing still works, so that a host can save what it reads.
    file.write(0, &from, Durability::Cached).unwrap();
    assert!(!matches!(file.try_write(0, &block), Some(Err(_))));
    assert_eq!(contents(&file)[..4096], block);
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_no_space_and_no_lost_write() {
    let (_image, mut file) = image(2 * BLOCK);
    file.file = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let block = vec![1; 4096];
    for durability in [Durability::Cached, Durability::ForceUnitAccess] {
        let result = file.write(0, &[IoSlice::new(&block)], durability);
        assert!(matches!(result, Err(Error::NoSpace)), "{durability:?}: {result:?}");
    }
    assert!(!file.writes_lost.load(Ordering::Acquire));
}

#[cfg(target_os = "linux")]
#[test]
fn an_input_output_error_of_a_write_through_always_counts_as_lost() {
    // Nothing is mapped at address 0, so the mere write is an EIO too.
    let (_image, mut file) = image(2 * BLOCK);
    file.file = fs::OpenOptions::new().write(true).open("/proc/self/mem").unwrap();
    let (block, eio) = ([1; 4096], rustix::io::Errno::IO);
    let again = file.write(0, &[IoSlice::new(&block)], Durability::Cached);
    assert!(matches!(again, Err(Error::Io(error)) if error.raw_os_error() == Some(5)));
    let failed = file.write_durably_failed(0, &[IoSlice::new(&block)], eio.into());
    assert!(matches!(failed, Err(Error::Io(_))), "{failed:?}");
    assert!(matches!(file.flush(), Err(Error::WritesLost)));
}

#[test]
fn a_write_that_is_not_permitted_loses_nothing() {
    let (image, mut file) = image(2 * BLOCK);
    file.file = fs::File::open(image.path()).unwrap();
    let result = file.write(0, &[IoSlice::new(&[1; 4096])], Durability::ForceUnitAccess);
    assert!(matches!(result, Err(Error::Io(_))), "{result:?}");
    assert!(!file.writes_lost.load(Ordering::Acquire));
}

#[cfg(target_os = "linux")]
#[test]
fn whatever_must_be_durable_is_synced() {
    // /dev/null takes every write and refuses every sync, so that a sync shows.
    let block = vec![1; 4096];
    let sync_is_refused = |act: &dyn Fn(&File) -> Result<(), Error>| {
        let (_image, mut file) = image(2 * BLOCK);
        file.file = fs::OpenOptions::new().write(true).open("/dev/null").unwrap();
        forget_how_to(&[&file.can.punch_hole, &file.can.zero_range, &file.can.write_dsync]);
        match act(&file) {
            Ok(()) => false,
            Err(Error::Io(error)) => {
                assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{error}");
                assert!(matches!(file.flush(), Err(Error::WritesLost)), "it is kept in mind");
                true
            }
            Err(other) => panic!("{other:?}"),
        }
    };
    for (durability, synced) in [(Durability::Cached, false), (Durability::ForceUnitAccess, true)] {
        let from = [IoSlice::new(&block)];
        assert_eq!(sync_is_refused(&|file| file.write(0, &from, durability)), synced);
        for deallocate in [false, true] {
            let how = Zero { deallocate, durability };
            assert_eq!(sync_is_refused(&|file| file.write_zeroes(0, BLOCK, how)), synced);
        }
    }
    assert!(sync_is_refused(&|file| file.flush()));
    assert!(!sync_is_refused(&|file| file.deallocate(0, BLOCK)));
}

#[test]
fn a_write_through_that_fails_where_the_mere_write_does_not_loses_writes() {
    let (_image, file) = image(2 * BLOCK);
    let block = vec![1; 4096];
    let failed =
        file.write_durably_failed(0, &[IoSlice::new(&block)], rustix::io::Errno::NOSPC.into());
    assert!(matches!(failed, Err(Error::NoSpace)), "{failed:?}");
    assert!(matches!(file.flush(), Err(Error::WritesLost)));
}

#[test]
fn a_file_that_shrank_is_an_error_and_not_zeroes() {
    let (image, file) = image(4 * BLOCK);
    image.as_file().set_len(2 * BLOCK).unwrap();
    let mut bytes = vec![0; 4 * 4096];
    let error = file.read(0, &mut [IoSliceMut::new(&mut bytes)]).unwrap_err();
    assert!(error.to_string().contains("shorter"), "{error}");
    // Tried without waiting, it is the same or not known.
    let tried = file.try_read(0, &mut bytes);
    assert!(!matches!(tried, Some(Ok(()))), "{tried:?}");
}

#[cfg(target_os = "linux")]
#[test]
fn zeroing_without_deallocating_keeps_the_space() {
    let (image, file) = image(256 * BLOCK);
    fill(&file, 1);
    let before = image.as_file().metadata().unwrap().blocks();
    file.write_zeroes(0, 256 * BLOCK, Zero::default()).unwrap();
    file.flush().unwrap();
    assert!(contents(&file).iter().all(|byte| *byte == 0));
    let after = image.as_file().metadata().unwrap().blocks();
    assert!(after >= before, "{before} sectors before, {after} after");
}

#[test]
fn a_path_that_is_no_text_has_a_location_of_its_own() {
    use std::ffi::OsStr;
    let directory = tempfile::tempdir().unwrap();
    let mut locations = Vec::new();
    for name in [&b"disk\xFF"[..], b"disk\xFE"] {
        let path = directory.path().join(OsStr::from_bytes(name));
        fs::write(&path, [0; 4096]).unwrap();
        locations.push(File::open(&path, BlockSize::B4096, false).unwrap().location());
    }
    assert!(locations[0].ends_with(r"/disk\xff"), "{}", locations[0]);
    assert_ne!(locations[0], locations[1]);
}

#[test]
fn a_file_is_made_longer_by_a_hole() {
    let (image, file) = image(2 * BLOCK);
    fill(&file, 5);
    assert_eq!(file.resize(Some(4 * BLOCK)).unwrap().blocks(), 4);
    assert_eq!(image.as_file().metadata().unwrap().len(), 4 * BLOCK);
    let contents = contents(&file);
    assert!(contents[..8192].iter().all(|byte| *byte == 5));
    assert!(contents[8192..].iter().all(|byte| *byte == 0) && contents.len() == 4 * 4096);
    file.write(3 * BLOCK, &[IoSlice::new(&[6; 4096])], Durability::Cached).unwrap();
}

#[test]
fn a_file_that_others_made_longer_is_taken_as_it_is() {
    let (image, file) = image(2 * BLOCK);
    image.as_file().set_len(8 * BLOCK).unwrap();
    assert_eq!(file.geometry().blocks(), 2, "not by itself");
    // Nothing of it is cut off.
    assert_eq!(file.resize(Some(4 * BLOCK)).unwrap().blocks(), 4);
    assert_eq!(image.as_file().metadata().unwrap().len(), 8 * BLOCK);
    assert_eq!(file.resize(None).unwrap().blocks(), 8);

    image.as_file().set_len(8 * BLOCK + 512).unwrap();
    let error = file.resize(None).unwrap_err();
    assert!(matches!(error, ResizeError::Geometry(_)), "{error}");
    assert_eq!(file.geometry().blocks(), 8);
}

#[test]
fn a_file_that_became_smaller_is_neither_shrunk_nor_grown() {
    let (image, file) = image(4 * BLOCK);
    image.as_file().set_len(2 * BLOCK).unwrap();
    for bytes in [None, Some(2 * BLOCK), Some(4 * BLOCK), Some(8 * BLOCK)] {
        let error = file.resize(bytes).unwrap_err();
        assert!(matches!(error, ResizeError::Shrunk { found: 8192, now: 16_384, .. }), "{error}");
    }
    assert_eq!(file.geometry().blocks(), 4);
    assert_eq!(image.as_file().metadata().unwrap().len(), 2 * BLOCK);
}

#[test]
fn a_size_that_hosts_would_lose_data_by_is_refused_with_a_way_out() {
    let (image, file) = image(4 * BLOCK);
    let message = file.resize(Some(3 * BLOCK)).unwrap_err().to_string();
    assert!(message.contains("hosts may have data") && message.contains("new namespace"));
    assert_eq!(image.as_file().metadata().unwrap().len(), 4 * BLOCK);
}

#[test]
fn a_read_only_file_grows_only_with_what_is_behind_it() {
    let (image, writer) = image(2 * BLOCK);
    let file = File::open(image.path(), BlockSize::B4096, true).unwrap();
    let error = file.resize(Some(4 * BLOCK)).unwrap_err();
    assert!(matches!(error, ResizeError::ReadOnly { .. }), "{error}");
    file.resize(Some(2 * BLOCK)).unwrap();
    writer.resize(Some(4 * BLOCK)).unwrap();
    let geometry = file.resize(None).unwrap();
    assert!(geometry.read_only() && geometry.blocks() == 4);
}

#[test]
fn a_file_whose_writes_were_lost_does_not_claim_a_durable_size() {
    let (_image, file) = image(2 * BLOCK);
    file.writes_lost.store(true, Ordering::Release);
    let error = file.resize(Some(4 * BLOCK)).unwrap_err();
    assert!(matches!(error, ResizeError::Failed(Error::WritesLost)), "{error}");
    assert_eq!(file.geometry().blocks(), 2);
}

#[test]
fn a_copy_is_the_same_with_and_without_the_system_call_for_it() {
    for (forget, blocks) in [(false, 70), (true, 70), (false, 1), (true, 1)] {
        let (_image, file) = image(200 * BLOCK);
        if forget {
            forget_how_to(&[&file.can.copy_range]);
        }
        let bytes: Vec<u8> = (0..=250).cycle().take(blocks * 4096).collect();
        let blocks = blocks as u64;
        file.write(BLOCK, &[IoSlice::new(&bytes)], Durability::Cached).unwrap();
        let length = bytes.len();
        file.copy_within(BLOCK, 100 * BLOCK, blocks * BLOCK, Durability::ForceUnitAccess).unwrap();
        let contents = contents(&file);
        assert!(contents[100 * 4096..][..length] == bytes[..], "{forget} {blocks}");
        assert!(contents[100 * 4096 + length..].iter().all(|byte| *byte == 0));
        assert_eq!(file.can.copy_range.load(Ordering::Relaxed), !forget);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_copy_that_the_system_refuses_goes_through_a_buffer() {
    // Not a regular file, so there is no such copy of it.
    let (_image, mut file) = image(4 * BLOCK);
    file.file = fs::OpenOptions::new().read(true).write(true).open("/dev/zero").unwrap();
    file.copy_within(0, BLOCK, BLOCK, Durability::Cached).unwrap();
    assert!(!file.can.copy_range.load(Ordering::Relaxed));
}

#[test]
fn a_copy_from_where_the_file_has_ended_is_an_error() {
    let (image, file) = image(8 * BLOCK);
    image.as_file().set_len(4 * BLOCK).unwrap();
    let error = file.copy_within(4 * BLOCK, 0, BLOCK, Durability::Cached).unwrap_err();
    assert!(matches!(&error, Error::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof));
}

/// A lock belongs to what was opened, not to one descriptor of it. So nobody else can write the file
/// while an engine has yet to finish what it does there.
#[test]
fn the_lock_lasts_until_the_last_descriptor_is_closed() {
    let (image, file) = image(4 * BLOCK);
    let other = file.descriptor().try_clone_to_owned().unwrap();
    drop(file);
    let open = || File::open(image.path(), BlockSize::B4096, false);
    assert!(matches!(open(), Err(OpenError::Locked { .. })));
    drop(other);
    open().unwrap();
}

//! Files: durability, holes, locks, and everything that cannot be served.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use nvmf_storage::{
    Access, Backend, BlockSize, Durability, Error, File, FileAccess, OpenError, Zero,
};
use std::fs;
use std::io::{self, IoSlice, IoSliceMut, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};
use tempfile::{NamedTempFile, TempDir, tempdir};

const BLOCK: u64 = 4096;

fn image(bytes: u64) -> NamedTempFile {
    let image = NamedTempFile::new().unwrap();
    image.as_file().set_len(bytes).unwrap();
    image
}

/// In the build directory, because /tmp may be a file system in memory, where nothing has to wait.
fn image_on_disk(bytes: u64) -> NamedTempFile {
    let image = NamedTempFile::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    image.as_file().set_len(bytes).unwrap();
    image
}

fn open(image: &NamedTempFile) -> File {
    File::open(image.path(), BlockSize::B4096, false).unwrap()
}

fn open_read_only(image: &NamedTempFile) -> File {
    File::open(image.path(), BlockSize::B4096, true).unwrap()
}

fn read(disk: &File, offset: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0xEE; length];
    disk.read(offset, &mut [IoSliceMut::new(&mut bytes)]).unwrap();
    bytes
}

fn refusal(path: &Path, block_size: BlockSize) -> (OpenError, String) {
    let error = File::open(path, block_size, false).unwrap_err();
    let message = error.to_string();
    assert!(!message.contains('\n'), "{message:?}");
    assert!(message.contains(&path.display().to_string()), "{message}");
    (error, message)
}

#[test]
fn what_was_flushed_is_there_for_the_next_one_who_opens_the_file() {
    let image = image(64 * BLOCK);
    let disk = open(&image);
    disk.write(BLOCK, &[IoSlice::new(&[1; 4096])], Durability::Cached).unwrap();
    disk.flush().unwrap();
    disk.write(2 * BLOCK, &[IoSlice::new(&[2; 4096])], Durability::ForceUnitAccess).unwrap();

    // Beside the first, which is never closed in good order.
    let second = open_read_only(&image);
    assert_eq!(read(&second, BLOCK, 4096), [1; 4096]);
    assert_eq!(read(&second, 2 * BLOCK, 4096), [2; 4096]);
    let mut bytes = Vec::new();
    fs::File::open(image.path()).unwrap().read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes[4096..3 * 4096], [[1; 4096], [2; 4096]].concat());

    drop(disk);
    assert_eq!(read(&open(&image), BLOCK, 4096), [1; 4096]);
}

#[test]
fn writes_that_must_be_durable_land_as_all_others_do() {
    let image = image(64 * BLOCK);
    let disk = open(&image);
    let bytes: Vec<u8> = (0..8 * 4096_u32).map(|at| u8::try_from(at % 253).unwrap()).collect();
    let (a, b) = bytes.split_at(5001);
    let from = [a, b].map(IoSlice::new);
    disk.write(3 * BLOCK, &from, Durability::ForceUnitAccess).unwrap();
    assert_eq!(read(&disk, 3 * BLOCK, bytes.len()), bytes);

    let durably = Zero { deallocate: true, durability: Durability::ForceUnitAccess };
    disk.write_zeroes(4 * BLOCK, BLOCK, durably).unwrap();
    assert_eq!(read(&disk, 4 * BLOCK, 4096), [0; 4096]);
    assert_eq!(read(&disk, 5 * BLOCK, 4096), bytes[2 * 4096..3 * 4096]);
}

#[test]
fn more_slices_than_the_system_takes_at_once_are_no_problem() {
    let image = image(64 * BLOCK);
    let disk = open(&image);
    let bytes: Vec<u8> = (0..8192_u32).map(|at| u8::try_from(at % 251).unwrap()).collect();
    let from: Vec<IoSlice<'_>> = bytes.chunks(3).map(IoSlice::new).collect();
    assert!(from.len() > 2048);
    for durability in [Durability::Cached, Durability::ForceUnitAccess] {
        disk.write_zeroes(0, 8192, Zero::default()).unwrap();
        disk.write(0, &from, durability).unwrap();
        let mut back = vec![0; 8192];
        let mut into: Vec<IoSliceMut<'_>> = back.chunks_mut(5).map(IoSliceMut::new).collect();
        disk.read(0, &mut into).unwrap();
        assert_eq!(into.iter().map(|slice| slice.len()).sum::<usize>(), 8192, "slices kept");
        assert_eq!(back, bytes);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn deallocating_and_zeroing_make_holes() {
    let image = image(1024 * BLOCK);
    let disk = open(&image);
    let sectors = || image.as_file().metadata().unwrap().blocks();
    let fill = || {
        disk.write(0, &[IoSlice::new(&vec![1; 1024 * 4096])], Durability::Cached).unwrap();
        disk.flush().unwrap();
        assert!(sectors() >= 8 * 1024, "{} sectors", sectors());
    };

    fill();
    disk.deallocate(0, 512 * BLOCK).unwrap();
    assert!(sectors() <= 8 * 520, "{} sectors after deallocating half", sectors());
    assert!(read(&disk, 511 * BLOCK, 8192) == [[0; 4096], [1; 4096]].concat());

    fill();
    let how = Zero { deallocate: true, durability: Durability::Cached };
    disk.write_zeroes(0, 1024 * BLOCK, how).unwrap();
    assert!(sectors() <= 8 * 8, "{} sectors after zeroing all", sectors());
    assert_eq!(image.as_file().metadata().unwrap().len(), 1024 * BLOCK);
}

#[test]
fn a_read_only_file_refuses_every_change() {
    let image = image(16 * BLOCK);
    fs::write(image.path(), vec![5; 16 * 4096]).unwrap();
    let disk = open_read_only(&image);
    assert!(disk.geometry().read_only());
    assert!(!disk.volatile_write_cache());
    for durability in [Durability::Cached, Durability::ForceUnitAccess] {
        let write = disk.write(0, &[IoSlice::new(&[1; 4096])], durability);
        assert!(matches!(write, Err(Error::ReadOnly)));
        for deallocate in [false, true] {
            let zero = disk.write_zeroes(0, BLOCK, Zero { deallocate, durability });
            assert!(matches!(zero, Err(Error::ReadOnly)));
        }
    }
    assert!(matches!(disk.deallocate(0, BLOCK), Err(Error::ReadOnly)));
    disk.flush().unwrap();
    assert_eq!(fs::read(image.path()).unwrap(), vec![5; 16 * 4096]);
}

#[test]
fn only_one_can_write_and_others_can_read() {
    let image = image(16 * BLOCK);
    let first = open(&image);
    let (error, message) = refusal(image.path(), BlockSize::B4096);
    assert!(matches!(error, OpenError::Locked { .. }), "{error:?}");
    assert!(message.contains(",ro"), "{message}");

    let reader = open_read_only(&image);
    first.write(0, &[IoSlice::new(&[8; 4096])], Durability::Cached).unwrap();
    assert_eq!(read(&reader, 0, 4096), [8; 4096]);

    drop(first);
    open(&image);
}

#[test]
fn a_link_leads_to_the_same_lock_and_the_same_location() {
    let (directory, image) = (tempdir().unwrap(), image(16 * BLOCK));
    let link = directory.path().join("link");
    std::os::unix::fs::symlink(image.path(), &link).unwrap();
    let first = open(&image);
    assert!(matches!(refusal(&link, BlockSize::B4096).0, OpenError::Locked { .. }));
    let location = first.location();
    drop(first);
    assert_eq!(File::open(&link, BlockSize::B512, false).unwrap().location(), location);
    assert!(location.starts_with("file:/"), "{location}");
}

#[test]
fn a_lock_that_is_held_for_a_moment_is_waited_for() {
    let image = image(16 * BLOCK);
    let first = open(&image);
    thread::scope(|scope| {
        scope.spawn(move || {
            thread::sleep(Duration::from_millis(80));
            drop(first);
        });
        open(&image);
    });
}

#[test]
fn a_file_that_is_not_there_comes_with_the_command_that_makes_it() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("disk.img");
    let (error, message) = refusal(&path, BlockSize::B4096);
    assert!(matches!(error, OpenError::NotFound { .. }));
    assert!(message.contains(&format!("truncate -s 1G {}", path.display())), "{message}");
    assert!(!path.exists(), "opening made nothing");
}

#[test]
fn an_empty_file_is_refused() {
    let image = image(0);
    let (error, message) = refusal(image.path(), BlockSize::B4096);
    assert!(matches!(error, OpenError::Empty { device: false, .. }));
    assert!(message.contains("truncate -s 1G"), "{message}");
}

#[test]
fn a_size_that_is_not_whole_blocks_is_refused_with_a_way_out() {
    let half = image(3 * BLOCK + 512);
    let (error, message) = refusal(half.path(), BlockSize::B4096);
    assert!(matches!(error, OpenError::Ragged { bytes: 12_800, block_size: 4096, .. }));
    assert!(message.contains("bs=512") && message.contains("truncate -s 16384"), "{message}");
    assert_eq!(File::open(half.path(), BlockSize::B512, false).unwrap().geometry().blocks(), 25);

    let odd = image(1000);
    let (_, message) = refusal(odd.path(), BlockSize::B512);
    assert!(message.contains("truncate -s 1024"), "{message}");
    assert_eq!(odd.as_file().metadata().unwrap().len(), 1000, "it was left as it is");
}

#[test]
fn what_holds_no_blocks_is_refused_without_waiting() {
    let directory: TempDir = tempdir().unwrap();
    let socket = directory.path().join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let pipe = directory.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());

    let start = Instant::now();
    for (path, is) in [
        (directory.path(), "a directory"),
        (Path::new("/dev/null"), "a character device"),
        (&socket, "a socket"),
        (&pipe, "a pipe"),
    ] {
        let (error, message) = refusal(path, BlockSize::B4096);
        assert!(matches!(error, OpenError::NotBlocks { what, .. } if what == is), "{error:?}");
        assert!(message.contains(is), "{message}");
    }
    assert!(start.elapsed() < Duration::from_secs(2), "opening a pipe waited for its other end");
}

#[test]
fn a_file_on_a_path_through_a_file_is_an_error_of_one_line() {
    let image = image(BLOCK);
    refusal(&image.path().join("below"), BlockSize::B4096);
}

#[test]
fn many_threads_use_one_file() {
    let image = image(1024 * BLOCK);
    let disk = open(&image);
    thread::scope(|scope| {
        for thread in 0..8_u8 {
            let disk = &disk;
            scope.spawn(move || {
                for round in 0..100_u64 {
                    let offset = (round * 8 + u64::from(thread)) * BLOCK;
                    let bytes = [thread + 1; 4096];
                    disk.write(offset, &[IoSlice::new(&bytes)], Durability::Cached).unwrap();
                    if round % 32 == 0 {
                        disk.flush().unwrap();
                    }
                    assert_eq!(read(disk, offset, 4096), bytes);
                }
            });
        }
    });
    for block in 0..800_u64 {
        let owner = u8::try_from(block % 8).unwrap() + 1;
        assert_eq!(read(&disk, block * BLOCK, 4096), [owner; 4096], "block {block}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn what_is_in_the_page_cache_is_read_without_waiting_and_what_is_not_is_left_alone() {
    let image = image_on_disk(64 * BLOCK);
    let disk = open(&image);
    let bytes: Vec<u8> = (0..64 * 4096_u32).map(|at| u8::try_from(at % 251).unwrap()).collect();
    disk.write(0, &[IoSlice::new(&bytes)], Durability::Cached).unwrap();
    let mut into = vec![0xEE; 64 * 4096];
    let hot = disk.try_read(0, &mut into);
    assert!(
        matches!(hot, Some(Ok(()))),
        "{hot:?}; does the build directory's file system have it?"
    );
    assert_eq!(into, bytes);

    // A read that comes too early may start the reading, so that a fast disk has it after all.
    let cold = (0..100).any(|_| {
        disk.flush().unwrap();
        let whole = None;
        rustix::fs::fadvise(disk.descriptor(), 0, whole, rustix::fs::Advice::DontNeed).unwrap();
        let mut into = vec![0xEE; 64 * 4096];
        let tried = disk.try_read(0, &mut into);
        assert!(tried.is_none() || into == bytes);
        tried.is_none()
    });
    assert!(cold, "every read of what is not in the page cache claimed not to wait");
    assert_eq!(read(&disk, 0, 64 * 4096), bytes);
}

#[test]
fn a_write_that_does_not_wait_writes_all_or_leaves_it_to_others() {
    let image = image_on_disk(16 * BLOCK);
    let disk = open(&image);
    disk.write(0, &[IoSlice::new(&[1; 8192])], Durability::Cached).unwrap();
    match disk.try_write(BLOCK, &[2; 4096]) {
        // ext4 can only say that it does not know.
        None => disk.write(BLOCK, &[IoSlice::new(&[2; 4096])], Durability::Cached).unwrap(),
        Some(result) => result.unwrap(),
    }
    assert_eq!(read(&disk, 0, 8192), [[1; 4096], [2; 4096]].concat());
}

#[test]
fn what_is_tried_is_checked_as_everywhere() {
    let image = image(16 * BLOCK);
    let disk = open(&image);
    let mut into = [0; 8192];
    let read = disk.try_read(15 * BLOCK, &mut into);
    assert!(matches!(read, Some(Err(Error::OutOfRange { .. }))), "{read:?}");
    let read = disk.try_read(0, &mut into[..100]);
    assert!(matches!(read, Some(Err(Error::Unaligned { .. }))), "{read:?}");
    let written = disk.try_write(15 * BLOCK, &into);
    assert!(matches!(written, Some(Err(Error::OutOfRange { .. }))), "{written:?}");
    drop(disk);
    let written = open_read_only(&image).try_write(0, &into);
    assert!(matches!(written, Some(Err(Error::ReadOnly))), "{written:?}");
}

#[test]
fn others_use_the_descriptor_and_their_errors_mean_the_same() {
    let image = image(16 * BLOCK);
    let disk: Box<dyn Backend> = Box::new(open(&image));
    let Access::File(file) = disk.access() else { panic!("{:?}", disk.access()) };
    assert_eq!(file.alignment(), 1);
    assert!(file.descriptor().as_raw_fd() >= 0);
    rustix::io::pwrite(file.descriptor(), &[3; 4096], BLOCK).unwrap();
    let mut block = [0; 4096];
    disk.read(BLOCK, &mut [IoSliceMut::new(&mut block)]).unwrap();
    assert_eq!(block, [3; 4096]);

    let of = |errno: rustix::io::Errno, writing| file.error_of(errno.into(), writing);
    assert!(matches!(of(rustix::io::Errno::NOSPC, true), Error::NoSpace));
    assert!(matches!(of(rustix::io::Errno::IO, false), Error::Io(_)));
    let short = file.error_of(io::ErrorKind::UnexpectedEof.into(), false);
    assert!(short.to_string().contains("shorter"), "{short}");
}

//! Files past the page cache.
//!
//! The images are in the build directory, because /tmp may be a file system without direct I/O.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![cfg(target_os = "linux")]

use nvmf_storage::{
    Access, Backend, BlockSize, Durability, File, FileAccess, NamespaceSpec, OpenError, Zero,
    aligned_buffer,
};
use rustix::fs::OFlags;
use std::io::{IoSlice, IoSliceMut};
use std::path::Path;
use tempfile::NamedTempFile;

const BLOCK: u64 = 4096;

fn image(bytes: u64) -> NamedTempFile {
    let image = NamedTempFile::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    image.as_file().set_len(bytes).unwrap();
    image
}

fn open(path: &Path, read_only: bool) -> File {
    File::open_direct(path, BlockSize::B4096, read_only).unwrap_or_else(|error| {
        panic!("{error}; set CARGO_TARGET_DIR to a directory that has direct I/O")
    })
}

fn read(disk: &dyn Backend, offset: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0xEE; length];
    disk.read(offset, &mut [IoSliceMut::new(&mut bytes)]).unwrap();
    bytes
}

#[test]
fn what_is_written_past_the_page_cache_is_read_there_and_through_it() {
    let image = image(1024 * BLOCK);
    let disk = open(image.path(), false);
    let flags = rustix::fs::fcntl_getfl(disk.descriptor()).unwrap();
    assert!(flags.contains(OFlags::DIRECT), "{flags:?}");

    let mut bytes = aligned_buffer(256 * 4096, disk.alignment());
    bytes.iter_mut().zip(0_u32..).for_each(|(byte, at)| *byte = (at % 251) as u8);
    disk.write(BLOCK, &[IoSlice::new(&bytes)], Durability::Cached).unwrap();
    disk.write(513 * BLOCK, &[IoSlice::new(&bytes)], Durability::ForceUnitAccess).unwrap();
    disk.flush().unwrap();

    let mut back = aligned_buffer(256 * 4096, disk.alignment());
    disk.read(513 * BLOCK, &mut [IoSliceMut::new(&mut back)]).unwrap();
    assert_eq!(back, bytes);
    let cached = File::open(image.path(), BlockSize::B4096, true).unwrap();
    assert!(read(&cached, BLOCK, 256 * 4096) == bytes);
}

#[test]
fn slices_of_any_place_and_length_will_do() {
    let image = image(1024 * BLOCK);
    let disk = open(image.path(), false);
    let bytes: Vec<u8> = (0..700 * 4096_u32).map(|at| (at % 253) as u8).collect();
    let (a, rest) = bytes.split_at(4096 + 17);
    let (b, c) = rest.split_at(1);
    for durability in [Durability::Cached, Durability::ForceUnitAccess] {
        disk.deallocate(0, 1024 * BLOCK).unwrap();
        disk.write(3 * BLOCK, &[a, b, c].map(IoSlice::new), durability).unwrap();
        let mut back = vec![0xEE; bytes.len() + 1];
        let (d, e) = back[1..].split_at_mut(99_999);
        disk.read(3 * BLOCK, &mut [d, e].map(IoSliceMut::new)).unwrap();
        assert!(back[1..] == bytes, "{durability:?}");
    }
    assert_eq!(read(&disk, 2 * BLOCK, 4096), [0; 4096]);
    assert_eq!(read(&disk, 703 * BLOCK, 4096), [0; 4096]);
}

#[test]
fn zeroes_are_holes_here_too() {
    let image = image(64 * BLOCK);
    let disk = open(image.path(), false);
    disk.write(0, &[IoSlice::new(&[1; 64 * 4096])], Durability::Cached).unwrap();
    let durably = Zero { deallocate: false, durability: Durability::ForceUnitAccess };
    disk.write_zeroes(BLOCK, BLOCK, durably).unwrap();
    disk.deallocate(3 * BLOCK, 60 * BLOCK).unwrap();
    let bytes = read(&disk, 0, 64 * 4096);
    let firsts: Vec<u8> = bytes.chunks(4096).map(|block| block[0]).collect();
    assert_eq!(firsts[..4], [1, 0, 1, 0]);
    assert_eq!(firsts[62..], [0, 1]);
}

#[test]
fn everything_waits_and_so_nothing_is_tried() {
    let image = image(16 * BLOCK);
    let disk = open(image.path(), false);
    let Access::File(file) = disk.access() else { panic!("{:?}", disk.access()) };
    assert!(file.try_read(0, &mut [0; 4096]).is_none());
    assert!(file.try_write(0, &[1; 4096]).is_none());
    assert_eq!(read(&disk, 0, 4096), [0; 4096], "nor done");
    assert!(matches!(file.try_read(0, &mut [0; 100]), Some(Err(_))), "but checked");
}

#[test]
fn others_transfer_buffers_that_are_aligned() {
    let image = image(16 * BLOCK);
    let disk = open(image.path(), false);
    let alignment = disk.alignment();
    assert!(alignment > 1 && alignment.is_power_of_two(), "{alignment}");
    let mut buffer = aligned_buffer(8192, alignment);
    buffer.fill(6);
    assert_eq!(rustix::io::pwrite(disk.descriptor(), &buffer, BLOCK).unwrap(), 8192);
    assert_eq!(read(&disk, 0, 3 * 4096), [[0; 4096], [6; 4096], [6; 4096]].concat());
}

#[test]
fn a_spec_says_direct() {
    let image = image(16 * BLOCK);
    let spec = format!("file:{},direct,bs=512,ro", image.path().display());
    let disk = match spec.parse::<NamespaceSpec>().unwrap().open() {
        // The disk's own blocks may be larger.
        Err(OpenError::DirectBlockSize { .. }) => {
            spec.replace(",bs=512", "").parse::<NamespaceSpec>().unwrap().open().unwrap()
        }
        opened => opened.unwrap(),
    };
    assert!(disk.geometry().read_only());
    let Access::File(file) = disk.access() else { panic!("{:?}", disk.access()) };
    assert!(rustix::fs::fcntl_getfl(file.descriptor()).unwrap().contains(OFlags::DIRECT));
    let same = File::open(image.path(), BlockSize::B4096, true).unwrap();
    assert_eq!(disk.location(), same.location(), "the same place, so the same identifiers");
}

#[test]
fn a_file_system_without_direct_input_and_output_is_refused_with_a_way_out() {
    // procfs is one wherever there is Linux.
    let path = Path::new("/proc/version");
    let error = File::open_direct(path, BlockSize::B512, true).unwrap_err();
    assert!(matches!(error, OpenError::NoDirect { .. }), "{error:?}");
    let message = error.to_string();
    assert!(message.contains("/proc/version") && message.contains("leave out `,direct`"));
    assert!(!message.contains('\n'), "{message:?}");
    let error = File::open_direct("/nowhere/at/all", BlockSize::B512, true).unwrap_err();
    assert!(matches!(error, OpenError::NotFound { .. }), "{error:?}");
}

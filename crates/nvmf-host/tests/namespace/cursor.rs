//! A namespace as a stream.

use std::io::{self, Read, Seek, SeekFrom, Write};

use crate::target::{Running, pattern};

#[test]
fn a_cursor_is_a_file_of_the_namespaces_size() {
    let target = Running::start("mem:1M,bs=512", 1);
    let disk = target.namespace();
    let mut cursor = disk.cursor();
    let data = pattern(1, 100_001);
    cursor.seek(SeekFrom::Start(7)).unwrap();
    cursor.write_all(&data).unwrap();
    cursor.flush().unwrap();
    assert_eq!(cursor.stream_position().unwrap(), 100_008);
    cursor.seek(SeekFrom::Current(-100_001)).unwrap();
    let mut again = vec![0; data.len()];
    cursor.read_exact(&mut again).unwrap();
    assert!(again == data);
    assert_eq!(cursor.seek(SeekFrom::End(-1)).unwrap(), (1 << 20) - 1);
    assert_eq!(cursor.read(&mut [0; 8]).unwrap(), 1);
    assert_eq!(cursor.read(&mut [0; 8]).unwrap(), 0);
    assert_eq!(cursor.write_all(&[0; 8]).unwrap_err().kind(), io::ErrorKind::WriteZero);
}

#[test]
fn everything_is_copied_by_the_standard_library() {
    let target = Running::start("mem:9M", 1);
    let disk = target.namespace();
    let data = pattern(2, 9 << 20);
    io::copy(&mut &data[..], &mut disk.cursor()).unwrap();
    let mut all = Vec::new();
    disk.cursor().read_to_end(&mut all).unwrap();
    assert!(all == data);
}

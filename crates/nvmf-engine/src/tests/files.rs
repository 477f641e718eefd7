//! Reading and writing files.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;

use bytes::BytesMut;

use super::{Event, Kind, Rig, for_every_engine, pattern};
use crate::{Engine, FileId, FileOp, Pool, Wait};

for_every_engine! {
    what_is_written_is_read_in_whatever_pieces,
    many_operations_go_on_at_once,
    the_end_of_the_file_in_the_middle_of_a_read_is_an_error,
    what_there_is_before_the_end_is_read,
    more_pieces_than_the_system_takes_are_moved,
    an_operation_that_moves_nothing_succeeds,
    a_file_that_cannot_be_written_says_so,
    a_file_that_cannot_be_read_says_so,
    a_full_disk_says_so,
    an_offset_beyond_what_the_system_counts_is_refused,
    a_file_that_was_forgotten_is_not_found,
    what_is_under_way_on_a_forgotten_file_is_finished,
    a_result_may_lead_to_the_next_operation,
    buffers_that_the_system_knows_are_read_and_written_like_others,
}

fn open<K: Kind>(rig: &mut Rig<K>, file: &File) -> FileId {
    rig.engine.open(OwnedFd::from(file.try_clone().unwrap())).unwrap()
}

/// Buffers of these lengths with consecutive bytes of the pattern.
fn parts(lengths: &[usize]) -> Vec<BytesMut> {
    let bytes = pattern(lengths.iter().sum());
    let mut at = 0;
    let part = |length: &usize| {
        at += length;
        BytesMut::from(&bytes[at - length..at])
    };
    lengths.iter().map(part).collect()
}

fn zeroed(lengths: &[usize]) -> Vec<BytesMut> {
    lengths.iter().map(|length| BytesMut::zeroed(*length)).collect()
}

/// The next results. An engine with threads for files is woken by them.
fn until_done<K: Kind>(rig: &mut Rig<K>, count: usize) -> Vec<(u64, FileOp, io::Result<()>)> {
    let done = |event: &Event| matches!(event, Event::Done(..));
    rig.until("done", |events| events.iter().filter(|event| done(event)).count() >= count);
    let results = rig.log.events.drain(..).filter_map(|event| match event {
        Event::Done(token, op, result) => Some((token, op, result)),
        Event::Woken => None,
        event => panic!("{event:?}"),
    });
    results.collect()
}

/// Does one operation.
fn execute<K: Kind>(rig: &mut Rig<K>, file: FileId, op: FileOp) -> (Vec<u8>, io::Result<()>) {
    rig.engine.submit(file, op, 7);
    match until_done(rig, 1).remove(0) {
        (7, op, result) => (op.into_parts().concat(), result),
        done => panic!("{done:?}"),
    }
}

fn what_is_written_is_read_in_whatever_pieces<K: Kind>() {
    let mut rig = Rig::<K>::new();
    let mut file = tempfile::tempfile().unwrap();
    let id = open(&mut rig, &file);
    for (offset, written, read) in [
        (0, &[5000][..], &[5000][..]),
        (4096, &[4096, 4096], &[8192]),
        (3, &[1, 0, 70_000, 5], &[0, 70_000, 0, 6]),
        (100_000, &[1 << 20], &[65_536; 16]),
    ] {
        let length: usize = written.iter().sum();
        let write = FileOp::Write { offset, parts: parts(written) };
        let (back, result) = execute(&mut rig, id, write);
        result.unwrap();
        assert!(back == pattern(length));
        let mut there = vec![0; length];
        file.seek(SeekFrom::Start(offset)).unwrap();
        file.read_exact(&mut there).unwrap();
        assert!(there == back);
        let (there, result) = execute(&mut rig, id, FileOp::Read { offset, parts: zeroed(read) });
        result.unwrap();
        assert!(there == back);
    }
}

fn many_operations_go_on_at_once<K: Kind>() {
    let mut rig = Rig::<K>::new();
    let file = tempfile::tempfile().unwrap();
    let id = open(&mut rig, &file);
    let mut pool = Pool::default();
    let count = 1000;
    for n in 0..count {
        let mut part = pool.take(4096);
        part.fill(u8::try_from(n % 251).unwrap());
        rig.engine.submit(id, FileOp::Write { offset: n * 4096, parts: vec![part] }, n);
    }
    let mut tokens = Vec::new();
    for (token, op, result) in until_done(&mut rig, 1000) {
        result.unwrap();
        tokens.push(token);
        op.into_parts().into_iter().for_each(|part| pool.give(part));
    }
    tokens.sort_unstable();
    assert!(tokens.into_iter().eq(0..count));
    for n in 0..count {
        let read = FileOp::Read { offset: n * 4096, parts: vec![pool.take(4096)] };
        rig.engine.submit(id, read, n);
    }
    for (n, op, result) in until_done(&mut rig, 1000) {
        result.unwrap();
        let bytes = op.into_parts().concat();
        assert_eq!(bytes.len(), 4096);
        assert!(bytes.iter().all(|byte| u64::from(*byte) == n % 251), "{n}");
    }
}

fn the_end_of_the_file_in_the_middle_of_a_read_is_an_error<K: Kind>() {
    let mut rig = Rig::<K>::new();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&pattern(10_000)).unwrap();
    let id = open(&mut rig, &file);
    for (offset, lengths) in [(9000, &[1001][..]), (0, &[5000, 5001]), (10_000, &[1])] {
        let read = FileOp::Read { offset, parts: zeroed(lengths) };
        let (_, result) = execute(&mut rig, id, read);
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}

fn what_there_is_before_the_end_is_read<K: Kind>() {
    let mut rig = Rig::<K>::new();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&pattern(10_000)).unwrap();
    let id = open(&mut rig, &file);
    let (bytes, result) =
        execute(&mut rig, id, FileOp::Read { offset: 0, parts: zeroed(&[20_000]) });
    assert_eq!(result.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    assert!(bytes[..10_000] == pattern(10_000));
}

fn more_pieces_than_the_system_takes_are_moved<K: Kind>() {
    let mut rig = Rig::<K>::new();
    let file = tempfile::tempfile().unwrap();
    let id = open(&mut rig, &file);
    let lengths = vec![13; 3000];
    let write = FileOp::Write { offset: 1, parts: parts(&lengths) };
    execute(&mut rig, id, write).1.unwrap();
    let (bytes, result) =
        execute(&mut rig, id, FileOp::Read { offset: 1, parts: zeroed(&lengths) });
    result.unwrap();
    assert!(bytes == pattern(13 * 3000));
}

fn an_operation_that_moves_nothing_succeeds<K: Kind>() {
    let mut rig = Rig::<K>::new();
    let file = tempfile::tempfile().unwrap();
    let id = open(&mut rig, &file);
    for lengths in [&[][..], &[0], &[0, 0]] {
        let read = FileOp::Read { offset: 0, parts: zeroed(lengths) };
        assert!(execute(&mut rig, id, read).1.is_ok());
        let write = FileOp::Write { offset: 0, parts: zeroed(lengths) };
        assert!(execute(&mut rig, id, write).1.is_ok());
    }
    assert_eq!(file.metadata().unwrap().len(), 0);
}

fn a_file_that_cannot_be_written_says_so<K: Kind>() {
    let mut rig = Rig::<K>::new();
    let file = tempfile::NamedTempFile::new().unwrap();
    let file = File::open(file.path()).unwrap();
    let id = open(&mut rig, &file);
    let (bytes, result) = execute(&mut rig, id, FileOp::Write { offset: 0, parts: parts(&[512]) });
    assert_eq!(result.unwrap_err().raw_os_error(), Some(9), "EBADF");
    assert!(bytes == pattern(512), "buffers come back all the same");
}

fn a_file_that_cannot_be_read_says_so<K: Kind>() {
    let mut rig = Rig::<K>::new();
    let file = tempfile::NamedTempFile::new().unwrap();
    let file = File::options().write(true).open(file.path()).unwrap();
    let id = open(&mut rig, &file);
    let (_, result) = execute(&mut rig, id, FileOp::Read { offset: 0, parts: zeroed(&[512]) });
    assert_eq!(result.unwrap_err().raw_os_error(), Some(9), "EBADF");
}

fn a_full_disk_says_so<K: Kind>() {
    let mut rig = Rig::<K>::new();
    let full = File::options().write(true).open("/dev/full").unwrap();
    let id = open(&mut rig, &full);
    for lengths in [&[4096][..], &[1, 1]] {
        let write = FileOp::Write { offset: 0, parts: parts(lengths) };
        let error = execute(&mut rig, id, write).1.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }
}

fn an_offset_beyond_what_the_system_counts_is_refused<K: Kind>() {
    let mut rig = Rig::<K>::new();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&pattern(100)).unwrap();
    file.seek(SeekFrom::Start(0)).unwrap();
    let id = open(&mut rig, &file);
    for offset in [u64::MAX, u64::MAX - 5, 1 << 63] {
        let read = FileOp::Read { offset, parts: zeroed(&[10]) };
        let error = execute(&mut rig, id, read).1.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
}

fn a_file_that_was_forgotten_is_not_found<K: Kind>() {
    let mut rig = Rig::<K>::new();
    let file = tempfile::tempfile().unwrap();
    let old = open(&mut rig, &file);
    rig.engine.forget(old);
    rig.engine.forget(old);
    let new = open(&mut rig, &file);
    let write = FileOp::Write { offset: 0, parts: parts(&[10]) };
    let error = execute(&mut rig, old, write).1.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
    let write = FileOp::Write { offset: 0, parts: parts(&[10]) };
    execute(&mut rig, new, write).1.unwrap();
}

fn what_is_under_way_on_a_forgotten_file_is_finished<K: Kind>() {
    let mut rig = Rig::<K>::new();
    let mut file = tempfile::tempfile().unwrap();
    let id = open(&mut rig, &file);
    rig.engine.submit(id, FileOp::Write { offset: 0, parts: parts(&[100_000]) }, 1);
    rig.engine.forget(id);
    until_done(&mut rig, 1).remove(0).2.unwrap();
    let mut there = Vec::new();
    file.seek(SeekFrom::Start(0)).unwrap();
    file.read_to_end(&mut there).unwrap();
    assert!(there == pattern(100_000));
}

fn a_result_may_lead_to_the_next_operation<K: Kind>() {
    let mut rig = Rig::<K>::new();
    let file = tempfile::tempfile().unwrap();
    let id = open(&mut rig, &file);
    let gone = open(&mut rig, &file);
    rig.engine.forget(gone);
    // A failure is told without asking the system: that must not become a loop without an end.
    rig.react(move |engine, event| {
        let Event::Done(token, _, result) = event else { return };
        let next = if result.is_ok() { gone } else { id };
        let write = FileOp::Write { offset: token * 100, parts: parts(&[100]) };
        engine.submit(next, write, token + 1);
    });
    rig.engine.submit(id, FileOp::Write { offset: 0, parts: parts(&[100]) }, 0);
    for (n, (token, _, result)) in (0..).zip(until_done(&mut rig, 100)) {
        assert_eq!(token, n);
        assert_eq!(result.is_ok(), n % 2 == 0);
    }
    rig.turn(Wait::No);
}

fn buffers_that_the_system_knows_are_read_and_written_like_others<K: Kind>() {
    let mut rig = Rig::<K>::new();
    let file = tempfile::tempfile().unwrap();
    let id = open(&mut rig, &file);
    let mut pool = Pool::default();
    for round in 0..40u64 {
        for length in [1, 512, 4096, Pool::LARGE] {
            let offset = round * 4096;
            let bytes = &pattern(length + 40)[usize::try_from(round).unwrap()..][..length];
            let take = |rig: &mut Rig<K>, pool: &mut Pool| {
                rig.engine.direct_buffer(length).unwrap_or_else(|| pool.take_aligned(length))
            };
            let mut part = take(&mut rig, &mut pool);
            assert_eq!((part.len(), part.as_ptr().align_offset(4096)), (length, 0));
            part.copy_from_slice(bytes);
            // Some are lost, or come back later; that is nobody's concern.
            let (first, rest) = if round % 3 == 0 {
                let rest = part.split_off(length / 2);
                (part, Some(rest))
            } else {
                (part, None)
            };
            let mut parts = vec![first];
            parts.extend(rest);
            execute(&mut rig, id, FileOp::Write { offset, parts }).1.unwrap();
            let part = take(&mut rig, &mut pool);
            let read = FileOp::Read { offset, parts: vec![part] };
            let (there, result) = execute(&mut rig, id, read);
            result.unwrap();
            assert!(there == bytes);
        }
    }
    assert!(rig.engine.direct_buffer(Pool::LARGE + 1).is_none());
    let mut lent: Vec<_> = std::iter::from_fn(|| rig.engine.direct_buffer(10)).collect();
    assert!(rig.engine.direct_buffer(10).is_none());
    if lent.pop().is_some() {
        assert!(rig.engine.direct_buffer(10).is_some(), "what was dropped is lent again");
    }
    drop(rig);
    lent.into_iter().for_each(|mut buffer| buffer.fill(1));
}

//! I/O commands on storage, without waiting for it.
//!
//! Memory answers at once: what is read is lent, what is written may be taken over. A file is tried
//! first, and left to the engine where that would wait. Everything else is a job.

use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use nvme_spec::Status;
use nvmf_engine::{ConnId, Engine, FileId, FileOp};
use nvmf_storage::{Access, Durability, FileAccess, Resident};

use super::entry::Entry;
use crate::association::IoQueue;
use crate::io::{Kind, Operation, Plan, Transfer, plan, storage_status};
use crate::serve::core::{Context, Post};
use crate::statistics::Counters;

/// How it went with a command.
#[derive(Debug)]
pub(super) enum Done {
    Succeeded,
    /// Its data for the host is in its entry.
    Read,
    Failed(Status),
    /// A job or the engine is busy with it.
    Outside,
}

/// Which command it is.
#[derive(Clone, Copy, Debug)]
pub(in crate::serve) struct Place {
    pub(in crate::serve) conn: ConnId,
    pub(in crate::serve) slot: u16,
}

/// A job is done with a command.
#[derive(Debug)]
pub(in crate::serve) struct JobDone {
    pub(in crate::serve) place: Place,
    /// The data to send, if there is any; `None` if the job panicked.
    pub(in crate::serve) result: Option<Result<Vec<u8>, Status>>,
}

/// What is done at once on memory, in bytes: copying or comparing more would keep others waiting.
const AT_ONCE: u64 = 1 << 20;

/// Where in the namespace a command's data belongs, in bytes.
pub(super) fn place(operation: &Operation<'_>) -> u64 {
    match *operation.kind() {
        Kind::Write { offset, .. } => offset,
        _ => 0,
    }
}

/// Executes a command whose data, if it needs any, is there: `whole`, or in its staging.
pub(super) fn execute<E: Engine>(
    operation: &Operation<'_>,
    membership: &IoQueue,
    entry: &mut Entry,
    whole: Option<&[u8]>,
    place: Place,
    cx: &mut Context,
    engine: &mut E,
) -> Done {
    let counters = membership.counters();
    let done = match *operation.kind() {
        Kind::Read { ns, offset, length, durable } => match ns.backend().access() {
            Access::Resident(memory) => lend(memory, offset, length, entry, counters),
            Access::File(file) if !durable => {
                read_file(file, offset, length, entry, counters, place, cx, engine)
            }
            _ => Ok(job(membership, entry, whole, place, cx)),
        },
        Kind::Write { ns, offset, durability, .. } => match ns.backend().access() {
            Access::Resident(memory) => {
                let written = match whole {
                    Some(bytes) => ns.backend().write(offset, &[IoSlice::new(bytes)], durability),
                    None => adopt(memory, offset, entry, cx),
                };
                written.map(|()| {
                    counters.written(entry.data.length().into());
                    Done::Succeeded
                })
            }
            Access::File(file) if durability == Durability::Cached => {
                write_file(file, offset, entry, whole, counters, place, cx, engine)
            }
            _ => Ok(job(membership, entry, whole, place, cx)),
        },
        _ if is_quick(operation) => {
            let result = operation.execute(&mut gather(entry, whole), counters);
            return result.map_or_else(Done::Failed, |()| Done::Succeeded);
        }
        _ => Ok(job(membership, entry, whole, place, cx)),
    };
    done.unwrap_or_else(|error| failed(&error, operation, counters))
}

/// The status of a command whose storage failed, which is told.
fn failed(error: &nvmf_storage::Error, operation: &Operation<'_>, counters: &Counters) -> Done {
    let writing = matches!(operation.transfer(), Transfer::FromHost(_));
    let status = storage_status(error, writing);
    operation.note_failure(error, status, counters);
    Done::Failed(status)
}

/// Reads by reference.
fn lend(
    memory: &dyn Resident,
    offset: u64,
    length: u32,
    entry: &mut Entry,
    counters: &Counters,
) -> Result<Done, nvmf_storage::Error> {
    memory.lend(offset, length.into(), &mut |piece| entry.out.push(piece))?;
    counters.read(length.into());
    Ok(Done::Read)
}

/// Writes what was received into buffers, which the memory may keep.
fn adopt(
    memory: &dyn Resident,
    mut offset: u64,
    entry: &mut Entry,
    cx: &mut Context,
) -> Result<(), nvmf_storage::Error> {
    for part in entry.staging.into_parts() {
        let length = part.len() as u64;
        if let Some(buffer) = memory.adopt(offset, part)? {
            cx.pool.give(buffer);
        }
        offset += length;
    }
    Ok(())
}

/// Whether a command on memory takes no longer than others can wait.
fn is_quick(operation: &Operation<'_>) -> bool {
    let (ns, length) = match *operation.kind() {
        Kind::Compare { ns, length, .. } | Kind::Verify { ns, length, .. } => (ns, length.into()),
        Kind::WriteZeroes { ns, length, .. } => (ns, length),
        Kind::Flush { ns } => (ns, 0),
        Kind::Hint { .. } => return true,
        _ => return false,
    };
    length <= AT_ONCE && matches!(ns.backend().access(), Access::Resident(_))
}

/// The command's data in one piece: what came from the host, or nothing.
fn gather(entry: &mut Entry, whole: Option<&[u8]>) -> Vec<u8> {
    match whole {
        Some(bytes) => bytes.to_vec(),
        None => entry.staging.into_parts().concat(),
    }
}

/// Leaves a command to a thread that may wait.
fn job(
    membership: &IoQueue,
    entry: &mut Entry,
    whole: Option<&[u8]>,
    place: Place,
    cx: &mut Context,
) -> Done {
    let association = Arc::clone(membership.association());
    let counters = Arc::clone(membership.counters());
    let (sqe, length) = (entry.sqe, entry.data.length());
    let mut data = gather(entry, whole);
    let post = cx.post.clone();
    cx.shared.jobs.run(move || {
        let work = || match plan(&association, &sqe, length) {
            Ok(Plan::Execute(operation)) => {
                let to_host = match operation.transfer() {
                    Transfer::ToHost(length) => length as usize,
                    _ => 0,
                };
                if to_host > 0 {
                    data.resize(to_host, 0);
                }
                operation.execute(&mut data, &counters)?;
                data.truncate(to_host);
                Ok(data)
            }
            Ok(Plan::Disconnect) => Err(Status::INTERNAL_ERROR),
            Err(status) => Err(status),
        };
        let result = catch_unwind(AssertUnwindSafe(work)).ok();
        // Without the core there is nobody to tell.
        let _ = post.post(Post::Job(JobDone { place, result }));
    });
    Done::Outside
}

/// How it went with a command that a job did.
pub(super) fn job_done(result: Result<Vec<u8>, Status>, entry: &mut Entry) -> Done {
    match result {
        Ok(data) if data.is_empty() => Done::Succeeded,
        Ok(data) => {
            entry.out.push(Bytes::from(data));
            Done::Read
        }
        Err(status) => Done::Failed(status),
    }
}

#[expect(clippy::too_many_arguments, reason = "the parts of a connection that it takes")]
fn read_file<E: Engine>(
    file: &dyn FileAccess,
    offset: u64,
    length: u32,
    entry: &mut Entry,
    counters: &Counters,
    place: Place,
    cx: &mut Context,
    engine: &mut E,
) -> Result<Done, nvmf_storage::Error> {
    let direct = file.alignment() > 1;
    let mut parts = cx.pool.take_many(length as usize, direct);
    if !direct {
        let mut at = offset;
        let mut there = true;
        for part in &mut parts {
            match file.try_read(at, part) {
                Some(result) => result?,
                None => {
                    there = false;
                    break;
                }
            }
            at += part.len() as u64;
        }
        if there {
            parts.into_iter().for_each(|part| entry.out.push(part.freeze()));
            counters.read(length.into());
            return Ok(Done::Read);
        }
    }
    submit(file, FileOp::Read { offset, parts }, place, cx, engine)
}

#[expect(clippy::too_many_arguments, reason = "the parts of a connection that it takes")]
fn write_file<E: Engine>(
    file: &dyn FileAccess,
    offset: u64,
    entry: &mut Entry,
    whole: Option<&[u8]>,
    counters: &Counters,
    place: Place,
    cx: &mut Context,
    engine: &mut E,
) -> Result<Done, nvmf_storage::Error> {
    let direct = file.alignment() > 1;
    let written = |length: usize| {
        counters.written(length as u64);
        Ok(Done::Succeeded)
    };
    let parts = match whole {
        Some(bytes) => {
            if !direct && let Some(result) = file.try_write(offset, bytes) {
                return result.and_then(|()| written(bytes.len()));
            }
            copied(&[bytes], bytes.len(), direct, cx)
        }
        None => {
            let parts = entry.staging.into_parts();
            let length = parts.iter().map(|part| part.len()).sum();
            if direct {
                let pieces: Vec<&[u8]> = parts.iter().map(|part| &part[..]).collect();
                let aligned = copied(&pieces, length, true, cx);
                parts.into_iter().for_each(|part| cx.pool.give(part));
                aligned
            } else if let Some(result) = try_write_all(file, offset, &parts) {
                parts.into_iter().for_each(|part| cx.pool.give(part));
                return result.and_then(|()| written(length));
            } else {
                parts
            }
        }
    };
    submit(file, FileOp::Write { offset, parts }, place, cx, engine)
}

fn try_write_all(
    file: &dyn FileAccess,
    mut offset: u64,
    parts: &[BytesMut],
) -> Option<Result<(), nvmf_storage::Error>> {
    for part in parts {
        if let Err(error) = file.try_write(offset, part)? {
            return Some(Err(error));
        }
        offset += part.len() as u64;
    }
    Some(Ok(()))
}

/// A copy in buffers from the pool, aligned for direct I/O where that is wanted.
fn copied(pieces: &[&[u8]], length: usize, direct: bool, cx: &mut Context) -> Vec<BytesMut> {
    let mut parts = cx.pool.take_many(length, direct);
    let mut pieces = pieces.iter().copied();
    let mut piece: &[u8] = &[];
    for part in &mut parts {
        let mut room = &mut part[..];
        while !room.is_empty() {
            if piece.is_empty() {
                let Some(next) = pieces.next() else { break };
                piece = next;
            }
            let n = room.len().min(piece.len());
            let (now, later) = room.split_at_mut(n);
            now.copy_from_slice(&piece[..n]);
            (room, piece) = (later, &piece[n..]);
        }
    }
    parts
}

fn submit<E: Engine>(
    file: &dyn FileAccess,
    op: FileOp,
    place: Place,
    cx: &mut Context,
    engine: &mut E,
) -> Result<Done, nvmf_storage::Error> {
    let writing = matches!(op, FileOp::Write { .. });
    let id = cx.files.id(file, engine).map_err(|error| file.error_of(error, writing))?;
    let token = cx.files.token(place);
    engine.submit(id, op, token);
    Ok(Done::Outside)
}

/// How it went with a command that the engine did.
pub(super) fn file_done(
    operation: &Operation<'_>,
    membership: &IoQueue,
    entry: &mut Entry,
    op: FileOp,
    result: io::Result<()>,
    cx: &mut Context,
) -> Done {
    let counters = membership.counters();
    let writing = matches!(op, FileOp::Write { .. });
    let length = op.len() as u64;
    let parts = op.into_parts();
    let ns = match *operation.kind() {
        Kind::Read { ns, .. } | Kind::Write { ns, .. } => ns,
        _ => return Done::Failed(Status::INTERNAL_ERROR),
    };
    match (result, ns.backend().access()) {
        (Ok(()), _) if writing => {
            counters.written(length);
            parts.into_iter().for_each(|part| cx.pool.give(part));
            Done::Succeeded
        }
        (Ok(()), _) => {
            counters.read(length);
            parts.into_iter().for_each(|part| entry.out.push(part.freeze()));
            Done::Read
        }
        (Err(error), Access::File(file)) => {
            failed(&file.error_of(error, writing), operation, counters)
        }
        (Err(_), _) => Done::Failed(Status::INTERNAL_ERROR),
    }
}

/// The files of a core's engine, and the commands that it is busy with.
#[derive(Debug, Default)]
pub(in crate::serve) struct FileTable {
    files: Vec<(RawFd, FileId)>,
    under_way: Vec<Option<Place>>,
    free: Vec<usize>,
}

impl FileTable {
    /// The engine's number of a file. Namespaces keep their files open for as long as there are
    /// cores, so a descriptor is always the same file.
    fn id<E: Engine>(&mut self, file: &dyn FileAccess, engine: &mut E) -> io::Result<FileId> {
        let descriptor = file.descriptor();
        let raw = descriptor.as_raw_fd();
        if let Some((_, id)) = self.files.iter().find(|(known, _)| *known == raw) {
            return Ok(*id);
        }
        let id = engine.open(descriptor.try_clone_to_owned()?)?;
        self.files.push((raw, id));
        Ok(id)
    }

    fn token(&mut self, place: Place) -> u64 {
        let index = self.free.pop().unwrap_or_else(|| {
            self.under_way.push(None);
            self.under_way.len() - 1
        });
        self.under_way[index] = Some(place);
        index as u64
    }

    /// The command that the engine is done with.
    pub(in crate::serve) fn take(&mut self, token: u64) -> Option<Place> {
        let index = usize::try_from(token).ok()?;
        let place = self.under_way.get_mut(index)?.take()?;
        self.free.push(index);
        Some(place)
    }
}

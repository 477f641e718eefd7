//! I/O commands on storage, without waiting for it.
//!
//! Memory answers at once: what is read is lent, what is written may be taken over. A file is tried
//! first, and left to the engine where that would wait. Everything else is a job.

use std::io::{self, IoSlice};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};

use bytes::{Bytes, BytesMut};
use nvme_spec::Status;
use nvmf_engine::{ConnId, Engine, FileId, FileOp, Pool, prefetch};
use nvmf_storage::{Access, Durability, FileAccess, Resident};

use super::entry::Entry;
use crate::association::IoQueue;
use crate::io::{By, Failed, Kind, Operation, Transfer, flush_all, storage_status};
use crate::serve::core::{Context, Post};
use crate::statistics::Counters;
use crate::subsystem::{self, Namespace};

/// How it went with a command.
#[derive(Debug)]
pub(super) enum Done {
    Succeeded,
    /// Its data for the host is in its entry.
    Read,
    Failed(Failed),
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
    pub(in crate::serve) result: Option<Result<Vec<u8>, Failed>>,
}

/// What is done at once on memory, in bytes: copying or comparing more would keep others waiting.
const AT_ONCE: u64 = 1 << 20;

/// How much of what is lent is fetched from memory at once, in bytes, so that it is at hand when the
/// answers of several commands are sent together. The processor follows a longer run by itself.
const AHEAD: usize = 8192;

/// Where in the namespace a command's data belongs, in bytes.
pub(super) fn place<N: AsRef<Namespace>>(operation: &Operation<N>) -> u64 {
    match operation.kind() {
        Kind::Write { offset, .. } => offset,
        _ => 0,
    }
}

/// A command that is to be executed, its data, if it needs any, there.
pub(super) struct Execution<'a, E> {
    pub(super) membership: &'a IoQueue,
    pub(super) entry: &'a mut Entry,
    /// The data, where it is not in the entry's staging.
    pub(super) whole: Option<&'a [u8]>,
    pub(super) place: Place,
    pub(super) cx: &'a mut Context,
    pub(super) engine: &'a mut E,
}

impl<E: Engine> Execution<'_, E> {
    /// Executes it, or begins to.
    pub(super) fn run(mut self, operation: &Operation<&Arc<Namespace>>) -> Done {
        let ns = operation.namespace();
        let backend = ns.backend();
        if operation.changes_marks() {
            return self.job(operation);
        }
        let place = if operation.writes() {
            match ns.enter(self.membership.association().host_id()) {
                Ok(Some(place)) => Some(place),
                // A fused pair is at it, which a job can wait for.
                Ok(None) => return self.job(operation),
                Err(status) => return Done::Failed(status.into()),
            }
        } else {
            None
        };
        let done = match operation.kind() {
            Kind::Read { offset, length, durable } => match backend.access() {
                Access::Resident(memory) => self.lend(memory, offset, length),
                Access::File(file) if !durable => self.read(operation, file, offset, length),
                _ => Ok(self.job(operation)),
            },
            Kind::Write { offset, durability, .. } => match backend.access() {
                Access::Resident(memory) => self.store(operation, memory, offset, durability),
                Access::File(file) if durability == Durability::Cached => {
                    self.write(operation, file, offset, place)
                }
                // It takes a place of its own when it has a thread.
                _ => Ok(self.job(operation)),
            },
            _ if is_quick(operation) => {
                let mut data = self.gather();
                let result = operation.perform(&mut data, &self.membership.by());
                return result.map_or_else(Done::Failed, |()| Done::Succeeded);
            }
            _ => Ok(self.job(operation)),
        };
        done.unwrap_or_else(|error| failed(&error, operation, self.membership.counters()))
    }

    /// Flushes all these.
    pub(super) fn flush_all(mut self, namespaces: Vec<Arc<Namespace>>) -> Done {
        self.outside(move || Ok(flush_all(&namespaces).map(|()| Vec::new())?))
    }

    /// Reads by reference.
    fn lend(
        &mut self,
        memory: &dyn Resident,
        offset: u64,
        length: u32,
    ) -> Result<Done, nvmf_storage::Error> {
        let mut ahead = AHEAD;
        memory.lend(offset, length.into(), &mut |piece| {
            let begin = &piece[..piece.len().min(ahead)];
            prefetch(begin);
            ahead -= begin.len();
            self.entry.out.push(piece);
        })?;
        Ok(Done::Read)
    }

    /// Writes to memory, which may keep the buffers.
    fn store(
        &mut self,
        operation: &Operation<&Arc<Namespace>>,
        memory: &dyn Resident,
        mut offset: u64,
        durability: Durability,
    ) -> Result<Done, nvmf_storage::Error> {
        if let Some(bytes) = self.whole {
            let backend = operation.namespace().backend();
            backend.write(offset, &[IoSlice::new(bytes)], durability)?;
            return Ok(Done::Succeeded);
        }
        for part in self.entry.staging.take_parts() {
            let length = part.len() as u64;
            if let Some(buffer) = memory.adopt(offset, part)? {
                self.cx.pool.give(buffer);
            }
            offset += length;
        }
        Ok(Done::Succeeded)
    }

    fn read(
        &mut self,
        operation: &Operation<&Arc<Namespace>>,
        file: &dyn FileAccess,
        offset: u64,
        length: u32,
    ) -> Result<Done, nvmf_storage::Error> {
        let direct = file.alignment() > 1;
        let mut parts = self.room(length as usize, direct);
        if !direct && let Some(result) = try_read_all(file, offset, &mut parts) {
            result?;
            parts.into_iter().for_each(|part| self.entry.out.push(part.freeze()));
            return Ok(Done::Read);
        }
        self.submit(operation, file, FileOp::Read { offset, parts }, None)
    }

    /// Buffers of `length` bytes together, fit for direct I/O where that is wanted: one that the
    /// system knows already, if there is one.
    fn room(&mut self, length: usize, direct: bool) -> Vec<BytesMut> {
        let known = (direct && length <= Pool::LARGE).then(|| self.engine.direct_buffer(length));
        match known.flatten() {
            Some(buffer) => vec![buffer],
            None => self.cx.pool.take_many(length, direct),
        }
    }

    fn write(
        &mut self,
        operation: &Operation<&Arc<Namespace>>,
        file: &dyn FileAccess,
        offset: u64,
        place: Option<subsystem::Place<'_>>,
    ) -> Result<Done, nvmf_storage::Error> {
        let direct = file.alignment() > 1;
        let parts = match self.whole {
            Some(bytes) => {
                if !direct && let Some(result) = file.try_write(offset, bytes) {
                    return result.map(|()| Done::Succeeded);
                }
                copied(&[bytes], self.room(bytes.len(), direct))
            }
            None => {
                let parts = self.entry.staging.take_parts();
                let length = parts.iter().map(|part| part.len()).sum();
                if direct {
                    let pieces: Vec<&[u8]> = parts.iter().map(|part| &part[..]).collect();
                    let aligned = copied(&pieces, self.room(length, true));
                    parts.into_iter().for_each(|part| self.cx.pool.give(part));
                    aligned
                } else if let Some(result) = try_write_all(file, offset, &parts) {
                    parts.into_iter().for_each(|part| self.cx.pool.give(part));
                    return result.map(|()| Done::Succeeded);
                } else {
                    parts
                }
            }
        };
        self.submit(operation, file, FileOp::Write { offset, parts }, place)
    }

    /// Leaves a read or write to the engine; a write keeps its place until it is done.
    fn submit(
        &mut self,
        operation: &Operation<&Arc<Namespace>>,
        file: &dyn FileAccess,
        op: FileOp,
        place: Option<subsystem::Place<'_>>,
    ) -> Result<Done, nvmf_storage::Error> {
        let writing = matches!(op, FileOp::Write { .. });
        let kept = operation.keep();
        let id = self.cx.files.id(kept.shared(), file, self.engine);
        let id = id.map_err(|error| file.error_of(error, writing))?;
        self.entry.writing = place.map(|place| place.keep(kept.shared()));
        self.entry.kept = Some(kept);
        let token = self.cx.files.token(self.place);
        self.engine.submit(id, op, token);
        Ok(Done::Outside)
    }

    /// The command's data in one piece: what came from the host, or nothing.
    fn gather(&mut self) -> Vec<u8> {
        match self.whole {
            Some(bytes) => bytes.to_vec(),
            None => self.entry.staging.take_parts().concat(),
        }
    }

    /// Leaves a command to a thread that may wait.
    fn job(&mut self, operation: &Operation<&Arc<Namespace>>) -> Done {
        let operation = operation.keep();
        let association = Arc::clone(self.membership.association());
        let counters = Arc::clone(self.membership.counters());
        let mut data = self.gather();
        self.outside(move || {
            let to_host = match operation.transfer() {
                Transfer::ToHost(length) => length as usize,
                Transfer::FromHost(_) | Transfer::None => 0,
            };
            if to_host > 0 {
                data.resize(to_host, 0);
            }
            let by = By { association: &association, counters: &counters };
            operation.execute(&mut data, &by)?;
            data.truncate(to_host);
            Ok(data)
        })
    }

    /// Leaves work to a thread that may wait; it gives the data for the host.
    fn outside(&mut self, work: impl FnOnce() -> Result<Vec<u8>, Failed> + Send + 'static) -> Done {
        let (post, place) = (self.cx.post.clone(), self.place);
        self.cx.shared.jobs.run(move || {
            let result = catch_unwind(AssertUnwindSafe(work)).ok();
            // Without the core there is nobody to tell.
            let _ = post.post(Post::Job(JobDone { place, result }));
        });
        Done::Outside
    }
}

/// The status of a command whose storage failed, which is told.
fn failed<N: AsRef<Namespace>>(
    error: &nvmf_storage::Error,
    operation: &Operation<N>,
    counters: &Counters,
) -> Done {
    let writing = matches!(operation.transfer(), Transfer::FromHost(_));
    let status = storage_status(error, writing);
    operation.note_failure(error, status, counters);
    Done::Failed(status.into())
}

/// Whether a command on memory takes no longer than others can wait.
fn is_quick<N: AsRef<Namespace>>(operation: &Operation<N>) -> bool {
    let length = match operation.kind() {
        Kind::Compare { length, .. } | Kind::Verify { length, .. } => length.into(),
        Kind::WriteZeroes { length, .. } => length,
        Kind::Flush => 0,
        Kind::Hint { .. } | Kind::WriteUncorrectable { .. } => return true,
        _ => return false,
    };
    let access = operation.namespace().backend().access();
    length <= AT_ONCE && matches!(access, Access::Resident(_))
}

/// How it went with a command that a job did.
pub(super) fn job_done(result: Result<Vec<u8>, Failed>, entry: &mut Entry) -> Done {
    match result {
        Ok(data) if data.is_empty() => Done::Succeeded,
        Ok(data) => {
            entry.out.push(Bytes::from(data));
            Done::Read
        }
        Err(failed) => Done::Failed(failed),
    }
}

fn try_read_all(
    file: &dyn FileAccess,
    mut offset: u64,
    parts: &mut [BytesMut],
) -> Option<Result<(), nvmf_storage::Error>> {
    for part in parts {
        if let Err(error) = file.try_read(offset, part)? {
            return Some(Err(error));
        }
        offset += part.len() as u64;
    }
    Some(Ok(()))
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

/// Fills buffers with a copy.
fn copied(pieces: &[&[u8]], mut parts: Vec<BytesMut>) -> Vec<BytesMut> {
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

/// How it went with a command that the engine did.
pub(super) fn file_done(
    operation: &Operation<Arc<Namespace>>,
    membership: &IoQueue,
    entry: &mut Entry,
    op: FileOp,
    result: io::Result<()>,
    cx: &mut Context,
) -> Done {
    // Given back when all that follows is done.
    let _place = entry.writing.take();
    let writing = matches!(op, FileOp::Write { .. });
    let parts = op.into_parts();
    match (result, operation.namespace().backend().access()) {
        (Ok(()), _) if writing => {
            parts.into_iter().for_each(|part| cx.pool.give(part));
            Done::Succeeded
        }
        (Ok(()), _) => {
            parts.into_iter().for_each(|part| entry.out.push(part.freeze()));
            Done::Read
        }
        (Err(error), Access::File(file)) => {
            failed(&file.error_of(error, writing), operation, membership.counters())
        }
        (Err(_), _) => Done::Failed(Status::INTERNAL_ERROR.into()),
    }
}

/// The files of a core's engine, and the commands that it is busy with.
#[derive(Debug, Default)]
pub(in crate::serve) struct FileTable {
    files: Vec<(Weak<Namespace>, FileId)>,
    under_way: Vec<Option<Place>>,
    free: Vec<usize>,
}

impl FileTable {
    /// The engine's number of a namespace's file.
    fn id<E: Engine>(
        &mut self,
        ns: &Arc<Namespace>,
        file: &dyn FileAccess,
        engine: &mut E,
    ) -> io::Result<FileId> {
        // A namespace that is remembered here keeps its address, so that no other is taken for it.
        let known = self.files.iter().find(|(known, _)| Weak::as_ptr(known) == Arc::as_ptr(ns));
        if let Some((_, id)) = known {
            return Ok(*id);
        }
        let id = engine.open(file.descriptor().try_clone_to_owned()?)?;
        self.files.push((Arc::downgrade(ns), id));
        Ok(id)
    }

    /// Gives up the files of namespaces that are no more.
    pub(in crate::serve) fn forget_detached<E: Engine>(&mut self, engine: &mut E) {
        let gone = |(ns, _): &mut (Weak<Namespace>, FileId)| {
            ns.upgrade().is_none_or(|ns| ns.is_detached())
        };
        self.files.extract_if(.., gone).for_each(|(_, id)| engine.forget(id));
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

//! Reading and writing files.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;

use bytes::BytesMut;
use io_uring::types::Fd;
use io_uring::{opcode, squeue};

use super::Uring;
use super::operation::Operation;
use super::registered::Registered;
use super::ring::{Completion, Ring, transient};
use crate::engine::Handler;
use crate::file::{FileId, FileOp};
use crate::slots::{Key, Slots};

/// Pieces of one gathered read or write; the system takes no more.
const SLICES: usize = 1024;
/// The system moves no more than this at once, in bytes.
const MOST: usize = 0x7fff_f000;

#[derive(Debug, Default)]
pub(super) struct Files {
    files: Slots<Rc<OwnedFd>>,
    #[allow(clippy::vec_box, reason = "the kernel knows where they are: they must not move")]
    jobs: Slots<Box<Job>>,
    /// Results that came without the kernel: to be told.
    done: VecDeque<Done>,
    registered: Registered,
}

type Done = (u64, FileOp, io::Result<()>);

/// A read or write in flight.
struct Job {
    /// Kept open until it is done, even if it is forgotten before.
    file: Rc<OwnedFd>,
    op: FileOp,
    token: u64,
    /// Bytes that are read or written.
    done: usize,
    slices: Vec<libc::iovec>,
}

impl Job {
    /// The operation for what is left, or as much of it as one takes. It refers to this and to the
    /// buffers in it.
    fn entry(&mut self, registered: &Registered) -> squeue::Entry {
        let fd = Fd(self.file.as_raw_fd());
        let mut skip = self.done;
        let done = self.done as u64;
        self.slices.clear();
        let (FileOp::Read { parts, .. } | FileOp::Write { parts, .. }) = &mut self.op;
        for part in parts {
            if self.slices.len() == SLICES {
                break;
            }
            if let Some(left) = part.get_mut(skip..).filter(|left| !left.is_empty()) {
                let iov_base = left.as_mut_ptr().cast();
                self.slices.push(libc::iovec { iov_base, iov_len: left.len() });
            }
            skip = skip.saturating_sub(part.len());
        }
        let slices = self.slices.as_ptr();
        let count = u32::try_from(self.slices.len()).unwrap_or(0);
        // One piece needs no list of pieces, which the kernel would have to copy.
        let single = match &self.slices[..] {
            [one] => u32::try_from(one.iov_len.min(MOST)).ok().map(|n| (one.iov_base, n)),
            _ => None,
        };
        let fixed = single.and_then(|(at, n)| registered.find(at.addr(), n as usize));
        match (&self.op, single, fixed) {
            (FileOp::Read { offset, .. }, Some((at, length)), Some(fixed)) => {
                let read = opcode::ReadFixed::new(fd, at.cast(), length, fixed);
                read.offset(offset + done).build()
            }
            (FileOp::Read { offset, .. }, Some((at, length)), None) => {
                opcode::Read::new(fd, at.cast(), length).offset(offset + done).build()
            }
            (FileOp::Read { offset, .. }, None, _) => {
                opcode::Readv::new(fd, slices, count).offset(offset + done).build()
            }
            (FileOp::Write { offset, .. }, Some((at, length)), Some(fixed)) => {
                let write = opcode::WriteFixed::new(fd, at.cast(), length, fixed);
                write.offset(offset + done).build()
            }
            (FileOp::Write { offset, .. }, Some((at, length)), None) => {
                opcode::Write::new(fd, at.cast(), length).offset(offset + done).build()
            }
            (FileOp::Write { offset, .. }, None, _) => {
                opcode::Writev::new(fd, slices, count).offset(offset + done).build()
            }
        }
    }

    /// What follows from a completion: the result, or that there is more to do.
    fn advance(&mut self, outcome: io::Result<usize>) -> Option<io::Result<()>> {
        match outcome {
            Ok(0) => Some(Err(match self.op {
                FileOp::Read { .. } => io::ErrorKind::UnexpectedEof.into(),
                FileOp::Write { .. } => io::ErrorKind::WriteZero.into(),
            })),
            Ok(n) => {
                self.done += n;
                (self.done >= self.op.len()).then_some(Ok(()))
            }
            Err(error) if transient(&error) => None,
            Err(error) => Some(Err(error)),
        }
    }
}

/// Where an operation ends, if the system can count so far.
fn end_of(op: &FileOp) -> Option<i64> {
    let (FileOp::Read { offset, .. } | FileOp::Write { offset, .. }) = op;
    offset.checked_add(op.len() as u64)?.try_into().ok()
}

impl Files {
    pub(super) fn open(&mut self, file: OwnedFd) -> io::Result<FileId> {
        let key = self.files.insert_with(|_| Rc::new(file));
        key.map(FileId).ok_or_else(|| io::Error::other("too many files"))
    }

    pub(super) fn forget(&mut self, file: FileId) {
        self.files.remove(file.0);
    }

    pub(super) fn submit(&mut self, ring: &mut Ring, file: FileId, op: FileOp, token: u64) {
        let file = match self.files.get(file.0) {
            None => Err(Err(io::ErrorKind::NotFound.into())),
            Some(_) if op.is_empty() => Err(Ok(())),
            // The kernel would take the last offset for "where the file is now".
            Some(_) if end_of(&op).is_none() => Err(Err(io::ErrorKind::InvalidInput.into())),
            Some(file) => Ok(Rc::clone(file)),
        };
        let file = match file {
            Ok(file) => file,
            Err(result) => return self.done.push_back((token, op, result)),
        };
        let job = Box::new(Job { file, op, token, done: 0, slices: Vec::new() });
        // There are fewer places than the memory for so many operations.
        if let Some(key) = self.jobs.insert_with(|_| job) {
            self.start(ring, key);
        }
    }

    fn start(&mut self, ring: &mut Ring, key: Key) {
        let Some(job) = self.jobs.get_mut(key) else { return };
        let entry = job.entry(&self.registered);
        // SAFETY: the entry refers to the job, which is boxed, and to the heap memory of its
        // buffers. Nobody looks at these, and the job stays in its table, until the completion of
        // this was taken (`completed`).
        unsafe { ring.push(entry, Operation::File(key)) };
    }

    fn completed(&mut self, ring: &mut Ring, key: Key, completion: Completion) -> Option<Done> {
        let result = self.jobs.get_mut(key)?.advance(completion.outcome());
        let Some(result) = result else {
            self.start(ring, key);
            return None;
        };
        let job = self.jobs.remove(key)?;
        Some((job.token, job.op, result))
    }

    /// A buffer that is registered, if there is one.
    pub(super) fn lend(&mut self, ring: &Ring, length: usize) -> Option<BytesMut> {
        self.registered.lend(ring, length)
    }

    /// How many results are to be told.
    pub(super) fn to_tell(&self) -> usize {
        self.done.len()
    }

    pub(super) fn take(&mut self) -> Option<Done> {
        self.done.pop_front()
    }
}

impl Uring {
    pub(super) fn file_completed<H: Handler<Self>>(
        &mut self,
        handler: &mut H,
        key: Key,
        completion: Completion,
    ) {
        if let Some((token, op, result)) = self.files.completed(&mut self.ring, key, completion) {
            handler.done(self, token, op, result);
        }
    }
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Job").field("token", &self.token).finish_non_exhaustive()
    }
}

//! What a workload asks for and is told.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use nvmf::spec::{Cqe, Sqe, opcode};

use crate::CommandError;

/// A command's data.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Buffer {
    /// None.
    #[default]
    None,
    /// Room for bytes from the controller: as many as its length.
    Read(BytesMut),
    /// Bytes for the controller.
    Write(Bytes),
}

impl Buffer {
    /// Its length in bytes.
    pub fn len(&self) -> usize {
        match self {
            Self::None => 0,
            Self::Read(bytes) => bytes.len(),
            Self::Write(bytes) => bytes.len(),
        }
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A command to be sent.
#[derive(Debug)]
pub struct Request {
    pub(crate) sqe: Sqe,
    pub(crate) buffer: Buffer,
    pub(crate) token: u64,
    pub(crate) limit: Option<Duration>,
}

impl Request {
    /// Any command with its data; its identifier and data pointer are filled in later.
    #[inline]
    pub fn new(sqe: Sqe, buffer: Buffer) -> Self {
        Self { sqe, buffer, token: 0, limit: None }
    }

    /// A Read of `blocks` blocks (1 to 65536) from `lba` on, into a buffer of just their length.
    #[inline]
    pub fn read(nsid: u32, lba: u64, blocks: u32, into: BytesMut) -> Self {
        Self::new(transfer(opcode::nvm::READ, nsid, lba, blocks), Buffer::Read(into))
    }

    /// A Write of `blocks` blocks (1 to 65536) from `lba` on, from a buffer of just their length.
    #[inline]
    pub fn write(nsid: u32, lba: u64, blocks: u32, from: Bytes) -> Self {
        Self::new(transfer(opcode::nvm::WRITE, nsid, lba, blocks), Buffer::Write(from))
    }

    /// A Flush of a namespace.
    pub fn flush(nsid: u32) -> Self {
        let mut sqe = Sqe::new(opcode::nvm::FLUSH);
        sqe.nsid.set(nsid);
        Self::new(sqe, Buffer::None)
    }

    /// The same with a number by which [`Workload::complete`] names it; it need not be unique.
    #[must_use]
    #[inline]
    pub fn with_token(self, token: u64) -> Self {
        Self { token, ..self }
    }

    /// The same with another limit than [`Options::timeout`](crate::Options::timeout) for the
    /// answer.
    #[must_use]
    pub fn with_limit(self, limit: Duration) -> Self {
        Self { limit: Some(limit), ..self }
    }

    /// The command, its data and its token: for workloads that are tested, and those that wrap
    /// others.
    pub fn into_parts(self) -> (Sqe, Buffer, u64) {
        (self.sqe, self.buffer, self.token)
    }
}

#[inline]
fn transfer(opcode: u8, nsid: u32, lba: u64, blocks: u32) -> Sqe {
    let mut sqe = Sqe::new(opcode);
    sqe.nsid.set(nsid);
    sqe.set_slba(lba);
    sqe.set_cdw(12, blocks.saturating_sub(1) & 0xffff);
    sqe
}

/// What a queue that has room is to do.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "the large one is the one that there mostly is")]
pub enum Next {
    /// Send this.
    Io(Request),
    /// Nothing before this time.
    NotBefore(Instant),
    /// Nothing now: ask again once a command of the run completes or its
    /// [`Handle`](crate::Handle) is used.
    Later,
    /// The same, but ask again at this time in any case.
    LaterOrAt(Instant),
    /// Nothing any more.
    Done,
}

/// Says what to do and is told what came of it. Everything is called on the run's thread.
pub trait Workload {
    /// What `queue`, by its place in the list given to [`run`](crate::run), is to do next. Asked
    /// again and again while the queue has room, until it is not [`Next::Io`].
    fn next(&mut self, queue: usize, now: Instant) -> Next;

    /// What [`next`](Self::next) gave last for `queue` is on its way under this identifier: what
    /// an Abort command has to name.
    #[inline]
    fn submitted(&mut self, queue: usize, token: u64, cid: u16) {
        let _ = (queue, token, cid);
    }

    /// A command is complete. `now` is when its answer was seen; `buffer` is what came with the
    /// request, filled if it was for reading and all went well. What a read that failed has in it
    /// is anything, and of one that was [`Lost`](CommandError::Lost) the buffer may be lost too.
    fn complete(
        &mut self,
        queue: usize,
        token: u64,
        result: Result<&Cqe, CommandError>,
        buffer: Buffer,
        now: Instant,
    );
}

impl<W: Workload + ?Sized> Workload for &mut W {
    fn next(&mut self, queue: usize, now: Instant) -> Next {
        (**self).next(queue, now)
    }

    fn submitted(&mut self, queue: usize, token: u64, cid: u16) {
        (**self).submitted(queue, token, cid);
    }

    fn complete(
        &mut self,
        queue: usize,
        token: u64,
        result: Result<&Cqe, CommandError>,
        buffer: Buffer,
        now: Instant,
    ) {
        (**self).complete(queue, token, result, buffer, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes_name_their_blocks() {
        let read = Request::read(3, 1 << 40, 65536, BytesMut::new()).sqe;
        assert_eq!((read.nsid.get(), read.slba(), read.block_count()), (3, 1 << 40, 65536));
        assert_eq!(read.opcode, opcode::nvm::READ);
        let write = Request::write(1, 7, 1, Bytes::new()).with_token(9);
        assert_eq!((write.sqe.slba(), write.sqe.block_count(), write.token), (7, 1, 9));
        assert_eq!(write.sqe.opcode, opcode::nvm::WRITE);
    }
}

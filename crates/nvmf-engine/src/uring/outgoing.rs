//! A message on its way out.

use std::fmt;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd};

use io_uring::types::Fd;
use io_uring::{opcode, squeue};

use crate::message::Message;

/// Pieces of one gathered send; the system takes no more.
const SLICES: usize = 1024;

/// A message in flight, and what tells the kernel where it lies.
pub(super) struct Outgoing {
    message: Message,
    /// Bytes of it that are with the kernel.
    sent: usize,
    /// What the kernel looks at, in a place of its own: this is boxed.
    header: libc::msghdr,
    slices: Vec<libc::iovec>,
}

impl Outgoing {
    pub(super) fn new() -> Self {
        // SAFETY: null pointers and zeros are a header of nothing.
        let header = unsafe { mem::zeroed() };
        Self { message: Message::new(), sent: 0, header, slices: Vec::new() }
    }

    pub(super) fn start(&mut self, message: Message) {
        self.message = message;
        self.sent = 0;
    }

    /// Takes note that so many more bytes are sent; whether that is all.
    pub(super) fn advance(&mut self, n: usize) -> bool {
        self.sent += n;
        self.is_done()
    }

    pub(super) fn is_done(&self) -> bool {
        self.sent >= self.message.len()
    }

    pub(super) fn take(&mut self) -> Message {
        mem::take(&mut self.message)
    }

    /// The operation that sends what is left, or as much of it as one takes. It refers to this and
    /// to the message in it.
    pub(super) fn entry(self: &mut Box<Self>, socket: BorrowedFd<'_>) -> squeue::Entry {
        self.slices.clear();
        self.slices.extend(self.message.rest(self.sent).take(SLICES).map(|piece| libc::iovec {
            iov_base: piece.as_ptr().cast_mut().cast(),
            iov_len: piece.len(),
        }));
        self.header.msg_iov = self.slices.as_mut_ptr();
        self.header.msg_iovlen = self.slices.len();
        // By `WAITALL` the kernel goes on by itself where the socket takes only a part.
        let flags = (libc::MSG_NOSIGNAL | libc::MSG_WAITALL).unsigned_abs();
        opcode::SendMsg::new(Fd(socket.as_raw_fd()), &raw const self.header).flags(flags).build()
    }
}

impl fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outgoing")
            .field("sent", &self.sent)
            .field("length", &self.message.len())
            .finish_non_exhaustive()
    }
}

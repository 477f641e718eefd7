//! A receive straight into buffers to fill.

use std::fmt;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd};

use io_uring::types::Fd;
use io_uring::{opcode, squeue};

use crate::filling::Filling;

/// Pieces of one receive; the system takes no more.
const SLICES: usize = 1024;
/// Room for what comes behind the buffers: the next header, and all of a short command. In bytes.
const SPARE: usize = 32 << 10;

/// A receive into buffers to fill and, behind them, a spare one.
pub(super) struct Incoming {
    spare: Vec<u8>,
    /// Bytes that fit before the spare.
    covered: usize,
    /// What the kernel looks at, in a place of its own: this is boxed.
    header: libc::msghdr,
    slices: Vec<libc::iovec>,
}

impl Incoming {
    pub(super) fn new() -> Self {
        // SAFETY: null pointers and zeros are a header of nothing.
        let header = unsafe { mem::zeroed() };
        Self { spare: vec![0; SPARE], covered: 0, header, slices: Vec::new() }
    }

    /// The operation that receives into the room of `filling` and the spare. It refers to this and
    /// to the buffers.
    pub(super) fn entry(
        self: &mut Box<Self>,
        filling: &mut Filling,
        socket: BorrowedFd<'_>,
    ) -> squeue::Entry {
        self.slices.clear();
        self.slices.extend(filling.room().take(SLICES - 1).map(iovec));
        self.covered = self.slices.iter().map(|slice| slice.iov_len).sum();
        self.slices.push(iovec(&mut self.spare));
        self.header.msg_iov = self.slices.as_mut_ptr();
        self.header.msg_iovlen = self.slices.len();
        opcode::RecvMsg::new(Fd(socket.as_raw_fd()), &raw mut self.header).build()
    }

    /// How many of `n` bytes that were received are in the buffers; the others are in the spare.
    pub(super) fn covers(&self, n: usize) -> usize {
        n.min(self.covered)
    }

    /// The first bytes of the spare.
    pub(super) fn spare(&self, n: usize) -> &[u8] {
        &self.spare[..n]
    }
}

fn iovec(room: &mut [u8]) -> libc::iovec {
    libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: room.len() }
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming").field("covered", &self.covered).finish_non_exhaustive()
    }
}

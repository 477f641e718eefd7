//! The ring itself: setting it up, entering the kernel, and counting what is in its hands.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;
use std::time::Duration;

use io_uring::types::{CancelBuilder, Fd};
use io_uring::{EnterFlags, IoUring, Probe, cqueue, opcode, squeue};

use super::buffers::{self, Buffers};
use super::operation::Operation;

/// What is begun between two turns mostly fits; more takes one system call for each so many.
const SUBMISSIONS: u32 = 256;
/// Every connection may have several completions waiting. The kernel keeps what does not fit, but
/// that is slow and ends multishot operations.
const COMPLETIONS: u32 = 4096;

/// An io_uring for the thread that made it.
pub(super) struct Ring {
    ring: IoUring,
    /// What the kernel knows the ring by: its place in the thread's table of rings, or its
    /// descriptor.
    enter_fd: i32,
    /// Flags of every system call.
    enter_flags: u32,
    /// Entries that the kernel had no room for.
    backlog: VecDeque<squeue::Entry>,
    /// Operations begun whose last completion was not taken yet.
    in_flight: usize,
    /// System calls made to submit or to wait.
    #[cfg(test)]
    pub(super) enters: usize,
    /// Completions taken.
    #[cfg(test)]
    pub(super) taken: usize,
    /// The kernel takes entries from one thread only.
    thread: PhantomData<*const ()>,
}

/// Something happened to an operation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Completion {
    pub(super) operation: Operation,
    /// What it gave, or a negative error number.
    pub(super) result: i32,
    flags: u32,
}

impl Completion {
    /// Whether the operation goes on.
    pub(super) fn more(&self) -> bool {
        cqueue::more(self.flags)
    }

    /// The provided buffer that was used.
    pub(super) fn buffer(&self) -> Option<u16> {
        cqueue::buffer_select(self.flags)
    }

    /// What it gave.
    pub(super) fn outcome(&self) -> io::Result<usize> {
        outcome(self.result)
    }
}

/// A result of the kernel as Rust has it.
pub(super) fn outcome(result: i32) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(result.wrapping_neg()))
}

/// Whether the same is to be done again.
pub(super) fn transient(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN | libc::ECANCELED))
}

impl Ring {
    pub(super) fn new() -> io::Result<Self> {
        // Before Linux 6.1 work is not deferred to the moment at which it is asked for.
        match Self::with(IoUring::builder().setup_defer_taskrun()) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Self::cooperative(),
            result => result,
        }
    }

    /// As on Linux 6.0.
    pub(super) fn cooperative() -> io::Result<Self> {
        Self::with(IoUring::builder().setup_coop_taskrun())
    }

    /// A single issuer is known since 6.0, and so are the multishot receives used here.
    fn with(builder: &mut io_uring::Builder) -> io::Result<Self> {
        let ring = builder
            .setup_single_issuer()
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_cqsize(COMPLETIONS)
            .setup_clamp()
            .build(SUBMISSIONS)
            .map_err(explain)?;
        check(&ring)?;
        let no_iowait = ring.params().is_feature_no_iowait();
        // An idle engine is not waiting for a disk; without this it would be counted as if.
        let enter_flags = if no_iowait { EnterFlags::NO_IOWAIT.bits() } else { 0 };
        let mut new = Self {
            enter_fd: ring.as_raw_fd(),
            enter_flags,
            ring,
            backlog: VecDeque::new(),
            in_flight: 0,
            #[cfg(test)]
            enters: 0,
            #[cfg(test)]
            taken: 0,
            thread: PhantomData,
        };
        // Saves looking the descriptor up; there is room for 16 rings of a thread.
        if let Some(place) = register_ring(new.ring.as_raw_fd()) {
            new.enter_fd = place;
            new.enter_flags |= EnterFlags::REGISTERED_RING.bits();
        }
        Ok(new)
    }

    /// Lets the kernel choose from these buffers; they are kept until the ring is gone.
    ///
    /// # Safety
    ///
    /// They stay while anything is in flight.
    pub(super) unsafe fn provide(&self, buffers: &Buffers) -> io::Result<()> {
        // SAFETY: the ring of buffers is mapped, is as long as it says, and stays, as the caller
        // promises.
        unsafe {
            self.ring.submitter().register_buf_ring_with_flags(
                buffers.address(),
                buffers::COUNT,
                buffers::GROUP,
                0,
            )
        }
    }

    /// Pins buffers for operations on them; their places are the numbers that these take.
    ///
    /// # Safety
    ///
    /// The memory stays as long as the ring.
    pub(super) unsafe fn register_buffers(&self, buffers: &[libc::iovec]) -> io::Result<()> {
        // SAFETY: as the caller promises.
        unsafe { self.ring.submitter().register_buffers(buffers) }
    }

    /// How many operations are begun and not over.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Accepts connections until it is cancelled or fails.
    pub(super) fn accept(&mut self, listener: BorrowedFd<'_>, operation: Operation) {
        let accept = opcode::AcceptMulti::new(Fd(listener.as_raw_fd())).flags(libc::SOCK_CLOEXEC);
        // SAFETY: it refers to no memory.
        unsafe { self.push(accept.build(), operation) }
    }

    /// Tells whenever there is something to read, until it fails.
    pub(super) fn watch(&mut self, socket: BorrowedFd<'_>, operation: Operation) {
        let flags = u32::from(libc::POLLIN.unsigned_abs());
        let poll = opcode::PollAdd::new(Fd(socket.as_raw_fd()), flags).multi(true);
        // SAFETY: it refers to no memory.
        unsafe { self.push(poll.build(), operation) }
    }

    /// Receives into provided buffers until it is cancelled or fails.
    pub(super) fn receive(&mut self, socket: BorrowedFd<'_>, operation: Operation) {
        let receive = opcode::RecvMulti::new(Fd(socket.as_raw_fd()), buffers::GROUP);
        // SAFETY: it refers to no memory but the buffers of `provide`, which stay.
        unsafe { self.push(receive.build(), operation) }
    }

    /// Receives into one provided buffer.
    pub(super) fn receive_once(&mut self, socket: BorrowedFd<'_>, operation: Operation) {
        let receive = opcode::Recv::new(Fd(socket.as_raw_fd()), ptr::null_mut(), buffers::SIZE)
            .buf_group(buffers::GROUP)
            .build()
            .flags(squeue::Flags::BUFFER_SELECT);
        // SAFETY: it refers to no memory but the buffers of `provide`, which stay.
        unsafe { self.push(receive, operation) }
    }

    /// Cancels everything that is under way on a descriptor. It has to stay open until this is
    /// complete, or another that gets its number would be hit.
    pub(super) fn cancel_all(&mut self, fd: BorrowedFd<'_>, operation: Operation) {
        let cancel = opcode::AsyncCancel2::new(CancelBuilder::fd(Fd(fd.as_raw_fd())).all());
        // SAFETY: it refers to no memory.
        unsafe { self.push(cancel.build(), operation) }
    }

    /// Cancels one operation.
    pub(super) fn cancel(&mut self, which: Operation, operation: Operation) {
        let cancel = opcode::AsyncCancel::new(which.to_bits());
        // SAFETY: it refers to no memory.
        unsafe { self.push(cancel.build(), operation) }
    }

    /// Begins an operation; its last completion comes without [`Completion::more`].
    ///
    /// # Safety
    ///
    /// The memory that the entry refers to stays, and nobody else touches what the kernel writes,
    /// until the last completion was taken.
    pub(super) unsafe fn push(&mut self, entry: squeue::Entry, operation: Operation) {
        self.in_flight += 1;
        self.backlog.push_back(entry.user_data(operation.to_bits()));
        self.flush();
        if !self.backlog.is_empty() {
            // No room: what is there goes first. Where the kernel does not take it either, because
            // it is short of memory or has completions that must be taken before, it stays in the
            // backlog until the next time.
            let _ = self.enter(0, 0, None);
            self.flush();
        }
    }

    /// Moves the backlog to where the kernel takes it from.
    fn flush(&mut self) {
        let mut queue = self.ring.submission();
        while let Some(entry) = self.backlog.front() {
            // SAFETY: what `push` demands of its caller.
            if unsafe { queue.push(entry) }.is_err() {
                return;
            }
            self.backlog.pop_front();
        }
    }

    /// Submits what was begun and has the kernel post what is complete. Makes no system call where
    /// there is neither.
    pub(super) fn poll(&mut self) -> io::Result<()> {
        self.flush();
        let queue = self.ring.submission();
        let wanted = !queue.is_empty() || queue.taskrun() || queue.cq_overflow();
        drop(queue);
        if wanted { self.enter(0, EnterFlags::GETEVENTS.bits(), None) } else { Ok(()) }
    }

    /// The same, but waits until there is a completion, or for so long.
    pub(super) fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        if !self.ring.completion().is_empty() {
            return self.poll();
        }
        self.flush();
        if !self.backlog.is_empty() {
            self.enter(0, EnterFlags::GETEVENTS.bits(), None)?;
            self.flush();
        }
        // What is waited for may be in the backlog still.
        let want = u32::from(self.backlog.is_empty());
        self.enter(want, EnterFlags::GETEVENTS.bits(), timeout)
    }

    fn enter(&mut self, want: u32, flags: u32, timeout: Option<Duration>) -> io::Result<()> {
        #[cfg(test)]
        (self.enters += 1);
        let submit = u32::try_from(self.ring.submission().len()).unwrap_or(SUBMISSIONS);
        let time = io_uring::types::Timespec::from(timeout.unwrap_or_default());
        let arguments = Arguments { timeout: &raw const time, ..Arguments::NONE };
        let (flags, argument, size) = match timeout {
            None => (flags | self.enter_flags, ptr::null(), 0),
            Some(_) => (
                flags | self.enter_flags | EnterFlags::EXT_ARG.bits(),
                &raw const arguments,
                size_of::<Arguments>(),
            ),
        };
        // SAFETY: the argument is absent or as `EXT_ARG` says, and it and the time it points to
        // live until the call returns, after which the kernel does not look at them. What the
        // entries refer to is right by `push`.
        let result = unsafe {
            libc::syscall(
                libc::SYS_io_uring_enter,
                self.enter_fd,
                submit,
                want,
                flags,
                argument,
                size,
            )
        };
        if result >= 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            // Time is up, or a signal came. Or the kernel wants completions taken or memory before
            // it goes on: entries it did not take stay where they are.
            Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN) => Ok(()),
            _ => Err(error),
        }
    }

    /// How many completions are there.
    pub(super) fn completions(&mut self) -> usize {
        self.ring.completion().len()
    }

    /// Takes the next completion.
    pub(super) fn take(&mut self) -> Option<Completion> {
        let entry = self.ring.completion().next()?;
        #[cfg(test)]
        (self.taken += 1);
        if !cqueue::more(entry.flags()) {
            self.in_flight = self.in_flight.saturating_sub(1);
        }
        Some(Completion {
            operation: Operation::from_bits(entry.user_data()),
            result: entry.result(),
            flags: entry.flags(),
        })
    }

    /// Cancels everything.
    pub(super) fn cancel_everything(&mut self) {
        // What the kernel never saw is over.
        self.in_flight -= self.backlog.len();
        self.backlog.clear();
        let cancel = opcode::AsyncCancel2::new(CancelBuilder::any());
        // SAFETY: it refers to no memory.
        unsafe { self.push(cancel.build(), Operation::Cancel) }
    }
}

#[cfg(test)]
thread_local! {
    /// Operations in flight when the last ring of this thread was dropped.
    pub(super) static LEFT: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

impl Drop for Ring {
    fn drop(&mut self) {
        #[cfg(test)]
        LEFT.set(self.in_flight);
        if self.enter_flags & EnterFlags::REGISTERED_RING.bits() != 0 {
            unregister_ring(self.ring.as_raw_fd(), self.enter_fd);
        }
    }
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring").field("in_flight", &self.in_flight).finish_non_exhaustive()
    }
}

/// What the kernel takes beside the flags (`struct io_uring_getevents_arg`).
#[repr(C)]
struct Arguments {
    signals: u64,
    signals_size: u32,
    min_wait_us: u32,
    timeout: *const io_uring::types::Timespec,
    #[cfg(target_pointer_width = "32")]
    pad: u32,
}

impl Arguments {
    const NONE: Self = Self {
        signals: 0,
        signals_size: 0,
        min_wait_us: 0,
        timeout: ptr::null(),
        #[cfg(target_pointer_width = "32")]
        pad: 0,
    };
}

/// A ring takes some 100 KiB of what a user may lock. The kernel says only that there is no memory.
fn explain(error: io::Error) -> io::Error {
    if error.raw_os_error() == Some(libc::ENOMEM) {
        let text = "there is no memory for it, or too little may be locked (`ulimit -l`)";
        return io::Error::new(io::ErrorKind::OutOfMemory, text);
    }
    error
}

/// Checks that the kernel has what is used; operations that were added together are asked for one
/// by one all the same, because a sandbox may forbid some.
fn check(ring: &IoUring) -> io::Result<()> {
    let parameters = ring.params();
    if !parameters.is_feature_ext_arg() || !parameters.is_feature_nodrop() {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "the kernel is too old"));
    }
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe)?;
    let needed = [
        opcode::AcceptMulti::CODE,
        opcode::PollAdd::CODE,
        opcode::RecvMulti::CODE,
        opcode::RecvMsg::CODE,
        opcode::SendMsg::CODE,
        opcode::AsyncCancel2::CODE,
        opcode::Read::CODE,
        opcode::Write::CODE,
        opcode::Readv::CODE,
        opcode::Writev::CODE,
        opcode::ReadFixed::CODE,
        opcode::WriteFixed::CODE,
    ];
    match needed.iter().find(|code| !probe.is_supported(**code)) {
        None => Ok(()),
        Some(code) => {
            Err(io::Error::new(io::ErrorKind::Unsupported, format!("no operation {code}")))
        }
    }
}

/// An entry of a table of the ring (`struct io_uring_rsrc_update`).
#[repr(C)]
struct Update {
    offset: u32,
    reserved: u32,
    data: u64,
}

const REGISTER_RING_FDS: u32 = 20;
const UNREGISTER_RING_FDS: u32 = 21;

/// Puts the ring into the thread's table of rings; its place there. The `io-uring` crate can do
/// that too, but forgets the place with each `Submitter`.
fn register_ring(fd: i32) -> Option<i32> {
    let mut update = Update { offset: u32::MAX, reserved: 0, data: u64::try_from(fd).ok()? };
    // SAFETY: the kernel reads and writes one entry during the call, and there is one.
    let result = unsafe {
        libc::syscall(libc::SYS_io_uring_register, fd, REGISTER_RING_FDS, &raw mut update, 1u32)
    };
    if result == 1 { i32::try_from(update.offset).ok() } else { None }
}

/// Takes it out again: the table would keep the ring alive for as long as the thread.
fn unregister_ring(fd: i32, place: i32) {
    let Ok(offset) = u32::try_from(place) else { return };
    let update = Update { offset, reserved: 0, data: 0 };
    // SAFETY: the kernel reads one entry during the call, and there is one.
    unsafe {
        libc::syscall(
            libc::SYS_io_uring_register,
            fd,
            UNREGISTER_RING_FDS,
            &raw const update,
            1u32,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn what_does_not_fit_is_not_lost() {
        let mut ring = Ring::new().expect("io_uring, which these tests need");
        let (socket, _peer) = std::os::unix::net::UnixStream::pair().unwrap();
        let total = COMPLETIONS as usize * 2 + 10;
        for _ in 0..total {
            ring.cancel_all(socket.as_fd(), Operation::Cancel);
        }
        let mut taken = 0;
        while ring.in_flight() > 0 {
            ring.wait(Some(Duration::from_secs(10))).unwrap();
            assert!(ring.completions() > 0, "{taken} of {total}");
            while ring.take().is_some() {
                taken += 1;
            }
        }
        assert_eq!(taken, total);
    }

    #[test]
    fn a_ring_leaves_nothing_in_the_threads_table() {
        // Which has 16 places.
        for _ in 0..20 {
            let ring = Ring::new().expect("io_uring, which these tests need");
            assert_ne!(ring.enter_flags & EnterFlags::REGISTERED_RING.bits(), 0);
        }
    }
}

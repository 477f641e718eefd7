//! A [`Workload`] on a namespace object: what drives queues can drive a namespace with several paths.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Instant;

use nvmf::spec::{Cqe, Status, opcode};
use slab::Slab;

use super::error::{Asked, IoError, Verb};
use super::operation::{Operation, Pending};
use super::{Inner, Namespace};
use crate::multipath::command::{Command, CommandData};
use crate::{Buffer, CommandError, Handle, Next, Request, Workload};

impl Namespace {
    /// Drives a workload on this thread until it has no more to do, with up to `depth` commands
    /// under way: as [`run`](crate::run) drives it on queues, but by whatever paths there are.
    ///
    /// The workload knows one queue, number 0. Its requests are sent as they are, each as one
    /// command, to this namespace, whatever they name; each has to fit into what one command may
    /// move ([`Geometry::max_transfer`](super::Geometry::max_transfer)). A command ends with a
    /// status, or damaged, or [`Lost`](CommandError::Lost): then it was given up with what this
    /// returns. Writes of the workload do not wait for others that write the same block in part. `handle` says that what was [`Next::Later`] may be over.
    ///
    /// # Errors
    ///
    /// The first command that was given up for another reason than a status.
    pub fn drive<W: Workload>(
        &self,
        workload: W,
        depth: usize,
        handle: &Handle,
    ) -> Result<(), IoError> {
        let ready = Arc::new(Ready { thread: thread::current(), done: Mutex::default() });
        let registration = handle.register(Waker::from(Arc::clone(&ready)));
        let mut driver = Driver {
            inner: &self.0,
            workload,
            depth: depth.max(1),
            under_way: Slab::new(),
            wakers: Vec::new(),
            ready,
            failure: None,
        };
        driver.drive();
        drop(registration);
        driver.failure.map_or(Ok(()), Err)
    }
}

/// Operations that can be looked at again.
struct Ready {
    thread: Thread,
    done: Mutex<Vec<usize>>,
}

/// Wakes the driver, without an operation that is done.
impl Wake for Ready {
    fn wake(self: Arc<Self>) {
        self.thread.unpark();
    }
}

/// Wakes it for one of them.
struct Place {
    ready: Arc<Ready>,
    place: usize,
}

impl Wake for Place {
    fn wake(self: Arc<Self>) {
        let mut done = self.ready.done.lock().unwrap_or_else(PoisonError::into_inner);
        done.push(self.place);
        drop(done);
        self.ready.thread.unpark();
    }
}

struct Driver<'a, W> {
    inner: &'a Inner,
    workload: W,
    depth: usize,
    under_way: Slab<(Pending, u64, Buffer)>,
    /// One for each place.
    wakers: Vec<Waker>,
    ready: Arc<Ready>,
    failure: Option<IoError>,
}

impl<W: Workload> Driver<'_, W> {
    fn drive(&mut self) {
        loop {
            let until = self.ask();
            if self.under_way.is_empty() && matches!(until, Until::Over) {
                return;
            }
            // What was done before this has left a token behind, so none is slept through.
            match until {
                Until::Time(time) => {
                    thread::park_timeout(time.saturating_duration_since(Instant::now()));
                }
                Until::Told | Until::Over => thread::park(),
            }
            let done = {
                let mut done = self.ready.done.lock().unwrap_or_else(PoisonError::into_inner);
                std::mem::take(&mut *done)
            };
            let now = Instant::now();
            for place in done {
                self.look(place, now);
            }
        }
    }

    /// Sends what the workload has to send.
    fn ask(&mut self) -> Until {
        while self.under_way.len() < self.depth && self.failure.is_none() {
            let now = Instant::now();
            match self.workload.next(0, now) {
                Next::Io(request) => self.submit(request, now),
                Next::NotBefore(time) | Next::LaterOrAt(time) => return Until::Time(time),
                Next::Later => return Until::Told,
                Next::Done => return Until::Over,
            }
        }
        if self.failure.is_some() { Until::Over } else { Until::Told }
    }

    fn submit(&mut self, request: Request, now: Instant) {
        let limit = request.limit;
        let (mut sqe, buffer, token) = request.into_parts();
        sqe.nsid.set(self.inner.head.nsid);
        let block = u64::from(self.inner.geometry().block_size);
        let length = u64::try_from(buffer.len()).unwrap_or(u64::MAX);
        let verb = match sqe.opcode {
            opcode::nvm::READ => Verb::Read,
            opcode::nvm::WRITE => Verb::Write,
            opcode::nvm::COMPARE => Verb::Compare,
            opcode::nvm::FLUSH => Verb::Flush,
            _ => Verb::Other,
        };
        let asked = Asked { verb, offset: sqe.slba().saturating_mul(block), length };
        let operation = Operation::new(asked, 1, None);
        let limit = limit.or(self.inner.head.settings.deadline);
        let deadline = limit.and_then(|limit| now.checked_add(limit));
        let pending = Pending::new(operation.clone(), self.inner.head.clone(), deadline);
        let (data, kept) = match buffer {
            Buffer::None => (CommandData::None, Buffer::None),
            Buffer::Read(room) => {
                let length = room.len();
                (CommandData::Read { length, room: Some(room) }, Buffer::None)
            }
            Buffer::Write(data) => (CommandData::Write(data.clone()), Buffer::Write(data)),
        };
        let place = self.under_way.insert((pending, token, kept));
        while self.wakers.len() <= place {
            let waker = Place { ready: Arc::clone(&self.ready), place: self.wakers.len() };
            self.wakers.push(Waker::from(Arc::new(waker)));
        }
        self.inner.head.submit([Command::new(operation, 0, sqe, data)]);
        self.look(place, now);
    }

    /// Looks whether an operation is done.
    fn look(&mut self, place: usize, now: Instant) {
        let Some((pending, ..)) = self.under_way.get_mut(place) else { return };
        let Some(waker) = self.wakers.get(place) else { return };
        let polled = std::pin::Pin::new(pending).poll(&mut Context::from_waker(waker));
        let Poll::Ready(result) = polled else { return };
        let (_, token, kept) = self.under_way.remove(place);
        let success = Cqe::new(0, Status::SUCCESS);
        let (result, buffer) = match result {
            Ok(data) if kept.is_empty() && !data.is_empty() => (Ok(&success), Buffer::Read(data)),
            Ok(_) => (Ok(&success), kept),
            Err(IoError::Status { status, .. }) => (Err(CommandError::Status(status)), kept),
            Err(IoError::Mismatch { .. }) => {
                (Err(CommandError::Status(Status::COMPARE_FAILURE)), kept)
            }
            Err(IoError::Damaged { violation, .. }) => {
                (Err(CommandError::Damaged(violation)), kept)
            }
            Err(error) => {
                self.failure.get_or_insert(error);
                (Err(CommandError::Lost), kept)
            }
        };
        self.workload.complete(0, token, result, buffer, now);
    }
}

/// How long there is nothing to ask for.
enum Until {
    /// Until a command is done, or somebody says so.
    Told,
    /// The same, but not after this.
    Time(Instant),
    /// For ever.
    Over,
}

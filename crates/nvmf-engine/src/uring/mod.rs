//! The engine by io_uring: the kernel is told what to do and tells when it is done.
#![allow(unsafe_code, reason = "the kernel is given addresses: see below for who keeps them")]
// Three kinds of memory are in the kernel's hands, and each has one owner that gives nothing of it
// away before the kernel says that it is done:
//
// - The provided buffers (`buffers`) belong to the ring as long as it lives. One that was filled
//   is read through a `Lease`, and goes back when that ends.
// - What one operation refers to (`Outgoing`, `Incoming` and the buffers to fill, a file's `Job`)
//   belongs to the connection or the file operation. These stay in their tables, under a key that
//   is not used again, until the last completion of all their operations was taken, even if they
//   are closed before. An engine that is dropped waits for that, or leaks them.
// - Registered buffers (`registered`) are pinned by the kernel itself.
//
// A completion is accounted for before a handler is told of it, and what is done afterwards is
// right for any connection in any state: handlers may close what they were told of, turn the engine
// again, or even put another engine in its place.

use std::collections::VecDeque;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use bytes::BytesMut;

use crate::engine::{ConnId, Engine, Handler, ListenerId, Wait};
use crate::file::{FileId, FileOp};
use crate::message::Message;
use crate::slots::{Key, Slots};
use crate::waker::{Alarm, Waker};
use buffers::Buffers;
use conn::Conn;
use files::Files;
use incoming::Incoming;
use listener::Listener;
use operation::Operation;
use outgoing::Outgoing;
use ring::{Completion, Ring};

mod buffers;
mod conn;
mod files;
mod incoming;
mod listener;
mod operation;
mod outgoing;
mod registered;
mod ring;
#[cfg(test)]
mod tests;
mod trial;

/// Headers of operations are kept for the next ones, so many of each kind.
const KEPT: usize = 64;
/// An engine that is dropped waits so long for what cannot be cancelled…
const PATIENCE: Duration = Duration::from_secs(5);
/// …and cancels again after so long what was just being begun the last time.
const AGAIN: Duration = Duration::from_millis(100);

/// The engine by io_uring; see the [crate](crate).
#[derive(Debug)]
pub struct Uring {
    ring: Ring,
    buffers: Buffers,
    alarm: Alarm,
    listeners: Slots<Listener>,
    /// When the first listener that rests is to go on.
    rest: Option<Instant>,
    conns: Slots<Conn>,
    files: Files,
    /// Connections whose message went out without the kernel, because it was empty: to be told.
    sent: VecDeque<Key>,
    /// Connections that are given buffers to fill while the kernel receives into others.
    to_fill: Vec<Key>,
    /// Connections that found all provided buffers in use.
    starved: VecDeque<Key>,
    #[allow(clippy::vec_box, reason = "the kernel knows where they are: they must not move")]
    outgoing: Vec<Box<Outgoing>>,
    #[allow(clippy::vec_box, reason = "as above")]
    incoming: Vec<Box<Incoming>>,
}

impl Uring {
    /// An engine without sockets.
    ///
    /// # Errors
    ///
    /// Whatever the system has against it.
    pub fn new() -> io::Result<Self> {
        Self::with(Ring::new()?)
    }

    /// The same as on Linux 6.0.
    #[cfg(test)]
    pub(crate) fn cooperative() -> io::Result<Self> {
        Self::with(Ring::cooperative()?)
    }

    fn with(mut ring: Ring) -> io::Result<Self> {
        let buffers = Buffers::new()?;
        // SAFETY: they stay as long as the engine, and are leaked if something is in flight then.
        unsafe { ring.provide(&buffers)? };
        let alarm = Alarm::new()?;
        ring.watch(alarm.socket().as_fd(), Operation::Alarm);
        Ok(Self {
            ring,
            buffers,
            alarm,
            listeners: Slots::default(),
            rest: None,
            conns: Slots::default(),
            files: Files::default(),
            sent: VecDeque::new(),
            to_fill: Vec::new(),
            starved: VecDeque::new(),
            outgoing: Vec::new(),
            incoming: Vec::new(),
        })
    }

    /// Tells what was done without the kernel.
    fn tell<H: Handler<Self>>(&mut self, handler: &mut H) -> bool {
        let mut told = false;
        // Only what is there now: a handler that sends at once is told in the next turn.
        for _ in 0..self.sent.len() {
            let Some(key) = self.sent.pop_front() else { break };
            told |= self.tell_sent(handler, key);
        }
        for _ in 0..self.files.to_tell() {
            let Some((token, op, result)) = self.files.take() else { break };
            handler.done(self, token, op, result);
            told = true;
        }
        told
    }

    /// Has the kernel do what there is to do, and waits as `wait` says.
    fn enter(&mut self, wait: Wait) -> io::Result<()> {
        self.stop_to_fill();
        self.feed();
        if self.rest.is_some() {
            self.rested();
        }
        match wait {
            _ if !self.starved.is_empty() => self.ring.poll(),
            Wait::No => self.ring.poll(),
            Wait::Until(deadline) => {
                let deadline = [deadline, self.rest].into_iter().flatten().min();
                let left = deadline.map(|time| time.saturating_duration_since(Instant::now()));
                self.ring.wait(left)
            }
        }
    }

    fn completed<H: Handler<Self>>(&mut self, handler: &mut H, completion: Completion) {
        match completion.operation {
            Operation::Alarm => self.rang(handler, completion),
            Operation::Accept(key) => self.accepted(handler, key, completion),
            Operation::StopListener(key) => self.listener_stopped(key),
            Operation::Receive(key) => self.received(handler, key, completion),
            Operation::Fill(key) => self.filled(handler, key, completion),
            Operation::Send(key) => self.sent(handler, key, completion),
            Operation::StopConn(key) => self.conn_stopped(key),
            Operation::File(key) => self.file_completed(handler, key, completion),
            Operation::Cancel => {}
        }
    }

    fn rang<H: Handler<Self>>(&mut self, handler: &mut H, completion: Completion) {
        if !completion.more() {
            self.ring.watch(self.alarm.socket().as_fd(), Operation::Alarm);
        }
        if self.alarm.is_rung() {
            self.alarm.hear();
            handler.woken(self);
        }
    }
}

impl Engine for Uring {
    fn listen(&mut self, listener: TcpListener) -> io::Result<ListenerId> {
        self.add_listener(listener)
    }

    fn unlisten(&mut self, listener: ListenerId) {
        self.close_listener(listener.0);
    }

    fn attach(&mut self, socket: TcpStream) -> io::Result<ConnId> {
        self.add_conn(socket)
    }

    fn send(&mut self, conn: ConnId, message: Message) -> Result<(), Message> {
        self.start_sending(conn.0, message)
    }

    fn is_sending(&self, conn: ConnId) -> bool {
        self.conns.get(conn.0).is_some_and(Conn::is_sending)
    }

    fn fill(&mut self, conn: ConnId, parts: Vec<BytesMut>) {
        self.add_to_fill(conn.0, parts);
    }

    fn close(&mut self, conn: ConnId) {
        self.close_conn(conn.0);
    }

    fn open(&mut self, file: OwnedFd) -> io::Result<FileId> {
        self.files.open(file)
    }

    fn forget(&mut self, file: FileId) {
        self.files.forget(file);
    }

    fn submit(&mut self, file: FileId, op: FileOp, token: u64) {
        self.files.submit(&mut self.ring, file, op, token);
    }

    fn direct_buffer(&mut self, length: usize) -> Option<BytesMut> {
        self.files.lend(&self.ring, length)
    }

    fn waker(&self) -> Waker {
        self.alarm.waker()
    }

    fn turn<H: Handler<Self>>(&mut self, handler: &mut H, wait: Wait) -> io::Result<bool> {
        let mut busy = self.tell(handler);
        let more = busy || !self.sent.is_empty() || self.files.to_tell() > 0;
        self.enter(if more { Wait::No } else { wait })?;
        // Only what is there now, so that a turn ends however fast things happen. Each is taken
        // from the ring just before it is looked at, never later: it belongs to this engine.
        for _ in 0..self.ring.completions() {
            let Some(completion) = self.ring.take() else { break };
            self.completed(handler, completion);
            busy = true;
        }
        Ok(busy | self.tell(handler))
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        if self.drain() {
            return;
        }
        // Something cannot be cancelled, most likely because a disk does not answer. The kernel
        // would write into this memory after it was given to somebody else, so nobody gets it.
        tracing::error!("the kernel does not give everything back: memory is left to it");
        self.buffers.leak();
        std::mem::forget(std::mem::take(&mut self.conns));
        std::mem::forget(std::mem::take(&mut self.files));
    }
}

impl Uring {
    /// Cancels everything and waits for it; whether all of it is over.
    fn drain(&mut self) -> bool {
        let deadline = Instant::now() + PATIENCE;
        self.ring.cancel_everything();
        while self.ring.in_flight() > 0 {
            if self.ring.wait(Some(AGAIN)).is_err() || Instant::now() > deadline {
                return false;
            }
            if self.ring.completions() == 0 {
                self.ring.cancel_everything();
            }
            while let Some(completion) = self.ring.take() {
                if let Operation::Accept(_) = completion.operation {
                    drop(listener::socket(completion));
                }
            }
        }
        true
    }
}

//! Connections: receiving, filling, sending, closing.

use std::io;
use std::mem;
use std::net::TcpStream;
use std::os::fd::AsFd;

use bytes::BytesMut;
use rustix::net::Shutdown;

use super::incoming::Incoming;
use super::operation::Operation;
use super::outgoing::Outgoing;
use super::ring::{Completion, transient};
use super::{KEPT, Uring};
use crate::engine::{ConnId, End, Handler};
use crate::filling::Filling;
use crate::message::Message;
use crate::slots::Key;
use crate::tuning::tune;

/// What is less than this to fill is received like everything else and copied, which costs less
/// than an operation of its own. In bytes.
const DIRECT: usize = 16 << 10;
/// After a receive into buffers to fill, a connection receives one by one for so many receives:
/// where it has large payload now and then, stopping a multishot receive each time would cost more
/// than that saves.
pub(super) const RECEIVES: u32 = 8;

/// Connections that found no buffer and get one of the next turn's; others need some too.
const FED: u16 = super::buffers::COUNT / 2;

// Sockets are not registered with the ring: that saves 35 ns of each operation, of 2600 that one
// takes over the loopback interface, and costs a system call more for each connection that comes
// and goes, and a table whose size has to be known before.
#[derive(Debug)]
pub(super) struct Conn {
    socket: TcpStream,
    /// The caller has closed it; it waits for the kernel to be done.
    closed: bool,
    /// The peer sends nothing more, or it is broken.
    ended: bool,
    /// Operations whose last completion was not taken yet.
    in_kernel: u32,
    sending: Option<Sending>,
    receiving: Receiving,
    /// Nobody looks at the room in it while `receiving` is `Direct`: it is the kernel's.
    filling: Filling,
    /// Receives since there was something to fill.
    unfilled: u32,
}

#[derive(Debug)]
enum Sending {
    /// The kernel is sending it.
    InFlight(Box<Outgoing>),
    /// There was nothing to send.
    Done(Message),
}

/// What the kernel does to receive.
#[derive(Debug)]
enum Receiving {
    /// Nothing: a completion is being handled, or it has ended.
    Idle,
    /// It receives into provided buffers.
    Provided { stopping: bool },
    /// It receives into the buffers to fill.
    Direct(Box<Incoming>),
}

impl Conn {
    pub(super) fn is_sending(&self) -> bool {
        !self.closed && self.sending.is_some()
    }

    /// Copies the first of `bytes` to where they belong; how many these were.
    fn copy_from(&mut self, bytes: &[u8]) -> usize {
        // A handler that turns the engine can get here while the kernel receives.
        if let Receiving::Direct(_) = self.receiving { 0 } else { self.filling.copy_from(bytes) }
    }

    fn take_full(&mut self) -> Option<Vec<BytesMut>> {
        if let Receiving::Direct(_) = self.receiving { None } else { self.filling.take_full() }
    }
}

impl Uring {
    pub(super) fn add_conn(&mut self, socket: TcpStream) -> io::Result<ConnId> {
        tune(&socket)?;
        let new = Conn {
            socket,
            closed: false,
            ended: false,
            in_kernel: 0,
            sending: None,
            receiving: Receiving::Idle,
            filling: Filling::default(),
            unfilled: RECEIVES,
        };
        let key = self.conns.insert_with(|_| new);
        let key = key.ok_or_else(|| io::Error::other("too many sockets"))?;
        self.receive(key);
        Ok(ConnId(key))
    }

    /// A connection that the caller has not closed.
    fn open_conn(&mut self, key: Key) -> Option<&mut Conn> {
        self.conns.get_mut(key).filter(|conn| !conn.closed)
    }

    /// Begins to receive, unless that is under way or over.
    fn receive(&mut self, key: Key) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        if conn.closed || conn.ended || !matches!(conn.receiving, Receiving::Idle) {
            return;
        }
        conn.in_kernel += 1;
        if conn.filling.left() >= DIRECT {
            conn.unfilled = 0;
            let mut incoming = self.incoming.pop().unwrap_or_else(|| Box::new(Incoming::new()));
            let entry = incoming.entry(&mut conn.filling, conn.socket.as_fd());
            conn.receiving = Receiving::Direct(incoming);
            // SAFETY: the entry refers to `incoming`, which is boxed, and to the heap memory of
            // the buffers in `filling`. Both stay in the connection, and nobody looks at their
            // contents, while `receiving` is `Direct`, which it is until the completion of this
            // was taken (`filled`). The connection stays until then, because of `in_kernel`.
            unsafe { self.ring.push(entry, Operation::Fill(key)) };
        } else {
            conn.receiving = Receiving::Provided { stopping: false };
            let socket = conn.socket.as_fd();
            if conn.unfilled < RECEIVES {
                self.ring.receive_once(socket, Operation::Receive(key));
            } else {
                self.ring.receive(socket, Operation::Receive(key));
            }
        }
    }

    /// Receives again from connections that found no buffer. Not from all of them: who does not get
    /// one now would cost two operations each turn.
    pub(super) fn feed(&mut self) {
        for _ in 0..FED {
            let Some(key) = self.starved.pop_front() else { return };
            self.receive(key);
        }
    }

    pub(super) fn add_to_fill(&mut self, key: Key, parts: Vec<BytesMut>) {
        let Some(conn) = self.open_conn(key).filter(|conn| !conn.ended) else { return };
        // Also while the kernel receives into those that are there: these come behind them.
        conn.filling.push(parts);
        if let Receiving::Provided { stopping: false } = conn.receiving {
            self.to_fill.push(key);
        }
    }

    /// Stops receiving into provided buffers where there is still much to fill.
    pub(super) fn stop_to_fill(&mut self) {
        while let Some(key) = self.to_fill.pop() {
            if self.open_conn(key).is_some_and(|conn| conn.filling.left() >= DIRECT) {
                self.stop_receiving(key);
            }
        }
    }

    fn stop_receiving(&mut self, key: Key) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        let receive = match &mut conn.receiving {
            Receiving::Idle | Receiving::Provided { stopping: true } => return,
            Receiving::Provided { stopping } => {
                *stopping = true;
                Operation::Receive(key)
            }
            Receiving::Direct(_) => Operation::Fill(key),
        };
        conn.in_kernel += 1;
        self.ring.cancel(receive, Operation::StopConn(key));
    }

    /// Something came into a provided buffer, or no more will.
    pub(super) fn received<H: Handler<Self>>(
        &mut self,
        handler: &mut H,
        key: Key,
        completion: Completion,
    ) {
        let outcome = completion.outcome();
        let lease = completion.buffer().map(|id| {
            let n = *outcome.as_ref().unwrap_or(&0);
            // SAFETY: that is what the completion says, and it is taken once.
            unsafe { self.buffers.lease(id, n) }
        });
        let Some(conn) = self.conns.get_mut(key) else { return };
        if !completion.more() {
            conn.receiving = Receiving::Idle;
            conn.in_kernel -= 1;
        }
        if conn.filling.left() < DIRECT {
            conn.unfilled = conn.unfilled.saturating_add(1).min(RECEIVES);
        }
        if let Some(lease) = lease.filter(|_| !conn.ended) {
            self.hand_over(handler, key, &lease);
        }
        self.go_on(handler, key, outcome);
    }

    /// Something came into the buffers to fill, or nothing will.
    pub(super) fn filled<H: Handler<Self>>(
        &mut self,
        handler: &mut H,
        key: Key,
        completion: Completion,
    ) {
        let outcome = completion.outcome();
        let Some(conn) = self.conns.get_mut(key) else { return };
        let incoming = mem::replace(&mut conn.receiving, Receiving::Idle);
        conn.in_kernel -= 1;
        let Receiving::Direct(incoming) = incoming else { return };
        if conn.ended {
            conn.filling = Filling::default();
        } else if let Ok(n) = outcome {
            let direct = incoming.covers(n);
            conn.filling.advance(direct);
            self.tell_filled(handler, key);
            self.hand_over(handler, key, incoming.spare(n - direct));
        }
        if self.incoming.len() < KEPT {
            self.incoming.push(incoming);
        }
        self.go_on(handler, key, outcome);
    }

    fn tell_filled<H: Handler<Self>>(&mut self, handler: &mut H, key: Key) {
        while let Some(parts) = self.open_conn(key).and_then(Conn::take_full) {
            handler.filled(self, ConnId(key), parts);
        }
    }

    /// Hands over what was received: first into buffers to fill, of which the handler may bring
    /// more when it is told of full ones.
    fn hand_over<H: Handler<Self>>(&mut self, handler: &mut H, key: Key, mut bytes: &[u8]) {
        while !bytes.is_empty()
            && let Some(conn) = self.open_conn(key)
        {
            let n = conn.copy_from(bytes);
            if n == 0 {
                return handler.received(self, ConnId(key), bytes);
            }
            bytes = &bytes[n..];
            self.tell_filled(handler, key);
        }
    }

    /// What follows from a receive that was accounted for.
    fn go_on<H: Handler<Self>>(&mut self, handler: &mut H, key: Key, outcome: io::Result<usize>) {
        match outcome {
            Ok(0) => self.end(handler, key, End::Closed),
            Ok(_) => {}
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                // All buffers were in use. They are back before the kernel looks again, but there
                // may be more who wait for one: then each gets one at a time.
                if let Some(conn) = self.conns.get_mut(key) {
                    conn.unfilled = 0;
                    self.starved.push_back(key);
                }
                return self.retire_conn(key);
            }
            Err(error) if transient(&error) => {}
            Err(error) => self.end(handler, key, End::Failed(error)),
        }
        self.receive(key);
        self.retire_conn(key);
    }

    /// Tells of a connection's end, once.
    fn end<H: Handler<Self>>(&mut self, handler: &mut H, key: Key, end: End) {
        let Some(conn) = self.open_conn(key).filter(|conn| !conn.ended) else { return };
        conn.ended = true;
        if !matches!(conn.receiving, Receiving::Direct(_)) {
            conn.filling = Filling::default();
        }
        self.stop_receiving(key);
        handler.ended(self, ConnId(key), end);
    }

    pub(super) fn start_sending(&mut self, key: Key, message: Message) -> Result<(), Message> {
        let Some(conn) = self.conns.get_mut(key).filter(|conn| !conn.closed) else {
            return Err(message);
        };
        if conn.sending.is_some() {
            return Err(message);
        }
        if message.is_empty() {
            conn.sending = Some(Sending::Done(message));
            self.sent.push_back(key);
            return Ok(());
        }
        let mut outgoing = self.outgoing.pop().unwrap_or_else(|| Box::new(Outgoing::new()));
        outgoing.start(message);
        self.send_rest(key, outgoing);
        Ok(())
    }

    fn send_rest(&mut self, key: Key, mut outgoing: Box<Outgoing>) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        let entry = outgoing.entry(conn.socket.as_fd());
        conn.sending = Some(Sending::InFlight(outgoing));
        conn.in_kernel += 1;
        // SAFETY: the entry refers to `outgoing`, which is boxed, and to the bytes of the message
        // in it. Both stay in the connection as they are until the completion of this was taken
        // (`sent`). The connection stays until then, because of `in_kernel`.
        unsafe { self.ring.push(entry, Operation::Send(key)) };
    }

    pub(super) fn sent<H: Handler<Self>>(
        &mut self,
        handler: &mut H,
        key: Key,
        completion: Completion,
    ) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        conn.in_kernel -= 1;
        let Some(Sending::InFlight(mut outgoing)) = conn.sending.take() else { return };
        let closed = conn.closed;
        match completion.outcome() {
            _ if closed => self.keep(outgoing),
            Ok(0) => {
                self.keep(outgoing);
                self.end(handler, key, End::Failed(io::ErrorKind::WriteZero.into()));
            }
            Ok(n) if outgoing.advance(n) => {
                let message = outgoing.take();
                self.keep(outgoing);
                handler.sent(self, ConnId(key), message);
            }
            Ok(_) => self.send_rest(key, outgoing),
            Err(error) if transient(&error) => self.send_rest(key, outgoing),
            Err(error) => {
                self.keep(outgoing);
                self.end(handler, key, End::Failed(error));
            }
        }
        self.retire_conn(key);
    }

    /// Keeps what the next message needs, and drops what is left of the last one.
    fn keep(&mut self, mut outgoing: Box<Outgoing>) {
        drop(outgoing.take());
        if self.outgoing.len() < KEPT {
            self.outgoing.push(outgoing);
        }
    }

    /// Tells of a message in which there was nothing.
    pub(super) fn tell_sent<H: Handler<Self>>(&mut self, handler: &mut H, key: Key) -> bool {
        let Some(conn) = self.open_conn(key) else { return false };
        match conn.sending.take() {
            Some(Sending::Done(message)) => {
                handler.sent(self, ConnId(key), message);
                true
            }
            in_flight => {
                conn.sending = in_flight;
                false
            }
        }
    }

    pub(super) fn close_conn(&mut self, key: Key) {
        let Some(conn) = self.conns.get_mut(key).filter(|conn| !conn.closed) else { return };
        conn.closed = true;
        if conn.in_kernel > 0 {
            // The descriptor stays open until the kernel is done with it, but the peer is told
            // now.
            let _ = rustix::net::shutdown(&conn.socket, Shutdown::Both);
            conn.in_kernel += 1;
            self.ring.cancel_all(conn.socket.as_fd(), Operation::StopConn(key));
        }
        self.retire_conn(key);
    }

    pub(super) fn conn_stopped(&mut self, key: Key) {
        if let Some(conn) = self.conns.get_mut(key) {
            conn.in_kernel -= 1;
        }
        self.retire_conn(key);
    }

    /// Lets go of a closed connection when the kernel has.
    fn retire_conn(&mut self, key: Key) {
        if self.conns.get(key).is_some_and(|conn| conn.closed && conn.in_kernel == 0) {
            self.conns.remove(key);
        }
    }
}

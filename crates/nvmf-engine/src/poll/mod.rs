//! The engine by readiness: ask which sockets have something, then do it without waiting.

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut, Read};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};

use crate::engine::{ConnId, End, Engine, Handler, ListenerId, Wait};
use crate::file::{FileId, FileOp};
use crate::filling::Filling;
use crate::message::Message;
use crate::slots::{Key, Slots};
use crate::tuning::tune;
use crate::waker::{Alarm, Waker};
use files::Files;
use readiness::{Event, Interest, Readiness};

#[cfg(target_os = "linux")]
mod epoll;
mod files;
#[cfg(any(test, not(target_os = "linux")))]
mod portable;
mod readiness;

/// Received at once, from one connection.
const SCRATCH: usize = 256 << 10;
/// And no less than this, whatever is asked for.
const LEAST: usize = 4 << 10;
/// Pieces of one gathered send; the system takes no more.
const SLICES: usize = 1024;
/// Connections accepted in one turn, from one listener.
const ACCEPTS: usize = 64;
/// Where accepting fails, mostly for want of descriptors, it rests this long.
const REST: Duration = Duration::from_millis(100);
/// So many connections are looked at without being asked whether they have something.
const HOT: usize = 2;
/// The others wait for so many turns at most meanwhile.
const HOT_TURNS: u32 = 8;

/// The engine by readiness; see the [crate](crate).
#[derive(Debug)]
pub struct Poll {
    readiness: Box<dyn Readiness>,
    events: Vec<Event>,
    alarm: Alarm,
    listeners: Slots<Listener>,
    /// When the first listener that rests is to go on.
    rest: Option<Instant>,
    conns: Slots<Conn>,
    files: Files,
    scratch: Vec<u8>,
    /// Connections whose message went out at once: to be told.
    sent: VecDeque<Key>,
    /// Connections that are broken: to be told.
    broken: VecDeque<(Key, io::Error)>,
    /// Connections that had something in the last turn.
    hot: Vec<Key>,
    hot_turns: u32,
}

#[derive(Debug)]
struct Listener {
    socket: TcpListener,
    rests_until: Option<Instant>,
}

#[derive(Debug)]
struct Conn {
    socket: TcpStream,
    sending: Option<Sending>,
    filling: Filling,
    /// How much to receive at once.
    most: usize,
    /// The peer sends nothing more, or it is broken.
    ended: bool,
}

#[derive(Debug)]
struct Sending {
    message: Message,
    sent: usize,
}

/// What a number given to the readiness stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Source {
    Conn(Key),
    Listener(Key),
    Alarm,
}

impl Source {
    fn to_bits(self) -> u64 {
        match self {
            Self::Conn(key) => key.to_bits(),
            Self::Listener(key) => 1 << 56 | key.to_bits(),
            Self::Alarm => 2 << 56,
        }
    }

    fn from_bits(bits: u64) -> Self {
        let key = Key::from_bits(bits & ((1 << 56) - 1));
        match bits >> 56 {
            0 => Self::Conn(key),
            1 => Self::Listener(key),
            _ => Self::Alarm,
        }
    }
}

impl Poll {
    /// An engine without sockets.
    ///
    /// # Errors
    ///
    /// Whatever the system has against it.
    pub fn new() -> io::Result<Self> {
        #[cfg(target_os = "linux")]
        let readiness = Box::new(epoll::Epoll::new()?);
        #[cfg(not(target_os = "linux"))]
        let readiness = Box::new(portable::Portable::new()?);
        Self::with(readiness)
    }

    /// The same as elsewhere than on Linux.
    #[cfg(test)]
    pub(crate) fn portable() -> io::Result<Self> {
        Self::with(Box::new(portable::Portable::new()?))
    }

    fn with(mut readiness: Box<dyn Readiness>) -> io::Result<Self> {
        let alarm = Alarm::new()?;
        readiness.add(alarm.socket().as_fd(), Source::Alarm.to_bits(), Interest::READ)?;
        Ok(Self {
            readiness,
            events: Vec::new(),
            files: Files::new(alarm.waker()),
            alarm,
            listeners: Slots::default(),
            rest: None,
            conns: Slots::default(),
            scratch: vec![0; SCRATCH],
            sent: VecDeque::new(),
            broken: VecDeque::new(),
            hot: Vec::new(),
            hot_turns: 0,
        })
    }

    /// Tells what was done between turns.
    fn tell<H: Handler<Self>>(&mut self, handler: &mut H) -> bool {
        let mut told = false;
        // Only what is there now: a handler that sends at once is told in the next turn.
        for _ in 0..self.sent.len() {
            let Some(key) = self.sent.pop_front() else { break };
            if let Some(sending) = self.conns.get_mut(key).and_then(|conn| conn.sending.take()) {
                handler.sent(self, ConnId(key), sending.message);
                told = true;
            }
        }
        while let Some((key, error)) = self.broken.pop_front() {
            told |= self.end(handler, key, End::Failed(error));
        }
        while let Some((token, op, result)) = self.files.take() {
            handler.done(self, token, op, result);
            told = true;
        }
        told
    }

    fn event<H: Handler<Self>>(&mut self, handler: &mut H, event: Event) -> bool {
        match Source::from_bits(event.data) {
            Source::Conn(key) => {
                if event.writable {
                    self.write_on(key);
                }
                event.readable && self.receive(handler, key)
            }
            Source::Listener(key) => self.accept(handler, key),
            Source::Alarm => {
                self.alarm.hear();
                handler.woken(self);
                true
            }
        }
    }

    /// Receives once; false if there was nothing.
    fn receive<H: Handler<Self>>(&mut self, handler: &mut H, key: Key) -> bool {
        let Some(conn) = self.conns.get_mut(key).filter(|conn| !conn.ended) else { return false };
        let (received, room) = if conn.filling.is_empty() {
            let most = conn.most.clamp(LEAST, SCRATCH);
            (conn.socket.read(&mut self.scratch[..most]), 0)
        } else {
            let mut slices = conn.filling.io_slices(SLICES - 1);
            let room = slices.iter().map(|slice| slice.len()).sum();
            slices.push(IoSliceMut::new(&mut self.scratch));
            (conn.socket.read_vectored(&mut slices), room)
        };
        match received {
            Ok(0) => self.end(handler, key, End::Closed),
            Ok(n) => {
                self.take_in(handler, key, n.min(room), n.saturating_sub(room));
                true
            }
            Err(e)
                if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) =>
            {
                false
            }
            Err(error) => self.end(handler, key, End::Failed(error)),
        }
    }

    /// Hands over what was received: `filled` bytes into buffers to fill, and `rest` into the
    /// scratch.
    fn take_in<H: Handler<Self>>(&mut self, handler: &mut H, key: Key, filled: usize, rest: usize) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        conn.filling.advance(filled);
        if !self.hot.contains(&key) {
            self.hot.push(key);
        }
        self.tell_filled(handler, key);
        if rest == 0 {
            return;
        }
        let scratch = std::mem::take(&mut self.scratch);
        self.hand_over(handler, key, &scratch[..rest]);
        self.scratch = scratch;
    }

    fn tell_filled<H: Handler<Self>>(&mut self, handler: &mut H, key: Key) {
        while let Some(parts) = self.conns.get_mut(key).and_then(|conn| conn.filling.take_full()) {
            handler.filled(self, ConnId(key), parts);
        }
    }

    /// A handler that was told of full buffers may have asked for more of them to be filled.
    fn hand_over<H: Handler<Self>>(&mut self, handler: &mut H, key: Key, mut bytes: &[u8]) {
        while let Some(conn) = self.conns.get_mut(key)
            && !bytes.is_empty()
        {
            let n = conn.filling.copy_from(bytes);
            if n == 0 {
                return handler.received(self, ConnId(key), bytes);
            }
            bytes = &bytes[n..];
            self.tell_filled(handler, key);
        }
    }

    /// Tells of a connection's end, once.
    fn end<H: Handler<Self>>(&mut self, handler: &mut H, key: Key, end: End) -> bool {
        let Some(conn) = self.conns.get_mut(key).filter(|conn| !conn.ended) else { return false };
        conn.ended = true;
        conn.filling = Filling::default();
        self.watch(key);
        self.hot.retain(|hot| *hot != key);
        handler.ended(self, ConnId(key), end);
        true
    }

    /// Sends what the socket takes of the message in flight.
    fn write_on(&mut self, key: Key) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        let Some(sending) = &mut conn.sending else { return };
        match sending.send(&conn.socket) {
            Ok(true) => {
                self.sent.push_back(key);
                self.watch(key);
            }
            Ok(false) => {}
            Err(error) => {
                conn.sending = None;
                self.broken.push_back((key, error));
            }
        }
    }

    /// Says what is of interest of a connection.
    fn watch(&mut self, key: Key) {
        let Some(conn) = self.conns.get(key) else { return };
        let left = conn.sending.as_ref().is_some_and(|s| s.sent < s.message.len());
        let interest = Interest { read: !conn.ended, write: left };
        let data = Source::Conn(key).to_bits();
        if let Err(error) = self.readiness.modify(conn.socket.as_fd(), data, interest) {
            self.broken.push_back((key, error));
        }
    }

    fn accept<H: Handler<Self>>(&mut self, handler: &mut H, key: Key) -> bool {
        for n in 0..ACCEPTS {
            let Some(listener) = self.listeners.get_mut(key) else { return true };
            match listener.socket.accept() {
                Ok((socket, peer)) => handler.accepted(self, ListenerId(key), socket, peer),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return n > 0,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    tracing::error!(%error, "cannot accept a connection");
                    let until = Instant::now() + REST;
                    listener.rests_until = Some(until);
                    self.rest = Some(self.rest.map_or(until, |rest| rest.min(until)));
                    self.listen_to(key, false);
                    return true;
                }
            }
        }
        true
    }

    fn listen_to(&mut self, key: Key, read: bool) {
        let Some(listener) = self.listeners.get(key) else { return };
        let interest = Interest { read, write: false };
        let data = Source::Listener(key).to_bits();
        if let Err(error) = self.readiness.modify(listener.socket.as_fd(), data, interest) {
            tracing::error!(%error, "cannot wait for connections");
        }
    }

    /// Listens again where the rest is over.
    fn rested(&mut self) {
        let now = Instant::now();
        if self.rest.is_none_or(|rest| rest > now) {
            return;
        }
        let resting: Vec<(Key, Instant)> = self
            .listeners
            .keys()
            .filter_map(|key| Some((key, self.listeners.get(key)?.rests_until?)))
            .collect();
        let (over, left): (Vec<_>, Vec<_>) = resting.into_iter().partition(|(_, end)| *end <= now);
        for (key, _) in over {
            if let Some(listener) = self.listeners.get_mut(key) {
                listener.rests_until = None;
            }
            self.listen_to(key, true);
        }
        self.rest = left.into_iter().map(|(_, end)| end).min();
    }

    /// Looks at the connections that had something lately, without asking which do.
    fn hot<H: Handler<Self>>(&mut self, handler: &mut H) -> bool {
        if self.hot.is_empty() || self.hot.len() > HOT || self.hot_turns >= HOT_TURNS {
            self.hot.clear();
            self.hot_turns = 0;
            return false;
        }
        let hot: [Option<Key>; HOT] = std::array::from_fn(|i| self.hot.get(i).copied());
        let has = hot.map(|key| key.is_some_and(|key| self.receive(handler, key)));
        let busy = has.contains(&true);
        if busy {
            // Looking at one that has nothing while another has costs more than it brings.
            self.hot.retain(|key| {
                hot.iter().zip(has).all(|(looked, had)| had || *looked != Some(*key))
            });
        }
        self.hot_turns = if busy { self.hot_turns + 1 } else { 0 };
        busy
    }

    fn wait(&mut self, wait: Wait) -> io::Result<()> {
        // Also where it never sleeps.
        if self.rest.is_some() {
            self.rested();
        }
        let timeout = match wait {
            Wait::No => Some(Duration::ZERO),
            Wait::Until(deadline) => {
                let deadline = [deadline, self.rest].into_iter().flatten().min();
                // Rounded up: who wakes a moment too early would spin.
                deadline.map(|deadline| {
                    let left = deadline.saturating_duration_since(Instant::now());
                    left.saturating_add(Duration::from_micros(50))
                })
            }
        };
        self.events.clear();
        self.readiness.wait(&mut self.events, timeout)
    }
}

impl Engine for Poll {
    fn listen(&mut self, listener: TcpListener) -> io::Result<ListenerId> {
        listener.set_nonblocking(true)?;
        let full = || io::Error::other("too many sockets");
        let new = Listener { socket: listener, rests_until: None };
        let key = self.listeners.insert_with(|_| new).ok_or_else(full)?;
        let Some(new) = self.listeners.get(key) else { return Err(full()) };
        let data = Source::Listener(key).to_bits();
        let added = self.readiness.add(new.socket.as_fd(), data, Interest::READ);
        if let Err(error) = added {
            self.listeners.remove(key);
            return Err(error);
        }
        Ok(ListenerId(key))
    }

    fn unlisten(&mut self, listener: ListenerId) {
        if let Some(old) = self.listeners.remove(listener.0) {
            self.readiness.remove(old.socket.as_fd());
        }
    }

    fn attach(&mut self, socket: TcpStream) -> io::Result<ConnId> {
        socket.set_nonblocking(true)?;
        tune(&socket)?;
        let full = || io::Error::other("too many sockets");
        let new = Conn {
            socket,
            sending: None,
            filling: Filling::default(),
            most: SCRATCH,
            ended: false,
        };
        let key = self.conns.insert_with(|_| new).ok_or_else(full)?;
        let Some(new) = self.conns.get(key) else { return Err(full()) };
        let data = Source::Conn(key).to_bits();
        if let Err(error) = self.readiness.add(new.socket.as_fd(), data, Interest::READ) {
            self.conns.remove(key);
            return Err(error);
        }
        Ok(ConnId(key))
    }

    fn send(&mut self, conn: ConnId, message: Message) -> Result<(), Message> {
        let key = conn.0;
        let Some(conn) = self.conns.get_mut(key).filter(|conn| conn.sending.is_none()) else {
            return Err(message);
        };
        let mut sending = Sending { message, sent: 0 };
        let outcome = sending.send(&conn.socket);
        conn.sending = Some(sending);
        match outcome {
            Ok(true) => self.sent.push_back(key),
            Ok(false) => self.watch(key),
            Err(error) => {
                conn.sending = None;
                self.broken.push_back((key, error));
            }
        }
        Ok(())
    }

    fn is_sending(&self, conn: ConnId) -> bool {
        self.conns.get(conn.0).is_some_and(|conn| conn.sending.is_some())
    }

    fn receive_at_most(&mut self, conn: ConnId, bytes: usize) {
        if let Some(conn) = self.conns.get_mut(conn.0) {
            conn.most = bytes;
        }
    }

    fn fill(&mut self, conn: ConnId, parts: Vec<BytesMut>) {
        if let Some(conn) = self.conns.get_mut(conn.0).filter(|conn| !conn.ended) {
            conn.filling.push(parts);
        }
    }

    fn close(&mut self, conn: ConnId) {
        if let Some(old) = self.conns.remove(conn.0) {
            self.readiness.remove(old.socket.as_fd());
            self.hot.retain(|hot| *hot != conn.0);
        }
    }

    fn open(&mut self, file: OwnedFd) -> io::Result<FileId> {
        self.files.open(file)
    }

    fn forget(&mut self, file: FileId) {
        self.files.forget(file);
    }

    fn submit(&mut self, file: FileId, op: FileOp, token: u64) {
        self.files.submit(file, op, token);
    }

    fn waker(&self) -> Waker {
        self.alarm.waker()
    }

    fn turn<H: Handler<Self>>(&mut self, handler: &mut H, wait: Wait) -> io::Result<bool> {
        let mut busy = self.tell(handler);
        if busy && wait != Wait::No {
            // What it was told may be a reason not to sleep; that is all it wants to know.
            return Ok(true);
        }
        let wait = if self.sent.is_empty() { wait } else { Wait::No };
        // Before a sleep it would only be one more question: who has something ends it at once.
        if wait == Wait::No && self.hot(handler) {
            return Ok(true);
        }
        self.wait(wait)?;
        let mut events = std::mem::take(&mut self.events);
        for event in events.drain(..) {
            busy |= self.event(handler, event);
        }
        self.events = events;
        Ok(busy | self.tell(handler))
    }
}

impl Sending {
    /// Sends until all is sent (`true`) or the socket takes no more.
    fn send(&mut self, socket: &TcpStream) -> io::Result<bool> {
        while self.sent < self.message.len() {
            let mut slices: Vec<IoSlice<'_>> =
                Vec::with_capacity(self.message.segments().min(SLICES));
            self.message.io_slices(self.sent, SLICES, &mut slices);
            let mut control = SendAncillaryBuffer::default();
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            match sendmsg(socket, &slices, &mut control, flags) {
                Ok(n) => self.sent += n,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::tests::{Event, Native, Rig};

    #[test]
    fn no_more_is_handed_over_at_once_than_was_asked_for() {
        let mut rig = Rig::<Native>::new();
        let (conn, mut theirs) = rig.pair();
        rig.engine.receive_at_most(conn, 5000);
        theirs.write_all(&[7; 20_000]).unwrap();
        let length = |event: &Event| match event {
            Event::Received(_, bytes) => bytes.len(),
            _ => 0,
        };
        rig.until("received", |events| events.iter().map(length).sum::<usize>() == 20_000);
        let longest = rig.log.events.iter().map(length).max();
        assert_eq!(longest, Some(5000));
    }

    #[test]
    fn sources_survive_their_number() {
        let key = Key::from_bits(0x00ff_ffff_ffff_ffff);
        for source in [Source::Conn(key), Source::Listener(key)] {
            assert_eq!(Source::from_bits(source.to_bits()), source);
        }
        assert_eq!(Source::from_bits(Source::Alarm.to_bits()), Source::Alarm);
    }
}

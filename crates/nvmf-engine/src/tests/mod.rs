//! What holds for every engine.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use bytes::BytesMut;

use crate::{ConnId, End, Engine, FileOp, Handler, ListenerId, Message, Poll, Wait};

mod ending;
mod files;
mod filling;
mod sockets;
mod waiting;

/// Longer than anything takes here, even on a machine that has much else to do.
pub(crate) const LONG: Duration = Duration::from_secs(30);

/// A way to make an engine.
pub(crate) trait Kind {
    type Engine: Engine + 'static;

    fn make() -> Self::Engine;
}

/// [`Poll`] as it is on this system.
pub(crate) struct Native;

impl Kind for Native {
    type Engine = Poll;

    fn make() -> Poll {
        Poll::new().unwrap()
    }
}

/// [`Poll`] as it is where there is no epoll.
pub(crate) struct Portable;

impl Kind for Portable {
    type Engine = Poll;

    fn make() -> Poll {
        Poll::portable().unwrap()
    }
}

#[cfg(target_os = "linux")]
pub(crate) use linux::{Cooperative, Ring};

#[cfg(target_os = "linux")]
mod linux {
    use super::Kind;
    use crate::Uring;

    const NEEDED: &str = "these tests need io_uring: Linux 6.0 or later, \
        `kernel.io_uring_disabled` 0, and no sandbox that forbids it";

    /// [`Uring`] as it is on this system.
    pub(crate) struct Ring;

    impl Kind for Ring {
        type Engine = Uring;

        fn make() -> Uring {
            Uring::new().expect(NEEDED)
        }
    }

    /// [`Uring`] as it is on Linux 6.0.
    pub(crate) struct Cooperative;

    impl Kind for Cooperative {
        type Engine = Uring;

        fn make() -> Uring {
            Uring::cooperative().expect(NEEDED)
        }
    }
}

/// Makes tests, for each engine, of functions that take a [`Kind`].
macro_rules! for_every_engine {
    ($($test:ident),* $(,)?) => {
        mod native {
            $(#[test] fn $test() { super::$test::<crate::tests::Native>() })*
        }
        mod portable {
            $(#[test] fn $test() { super::$test::<crate::tests::Portable>() })*
        }
        #[cfg(target_os = "linux")]
        mod uring {
            $(#[test] fn $test() { super::$test::<crate::tests::Ring>() })*
        }
        #[cfg(target_os = "linux")]
        mod uring_of_linux_6_0 {
            $(#[test] fn $test() { super::$test::<crate::tests::Cooperative>() })*
        }
    };
}
pub(crate) use for_every_engine;

/// What a handler is told.
#[derive(Debug)]
pub(crate) enum Event {
    Accepted(ListenerId, TcpStream),
    Received(ConnId, Vec<u8>),
    Filled(ConnId, Vec<BytesMut>),
    Sent(ConnId, Message),
    Ended(ConnId, End),
    Done(u64, FileOp, io::Result<()>),
    Woken,
}

type Reaction<E> = Box<dyn FnMut(&mut E, &Event)>;

/// Keeps what it is told, and reacts as a test wants.
pub(crate) struct Log<E> {
    pub(crate) events: Vec<Event>,
    pub(crate) reaction: Option<Reaction<E>>,
}

impl<E: Engine> Log<E> {
    fn note(&mut self, engine: &mut E, event: Event) {
        if let Some(reaction) = &mut self.reaction {
            reaction(engine, &event);
        }
        self.events.push(event);
    }
}

impl<E: Engine> Handler<E> for Log<E> {
    fn accepted(&mut self, engine: &mut E, id: ListenerId, socket: TcpStream, peer: SocketAddr) {
        assert_eq!(socket.peer_addr().unwrap(), peer);
        self.note(engine, Event::Accepted(id, socket));
    }

    fn received(&mut self, engine: &mut E, conn: ConnId, bytes: &[u8]) {
        assert!(!bytes.is_empty());
        self.note(engine, Event::Received(conn, bytes.to_vec()));
    }

    fn filled(&mut self, engine: &mut E, conn: ConnId, parts: Vec<BytesMut>) {
        self.note(engine, Event::Filled(conn, parts));
    }

    fn sent(&mut self, engine: &mut E, conn: ConnId, message: Message) {
        self.note(engine, Event::Sent(conn, message));
    }

    fn ended(&mut self, engine: &mut E, conn: ConnId, end: End) {
        self.note(engine, Event::Ended(conn, end));
    }

    fn done(&mut self, engine: &mut E, token: u64, op: FileOp, result: io::Result<()>) {
        self.note(engine, Event::Done(token, op, result));
    }

    fn woken(&mut self, engine: &mut E) {
        self.note(engine, Event::Woken);
    }
}

/// An engine and what it told.
pub(crate) struct Rig<K: Kind> {
    pub(crate) engine: K::Engine,
    pub(crate) log: Log<K::Engine>,
}

impl<K: Kind> Rig<K> {
    pub(crate) fn new() -> Self {
        allow_descriptors();
        Self { engine: K::make(), log: Log { events: Vec::new(), reaction: None } }
    }

    /// What to do when something is told, before it is noted.
    pub(crate) fn react(&mut self, reaction: impl FnMut(&mut K::Engine, &Event) + 'static) {
        self.log.reaction = Some(Box::new(reaction));
    }

    pub(crate) fn turn(&mut self, wait: Wait) -> bool {
        self.engine.turn(&mut self.log, wait).unwrap()
    }

    /// Turns until the events are as wanted.
    pub(crate) fn until(&mut self, what: &str, mut wanted: impl FnMut(&[Event]) -> bool) {
        let end = Instant::now() + LONG;
        while !wanted(&self.log.events) {
            assert!(Instant::now() < end, "never {what}: {:?}", Summary(&self.log.events));
            self.turn(Wait::Until(Some(Instant::now() + Duration::from_millis(50))));
        }
    }

    /// Turns for some time, in which what should not happen would.
    pub(crate) fn linger(&mut self) {
        let end = Instant::now() + Duration::from_millis(20);
        while Instant::now() < end {
            self.turn(Wait::Until(Some(end)));
        }
    }

    /// A listener and its address.
    pub(crate) fn listen(&mut self) -> (ListenerId, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        (self.engine.listen(listener).unwrap(), address)
    }

    /// A connection of the engine and its peer.
    pub(crate) fn pair(&mut self) -> (ConnId, TcpStream) {
        let (ours, theirs) = sockets();
        (self.engine.attach(ours).unwrap(), theirs)
    }

    pub(crate) fn send(&mut self, conn: ConnId, bytes: &[u8]) {
        self.engine.send(conn, message(bytes)).unwrap();
    }

    /// All that was received so far.
    pub(crate) fn received(&self, conn: ConnId) -> Vec<u8> {
        received(&self.log.events, conn)
    }

    pub(crate) fn until_received(&mut self, conn: ConnId, length: usize) -> Vec<u8> {
        self.until("received", |events| received(events, conn).len() >= length);
        self.received(conn)
    }
}

/// Some tests have more sockets than a process may have by default.
fn allow_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
}

/// Two connected sockets.
pub(crate) fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let theirs = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    theirs.set_nodelay(true).unwrap();
    theirs.set_read_timeout(Some(LONG)).unwrap();
    theirs.set_write_timeout(Some(LONG)).unwrap();
    (listener.accept().unwrap().0, theirs)
}

pub(crate) fn message(bytes: &[u8]) -> Message {
    let mut message = Message::new();
    message.push(bytes);
    message
}

pub(crate) fn received(events: &[Event], conn: ConnId) -> Vec<u8> {
    let mut all = Vec::new();
    for event in events {
        if let Event::Received(from, bytes) = event
            && *from == conn
        {
            all.extend_from_slice(bytes);
        }
    }
    all
}

pub(crate) fn sent(events: &[Event], conn: ConnId) -> usize {
    events.iter().filter(|event| matches!(event, Event::Sent(of, _) if *of == conn)).count()
}

pub(crate) fn ends(events: &[Event], conn: ConnId) -> usize {
    events.iter().filter(|event| matches!(event, Event::Ended(of, _) if *of == conn)).count()
}

/// Bytes that differ from place to place.
pub(crate) fn pattern(length: usize) -> Vec<u8> {
    (0u32..).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).take(length).collect()
}

/// How many events of each kind there are.
struct Summary<'a>(&'a [Event]);

impl std::fmt::Debug for Summary<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut counts = BTreeMap::new();
        for event in self.0 {
            let kind = match event {
                Event::Accepted(..) => "accepted",
                Event::Received(..) => "received",
                Event::Filled(..) => "filled",
                Event::Sent(..) => "sent",
                Event::Ended(..) => "ended",
                Event::Done(..) => "done",
                Event::Woken => "woken",
            };
            *counts.entry(kind).or_insert(0) += 1;
        }
        counts.fmt(f)
    }
}

//! A core: a thread with an engine, and the connections that live on it.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use nvme_spec::Status;
use nvmf_engine::{
    ConnId, End, Engine, FileOp, Handler, ListenerId, Mailbox, Message, Pace, Pool, Program, Sender,
};

use super::connection::{Connection, FileTable, JobDone};
use super::connections;
use super::timers::Timers;
use super::{Listener, Origin, Shared};
use crate::abort::AbortReply;
use crate::port::Port;

/// How often is looked for hosts that neither take nor send anything.
const SWEEP: Duration = Duration::from_secs(5);
/// How often is looked, while the target stops, for connections that have nothing under way.
const STOP_TICK: Duration = Duration::from_millis(10);

/// What other threads tell a core.
#[derive(Debug)]
pub(super) enum Post {
    /// A connection that was accepted, and is admitted.
    Adopt(Accepted),
    /// A job is done.
    Job(JobDone),
    /// The I/O queues of this admin queue's association are gone.
    QueuesGone(ConnId),
    /// What a command of this admin queue waits for is done, or cannot be.
    ChoreDone(ConnId, Result<(), Status>),
    /// Abort the command of this identifier on an I/O queue.
    Abort { conn: ConnId, cid: u16, reply: AbortReply },
    /// Whether the command was aborted that an Abort command of this admin queue is for.
    Aborted { conn: ConnId, token: u64, aborted: bool },
    /// There may be an event to tell the host of this admin queue.
    Event(ConnId),
    /// Namespaces are not what they were: let go of those that are no more.
    Refresh,
    /// Commands of this I/O queue on a namespace are to be aborted if they were not begun.
    Preempted(ConnId, u32, mpsc::Sender<Infallible>),
    /// Another port to accept from.
    Listen(TcpListener, Arc<Port>),
    /// A port is gone; who asked waits until this is dropped.
    Unlisten(u16, mpsc::Sender<Infallible>),
    /// The target stops.
    Stop,
    /// The target has stopped.
    Exit,
}

#[derive(Debug)]
pub(super) struct Accepted {
    socket: TcpStream,
    peer: SocketAddr,
    guard: connections::Connection,
    port: Arc<Port>,
}

/// All cores, as each of them sees them.
#[derive(Debug)]
pub(super) struct Cores {
    senders: Vec<Sender<Post>>,
    /// How many connections each has.
    loads: Vec<AtomicUsize>,
}

impl Cores {
    pub(super) fn new(senders: Vec<Sender<Post>>) -> Self {
        let loads = senders.iter().map(|_| AtomicUsize::new(0)).collect();
        Self { senders, loads }
    }

    pub(super) fn count(&self) -> usize {
        self.senders.len()
    }

    pub(super) fn tell_all(&self, post: impl Fn() -> Post) {
        for sender in &self.senders {
            // One that is gone needs not be told.
            let _ = sender.post(post());
        }
    }

    /// Tells the core that accepts; false if it is gone.
    pub(super) fn tell_first(&self, post: Post) -> bool {
        self.senders.first().is_some_and(|sender| sender.post(post).is_ok())
    }

    /// The core with the fewest connections, which is to have one more.
    fn next(&self) -> usize {
        let loads = self.loads.iter().map(|load| load.load(Ordering::Relaxed)).enumerate();
        let next = loads.min_by_key(|(_, load)| *load).map_or(0, |(core, _)| core);
        self.loads[next].fetch_add(1, Ordering::Relaxed);
        next
    }
}

/// What the connections of a core have in common.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) shared: Arc<Shared>,
    pub(super) pool: Pool,
    /// The time, as of this turn's beginning or of waking up in it.
    pub(super) now: Instant,
    pub(super) timers: Timers,
    /// This core's own mailbox.
    pub(super) post: Sender<Post>,
    pub(super) files: FileTable,
}

/// A core that is about to run: a [`Program`] for an engine.
pub(super) struct Core {
    pub(super) index: usize,
    pub(super) shared: Arc<Shared>,
    /// What this core accepts connections from.
    pub(super) listeners: Vec<Listener>,
    pub(super) pace: Pace,
    /// Takes the mailbox's sender, gives all cores once they are all there.
    pub(super) ready: Box<dyn FnOnce(Sender<Post>) -> Option<Arc<Cores>> + Send>,
}

impl Program for Core {
    type Output = io::Result<()>;

    fn run<E: Engine>(self, mut engine: E) -> io::Result<()> {
        let mailbox = Mailbox::new(engine.waker());
        let Some(cores) = (self.ready)(mailbox.sender()) else { return Ok(()) };
        let listeners = self
            .listeners
            .into_iter()
            .map(|(listener, port)| Ok((engine.listen(listener)?, port)))
            .collect::<io::Result<_>>()?;
        let cx = Context {
            shared: self.shared,
            pool: Pool::default(),
            now: Instant::now(),
            timers: Timers::default(),
            post: mailbox.sender(),
            files: FileTable::default(),
        };
        let mut running = Running {
            index: self.index,
            cores,
            mailbox,
            listeners,
            connections: Vec::new(),
            count: 0,
            owed: 0,
            next_sweep: cx.now,
            cx,
            slept: false,
            exit: false,
        };
        running.run(&mut engine, self.pace)
    }
}

/// A core that runs.
struct Running {
    index: usize,
    cores: Arc<Cores>,
    mailbox: Mailbox<Post>,
    listeners: Vec<(ListenerId, Arc<Port>)>,
    /// By [`ConnId::index`].
    connections: Vec<Option<(ConnId, Box<Connection>)>>,
    count: usize,
    /// Commands whose data hosts were told to send.
    owed: usize,
    next_sweep: Instant,
    cx: Context,
    /// This turn may have slept: the time is not what it was.
    slept: bool,
    exit: bool,
}

impl Running {
    fn run<E: Engine>(&mut self, engine: &mut E, mut pace: Pace) -> io::Result<()> {
        let mut wait = nvmf_engine::Wait::No;
        while !self.exit {
            self.cx.now = Instant::now();
            if self.deadline().is_some_and(|deadline| self.cx.now >= deadline) {
                self.due(engine);
            }
            self.slept = wait != nvmf_engine::Wait::No;
            let busy = engine.turn(self, wait)?;
            pace.expect(self.owed > 0);
            wait = pace.next(busy, self.deadline());
        }
        Ok(())
    }

    /// Something happened: a thread that slept until then looks at the clock.
    fn wake_up(&mut self) {
        if std::mem::take(&mut self.slept) {
            self.cx.now = Instant::now();
        }
    }

    /// When there is something to do even if nothing happens.
    fn deadline(&self) -> Option<Instant> {
        let sweep = (self.count > 0).then_some(self.next_sweep);
        [self.cx.timers.next(), sweep].into_iter().flatten().min()
    }

    fn due<E: Engine>(&mut self, engine: &mut E) {
        for id in self.cx.timers.due(self.cx.now) {
            self.with(engine, id, |connection, cx, engine| connection.due(cx, engine));
        }
        if self.cx.now < self.next_sweep {
            return;
        }
        let stopping = self.cx.shared.stop.since();
        self.next_sweep = self.cx.now + if stopping.is_some() { STOP_TICK } else { SWEEP };
        let all: Vec<ConnId> = self.connections.iter().flatten().map(|(id, _)| *id).collect();
        for id in all {
            self.with(engine, id, |connection, cx, _| {
                connection.check(cx.now);
                if let Some(since) = stopping {
                    connection.stop(cx.now, since);
                }
            });
        }
    }

    /// Does something with a connection, then sends what became ready, and closes it if it is over.
    fn with<E: Engine>(
        &mut self,
        engine: &mut E,
        id: ConnId,
        act: impl FnOnce(&mut Connection, &mut Context, &mut E),
    ) {
        self.wake_up();
        let place = self.connections.get_mut(id.index());
        let Some((_, connection)) = place.and_then(Option::as_mut).filter(|(of, _)| *of == id)
        else {
            return;
        };
        let owed = connection.owed();
        act(connection, &mut self.cx, engine);
        connection.transmit(&mut self.cx, engine);
        self.owed = self.owed + connection.owed() - owed;
        if connection.is_over() {
            self.owed -= connection.owed();
            connection.disarm(&mut self.cx);
            engine.close(id);
            self.connections[id.index()] = None;
            self.count -= 1;
            self.cores.loads[self.index].fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Takes a connection that was accepted for this core.
    fn adopt<E: Engine>(&mut self, engine: &mut E, accepted: Accepted) {
        self.wake_up();
        let Accepted { socket, peer, guard, port } = accepted;
        let local = socket.local_addr().ok();
        let id = match engine.attach(socket) {
            Ok(id) => id,
            Err(error) => {
                tracing::error!(%peer, %error, "connection dropped");
                self.cores.loads[self.index].fetch_sub(1, Ordering::Relaxed);
                return;
            }
        };
        if self.count == 0 {
            self.next_sweep = self.cx.now + SWEEP;
        }
        let origin = Origin { peer: peer.to_string(), local, port };
        let connection = Box::new(Connection::new(id, guard, origin, &mut self.cx));
        if self.connections.len() <= id.index() {
            self.connections.resize_with(id.index() + 1, || None);
        }
        self.connections[id.index()] = Some((id, connection));
        self.count += 1;
    }

    /// Lets go of namespaces that are no more, and looks at the limits of the others.
    fn refresh<E: Engine>(&mut self, engine: &mut E) {
        let all: Vec<ConnId> = self.connections.iter().flatten().map(|(id, _)| *id).collect();
        for id in all {
            self.with(engine, id, |connection, cx, engine| connection.refresh(cx, engine));
        }
        self.cx.files.forget_detached(engine);
    }

    fn post<E: Engine>(&mut self, engine: &mut E, post: Post) {
        self.wake_up();
        match post {
            Post::Adopt(accepted) => self.adopt(engine, accepted),
            Post::Job(JobDone { place, result }) => {
                self.with(engine, place.conn, |connection, _, _| match result {
                    Some(result) => connection.job_done(place.slot, result),
                    None => connection.job_panicked(),
                });
            }
            Post::QueuesGone(id) => {
                self.with(engine, id, |connection, cx, _| connection.queues_gone(cx));
            }
            Post::ChoreDone(id, done) => {
                self.with(engine, id, |connection, cx, _| connection.chore_done(cx, done));
            }
            Post::Abort { conn, cid, reply } => {
                let mut aborted = false;
                self.with(engine, conn, |connection, _, _| aborted = connection.abort_command(cid));
                reply.send(aborted);
            }
            Post::Aborted { conn, token, aborted } => {
                self.with(engine, conn, |connection, cx, _| connection.aborted(cx, token, aborted));
            }
            Post::Event(id) => {
                self.with(engine, id, |connection, _, _| connection.tell_events());
            }
            Post::Preempted(id, nsid, done) => {
                self.with(engine, id, |connection, _, _| connection.preempted(nsid));
                drop(done);
            }
            Post::Refresh => self.refresh(engine),
            Post::Listen(listener, port) => match engine.listen(listener) {
                Ok(id) => self.listeners.push((id, port)),
                Err(error) => tracing::error!(address = %port.address(), %error, "not listening"),
            },
            Post::Unlisten(id, _done) => {
                let gone = |(_, port): &mut (ListenerId, Arc<Port>)| port.id() == id;
                self.listeners.extract_if(.., gone).for_each(|(id, _)| engine.unlisten(id));
            }
            Post::Stop => {
                self.listeners.drain(..).for_each(|(listener, _)| engine.unlisten(listener));
                self.next_sweep = self.cx.now;
            }
            Post::Exit => self.exit = true,
        }
    }
}

impl<E: Engine> Handler<E> for Running {
    fn accepted(&mut self, engine: &mut E, id: ListenerId, socket: TcpStream, peer: SocketAddr) {
        let ending = match socket.try_clone() {
            Ok(ending) => ending,
            Err(error) => return tracing::error!(%peer, %error, "connection dropped"),
        };
        let shared = &self.cx.shared;
        if shared.stop.is_raised() {
            return;
        }
        let Some(guard) = shared.connections.admit(Some(ending)) else {
            return tracing::warn!(%peer, "connection dropped: there are too many");
        };
        let listener = self.listeners.iter().find(|(of, _)| *of == id);
        let Some((_, port)) = listener else {
            return tracing::debug!(%peer, "connection dropped: its port is gone");
        };
        let accepted = Accepted { socket, peer, guard, port: Arc::clone(port) };
        let core = self.cores.next();
        if core == self.index {
            self.adopt(engine, accepted);
        } else if let Err(Post::Adopt(Accepted { peer, .. })) =
            self.cores.senders[core].post(Post::Adopt(accepted))
        {
            tracing::error!(%peer, "connection dropped: its core is gone");
        }
    }

    fn received(&mut self, engine: &mut E, conn: ConnId, bytes: &[u8]) {
        self.with(engine, conn, |connection, cx, engine| connection.received(cx, engine, bytes));
    }

    fn filled(&mut self, engine: &mut E, conn: ConnId, parts: Vec<BytesMut>) {
        self.with(engine, conn, |connection, cx, engine| connection.filled(cx, engine, parts));
    }

    fn sent(&mut self, engine: &mut E, conn: ConnId, message: Message) {
        self.with(engine, conn, |connection, cx, engine| connection.sent(cx, engine, message));
    }

    fn ended(&mut self, engine: &mut E, conn: ConnId, end: End) {
        self.with(engine, conn, |connection, _, _| connection.ended(&end));
    }

    fn done(&mut self, engine: &mut E, token: u64, op: FileOp, result: io::Result<()>) {
        if let Some(place) = self.cx.files.take(token) {
            self.with(engine, place.conn, |connection, cx, _| {
                connection.file_done(cx, place.slot, op, result);
            });
        }
    }

    fn woken(&mut self, engine: &mut E) {
        while let Some(post) = self.mailbox.take() {
            self.post(engine, post);
        }
    }
}

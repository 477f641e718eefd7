//! Driving queues until there is nothing more to do.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::task::Wake;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use nvmf::host::TcpQueue;
use nvmf::spec::fabrics::Disconnect;
use nvmf::transport::TransportError;
use nvmf_engine::{
    ConnId, End, Engine, EngineChoice, EngineKind, FileOp, Handler, ListenerId, Message, Pace,
    Program, Wait, Waker,
};

use crate::queue::{Asks, Queue, Told};
use crate::{Error, Handle, Next, Workload};

/// How long a TermReq may take to be sent, and its peer to hang up.
const GOODBYE: Duration = Duration::from_secs(1);
/// So long before a time that a workload named, the thread looks at the clock again and again:
/// a sleep may end later than was asked for.
const PRECISION: Duration = Duration::from_micros(100);

/// How queues are driven.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// Which event loop.
    pub engine: EngineChoice,
    /// Commands outstanding at once, on all queues together; they are dealt out evenly. A queue's
    /// own size is a limit, too.
    pub depth: usize,
    /// How long a command may take to be answered, unless its request says otherwise.
    pub timeout: Duration,
    /// How long to look for answers before sleeping.
    pub pace: Pace,
    /// Send Disconnect on each queue at the end; for controllers that know it.
    pub disconnect: bool,
    /// Who may say that what was `Later` is over.
    pub handle: Option<Handle>,
}

impl Options {
    /// Commands outstanding at once, the engine that works, answers within 5 seconds.
    pub fn new(depth: usize) -> Self {
        Self {
            engine: EngineChoice::Auto,
            depth,
            timeout: Duration::from_secs(5),
            pace: Pace::default(),
            disconnect: false,
            handle: None,
        }
    }
}

/// Drives queues on this thread until the workload has no more to do, and closes them.
///
/// # Errors
///
/// The first thing that failed. Requests that were outstanding have been completed as
/// [`Lost`](crate::CommandError::Lost) then.
pub fn run<W: Workload>(
    queues: Vec<TcpQueue>,
    workload: W,
    options: &Options,
) -> Result<(), Error> {
    let kind = EngineKind::probe(options.engine.for_sockets_alone())?;
    nvmf_engine::run(kind, Run { queues, workload, options })?
}

struct Run<'o, W> {
    queues: Vec<TcpQueue>,
    workload: W,
    options: &'o Options,
}

impl<W: Workload> Program for Run<'_, W> {
    type Output = Result<(), Error>;

    fn run<E: Engine>(self, mut engine: E) -> Self::Output {
        let registration = self
            .options
            .handle
            .as_ref()
            .map(|handle| handle.register(RunWaker::of(engine.waker())));
        let (base, timeout) = (Instant::now(), nanoseconds(self.options.timeout));
        let mut driver = Driver {
            queues: Vec::with_capacity(self.queues.len()),
            by_conn: Vec::new(),
            workload: self.workload,
            options: self.options,
            seen: None,
            completed: 0,
            woken: false,
            failure: None,
            failed: false,
            base,
            timeout,
            sweep: base + Duration::from_nanos(timeout),
            first: 0,
        };
        let result = driver
            .attach(&mut engine, self.queues)
            .and_then(|()| driver.drive(&mut engine))
            .and_then(|()| driver.disconnect(&mut engine));
        drop(registration);
        driver.close(&mut engine);
        result
    }
}

/// Wakes the thread of a run.
struct RunWaker(Waker);

impl RunWaker {
    fn of(waker: Waker) -> std::task::Waker {
        Arc::new(Self(waker)).into()
    }
}

impl Wake for RunWaker {
    fn wake(self: Arc<Self>) {
        self.0.wake();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.wake();
    }
}

struct Driver<'o, W> {
    queues: Vec<Queue>,
    /// Places in `queues` by the small numbers of connections.
    by_conn: Vec<usize>,
    workload: W,
    options: &'o Options,
    /// When the last bytes of this turn were seen.
    seen: Option<Instant>,
    /// Commands completed in this turn.
    completed: usize,
    woken: bool,
    /// The queue on which something failed, and what.
    failure: Option<(usize, Error)>,
    /// Something has failed: nothing that comes is taken in any more. It must stay so while leave is
    /// taken, or bytes would be missing in the middle of what other queues receive.
    failed: bool,
    /// When the run began, and how long its commands may take, in nanoseconds.
    base: Instant,
    timeout: u64,
    /// When to look for commands that are late.
    sweep: Instant,
    /// The queue to be asked first, in turns.
    first: usize,
}

impl<W: Workload> Driver<'_, W> {
    fn attach<E: Engine>(&mut self, engine: &mut E, queues: Vec<TcpQueue>) -> Result<(), Error> {
        let count = queues.len().max(1);
        let depth = self.options.depth.max(1);
        for (at, queue) in queues.into_iter().enumerate() {
            let share = depth / count + usize::from(at < depth % count);
            let (queue, received) = Queue::attach(engine, queue, share)?;
            let index = queue.conn.index();
            if self.by_conn.len() <= index {
                self.by_conn.resize(index + 1, usize::MAX);
            }
            self.by_conn[index] = at;
            let conn = queue.conn;
            self.queues.push(queue);
            if !received.is_empty() {
                // The trace has seen them.
                let pdus = self.queues[at].pdus.take();
                self.received(engine, conn, &received);
                self.queues[at].pdus = pdus;
                self.judge(engine)?;
            }
        }
        Ok(())
    }

    /// Turns until nothing is left to do.
    fn drive<E: Engine>(&mut self, engine: &mut E) -> Result<(), Error> {
        let mut pace = self.options.pace.clone();
        let mut busy = true;
        self.ask(Instant::now())?;
        loop {
            self.transmit(engine);
            if self.is_done() {
                return Ok(());
            }
            let wait = self.wait(busy, &mut pace);
            busy = self.look(engine, wait)?;
            let now = match self.seen {
                Some(seen) if self.completed <= 1 => seen,
                // What was seen together takes a while to be taken in.
                _ => Instant::now(),
            };
            if now >= self.sweep {
                self.sweep(now)?;
            }
            self.ask(now)?;
        }
    }

    /// One turn of the engine; an error if it brought one.
    fn look<E: Engine>(&mut self, engine: &mut E, wait: Wait) -> Result<bool, Error> {
        self.seen = None;
        self.completed = 0;
        let busy = engine.turn(self, wait)?;
        self.judge(engine).map(|()| busy)
    }

    /// An error if something failed on a queue.
    fn judge<E: Engine>(&mut self, engine: &mut E) -> Result<(), Error> {
        let Some((at, error)) = self.failure.take() else { return Ok(()) };
        self.take_leave(engine, at);
        Err(error)
    }

    fn wait(&self, busy: bool, pace: &mut Pace) -> Wait {
        let start = self
            .queues
            .iter()
            .filter_map(|queue| match queue.asks {
                Asks::NotBefore(time) | Asks::LaterOrAt(time) if queue.has_room() => Some(time),
                _ => None,
            })
            .min();
        let Some(start) = start else { return pace.next(busy, Some(self.sweep)) };
        match start.checked_sub(PRECISION) {
            Some(soon) if soon > Instant::now() => pace.next(busy, Some(soon.min(self.sweep))),
            _ => Wait::No,
        }
    }

    /// Asks the workload for what there is room for.
    fn ask(&mut self, now: Instant) -> Result<(), Error> {
        let again = self.completed > 0 || std::mem::take(&mut self.woken);
        let count = self.queues.len();
        let since = self.since(now);
        for at in (self.first..count).chain(0..self.first) {
            let queue = &mut self.queues[at];
            match queue.asks {
                Asks::Now => {}
                Asks::NotBefore(time) if now >= time => {}
                Asks::Later if again => {}
                Asks::LaterOrAt(time) if again || now >= time => {}
                _ => continue,
            }
            while queue.has_room() {
                queue.asks = match self.workload.next(at, now) {
                    Next::Io(request) => {
                        let limit = request.limit.map_or(self.timeout, nanoseconds);
                        if limit < self.timeout {
                            self.sweep = self.sweep.min(now + Duration::from_nanos(limit));
                        }
                        let token = request.token;
                        let cid = queue.submit(request, since.saturating_add(limit))?;
                        self.workload.submitted(at, token, cid);
                        Asks::Now
                    }
                    Next::NotBefore(time) => Asks::NotBefore(time),
                    Next::Later => Asks::Later,
                    Next::LaterOrAt(time) => Asks::LaterOrAt(time),
                    Next::Done => Asks::Never,
                };
                if queue.asks != Asks::Now {
                    break;
                }
            }
        }
        self.first = if self.first + 1 < count { self.first + 1 } else { 0 };
        Ok(())
    }

    fn transmit<E: Engine>(&mut self, engine: &mut E) {
        for queue in &mut self.queues {
            queue.transmit(engine);
        }
    }

    fn is_done(&self) -> bool {
        self.queues.iter().all(|queue| queue.asks == Asks::Never && queue.is_idle())
    }

    /// Nanoseconds of the run.
    fn since(&self, now: Instant) -> u64 {
        nanoseconds(now.saturating_duration_since(self.base))
    }

    /// Fails if a command is late; else says when to look again.
    fn sweep(&mut self, now: Instant) -> Result<(), Error> {
        let since = self.since(now);
        let mut next = since.saturating_add(self.timeout);
        for queue in &self.queues {
            match queue.due() {
                Some(due) if due <= since => return Err(queue.error(TransportError::TimedOut)),
                Some(due) => next = next.min(due),
                // Nothing can make room any more.
                None if queue.asks == Asks::Now && !queue.has_room() => {
                    return Err(queue.error(TransportError::TimedOut));
                }
                None => {}
            }
        }
        self.sweep = self.base + Duration::from_nanos(next);
        Ok(())
    }

    /// Ends the queues by Disconnect, where that is wanted.
    fn disconnect<E: Engine>(&mut self, engine: &mut E) -> Result<(), Error> {
        if !self.options.disconnect {
            return Ok(());
        }
        let now = Instant::now();
        let sqe = Disconnect::new().to_sqe();
        let due = self.since(now).saturating_add(self.timeout);
        for queue in self.queues.iter_mut().filter(|queue| !queue.ended) {
            queue.leave(sqe, due)?;
        }
        let deadline = now + self.options.timeout;
        loop {
            self.transmit(engine);
            // One that hangs up at once has understood, too.
            let Some(queue) = self.queues.iter().find(|q| !q.is_idle() && !q.ended) else {
                return Ok(());
            };
            if Instant::now() >= deadline {
                return Err(queue.error(TransportError::TimedOut));
            }
            self.look(engine, Wait::Until(Some(deadline)))?;
        }
    }

    /// Sends the TermReq, if one is due, and waits until the peer hangs up: closing with bytes
    /// unread could take the TermReq with it. Neither lasts longer than a second.
    fn take_leave<E: Engine>(&mut self, engine: &mut E, at: usize) {
        let deadline = Instant::now() + GOODBYE;
        let due = self.queues[at].is_sending();
        while due && !self.queues[at].ended && Instant::now() < deadline {
            self.queues[at].transmit(engine);
            if engine.turn(self, Wait::Until(Some(deadline))).is_err() {
                return;
            }
        }
    }

    fn close<E: Engine>(&mut self, engine: &mut E) {
        let now = Instant::now();
        for (at, queue) in self.queues.iter_mut().enumerate() {
            engine.close(queue.conn);
            queue.lose(&mut Told { workload: &mut self.workload, queue: at, now });
        }
    }

    fn place(&self, conn: ConnId) -> Option<usize> {
        self.by_conn.get(conn.index()).copied().filter(|at| *at < self.queues.len())
    }

    fn note(&mut self, at: usize, result: Result<usize, Error>) {
        match result {
            Ok(completed) => self.completed += completed,
            Err(error) => self.fail(at, error),
        }
    }

    fn fail(&mut self, at: usize, error: Error) {
        self.failed = true;
        // The first is the one that counts.
        self.failure.get_or_insert((at, error));
    }
}

impl<E: Engine, W: Workload> Handler<E> for Driver<'_, W> {
    fn accepted(&mut self, _: &mut E, _: ListenerId, _: TcpStream, _: SocketAddr) {}

    fn received(&mut self, engine: &mut E, conn: ConnId, bytes: &[u8]) {
        let Some(at) = self.place(conn).filter(|_| !self.failed) else { return };
        let now = Instant::now();
        self.seen = Some(now);
        let mut told = Told { workload: &mut self.workload, queue: at, now };
        let result = self.queues[at].received(engine, bytes, &mut told);
        self.note(at, result);
    }

    fn filled(&mut self, engine: &mut E, conn: ConnId, parts: Vec<BytesMut>) {
        let Some(at) = self.place(conn).filter(|_| !self.failed) else { return };
        let now = Instant::now();
        self.seen = Some(now);
        let mut told = Told { workload: &mut self.workload, queue: at, now };
        let result = self.queues[at].filled(engine, parts, &mut told);
        self.note(at, result);
    }

    fn sent(&mut self, _: &mut E, conn: ConnId, message: Message) {
        if let Some(at) = self.place(conn) {
            self.queues[at].sent(message);
        }
    }

    fn ended(&mut self, _: &mut E, conn: ConnId, end: End) {
        let Some(at) = self.place(conn) else { return };
        self.queues[at].ended = true;
        let error = match end {
            // An end like any other: who closes with bytes unread resets the connection.
            End::Failed(error) if !is_hang_up(&error) => TransportError::Io(error),
            End::Failed(_) | End::Closed => TransportError::Closed,
        };
        let queue = &self.queues[at];
        if !queue.leaving && (queue.asks != Asks::Never || !queue.is_idle()) {
            let error = queue.error(error);
            self.fail(at, error);
        }
    }

    fn done(&mut self, _: &mut E, _: u64, _: FileOp, _: io::Result<()>) {}

    fn woken(&mut self, _: &mut E) {
        self.woken = true;
    }
}

/// In nanoseconds; what is longer than centuries is cut.
fn nanoseconds(duration: Duration) -> u64 {
    const LONGEST: u64 = 1 << 62;
    match duration.as_secs().checked_mul(1_000_000_000) {
        Some(whole) => whole.saturating_add(duration.subsec_nanos().into()).min(LONGEST),
        None => LONGEST,
    }
}

fn is_hang_up(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
}

//! Moving many blocks at once: several I/O queues, several commands on each.
//!
//! Three sides share a [`Board`]: the file's side (one thread, so that bytes stay in order), the
//! queues' side (one thread that drives them all), and the main thread, which sends Keep Alive and
//! shows progress.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use nvmf::host::{Association, NamespaceInfo, QueuePair, TcpQueue};
use nvmf::proto::queue::QueueSize;
use nvmf::spec::identify::IdentifyController;
use nvmf_host::{CommandError, Handle, Next, Options, Workload};

use crate::args;
use crate::connect::Connector;

/// Bytes of one command, where the controller takes as many.
const CHUNK: u32 = 256 << 10;

/// What is shared: some work to do, and who is at it.
pub(crate) struct Board<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
    /// Wakes the queues' side.
    handle: Handle,
}

struct State<T> {
    work: T,
    /// Threads that have not ended, by side.
    here: [bool; 2],
    /// The first thing that went wrong; nobody goes on then.
    failure: Option<anyhow::Error>,
    failed: bool,
}

/// What a thread is there for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Side {
    File,
    Queues,
}

/// What a look at the work comes to.
pub(crate) enum Step<R> {
    /// Here it is.
    Take(R),
    /// Not yet.
    Wait,
    /// There is no more.
    Done,
}

impl<T> Board<T> {
    pub(crate) fn new(work: T) -> Arc<Self> {
        let state = State { work, here: [false; 2], failure: None, failed: false };
        Arc::new(Self { state: Mutex::new(state), changed: Condvar::new(), handle: Handle::new() })
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits, on the file's side, until `look` takes something; `None` when there is no more or
    /// something failed.
    pub(crate) fn wait<R>(&self, mut look: impl FnMut(&mut T) -> Step<R>) -> Option<R> {
        let mut state = self.lock();
        while !state.failed {
            match look(&mut state.work) {
                Step::Take(found) => {
                    drop(state);
                    self.handle.wake();
                    return Some(found);
                }
                Step::Done => return None,
                Step::Wait => {
                    state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
        None
    }

    /// Looks, on the queues' side, without waiting; there is no more after a failure.
    pub(crate) fn poll<R>(&self, look: impl FnOnce(&mut T) -> Step<R>) -> Step<R> {
        let mut state = self.lock();
        if state.failed {
            return Step::Done;
        }
        let found = look(&mut state.work);
        if matches!(found, Step::Take(_)) {
            self.changed.notify_all();
        }
        found
    }

    /// Changes the work on the queues' side, which need not be woken then.
    pub(crate) fn note<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        let changed = change(&mut self.lock().work);
        self.changed.notify_all();
        changed
    }

    /// Whether nobody is to go on.
    pub(crate) fn has_failed(&self) -> bool {
        self.lock().failed
    }

    /// Changes the work, or looks at it.
    pub(crate) fn update<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        let changed = change(&mut self.lock().work);
        self.tell();
        changed
    }

    fn tell(&self) {
        self.changed.notify_all();
        self.handle.wake();
    }

    /// Stops everyone; the first error is the one that is reported.
    pub(crate) fn fail(&self, error: impl Into<anyhow::Error>) {
        let mut state = self.lock();
        if !state.failed {
            state.failed = true;
            state.failure = Some(error.into());
        }
        drop(state);
        self.tell();
    }

    /// The same for a command that did not succeed. What a connection took with it is no news: the
    /// connection's end is told.
    pub(crate) fn refuse(&self, command: &'static str, error: CommandError) {
        match error {
            CommandError::Lost => {}
            CommandError::Status(status) => self.fail(nvmf::Error::Status { command, status }),
            error => self.fail(anyhow!("{command} failed: {error}")),
        }
    }

    /// Takes the error, if there is one.
    pub(crate) fn failure(&self) -> Option<anyhow::Error> {
        self.lock().failure.take()
    }
}

/// Says on the board when a thread ends, however it does.
struct Presence<T> {
    board: Arc<Board<T>>,
    side: Side,
}

impl<T> Presence<T> {
    fn new(board: &Arc<Board<T>>, side: Side) -> Self {
        board.lock().here[side as usize] = true;
        Self { board: Arc::clone(board), side }
    }
}

impl<T> Drop for Presence<T> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.board.fail(anyhow!("a thread of nvmf panicked"));
        }
        self.board.lock().here[self.side as usize] = false;
        self.board.changed.notify_all();
    }
}

/// Starts the file's side. What it returns as an error stops everyone.
pub(crate) fn file_side<T: Send + 'static>(
    board: &Arc<Board<T>>,
    run: impl FnOnce(&Board<T>) -> anyhow::Result<()> + Send + 'static,
) -> anyhow::Result<()> {
    let presence = Presence::new(board, Side::File);
    spawn("nvmf-file", move || {
        if let Err(error) = run(&presence.board) {
            presence.board.fail(error);
        }
    })
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> anyhow::Result<()> {
    thread::Builder::new().name(name.to_owned()).spawn(run).context("cannot start a thread")?;
    Ok(())
}

/// An association with I/O queues and the namespace they are for.
pub(crate) struct Session {
    association: Association,
    queues: Vec<TcpQueue>,
    pub namespace: NamespaceInfo,
    /// Blocks of one command, at least 1.
    pub chunk_blocks: u32,
    /// Commands outstanding on all queues together.
    pub depth: usize,
    pub timeout: Duration,
    options: Options,
}

impl Session {
    /// Bytes of one command.
    pub(crate) fn chunk_bytes(&self) -> usize {
        usize::try_from(u64::from(self.chunk_blocks) * u64::from(self.namespace.block_size))
            .unwrap_or(usize::MAX)
    }

    /// Does the work, and shows progress; after a failure, the file's side is not waited for: it
    /// may be stuck in a pipe. The association goes on.
    ///
    /// `fail` turns what the queues fail with into what is reported.
    pub(crate) fn run<T: Send + 'static, W: Workload + Send + 'static>(
        &mut self,
        board: &Arc<Board<T>>,
        mut workload: W,
        fail: impl FnOnce(nvmf_host::Error, &W) -> anyhow::Error + Send + 'static,
        progress: impl FnMut(&T),
    ) -> anyhow::Result<()> {
        let queues = std::mem::take(&mut self.queues);
        let mut options = self.options.clone();
        options.handle = Some(board.handle.clone());
        let presence = Presence::new(board, Side::Queues);
        spawn("nvmf-queues", move || {
            if let Err(error) = nvmf_host::run(queues, &mut workload, &options) {
                presence.board.fail(fail(error, &workload));
            }
        })?;
        self.attend(board, progress)
    }

    fn attend<T>(&mut self, board: &Board<T>, mut progress: impl FnMut(&T)) -> anyhow::Result<()> {
        const LOOK: Duration = Duration::from_millis(100);
        const PATIENCE: Duration = Duration::from_secs(1);
        let mut failed_at = None;
        loop {
            let state = board.lock();
            progress(&state.work);
            if state.failed {
                failed_at = failed_at.or_else(|| Some(Instant::now()));
            }
            let patient = failed_at.is_none_or(|at| at.elapsed() < PATIENCE);
            let [file, queues] = state.here;
            if !(queues || file && patient) {
                break;
            }
            let waited = board.changed.wait_timeout(state, LOOK);
            drop(waited.unwrap_or_else(PoisonError::into_inner));
            if let Err(error) = self.association.keep_alive_if_due() {
                board.fail(anyhow!(error).context("the admin queue failed"));
            }
        }
        board.failure().map_or(Ok(()), Err)
    }

    /// Ends the association in order.
    pub(crate) fn shutdown(self) -> anyhow::Result<()> {
        Ok(self.association.shutdown(Vec::new())?)
    }
}

/// What there is to do next, as a queue is told.
pub(crate) fn next(step: Step<nvmf_host::Request>) -> Next {
    match step {
        Step::Take(request) => Next::Io(request),
        Step::Wait => Next::Later,
        Step::Done => Next::Done,
    }
}

/// A session before it has its queues: nothing was moved yet, and the range is still to be judged.
pub(crate) struct Prepared {
    pub association: Association,
    pub namespace: NamespaceInfo,
}

/// Connects and looks at the namespace.
pub(crate) fn prepare(connector: &Connector) -> anyhow::Result<Prepared> {
    let mut association = connector.connect()?;
    let namespace = connector.namespace(&mut association)?;
    Ok(Prepared { association, namespace })
}

impl Prepared {
    /// Refuses a range that the namespace does not have; gives its end.
    pub(crate) fn check_range(&self, offset: u64, length: u64) -> anyhow::Result<u64> {
        let size = self.namespace.bytes();
        let (bytes, are) = if length == 1 { ("byte", "is not") } else { ("bytes", "are not all") };
        offset.checked_add(length).filter(|end| *end <= size).ok_or_else(|| {
            anyhow!(
                "{length} {bytes} at offset {offset} {are} in namespace {}, which has {size} \
                 bytes; nothing was moved",
                self.namespace.nsid
            )
        })
    }

    /// Connects the I/O queues.
    pub(crate) fn open(mut self, transfer: &args::Transfer) -> anyhow::Result<Session> {
        let namespace = self.namespace;
        let most = self.association.max_transfer().min(CHUNK.max(namespace.block_size));
        let chunk_blocks = (most / namespace.block_size).min(1 << 16);
        if chunk_blocks == 0 {
            let reason = anyhow!(
                "namespace {} has blocks of {} bytes, and one command may move only {most}",
                namespace.nsid,
                namespace.block_size
            );
            return Err(reason);
        }
        let wanted = transfer.queues.min(transfer.qd);
        let per_queue = transfer.qd.div_ceil(wanted);
        let size = QueueSize::new(u32::from(per_queue) + 1).unwrap_or(QueueSize::MIN);
        let queues = self
            .association
            .connect_io_queues(wanted, Some(size))
            .context("cannot connect the I/O queues")?;
        if queues.is_empty() {
            return Err(anyhow!("the controller grants no I/O queue"));
        }
        let queues = queues.into_iter().map(QueuePair::into_tcp).collect::<Result<_, _>>()?;
        let depth = usize::from(transfer.qd);
        let timeout = self.association.options().timeout;
        let association = self.association;
        let mut options = Options::new(depth);
        options.engine = transfer.engine.engine;
        options.timeout = timeout;
        options.disconnect =
            association.controller().ofcs.get() & IdentifyController::OFCS_DISCONNECT != 0;
        Ok(Session { association, queues, namespace, chunk_blocks, depth, timeout, options })
    }
}

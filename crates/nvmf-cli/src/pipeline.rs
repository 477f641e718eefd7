//! Moving many blocks at once: several I/O queues, a thread each, several commands on each.
//!
//! Three sides share a [`Board`]: the file's side (one thread, so that bytes stay in order), the
//! queues' side (a worker each), and the main thread, which sends Keep Alive and shows progress.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use nvmf::host::{Association, NamespaceInfo, QueuePair};
use nvmf::proto::queue::QueueSize;
use nvmf::spec::{Sqe, opcode};

use crate::args;
use crate::connect::Connector;

/// Bytes of one command, where the controller takes as many.
const CHUNK: u32 = 256 << 10;

/// What is shared: some work to do, and who is at it.
pub(crate) struct Board<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

struct State<T> {
    work: T,
    /// Threads of the queues' side that have not ended.
    workers: usize,
    /// The file's side has not ended.
    file_side: bool,
    /// The first thing that went wrong; nobody goes on then.
    failure: Option<anyhow::Error>,
    failed: bool,
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
        let state = State { work, workers: 0, file_side: false, failure: None, failed: false };
        Arc::new(Self { state: Mutex::new(state), changed: Condvar::new() })
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `look` takes something; `None` when there is no more or something failed.
    pub(crate) fn wait<R>(&self, mut look: impl FnMut(&mut T) -> Step<R>) -> Option<R> {
        let mut state = self.lock();
        while !state.failed {
            match look(&mut state.work) {
                Step::Take(found) => {
                    self.changed.notify_all();
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

    /// The same without waiting.
    pub(crate) fn poll<R>(&self, look: impl FnOnce(&mut T) -> Step<R>) -> Option<R> {
        let mut state = self.lock();
        match (state.failed, look(&mut state.work)) {
            (false, Step::Take(found)) => {
                self.changed.notify_all();
                Some(found)
            }
            _ => None,
        }
    }

    /// Changes the work, or looks at it.
    pub(crate) fn update<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        let changed = change(&mut self.lock().work);
        self.changed.notify_all();
        changed
    }

    /// Stops everyone; the first error is the one that is reported.
    pub(crate) fn fail(&self, error: impl Into<anyhow::Error>) {
        let mut state = self.lock();
        if !state.failed {
            state.failed = true;
            state.failure = Some(error.into());
        }
        self.changed.notify_all();
    }

    /// Takes the error, if there is one.
    pub(crate) fn failure(&self) -> Option<anyhow::Error> {
        self.lock().failure.take()
    }
}

/// Which side a thread is on; says on the board when the thread ends, however it does.
struct Presence<T> {
    board: Arc<Board<T>>,
    worker: bool,
}

impl<T> Presence<T> {
    fn new(board: &Arc<Board<T>>, worker: bool) -> Self {
        let mut state = board.lock();
        if worker {
            state.workers += 1;
        } else {
            state.file_side = true;
        }
        drop(state);
        Self { board: Arc::clone(board), worker }
    }
}

impl<T> Drop for Presence<T> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.board.fail(anyhow!("a thread of nvmf panicked"));
        }
        let mut state = self.board.lock();
        if self.worker {
            state.workers -= 1;
        } else {
            state.file_side = false;
        }
        drop(state);
        self.board.changed.notify_all();
    }
}

/// The threads of a transfer.
pub(crate) struct Crew<T> {
    board: Arc<Board<T>>,
    workers: Vec<JoinHandle<QueuePair>>,
}

impl<T: Send + 'static> Crew<T> {
    pub(crate) fn new(board: &Arc<Board<T>>) -> Self {
        Self { board: Arc::clone(board), workers: Vec::new() }
    }

    /// Starts the file's side. What it returns as an error stops everyone.
    pub(crate) fn file_side(
        &self,
        run: impl FnOnce(&Board<T>) -> anyhow::Result<()> + Send + 'static,
    ) -> anyhow::Result<()> {
        let presence = Presence::new(&self.board, false);
        spawn("nvmf-file", move || {
            if let Err(error) = run(&presence.board) {
                presence.board.fail(error);
            }
        })?;
        Ok(())
    }

    /// Starts a worker with its queue. What it returns as an error stops everyone.
    pub(crate) fn worker(
        &mut self,
        mut queue: QueuePair,
        run: impl FnOnce(&mut QueuePair, &Board<T>) -> Result<(), nvmf::Error> + Send + 'static,
    ) -> anyhow::Result<()> {
        let presence = Presence::new(&self.board, true);
        let worker = spawn("nvmf-queue", move || {
            if let Err(error) = run(&mut queue, &presence.board) {
                presence.board.fail(error);
            }
            queue
        })?;
        self.workers.push(worker);
        Ok(())
    }

    /// Keeps the association alive and shows progress until all threads have ended, and gives the
    /// queues back. After a failure, the file's side is not waited for: it may be stuck in a pipe.
    pub(crate) fn attend(
        &mut self,
        association: &mut Association,
        mut progress: impl FnMut(&T),
    ) -> anyhow::Result<Vec<QueuePair>> {
        const LOOK: Duration = Duration::from_millis(100);
        const PATIENCE: Duration = Duration::from_secs(1);
        let mut failed_at = None;
        loop {
            let state = self.board.lock();
            progress(&state.work);
            if state.failed {
                failed_at = failed_at.or_else(|| Some(Instant::now()));
            }
            let patient = failed_at.is_none_or(|at| at.elapsed() < PATIENCE);
            if state.workers == 0 && !(state.file_side && patient) {
                break;
            }
            let (state, _) = self
                .board
                .changed
                .wait_timeout(state, LOOK)
                .unwrap_or_else(PoisonError::into_inner);
            drop(state);
            if let Err(error) = association.keep_alive_if_due() {
                self.board.fail(anyhow!(error).context("the admin queue failed"));
            }
        }
        let queues = self.workers.drain(..).filter_map(|worker| worker.join().ok()).collect();
        match self.board.failure() {
            Some(error) => Err(error),
            None => Ok(queues),
        }
    }
}

fn spawn<R: Send + 'static>(
    name: &str,
    run: impl FnOnce() -> R + Send + 'static,
) -> anyhow::Result<JoinHandle<R>> {
    thread::Builder::new().name(name.to_owned()).spawn(run).context("cannot start a thread")
}

/// An association with I/O queues and the namespace they are for.
pub(crate) struct Session {
    pub association: Association,
    pub queues: Vec<QueuePair>,
    pub namespace: NamespaceInfo,
    /// Blocks of one command, at least 1.
    pub chunk_blocks: u32,
    /// Commands outstanding on each queue.
    pub depth: usize,
    pub timeout: Duration,
}

impl Session {
    /// Bytes of one command.
    pub(crate) fn chunk_bytes(&self) -> usize {
        usize::try_from(u64::from(self.chunk_blocks) * u64::from(self.namespace.block_size))
            .unwrap_or(usize::MAX)
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
        let depth = usize::from(transfer.qd).div_ceil(queues.len());
        let timeout = self.association.options().timeout;
        let association = self.association;
        Ok(Session { association, queues, namespace, chunk_blocks, depth, timeout })
    }
}

/// A Read or Write of `blocks` blocks (1 to 65536) from `lba` on.
pub(crate) fn command(opcode: u8, nsid: u32, lba: u64, blocks: u32) -> Sqe {
    debug_assert!(matches!(opcode, opcode::nvm::READ | opcode::nvm::WRITE));
    let mut sqe = Sqe::new(opcode);
    sqe.nsid.set(nsid);
    sqe.set_slba(lba);
    sqe.set_cdw(12, blocks.saturating_sub(1) & 0xffff);
    sqe
}

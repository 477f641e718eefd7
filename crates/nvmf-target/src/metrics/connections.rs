//! The connections of a [`MetricsServer`](super::MetricsServer): a few, none of which can keep the
//! others out.

use std::collections::BTreeMap;
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long a new connection waits for one to be done before another is ended for it.
const GRACE: Duration = Duration::from_millis(50);

/// The connections there are.
#[derive(Debug)]
pub(super) struct Connections {
    most: usize,
    state: Mutex<State>,
    done: Condvar,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    /// In the order in which they came.
    entries: BTreeMap<u64, Entry>,
}

#[derive(Debug)]
struct Entry {
    socket: Arc<TcpStream>,
    stage: Stage,
}

/// How far a connection is; the earlier, the sooner it has to make room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    /// Its request is to come.
    Silent,
    Answered,
    /// It is about to be gone.
    Ended,
}

/// A connection that was admitted; dropping it takes it off the books.
#[derive(Debug)]
pub(super) struct Connection {
    id: u64,
    socket: Arc<TcpStream>,
    connections: Arc<Connections>,
}

impl Connections {
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, state: Mutex::default(), done: Condvar::new() })
    }

    /// Admits a connection once there is room. Whoever scrapes is done soon; if nobody is, the one
    /// that has not asked for anything for longest is ended, or the one that takes its answer.
    pub(super) fn admit(self: &Arc<Self>, socket: TcpStream) -> Connection {
        let mut state = self.state();
        while state.entries.len() >= self.most {
            let full = |state: &mut State| state.entries.len() >= self.most;
            let wait = self.done.wait_timeout_while(state, GRACE, full);
            let (after, waited) = wait.unwrap_or_else(PoisonError::into_inner);
            state = after;
            if waited.timed_out() {
                state.end_one();
            }
        }
        let id = state.next;
        state.next += 1;
        let socket = Arc::new(socket);
        state.entries.insert(id, Entry { socket: Arc::clone(&socket), stage: Stage::Silent });
        Connection { id, socket, connections: Arc::clone(self) }
    }

    /// Ends all of them.
    pub(super) fn end_all(&self) {
        self.state().entries.values_mut().for_each(Entry::end);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn end_one(&mut self) {
        let left = self.entries.values_mut().filter(|entry| entry.stage != Stage::Ended);
        // Of several in the same stage this is the first, which is the oldest.
        if let Some(entry) = left.min_by_key(|entry| entry.stage) {
            entry.end();
        }
    }
}

impl Entry {
    /// Wakes the thread that waits for the socket; it may be closed already.
    fn end(&mut self) {
        self.stage = Stage::Ended;
        let _ = self.socket.shutdown(Shutdown::Both);
    }
}

impl Connection {
    pub(super) fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// Its request has come.
    pub(super) fn asked(&self) {
        if let Some(entry) = self.connections.state().entries.get_mut(&self.id)
            && entry.stage == Stage::Silent
        {
            entry.stage = Stage::Answered;
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.connections.state().entries.remove(&self.id);
        self.connections.done.notify_all();
    }
}

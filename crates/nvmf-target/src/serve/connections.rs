//! Which connections there are: how many there may be, and how to end them.

use std::collections::BTreeMap;
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The connections of a target.
#[derive(Debug)]
pub(super) struct Connections {
    most: usize,
    most_half_open: usize,
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    entries: BTreeMap<u64, Entry>,
    half_open: usize,
}

#[derive(Debug)]
struct Entry {
    /// `None` for one that has no socket.
    socket: Option<Arc<TcpStream>>,
    /// Its Connect has not come yet.
    half_open: bool,
}

/// A connection that was admitted; dropping it takes it off the books.
#[derive(Debug)]
pub(super) struct Connection {
    id: u64,
    socket: Option<Arc<TcpStream>>,
    connections: Arc<Connections>,
}

/// Ends one connection from another thread.
#[derive(Clone, Debug)]
pub(super) struct Stopper {
    stopped: Arc<AtomicBool>,
    socket: Option<Arc<TcpStream>>,
}

impl Connections {
    pub(super) fn new(most: usize, most_half_open: usize) -> Arc<Self> {
        let (state, ended) = (Mutex::default(), Condvar::new());
        Arc::new(Self { most, most_half_open, state, ended })
    }

    /// Admits a connection that has yet to send its Connect; `None` if there are too many. The
    /// socket is one to end it by.
    ///
    /// Where too many have not sent their Connect, the one that has been silent longest makes
    /// room: a crowd of silent connections must not keep out those that have something to say.
    pub(super) fn admit(self: &Arc<Self>, socket: Option<TcpStream>) -> Option<Connection> {
        let socket = socket.map(Arc::new);
        let mut state = self.state();
        if state.entries.len() >= self.most {
            return None;
        }
        if state.half_open >= self.most_half_open {
            state.close_oldest_half_open()?;
        }
        let id = state.next;
        state.next += 1;
        state.half_open += 1;
        state.entries.insert(id, Entry { socket: socket.clone(), half_open: true });
        Some(Connection { id, socket, connections: Arc::clone(self) })
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.state().entries.len()
    }

    /// How many there ever were.
    pub(super) fn ever(&self) -> u64 {
        self.state().next
    }

    /// Closes all sockets, whatever is under way.
    pub(super) fn close_all(&self) {
        self.state().close(|_| true);
    }

    /// Closes the sockets of those that have not sent their Connect.
    pub(super) fn close_half_open(&self) {
        self.state().close(|entry| entry.half_open);
    }

    /// Waits until none is left; false if some are after `patience`.
    pub(super) fn wait_until_none(&self, patience: Duration) -> bool {
        let (state, _) = self
            .ended
            .wait_timeout_while(self.state(), patience, |state| !state.entries.is_empty())
            .unwrap_or_else(PoisonError::into_inner);
        state.entries.is_empty()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn close(&self, which: impl Fn(&Entry) -> bool) {
        let chosen = self.entries.values().filter(|entry| which(entry));
        chosen.filter_map(|entry| entry.socket.as_ref()).for_each(|socket| close(socket));
    }

    /// Closes the connection that has been half-open longest; `None` if none can be closed.
    fn close_oldest_half_open(&mut self) -> Option<()> {
        let half_open = |entry: &&mut Entry| entry.half_open && entry.socket.is_some();
        let oldest = self.entries.values_mut().find(half_open)?;
        oldest.socket.as_ref().map(|socket| close(socket))?;
        oldest.half_open = false;
        self.half_open -= 1;
        Some(())
    }

    /// The connection does not count as half-open any more.
    fn established(&mut self, id: u64) {
        if let Some(entry) = self.entries.get_mut(&id)
            && std::mem::take(&mut entry.half_open)
        {
            self.half_open -= 1;
        }
    }
}

impl Connection {
    /// The Connect came: the connection does not count as half-open any more.
    pub(super) fn established(&self) {
        self.connections.state().established(self.id);
    }

    /// Shuts its socket down, in this direction.
    pub(super) fn shutdown(&self, how: Shutdown) {
        if let Some(socket) = &self.socket {
            // It may be closed already.
            let _ = socket.shutdown(how);
        }
    }

    pub(super) fn stopper(&self) -> Stopper {
        Stopper { stopped: Arc::default(), socket: self.socket.clone() }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let mut state = self.connections.state();
        state.established(self.id);
        state.entries.remove(&self.id);
        self.connections.ended.notify_all();
    }
}

impl Stopper {
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        if let Some(socket) = &self.socket {
            close(socket);
        }
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }
}

/// Wakes whoever waits for the socket; it may be closed already.
fn close(socket: &TcpStream) {
    let _ = socket.shutdown(Shutdown::Both);
}

/// Whether a target is to stop, and since when.
#[derive(Debug, Default)]
pub(super) struct StopFlag {
    set: AtomicBool,
    since: Mutex<Option<Instant>>,
    raised: Condvar,
}

impl StopFlag {
    pub(super) fn raise(&self) {
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        since.get_or_insert_with(Instant::now);
        self.set.store(true, Ordering::Release);
        self.raised.notify_all();
    }

    /// Waits until it is raised.
    pub(super) fn wait(&self) {
        let since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.raised.wait_while(since, |since| since.is_none()));
    }

    pub(super) fn is_raised(&self) -> bool {
        self.set.load(Ordering::Acquire)
    }

    /// When it was raised.
    pub(super) fn since(&self) -> Option<Instant> {
        if !self.is_raised() {
            return None;
        }
        *self.since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_so_many_are_admitted() {
        let connections = Connections::new(2, 10);
        let one = connections.admit(None).unwrap();
        let _two = connections.admit(None).unwrap();
        assert!(connections.admit(None).is_none());
        drop(one);
        assert!(connections.admit(None).is_some());
    }

    #[test]
    fn those_that_have_not_sent_connect_are_fewer_still() {
        let connections = Connections::new(10, 1);
        let one = connections.admit(None).unwrap();
        assert!(connections.admit(None).is_none());
        one.established();
        one.established();
        let two = connections.admit(None).unwrap();
        assert!(connections.admit(None).is_none());
        drop(two);
        assert!(connections.admit(None).is_some());
        assert_eq!((connections.count(), connections.ever()), (1, 3));
    }

    #[test]
    fn the_one_that_was_silent_longest_makes_room() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let pair = || {
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            (client, listener.accept().unwrap().0)
        };
        let connections = Connections::new(10, 2);
        let ((mut a, one), (b, two), (_c, three)) = (pair(), pair(), pair());
        let _one = connections.admit(Some(one)).unwrap();
        let _two = connections.admit(Some(two)).unwrap();
        let _three = connections.admit(Some(three)).unwrap();
        assert_eq!(std::io::Read::read(&mut a, &mut [0]).unwrap(), 0, "the first is closed");
        b.set_nonblocking(true).unwrap();
        let waiting = std::io::Read::read(&mut &b, &mut [0]).unwrap_err();
        assert_eq!(waiting.kind(), std::io::ErrorKind::WouldBlock, "the second is not");
    }

    #[test]
    fn the_last_one_to_go_ends_the_wait() {
        let connections = Connections::new(10, 10);
        let one = connections.admit(None).unwrap();
        assert!(!connections.wait_until_none(Duration::from_millis(1)));
        let thread = std::thread::spawn(move || drop(one));
        assert!(connections.wait_until_none(Duration::from_secs(30)));
        thread.join().unwrap();
    }
}

//! Accepting connections.

use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::net::Shutdown;

use super::Uring;
use super::operation::Operation;
use super::ring::Completion;
use crate::engine::{Handler, ListenerId};
use crate::slots::Key;

/// Where accepting fails, mostly for want of descriptors, it rests this long.
const REST: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(super) struct Listener {
    socket: TcpListener,
    /// The caller has closed it; it waits for the kernel to be done.
    closed: bool,
    /// Operations whose last completion was not taken yet.
    in_kernel: u32,
    rests_until: Option<Instant>,
}

/// The socket that a completion of accepting brings, if it does.
pub(super) fn socket(completion: Completion) -> io::Result<TcpStream> {
    completion.outcome()?;
    // SAFETY: the kernel has just opened this descriptor, and a completion is taken only once.
    Ok(TcpStream::from(unsafe { OwnedFd::from_raw_fd(completion.result) }))
}

impl Uring {
    pub(super) fn add_listener(&mut self, socket: TcpListener) -> io::Result<ListenerId> {
        let new = Listener { socket, closed: false, in_kernel: 0, rests_until: None };
        let key = self.listeners.insert_with(|_| new);
        let key = key.ok_or_else(|| io::Error::other("too many sockets"))?;
        self.listen_to(key);
        Ok(ListenerId(key))
    }

    pub(super) fn close_listener(&mut self, key: Key) {
        let Some(old) = self.listeners.get_mut(key).filter(|old| !old.closed) else { return };
        old.closed = true;
        if old.in_kernel > 0 {
            // The descriptor stays open until the kernel is done with it, but nobody is to be
            // accepted any more, and the address is to be free now.
            let _ = rustix::net::shutdown(&old.socket, Shutdown::Both);
            old.in_kernel += 1;
            self.ring.cancel_all(old.socket.as_fd(), Operation::StopListener(key));
        }
        self.retire_listener(key);
    }

    fn retire_listener(&mut self, key: Key) {
        if self.listeners.get(key).is_some_and(|old| old.closed && old.in_kernel == 0) {
            self.listeners.remove(key);
        }
    }

    fn listen_to(&mut self, key: Key) {
        let Some(listener) = self.listeners.get_mut(key) else { return };
        if listener.closed || listener.in_kernel > 0 || listener.rests_until.is_some() {
            return;
        }
        listener.in_kernel = 1;
        self.ring.accept(listener.socket.as_fd(), Operation::Accept(key));
    }

    pub(super) fn listener_stopped(&mut self, key: Key) {
        if let Some(listener) = self.listeners.get_mut(key) {
            listener.in_kernel -= 1;
        }
        self.retire_listener(key);
    }

    pub(super) fn accepted<H: Handler<Self>>(
        &mut self,
        handler: &mut H,
        key: Key,
        completion: Completion,
    ) {
        let socket = socket(completion);
        let Some(listener) = self.listeners.get_mut(key) else { return };
        if !completion.more() {
            listener.in_kernel -= 1;
        }
        if listener.closed {
            return self.retire_listener(key);
        }
        match socket {
            Ok(socket) => {
                // One that is reset already has no peer, and is nobody's loss.
                if let Ok(peer) = socket.peer_addr() {
                    handler.accepted(self, ListenerId(key), socket, peer);
                }
            }
            Err(error) if gone(&error) => {}
            Err(error) => {
                tracing::error!(%error, "cannot accept a connection");
                let until = Instant::now() + REST;
                listener.rests_until = Some(until);
                self.rest = Some(self.rest.map_or(until, |rest| rest.min(until)));
            }
        }
        self.listen_to(key);
    }

    /// Listens again where the rest is over.
    pub(super) fn rested(&mut self) {
        let now = Instant::now();
        if self.rest.is_none_or(|rest| rest > now) {
            return;
        }
        self.rest = None;
        let keys: Vec<Key> = self.listeners.keys().collect();
        for key in keys {
            let Some(listener) = self.listeners.get_mut(key) else { continue };
            match listener.rests_until {
                Some(until) if until <= now => {
                    listener.rests_until = None;
                    self.listen_to(key);
                }
                Some(until) => self.rest = Some(self.rest.map_or(until, |rest| rest.min(until))),
                None => {}
            }
        }
    }
}

/// Whether it is about the connection that was to be accepted, and not about accepting.
fn gone(error: &io::Error) -> bool {
    super::ring::transient(error) || error.kind() == io::ErrorKind::ConnectionAborted
}

//! Readiness where there is no epoll: kqueue and others, by the `polling` crate.
#![allow(unsafe_code, reason = "`polling` asks that sockets be removed before they are closed")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use polling::{PollMode, Poller};

use super::readiness::{Event, Interest, Readiness};

#[derive(Debug)]
pub(super) struct Portable {
    poller: Poller,
    ready: polling::Events,
    mode: PollMode,
    /// What the caller gave with each socket, by the number given to the poller: its keys are as
    /// wide as a pointer, which may be less.
    data: Vec<Option<(i32, u64)>>,
    armed: Vec<Interest>,
}

impl Portable {
    pub(super) fn new() -> io::Result<Self> {
        let poller = Poller::new()?;
        let mode = if poller.supports_level() { PollMode::Level } else { PollMode::Oneshot };
        let ready = polling::Events::new();
        Ok(Self { poller, ready, mode, data: Vec::new(), armed: Vec::new() })
    }

    fn place(&self, socket: BorrowedFd<'_>) -> Option<usize> {
        let fd = socket.as_raw_fd();
        self.data.iter().position(|place| place.is_some_and(|(known, _)| known == fd))
    }

    fn event(key: usize, interest: Interest) -> polling::Event {
        let mut event = polling::Event::none(key);
        event.readable = interest.read;
        event.writable = interest.write;
        event
    }
}

impl Readiness for Portable {
    fn add(&mut self, socket: BorrowedFd<'_>, data: u64, interest: Interest) -> io::Result<()> {
        let place = self.data.iter().position(Option::is_none).unwrap_or(self.data.len());
        if place == self.data.len() {
            self.data.push(None);
            self.armed.push(interest);
        }
        // SAFETY: the engine calls `remove` for every socket before it drops it (`close` and
        // `unlisten`), or drops the poller with it.
        unsafe {
            self.poller.add_with_mode(&socket, Self::event(place, interest), self.mode)?;
        }
        self.data[place] = Some((socket.as_raw_fd(), data));
        self.armed[place] = interest;
        Ok(())
    }

    fn modify(&mut self, socket: BorrowedFd<'_>, data: u64, interest: Interest) -> io::Result<()> {
        let place = self.place(socket).ok_or(io::ErrorKind::NotFound)?;
        self.data[place] = Some((socket.as_raw_fd(), data));
        self.armed[place] = interest;
        self.poller.modify_with_mode(socket, Self::event(place, interest), self.mode)
    }

    fn remove(&mut self, socket: BorrowedFd<'_>) {
        if let Some(place) = self.place(socket) {
            self.data[place] = None;
        }
        let _ = self.poller.delete(socket);
    }

    fn wait(&mut self, events: &mut Vec<Event>, timeout: Option<Duration>) -> io::Result<()> {
        self.ready.clear();
        match self.poller.wait(&mut self.ready, timeout) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => return Ok(()),
            result => result?,
        };
        for event in self.ready.iter() {
            let Some(Some((fd, data))) = self.data.get(event.key).copied() else { continue };
            let broken = event.is_err() == Some(true) || event.is_interrupt();
            events.push(Event {
                data,
                readable: event.readable || broken,
                writable: event.writable || broken,
            });
            if self.mode == PollMode::Oneshot {
                // SAFETY: a socket in the table is open, by what `add` relies on.
                let socket = unsafe { BorrowedFd::borrow_raw(fd) };
                let again = Self::event(event.key, self.armed[event.key]);
                self.poller.modify_with_mode(socket, again, self.mode)?;
            }
        }
        Ok(())
    }
}

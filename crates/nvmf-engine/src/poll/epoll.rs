//! Readiness on Linux.
//!
//! Not by the `polling` crate, which makes four system calls of each wait (it sets a timer, arms
//! it, waits, and arms its notification again); here it is one.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{Timespec, epoll};
use rustix::io::Errno;

use super::readiness::{Event, Interest, Readiness};

#[derive(Debug)]
pub(super) struct Epoll {
    epoll: OwnedFd,
}

/// Events taken at once.
const EVENTS: usize = 64;

impl Epoll {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { epoll: epoll::create(epoll::CreateFlags::CLOEXEC)? })
    }
}

fn flags(interest: Interest) -> epoll::EventFlags {
    let mut flags = epoll::EventFlags::empty();
    flags.set(epoll::EventFlags::IN, interest.read);
    flags.set(epoll::EventFlags::OUT, interest.write);
    flags
}

impl Readiness for Epoll {
    fn add(&mut self, socket: BorrowedFd<'_>, data: u64, interest: Interest) -> io::Result<()> {
        let data = epoll::EventData::new_u64(data);
        Ok(epoll::add(&self.epoll, socket, data, flags(interest))?)
    }

    fn modify(&mut self, socket: BorrowedFd<'_>, data: u64, interest: Interest) -> io::Result<()> {
        let data = epoll::EventData::new_u64(data);
        Ok(epoll::modify(&self.epoll, socket, data, flags(interest))?)
    }

    fn remove(&mut self, socket: BorrowedFd<'_>) {
        // It is closed next, which would remove it too.
        let _ = epoll::delete(&self.epoll, socket);
    }

    fn wait(&mut self, events: &mut Vec<Event>, timeout: Option<Duration>) -> io::Result<()> {
        let timeout = timeout.map(|timeout| {
            Timespec::try_from(timeout).unwrap_or(Timespec { tv_sec: i64::MAX, tv_nsec: 0 })
        });
        let mut room = [const { MaybeUninit::uninit() }; EVENTS];
        let (ready, _) = match epoll::wait(&self.epoll, &mut room, timeout.as_ref()) {
            Err(Errno::INTR) => return Ok(()),
            result => result?,
        };
        events.extend(ready.iter().map(|event| {
            let flags = event.flags;
            // Errors and hang-ups are found by doing what is of interest.
            let broken = flags.intersects(epoll::EventFlags::ERR | epoll::EventFlags::HUP);
            Event {
                data: event.data.u64(),
                readable: flags.contains(epoll::EventFlags::IN) || broken,
                writable: flags.contains(epoll::EventFlags::OUT) || broken,
            }
        }));
        Ok(())
    }
}

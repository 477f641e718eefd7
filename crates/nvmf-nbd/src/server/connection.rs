//! One client: the handshake, and then requests, several at once.
//!
//! Threads take turns. One waits for the next request; having it, it lets another one wait, executes
//! the request and sends the reply. There are no more threads than requests at work and one, and no
//! hand-over between what was received and what is done.

use std::io;
use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, Scope};
use std::time::Instant;

use bytes::Bytes;

use super::budget::{Budget, Taken};
use super::incoming::{Broken, Incoming, is_silence};
use super::socket::Socket;
use super::{Options, Shared};
use crate::device::Device;
use crate::error::{ErrorCode, Failure};
use crate::export::Terms;
use crate::protocol::{Command, Handshake, Head, Negotiated, Step, Violation};

/// Why a connection ended before its client wanted it to.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    #[error("in the handshake: {0}")]
    Violation(#[from] Violation),
    #[error("the handshake took too long")]
    Slow,
    #[error("in the handshake: {0}")]
    Handshake(io::Error),
    #[error(transparent)]
    Broken(#[from] Broken),
    #[error("a reply was not taken: {0}")]
    Reply(io::Error),
}

/// Serves a client until it leaves, breaks the protocol or the connection, or the server stops.
pub(super) fn serve(socket: &Socket, shared: &Shared) -> Result<(), Ended> {
    let options = &shared.options;
    let terms = shared.export.terms(options.max_payload);
    let mut incoming = Incoming::new(socket);
    let Some(negotiated) = shake_hands(socket, &mut incoming, terms.clone(), options)? else {
        return Ok(());
    };
    socket.set_patience(options.stall).map_err(Ended::Handshake)?;
    tracing::info!(client = %socket, structured = negotiated.structured, "NBD client connected");
    let transmission = Transmission {
        socket,
        shared,
        terms,
        negotiated,
        incoming: Mutex::new(Receiving { incoming, ended: false }),
        sending: Mutex::new(()),
        budget: Budget::new(options.memory.max(length(options.max_payload))),
        threads: AtomicUsize::new(1),
        waiting: AtomicUsize::new(0),
        failure: Mutex::new(None),
        warned: AtomicBool::new(false),
    };
    thread::scope(|scope| transmission.work(scope));
    let failure = transmission.failure.into_inner().unwrap_or_else(PoisonError::into_inner);
    failure.map_or(Ok(()), Err)
}

/// What was agreed upon; `None` if the client has left.
fn shake_hands(
    socket: &Socket,
    incoming: &mut Incoming<&Socket>,
    terms: Terms,
    options: &Options,
) -> Result<Option<Negotiated>, Ended> {
    let deadline = Instant::now() + options.handshake;
    let mut out = Vec::new();
    let mut handshake = Handshake::new(terms, &mut out);
    let failed = |error| if is_silence(&error) { Ended::Slow } else { Ended::Handshake(error) };
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Ended::Slow);
        }
        socket.set_patience(left).map_err(failed)?;
        socket.write_both(&out, &[]).map_err(failed)?;
        out.clear();
        let there = incoming.some().map_err(failed)?;
        if there.is_empty() {
            return Ok(None);
        }
        let (used, step) = handshake.receive(there, &mut out)?;
        incoming.consume(used);
        if step != Step::More {
            socket.write_both(&out, &[]).map_err(failed)?;
        }
        match step {
            Step::More => {}
            Step::Transmission(negotiated) => return Ok(Some(negotiated)),
            Step::Aborted => return Ok(None),
        }
    }
}

/// What the threads of a connection share.
struct Transmission<'c> {
    socket: &'c Socket,
    shared: &'c Shared,
    terms: Terms,
    negotiated: Negotiated,
    incoming: Mutex<Receiving<'c>>,
    /// Held while a reply is sent.
    sending: Mutex<()>,
    budget: Budget,
    /// Threads that there are.
    threads: AtomicUsize,
    /// Those that have no request.
    waiting: AtomicUsize,
    failure: Mutex<Option<Ended>>,
    /// Somebody was told that the device fails.
    warned: AtomicBool,
}

struct Receiving<'c> {
    incoming: Incoming<&'c Socket>,
    /// There is nothing more to be expected.
    ended: bool,
}

/// A request with what it needs, or why it cannot be.
struct Request<'t> {
    cookie: u64,
    wanted: Result<(Command, Bytes), Failure>,
    /// Given back when the reply is sent.
    _memory: Taken<'t>,
}

/// What a request came to: its data, which starts at an offset; or none.
type Outcome = Result<Option<(u64, Bytes)>, Failure>;

impl Transmission<'_> {
    /// What each thread does.
    fn work<'scope, 'env>(&'scope self, scope: &'scope Scope<'scope, 'env>) {
        let _hang_up = HangUp(self.socket);
        self.waiting.fetch_add(1, Ordering::Relaxed);
        while let Some(request) = self.next() {
            if self.waiting.fetch_sub(1, Ordering::Relaxed) == 1 {
                self.add_thread(scope);
            }
            let outcome = request.wanted.and_then(|(command, data)| self.execute(command, data));
            let sent = self.reply(request.cookie, &outcome);
            self.waiting.fetch_add(1, Ordering::Relaxed);
            if let Err(error) = sent {
                // Whoever waits for a request wakes up.
                self.socket.shutdown(Shutdown::Both);
                self.note(Ended::Reply(error));
            }
        }
    }

    /// Another thread, if there may be one. Without it the requests wait a little longer.
    fn add_thread<'scope, 'env>(&'scope self, scope: &'scope Scope<'scope, 'env>) {
        if self.threads.fetch_add(1, Ordering::Relaxed) < self.shared.options.requests {
            let builder = thread::Builder::new().name("nbd-client".into());
            match builder.spawn_scoped(scope, || self.work(scope)) {
                Ok(_) => return,
                Err(error) => tracing::debug!(%error, "no thread for another request"),
            }
        }
        self.threads.fetch_sub(1, Ordering::Relaxed);
    }

    /// The next request; `None` when there are no more.
    fn next(&self) -> Option<Request<'_>> {
        let mut receiving = self.incoming.lock().unwrap_or_else(PoisonError::into_inner);
        if receiving.ended {
            return None;
        }
        let request = self.receive(&mut receiving.incoming);
        receiving.ended = !matches!(request, Ok(Some(_)));
        drop(receiving);
        request.unwrap_or_else(|broken| {
            // What is under way is answered all the same.
            self.note(broken.into());
            None
        })
    }

    fn receive(&self, incoming: &mut Incoming<&Socket>) -> Result<Option<Request<'_>>, Broken> {
        let Some(header) = incoming.request()? else { return Ok(None) };
        let (cookie, payload) = (header.cookie(), length(header.payload()));
        let judged = header.judge(&self.terms, self.negotiated).and_then(|command| {
            if self.shared.is_stopping() {
                return Err(Failure::new(ErrorCode::Shutdown, "the server is being stopped"));
            }
            Ok(command)
        });
        let (wanted, memory) = match judged {
            Ok(Command::Disconnect) => return Ok(None),
            Ok(command @ Command::Read { length: bytes, .. }) => {
                (Ok((command, Bytes::new())), self.budget.take(length(bytes)))
            }
            Ok(command) => {
                let memory = self.budget.take(payload);
                (Ok((command, incoming.payload(payload)?)), memory)
            }
            Err(failure) => {
                tracing::debug!(client = %self.socket, %failure, "NBD request refused");
                incoming.discard(payload)?;
                (Err(failure), self.budget.take(0))
            }
        };
        Ok(Some(Request { cookie, wanted, _memory: memory }))
    }

    fn execute(&self, command: Command, data: Bytes) -> Outcome {
        let device = &**self.shared.export.device();
        perform(device, command, data).map_err(|error| {
            if self.warned.swap(true, Ordering::Relaxed) {
                tracing::debug!(client = %self.socket, ?command, %error, "the device failed");
            } else {
                tracing::warn!(client = %self.socket, ?command, %error, "the device failed");
            }
            error.into()
        })
    }

    fn reply(&self, cookie: u64, outcome: &Outcome) -> io::Result<()> {
        let negotiated = self.negotiated;
        let (head, data) = match outcome {
            Ok(None) => (Head::done(negotiated, cookie), &[][..]),
            Ok(Some((offset, data))) => {
                // No more than was asked for, whose length was one.
                let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
                (Head::data(negotiated, cookie, *offset, length), &data[..])
            }
            Err(failure) => (Head::failed(negotiated, cookie, failure), &[][..]),
        };
        let _sending = self.sending.lock().unwrap_or_else(PoisonError::into_inner);
        self.socket.write_both(head.as_bytes(), data)
    }

    /// The first reason for the end is the one that is told.
    fn note(&self, why: Ended) {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.get_or_insert(why);
    }
}

/// Has the device do it.
fn perform(device: &dyn Device, command: Command, data: Bytes) -> io::Result<Option<(u64, Bytes)>> {
    match command {
        Command::Read { length: 0, .. }
        | Command::Write { length: 0, .. }
        | Command::Trim { length: 0, .. }
        | Command::WriteZeroes { length: 0, .. }
        | Command::Cache
        | Command::Disconnect => {}
        Command::Read { offset, length: bytes } => {
            let data = device.read(offset, length(bytes))?;
            if data.len() != length(bytes) {
                let why = format!("the device read {} of {bytes} bytes", data.len());
                return Err(io::Error::other(why));
            }
            return Ok(Some((offset, data)));
        }
        Command::Write { offset, fua, .. } => device.write(offset, data, fua)?,
        Command::Flush => device.flush()?,
        Command::Trim { offset, length, fua } => {
            device.trim(offset, length.into())?;
            if fua {
                device.flush()?;
            }
        }
        Command::WriteZeroes { offset, length, zero } => {
            device.write_zeroes(offset, length.into(), zero)?;
        }
    }
    Ok(None)
}

/// A length on the wire, in memory.
fn length(bytes: u32) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// Ends the connection if a thread panics: its request will never be answered.
struct HangUp<'c>(&'c Socket);

impl Drop for HangUp<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.shutdown(Shutdown::Both);
        }
    }
}

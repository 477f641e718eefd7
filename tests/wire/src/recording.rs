//! A TCP proxy that keeps what passes through it.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// One of the two ends of a connection.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum End {
    /// The end that connects.
    Host,
    /// The end that accepts.
    Controller,
}

/// Something that happened on a connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// The host connected.
    Opened,
    /// These bytes came in one piece.
    Bytes(End, Vec<u8>),
    /// This end will send no more.
    Closed(End),
}

/// An event, on which connection and when.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Connections are counted from 0, as they were made.
    pub connection: usize,
    /// Time since the recording began.
    pub at: Duration,
    /// What happened.
    pub event: Event,
}

/// Conversations as they took place, in order.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Recording {
    /// All events of all connections.
    pub entries: Vec<Entry>,
}

impl Recording {
    /// The number of connections.
    pub fn connections(&self) -> usize {
        self.entries.iter().filter(|entry| entry.event == Event::Opened).count()
    }

    /// Everything that `end` sent on a connection.
    pub fn stream(&self, connection: usize, end: End) -> Vec<u8> {
        let mut stream = Vec::new();
        for entry in self.entries.iter().filter(|entry| entry.connection == connection) {
            if let Event::Bytes(from, bytes) = &entry.event
                && *from == end
            {
                stream.extend_from_slice(bytes);
            }
        }
        stream
    }

    /// Changes one byte of what `end` sent on a connection, `at` bytes from its beginning.
    pub fn corrupt(&mut self, connection: usize, end: End, mut at: usize) {
        for entry in self.entries.iter_mut().filter(|entry| entry.connection == connection) {
            match &mut entry.event {
                Event::Bytes(from, bytes) if *from == end => match bytes.get_mut(at) {
                    Some(byte) => {
                        *byte ^= 0x55;
                        return;
                    }
                    None => at -= bytes.len(),
                },
                _ => {}
            }
        }
        panic!("{end:?} did not send that much on connection {connection}");
    }
}

/// The largest piece that is taken at once: it has to fit in an IPv4 packet.
const PIECE: usize = 32 << 10;
/// A connection on which nothing happens for so long is given up.
const PATIENCE: Duration = Duration::from_secs(30);

/// The proxy: a host connects to [`address`](Self::address) instead of to the controller.
#[derive(Debug)]
pub struct Recorder {
    address: SocketAddr,
    tape: Tape,
    stop: Arc<AtomicBool>,
    accepting: JoinHandle<Vec<JoinHandle<()>>>,
}

/// Where events are noted. One lock orders them: nothing is passed on before it is noted, so no
/// answer is ever recorded before its question.
#[derive(Clone, Debug)]
struct Tape {
    began: Instant,
    entries: Arc<Mutex<Vec<Entry>>>,
}

impl Tape {
    fn note(&self, connection: usize, event: Event) {
        let mut entries = self.entries.lock().unwrap();
        entries.push(Entry { connection, at: self.began.elapsed(), event });
    }
}

impl Recorder {
    /// Passes every connection on to `controller`.
    pub fn start(controller: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let tape = Tape { began: Instant::now(), entries: Arc::default() };
        let stop = Arc::new(AtomicBool::new(false));
        let (noted, stopped) = (tape.clone(), Arc::clone(&stop));
        let accepting = thread::spawn(move || {
            let mut pumps = Vec::new();
            for connection in 0.. {
                let (host, _) = listener.accept().unwrap();
                if stopped.load(Ordering::SeqCst) {
                    break;
                }
                let controller = TcpStream::connect(controller).unwrap();
                noted.note(connection, Event::Opened);
                for (end, from, to) in
                    [(End::Host, &host, &controller), (End::Controller, &controller, &host)]
                {
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    let tape = noted.clone();
                    pumps.push(thread::spawn(move || pump(&tape, connection, end, from, to)));
                }
            }
            pumps
        });
        Self { address, tape, stop, accepting }
    }

    /// Where a host is to connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until all connections are closed.
    pub fn finish(self) -> Recording {
        self.stop.store(true, Ordering::SeqCst);
        let _wakes_the_listener = TcpStream::connect(self.address).unwrap();
        for pump in self.accepting.join().unwrap() {
            pump.join().unwrap();
        }
        let entries = std::mem::take(&mut *self.tape.entries.lock().unwrap());
        Recording { entries }
    }
}

/// Passes on what `end` sends until it sends no more.
fn pump(tape: &Tape, connection: usize, end: End, mut from: TcpStream, mut to: TcpStream) {
    from.set_read_timeout(Some(PATIENCE)).unwrap();
    to.set_nodelay(true).unwrap();
    let mut piece = vec![0; PIECE];
    loop {
        match from.read(&mut piece) {
            Ok(0) => break,
            Ok(length) => {
                tape.note(connection, Event::Bytes(end, piece[..length].to_vec()));
                // An end that closed early does not hear the rest; it was sent all the same.
                let _ = to.write_all(&piece[..length]);
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
            Err(error) => panic!("connection {connection}: {end:?} says no more: {error}"),
        }
    }
    tape.note(connection, Event::Closed(end));
    let _ = to.shutdown(Shutdown::Write);
}

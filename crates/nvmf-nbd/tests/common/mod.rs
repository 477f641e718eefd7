//! A disk to be served, and a client that says whatever it likes.

use std::collections::HashSet;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bytes::Bytes;
use nvmf_nbd::{Device, Export, Handle, Options, ServeError, Server, Zero};

pub(crate) const MIB: u32 = 1 << 20;

/// How long anything may take.
pub(crate) const LONG: Duration = Duration::from_secs(20);

/// A disk in memory that does as it is told.
#[derive(Debug)]
pub(crate) struct Disk {
    pub(crate) state: Mutex<State>,
    pub(crate) changed: Condvar,
    pub(crate) read_only: bool,
    pub(crate) fast_zeroes: bool,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) bytes: Vec<u8>,
    /// What was asked of it, in order, but for reads.
    pub(crate) log: Vec<String>,
    /// Operations at these offsets wait.
    pub(crate) held: HashSet<u64>,
    /// Operations at these offsets fail, and how.
    pub(crate) bad: Option<(u64, io::ErrorKind)>,
    pub(crate) flush_fails: bool,
    /// Reads of so many bytes too few.
    pub(crate) short: usize,
    /// Operations under way, their bytes, and the most that there were.
    now: (usize, usize),
    pub(crate) most: (usize, usize),
}

/// The offset by which a flush is held.
pub(crate) const FLUSH: u64 = u64::MAX;
/// An operation at this offset panics.
pub(crate) const DEADLY: u64 = 0xdead;

impl Disk {
    pub(crate) fn new(size: u32) -> Self {
        let bytes = vec![0; size as usize];
        let state = Mutex::new(State { bytes, ..State::default() });
        Self { state, changed: Condvar::new(), read_only: false, fast_zeroes: false }
    }

    pub(crate) fn log(&self) -> Vec<String> {
        self.state.lock().unwrap().log.clone()
    }

    pub(crate) fn hold(&self, offset: u64) {
        self.state.lock().unwrap().held.insert(offset);
    }

    pub(crate) fn release(&self) {
        self.state.lock().unwrap().held.clear();
        self.changed.notify_all();
    }

    pub(crate) fn under_way(&self) -> usize {
        self.state.lock().unwrap().now.0
    }

    fn work<R>(
        &self,
        offset: u64,
        bytes: usize,
        run: impl FnOnce(&mut State) -> R,
    ) -> io::Result<R> {
        assert_ne!(offset, DEADLY, "as the test wants it");
        let mut state = self.state.lock().unwrap();
        state.now = (state.now.0 + 1, state.now.1 + bytes);
        state.most = (state.most.0.max(state.now.0), state.most.1.max(state.now.1));
        while state.held.contains(&offset) {
            state = self.changed.wait(state).unwrap();
        }
        state.now = (state.now.0 - 1, state.now.1 - bytes);
        match state.bad {
            Some((bad, kind)) if bad == offset => Err(io::Error::new(kind, "a bad spot")),
            _ => Ok(run(&mut state)),
        }
    }
}

fn range(offset: u64, length: u64) -> std::ops::Range<usize> {
    offset.try_into().unwrap()..(offset + length).try_into().unwrap()
}

impl Device for Disk {
    fn size(&self) -> u64 {
        self.state.lock().unwrap().bytes.len() as u64
    }

    fn is_read_only(&self) -> bool {
        self.read_only
    }

    fn has_fast_zeroes(&self) -> bool {
        self.fast_zeroes
    }

    fn read(&self, offset: u64, length: usize) -> io::Result<Bytes> {
        self.work(offset, length, |state| {
            let length = length - state.short;
            Bytes::copy_from_slice(&state.bytes[range(offset, length as u64)])
        })
    }

    fn write(&self, offset: u64, data: Bytes, fua: bool) -> io::Result<()> {
        self.work(offset, data.len(), |state| {
            state.log.push(format!("write {offset} {} {fua}", data.len()));
            state.bytes[range(offset, data.len() as u64)].copy_from_slice(&data);
        })
    }

    fn flush(&self) -> io::Result<()> {
        self.work(FLUSH, 0, |state| {
            state.log.push("flush".into());
            if state.flush_fails { Err(io::Error::other("lost")) } else { Ok(()) }
        })?
    }

    fn trim(&self, offset: u64, length: u64) -> io::Result<()> {
        self.work(offset, 0, |state| state.log.push(format!("trim {offset} {length}")))
    }

    fn write_zeroes(&self, offset: u64, length: u64, zero: Zero) -> io::Result<()> {
        self.work(offset, 0, |state| {
            let Zero { may_deallocate, fua, .. } = zero;
            state.log.push(format!("zero {offset} {length} {may_deallocate} {fua}"));
            state.bytes[range(offset, length)].fill(0);
        })
    }
}

/// A server that runs.
pub(crate) struct Running {
    pub(crate) disk: Arc<Disk>,
    pub(crate) address: SocketAddr,
    pub(crate) handle: Handle,
    thread: Option<JoinHandle<Result<(), ServeError>>>,
}

impl Running {
    pub(crate) fn start(disk: Disk) -> Self {
        Self::start_with(disk, Options::default())
    }

    pub(crate) fn start_with(disk: Disk, options: Options) -> Self {
        let disk = Arc::new(disk);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let export = Export::new("disk".parse().unwrap(), Arc::clone(&disk))
            .unwrap()
            .with_description("a disk");
        let server = Server::new(listener, export, options).unwrap();
        let handle = server.handle();
        let thread = Some(thread::spawn(|| server.run()));
        Self { disk, address, handle, thread }
    }

    /// Stops it, and waits for its end.
    pub(crate) fn stop(mut self) -> Result<(), ServeError> {
        self.handle.stop();
        self.thread.take().unwrap().join().unwrap()
    }

    /// A client that has greeted.
    pub(crate) fn greet(&self) -> Client {
        self.try_greet().unwrap()
    }

    /// The same; none if the server sends it away.
    pub(crate) fn try_greet(&self) -> Option<Client> {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        let mut greeting = [0; 18];
        stream.read_exact(&mut greeting).ok()?;
        assert_eq!(&greeting, b"NBDMAGICIHAVEOPT\0\x03");
        let mut client = Client { stream, structured: false };
        client.send(&[0, 0, 0, 3]);
        Some(client)
    }

    /// A client in transmission, without structured replies.
    pub(crate) fn plain(&self) -> Client {
        let mut client = self.greet();
        client.go();
        client
    }

    /// A client in transmission, with structured replies.
    pub(crate) fn client(&self) -> Client {
        let mut client = self.greet();
        assert_eq!(client.option(8, b""), [(1, vec![])]);
        client.structured = true;
        client.go();
        client
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.disk.release();
        self.handle.stop();
    }
}

/// The other end.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    structured: bool,
}

/// What came of a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) cookie: u64,
    pub(crate) error: u32,
    pub(crate) message: String,
    pub(crate) data: Vec<u8>,
}

pub(crate) fn option(kind: u32, data: &[u8]) -> Vec<u8> {
    let length = u32::try_from(data.len()).unwrap().to_be_bytes();
    [b"IHAVEOPT", &kind.to_be_bytes()[..], &length, data].concat()
}

pub(crate) fn request(kind: u16, flags: u16, cookie: u64, offset: u64, length: u32) -> Vec<u8> {
    [
        &0x2560_9513u32.to_be_bytes()[..],
        &flags.to_be_bytes(),
        &kind.to_be_bytes(),
        &cookie.to_be_bytes(),
        &offset.to_be_bytes(),
        &length.to_be_bytes(),
    ]
    .concat()
}

impl Client {
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    pub(crate) fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.stream.read_exact(&mut bytes).unwrap();
        bytes
    }

    fn number<const N: usize>(&mut self) -> u64 {
        self.bytes(N).iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    /// Sends an option and takes its replies: their types and data.
    pub(crate) fn option(&mut self, kind: u32, data: &[u8]) -> Vec<(u32, Vec<u8>)> {
        self.send(&option(kind, data));
        let mut replies = Vec::new();
        loop {
            assert_eq!(self.number::<8>(), 0x0003_e889_0455_65a9);
            assert_eq!(self.number::<4>(), u64::from(kind));
            let reply = u32::try_from(self.number::<4>()).unwrap();
            let length = self.number::<4>().try_into().unwrap();
            replies.push((reply, self.bytes(length)));
            if reply == 1 || reply >= 1 << 31 {
                return replies;
            }
        }
    }

    pub(crate) fn go(&mut self) {
        let replies = self.option(7, b"\0\0\0\0\0\0");
        assert_eq!(replies.last(), Some(&(1, vec![])), "{replies:?}");
    }

    /// Sends a request and takes its reply.
    pub(crate) fn ask(&mut self, kind: u16, flags: u16, offset: u64, length: u32) -> Reply {
        self.send(&request(kind, flags, 42, offset, length));
        let reply = self.reply(if kind == 0 { length } else { 0 });
        assert_eq!(reply.cookie, 42);
        reply
    }

    /// The error of such a request; 0 for none.
    pub(crate) fn error(&mut self, kind: u16, flags: u16, offset: u64, length: u32) -> u32 {
        self.ask(kind, flags, offset, length).error
    }

    pub(crate) fn read(&mut self, offset: u64, length: u32) -> Vec<u8> {
        let reply = self.ask(0, 0, offset, length);
        assert_eq!(reply.error, 0, "{reply:?}");
        reply.data
    }

    pub(crate) fn write(&mut self, flags: u16, offset: u64, data: &[u8]) -> Reply {
        let length = data.len().try_into().unwrap();
        self.send(&[&request(1, flags, 43, offset, length)[..], data].concat());
        self.reply(0)
    }

    /// The next reply; if it is simple and no error, so much data belongs to it.
    pub(crate) fn reply(&mut self, length: u32) -> Reply {
        let magic = self.number::<4>();
        if !self.structured {
            assert_eq!(magic, 0x6744_6698);
            let error = u32::try_from(self.number::<4>()).unwrap();
            let cookie = self.number::<8>();
            let length = if error == 0 { length as usize } else { 0 };
            return Reply { cookie, error, message: String::new(), data: self.bytes(length) };
        }
        assert_eq!(magic, 0x668e_33ef);
        assert_eq!(self.number::<2>(), 1, "the only chunk of its reply");
        let kind = self.number::<2>();
        let cookie = self.number::<8>();
        let payload = self.number::<4>().try_into().unwrap();
        let payload = self.bytes(payload);
        let mut reply = Reply { cookie, error: 0, message: String::new(), data: Vec::new() };
        match kind {
            0 => assert!(payload.is_empty()),
            1 => reply.data = payload[8..].to_vec(),
            0x8001 => {
                reply.error = u32::from_be_bytes(payload[..4].try_into().unwrap());
                let length = u16::from_be_bytes(payload[4..6].try_into().unwrap());
                assert_eq!(payload.len(), 6 + usize::from(length));
                reply.message = String::from_utf8(payload[6..].to_vec()).unwrap();
            }
            other => panic!("chunk of type {other}"),
        }
        reply
    }

    /// Nothing more comes, and the connection is closed.
    #[track_caller]
    pub(crate) fn is_closed(&mut self) {
        match self.stream.read(&mut [0; 64]) {
            Ok(0) => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
            other => panic!("not closed: {other:?}"),
        }
    }
}

/// Waits until this holds.
pub(crate) fn eventually(what: &str, holds: impl Fn() -> bool) {
    let end = Instant::now() + LONG;
    while !holds() {
        assert!(Instant::now() < end, "not in time: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

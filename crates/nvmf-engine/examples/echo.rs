//! Compares the engines: one thread asks, another answers, over the loopback interface.
//!
//!     cargo run --release -p nvmf-engine --example echo -- --engine uring --write 131072
//!
//! A request is a header of 8 bytes (how much payload follows, and how much the answer is to have)
//! and payload, which is received by `Engine::fill`; an answer is a header and payload, sent by
//! reference.

#![allow(clippy::unwrap_used, clippy::panic, reason = "an example may stop at a surprise")]

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use nvmf_engine::{
    ConnId, End, Engine, EngineChoice, EngineKind, FileOp, Handler, ListenerId, Message, Pace,
    Pool, Program, run,
};

#[derive(Clone, Copy, Debug)]
struct Options {
    kind: EngineKind,
    conns: usize,
    depth: usize,
    write: usize,
    read: usize,
    time: Duration,
    spin: Duration,
}

fn main() {
    let mut options = Options {
        kind: EngineKind::Poll,
        conns: 1,
        depth: 1,
        write: 0,
        read: 0,
        time: Duration::from_secs(2),
        spin: Duration::from_micros(30),
    };
    let mut choice = EngineChoice::Auto;
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    for pair in arguments.chunks(2) {
        let [name, value] = pair else { panic!("{} has no value", pair[0]) };
        let number = || value.parse::<usize>().unwrap();
        match name.as_str() {
            "--engine" => choice = value.parse().unwrap(),
            "--conns" => options.conns = number(),
            "--depth" => options.depth = number(),
            "--write" => options.write = number(),
            "--read" => options.read = number(),
            "--ms" => options.time = Duration::from_millis(number() as u64),
            "--spin-us" => options.spin = Duration::from_micros(number() as u64),
            _ => panic!("there is no option {name}"),
        }
    }
    options.kind = EngineKind::probe(choice).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = mpsc::channel();
    let server = std::thread::spawn(move || {
        run(options.kind, Server { options, listener, stopped }).unwrap();
    });
    let done = run(options.kind, Client { options, address }).unwrap();
    stop.send(()).unwrap();
    server.join().unwrap();
    let seconds = options.time.as_secs_f64();
    let bytes = done as f64 * (options.write + options.read) as f64;
    println!(
        "{} conns {} depth {} write {} read {}: {:.0}/s {:.0} MB/s",
        options.kind,
        options.conns,
        options.depth,
        options.write,
        options.read,
        done as f64 / seconds,
        bytes / seconds / 1e6,
    );
}

/// What is under way on a connection.
#[derive(Default)]
struct Stream {
    header: Vec<u8>,
    /// Payload that is still to come, and was not asked for.
    payload: usize,
    /// What the header announced is all there, but for what is being filled.
    answers: Vec<usize>,
    ready: Message,
}

/// One end: it takes messages apart, and sends one for each.
struct Handle {
    streams: BTreeMap<ConnId, Stream>,
    pool: Pool,
    /// What the next message carries, unless the header says so.
    payload: Bytes,
    client: Option<Options>,
    done: usize,
    dirty: Vec<ConnId>,
    /// Where payload goes that came before it was asked for.
    early: Vec<u8>,
}

impl Handle {
    fn new(client: Option<Options>) -> Self {
        let payload = Bytes::from(vec![7; 1 << 20]);
        let (streams, pool, dirty) = (BTreeMap::new(), Pool::default(), Vec::new());
        Self { streams, pool, payload, client, done: 0, dirty, early: vec![0; 1 << 20] }
    }

    /// A message has come; `wanted` is how long the answer is to be.
    fn came(&mut self, conn: ConnId, wanted: usize) {
        self.done += 1;
        let (length, answer) = match self.client {
            Some(options) => (options.write, options.read),
            None => (wanted, 0),
        };
        if let Some(stream) = self.streams.get_mut(&conn) {
            put(&mut stream.ready, &self.payload, length, answer);
            self.dirty.push(conn);
        }
    }

    fn flush<E: Engine>(&mut self, engine: &mut E) {
        for conn in std::mem::take(&mut self.dirty) {
            let Some(stream) = self.streams.get_mut(&conn) else { continue };
            if !engine.is_sending(conn) && !stream.ready.is_empty() {
                let _ = engine.send(conn, std::mem::take(&mut stream.ready));
            }
        }
    }
}

fn put(message: &mut Message, payload: &Bytes, length: usize, answer: usize) {
    let words = [length, answer].map(|n| u32::try_from(n).unwrap().to_le_bytes());
    message.push(&words.concat());
    message.push_shared(payload.slice(..length));
}

impl<E: Engine> Handler<E> for Handle {
    fn accepted(&mut self, engine: &mut E, _: ListenerId, socket: TcpStream, _: SocketAddr) {
        self.streams.insert(engine.attach(socket).unwrap(), Stream::default());
    }

    fn received(&mut self, engine: &mut E, conn: ConnId, mut bytes: &[u8]) {
        loop {
            let Some(stream) = self.streams.get_mut(&conn) else { return };
            if stream.payload > 0 {
                // What came along with the header has to be copied to where it belongs.
                let n = stream.payload.min(bytes.len());
                self.early[..n].copy_from_slice(&bytes[..n]);
                std::hint::black_box(&self.early);
                bytes = &bytes[n..];
                stream.payload -= n;
                if stream.payload > 0 {
                    let parts = self.pool.take_many(stream.payload, false);
                    stream.payload = 0;
                    return engine.fill(conn, parts);
                }
            }
            if let Some(answer) = stream.answers.pop() {
                self.came(conn, answer);
                continue;
            }
            let n = bytes.len().min(8 - stream.header.len());
            stream.header.extend_from_slice(&bytes[..n]);
            bytes = &bytes[n..];
            if stream.header.len() < 8 {
                return;
            }
            let word = |at: usize| {
                u32::from_le_bytes(stream.header[at..at + 4].try_into().unwrap()) as usize
            };
            (stream.payload, stream.answers) = (word(0), vec![word(4)]);
            stream.header.clear();
        }
    }

    fn filled(&mut self, _: &mut E, conn: ConnId, parts: Vec<BytesMut>) {
        parts.into_iter().for_each(|part| self.pool.give(part));
        if let Some(answer) = self.streams.get_mut(&conn).and_then(|stream| stream.answers.pop()) {
            self.came(conn, answer);
        }
    }

    fn sent(&mut self, _: &mut E, conn: ConnId, mut message: Message) {
        message.clear(drop);
        if let Some(stream) = self.streams.get_mut(&conn) {
            if stream.ready.is_empty() {
                stream.ready = message;
            } else {
                self.dirty.push(conn);
            }
        }
    }

    fn ended(&mut self, engine: &mut E, conn: ConnId, _: End) {
        self.streams.remove(&conn);
        engine.close(conn);
    }

    fn done(&mut self, _: &mut E, _: u64, _: FileOp, _: io::Result<()>) {}

    fn woken(&mut self, _: &mut E) {}
}

struct Server {
    options: Options,
    listener: TcpListener,
    stopped: mpsc::Receiver<()>,
}

impl Program for Server {
    type Output = ();

    fn run<E: Engine>(self, mut engine: E) {
        engine.listen(self.listener).unwrap();
        let mut handle = Handle::new(None);
        let mut pace = Pace::new(self.options.spin);
        let mut wait = nvmf_engine::Wait::No;
        while self.stopped.try_recv().is_err() {
            let busy = engine.turn(&mut handle, wait).unwrap();
            handle.flush(&mut engine);
            wait = pace.next(busy, Some(Instant::now() + Duration::from_millis(100)));
        }
    }
}

struct Client {
    options: Options,
    address: SocketAddr,
}

impl Program for Client {
    type Output = usize;

    fn run<E: Engine>(self, mut engine: E) -> usize {
        let Options { conns, depth, write, read, time, spin, .. } = self.options;
        let mut handle = Handle::new(Some(self.options));
        for _ in 0..conns {
            let conn = engine.attach(TcpStream::connect(self.address).unwrap()).unwrap();
            let mut stream = Stream::default();
            (0..depth).for_each(|_| put(&mut stream.ready, &handle.payload, write, read));
            handle.streams.insert(conn, stream);
            handle.dirty.push(conn);
        }
        handle.flush(&mut engine);
        let mut pace = Pace::new(spin);
        let mut wait = nvmf_engine::Wait::No;
        let end = Instant::now() + time;
        while Instant::now() < end {
            let busy = engine.turn(&mut handle, wait).unwrap();
            handle.flush(&mut engine);
            wait = pace.next(busy, Some(end));
        }
        handle.done
    }
}

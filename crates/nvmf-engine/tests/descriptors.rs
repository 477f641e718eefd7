//! Descriptors: none is left behind, and a want of them is survived.
//!
//! These tests count and limit the descriptors of the whole process, so they are in one of their
//! own, and one after the other.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use nvmf_engine::{
    ConnId, End, Engine, EngineChoice, EngineKind, FileOp, Handler, ListenerId, Message, Program,
    Wait, run,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How many there are. A thread that is just ending may still have one.
fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// The limit below which so many numbers are free.
fn limit_with_room_for(count: usize) -> u64 {
    let open: Vec<u64> = std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap().parse().unwrap())
        .collect();
    // The one that reads the directory is among them, but closed by now.
    let dir = *open.iter().max().unwrap();
    let open = |number: &u64| std::fs::exists(format!("/proc/self/fd/{number}")).unwrap();
    (0..=dir + count as u64).filter(|number| !open(number)).nth(count).unwrap()
}

/// Attaches whatever it accepts, and forgets what it is told.
#[derive(Default)]
struct Server {
    conns: Vec<ConnId>,
    received: usize,
}

impl<E: Engine> Handler<E> for Server {
    fn accepted(&mut self, engine: &mut E, _: ListenerId, socket: TcpStream, _: SocketAddr) {
        self.conns.push(engine.attach(socket).unwrap());
    }

    fn received(&mut self, engine: &mut E, conn: ConnId, bytes: &[u8]) {
        self.received += bytes.len();
        let mut message = Message::new();
        message.push(bytes);
        let _ = engine.send(conn, message);
    }

    fn filled(&mut self, _: &mut E, _: ConnId, _: Vec<BytesMut>) {}

    fn sent(&mut self, _: &mut E, _: ConnId, _: Message) {}

    fn ended(&mut self, _: &mut E, _: ConnId, _: End) {}

    fn done(&mut self, _: &mut E, _: u64, _: FileOp, _: io::Result<()>) {}

    fn woken(&mut self, _: &mut E) {}
}

fn turn<E: Engine>(engine: &mut E, server: &mut Server, time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        engine.turn(server, Wait::Until(Some(end))).unwrap();
    }
}

fn listen<E: Engine>(engine: &mut E) -> (ListenerId, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (engine.listen(listener).unwrap(), address)
}

struct Comings;

impl Program for Comings {
    type Output = ();

    /// Connections and files come and go, while everything is in flight.
    fn run<E: Engine>(self, mut engine: E) {
        let engine = &mut engine;
        let (listener, address) = listen(engine);
        let mut server = Server::default();
        turn(engine, &mut server, Duration::from_millis(20));
        let before = descriptors();
        for round in 0..40 {
            let mut peers: Vec<_> = (0..10).map(|_| TcpStream::connect(address).unwrap()).collect();
            turn(engine, &mut server, Duration::from_millis(5));
            for (n, peer) in peers.iter_mut().enumerate() {
                peer.set_nonblocking(true).unwrap();
                let _ = peer.write(&vec![1; 1000 * n]);
                if n % 3 == 0 {
                    rustix::net::sockopt::set_socket_linger(&*peer, Some(Duration::ZERO)).unwrap();
                }
            }
            for (n, conn) in server.conns.iter().enumerate() {
                if n % 2 == 0 {
                    engine.fill(*conn, vec![BytesMut::zeroed(4000)]);
                }
                let mut message = Message::new();
                message.push(&vec![0; 1 << (2 * n)]);
                let _ = engine.send(*conn, message);
            }
            let file = OwnedFd::from(tempfile::tempfile().unwrap());
            let file = engine.open(file).unwrap();
            engine.submit(file, FileOp::Write { offset: 0, parts: vec![BytesMut::zeroed(9)] }, 0);
            engine.forget(file);
            if round % 2 == 0 {
                peers.clear();
            }
            turn(engine, &mut server, Duration::from_millis(round % 5));
            server.conns.drain(..).for_each(|conn| engine.close(conn));
            turn(engine, &mut server, Duration::from_millis(round % 3));
        }
        engine.unlisten(listener);
        let end = Instant::now() + Duration::from_secs(10);
        // The listener was counted.
        while descriptors() >= before && Instant::now() < end {
            turn(engine, &mut server, Duration::from_millis(10));
        }
        assert!(descriptors() < before);
    }
}

fn leaves_none_behind(kind: EngineKind) {
    let _alone = alone();
    let before = descriptors();
    run(kind, Comings).unwrap();
    assert!(descriptors() <= before, "after the engine");
}

#[test]
fn the_polling_engine_leaves_no_descriptor_behind() {
    leaves_none_behind(EngineKind::Poll);
}

#[test]
fn the_io_uring_engine_leaves_no_descriptor_behind() {
    let choice = EngineChoice::Only(EngineKind::Uring);
    leaves_none_behind(EngineKind::probe(choice).expect("io_uring, which this test needs"));
}

struct Abandoned;

impl Program for Abandoned {
    type Output = ();

    /// Is dropped with sockets to accept, a listener that is closed, and all of it in flight.
    fn run<E: Engine>(self, mut engine: E) {
        let (_, address) = listen(&mut engine);
        let (closed, other) = listen(&mut engine);
        let mut server = Server::default();
        turn(&mut engine, &mut server, Duration::from_millis(5));
        let mut peers: Vec<_> = (0..20).map(|_| TcpStream::connect(address).unwrap()).collect();
        turn(&mut engine, &mut server, Duration::from_millis(5));
        peers.extend((0..20).map(|_| TcpStream::connect(address).unwrap()));
        peers.extend((0..20).map(|_| TcpStream::connect(other).unwrap()));
        engine.unlisten(closed);
        for conn in &server.conns {
            engine.fill(*conn, vec![BytesMut::zeroed(4000)]);
            let mut message = Message::new();
            message.push(&vec![0; 4 << 20]);
            engine.send(*conn, message).unwrap();
        }
        let _ = engine.turn(&mut server, Wait::No);
        peers.extend((0..20).map(|_| TcpStream::connect(address).unwrap()));
    }
}

#[test]
fn an_engine_that_is_dropped_with_everything_in_flight_leaves_no_descriptor_behind() {
    let _alone = alone();
    for kind in [EngineKind::Poll, EngineKind::Uring] {
        let before = descriptors();
        for _ in 0..20 {
            run(kind, Abandoned).unwrap();
            assert!(descriptors() <= before, "{kind}");
        }
    }
}

struct Shortage;

impl Program for Shortage {
    type Output = ();

    fn run<E: Engine>(self, mut engine: E) {
        let mut server = Server::default();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut peers: Vec<_> = (0..10).map(|_| TcpStream::connect(address).unwrap()).collect();
        let old = getrlimit(Resource::Nofile);
        let most = Some(limit_with_room_for(3));
        setrlimit(Resource::Nofile, Rlimit { current: most, maximum: old.maximum }).unwrap();
        // io_uring goes by the limit that there was when accepting began.
        engine.listen(listener).unwrap();
        let (time, cpu) = (Duration::from_millis(350), cpu_time());
        turn(&mut engine, &mut server, time);
        let used = cpu_time() - cpu;
        let accepted = server.conns.len();
        setrlimit(Resource::Nofile, old).unwrap();
        assert_eq!(accepted, 3);
        assert!(used < time / 10, "{used:?}");
        // Nobody needs to connect for it to go on; nor does it need to sleep.
        let end = Instant::now() + Duration::from_secs(10);
        while server.conns.len() < 10 && Instant::now() < end {
            engine.turn(&mut server, Wait::No).unwrap();
        }
        assert_eq!(server.conns.len(), 10);
        for peer in &mut peers {
            peer.write_all(b"x").unwrap();
        }
        while server.received < 10 && Instant::now() < end {
            engine.turn(&mut server, Wait::Until(Some(end))).unwrap();
        }
        turn(&mut engine, &mut server, Duration::from_millis(10));
        for peer in &mut peers {
            peer.read_exact(&mut [0]).unwrap();
        }
    }
}

fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap()
}

#[test]
fn where_descriptors_run_out_accepting_rests_and_goes_on() {
    let _alone = alone();
    for kind in [EngineKind::Poll, EngineKind::Uring] {
        run(kind, Shortage).unwrap();
    }
}

//! The server, as clients see it that know the protocol and that do not keep to it.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "tests may stop at a surprise")]
#![allow(clippy::cast_possible_truncation, reason = "small numbers")]

mod common;

use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;
use std::time::{Duration, Instant};

use common::{DEADLY, Disk, FLUSH, LONG, MIB, Running, eventually, option, request};
use nvmf_nbd::{Export, ExportName, Options, ServeError, Server};

const EPERM: u32 = 1;
const EIO: u32 = 5;
const EINVAL: u32 = 22;
const ENOSPC: u32 = 28;
const EOVERFLOW: u32 = 75;
const ENOTSUP: u32 = 95;
const ESHUTDOWN: u32 = 108;

const FUA: u16 = 1;
const NO_HOLE: u16 = 2;
const DF: u16 = 4;
const FAST: u16 = 16;

fn options(change: impl FnOnce(&mut Options)) -> Options {
    let mut options = Options::default();
    change(&mut options);
    options
}

/// Numbers that look random.
fn noise(length: usize) -> Vec<u8> {
    let numbers = (0u32..).map(|n| n.wrapping_mul(2_654_435_761));
    numbers.flat_map(u32::to_le_bytes).take(length).collect()
}

#[test]
fn what_is_written_is_read_with_simple_and_with_structured_replies() {
    let server = Running::start(Disk::new(8 * MIB));
    let data = noise(3 << 20);
    for mut client in [server.plain(), server.client()] {
        for (offset, length) in [(0, 1), (511, 4098), (1_000_003, 3 << 20)] {
            assert_eq!(client.write(0, offset, &data[..length]).error, 0);
            assert!(client.read(offset, length as u32) == data[..length]);
        }
        assert_eq!(client.ask(0, 0, 5, 0).data, b"", "an empty read");
        assert_eq!(client.write(0, 5, b"").error, 0, "an empty write");
        assert!(client.read(0, 8 * MIB) == server.disk.state.lock().unwrap().bytes);
    }
}

#[test]
fn every_command_reaches_the_device_as_it_is_meant() {
    let server = Running::start(Disk { fast_zeroes: true, ..Disk::new(MIB) });
    let mut client = server.client();
    assert_eq!(client.write(FUA, 512, b"data").error, 0);
    for (kind, flags) in [(3, 0), (4, 0), (4, FUA), (5, 0), (6, 0), (6, FUA | NO_HOLE | FAST)] {
        let (offset, length) = if kind == 3 { (0, 0) } else { (512, 1024) };
        assert_eq!(client.error(kind, flags, offset, length), 0, "command {kind}");
    }
    let expected = [
        "write 512 4 true",
        "flush",
        "trim 512 1024",
        "trim 512 1024",
        "flush",
        "zero 512 1024 true false",
        "zero 512 1024 false true",
    ];
    assert_eq!(server.disk.log(), expected);
    assert_eq!(client.read(510, 8), [0; 8]);
    assert_eq!(client.ask(0, DF | FUA, 0, 4096).data.len(), 4096);
}

#[test]
fn a_client_of_old_gets_what_it_knows() {
    let server = Running::start(Disk::new(MIB));
    let mut client = server.greet();
    client.send(&option(1, b"disk"));
    assert_eq!(client.bytes(10)[..8], u64::from(MIB).to_be_bytes());
    assert_eq!(client.read(0, 512), [0; 512]);
    let mut other = server.greet();
    other.send(&option(1, b"another disk"));
    other.is_closed();
}

#[test]
fn requests_may_come_with_the_last_option() {
    let server = Running::start(Disk::new(MIB));
    let mut client = server.greet();
    client.send(&[option(1, b""), request(0, 0, 9, 0, 16)].concat());
    assert_eq!(client.bytes(10)[..8], u64::from(MIB).to_be_bytes());
    let reply = client.reply(16);
    assert_eq!((reply.cookie, reply.error), (9, 0));
}

#[test]
fn wrong_requests_are_refused_and_the_connection_goes_on() {
    let server = Running::start_with(Disk::new(MIB), options(|o| o.max_payload = 65536));
    let end = u64::from(MIB);
    for (mut client, too_long) in [(server.plain(), EINVAL), (server.client(), EOVERFLOW)] {
        for (kind, flags, offset, length, error) in [
            (0, 0, end, 1, EINVAL),
            (0, 0, u64::MAX, u32::MAX, too_long),
            (0, 0, u64::MAX, 1, EINVAL),
            (0, 0, 0, 65537, too_long),
            (0, NO_HOLE, 0, 1, EINVAL),
            (3, 0, 1, 1, EINVAL),
            (4, 0, end - 1, 2, EINVAL),
            (5, 0, end, 1, EINVAL),
            (6, 0, 1, MIB, ENOSPC),
            (6, FAST, 0, 1, ENOTSUP),
            (6, 0x20, 0, 1, EINVAL),
            (7, 0, 0, 512, EINVAL),
            (8, 0, 0, 0, EINVAL),
            (0xffff, 0, 0, 0, EINVAL),
        ] {
            let reply = client.ask(kind, flags, offset, length);
            assert_eq!(reply.error, error, "command {kind} {flags:#x} {offset} {length}");
            assert_eq!(reply.message.is_empty(), too_long == EINVAL, "words: {reply:?}");
        }
        // The data of what is refused is taken in.
        assert_eq!(client.write(0, end - 3, b"four").error, ENOSPC);
        assert_eq!(client.write(0, 0, &vec![1; 65537]).error, EINVAL);
        assert_eq!(client.write(0, 0, &vec![1; 5 << 20]).error, EINVAL);
        assert_eq!(client.write(FAST, 0, b"four").error, EINVAL);
        assert_eq!(client.read(0, 65536), [0; 65536], "and written nowhere");
    }
    assert!(server.disk.log().is_empty());
}

#[test]
fn a_device_that_is_read_only_is_asked_for_nothing_else() {
    let server = Running::start(Disk { read_only: true, ..Disk::new(MIB) });
    let mut client = server.client();
    assert_eq!(client.write(0, 0, b"data").error, EPERM);
    assert_eq!(client.error(4, 0, 0, 512), EPERM);
    assert_eq!(client.error(6, 0, 0, 512), EPERM);
    assert_eq!(client.read(0, 4), [0; 4]);
    let disk = std::sync::Arc::clone(&server.disk);
    server.stop().unwrap();
    assert!(disk.log().is_empty());
}

#[test]
fn what_the_device_says_reaches_the_client() {
    let server = Running::start(Disk::new(MIB));
    for (kind, error) in [
        (std::io::ErrorKind::Other, EIO),
        (std::io::ErrorKind::TimedOut, EIO),
        (std::io::ErrorKind::StorageFull, ENOSPC),
        (std::io::ErrorKind::ReadOnlyFilesystem, EPERM),
    ] {
        server.disk.state.lock().unwrap().bad = Some((4096, kind));
        let mut client = server.client();
        let reply = client.ask(0, 0, 4096, 512);
        assert_eq!((reply.error, &reply.message[..]), (error, "a bad spot"));
        assert_eq!(client.write(0, 4096, b"x").error, error);
        assert_eq!(client.error(4, 0, 4096, 512), error);
        assert_eq!(client.error(6, 0, 4096, 512), error);
        assert_eq!(client.read(0, 512), [0; 512]);
        assert_eq!(server.plain().error(0, 0, 4096, 512), error);
    }
    server.disk.state.lock().unwrap().short = 1;
    let reply = server.client().ask(0, 0, 0, 512);
    assert_eq!((reply.error, &reply.message[..]), (EIO, "the device read 511 of 512 bytes"));
}

#[test]
fn replies_leave_as_they_become_ready() {
    let server = Running::start(Disk::new(MIB));
    let mut client = server.client();
    server.disk.hold(4096);
    client.send(&request(0, 0, 1, 4096, 512));
    client.send(&request(0, 0, 2, 0, 512));
    assert_eq!(client.reply(512).cookie, 2);
    server.disk.release();
    assert_eq!(client.reply(512).cookie, 1);
}

#[test]
fn no_more_requests_are_at_work_than_there_may_be() {
    let server = Running::start_with(Disk::new(MIB), options(|o| o.requests = 3));
    let mut client = server.client();
    server.disk.hold(0);
    (0..10).for_each(|cookie| client.send(&request(0, 0, cookie, 0, 512)));
    eventually("three are at work", || server.disk.under_way() == 3);
    thread::sleep(Duration::from_millis(50));
    server.disk.release();
    let mut cookies: Vec<_> = (0..10).map(|_| client.reply(512).cookie).collect();
    cookies.sort_unstable();
    assert_eq!(cookies, (0..10).collect::<Vec<_>>());
    assert_eq!(server.disk.state.lock().unwrap().most.0, 3);
}

#[test]
fn requests_hold_no_more_memory_than_they_may() {
    let small = options(|o| (o.max_payload, o.memory) = (MIB, 2 * MIB as usize));
    let server = Running::start_with(Disk::new(8 * MIB), small);
    let mut client = server.client();
    server.disk.hold(0);
    (0..4).for_each(|cookie| client.send(&request(0, 0, cookie, 0, MIB)));
    eventually("two are at work", || server.disk.under_way() == 2);
    let mut sender = client.stream.try_clone().unwrap();
    let writes = thread::spawn(move || {
        for cookie in 4..8 {
            sender.write_all(&request(1, 0, cookie, 0, MIB)).unwrap();
            sender.write_all(&vec![1; MIB as usize]).unwrap();
        }
    });
    thread::sleep(Duration::from_millis(50));
    server.disk.release();
    let mut cookies: Vec<_> = (0..8).map(|_| client.reply(MIB).cookie).collect();
    writes.join().unwrap();
    cookies.sort_unstable();
    assert_eq!(cookies, (0..8).collect::<Vec<_>>());
    let most = server.disk.state.lock().unwrap().most;
    assert!(most.1 <= 2 * MIB as usize, "{most:?}");
}

#[test]
fn several_clients_see_one_device() {
    let server = Running::start(Disk::new(MIB));
    let (mut one, mut other) = (server.client(), server.plain());
    assert_eq!(one.write(FUA, 7, b"shared").error, 0);
    assert_eq!(other.read(7, 6), b"shared");
    one.send(&request(2, 0, 0, 0, 0));
    one.is_closed();
    assert_eq!(other.read(7, 6), b"shared");
}

#[test]
fn what_is_no_request_ends_the_connection_and_what_is_under_way_is_answered() {
    let server = Running::start(Disk::new(MIB));
    for junk in [&b"\x21\xe4\x1c\x71"[..], b"GET / HTTP/1.1\r\n", &[0; 28], &[0xff; 100]] {
        let mut client = server.client();
        server.disk.hold(0);
        client.send(&request(0, 0, 5, 0, 16));
        eventually("it is at work", || server.disk.under_way() == 1);
        client.send(junk);
        client.stream.shutdown(Shutdown::Write).unwrap();
        server.disk.release();
        assert_eq!(client.reply(16).cookie, 5);
        client.is_closed();
    }
    assert_eq!(server.client().read(0, 16), [0; 16]);
}

#[test]
fn what_is_no_option_ends_the_connection() {
    let server = Running::start(Disk::new(MIB));
    let mut client = server.greet();
    client.send(&[0xff; 16]);
    client.is_closed();
    let mut client = server.greet();
    client.send(b"IHAVEOPT\0\0");
    client.stream.shutdown(Shutdown::Write).unwrap();
    client.is_closed();
    let mut client = server.greet();
    assert_eq!(client.option(2, b""), [(1, vec![])]);
    client.is_closed();
}

#[test]
fn half_a_request_does_nothing() {
    let server = Running::start(Disk::new(MIB));
    let write = [&request(1, 0, 1, 0, 1000)[..], &[7; 1000]].concat();
    for length in [1, 27, 28, 29, 1027] {
        let mut client = server.client();
        client.send(&write[..length]);
        client.stream.shutdown(Shutdown::Write).unwrap();
        client.is_closed();
    }
    assert!(server.disk.log().is_empty());
    assert_eq!(server.client().write(0, 0, &[7; 1000]).error, 0);
}

#[test]
fn a_client_that_leaves_gets_what_is_under_way() {
    let server = Running::start(Disk::new(MIB));
    let mut client = server.client();
    server.disk.hold(0);
    (0..4).for_each(|cookie| client.send(&request(0, 0, cookie, 0, 16)));
    client.send(&request(2, 0, 0, 0, 0));
    eventually("they are at work", || server.disk.under_way() == 4);
    server.disk.release();
    let mut cookies: Vec<_> = (0..4).map(|_| client.reply(16).cookie).collect();
    cookies.sort_unstable();
    assert_eq!(cookies, [0, 1, 2, 3]);
    client.is_closed();
}

#[test]
fn a_client_that_is_gone_disturbs_nobody() {
    let server = Running::start_with(Disk::new(MIB), options(|o| o.connections = 2));
    let mut other = server.client();
    for _ in 0..5 {
        // The place of the one before is free again, sooner or later.
        let end = Instant::now() + LONG;
        let client = std::iter::repeat_with(|| server.try_greet()).find_map(|client| {
            assert!(Instant::now() < end, "it never left");
            client
        });
        let mut client = client.unwrap();
        client.go();
        server.disk.hold(0);
        (0..8).for_each(|cookie| client.send(&request(0, 0, cookie, 0, MIB)));
        eventually("they are at work", || server.disk.under_way() == 8);
        drop(client);
        server.disk.release();
        eventually("they are done", || server.disk.under_way() == 0);
        assert_eq!(other.read(0, 16), [0; 16]);
    }
}

#[test]
fn clients_on_top_are_sent_away() {
    let server = Running::start_with(Disk::new(MIB), options(|o| o.connections = 2));
    let mut clients = [server.client(), server.client()];
    assert!(server.try_greet().is_none());
    clients.iter_mut().for_each(|client| assert_eq!(client.read(0, 4), [0; 4]));
}

#[test]
fn a_handshake_has_to_come_to_an_end() {
    let short = options(|o| o.handshake = Duration::from_millis(300));
    let server = Running::start_with(Disk::new(MIB), short);
    let started = Instant::now();
    server.greet().is_closed();
    // Nor does it help to go on asking.
    let mut client = server.greet();
    while client.stream.write_all(&option(3, b"")).is_ok() {
        assert!(started.elapsed() < LONG, "it never ends");
        thread::sleep(Duration::from_millis(5));
    }
    assert!(started.elapsed() >= Duration::from_millis(500), "{:?}", started.elapsed());
    assert_eq!(server.client().read(0, 4), [0; 4]);
}

#[test]
fn a_client_may_be_silent_between_requests_and_not_within() {
    let short = options(|o| o.stall = Duration::from_millis(150));
    let server = Running::start_with(Disk::new(MIB), short);
    let mut idle = server.client();
    for half in [&request(0, 0, 1, 0, 512)[..9], &request(1, 0, 1, 0, 512)[..]] {
        let mut client = server.client();
        client.send(half);
        client.is_closed();
    }
    thread::sleep(Duration::from_millis(200));
    assert_eq!(idle.read(0, 4), [0; 4]);
}

#[test]
fn a_client_that_takes_no_replies_holds_up_nobody_else() {
    let server =
        Running::start_with(Disk::new(32 * MIB), options(|o| o.stall = Duration::from_millis(800)));
    let mut greedy = server.client();
    (0..4).for_each(|cookie| greedy.send(&request(0, 0, cookie, 0, 32 * MIB)));
    let mut other = server.client();
    let started = Instant::now();
    (0..50).for_each(|_| assert_eq!(other.read(0, 4096), [0; 4096]));
    assert!(started.elapsed() < Duration::from_millis(700), "{:?}", started.elapsed());
    // And is given up after a while.
    eventually("it is sent away", || {
        use std::io::ErrorKind::{BrokenPipe, ConnectionReset};
        let sent = (&greedy.stream).write(&request(3, 0, 9, 0, 0));
        matches!(sent, Err(error) if matches!(error.kind(), BrokenPipe | ConnectionReset))
    });
}

#[test]
fn a_device_that_panics_ends_the_connection_and_no_other() {
    let server = Running::start(Disk::new(MIB));
    let (mut one, mut other) = (server.client(), server.client());
    one.send(&request(0, 0, 1, DEADLY, 512));
    one.is_closed();
    assert_eq!(other.read(0, 4), [0; 4]);
    server.stop().unwrap();
}

#[test]
fn stopping_waits_for_what_is_under_way_and_flushes_last() {
    let server = Running::start_with(Disk::new(MIB), options(|o| o.requests = 1));
    let (mut client, mut idle) = (server.client(), server.plain());
    server.disk.hold(0);
    client.send(&[&request(1, 0, 1, 0, 4)[..], b"data"].concat());
    eventually("it is at work", || server.disk.under_way() == 1);
    // Nobody looks at this one before the server is stopped.
    client.send(&request(0, 0, 2, 512, 4));
    let handle = server.handle.clone();
    let disk = std::sync::Arc::clone(&server.disk);
    let stopping = thread::spawn(move || server.stop());
    idle.is_closed();
    assert!(!stopping.is_finished() && disk.log().is_empty());
    disk.release();
    assert_eq!(client.reply(0).cookie, 1);
    let reply = client.reply(4);
    assert_eq!((reply.cookie, reply.error), (2, ESHUTDOWN));
    assert!(reply.message.contains("stopped"), "{reply:?}");
    client.is_closed();
    stopping.join().unwrap().unwrap();
    assert_eq!(disk.log(), ["write 0 4 false", "flush"]);
    handle.stop();
}

#[test]
fn stopping_does_not_wait_forever() {
    let short = options(|o| o.drain = Duration::from_millis(200));
    let server = Running::start_with(Disk::new(MIB), short);
    let mut client = server.client();
    server.disk.hold(0);
    client.send(&request(0, 0, 1, 0, 4));
    eventually("it is at work", || server.disk.under_way() == 1);
    let disk = std::sync::Arc::clone(&server.disk);
    let started = Instant::now();
    server.stop().unwrap();
    assert!(started.elapsed() < Duration::from_secs(5));
    client.is_closed();
    disk.release();
}

#[test]
fn a_flush_that_fails_in_the_end_is_told() {
    let server = Running::start(Disk::new(MIB));
    server.disk.state.lock().unwrap().flush_fails = true;
    let mut client = server.client();
    let reply = client.ask(3, 0, 0, 0);
    assert_eq!((reply.error, &reply.message[..]), (EIO, "lost"));
    let error = server.stop().unwrap_err();
    assert!(matches!(error, ServeError::Flush(_)), "{error}");

    let server =
        Running::start_with(Disk::new(MIB), options(|o| o.drain = Duration::from_millis(50)));
    let disk = std::sync::Arc::clone(&server.disk);
    disk.hold(FLUSH);
    let error = server.stop().unwrap_err();
    assert_eq!(error.to_string(), "the device could not be flushed in the end: not done in 50ms");
}

#[test]
fn unix_sockets_serve_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nbd.sock");
    let export = Export::new(ExportName::default(), Disk::new(MIB)).unwrap();
    let listener = UnixListener::bind(&path).unwrap();
    let server = Server::new(listener, export, Options::default()).unwrap();
    let handle = server.handle();
    let running = thread::spawn(|| server.run());
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream.write_all(b"\0\0\0\x03").unwrap();
    stream.write_all(&[option(1, b""), request(0, 0, 3, 0, 512)].concat()).unwrap();
    let mut answer = vec![0; 18 + 10 + 16 + 512];
    std::io::Read::read_exact(&mut stream, &mut answer).unwrap();
    assert_eq!(answer[28..44], *b"\x67\x44\x66\x98\0\0\0\0\0\0\0\0\0\0\0\x03");
    handle.stop();
    running.join().unwrap().unwrap();
}

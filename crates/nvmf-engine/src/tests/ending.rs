//! Connections that end, in every state, from either side.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use super::{Event, Kind, LONG, Rig, ends, for_every_engine, message, pattern, sent, sockets};
use crate::{ConnId, End, Engine, FileOp, Message, Wait};

for_every_engine! {
    a_peer_that_closes_is_told_once_after_its_last_bytes,
    a_reset_ends_a_connection_once_whatever_it_does,
    a_closed_connection_tells_nothing_in_any_state,
    the_peer_of_a_closed_connection_learns_of_it_at_once,
    a_connection_may_be_closed_wherever_it_is_told_of,
    the_id_of_a_closed_connection_does_nothing,
    a_closed_listener_accepts_nobody_and_its_address_is_free,
    a_listener_may_be_closed_while_it_accepts,
    what_is_sent_before_closing_arrives,
    an_engine_is_dropped_with_everything_in_flight,
    an_engine_that_is_dropped_has_closed_its_sockets,
    an_engine_may_be_replaced_while_it_tells,
}

/// What a connection is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Nothing was asked of it.
    Fresh,
    /// It has received.
    Receiving,
    /// It has buffers to fill, and they were asked for just now.
    AskedToFill,
    /// It is filling buffers.
    Filling,
    /// It has filled buffers.
    Filled,
    /// It sends more than fits.
    Sending,
    /// It does all of it.
    All,
}

const STATES: [State; 7] = [
    State::Fresh,
    State::Receiving,
    State::AskedToFill,
    State::Filling,
    State::Filled,
    State::Sending,
    State::All,
];

/// A connection in a state, and its peer.
fn in_state<K: Kind>(rig: &mut Rig<K>, state: State) -> (ConnId, TcpStream) {
    let (conn, mut peer) = rig.pair();
    if state == State::Fresh {
        return (conn, peer);
    }
    peer.write_all(b"hello").unwrap();
    rig.until_received(conn, 5);
    if matches!(state, State::AskedToFill | State::Filling | State::Filled | State::All) {
        rig.engine.fill(conn, vec![BytesMut::zeroed(100), BytesMut::zeroed(100_000)]);
    }
    if matches!(state, State::Filling | State::Filled | State::All) {
        rig.linger();
        peer.write_all(&pattern(if state == State::Filled { 100_100 } else { 1000 })).unwrap();
        rig.linger();
    }
    if matches!(state, State::Sending | State::All) {
        let mut message = Message::new();
        message.push_shared(Bytes::from(vec![1; 20 << 20]));
        rig.engine.send(conn, message).unwrap();
        rig.linger();
        assert!(rig.engine.is_sending(conn));
    }
    rig.log.events.clear();
    (conn, peer)
}

fn linger(socket: impl AsFd) {
    let now = Some(Duration::ZERO);
    rustix::net::sockopt::set_socket_linger(socket, now).unwrap();
}

fn a_peer_that_closes_is_told_once_after_its_last_bytes<K: Kind>() {
    let mut rig = Rig::<K>::new();
    let (conn, mut peer) = rig.pair();
    let bytes = pattern(200_000);
    peer.write_all(&bytes).unwrap();
    drop(peer);
    rig.until("ended", |events| ends(events, conn) == 1);
    rig.linger();
    assert!(rig.received(conn) == bytes);
    assert_eq!(ends(&rig.log.events, conn), 1);
    assert!(matches!(rig.log.events.last(), Some(Event::Ended(_, End::Closed))));
}

fn a_reset_ends_a_connection_once_whatever_it_does<K: Kind>() {
    let mut rig = Rig::<K>::new();
    for state in STATES {
        let (conn, peer) = in_state(&mut rig, state);
        linger(&peer);
        drop(peer);
        rig.until("ended", |events| ends(events, conn) == 1);
        rig.linger();
        assert_eq!(ends(&rig.log.events, conn), 1, "{state:?}");
        assert!(!rig.engine.is_sending(conn), "{state:?}");
        match &rig.log.events[..] {
            [Event::Ended(_, End::Failed(error))] => {
                let kinds = [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe];
                assert!(kinds.contains(&error.kind()), "{state:?}: {error}");
            }
            // The system tells of an error once: to who sends, or to who receives.
            [Event::Ended(_, End::Closed)] => {
                assert!(matches!(state, State::Sending | State::All), "{state:?}");
            }
            events => panic!("{state:?}: {events:?}"),
        }
        // What is sent then is lost, and not told.
        let _ = rig.engine.send(conn, message(b"too late"));
        rig.linger();
        rig.engine.close(conn);
        rig.linger();
        assert_eq!(rig.log.events.len(), 1, "{state:?}");
        rig.log.events.clear();
    }
}

fn a_closed_connection_tells_nothing_in_any_state<K: Kind>() {
    let mut rig = Rig::<K>::new();
    for state in STATES {
        let (conn, mut peer) = in_state(&mut rig, state);
        // More is on its way in both directions.
        let _ = peer.write(&[1; 10_000]);
        rig.engine.close(conn);
        let _ = peer.write(&[1; 10_000]);
        rig.linger();
        assert!(rig.log.events.is_empty(), "{state:?}: {:?}", rig.log.events);
    }
}

fn the_peer_of_a_closed_connection_learns_of_it_at_once<K: Kind>() {
    let mut rig = Rig::<K>::new();
    for state in STATES {
        let (conn, mut peer) = in_state(&mut rig, state);
        rig.engine.close(conn);
        // Without a further turn.
        peer.set_read_timeout(Some(LONG)).unwrap();
        let mut rest = Vec::new();
        match peer.read_to_end(&mut rest) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{state:?}"),
        }
    }
}

fn a_connection_may_be_closed_wherever_it_is_told_of<K: Kind>() {
    let mut rig = Rig::<K>::new();
    rig.react(|engine, event| match event {
        Event::Received(conn, _)
        | Event::Filled(conn, _)
        | Event::Sent(conn, _)
        | Event::Ended(conn, _) => engine.close(*conn),
        _ => {}
    });
    for case in 0..4 {
        let (conn, mut peer) = rig.pair();
        match case {
            0 => peer.write_all(&[0; 200_000]).unwrap(),
            1 => {
                rig.engine.fill(conn, vec![BytesMut::zeroed(10)]);
                rig.engine.fill(conn, vec![BytesMut::zeroed(10)]);
                peer.write_all(&[0; 20_000]).unwrap();
            }
            2 => {
                rig.send(conn, b"x");
                peer.write_all(b"y").unwrap();
            }
            _ => peer.shutdown(Shutdown::Write).unwrap(),
        }
        rig.until("told", |events| !events.is_empty());
        rig.linger();
        assert_eq!(rig.log.events.len(), 1, "{case}: {:?}", rig.log.events);
        rig.log.events.clear();
    }
}

fn the_id_of_a_closed_connection_does_nothing<K: Kind>() {
    let mut rig = Rig::<K>::new();
    for state in STATES {
        let (old, _peer) = in_state(&mut rig, state);
        rig.engine.close(old);
        assert!(!rig.engine.is_sending(old));
        assert_eq!(rig.engine.send(old, message(b"x")).unwrap_err().to_vec(), b"x");
        rig.engine.fill(old, vec![BytesMut::zeroed(10)]);
        rig.engine.close(old);
        rig.linger();
        // The next one is likely to be in the same place.
        let (new, mut peer) = rig.pair();
        assert_ne!(old, new);
        rig.engine.close(old);
        rig.engine.fill(old, vec![BytesMut::zeroed(10)]);
        assert!(rig.engine.send(old, message(b"x")).is_err());
        peer.write_all(b"abc").unwrap();
        assert_eq!(rig.until_received(new, 3), b"abc");
        rig.send(new, b"def");
        let mut answer = [0; 3];
        rig.until("sent", |events| sent(events, new) == 1);
        peer.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"def");
        rig.engine.close(new);
        rig.log.events.clear();
    }
}

fn a_closed_listener_accepts_nobody_and_its_address_is_free<K: Kind>() {
    let mut rig = Rig::<K>::new();
    let (id, address) = rig.listen();
    let _peer = TcpStream::connect(address).unwrap();
    rig.until("accepted", |events| matches!(events[..], [Event::Accepted(from, _)] if from == id));
    rig.log.events.clear();
    for turns in 0..2 {
        let listener = std::net::TcpListener::bind(address);
        let id = match listener {
            Ok(listener) => rig.engine.listen(listener).unwrap(),
            Err(_) => id,
        };
        (0..turns).for_each(|_| rig.linger());
        let waiting = TcpStream::connect(address);
        rig.engine.unlisten(id);
        rig.engine.unlisten(id);
        assert!(std::net::TcpListener::bind(address).is_ok(), "without a further turn");
        assert!(TcpStream::connect(address).is_err());
        rig.linger();
        assert!(rig.log.events.is_empty());
        drop(waiting);
    }
}

fn a_listener_may_be_closed_while_it_accepts<K: Kind>() {
    let mut rig = Rig::<K>::new();
    let (_, address) = rig.listen();
    rig.react(|engine, event| {
        if let Event::Accepted(id, _) = event {
            engine.unlisten(*id);
        }
    });
    let peers: Vec<_> = (0..10).map(|_| TcpStream::connect(address).unwrap()).collect();
    rig.until("accepted", |events| !events.is_empty());
    rig.linger();
    assert_eq!(rig.log.events.len(), 1);
    // The others were refused, or accepted in vain.
    let closed = peers.iter().filter(|peer| {
        peer.set_nonblocking(true).unwrap();
        let read = (&**peer).read(&mut [0]);
        !read.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    });
    assert_eq!(closed.count(), 9);
}

fn what_is_sent_before_closing_arrives<K: Kind>() {
    let mut rig = Rig::<K>::new();
    let (conn, mut peer) = rig.pair();
    let bytes = pattern(100_000);
    rig.send(conn, &bytes);
    rig.until("sent", |events| sent(events, conn) == 1);
    rig.engine.close(conn);
    let mut there = Vec::new();
    peer.read_to_end(&mut there).unwrap();
    assert!(there == bytes);
}

fn an_engine_is_dropped_with_everything_in_flight<K: Kind>() {
    for turns in [false, true] {
        let mut rig = Rig::<K>::new();
        let (_, address) = rig.listen();
        let mut peers = vec![TcpStream::connect(address).unwrap()];
        for state in STATES {
            let (conn, peer) = in_state(&mut rig, state);
            peers.push(peer);
            if state == State::Filling {
                rig.engine.close(conn);
            }
        }
        let file = tempfile::tempfile().unwrap();
        let id = rig.engine.open(OwnedFd::from(file)).unwrap();
        for n in 0..100 {
            let parts = vec![BytesMut::zeroed(100_000), BytesMut::zeroed(5)];
            rig.engine.submit(id, FileOp::Write { offset: n * 1000, parts }, n);
        }
        if turns {
            rig.turn(Wait::No);
        }
        let waker = rig.engine.waker();
        waker.wake();
        let before = Instant::now();
        drop(rig);
        assert!(before.elapsed() < Duration::from_secs(3));
        waker.wake();
        for mut peer in peers {
            peer.set_read_timeout(Some(LONG)).unwrap();
            match peer.read_to_end(&mut Vec::new()) {
                Ok(_) => {}
                Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
            }
        }
    }
}

fn an_engine_that_is_dropped_has_closed_its_sockets<K: Kind>() {
    for state in [State::Fresh, State::Receiving, State::AskedToFill, State::Filling] {
        let mut rig = Rig::<K>::new();
        let mut peers: Vec<_> = (0..20).map(|_| in_state(&mut rig, state).1).collect();
        drop(rig);
        // At once: nothing in the kernel keeps them open.
        for peer in &mut peers {
            peer.set_nonblocking(true).unwrap();
            match peer.read(&mut [0]) {
                Ok(n) => assert_eq!(n, 0),
                Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{state:?}"),
            }
        }
    }
}

/// Nobody does that; but nothing forbids it, so the memory must stay sound.
fn an_engine_may_be_replaced_while_it_tells<K: Kind>() {
    let mut rig = Rig::<K>::new();
    rig.react(|engine, event| match event {
        Event::Received(_, bytes) => {
            let old = std::mem::replace(engine, K::make());
            drop(old);
            assert!(bytes.iter().all(|byte| *byte == bytes[0]));
            let (ours, mut theirs) = sockets();
            engine.attach(ours).unwrap();
            theirs.write_all(&[4; 100]).unwrap();
        }
        Event::Filled(..) | Event::Sent(..) => drop(std::mem::replace(engine, K::make())),
        _ => {}
    });
    for direct in [false, true] {
        let (conn, mut peer) = rig.pair();
        let (other, mut second) = rig.pair();
        if direct {
            rig.engine.fill(conn, vec![BytesMut::zeroed(10)]);
        }
        peer.write_all(&[3; 50]).unwrap();
        second.write_all(&[3; 50]).unwrap();
        rig.send(conn, b"one");
        rig.send(other, b"two");
        rig.until("told", |events| !events.is_empty());
        rig.linger();
        rig.log.events.clear();
    }
}

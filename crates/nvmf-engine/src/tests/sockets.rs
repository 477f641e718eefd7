//! Accepting, receiving and sending.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::{
    Event, Kind, LONG, Rig, ends, for_every_engine, message, pattern, received, sent, sockets,
};
use crate::{ConnId, End, Engine, FileOp, Handler, ListenerId, Message};

for_every_engine! {
    what_is_accepted_and_attached_is_heard_and_answered,
    a_gathered_message_arrives_as_it_is_through_tiny_buffers,
    a_message_of_more_pieces_than_one_send_takes_arrives,
    there_is_one_message_in_flight,
    an_empty_message_is_sent,
    who_does_not_read_does_not_hold_up_others,
    bytes_that_come_one_by_one_are_all_received,
    a_connection_that_takes_little_at_once_gets_all_of_it,
    five_hundred_connections_are_served,
    more_senders_than_buffers_lose_nothing,
    what_was_received_stays_while_the_handler_begins_much_more,
    a_socket_may_be_nonblocking_or_not,
    after_the_peer_has_closed_its_half_messages_still_go_out,
}

/// Answers everything with the same.
fn echo<E: Engine>(engine: &mut E, event: &Event) {
    match event {
        Event::Accepted(_, socket) => {
            engine.attach(socket.try_clone().unwrap()).unwrap();
        }
        Event::Received(conn, bytes) => engine.send(*conn, message(bytes)).unwrap(),
        Event::Ended(conn, _) => engine.close(*conn),
        _ => {}
    }
}

fn what_is_accepted_and_attached_is_heard_and_answered<K: Kind>() {
    let mut rig = Rig::<K>::new();
    let (_, address) = rig.listen();
    rig.react(echo);
    for round in 0..3u8 {
        let mut peer = TcpStream::connect(address).unwrap();
        peer.set_nonblocking(true).unwrap();
        for turn in 0..20u8 {
            peer.write_all(&[round, turn]).unwrap();
            let mut answer = Vec::new();
            rig.until("answered", |_| {
                let mut some = [0; 10];
                let n = peer.read(&mut some).unwrap_or(0);
                answer.extend_from_slice(&some[..n]);
                answer.len() == 2
            });
            assert_eq!(answer, [round, turn]);
        }
    }
}

/// Reads what is sent while the engine is turned; all of `length`.
fn read_all(mut peer: TcpStream, length: usize) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut all = vec![0; length];
        peer.read_exact(&mut all).unwrap();
        all
    })
}

fn a_gathered_message_arrives_as_it_is_through_tiny_buffers<K: Kind>() {
    let mut rig = Rig::<K>::new();
    let (ours, theirs) = sockets();
    rustix::net::sockopt::set_socket_send_buffer_size(&ours, 4096).unwrap();
    rustix::net::sockopt::set_socket_recv_buffer_size(&theirs, 32 << 10).unwrap();
    let conn = rig.engine.attach(ours).unwrap();
    let mut message = Message::new();
    let mut expected = Vec::new();
    for length in [1, 3000, 70_000, 8, 0, 1, 200_000, 24] {
        message.push(&pattern(24));
        let payload = Bytes::from(pattern(length));
        expected.extend_from_slice(&pattern(24));
        expected.extend_from_slice(&payload);
        message.push_shared(payload);
    }
    let reader = read_all(theirs, expected.len());
    rig.engine.send(conn, message).unwrap();
    rig.until("sent", |events| sent(events, conn) == 1);
    assert!(reader.join().unwrap() == expected);
    // The reader may be gone by now, which is told too.
    let Some(Event::Sent(_, message)) = rig.log.events.first() else { panic!("not told first") };
    assert!(message.to_vec() == expected);
}

fn a_message_of_more_pieces_than_one_send_takes_arrives<K: Kind>() {
    let mut rig = Rig::<K>::new();
    let (conn, theirs) = rig.pair();
    let all = Bytes::from(pattern(5000 * 7));
    let mut message = Message::new();
    (0..5000).for_each(|i| message.push_shared(all.slice(i * 7..(i + 1) * 7)));
    assert_eq!(message.segments(), 5000);
    let reader = read_all(theirs, all.len());
    rig.engine.send(conn, message).unwrap();
    rig.until("sent", |events| sent(events, conn) == 1);
    assert!(reader.join().unwrap() == all);
}

fn there_is_one_message_in_flight<K: Kind>() {
    let mut rig = Rig::<K>::new();
    let (conn, theirs) = rig.pair();
    assert!(!rig.engine.is_sending(conn));
    rig.send(conn, b"one");
    assert!(rig.engine.is_sending(conn));
    let back = rig.engine.send(conn, message(b"two")).unwrap_err();
    assert_eq!(back.to_vec(), b"two");
    rig.until("sent", |events| sent(events, conn) == 1);
    assert!(!rig.engine.is_sending(conn));
    rig.engine.send(conn, back).unwrap();
    rig.until("sent", |events| sent(events, conn) == 2);
    assert_eq!(read_all(theirs, 6).join().unwrap(), b"onetwo");
}

fn an_empty_message_is_sent<K: Kind>() {
    let mut rig = Rig::<K>::new();
    let (conn, theirs) = rig.pair();
    for n in 1..4 {
        rig.engine.send(conn, Message::new()).unwrap();
        assert!(rig.engine.send(conn, Message::new()).is_err());
        rig.until("sent", |events| sent(events, conn) == n);
    }
    rig.send(conn, b"x");
    rig.until("sent", |events| sent(events, conn) == 4);
    assert_eq!(read_all(theirs, 1).join().unwrap(), b"x");
}

fn who_does_not_read_does_not_hold_up_others<K: Kind>() {
    let mut rig = Rig::<K>::new();
    let (deaf, silent) = rig.pair();
    let much = Bytes::from(pattern(16 << 20));
    let mut message = Message::new();
    message.push_shared(much.clone());
    rig.engine.send(deaf, message).unwrap();
    let (conn, mut peer) = rig.pair();
    for n in 1..50 {
        rig.send(conn, b"!");
        rig.until("sent", |events| sent(events, conn) == n);
        peer.read_exact(&mut [0]).unwrap();
        peer.write_all(b"?").unwrap();
        rig.until_received(conn, n);
    }
    assert!(rig.engine.is_sending(deaf));
    assert_eq!(sent(&rig.log.events, deaf), 0);
    let reader = read_all(silent, much.len());
    rig.until("sent", |events| sent(events, deaf) == 1);
    assert!(reader.join().unwrap() == much);
}

fn a_connection_that_takes_little_at_once_gets_all_of_it<K: Kind>() {
    let mut rig = Rig::<K>::new();
    let (conn, mut theirs) = rig.pair();
    rig.engine.receive_at_most(conn, 5000);
    let all = pattern(100_000);
    let writer = std::thread::spawn({
        let all = all.clone();
        move || theirs.write_all(&all).map(|()| theirs)
    });
    rig.until("received", |events| received(events, conn).len() == all.len());
    assert!(received(&rig.log.events, conn) == all);
    drop(writer.join().unwrap().unwrap());
}

fn bytes_that_come_one_by_one_are_all_received<K: Kind>() {
    let mut rig = Rig::<K>::new();
    let (conn, mut peer) = rig.pair();
    let all = pattern(1000);
    let writer = {
        let all = all.clone();
        std::thread::spawn(move || {
            for byte in all {
                peer.write_all(&[byte]).unwrap();
                if byte < 20 {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        })
    };
    rig.until("ended", |events| ends(events, conn) == 1);
    writer.join().unwrap();
    assert_eq!(rig.received(conn), all);
}

fn five_hundred_connections_are_served<K: Kind>() {
    let mut rig = Rig::<K>::new();
    let (_, address) = rig.listen();
    rig.react(echo);
    let mut peers = Vec::new();
    for n in 0..500u32 {
        peers.push(TcpStream::connect(address).unwrap());
        if n % 50 == 0 {
            rig.turn(crate::Wait::No);
        }
    }
    for round in 0..3 {
        for (n, peer) in (0u32..).zip(&mut peers) {
            peer.write_all(&(n + round).to_le_bytes()).unwrap();
        }
        let wanted = 500 * 4 * (round as usize + 1);
        rig.until("all received", |events| total(events) == wanted);
        rig.until("all sent", |events| {
            let sent = events.iter().filter(|event| matches!(event, Event::Sent(..)));
            sent.count() >= 500 * (round as usize + 1)
        });
        for (n, peer) in (0u32..).zip(&mut peers) {
            let mut answer = [0; 4];
            peer.set_read_timeout(Some(LONG)).unwrap();
            peer.read_exact(&mut answer).unwrap();
            assert_eq!(u32::from_le_bytes(answer), n + round);
        }
    }
}

fn total(events: &[Event]) -> usize {
    let lengths = events.iter().map(|event| match event {
        Event::Received(_, bytes) => bytes.len(),
        _ => 0,
    });
    lengths.sum()
}

fn more_senders_than_buffers_lose_nothing<K: Kind>() {
    let mut rig = Rig::<K>::new();
    let all = pattern(300_000);
    let mut conns = Vec::new();
    let mut writers = Vec::new();
    for n in 0..150usize {
        let (conn, mut peer) = rig.pair();
        conns.push(conn);
        let bytes = all[n..].to_vec();
        let chunk = 1000 + 977 * n;
        // What fits is there at once, of all of them; a thread for each brings the rest.
        peer.set_nonblocking(true).unwrap();
        let first = peer.write(&bytes).unwrap();
        peer.set_nonblocking(false).unwrap();
        writers.push(std::thread::spawn(move || {
            bytes[first..].chunks(chunk).for_each(|chunk| peer.write_all(chunk).unwrap());
        }));
    }
    let mut ended = 0;
    rig.until("all ended", |events| {
        ended = events.iter().filter(|event| matches!(event, Event::Ended(..))).count();
        ended == conns.len()
    });
    writers.into_iter().for_each(|writer| writer.join().unwrap());
    for (n, conn) in conns.into_iter().enumerate() {
        assert!(received(&rig.log.events, conn) == all[n..], "{n}");
    }
}

fn what_was_received_stays_while_the_handler_begins_much_more<K: Kind>() {
    let mut rig = Rig::<K>::new();
    // More than can be begun without submitting, and each has something at once.
    let mut others = Vec::new();
    let mut peers = Vec::new();
    for _ in 0..600 {
        let (ours, mut theirs) = sockets();
        theirs.write_all(&[2; 5000]).unwrap();
        others.push(ours);
        peers.push(theirs);
    }
    let (conn, mut peer) = rig.pair();
    rig.linger();
    peer.write_all(&[1; 5000]).unwrap();
    let mut handler = Attacher { others, left: 5000 };
    while handler.left > 0 {
        rig.engine.turn(&mut handler, crate::Wait::Until(None)).unwrap();
    }
    rig.until("received", |events| total(events) == 600 * 5000);
    assert_eq!(rig.received(conn), []);
}

/// Attaches sockets while it looks at what it was given.
struct Attacher {
    others: Vec<TcpStream>,
    left: usize,
}

impl<E: Engine> Handler<E> for Attacher {
    fn received(&mut self, engine: &mut E, _: ConnId, bytes: &[u8]) {
        for other in self.others.drain(..) {
            engine.attach(other).unwrap();
        }
        assert!(bytes.iter().all(|byte| *byte == 1));
        self.left -= bytes.len();
    }

    fn accepted(&mut self, _: &mut E, _: ListenerId, _: TcpStream, _: SocketAddr) {}

    fn filled(&mut self, _: &mut E, _: ConnId, _: Vec<BytesMut>) {}

    fn sent(&mut self, _: &mut E, _: ConnId, _: Message) {}

    fn ended(&mut self, _: &mut E, _: ConnId, _: End) {}

    fn done(&mut self, _: &mut E, _: u64, _: FileOp, _: io::Result<()>) {}

    fn woken(&mut self, _: &mut E) {}
}

fn a_socket_may_be_nonblocking_or_not<K: Kind>() {
    for nonblocking in [false, true] {
        let mut rig = Rig::<K>::new();
        let (ours, mut peer) = sockets();
        ours.set_nonblocking(nonblocking).unwrap();
        let conn = rig.engine.attach(ours).unwrap();
        rig.linger();
        peer.write_all(b"hello").unwrap();
        assert_eq!(rig.until_received(conn, 5), b"hello");
        let much = pattern(8 << 20);
        rig.send(conn, &much);
        rig.linger();
        let reader = read_all(peer, much.len());
        rig.until("sent", |events| sent(events, conn) == 1);
        assert!(reader.join().unwrap() == much);
    }
}

fn after_the_peer_has_closed_its_half_messages_still_go_out<K: Kind>() {
    let mut rig = Rig::<K>::new();
    let (conn, peer) = rig.pair();
    peer.shutdown(std::net::Shutdown::Write).unwrap();
    rig.until("ended", |events| ends(events, conn) == 1);
    let much = pattern(4 << 20);
    rig.send(conn, &much);
    let reader = read_all(peer, much.len());
    rig.until("sent", |events| sent(events, conn) == 1);
    assert!(reader.join().unwrap() == much);
}

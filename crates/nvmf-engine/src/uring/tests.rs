//! What only this engine promises.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use bytes::BytesMut;

use super::Uring;
use super::conn::RECEIVES;
use super::ring::LEFT;
use crate::tests::{Event, LONG, Rig, Ring, message, pattern, received, sent, sockets};
use crate::{Engine, Wait};

#[test]
fn what_the_engine_needs_is_there() {
    Uring::try_out().expect("io_uring, which these tests need");
}

#[test]
fn looking_for_work_in_vain_takes_no_system_call() {
    let mut rig = Rig::<Ring>::new();
    let (conn, mut peer) = rig.pair();
    let _listening = rig.listen();
    rig.linger();
    let before = rig.engine.ring.enters;
    (0..1000).for_each(|_| assert!(!rig.turn(Wait::No)));
    assert_eq!(rig.engine.ring.enters, before);
    // What comes is found all the same.
    peer.write_all(b"here").unwrap();
    let end = Instant::now() + LONG;
    while received(&rig.log.events, conn).len() < 4 {
        assert!(Instant::now() < end);
        rig.turn(Wait::No);
    }
    let waker = rig.engine.waker();
    std::thread::spawn(move || waker.wake());
    while !rig.log.events.iter().any(|event| matches!(event, Event::Woken)) {
        assert!(Instant::now() < end);
        rig.turn(Wait::No);
    }
}

#[test]
fn receiving_and_answering_take_one_system_call_each() {
    let mut rig = Rig::<Ring>::new();
    let (conn, mut peer) = rig.pair();
    rig.linger();
    rig.react(move |engine, event| {
        if let Event::Received(conn, bytes) = event {
            engine.send(*conn, message(bytes)).unwrap();
        }
    });
    let before = rig.engine.ring.enters;
    for n in 1..=100 {
        peer.write_all(b"x").unwrap();
        while sent(&rig.log.events, conn) < n {
            rig.turn(Wait::Until(None));
        }
        peer.read_exact(&mut [0]).unwrap();
    }
    // One to receive, and one to send, which a next receive would share.
    assert_eq!(rig.engine.ring.enters - before, 200);
}

/// What a stream of large payload costs in system calls, for each piece of it.
#[test]
fn large_payload_does_not_pay_for_stopping_each_time() {
    let mut rig = Rig::<Ring>::new();
    let (conn, mut peer) = rig.pair();
    let bytes = pattern(50_000);
    let mut one = |rig: &mut Rig<Ring>| {
        let before = rig.engine.ring.enters;
        rig.engine.fill(conn, vec![BytesMut::zeroed(bytes.len())]);
        rig.turn(Wait::No);
        peer.write_all(&bytes).unwrap();
        rig.log.events.clear();
        while rig.log.events.is_empty() {
            rig.turn(Wait::Until(None));
        }
        assert!(matches!(&rig.log.events[..], [Event::Filled(_, parts)] if parts[0] == bytes));
        rig.engine.ring.enters - before
    };
    one(&mut rig);
    let costs: Vec<_> = (0..20).map(|_| one(&mut rig)).collect();
    assert!(costs.iter().sum::<usize>() <= 20 * 4, "{costs:?}");
}

#[test]
fn a_connection_that_has_no_more_payload_receives_by_itself_again() {
    let mut rig = Rig::<Ring>::new();
    let (conn, mut peer) = rig.pair();
    rig.engine.fill(conn, vec![BytesMut::zeroed(50_000)]);
    rig.linger();
    peer.write_all(&[0; 50_000]).unwrap();
    rig.until("filled", |events| !events.is_empty());
    let mut cost = |rig: &mut Rig<Ring>| {
        rig.linger();
        let before = rig.engine.ring.enters;
        let length = rig.received(conn).len();
        peer.write_all(b"x").unwrap();
        rig.until_received(conn, length + 1);
        // Where it has to be asked for again, that takes a system call.
        rig.turn(Wait::No);
        rig.engine.ring.enters - before
    };
    let costs: Vec<_> = (0..2 * RECEIVES).map(|_| cost(&mut rig)).collect();
    let (first, last) = costs.split_at(RECEIVES as usize);
    assert_eq!(first, vec![2; RECEIVES as usize]);
    assert_eq!(last, vec![1; RECEIVES as usize]);
}

#[test]
fn who_finds_no_buffer_is_not_asked_again_in_vain() {
    let mut rig = Rig::<Ring>::new();
    // All have something when they begin to receive: the kernel looks at all of them at once.
    let pairs: Vec<_> = (0..1000).map(|_| sockets()).collect();
    let mut peers = Vec::new();
    for (ours, mut theirs) in pairs {
        theirs.write_all(&[1; 100]).unwrap();
        rig.engine.attach(ours).unwrap();
        peers.push(theirs);
    }
    let mut turns = 0;
    rig.until("received", |events| {
        turns += 1;
        events.len() == 1000
    });
    // At worst each receive comes after one that failed.
    assert!(rig.engine.ring.taken <= 2 * 1000, "{} in {turns} turns", rig.engine.ring.taken);
}

#[test]
fn a_ring_is_dropped_with_nothing_in_flight() {
    let mut rig = Rig::<Ring>::new();
    let pairs: Vec<_> = (0..10).map(|_| rig.pair()).collect();
    rig.listen();
    for (conn, _) in &pairs {
        rig.engine.fill(*conn, vec![BytesMut::zeroed(100_000)]);
        rig.send(*conn, &[0; 4 << 20]);
    }
    rig.linger();
    assert!(rig.engine.ring.in_flight() > 20);
    drop(rig);
    assert_eq!(LEFT.get(), 0);
}

#[test]
fn buffers_stay_while_the_kernel_fills_them_even_if_sending_fails() {
    let mut rig = Rig::<Ring>::new();
    let (ours, mut peer) = sockets();
    let handle = ours.try_clone().unwrap();
    let conn = rig.engine.attach(ours).unwrap();
    let mut part = BytesMut::zeroed(100_000);
    let mut watch = part.split_off(90_000);
    watch.clear();
    rig.engine.fill(conn, vec![part]);
    rig.linger();
    let watch = std::rc::Rc::new(std::cell::RefCell::new(watch));
    let shared = std::rc::Rc::clone(&watch);
    rig.react(move |_, event| {
        assert!(matches!(event, Event::Ended(..)));
        assert!(!shared.borrow_mut().try_reclaim(100_000), "the kernel still has it");
    });
    handle.shutdown(std::net::Shutdown::Write).unwrap();
    rig.send(conn, b"x");
    rig.until("ended", |events| events.len() == 1);
    let _ = peer.write(&[1; 500]);
    rig.linger();
    assert!(watch.borrow_mut().try_reclaim(100_000), "it is dropped in the end");
    assert_eq!(rig.log.events.len(), 1);
}

#[test]
fn sockets_that_nobody_was_told_of_are_closed_with_the_engine() {
    let mut rig = Rig::<Ring>::new();
    let (_, address) = rig.listen();
    rig.linger();
    let mut peer = TcpStream::connect(address).unwrap();
    rig.engine.ring.wait(Some(LONG)).unwrap();
    assert_eq!(rig.engine.ring.completions(), 1, "it is accepted");
    drop(rig);
    peer.set_read_timeout(Some(LONG)).unwrap();
    assert_eq!(peer.read(&mut [0]).unwrap(), 0);
}

#[test]
fn a_little_to_fill_costs_no_operation() {
    let mut rig = Rig::<Ring>::new();
    let (conn, mut peer) = rig.pair();
    rig.linger();
    let before = rig.engine.ring.taken;
    for n in 1..=20 {
        rig.engine.fill(conn, vec![BytesMut::zeroed(4096)]);
        rig.turn(Wait::No);
        peer.write_all(&pattern(4096)).unwrap();
        rig.until("filled", |events| events.len() == n);
    }
    assert!(rig.engine.ring.taken - before <= 20 * 2, "a segment may come in two");
}

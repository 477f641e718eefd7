//! Receiving straight into buffers.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::Write;
use std::net::Shutdown;
use std::rc::Rc;

use bytes::BytesMut;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::{Event, Kind, Rig, ends, for_every_engine, pattern, received};
use crate::{ConnId, End, Engine};

for_every_engine! {
    buffers_are_filled_and_what_follows_is_received,
    buffers_may_be_asked_for_at_any_time,
    buffers_asked_for_twice_are_filled_one_after_the_other,
    several_buffers_full_at_once_are_all_told,
    more_buffers_than_one_receive_takes_are_filled,
    buffers_that_do_not_fill_are_dropped,
    empty_buffers_are_dropped,
    a_stream_is_the_same_in_any_segmentation,
    large_payload_in_many_pieces_is_whole,
}

fn buffers(lengths: &[usize]) -> Vec<BytesMut> {
    lengths.iter().map(|length| BytesMut::zeroed(*length)).collect()
}

/// What a watched buffer has together with what watches it.
const WATCHED: usize = 1000;

/// A buffer, and what can have its memory once it is dropped.
fn watched() -> (BytesMut, BytesMut) {
    let mut all = BytesMut::zeroed(WATCHED);
    let buffer = all.split_to(10);
    all.clear();
    (buffer, all)
}

fn filled(events: &[Event], conn: ConnId) -> Vec<Vec<u8>> {
    let groups = events.iter().filter_map(|event| match event {
        Event::Filled(of, parts) if *of == conn => Some(parts.concat()),
        _ => None,
    });
    groups.collect()
}

fn buffers_are_filled_and_what_follows_is_received<K: Kind>() {
    let mut rig = Rig::<K>::new();
    let (conn, mut peer) = rig.pair();
    let bytes = pattern(100_000);
    rig.engine.fill(conn, buffers(&[10, 0, 70_000]));
    peer.write_all(&bytes).unwrap();
    assert!(rig.until_received(conn, 100_000 - 70_010) == bytes[70_010..]);
    assert!(filled(&rig.log.events, conn) == [&bytes[..70_010]]);
    let order = |event: &Event| matches!(event, Event::Filled(..));
    assert!(order(&rig.log.events[0]), "in order");
}

fn buffers_may_be_asked_for_at_any_time<K: Kind>() {
    let mut rig = Rig::<K>::new();
    let (conn, mut peer) = rig.pair();
    let (mut plain, mut direct) = (0, 0);
    for round in 0..100usize {
        // Now it receives in one way, now in the other, now it has been silent.
        if round % 7 == 0 {
            rig.linger();
        }
        if round % 3 != 0 {
            peer.write_all(&[1; 30]).unwrap();
            plain += 30;
            assert_eq!(rig.until_received(conn, plain).len(), plain);
        }
        if round % 20 < 4 {
            rig.engine.fill(conn, buffers(&[5000, 1]));
            if round % 2 == 0 {
                rig.turn(crate::Wait::No);
            }
            peer.write_all(&[2; 5001]).unwrap();
            direct += 1;
            rig.until("filled", |events| filled(events, conn).len() == direct);
        }
    }
    assert!(rig.received(conn).iter().all(|byte| *byte == 1));
    assert!(filled(&rig.log.events, conn).concat().iter().all(|byte| *byte == 2));
}

fn buffers_asked_for_twice_are_filled_one_after_the_other<K: Kind>() {
    let mut rig = Rig::<K>::new();
    let (conn, mut peer) = rig.pair();
    let bytes = pattern(50_000);
    rig.engine.fill(conn, buffers(&[10_000]));
    peer.write_all(&bytes[..5000]).unwrap();
    rig.linger();
    rig.engine.fill(conn, buffers(&[1, 19_999]));
    rig.linger();
    rig.engine.fill(conn, buffers(&[5]));
    peer.write_all(&bytes[5000..]).unwrap();
    assert!(rig.until_received(conn, 50_000 - 30_005) == bytes[30_005..]);
    let groups = filled(&rig.log.events, conn);
    assert!(groups == [&bytes[..10_000], &bytes[10_000..30_000], &bytes[30_000..30_005]]);
}

fn several_buffers_full_at_once_are_all_told<K: Kind>() {
    let mut rig = Rig::<K>::new();
    let (conn, mut peer) = rig.pair();
    // The first word is filled; then three more groups are wanted of what came along with it.
    rig.engine.fill(conn, buffers(&[1]));
    rig.react(move |engine, event| match event {
        Event::Filled(conn, parts) if parts.concat().len() == 1 => {
            engine.fill(*conn, buffers(&[10]));
            engine.fill(*conn, buffers(&[5, 5]));
            engine.fill(*conn, buffers(&[3]));
        }
        _ => {}
    });
    let bytes = pattern(24);
    peer.write_all(&bytes).unwrap();
    rig.until("filled", |events| filled(events, conn).len() == 4);
    let groups = filled(&rig.log.events, conn);
    assert!(groups == [&bytes[..1], &bytes[1..11], &bytes[11..21], &bytes[21..]]);
    assert_eq!(rig.received(conn), []);
}

fn more_buffers_than_one_receive_takes_are_filled<K: Kind>() {
    let mut rig = Rig::<K>::new();
    let (conn, mut peer) = rig.pair();
    let bytes = pattern(3000 * 11 + 100);
    rig.engine.fill(conn, buffers(&[11; 3000]));
    rig.linger();
    peer.write_all(&bytes).unwrap();
    assert!(rig.until_received(conn, 100) == bytes[33_000..]);
    assert!(filled(&rig.log.events, conn) == [&bytes[..33_000]]);
}

fn buffers_that_do_not_fill_are_dropped<K: Kind>() {
    let mut rig = Rig::<K>::new();
    let (conn, mut peer) = rig.pair();
    let (half, mut half_watch) = watched();
    let (late, mut late_watch) = watched();
    rig.engine.fill(conn, buffers(&[10]));
    rig.engine.fill(conn, vec![half]);
    peer.write_all(&[7; 15]).unwrap();
    peer.shutdown(Shutdown::Write).unwrap();
    rig.until("ended", |events| ends(events, conn) == 1);
    assert_eq!(filled(&rig.log.events, conn), [[7; 10]]);
    assert!(matches!(rig.log.events.last(), Some(Event::Ended(_, End::Closed))));
    assert!(half_watch.try_reclaim(WATCHED), "it was not dropped");
    rig.engine.fill(conn, vec![late]);
    assert!(late_watch.try_reclaim(WATCHED), "it was not dropped");
    rig.linger();
    assert_eq!(rig.log.events.len(), 2);
}

fn empty_buffers_are_dropped<K: Kind>() {
    let mut rig = Rig::<K>::new();
    let (conn, mut peer) = rig.pair();
    rig.engine.fill(conn, Vec::new());
    rig.engine.fill(conn, buffers(&[0, 0]));
    peer.write_all(b"abc").unwrap();
    assert_eq!(rig.until_received(conn, 3), b"abc");
    assert_eq!(filled(&rig.log.events, conn).len(), 0);
}

/// A stretch of a stream: bytes that are received, then bytes for buffers of some lengths.
type Stretch = (usize, Vec<usize>);

/// What a handler that knows the stream does with it, and what it has got.
struct Model {
    stretches: VecDeque<Stretch>,
    /// Bytes to come before buffers are asked for.
    plain: usize,
    /// Buffers asked for in advance are asked for in one go with those before.
    got: Vec<u8>,
}

impl Model {
    /// Asks for buffers when their bytes are next.
    fn go_on<E: Engine>(&mut self, engine: &mut E, conn: ConnId) {
        while self.plain == 0
            && let Some((plain, lengths)) = self.stretches.pop_front()
        {
            // A stretch is asked for, and the next bytes are those behind it.
            engine.fill(conn, buffers(&lengths));
            self.plain = plain;
        }
    }
}

/// Sends a stream in pieces, and takes some of it by buffers.
fn stream<K: Kind>(rig: &mut Rig<K>, stretches: &[Stretch], cuts: &[usize]) {
    let length = stretches.iter().map(|(plain, lengths)| plain + lengths.iter().sum::<usize>());
    let bytes = pattern(1 + length.sum::<usize>());
    let (conn, mut peer) = rig.pair();
    let mut model =
        Model { stretches: stretches.iter().cloned().collect(), plain: 1, got: Vec::new() };
    model.go_on(&mut rig.engine, conn);
    let model = Rc::new(RefCell::new(model));
    let shared = Rc::clone(&model);
    rig.react(move |engine, event| {
        let mut model = shared.borrow_mut();
        match event {
            Event::Received(conn, bytes) => {
                // It takes what is plain and copies what it should have asked for: a handler sees
                // a header only when it has come, with more behind it.
                let mut bytes = &bytes[..];
                while !bytes.is_empty() {
                    if model.plain == 0 {
                        let Some((plain, mut lengths)) = model.stretches.pop_front() else {
                            panic!("more than was sent");
                        };
                        let n = bytes.len().min(lengths.iter().sum());
                        model.got.extend_from_slice(&bytes[..n]);
                        bytes = &bytes[n..];
                        let mut skip = n;
                        for length in &mut lengths {
                            let less = skip.min(*length);
                            *length -= less;
                            skip -= less;
                        }
                        model.plain = plain;
                        engine.fill(*conn, buffers(&lengths));
                    } else {
                        let n = bytes.len().min(model.plain);
                        model.got.extend_from_slice(&bytes[..n]);
                        model.plain -= n;
                        bytes = &bytes[n..];
                    }
                }
                model.go_on(engine, *conn);
            }
            Event::Filled(conn, parts) => {
                model.got.extend_from_slice(&parts.concat());
                model.go_on(engine, *conn);
            }
            _ => {}
        }
    });
    let mut at = 0;
    for cut in cuts.iter().cycle() {
        let end = bytes.len().min(at + cut);
        peer.write_all(&bytes[at..end]).unwrap();
        rig.turn(crate::Wait::No);
        at = end;
        if at == bytes.len() {
            break;
        }
    }
    rig.until("received", |_| model.borrow().got.len() >= bytes.len());
    assert!(model.borrow().got == bytes, "bytes differ");
    rig.log.reaction = None;
    rig.engine.close(conn);
    rig.log.events.clear();
}

fn a_stream_is_the_same_in_any_segmentation<K: Kind>() {
    // One engine for all: what a connection left behind would disturb the next.
    let rig = RefCell::new(Rig::<K>::new());
    let length = prop_oneof![0usize..10, 0usize..3000, 30_000usize..140_000];
    let stretch = (prop_oneof![0usize..40, 0usize..9000], prop::collection::vec(length, 1..4));
    let cut = prop_oneof![1usize..40, 1usize..5000, 1usize..200_000];
    let stretches = prop::collection::vec(stretch, 1..12);
    let config = Config { cases: 60, failure_persistence: None, ..Config::default() };
    TestRunner::new(config)
        .run(&(stretches, prop::collection::vec(cut, 1..6)), |(stretches, mut cuts)| {
            let total: usize =
                stretches.iter().map(|(n, more)| n + more.iter().sum::<usize>()).sum();
            // Not more than so many pieces, for the test to end.
            let least = total / 2000;
            cuts.iter_mut().for_each(|cut| *cut = (*cut).max(least));
            stream(&mut rig.borrow_mut(), &stretches, &cuts);
            Ok(())
        })
        .unwrap();
}

fn large_payload_in_many_pieces_is_whole<K: Kind>() {
    let mut rig = Rig::<K>::new();
    let (conn, mut peer) = rig.pair();
    let header = [9; 24];
    let payload = pattern(1 << 20);
    let writer = {
        let payload = payload.clone();
        std::thread::spawn(move || {
            for _ in 0..20 {
                peer.write_all(&header).unwrap();
                payload.chunks(100_001).for_each(|chunk| peer.write_all(chunk).unwrap());
            }
        })
    };
    let early = Rc::new(RefCell::new(Vec::new()));
    let mut seen = 0;
    let shared = Rc::clone(&early);
    rig.react(move |engine, event| {
        if let Event::Received(conn, bytes) = event {
            let mut early = shared.borrow_mut();
            let before = seen;
            seen += bytes.len();
            if seen >= 24 {
                let rest = bytes[24 - before..].to_vec();
                assert!(rest.len() < 1 << 20);
                engine.fill(*conn, buffers(&[(1 << 20) - rest.len()]));
                early.push(rest);
                seen = 0;
            }
        }
    });
    rig.until("filled", |events| filled(events, conn).len() == 20);
    writer.join().unwrap();
    for (early, filled) in early.borrow().iter().zip(filled(&rig.log.events, conn)) {
        assert!([&early[..], &filled[..]].concat() == payload);
    }
    assert!(received(&rig.log.events, conn).len() >= 20 * 24);
}

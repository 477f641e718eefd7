//! Waiting, waking, and doing nothing.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::{Event, Kind, LONG, Rig, for_every_engine};
use crate::{Engine, Mailbox, Wait};

for_every_engine! {
    a_waker_is_heard_from_other_threads,
    no_wake_up_is_lost,
    a_wake_up_before_the_wait_is_not_lost,
    nobody_is_woken_without_a_waker,
    a_deadline_is_kept,
    a_deadline_that_is_over_does_not_wait,
    an_engine_without_work_uses_no_cpu,
    a_turn_that_does_not_wait_returns_at_once,
    what_happens_ends_a_wait,
}

fn woken(events: &[Event]) -> usize {
    events.iter().filter(|event| matches!(event, Event::Woken)).count()
}

fn a_waker_is_heard_from_other_threads<K: Kind>() {
    let mut rig = Rig::<K>::new();
    for n in 1..20 {
        let waker = rig.engine.waker();
        let before = Instant::now();
        let thread = thread::spawn(move || {
            thread::sleep(Duration::from_millis(2));
            waker.wake();
        });
        while woken(&rig.log.events) < n {
            rig.turn(Wait::Until(None));
        }
        assert!(before.elapsed() >= Duration::from_millis(2));
        thread.join().unwrap();
    }
    rig.linger();
    assert_eq!(woken(&rig.log.events), 19);
}

fn no_wake_up_is_lost<K: Kind>() {
    let mut rig = Rig::<K>::new();
    let mailbox = Mailbox::new(rig.engine.waker());
    let posted: u64 = 60_000;
    let seen = Arc::new(AtomicU64::new(0));
    let threads: Vec<_> = (0..3u64)
        .map(|thread| {
            let (sender, seen) = (mailbox.sender(), Arc::clone(&seen));
            thread::spawn(move || {
                for n in 0..posted / 3 {
                    sender.post((thread, n)).unwrap();
                    // Now many at a time, now each alone: then all that was posted is seen, or the
                    // engine sleeps over it.
                    if n % 64 == 0 {
                        let before = Instant::now();
                        while seen.load(Ordering::Acquire) < n {
                            assert!(before.elapsed() < LONG, "nobody woke up");
                            thread::yield_now();
                        }
                    }
                }
            })
        })
        .collect();
    let mut next = [0u64; 3];
    let mut total = 0;
    while total < posted {
        let before = Instant::now();
        rig.turn(Wait::Until(Some(before + LONG)));
        assert!(before.elapsed() < LONG, "slept over a wake-up after {total}");
        if woken(&rig.log.events) == 0 {
            continue;
        }
        rig.log.events.clear();
        while let Some((thread, n)) = mailbox.take() {
            let next = &mut next[usize::try_from(thread).unwrap()];
            assert_eq!(n, *next);
            *next += 1;
            total += 1;
        }
        seen.store(next.into_iter().min().unwrap(), Ordering::Release);
        if next.into_iter().any(|next| next == posted / 3) {
            // Who waits for one that is done would wait for ever.
            seen.store(u64::MAX, Ordering::Release);
        }
    }
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

fn a_wake_up_before_the_wait_is_not_lost<K: Kind>() {
    let mut rig = Rig::<K>::new();
    for n in 1..1000 {
        rig.engine.waker().wake();
        while woken(&rig.log.events) < n {
            assert!(rig.turn(Wait::Until(Some(Instant::now() + LONG))));
        }
    }
}

fn nobody_is_woken_without_a_waker<K: Kind>() {
    let mut rig = Rig::<K>::new();
    let waker = rig.engine.waker();
    rig.linger();
    waker.wake();
    rig.linger();
    rig.linger();
    assert_eq!(rig.log.events.len(), 1);
}

fn a_deadline_is_kept<K: Kind>() {
    let mut rig = Rig::<K>::new();
    let (_conn, _peer) = rig.pair();
    rig.turn(Wait::No);
    for us in [50, 500, 3000, 20_000] {
        let mut best = Duration::MAX;
        for _ in 0..20 {
            let deadline = Instant::now() + Duration::from_micros(us);
            assert!(!rig.turn(Wait::Until(Some(deadline))));
            let now = Instant::now();
            assert!(now >= deadline, "{:?} early", deadline - now);
            best = best.min(now - deadline);
        }
        // The machine may be busy, but not each time.
        assert!(best < Duration::from_millis(2), "{us} µs: {best:?} late");
    }
    assert!(rig.log.events.is_empty());
}

fn a_deadline_that_is_over_does_not_wait<K: Kind>() {
    let mut rig = Rig::<K>::new();
    let past = Instant::now();
    let before = Instant::now();
    (0..100).for_each(|_| assert!(!rig.turn(Wait::Until(Some(past)))));
    assert!(before.elapsed() < Duration::from_secs(1));
}

fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap()
}

fn an_engine_without_work_uses_no_cpu<K: Kind>() {
    let mut rig = Rig::<K>::new();
    let (conn, mut peer) = rig.pair();
    let (busy, _other) = rig.pair();
    rig.listen();
    peer.write_all(b"x").unwrap();
    rig.until_received(conn, 1);
    // What waits for the peer is no work.
    rig.engine.fill(conn, vec![bytes::BytesMut::zeroed(1000)]);
    rig.send(busy, &vec![0; 20 << 20]);
    rig.linger();
    let (before, end) = (cpu_time(), Instant::now() + Duration::from_millis(300));
    while Instant::now() < end {
        rig.turn(Wait::Until(Some(end)));
    }
    let used = cpu_time() - before;
    assert!(used < Duration::from_millis(5), "{used:?}");
}

fn a_turn_that_does_not_wait_returns_at_once<K: Kind>() {
    let mut rig = Rig::<K>::new();
    let (_conn, _peer) = rig.pair();
    rig.linger();
    let before = Instant::now();
    (0..1000).for_each(|_| assert!(!rig.turn(Wait::No)));
    assert!(before.elapsed() < Duration::from_secs(1));
}

fn what_happens_ends_a_wait<K: Kind>() {
    let mut rig = Rig::<K>::new();
    let (conn, mut peer) = rig.pair();
    let stop = Arc::new(AtomicBool::new(false));
    let thread = {
        let stop = Arc::clone(&stop);
        thread::spawn(move || {
            let mut n = 0usize;
            while !stop.load(Ordering::Relaxed) {
                peer.write_all(b"x").unwrap();
                n += 1;
                thread::sleep(Duration::from_micros(n as u64 % 300));
            }
            n
        })
    };
    let end = Instant::now() + Duration::from_millis(300);
    while Instant::now() < end {
        assert!(rig.turn(Wait::Until(Some(Instant::now() + LONG))) || !rig.log.events.is_empty());
    }
    stop.store(true, Ordering::Relaxed);
    let n = thread.join().unwrap();
    assert_eq!(rig.until_received(conn, n).len(), n);
}

//! Operations as futures: many at once, dropped, and late though nobody polls them.

use std::pin::pin;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use nvmf_host::{AsyncNamespace, Event, IoError, IoOptions, Namespace, PathState};
use nvmf_storage::{BlockSize, Fault, Faulty, Geometry, Memory, Operation};
use tokio::task::JoinSet;

use crate::proxy::Proxy;
use crate::target::{NSID, Running, by, pattern, wait_until};

pub(crate) fn run<F: Future>(future: F) -> F::Output {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).enable_time().build().unwrap().block_on(future)
}

/// A namespace with this fault; the disk is told what is done to it.
pub(crate) fn faulty(fault: Fault) -> (Running, Arc<Faulty<Memory>>) {
    let geometry = Geometry::new(BlockSize::new(4096).unwrap(), 256).unwrap();
    let disk = Arc::new(Faulty::new(Memory::new(geometry).unwrap()));
    disk.inject(fault);
    let served = Arc::clone(&disk);
    (Running::start_with(1, |subsystem| subsystem.namespace(NSID, served)), disk)
}

fn slow(operation: Operation, delay: u64) -> Fault {
    Fault::on(operation).delayed(Duration::from_millis(delay))
}

fn polled<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// A namespace without a path, as its only one was shut.
fn cut_off(target: &Running) -> (Proxy, Namespace) {
    let proxy = Proxy::start(target.addresses[0]);
    let disk = by(&[proxy.address]).connect().unwrap();
    proxy.shut(true);
    wait_until("the path to be lost", || disk.paths()[0].state == PathState::Connecting);
    (proxy, disk)
}

#[track_caller]
fn nothing_was_lost(events: &Receiver<Event>) {
    for event in events.try_iter() {
        assert!(!matches!(event, Event::Lost { .. }), "{event}");
    }
}

#[test]
fn tasks_share_a_namespace() {
    async fn work(disk: AsyncNamespace, number: u64) {
        // Neighbours share blocks.
        for round in 0..10 {
            let offset = round * 100_000 + number * 999;
            let data = pattern(number << 32 | round, 999);
            disk.write_at(&data, offset).await.unwrap();
            assert!(disk.read_bytes_at(offset, 999).await.unwrap() == data);
        }
    }
    let target = Running::start("mem:4M", 2);
    let disk = target.namespace().asynchronous();
    run(async {
        let mut tasks = JoinSet::new();
        for number in 0..100 {
            tasks.spawn(work(disk.clone(), number));
        }
        while let Some(task) = tasks.join_next().await {
            task.unwrap();
        }
        for (number, round) in (0..100).flat_map(|n: u64| (0..10).map(move |r: u64| (n, r))) {
            let data = disk.read_bytes_at(round * 100_000 + number * 999, 999).await.unwrap();
            assert!(data == pattern(number << 32 | round, 999), "task {number}, round {round}");
        }
        disk.flush().await.unwrap();
    });
}

#[test]
fn everything_is_there_as_a_future() {
    use std::io::{IoSlice, IoSliceMut};
    let target = Running::start("mem:1M", 1);
    let disk = target.namespace().asynchronous();
    run(async {
        let durable = IoOptions::new().force_unit_access();
        disk.write_bytes_with(pattern(1, 8192).into(), 0, durable).await.unwrap();
        disk.write_vectored_at(&[IoSlice::new(b"ab"), IoSlice::new(b"c")], 1).await.unwrap();
        let (mut first, mut second) = ([0; 1], [0; 2]);
        let pieces = &mut [IoSliceMut::new(&mut first), IoSliceMut::new(&mut second)];
        disk.read_vectored_at(pieces, 1).await.unwrap();
        assert_eq!((first, second), (*b"a", *b"bc"));
        disk.write_zeroes(4096, 4096, true).await.unwrap();
        disk.compare(vec![0; 4096].into(), 4096).await.unwrap();
        let mismatch = disk.compare(vec![1; 4096].into(), 4096).await.unwrap_err();
        assert!(matches!(mismatch, IoError::Mismatch { .. }), "{mismatch}");
        disk.discard(0, 4096).await.unwrap();
        assert!(disk.read_bytes_at(0, 8192).await.unwrap() == vec![0; 8192]);
    });
}

#[test]
fn a_read_that_is_dropped_leaves_its_path_to_the_others() {
    let (target, _) = faulty(slow(Operation::Read, 1500));
    let disk = target.namespace();
    let events = disk.events();
    let asynchronous = disk.asynchronous();
    run(async {
        for _ in 0..3 {
            let read = asynchronous.read_bytes_at(0, 4096);
            assert!(tokio::time::timeout(Duration::from_millis(20), read).await.is_err());
        }
        let start = Instant::now();
        asynchronous.write_at(&pattern(1, 4096), 0).await.unwrap();
        assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
        // Longer than a command that was aborted may take.
        tokio::time::sleep(Duration::from_millis(1300)).await;
    });
    nothing_was_lost(&events);
    wait_until("all to be over", || disk.paths()[0].outstanding == 0);
}

#[test]
fn a_deadline_holds_though_nobody_polls() {
    let (target, _) = faulty(slow(Operation::Read, 3000));
    let disk = target.namespace().asynchronous();
    let (_proxy, alone) = cut_off(&target);
    let alone = alone.asynchronous();
    let soon = IoOptions::new().deadline(Duration::from_millis(100));
    let mut under_way = pin!(disk.read_bytes_with(0, 4096, soon));
    let mut waiting = pin!(alone.read_bytes_with(0, 4096, soon));
    assert!(polled(under_way.as_mut()).is_pending());
    assert!(polled(waiting.as_mut()).is_pending());
    thread::sleep(Duration::from_millis(600));
    for result in [polled(under_way), polled(waiting)] {
        assert!(matches!(result, Poll::Ready(Err(IoError::TimedOut { .. }))), "{result:?}");
    }
}

#[test]
fn a_deadline_wakes_the_task_that_waits() {
    let target = Running::start("mem:1M", 1);
    let (_proxy, disk) = cut_off(&target);
    let disk = disk.asynchronous();
    let soon = IoOptions::new().deadline(Duration::from_millis(100));
    let start = Instant::now();
    let result = run(disk.write_bytes_with(vec![1; 10].into(), 5, soon));
    assert!(matches!(result, Err(IoError::TimedOut { .. })), "{result:?}");
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
}

#[test]
fn a_deadline_holds_while_another_write_has_the_block() {
    let target = Running::start("mem:1M", 1);
    let (_proxy, disk) = cut_off(&target);
    let asynchronous = disk.asynchronous();
    let mut first = pin!(asynchronous.write_at(&[1], 5));
    assert!(polled(first.as_mut()).is_pending());
    let soon = IoOptions::new().deadline(Duration::from_millis(100));
    let start = Instant::now();
    for length in [1, 4096] {
        let error = disk.write_bytes_with(vec![2; length].into(), 0, soon).unwrap_err();
        assert!(matches!(error, IoError::TimedOut { .. }), "{error}");
    }
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
}

#[test]
fn a_deadline_holds_for_a_command_that_waits_for_room_on_a_queue() {
    let (target, _) = faulty(slow(Operation::Read, 1500));
    let one = std::num::NonZeroU16::MIN;
    let disk = by(&target.addresses).queues(one).queue_depth(1).connect().unwrap();
    let asynchronous = disk.asynchronous();
    let mut first = pin!(asynchronous.read_bytes_at(0, 4096));
    assert!(polled(first.as_mut()).is_pending());
    let soon = IoOptions::new().deadline(Duration::from_millis(100));
    let start = Instant::now();
    let error = disk.write_bytes_with(vec![1; 4096].into(), 0, soon).unwrap_err();
    assert!(matches!(error, IoError::TimedOut { .. }), "{error}");
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    run(first).unwrap();
}

#[test]
fn a_write_that_was_dropped_is_not_done_after_the_next() {
    let (target, _) = faulty(slow(Operation::Write, 400).times(1));
    let disk = target.namespace().asynchronous();
    let (old, new) = (pattern(1, 4096), pattern(2, 4096));
    run(async {
        let write = disk.write_at(&old, 0);
        assert!(tokio::time::timeout(Duration::from_millis(50), write).await.is_err());
        // Not in the way of others.
        let start = Instant::now();
        disk.write_at(&new, 4096).await.unwrap();
        assert!(start.elapsed() < Duration::from_millis(300), "{:?}", start.elapsed());
        disk.write_at(&new, 0).await.unwrap();
        tokio::time::sleep(Duration::from_millis(600)).await;
        assert!(disk.read_bytes_at(0, 4096).await.unwrap() == new);
    });
}

#[test]
fn each_write_that_is_given_up_has_time_to_end() {
    let (target, _) = faulty(slow(Operation::Write, 700));
    let disk = target.namespace();
    let events = disk.events();
    let asynchronous = disk.asynchronous();
    run(async {
        let give_up = |block: u64| {
            let disk = asynchronous.clone();
            async move {
                let write = disk.write_at(&[1; 4096], block * 4096);
                assert!(tokio::time::timeout(Duration::from_millis(50), write).await.is_err());
            }
        };
        give_up(0).await;
        tokio::time::sleep(Duration::from_millis(750)).await;
        give_up(1).await;
        tokio::time::sleep(Duration::from_millis(800)).await;
    });
    nothing_was_lost(&events);
}

#[test]
fn closing_waits_for_nothing_that_was_given_up() {
    let target = Running::start("mem:1M", 1);
    for _ in 0..20 {
        let disk = by(&target.addresses).keep_alive(Duration::ZERO).connect().unwrap();
        let asynchronous = disk.asynchronous();
        for block in 0..4 {
            assert!(polled(pin!(asynchronous.read_bytes_at(block * 4096, 4096))).is_pending());
        }
        drop(asynchronous);
        let start = Instant::now();
        disk.close();
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    }
}

//! A namespace as a stream of tokio's.

use std::io::{self, SeekFrom};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use nvmf_host::AsyncCursor;
use nvmf_storage::{Failure, Fault, Operation};
use tokio::io::{
    AsyncRead, AsyncReadExt, AsyncSeek, AsyncSeekExt, AsyncWriteExt, BufReader, ReadBuf, copy,
    copy_buf,
};
use tokio::time::timeout;

use crate::asynchronous::{faulty, run};
use crate::proxy::Proxy;
use crate::target::{Running, by, pattern};

const SOON: Duration = Duration::from_millis(50);

fn slow(operation: Operation, delay: u64) -> (Running, AsyncCursor) {
    let (target, _) = faulty(Fault::on(operation).delayed(Duration::from_millis(delay)));
    let cursor = target.namespace().asynchronous().cursor();
    (target, cursor)
}

/// What runtimes want of what their tasks have.
const _: () = {
    const fn is_fit_for_tasks<T: Send + Sync + Unpin>() {}
    is_fit_for_tasks::<AsyncCursor>();
};

#[test]
fn a_cursor_is_a_file_of_the_namespaces_size() {
    let target = Running::start("mem:1M,bs=512", 1);
    let mut cursor = target.namespace().asynchronous().cursor();
    let data = pattern(1, 100_001);
    run(async {
        assert_eq!(cursor.seek(SeekFrom::Start(7)).await.unwrap(), 7);
        cursor.write_all(&data).await.unwrap();
        cursor.flush().await.unwrap();
        assert_eq!(cursor.stream_position().await.unwrap(), 100_008);
        cursor.seek(SeekFrom::Current(-100_001)).await.unwrap();
        let mut again = vec![0; data.len()];
        cursor.read_exact(&mut again).await.unwrap();
        assert!(again == data);
        let error = cursor.seek(SeekFrom::Current(-200_000)).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert_eq!(cursor.stream_position().await.unwrap(), 100_008);
        assert_eq!(cursor.seek(SeekFrom::End(-1)).await.unwrap(), (1 << 20) - 1);
        assert_eq!(cursor.read(&mut [0; 8]).await.unwrap(), 1);
        assert_eq!(cursor.read(&mut [0; 8]).await.unwrap(), 0);
        let error = cursor.write_all(&[0; 8]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WriteZero);
        assert_eq!(cursor.seek(SeekFrom::Start(u64::MAX)).await.unwrap(), u64::MAX);
        assert_eq!(cursor.read(&mut [0; 8]).await.unwrap(), 0);
    });
}

#[test]
fn a_cursor_needs_no_runtime() {
    let target = Running::start("mem:1M", 1);
    let mut cursor = target.namespace().asynchronous().cursor();
    let data = pattern(6, 9000);
    let mut work = std::pin::pin!(async {
        cursor.seek(SeekFrom::Start(1000)).await?;
        cursor.write_all(&data).await?;
        cursor.seek(SeekFrom::Start(1000)).await?;
        let mut again = vec![0; data.len()];
        cursor.read_exact(&mut again).await?;
        io::Result::Ok(again)
    });
    loop {
        if let Poll::Ready(again) = work.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            assert!(again.unwrap() == data);
            return;
        }
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn what_is_copied_is_whole_though_paths_are_cut() {
    let target = Running::start("mem:12M", 2);
    let proxies: Vec<_> = target.addresses.iter().map(|to| Proxy::start(*to)).collect();
    let addresses: Vec<_> = proxies.iter().map(|proxy| proxy.address).collect();
    let disk = by(&addresses).connect().unwrap().asynchronous();
    let data = pattern(2, 12 << 20);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0.. {
                if over.load(Ordering::SeqCst) {
                    return;
                }
                thread::sleep(Duration::from_millis(30));
                proxies[round % 2].cut_in_order();
            }
        });
        let copied = run(async {
            let mut from = BufReader::with_capacity(300_001, &data[..]);
            copy_buf(&mut from, &mut disk.cursor()).await?;
            let mut from = BufReader::with_capacity(500_001, disk.cursor());
            let mut all = Vec::new();
            copy_buf(&mut from, &mut all).await?;
            // A little at a time, too.
            let mut first = Vec::new();
            copy(&mut disk.cursor().take(100_000), &mut first).await?;
            io::Result::Ok((all, first))
        });
        over.store(true, Ordering::SeqCst);
        let (all, first) = copied.unwrap();
        assert!(all == data && first == data[..100_000]);
    });
}

#[test]
fn a_seek_is_refused_while_a_read_is_pending_until_it_is_given_up() {
    let (_target, mut cursor) = slow(Operation::Read, 1000);
    let mut context = Context::from_waker(Waker::noop());
    let mut bytes = [0; 10];
    let mut pin = Pin::new(&mut cursor);
    assert!(pin.as_mut().poll_read(&mut context, &mut ReadBuf::new(&mut bytes)).is_pending());
    let error = pin.as_mut().start_seek(SeekFrom::Start(5)).unwrap_err();
    assert!(error.to_string().contains("poll_complete"), "{error}");
    assert!(matches!(pin.as_mut().poll_complete(&mut context), Poll::Ready(Ok(0))));
    pin.as_mut().start_seek(SeekFrom::Start(5)).unwrap();
    assert!(matches!(pin.poll_complete(&mut context), Poll::Ready(Ok(5))));
}

#[test]
fn a_read_that_is_dropped_is_done_again_from_where_it_was() {
    let (_target, mut cursor) = slow(Operation::Read, 300);
    let data = pattern(3, 20_000);
    run(async {
        cursor.write_all(&data[..8192]).await.unwrap();
        cursor.write_all(&data[8192..16384]).await.unwrap();
        cursor.rewind().await.unwrap();
        assert!(timeout(SOON, cursor.read(&mut [0; 8192])).await.is_err());
        let mut less = [0; 100];
        cursor.read_exact(&mut less).await.unwrap();
        assert!(less == data[..100]);
        let mut more = [0; 300];
        cursor.read_exact(&mut more).await.unwrap();
        assert!(more == data[100..400]);
    });
}

#[test]
fn a_write_that_is_dropped_gives_way_to_the_next() {
    let (target, disk) =
        faulty(Fault::on(Operation::Write).delayed(Duration::from_millis(300)).times(1));
    let mut cursor = target.namespace().asynchronous().cursor();
    let (old, new) = (pattern(4, 6000), pattern(5, 5000));
    run(async {
        assert!(timeout(SOON, cursor.write(&old)).await.is_err());
        cursor.write_all(&new).await.unwrap();
        assert_eq!(cursor.stream_position().await.unwrap(), 5000);
        tokio::time::sleep(Duration::from_millis(400)).await;
        cursor.rewind().await.unwrap();
        let mut again = vec![0; 5000];
        cursor.read_exact(&mut again).await.unwrap();
        assert!(again == new);
    });
    assert_eq!(disk.count(Operation::Write), 2);
}

#[test]
fn a_write_that_nobody_polls_keeps_its_block_from_nobody() {
    let (_target, mut cursor) = slow(Operation::Read, 200);
    let disk = cursor.namespace().clone();
    run(async {
        // It has to read its block before, and is dropped then; the cursor is not polled any more.
        assert!(timeout(SOON, cursor.write(&[1; 10])).await.is_err());
        timeout(Duration::from_secs(2), disk.write_at(&[2; 10], 100)).await.unwrap().unwrap();
    });
}

#[test]
fn flush_and_shutdown_are_flush_commands_and_say_what_failed() {
    let (target, disk) = faulty(Fault::on(Operation::Flush).after(2).failing(Failure::Io));
    let mut cursor = target.namespace().asynchronous().cursor();
    run(async {
        cursor.write_all(&[1; 4096]).await.unwrap();
        assert_eq!(disk.count(Operation::Flush), 0);
        cursor.flush().await.unwrap();
        assert_eq!(disk.count(Operation::Flush), 1);
        cursor.shutdown().await.unwrap();
        assert_eq!(disk.count(Operation::Flush), 2);
        let error = cursor.flush().await.unwrap_err();
        assert!(error.to_string().starts_with("flush failed"), "{error}");
    });
}

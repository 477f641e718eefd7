//! Driving queues whose controllers behave.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "tests may stop at a surprise")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::{Ask, at, engines, options, pattern, queue, queue_with, room, serve_ram, soon};
use nvmf::proto::tcp::{ControllerConfig, HostConfig};
use nvmf::spec::{Status, opcode, opcode::nvm};
use nvmf_host::{Buffer, CommandError, Handle, Next, Request, run};

/// Every combination of digests, with large limits and with small ones.
fn connections() -> Vec<(HostConfig, ControllerConfig)> {
    let mut all = Vec::new();
    for (header_digest, data_digest) in [(false, false), (true, false), (false, true), (true, true)]
    {
        let host = HostConfig { header_digest, data_digest, ..HostConfig::default() };
        all.push((host, ControllerConfig::default()));
        let host = HostConfig { hpda: 11, r2ts_per_command: 3, in_capsule: 512, ..host };
        let controller = ControllerConfig {
            cpda: 6,
            maxh2cdata: 4096,
            r2t_length: 70_000,
            c2h_data_length: 50_000,
            ..ControllerConfig::default()
        };
        all.push((host, controller));
    }
    all
}

#[test]
fn what_is_written_is_read_whatever_its_length() {
    const LENGTHS: [usize; 12] =
        [1, 512, 4096, 8192, 8193, 16383, 16384, 16385, 65536, 100_001, 1 << 20, (1 << 20) + 5];
    let place = |i: usize| LENGTHS[..i].iter().sum();
    for engine in engines() {
        for (host, controller) in connections() {
            println!("{engine} {host:?} {controller:?}");
            let (queue, controller) = queue_with(host, controller, 1, serve_ram);
            let mut asked = 0;
            let count = LENGTHS.len();
            let mut workload = Ask::new(|_, _, done: &[common::Done]| {
                let i = asked % count;
                if asked == count && done.len() < count {
                    return Next::Later;
                }
                if asked == 2 * count {
                    return Next::Done;
                }
                let (opcode, buffer) = if asked < count {
                    (nvm::WRITE, Buffer::Write(pattern(i, LENGTHS[i]).into()))
                } else {
                    (nvm::READ, room(LENGTHS[i]))
                };
                asked += 1;
                let sqe = at(opcode, place(i));
                Next::Io(Request::new(sqe, buffer).with_token(i.try_into().unwrap()))
            });
            run(vec![queue], &mut workload, &options(engine, 5)).unwrap();
            assert_eq!(workload.done.len(), 2 * count);
            for done in &workload.done {
                let i = usize::try_from(done.token).unwrap();
                done.result.unwrap();
                match &done.buffer {
                    Buffer::Read(bytes) => assert!(*bytes == pattern(i, LENGTHS[i])),
                    Buffer::Write(bytes) => assert_eq!(bytes.len(), LENGTHS[i]),
                    Buffer::None => panic!("the buffer did not come back"),
                }
            }
            controller.join().unwrap();
        }
    }
}

#[test]
fn queues_share_the_depth_and_each_keeps_to_its_share() {
    for engine in engines() {
        let (queues, controllers): (Vec<_>, Vec<_>) =
            (1..=4).map(|qid| queue(qid, serve_ram)).unzip();
        let (mut asked, mut most) = ([0; 4], [0; 4]);
        let mut workload = Ask::new(|queue, _, done: &[common::Done]| {
            if asked[queue] == 2000 {
                return Next::Done;
            }
            asked[queue] += 1;
            let outstanding = asked[queue] - done.iter().filter(|d| d.queue == queue).count();
            most[queue] = outstanding.max(most[queue]);
            Next::Io(Request::new(at(nvm::READ, 0), room(4096)))
        });
        run(queues, &mut workload, &options(engine, 10)).unwrap();
        assert_eq!(workload.done.len(), 8000);
        assert!(workload.done.iter().all(|done| done.result.is_ok()));
        assert_eq!(most, [3, 3, 2, 2]);
        controllers.into_iter().for_each(|controller| controller.join().unwrap());
    }
}

#[test]
fn nothing_is_begun_before_its_time_and_it_is_on_time() {
    for engine in engines() {
        let (queue, controller) = queue(1, serve_ram);
        let due = Instant::now() + Duration::from_millis(50);
        let mut begun = None;
        let workload = Ask::new(|_, now, _: &[common::Done]| {
            if now < due {
                return Next::NotBefore(due);
            }
            if begun.replace(now).is_some() {
                return Next::Done;
            }
            Next::Io(Request::new(at(nvm::READ, 0), room(4096)))
        });
        run(vec![queue], workload, &options(engine, 1)).unwrap();
        assert!(begun.unwrap() >= due);
        controller.join().unwrap();
    }
}

#[test]
fn later_is_over_when_a_handle_is_used_or_a_command_completes() {
    for engine in engines() {
        let (queue_1, first) = queue(1, serve_ram);
        let (queue_2, second) = queue(2, serve_ram);
        let (handle, ready) = (Handle::new(), Arc::new(AtomicBool::new(false)));
        let other = thread::spawn({
            let (handle, ready) = (handle.clone(), Arc::clone(&ready));
            move || {
                thread::sleep(Duration::from_millis(100));
                ready.store(true, Ordering::Release);
                handle.wake();
            }
        });
        let start = Instant::now();
        let mut asked = [0; 2];
        // The first queue waits for the other thread, the second one for the first.
        let mut workload = Ask::new(|queue: usize, _, done: &[common::Done]| {
            if asked[queue] == 1 {
                return Next::Done;
            }
            if queue == 0 && !ready.load(Ordering::Acquire) || queue == 1 && done.is_empty() {
                return Next::Later;
            }
            asked[queue] += 1;
            Next::Io(Request::flush(1))
        });
        let mut options = options(engine, 2);
        options.handle = Some(handle.clone());
        run(vec![queue_1, queue_2], &mut workload, &options).unwrap();
        assert!(start.elapsed() >= Duration::from_millis(100));
        let order: Vec<_> = workload.done.iter().map(|done| done.queue).collect();
        assert_eq!(order, [0, 1]);
        handle.wake();
        for thread in [other, first, second] {
            thread.join().unwrap();
        }
    }
}

#[test]
fn a_command_that_fails_is_told_of_and_the_others_go_on() {
    for engine in engines() {
        let (queue, controller) = queue(1, serve_ram);
        let mut asked = 0;
        let mut workload = Ask::new(|_, _, _: &[common::Done]| {
            asked += 1;
            match asked {
                1..=100 if asked % 2 == 0 => Next::Io(Request::flush(1)),
                1..=100 => Next::Io(Request::new(at(0x55, 0), Buffer::None)),
                _ => Next::Done,
            }
        });
        run(vec![queue], &mut workload, &options(engine, 8)).unwrap();
        let failed = Err(CommandError::Status(Status::INVALID_OPCODE.with_dnr(true)));
        let count = workload.done.iter().filter(|done| done.result == failed).count();
        assert_eq!((count, workload.done.len()), (50, 100));
        controller.join().unwrap();
    }
}

#[test]
fn queues_are_disconnected_where_that_is_wanted() {
    for engine in engines() {
        for disconnect in [true, false] {
            let seen = Arc::new(AtomicU16::new(0));
            let (queue, controller) = queue(1, {
                let seen = Arc::clone(&seen);
                move |mut queue| {
                    while let Ok(Some(command)) = queue.receive(soon()) {
                        let last = command.sqe().is_fabrics_type(opcode::fabrics::DISCONNECT);
                        seen.fetch_add(if last { 100 } else { 1 }, Ordering::Relaxed);
                        queue.succeed(command);
                    }
                }
            });
            let mut asked = 0;
            let workload = Ask::new(|_, _, _: &[common::Done]| {
                asked += 1;
                if asked <= 3 { Next::Io(Request::flush(1)) } else { Next::Done }
            });
            let mut options = options(engine, 8);
            options.disconnect = disconnect;
            run(vec![queue], workload, &options).unwrap();
            controller.join().unwrap();
            assert_eq!(seen.load(Ordering::Relaxed), if disconnect { 103 } else { 3 });
        }
    }
}

#[test]
fn a_run_with_nothing_to_do_ends_at_once() {
    for engine in engines() {
        run(vec![], Ask::new(|_, _, _: &[common::Done]| Next::Done), &options(engine, 1)).unwrap();
        let (queue, controller) = queue(1, serve_ram);
        let workload = Ask::new(|_, _, _: &[common::Done]| Next::Done);
        run(vec![queue], workload, &options(engine, 1)).unwrap();
        controller.join().unwrap();
    }
}

#[test]
fn one_that_is_told_to_wait_uses_no_cpu() {
    for engine in engines() {
        let (queue, controller) = queue(1, serve_ram);
        let due = Instant::now() + Duration::from_millis(300);
        let mut asks = 0;
        let workload = Ask::new(|_, now, _: &[common::Done]| {
            asks += 1;
            if now < due { Next::NotBefore(due) } else { Next::Done }
        });
        run(vec![queue], workload, &options(engine, 1)).unwrap();
        assert!(asks < 10, "asked {asks} times");
        controller.join().unwrap();
    }
}

//! Reservations between two hosts.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "tests may stop at a surprise")]

mod common;

use std::num::NonZeroU64;

use bytes::Bytes;
use common::*;
use nvme_spec::event::Event;
use nvme_spec::reservation::{
    AcquireAction, PersistenceChange, RegisterAction, ReportRequest, ReservationAcquire,
    ReservationRegister, ReservationRelease, ReservationType,
};
use nvme_spec::{Sqe, Status, opcode};
use nvmf::host::{Association, QueuePair};
use nvmf::{Data, Error, Transfer};
use nvmf_target::{Limits, NamespaceChange};

fn send(queue: &mut QueuePair, mut sqe: Sqe, data: &[u8]) -> Result<(), Error> {
    sqe.nsid.set(1);
    let pieces = [std::io::IoSlice::new(data)];
    queue.execute(sqe, Transfer::Write(&pieces), soon()).map(drop)
}

fn keys(first: u64, second: u64) -> Vec<u8> {
    [first.to_le_bytes(), second.to_le_bytes()].concat()
}

fn register(queue: &mut QueuePair, key: u64) {
    let command = ReservationRegister {
        action: RegisterAction::Register,
        ignore_key: false,
        persistence: PersistenceChange::Keep,
    };
    send(queue, command.to_sqe(), &keys(0, key)).unwrap();
}

fn acquire(
    queue: &mut QueuePair,
    action: AcquireAction,
    rtype: ReservationType,
    key: u64,
    other: u64,
) -> Result<(), Error> {
    send(queue, ReservationAcquire { action, rtype }.to_sqe(), &keys(key, other))
}

/// Two hosts with a queue each, one over TCP and one over what is asked for.
fn hosts(target: &Running, over: Over) -> [(Association, QueuePair); 2] {
    [(over, 1), (Over::Tcp, 2)].map(|(over, n)| {
        let mut host = target.associate(over, n);
        let queue = host.connect_io_queues(1, None).unwrap().remove(0);
        (host, queue)
    })
}

#[test]
fn one_host_keeps_the_other_from_writing_and_from_reading() {
    for over in BOTH {
        let target = Running::start(subsystem(&["mem:1M"]));
        let [(_one, mut first), (_two, mut second)] = hosts(&target, over);
        register(&mut first, 1);
        register(&mut second, 2);
        let rtype = ReservationType::WriteExclusive;
        acquire(&mut first, AcquireAction::Acquire, rtype, 1, 0).unwrap();
        write(&mut first, 1, 0, 4096, &[1; 4096]).unwrap();
        let refused = write(&mut second, 1, 0, 4096, &[2; 4096]);
        assert_status(refused, Status::RESERVATION_CONFLICT);
        let refused = write(&mut second, 1, 0, 4096, &pattern(1, 65_536));
        assert_status(refused, Status::RESERVATION_CONFLICT);
        assert_eq!(read(&mut second, 1, 0, 4096, 4096).unwrap(), [1; 4096]);
        let taken = acquire(&mut second, AcquireAction::Acquire, rtype, 2, 0);
        assert_status(taken, Status::RESERVATION_CONFLICT);

        let release = ReservationRelease::Release(rtype);
        send(&mut first, release.to_sqe(), &1u64.to_le_bytes()).unwrap();
        let rtype = ReservationType::ExclusiveAccess;
        acquire(&mut second, AcquireAction::Acquire, rtype, 2, 0).unwrap();
        let refused = read(&mut first, 1, 0, 4096, 4096);
        assert_status(refused, Status::RESERVATION_CONFLICT);
        write(&mut second, 1, 0, 4096, &[2; 4096]).unwrap();
        acquire(&mut first, AcquireAction::Preempt, rtype, 1, 2).unwrap();
        assert_eq!(read(&mut first, 1, 0, 4096, 4096).unwrap(), [2; 4096]);
        let refused = read(&mut second, 1, 0, 4096, 4096);
        assert_status(refused, Status::RESERVATION_CONFLICT);
    }
}

#[test]
fn the_report_tells_both_hosts_whoever_asks() {
    for over in BOTH {
        let target = Running::start(subsystem(&["mem:1M"]));
        let [(one, mut first), (_two, mut second)] = hosts(&target, over);
        register(&mut first, 0x11);
        register(&mut second, 0x22);
        let rtype = ReservationType::WriteExclusiveRegistrants;
        acquire(&mut first, AcquireAction::Acquire, rtype, 0x11, 0).unwrap();
        for queue in [&mut first, &mut second] {
            let mut sqe = ReportRequest { numd: 1023, extended: true }.to_sqe();
            sqe.nsid.set(1);
            let mut data = vec![0xee; 4096];
            let pieces = &mut [std::io::IoSliceMut::new(&mut data)];
            queue.execute(sqe, Transfer::Read(pieces), soon()).unwrap();
            assert_eq!((data[4], data[5]), (3, 2));
            assert_eq!(data[64..66], one.cntlid().to_le_bytes());
            assert_eq!((data[66], data[72], data[130], data[136]), (1, 0x11, 0, 0x22));
            assert_eq!(data[192..], [0; 3904]);
        }
    }
}

#[test]
fn who_is_preempted_is_told() {
    let target = Running::start(subsystem(&["mem:1M"]));
    let [(_one, mut first), (mut two, mut second)] = hosts(&target, Over::InProcess);
    register(&mut first, 1);
    register(&mut second, 2);
    let sqe = Sqe::new(opcode::admin::ASYNC_EVENT_REQUEST);
    let waiting = two.admin().submit(sqe, Data::None).unwrap();
    two.admin().flush(soon()).unwrap();
    let rtype = ReservationType::WriteExclusive;
    acquire(&mut first, AcquireAction::Preempt, rtype, 1, 2).unwrap();
    let answer = two.admin().wait(waiting, soon()).unwrap();
    assert_eq!(Event::from_dw0(answer.cqe.dw0.get()), Event::RESERVATION_LOG_AVAILABLE);
}

#[test]
fn commands_that_wait_are_aborted_before_a_preempt_and_abort_is_answered() {
    for over in BOTH {
        let target = Running::start(subsystem(&["mem:4M"]));
        let [(_one, mut first), (_two, mut second)] = hosts(&target, over);
        register(&mut first, 1);
        register(&mut second, 2);
        let limits = Limits { iops: NonZeroU64::new(1), ..Limits::default() };
        target.handle.change_namespace(&nqn(), 1, NamespaceChange::Limits(limits)).unwrap();
        // The first of these are written, the others wait; large ones with the host.
        let waiting: Vec<_> = (0..20)
            .map(|n| {
                let data = vec![0x22; if n % 2 == 0 { 4096 } else { 65_536 }];
                let blocks = u32::try_from(data.len() / 4096).unwrap();
                let sqe = command(opcode::nvm::WRITE, 1, 16 * n, blocks);
                second.submit(sqe, Data::Write(vec![Bytes::from(data)])).unwrap()
            })
            .collect();
        second.flush(soon()).unwrap();
        // They are there when a command behind them is answered.
        let flush = command(opcode::nvm::FLUSH, 1, 0, 1);
        second.execute(flush, Transfer::None, soon()).unwrap();
        let rtype = ReservationType::WriteExclusive;
        acquire(&mut first, AcquireAction::PreemptAndAbort, rtype, 1, 2).unwrap();
        let statuses: Vec<Status> =
            waiting.into_iter().map(|id| second.wait(id, soon()).unwrap().status()).collect();
        let aborted = statuses.iter().filter(|s| s.same_code(Status::ABORTED_PREEMPT)).count();
        let written = statuses.iter().filter(|s| s.is_success()).count();
        assert!(aborted >= 10, "{statuses:?}");
        assert_eq!(aborted + written, 20, "{statuses:?}");
        let limits = NamespaceChange::Limits(Limits::default());
        target.handle.change_namespace(&nqn(), 1, limits).unwrap();
        for (n, status) in (0..).zip(&statuses) {
            let block = read(&mut first, 1, 16 * n, 4096, 4096).unwrap();
            let expected = if status.is_success() { 0x22 } else { 0 };
            assert_eq!(block, [expected; 4096], "{n}");
        }
        acquire(&mut first, AcquireAction::Acquire, rtype, 1, 0).unwrap();
        let refused = write(&mut second, 1, 0, 4096, &[2; 4096]);
        assert_status(refused, Status::RESERVATION_CONFLICT);
        // The queue goes on.
        read(&mut second, 1, 0, 4096, 4096).unwrap();
    }
}

#[test]
fn a_command_that_sleeps_for_a_limit_is_aborted_too() {
    let target = Running::start(subsystem(&["mem:4M"]));
    // The victim is the host in this process.
    let [(_two, mut second), (_one, mut first)] = hosts(&target, Over::InProcess);
    register(&mut first, 1);
    register(&mut second, 2);
    let limits = Limits { write_bandwidth: NonZeroU64::new(1000), ..Limits::default() };
    target.handle.change_namespace(&nqn(), 1, NamespaceChange::Limits(limits)).unwrap();
    write(&mut second, 1, 0, 4096, &[1; 4096]).unwrap();
    let sqe = command(opcode::nvm::WRITE, 1, 1, 1);
    let data = Data::Write(vec![Bytes::from(vec![2; 4096])]);
    let waiting = second.submit(sqe, data).unwrap();
    second.flush(soon()).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(200));
    let rtype = ReservationType::WriteExclusive;
    acquire(&mut first, AcquireAction::PreemptAndAbort, rtype, 1, 2).unwrap();
    let status = second.wait(waiting, soon()).unwrap().status();
    assert!(status.same_code(Status::ABORTED_PREEMPT), "{status}");
    assert_eq!(read(&mut first, 1, 1, 4096, 4096).unwrap(), [0; 4096]);
}

#[test]
fn commands_whose_data_is_with_the_host_are_aborted_and_the_queue_goes_on() {
    let target = Running::start(subsystem(&["mem:4M"]));
    let [(_one, mut first), (_two, mut second)] = hosts(&target, Over::Tcp);
    register(&mut first, 1);
    let rtype = ReservationType::WriteExclusiveRegistrants;
    acquire(&mut first, AcquireAction::Acquire, rtype, 1, 0).unwrap();
    for round in 0..3 {
        register(&mut second, 2);
        // This host sends data when it waits for the answer: until then it owes it.
        let blocks = 16;
        let mut owed: Vec<_> = (0..4)
            .map(|n| {
                let sqe = command(opcode::nvm::WRITE, 1, 16 * n, blocks);
                second.submit(sqe, Data::Write(vec![Bytes::from(vec![2; 65_536])])).unwrap()
            })
            .collect();
        for (opcode, fuse) in [(opcode::nvm::COMPARE, 1), (opcode::nvm::WRITE, 2)] {
            let mut sqe = command(opcode, 1, 200, blocks);
            sqe.flags |= fuse;
            let data = Data::Write(vec![Bytes::from(vec![0; 65_536])]);
            owed.push(second.submit(sqe, data).unwrap());
        }
        second.flush(soon()).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(100));
        acquire(&mut first, AcquireAction::PreemptAndAbort, rtype, 1, 2).unwrap();
        let statuses: Vec<Status> =
            owed.into_iter().map(|id| second.wait(id, soon()).unwrap().status()).collect();
        for status in &statuses {
            assert!(status.same_code(Status::ABORTED_PREEMPT), "{round}: {statuses:?}");
        }
        for n in 0..4 {
            assert_eq!(read(&mut second, 1, 16 * n, 4096, 4096).unwrap(), [0; 4096]);
        }
    }
    register(&mut second, 2);
    let data = pattern(9, 1 << 20);
    write(&mut second, 1, 0, 4096, &data).unwrap();
    assert_eq!(read(&mut first, 1, 0, 4096, 1 << 20).unwrap(), data);
}

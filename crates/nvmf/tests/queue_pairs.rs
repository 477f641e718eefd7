//! Queue pairs of both roles, over each transport: the same tests for both.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "tests may stop at a surprise")]

mod ends;

use std::io::{IoSlice, IoSliceMut};
use std::thread;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use ends::{Carrier, at, carriers, options, pattern, serve_ram, soon, spawn};
use nvmf::controller::{self, AcceptError, AcceptOptions, Command};
use nvmf::host::{ConnectOptions, QueuePair};
use nvmf::proto::connect::{ConnectError, ControllerChoice, Refusal};
use nvmf::proto::queue::QueueSize;
use nvmf::spec::fabrics::ConnectData;
use nvmf::spec::{Cqe, DataDirection, Sqe, Status, opcode::nvm};
use nvmf::transport::{DataError, TransportError};
use nvmf::{Data, Deadline, Error, Transfer};

/// Runs `test` over every carrier, against a controller that does `serve`.
fn over_each(serve: fn(controller::QueuePair), test: impl Fn(&mut QueuePair)) {
    for carrier in carriers() {
        println!("{carrier:?}");
        let (host, controller) = carrier.join();
        let controller = spawn(controller, AcceptOptions::default(), serve);
        let mut queue = QueuePair::connect(host, &options(), soon()).unwrap();
        assert_eq!((queue.qid(), queue.cntlid()), (0, 7));
        test(&mut queue);
        drop(queue);
        controller.join().unwrap();
    }
}

#[test]
fn what_is_written_is_read_whatever_its_length() {
    over_each(serve_ram, |queue| {
        for length in [1, 512, 513, 4096, 8192, 8193, 65536, 1 << 20, (1 << 20) + 5] {
            let bytes = pattern(length);
            let (a, b) = bytes.split_at(length / 2);
            let pieces = [IoSlice::new(a), IoSlice::new(b)];
            queue.execute(at(nvm::WRITE, 99), Transfer::Write(&pieces), soon()).unwrap();
            let mut back = vec![0; length];
            let (a, b) = back.split_at_mut(length / 5);
            let room = &mut [IoSliceMut::new(a), IoSliceMut::new(b)];
            queue.execute(at(nvm::READ, 99), Transfer::Read(room), soon()).unwrap();
            assert!(back == bytes, "{length} bytes");
        }
    });
}

#[test]
fn many_commands_are_outstanding_and_each_gets_its_own_data() {
    over_each(serve_ram, |queue| {
        let block = |i: usize| Bytes::from(vec![u8::try_from(i).unwrap(); 3000]);
        let place = |i: usize| u64::try_from(i * 3000).unwrap();
        for i in 0..20 {
            queue.submit(at(nvm::WRITE, place(i)), Data::write(block(i))).unwrap();
        }
        assert_eq!(queue.outstanding(), 20);
        for _ in 0..20 {
            queue.wait_any(soon()).unwrap().into_result("Write").unwrap();
        }
        let ids: Vec<_> = (0..20)
            .map(|i| {
                let room = vec![BytesMut::zeroed(1000), BytesMut::zeroed(2000)];
                queue.submit(at(nvm::READ, place(i)), Data::Read(room)).unwrap()
            })
            .collect();
        for (i, id) in ids.into_iter().enumerate().rev() {
            let completion = queue.wait(id, soon()).unwrap().into_result("Read").unwrap();
            assert_eq!(completion.data.into_bytes(), block(i));
        }
        assert_eq!(queue.outstanding(), 0);
    });
}

#[test]
fn identifiers_used_again_mix_nothing_up() {
    // Small commands in a full queue: their answers come many at once, and each that is taken
    // makes room for a new command while others are still waiting to be taken.
    over_each(serve_ram, |queue| {
        let mut written = std::collections::HashMap::new();
        let mut seen = std::collections::HashSet::new();
        for i in 0..2000u64 {
            while !queue.has_room() {
                let completion = queue.wait_any(soon()).unwrap().into_result("Write").unwrap();
                assert_eq!(written.remove(&completion.id), Some(completion.data));
            }
            let bytes = Data::write(i.to_le_bytes().repeat(75));
            let id = queue.submit(at(nvm::WRITE, i * 600), bytes.clone()).unwrap();
            assert!(seen.insert(id), "an identifier given out twice");
            written.insert(id, bytes);
        }
        while !written.is_empty() {
            let completion = queue.wait_any(soon()).unwrap().into_result("Write").unwrap();
            assert_eq!(written.remove(&completion.id), Some(completion.data));
        }
        for i in 0..2000u64 {
            let id = queue.submit(at(nvm::READ, i * 600), Data::read(600)).unwrap();
            let completion = queue.wait(id, soon()).unwrap().into_result("Read").unwrap();
            assert_eq!(completion.data.into_bytes(), i.to_le_bytes().repeat(75), "block {i}");
        }
    });
}

#[test]
fn a_command_with_lent_data_passes_between_those_outstanding() {
    over_each(serve_ram, |queue| {
        let id = queue.submit(at(nvm::WRITE, 0), Data::write(pattern(100_000))).unwrap();
        let mut room = [1; 10];
        let read = Transfer::Read(&mut [IoSliceMut::new(&mut room)]);
        queue.execute(at(nvm::READ, 2 << 20), read, soon()).unwrap();
        assert_eq!(room, [0; 10]);
        queue.wait(id, soon()).unwrap().into_result("Write").unwrap();
        assert!(matches!(queue.wait(id, soon()), Err(Error::NotOutstanding(_))));
    });
}

#[test]
fn a_failure_names_the_command_and_its_status() {
    over_each(serve_ram, |queue| {
        let error = queue.execute(Sqe::new(nvm::COMPARE), Transfer::None, soon()).unwrap_err();
        assert_eq!(error.status(), Some(Status::INVALID_OPCODE.with_dnr(true)));
    });
}

#[test]
fn a_full_queue_says_so_and_makes_room_by_completions() {
    over_each(serve_ram, |queue| {
        let capacity = queue.capacity();
        for _ in 0..capacity {
            queue.submit(at(nvm::READ, 0), Data::read(8)).unwrap();
        }
        let error = queue.submit(at(nvm::READ, 0), Data::read(8)).unwrap_err();
        assert!(matches!(error, Error::Transport(TransportError::Submit(_))), "{error}");
        let mut room = [1; 8];
        let read = Transfer::Read(&mut [IoSliceMut::new(&mut room)]);
        queue.execute(at(nvm::READ, 0), read, soon()).unwrap();
        for _ in 0..capacity {
            queue.wait_any(soon()).unwrap();
        }
    });
}

/// Answers the first command only after a while; a second one at once.
fn serve_late(mut queue: controller::QueuePair) {
    let first = queue.receive(soon()).unwrap().unwrap();
    let second = queue.receive(soon()).unwrap().unwrap();
    queue.fail(second, Status::ABORT_REQUESTED);
    queue.flush(soon()).unwrap();
    let third = queue.receive(soon()).unwrap().unwrap();
    queue.respond_with_data(first, &[IoSlice::new(&[5; 64])], soon()).unwrap();
    queue.succeed(third);
    assert!(queue.receive(soon()).unwrap().is_none());
}

#[test]
fn a_wait_that_timed_out_can_be_taken_up_again() {
    over_each(serve_late, |queue| {
        let id = queue.submit(at(nvm::READ, 0), Data::read(64)).unwrap();
        let error = queue.wait(id, Deadline::after(Duration::from_millis(20))).unwrap_err();
        assert!(error.is_timeout(), "{error}");
        let second = queue.submit(Sqe::new(nvm::FLUSH), Data::None).unwrap();
        let completion = queue.wait_any(soon()).unwrap();
        assert_eq!((completion.id, completion.status()), (second, Status::ABORT_REQUESTED));
        let third = queue.submit(Sqe::new(nvm::FLUSH), Data::None).unwrap();
        queue.wait(third, soon()).unwrap();
        let data = queue.wait(id, soon()).unwrap().data;
        assert_eq!(data.into_bytes(), [5; 64].as_slice());
    });
}

#[test]
fn a_command_given_up_is_reported_no_more() {
    over_each(serve_late, |queue| {
        let mut room = [0; 64];
        let read = Transfer::Read(&mut [IoSliceMut::new(&mut room)]);
        let brief = Deadline::after(Duration::from_millis(20));
        assert!(queue.execute(at(nvm::READ, 0), read, brief).unwrap_err().is_timeout());
        let second = queue.submit(Sqe::new(nvm::FLUSH), Data::None).unwrap();
        queue.forget(second);
        let third = queue.submit(Sqe::new(nvm::FLUSH), Data::None).unwrap();
        assert_eq!(queue.wait_any(soon()).unwrap().id, third);
        assert_eq!(room, [0; 64], "data that came too late is dropped");
    });
}

/// Drops every command unanswered.
fn serve_nothing(mut queue: controller::QueuePair) {
    while let Some(command) = queue.receive(soon()).unwrap() {
        drop(command);
    }
}

#[test]
fn a_command_dropped_unanswered_is_answered_with_internal_error() {
    over_each(serve_nothing, |queue| {
        for length in [0, 64, 100_000] {
            let write = queue.submit(at(nvm::WRITE, 0), Data::write(vec![1; length])).unwrap();
            let completion = queue.wait(write, soon()).unwrap();
            assert_eq!(completion.status(), Status::INTERNAL_ERROR);
        }
    });
}

/// Receives a write's data in odd ranges and answers a read in pieces.
fn serve_pieces(mut queue: controller::QueuePair) {
    let mut write = queue.receive(soon()).unwrap().unwrap();
    assert_eq!(write.direction(), DataDirection::ToController);
    let length = write.data_len() as usize;
    let mut all = vec![0; length];
    let mut take = |queue: &mut controller::QueuePair, from: usize, to: usize| {
        let offset = u32::try_from(from).unwrap();
        let into = &mut [IoSliceMut::new(&mut all[from..to])];
        queue.receive_data(&mut write, offset, into, soon())
    };
    take(&mut queue, 0, 100).unwrap();
    take(&mut queue, 5000, 9000).unwrap();
    take(&mut queue, 100, 5000).unwrap();
    take(&mut queue, 9000, length).unwrap();
    assert!(matches!(take(&mut queue, 0, 1), Err(DataError::Range(_))), "given out already");
    queue.succeed(write);
    let mut read = queue.receive(soon()).unwrap().unwrap();
    let (a, b) = all.split_at(1234);
    queue.send_data(&mut read, &[IoSlice::new(a)], soon()).unwrap();
    queue.respond_with_data(read, &[IoSlice::new(b)], soon()).unwrap();
    let mut read = queue.receive(soon()).unwrap().unwrap();
    queue.send_data(&mut read, &[IoSlice::new(&all)], soon()).unwrap();
    queue.respond(read, Cqe::with_dw0(0, 0xabcd));
    let read = queue.receive(soon()).unwrap().unwrap();
    let error = queue.respond_with_data(read, &[IoSlice::new(a)], soon()).unwrap_err();
    assert!(matches!(error, DataError::Range(_)), "{error}");
    assert!(queue.receive(soon()).unwrap().is_none());
}

#[test]
fn data_moves_in_any_ranges_and_pieces() {
    over_each(serve_pieces, |queue| {
        let bytes = pattern(50_000);
        let pieces = [IoSlice::new(&bytes)];
        queue.execute(at(nvm::WRITE, 0), Transfer::Write(&pieces), soon()).unwrap();
        for result in [0, 0xabcd] {
            let mut back = vec![0; bytes.len()];
            let read = Transfer::Read(&mut [IoSliceMut::new(&mut back)]);
            let cqe = queue.execute(at(nvm::READ, 0), read, soon()).unwrap();
            assert_eq!(cqe.result(), result);
            assert!(back == bytes);
        }
        let read = queue.submit(at(nvm::READ, 0), Data::read(50_000)).unwrap();
        let completion = queue.wait(read, soon()).unwrap();
        assert_eq!(completion.status(), Status::INTERNAL_ERROR);
    });
}

#[test]
fn flow_control_is_off_only_if_both_ends_agree() {
    for carrier in [Carrier::InProcess, carriers()[1]] {
        for (ask_off, keep_on, on) in
            [(false, false, true), (true, false, false), (true, true, true)]
        {
            let (host, controller) = carrier.join();
            let accept = AcceptOptions { flow_control: keep_on, ..AcceptOptions::default() };
            let controller = spawn(controller, accept, serve_ram);
            let options = ConnectOptions { disable_flow_control: ask_off, ..options() };
            let mut queue = QueuePair::connect(host, &options, soon()).unwrap();
            assert_eq!(queue.flow_control(), on);
            for i in 0..200 {
                let room = Data::read(16);
                let id = queue.submit(at(nvm::READ, i), room).unwrap();
                queue.wait(id, soon()).unwrap().into_result("Read").unwrap();
            }
            drop(queue);
            controller.join().unwrap();
        }
    }
}

#[test]
fn a_refused_connect_tells_why() {
    let refusals = [
        (Refusal::Busy, ConnectError::Status(Status::CONNECT_CONTROLLER_BUSY)),
        (Refusal::Host, ConnectError::Status(Status::CONNECT_INVALID_HOST.with_dnr(true))),
        (
            Refusal::data(ConnectData::OFFSET_SUBNQN, "no such subsystem"),
            ConnectError::Invalid(nvmf::spec::fabrics::InvalidParameter {
                in_data: true,
                offset: ConnectData::OFFSET_SUBNQN,
            }),
        ),
    ];
    for carrier in [Carrier::InProcess, carriers()[1]] {
        for (refusal, expected) in refusals.clone() {
            let (host, controller) = carrier.join();
            let controller = thread::spawn(move || {
                let accept = AcceptOptions::default();
                let pending = controller::accept(controller, &accept, soon()).unwrap();
                assert_eq!(pending.request().host, options().host);
                pending.refuse(&refusal, soon()).unwrap();
            });
            let error = QueuePair::connect(host, &options(), soon()).unwrap_err();
            assert!(matches!(&error, Error::Connect(e) if *e == expected), "{error}");
            controller.join().unwrap();
        }
    }
}

#[test]
fn an_ill_formed_connect_is_refused_before_the_target_sees_it() {
    for carrier in [Carrier::InProcess, carriers()[1]] {
        let (host, controller) = carrier.join();
        let controller = thread::spawn(move || {
            controller::accept(controller, &AcceptOptions::default(), soon()).unwrap_err()
        });
        let asks = ConnectOptions { controller: ControllerChoice::StaticAny, ..options() };
        let error = QueuePair::connect(host, &asks, soon()).unwrap_err();
        let Error::Connect(ConnectError::Invalid(parameter)) = error else { panic!("{error}") };
        assert_eq!(parameter.name(), "cntlid");
        let refused = controller.join().unwrap();
        assert!(matches!(refused, AcceptError::Refused(Refusal::Invalid { .. })), "{refused}");
    }
}

#[test]
fn a_first_command_that_is_not_connect_is_refused() {
    for carrier in [Carrier::InProcess, carriers()[1]] {
        let (mut host, controller) = carrier.join();
        let controller = thread::spawn(move || {
            controller::accept(controller, &AcceptOptions::default(), soon()).unwrap_err()
        });
        let sqe = Sqe::new(nvm::FLUSH);
        let completion = host.execute(sqe, Transfer::None, &mut |_, _| {}, soon()).unwrap();
        assert!(completion.cqe.status().same_code(Status::COMMAND_SEQUENCE_ERROR));
        let refused = controller.join().unwrap();
        assert!(matches!(refused, AcceptError::Refused(Refusal::NotConnect)), "{refused}");
    }
}

#[test]
fn an_io_queue_is_left_by_disconnect() {
    for carrier in [Carrier::InProcess, carriers()[1]] {
        let (host, controller) = carrier.join();
        let controller = spawn(controller, AcceptOptions::default(), |mut queue| {
            assert_eq!(queue.qid(), 3);
            let command: Command = queue.receive(soon()).unwrap().unwrap();
            assert!(command.sqe().is_fabrics_type(nvmf::spec::opcode::fabrics::DISCONNECT));
            queue.succeed(command);
            assert!(queue.receive(soon()).unwrap().is_none());
        });
        let size = QueueSize::new(16).unwrap();
        let queue = QueuePair::connect(host, &options().io_queue(3, size, 7), soon()).unwrap();
        queue.disconnect(soon()).unwrap();
        controller.join().unwrap();
    }
}

#[test]
fn a_controller_that_goes_away_ends_the_wait() {
    for carrier in [Carrier::InProcess, carriers()[1]] {
        let (host, controller) = carrier.join();
        let controller = spawn(controller, AcceptOptions::default(), drop);
        let mut queue = QueuePair::connect(host, &options(), soon()).unwrap();
        controller.join().unwrap();
        let error = queue.execute(Sqe::new(nvm::FLUSH), Transfer::None, soon()).unwrap_err();
        assert!(matches!(error, Error::Transport(TransportError::Closed)), "{error}");
    }
}

#[test]
fn success_without_all_of_the_data_is_a_violation() {
    for carrier in [Carrier::InProcess, carriers()[1]] {
        let (host, controller) = carrier.join();
        let controller = spawn(controller, AcceptOptions::default(), |mut queue| {
            let mut read = queue.receive(soon()).unwrap().unwrap();
            queue.send_data(&mut read, &[IoSlice::new(&[1; 500])], soon()).unwrap();
            queue.succeed(read);
            let _ = queue.receive(soon());
        });
        let mut queue = QueuePair::connect(host, &options(), soon()).unwrap();
        let mut room = [0; 512];
        let read = Transfer::Read(&mut [IoSliceMut::new(&mut room)]);
        let error = queue.execute(at(nvm::READ, 0), read, soon()).unwrap_err();
        assert!(error.to_string().contains("with 500 of 512 bytes moved"), "{error}");
        drop(queue);
        controller.join().unwrap();
    }
}

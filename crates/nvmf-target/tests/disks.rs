//! Disks that fail or are slow, on every event loop: the right status, and nobody else notices.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "tests may stop at a surprise")]

mod common;

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::*;
use nvme_spec::{Status, opcode};
use nvmf::Data;
use nvmf_engine::{EngineChoice, EngineKind};
use nvmf_storage::{
    Access, Backend, BlockSize, Durability, Error, Fault, Faulty, FileAccess, Geometry, Memory,
    Operation, Zero,
};
use nvmf_target::{Subsystem, Target};

const ENGINES: [EngineChoice; 2] =
    [EngineChoice::Only(EngineKind::Uring), EngineChoice::Only(EngineKind::Poll)];

/// A namespace on a file of the system that fails in its own way, and that is never quick.
#[derive(Debug)]
struct Odd(File);

impl Backend for Odd {
    fn geometry(&self) -> Geometry {
        Geometry::new(BlockSize::B4096, 1024).unwrap()
    }
    fn read(&self, _: u64, _: &mut [IoSliceMut<'_>]) -> Result<(), Error> {
        panic!("it is read by its descriptor")
    }
    fn write(&self, _: u64, _: &[IoSlice<'_>], _: Durability) -> Result<(), Error> {
        panic!("it is written by its descriptor")
    }
    fn flush(&self) -> Result<(), Error> {
        Ok(())
    }
    fn write_zeroes(&self, _: u64, _: u64, _: Zero) -> Result<(), Error> {
        Ok(())
    }
    fn deallocate(&self, _: u64, _: u64) -> Result<(), Error> {
        Ok(())
    }
    fn volatile_write_cache(&self) -> bool {
        true
    }
    fn location(&self) -> String {
        format!("{:?}", self.0)
    }
    fn access(&self) -> Access<'_> {
        Access::File(self)
    }
}

impl FileAccess for Odd {
    fn try_read(&self, _: u64, _: &mut [u8]) -> Option<Result<(), Error>> {
        None
    }
    fn try_write(&self, _: u64, _: &[u8]) -> Option<Result<(), Error>> {
        None
    }
    fn descriptor(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
    fn error_of(&self, error: io::Error, _: bool) -> Error {
        error.into()
    }
    fn alignment(&self) -> usize {
        1
    }
}

/// A target with this namespace as 1, and one in memory as 2.
fn serve(engine: EngineChoice, backend: Arc<dyn Backend>) -> Running {
    let geometry = Geometry::new(BlockSize::B4096, 1024).unwrap();
    let memory = Memory::new(geometry).unwrap().with_number(2);
    let builder = Subsystem::builder(nqn()).namespace(1, backend).namespace(2, Arc::new(memory));
    Running::start_on(engine, Target::builder().subsystem(builder.build().unwrap()))
}

#[test]
fn a_full_disk_is_capacity_exceeded_and_the_queue_goes_on() {
    for engine in ENGINES {
        let full = File::options().read(true).write(true).open("/dev/full").unwrap();
        let target = serve(engine, Arc::new(Odd(full)));
        let mut host = target.associate(Over::Tcp, 1);
        let mut queue = host.connect_io_queues(1, None).unwrap().remove(0);
        // In the capsule, and by R2T.
        for length in [4096, 8192, 128 << 10] {
            let written = write(&mut queue, 1, 0, 4096, &pattern(1, length));
            assert_status(written, Status::CAPACITY_EXCEEDED);
            write(&mut queue, 2, 3, 4096, &pattern(2, length)).unwrap();
            assert_eq!(read(&mut queue, 2, 3, 4096, length).unwrap(), pattern(2, length));
        }
        // Its reads are fine.
        assert_eq!(read(&mut queue, 1, 0, 4096, 128 << 10).unwrap(), vec![0; 128 << 10]);
        target.stop().unwrap();
    }
}

#[test]
fn a_disk_that_cannot_be_read_is_a_media_error_and_the_queue_goes_on() {
    for engine in ENGINES {
        // Nothing is mapped at the beginning of a process's memory: EIO.
        let unreadable = File::options().read(true).write(true).open("/proc/self/mem").unwrap();
        let target = serve(engine, Arc::new(Odd(unreadable)));
        let mut host = target.associate(Over::Tcp, 1);
        let mut queue = host.connect_io_queues(1, None).unwrap().remove(0);
        for length in [4096, 128 << 10] {
            let found = read(&mut queue, 1, 0, 4096, length);
            assert_status(found, Status::UNRECOVERED_READ_ERROR);
            let written = write(&mut queue, 1, 0, 4096, &pattern(1, length));
            assert_status(written, Status::WRITE_FAULT);
            read(&mut queue, 2, 0, 4096, length).unwrap();
        }
        target.stop().unwrap();
    }
}

#[test]
fn a_disk_that_became_shorter_is_a_media_error() {
    for engine in ENGINES {
        let file = tempfile::tempfile().unwrap();
        file.set_len(8192).unwrap();
        let target = serve(engine, Arc::new(Odd(file)));
        let mut host = target.associate(Over::Tcp, 1);
        let mut queue = host.connect_io_queues(1, None).unwrap().remove(0);
        assert_eq!(read(&mut queue, 1, 0, 4096, 8192).unwrap(), [0; 8192]);
        assert_status(read(&mut queue, 1, 1, 4096, 8192), Status::UNRECOVERED_READ_ERROR);
        assert_status(read(&mut queue, 1, 7, 4096, 4096), Status::UNRECOVERED_READ_ERROR);
        target.stop().unwrap();
    }
}

#[test]
fn files_are_read_and_written_through_the_cache_and_past_it() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    for engine in ENGINES {
        let path = |name: &str| {
            let path = directory.path().join(format!("{name}-{engine}"));
            File::create(&path).unwrap().set_len(16 << 20).unwrap();
            path.display().to_string()
        };
        let specs = [format!("file:{}", path("cached")), format!("file:{},direct", path("direct"))];
        let specs: Vec<&str> = specs.iter().map(String::as_str).collect();
        let target = Running::start_on(engine, Target::builder().subsystem(subsystem(&specs)));
        let mut host = target.associate(Over::Tcp, 1);
        let mut queues = host.connect_io_queues(2, None).unwrap();
        for (nsid, queue) in (1..).zip(&mut queues) {
            // Whole chunks of the target's buffers, parts of them, and more than one.
            for (i, (slba, blocks)) in
                [(0, 1), (1, 2), (16, 16), (15, 33), (5, 256), (16, 32)].into_iter().enumerate()
            {
                let data = pattern(i as u64 + 100, blocks * 4096);
                write(queue, nsid, slba, 4096, &data).unwrap();
                assert_eq!(read(queue, nsid, slba, 4096, data.len()).unwrap(), data, "{engine}");
            }
        }
        target.stop().unwrap();
    }
}

#[test]
fn a_slow_disk_does_not_hold_up_other_commands_of_its_queue() {
    for engine in ENGINES {
        let slow = Arc::new(Faulty::new(
            Memory::new(Geometry::new(BlockSize::B4096, 1024).unwrap()).unwrap(),
        ));
        let target = serve(engine, slow.clone());
        let mut host = target.associate(Over::Tcp, 1);
        let mut queue = host.connect_io_queues(1, None).unwrap().remove(0);
        slow.inject(Fault::on(Operation::Write).delayed(Duration::from_secs(1)).times(1));
        let start = Instant::now();
        let sqe = command(opcode::nvm::WRITE, 1, 0, 1);
        let waiting = queue.submit(sqe, Data::write(vec![7; 4096])).unwrap();
        read(&mut queue, 2, 0, 4096, 4096).unwrap();
        assert!(start.elapsed() < Duration::from_millis(900), "{:?}", start.elapsed());
        assert!(queue.wait(waiting, soon()).unwrap().status().is_success());
        assert!(start.elapsed() >= Duration::from_secs(1));
        assert_eq!(read(&mut queue, 1, 0, 4096, 4096).unwrap(), [7; 4096]);
        target.stop().unwrap();
    }
}

#[test]
fn what_is_being_read_is_not_changed_by_a_write_that_comes_after() {
    for engine in ENGINES {
        let target =
            Running::start_on(engine, Target::builder().subsystem(subsystem(&["mem:16M"])));
        let mut host = target.associate(Over::Tcp, 1);
        let mut queues = host.connect_io_queues(2, None).unwrap();
        let (old, new) = (pattern(1, 1 << 20), pattern(2, 1 << 20));
        let mut writer = queues.remove(0);
        let mut reader = queues.remove(0);
        for round in 0..20 {
            write(&mut writer, 1, 0, 4096, &old).unwrap();
            // More than the sockets hold: part of it is with the target while it is overwritten.
            let reads: Vec<_> = (0..16)
                .map(|_| {
                    let sqe = command(opcode::nvm::READ, 1, 0, 256);
                    reader.submit(sqe, Data::read(1 << 20)).unwrap()
                })
                .collect();
            reader.flush(soon()).unwrap();
            // As a whole, which takes the place of what is there, and by blocks, which change it.
            let piece = if round % 2 == 0 { new.len() } else { 4096 };
            for (slba, piece) in (0..).step_by(piece / 4096).zip(new.chunks(piece)) {
                write(&mut writer, 1, slba, 4096, piece).unwrap();
            }
            for id in reads {
                let found = reader.wait(id, soon()).unwrap().data.into_bytes();
                for (i, block) in found.chunks(4096).enumerate() {
                    let at = i * 4096..(i + 1) * 4096;
                    assert!(block == &old[at.clone()] || block == &new[at], "block {i} is torn");
                }
            }
        }
    }
}

//! What outlasts a restart is saved while others go on.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "tests may stop at a surprise")]

mod common;

use std::io;
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use common::*;
use nvme_spec::feature::fid;
use nvme_spec::{Sqe, opcode};
use nvmf::Data;
use nvmf::host::QueuePair;
use nvmf_target::{Namespace, Persistence, SavedReservations, Subsystem, Target};

/// Saves nothing before it is told to.
#[derive(Debug, Default)]
struct Slow {
    saving: Mutex<Option<&'static str>>,
    changed: Condvar,
}

impl Slow {
    fn save(&self, what: &'static str) -> io::Result<()> {
        let mut saving = self.saving.lock().unwrap();
        *saving = Some(what);
        let waits = |saving: &mut Option<_>| saving.is_some();
        let patience = Duration::from_secs(5);
        let waited = self.changed.wait_timeout_while(saving, patience, waits).unwrap();
        if waited.1.timed_out() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(()) }
    }

    fn saving(&self) -> Option<&'static str> {
        *self.saving.lock().unwrap()
    }

    fn go_on(&self) {
        *self.saving.lock().unwrap() = None;
        self.changed.notify_all();
    }
}

impl Persistence for Slow {
    fn save_reservations(&self, _: u32, _: Option<&SavedReservations>) -> io::Result<()> {
        self.save("reservations")
    }

    fn save_protection(&self, _: u32, _: bool) -> io::Result<()> {
        self.save("protection")
    }

    fn save_uncorrectable(&self, _: u32, _: &[Range<u64>]) -> io::Result<()> {
        self.save("uncorrectable")
    }
}

#[test]
fn whatever_is_saved_keeps_no_other_connection_waiting() {
    let slow = Arc::new(Slow::default());
    let ns = Namespace::open(1, &"mem:1M,bs=512".parse().unwrap()).unwrap();
    let builder = Subsystem::builder(nqn()).with(ns).persistence(slow.clone());
    let target = Target::builder().subsystem(builder.build().unwrap()).cores(1);
    let target = Running::start_with(target);
    let [mut one, mut two] = [1, 2].map(|n| target.associate(Over::Tcp, n));
    let mut busy = one.connect_io_queues(1, None).unwrap().remove(0);
    let mut other = two.connect_io_queues(1, None).unwrap().remove(0);
    let mut check = |queue: &mut QueuePair, sqe: Sqe, data: Data, what| {
        let id = queue.submit(sqe, data).unwrap();
        queue.flush(soon()).unwrap();
        wait_until("it to be saved", || slow.saving() == Some(what));
        read(&mut other, 1, 100, 512, 512).unwrap();
        assert_eq!(slow.saving(), Some(what), "who reads has not waited for it");
        slow.go_on();
        let status = queue.wait(id, soon()).unwrap().status();
        assert!(status.is_success(), "{what}: {status}");
    };
    let set = |fid: u8, value| {
        let mut sqe = Sqe::new(opcode::admin::SET_FEATURES);
        sqe.nsid.set(1);
        sqe.set_cdw(10, fid.into());
        sqe.set_cdw(11, value);
        sqe
    };
    let none = || Data::None;
    check(one.admin(), set(fid::RESERVATION_PERSISTENCE, 1), none(), "reservations");
    check(one.admin(), set(fid::WRITE_PROTECTION, 1), none(), "protection");
    check(one.admin(), set(fid::WRITE_PROTECTION, 0), none(), "protection");
    let on = |opcode| command(opcode, 1, 4, 2);
    check(&mut busy, on(opcode::nvm::WRITE_UNCORRECTABLE), none(), "uncorrectable");
    let data = Data::write(vec![7; 1024]);
    check(&mut busy, on(opcode::nvm::WRITE), data, "uncorrectable");
    assert_eq!(read(&mut busy, 1, 4, 512, 1024).unwrap(), [7; 1024]);
    check(&mut busy, on(opcode::nvm::WRITE_UNCORRECTABLE), none(), "uncorrectable");
    check(&mut busy, on(opcode::nvm::WRITE_ZEROES), none(), "uncorrectable");
    assert_eq!(read(&mut busy, 1, 4, 512, 1024).unwrap(), [0; 1024]);
    target.stop().unwrap();
}

//! x
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "tests may stop at a surprise")]

use std::io::{IoSlice, IoSliceMut};
use nvme_spec::{HostId, Nqn, Sqe, Status, opcode::nvm};
use nvmf::host::*;
use nvmf::*;
use nvmf_wire_tests::controller::*;
use nvmf_wire_tests::recording::*;
use nvmf_wire_tests::*;

#[test]
fn first() {
    let target = Target::start(Settings::default());
    let recorder = Recorder::start(target.address());
    let mut options = HostOptions::new(Nqn::lenient("nqn.2026-01.org.example:host").unwrap(), HostId([9; 16]));
    options.header_digest = true;
    options.data_digest = true;
    let nqn = Nqn::lenient(SUBSYSTEM).unwrap();
    let mut a = Association::connect(TcpDialer::new(recorder.address()), &nqn, options).unwrap();
    let mut q = a.connect_io_queues(1, None).unwrap();
    let io = &mut q[0];
    for blocks in [1u32, 16, 128] {
        let data = vec![7; blocks as usize * 512];
        let mut sqe = Sqe::new(nvm::WRITE);
        sqe.nsid.set(1);
        sqe.set_cdw(12, blocks - 1);
        io.execute(sqe, Transfer::Write(&[IoSlice::new(&data)]), soon()).unwrap();
        let mut back = vec![0; data.len()];
        sqe.opcode = nvm::READ;
        io.execute(sqe, Transfer::Read(&mut [IoSliceMut::new(&mut back)]), soon()).unwrap();
    }
    a.shutdown(q).unwrap();
    let recording = recorder.finish();
    target.finish();
    let d = tshark::dissect(&recording);
    println!("{:?}", d.complaints);
    for p in &d.pdus {
        println!("{} {:?} {:?} {:?}", p.packet, p.from, p.fields.get("nvme-tcp.type"), p.complaints);
    }
}

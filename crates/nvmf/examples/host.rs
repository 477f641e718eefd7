//! Connects to a target over TCP, reads the first block of a namespace, and prints its beginning.
//!
//! ```text
//! cargo run -p nvmf-cli -- serve &
//! cargo run -p nvmf --example host -- 127.0.0.1:4420 SUBNQN
//! ```

use std::error::Error;
use std::io::IoSliceMut;

use nvmf::host::{Association, HostOptions};
use nvmf::spec::{Nqn, Sqe, opcode};
use nvmf::{Deadline, Transfer};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(address), Some(subsystem), nsid) = (args.next(), args.next(), args.next()) else {
        return Err("usage: host HOST:PORT SUBNQN [NSID]".into());
    };
    let nsid = nsid.map_or(Ok(1), |nsid| nsid.parse())?;

    // The admin queue: Connect, enable the controller, identify it.
    let options = HostOptions::from_system()?;
    let timeout = options.timeout;
    let subsystem = Nqn::lenient(&subsystem)?;
    let mut association = Association::connect_tcp(address, &subsystem, options)?;
    let namespace = association.namespace(nsid)?;
    println!(
        "{} at {}: namespace {nsid} has {} blocks of {} bytes",
        association.controller().model_number(),
        association.peer(),
        namespace.blocks,
        namespace.block_size
    );

    // One I/O queue, one Read of block 0.
    let mut queues = association.connect_io_queues(1, None)?;
    let queue = queues.first_mut().ok_or("the controller grants no I/O queue")?;
    let mut read = Sqe::new(opcode::nvm::READ);
    read.nsid.set(nsid);
    read.set_slba(0);
    read.set_cdw(12, 0); // the number of blocks, 0's based
    let mut block = vec![0; usize::try_from(namespace.block_size)?];
    let into = Transfer::Read(&mut [IoSliceMut::new(&mut block)]);
    queue.execute(read, into, Deadline::after(timeout))?;
    for row in block.chunks(16).take(4) {
        let digits: Vec<_> = row.iter().map(|byte| format!("{byte:02x}")).collect();
        println!("{}", digits.join(" "));
    }

    association.shutdown(queues)?;
    Ok(())
}

//! Writes a namespace before it is measured.

use std::io::IoSlice;
use std::time::Duration;

use nvmf::host::Association;
use nvmf::spec::{Nqn, Sqe, opcode};
use nvmf::{Deadline, Transfer};

use crate::children::Failure;
use crate::probe::options;

/// Bytes of one write: what every target takes.
const LENGTH: usize = 128 << 10;
/// How long one may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Writes every block of namespace 1: where that was never done, a target may read from nowhere in
/// particular, and be faster than it is.
pub(crate) fn prefill(port: u16, subnqn: &str) -> Result<(), Failure> {
    let failed = |error: &dyn std::fmt::Display| format!("the namespace cannot be filled: {error}");
    let subnqn = Nqn::lenient(subnqn).map_err(|error| failed(&error))?;
    let connect = || {
        let address = format!("127.0.0.1:{port}");
        let mut host = Association::connect_tcp(&address, &subnqn, options(0))?;
        let namespace = host.identify_namespace(1)?;
        let mut queues = host.connect_io_queues(1, None)?;
        let block = namespace.block_size().map_or(4096, |size| size as usize);
        let blocks = LENGTH / block;
        let data: Vec<u8> = (1..=250).cycle().take(LENGTH).collect();
        let mut slba = 0;
        while slba < namespace.nsze.get() {
            let count = (namespace.nsze.get() - slba).min(blocks as u64);
            let mut sqe = Sqe::new(opcode::nvm::WRITE);
            sqe.nsid.set(1);
            sqe.set_slba(slba);
            sqe.set_cdw(12, u32::try_from(count - 1).unwrap_or(0));
            let pieces = [IoSlice::new(&data[..usize::try_from(count).unwrap_or(0) * block])];
            queues[0].execute(sqe, Transfer::Write(&pieces), Deadline::after(PATIENCE))?;
            slba += count;
        }
        host.shutdown(queues)
    };
    connect().map_err(|error: nvmf::Error| failed(&error))
}

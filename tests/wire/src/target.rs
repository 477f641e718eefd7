//! The target that takes part in the conversations: ours, with a namespace in memory and one in a file.

use std::net::SocketAddr;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nvme_spec::Nqn;
use nvmf::Deadline;
use nvmf_proto::tcp::ControllerConfig;
use nvmf_target::{Handle, Subsystem, TargetError};
use tempfile::NamedTempFile;

/// The subsystem's name.
pub const SUBSYSTEM: &str = "nqn.2026-01.org.example:wire";
/// Bytes of a block.
pub const BLOCK: u32 = 512;
/// Blocks of namespace 1, which is in memory; namespace 2, a file, is there for its write cache.
pub const BLOCKS: u64 = 2048;

/// A running target; it ends with [`finish`](Self::finish).
#[derive(Debug)]
pub struct Target {
    address: SocketAddr,
    handle: Handle,
    running: JoinHandle<Result<(), TargetError>>,
    _disk: NamedTempFile,
}

/// No test waits longer for anything.
pub fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(10))
}

impl Target {
    /// Serves on a free port of the loopback interface.
    pub fn start(config: ControllerConfig) -> Self {
        let memory = format!("mem:{},bs={BLOCK}", BLOCKS * u64::from(BLOCK));
        let disk = NamedTempFile::new().unwrap();
        disk.as_file().set_len(1 << 20).unwrap();
        let file = format!("file:{},bs={BLOCK}", disk.path().display());
        let mut subsystem = Subsystem::builder(Nqn::lenient(SUBSYSTEM).unwrap());
        for spec in [memory, file] {
            subsystem = subsystem.open(&spec.parse().unwrap()).unwrap();
        }
        let subsystem = subsystem.build().unwrap();
        let target = nvmf_target::Target::builder()
            .subsystem(subsystem)
            .tcp(config)
            .listen("127.0.0.1:0".parse().unwrap())
            .bind()
            .unwrap();
        let (address, handle) = (target.local_addrs()[0], target.handle());
        Self { address, handle, running: thread::spawn(|| target.run()), _disk: disk }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends it.
    pub fn finish(self) {
        self.handle.shutdown();
        self.running.join().unwrap().unwrap();
    }
}

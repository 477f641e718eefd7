//! A target that runs for a test, and namespace objects on it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nvmf::host::HostOptions;
use nvmf::spec::{HostId, Nqn};
use nvmf_host::{EngineChoice, Namespace, NamespaceBuilder};
use nvmf_target::{Handle, Port, Subsystem, SubsystemBuilder, Target, TargetError};

pub(crate) const NSID: u32 = 1;

pub(crate) fn nqn() -> Nqn {
    Nqn::parse_strict("nqn.2026-01.org.example:disk").unwrap()
}

pub(crate) struct Running {
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) handle: Handle,
    thread: Option<JoinHandle<Result<(), TargetError>>>,
}

/// The event loop to test: `NVMF_ENGINE` says which, as it does to the command.
fn engine() -> EngineChoice {
    std::env::var("NVMF_ENGINE").map_or_else(|_| Default::default(), |name| name.parse().unwrap())
}

impl Running {
    /// Serves a namespace by this many ports.
    pub(crate) fn start(spec: &str, ports: u16) -> Self {
        Self::start_with(ports, |subsystem| subsystem.open(&spec.parse().unwrap()).unwrap())
    }

    pub(crate) fn start_with(
        ports: u16,
        with: impl FnOnce(SubsystemBuilder) -> SubsystemBuilder,
    ) -> Self {
        let subsystem: Arc<Subsystem> = with(Subsystem::builder(nqn())).build().unwrap();
        let mut builder = Target::builder().subsystem(subsystem).engine(engine());
        for id in 1..=ports {
            let port = Port::new(id, "127.0.0.1:0".parse().unwrap());
            builder = builder.port(port.with_subsystems([nqn()]));
        }
        let target = builder.bind().unwrap();
        let (addresses, handle) = (target.local_addrs(), target.handle());
        let thread = Some(std::thread::spawn(|| target.run()));
        Self { addresses, handle, thread }
    }

    /// A namespace object by all ports.
    pub(crate) fn namespace(&self) -> Namespace {
        by(&self.addresses).connect().unwrap()
    }
}

/// A host with paths by these addresses, which does not wait long for anything.
pub(crate) fn by(addresses: &[SocketAddr]) -> NamespaceBuilder {
    let host = Nqn::parse_strict("nqn.2026-01.org.example:host").unwrap();
    let mut options = HostOptions::new(host, HostId([7; 16]));
    options.timeout = Duration::from_secs(5);
    let mut builder = Namespace::builder(nqn(), NSID, options)
        .engine(engine())
        .keep_alive(Duration::from_secs(1))
        .reconnect_delay(Duration::from_millis(200))
        .deadline(Duration::from_secs(30));
    for address in addresses {
        builder = builder.path(address.to_string());
    }
    builder
}

impl Drop for Running {
    fn drop(&mut self) {
        self.handle.shutdown();
        if let Some(thread) = self.thread.take()
            && let Err(panic) = thread.join()
            && !std::thread::panicking()
        {
            std::panic::resume_unwind(panic);
        }
    }
}

#[track_caller]
pub(crate) fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < end, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Bytes that tell where they belong.
pub(crate) fn pattern(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

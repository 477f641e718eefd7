//! What the unit tests of several modules need.

use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use nvme_spec::{HostId, Nqn};
use nvmf_proto::connect::{ConnectCommand, ConnectRequest, ControllerChoice};
use nvmf_proto::queue::QueueSize;

use crate::association::Association;
use crate::persistence::Persistence;
use crate::port::Port;
use crate::reservation::Saved;
use crate::subsystem::Subsystem;

pub(crate) const NQN: &str = "nqn.2026-01.org.example:disks";

pub(crate) fn nqn(text: &str) -> Nqn {
    Nqn::lenient(text).unwrap()
}

/// The Connect of host number `host`'s admin queue.
pub(crate) fn request(host: u8) -> ConnectRequest {
    ConnectRequest {
        command: ConnectCommand {
            qid: 0,
            size: QueueSize::new(32).unwrap(),
            kato_ms: 0,
            disable_flow_control: false,
        },
        host_id: HostId([host; 16]),
        controller: ControllerChoice::Dynamic,
        subsystem: nqn(NQN),
        host: nqn(&format!("nqn.2026-01.org.example:host{host}")),
    }
}

/// A subsystem with namespaces 1 (1 MiB of memory, blocks of 512) and 3 (null, of 4096).
pub(crate) fn subsystem() -> Arc<Subsystem> {
    let backend = |spec: &str| {
        let spec: nvmf_storage::NamespaceSpec = spec.parse().unwrap();
        Arc::from(spec.open().unwrap())
    };
    Subsystem::builder(nqn(NQN))
        .namespace(1, backend("mem:1M,bs=512"))
        .namespace(3, backend("null:64M"))
        .build()
        .unwrap()
}

pub(crate) fn association(subsystem: &Arc<Subsystem>) -> Arc<Association> {
    connect(subsystem, 1)
}

/// The association of host number `host`, over no port.
pub(crate) fn connect(subsystem: &Arc<Subsystem>, host: u8) -> Arc<Association> {
    subsystem.connect_admin(&request(host), &Arc::new(Port::none())).unwrap()
}

/// Keeps what is to outlast a restart, in the order in which it came.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    saved: Mutex<Vec<Option<Saved>>>,
    protected: Mutex<Vec<bool>>,
    uncorrectable: Mutex<Vec<Vec<Range<u64>>>>,
    full: AtomicBool,
}

impl Kept {
    /// Nothing can be saved from now on.
    pub(crate) fn fill_up(&self) {
        self.full.store(true, Ordering::Relaxed);
    }

    /// What was saved of reservations.
    pub(crate) fn saved(&self) -> MutexGuard<'_, Vec<Option<Saved>>> {
        self.saved.lock().unwrap()
    }

    /// What was saved of write protection.
    pub(crate) fn protected(&self) -> Vec<bool> {
        self.protected.lock().unwrap().clone()
    }

    /// What was saved of uncorrectable blocks.
    pub(crate) fn uncorrectable(&self) -> Vec<Vec<Range<u64>>> {
        self.uncorrectable.lock().unwrap().clone()
    }

    fn has_room(&self) -> io::Result<()> {
        match self.full.load(Ordering::Relaxed) {
            true => Err(io::ErrorKind::StorageFull.into()),
            false => Ok(()),
        }
    }
}

impl Persistence for Kept {
    fn save_reservations(&self, nsid: u32, saved: Option<&Saved>) -> io::Result<()> {
        assert_eq!(nsid, 1);
        self.has_room()?;
        self.saved().push(saved.cloned());
        Ok(())
    }

    fn save_protection(&self, nsid: u32, protected: bool) -> io::Result<()> {
        assert_eq!(nsid, 1);
        self.has_room()?;
        self.protected.lock().unwrap().push(protected);
        Ok(())
    }

    fn save_uncorrectable(&self, nsid: u32, ranges: &[Range<u64>]) -> io::Result<()> {
        assert_eq!(nsid, 1);
        self.has_room()?;
        self.uncorrectable.lock().unwrap().push(ranges.to_vec());
        Ok(())
    }
}

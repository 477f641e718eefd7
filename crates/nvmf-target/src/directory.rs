//! What there is of a target at one time: its ports, its subsystems, and what discovery tells.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use nvme_spec::Nqn;

use crate::port::Port;
use crate::subsystem::Subsystem;

/// Ports, subsystems, referrals. It never changes: a change makes another.
#[derive(Debug, Clone)]
pub(crate) struct Directory {
    /// GENCTR of the Discovery log page.
    generation: u64,
    pub(crate) ports: Vec<Arc<Port>>,
    pub(crate) subsystems: Vec<Arc<Subsystem>>,
    pub(crate) discovery: Arc<Subsystem>,
    pub(crate) referrals: Vec<Referral>,
}

/// Another discovery service that hosts are to ask too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Referral {
    /// Where it is.
    pub address: SocketAddr,
    /// Its name: [`Nqn::DISCOVERY`], unless it has one of its own.
    pub nqn: Nqn,
    /// The PORTID of the entry.
    pub port_id: u16,
}

impl Directory {
    /// Nothing but a discovery subsystem of this name.
    pub(crate) fn new(discovery: Nqn) -> Self {
        // A host that was connected before a restart must not take the new log for the old one.
        let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            generation: started.as_secs() << 16,
            ports: Vec::new(),
            subsystems: Vec::new(),
            discovery: Subsystem::discovery(discovery),
            referrals: Vec::new(),
        }
    }

    /// The subsystem of this name; discovery has two.
    pub(crate) fn subsystem(&self, nqn: &Nqn) -> Option<&Arc<Subsystem>> {
        if nqn.is_discovery() {
            return Some(&self.discovery);
        }
        std::iter::once(&self.discovery).chain(&self.subsystems).find(|s| s.nqn() == nqn)
    }

    /// The port of this identifier.
    pub(crate) fn port(&self, id: u16) -> Option<&Arc<Port>> {
        self.ports.iter().find(|port| port.id() == id)
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// The Discovery log may be another from now on.
    pub(crate) fn next_generation(&mut self) {
        self.generation += 1;
    }
}

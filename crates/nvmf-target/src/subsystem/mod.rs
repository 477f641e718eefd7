//! An NVM subsystem: a name, and namespaces under it.

mod builder;
mod exclusion;
mod marks;
mod namespace;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use nvme_spec::event::Event;
use nvme_spec::fabrics::{Connect, ConnectData};
use nvme_spec::{HostId, Nqn, Status};
use nvmf::controller::SerialNumber;
use nvmf_proto::connect::{ConnectRequest, ControllerChoice, Refusal};
use nvmf_proto::queue::QueueSize;

use crate::association::Association;
use crate::io::flush_all;
use crate::limits::MaxTransfer;
use crate::persistence::Persistence;
use crate::port::Port;
use crate::statistics::{Snapshot, Statistics};

pub use builder::{SubsystemBuilder, SubsystemError};
pub(crate) use exclusion::{KeptPlace, Place};
pub use namespace::{Namespace, NamespaceBuilder};
pub(crate) use view::{CachedView, SharedView, View, Visible};

/// Who may connect to a subsystem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hosts {
    /// Everybody who knows its name.
    Any,
    /// These hosts, by their NQNs.
    Only(BTreeSet<Nqn>),
}

impl Hosts {
    /// Whether this host may.
    pub fn allow(&self, host: &Nqn) -> bool {
        match self {
            Self::Any => true,
            Self::Only(hosts) => hosts.contains(host),
        }
    }
}

/// An NVM subsystem: what hosts connect to by its NQN.
///
/// Its controllers come into being with each host that connects (the dynamic controller model),
/// unless it has [so many](SubsystemBuilder::static_controllers).
///
/// ```
/// use nvme_spec::Nqn;
/// use nvmf_target::Subsystem;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let subsystem = Subsystem::builder(Nqn::parse_strict("nqn.2026-01.org.example:disks")?)
///     .open(&"mem:1M".parse()?)?
///     .open(&"null:1G,bs=512".parse()?)?
///     .build()?;
/// assert_eq!(subsystem.namespaces().len(), 2);
/// assert_eq!(subsystem.namespace(2).map(|ns| ns.backend().geometry().block_size()), Some(512));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Subsystem {
    nqn: Nqn,
    serial: SerialNumber,
    model: String,
    firmware: String,
    /// None for discovery.
    max_io_queues: AtomicU16,
    max_transfer: MaxTransfer,
    max_queue_entries: QueueSize,
    max_nsid: u32,
    /// How many controllers are always there, in the static model.
    static_controllers: Option<u16>,
    started: Instant,
    statistics: Statistics,
    /// Storage has lost what was written to it.
    degraded: AtomicBool,
    persistence: Option<Arc<dyn Persistence>>,
    state: Mutex<State>,
    controllers: Mutex<Controllers>,
}

/// What can change while hosts are connected.
#[derive(Debug)]
struct State {
    namespaces: BTreeMap<u32, Arc<Namespace>>,
    hosts: Hosts,
}

/// The controllers there are, by CNTLID.
#[derive(Debug)]
struct Controllers {
    by_id: BTreeMap<u16, Weak<Association>>,
    /// The least and the greatest identifier.
    range: (u16, u16),
    last: u16,
    /// In the static model, which host had each last.
    hosts: BTreeMap<u16, HostId>,
}

impl Subsystem {
    /// A subsystem of this name, without namespaces yet.
    pub fn builder(nqn: Nqn) -> SubsystemBuilder {
        SubsystemBuilder::new(nqn)
    }

    /// The discovery subsystem, which may have a unique name: its controllers have no namespaces
    /// and no I/O queues.
    pub(crate) fn discovery(nqn: Nqn) -> Arc<Self> {
        SubsystemBuilder::new(nqn).without_io().finish(BTreeMap::new())
    }

    /// The name.
    pub fn nqn(&self) -> &Nqn {
        &self.nqn
    }

    /// The serial number.
    pub fn serial(&self) -> &SerialNumber {
        &self.serial
    }

    /// The model number.
    pub fn model(&self) -> &str {
        &self.model
    }

    /// The firmware revision.
    pub fn firmware(&self) -> &str {
        &self.firmware
    }

    /// The namespaces that there are now, in ascending order of their identifiers.
    pub fn namespaces(&self) -> Vec<Arc<Namespace>> {
        self.state().namespaces.values().cloned().collect()
    }

    /// The namespace of this identifier.
    pub fn namespace(&self, nsid: u32) -> Option<Arc<Namespace>> {
        self.state().namespaces.get(&nsid).cloned()
    }

    /// NN: the greatest namespace identifier that is valid.
    pub fn max_nsid(&self) -> u32 {
        self.max_nsid
    }

    /// The most I/O queues that a controller grants.
    pub fn max_io_queues(&self) -> u16 {
        self.max_io_queues.load(Ordering::Relaxed)
    }

    /// The most data that one command moves.
    pub fn max_transfer(&self) -> MaxTransfer {
        self.max_transfer
    }

    /// The largest I/O queue that a host may connect.
    pub fn max_queue_entries(&self) -> QueueSize {
        self.max_queue_entries
    }

    /// Who may connect.
    pub fn hosts(&self) -> Hosts {
        self.state().hosts.clone()
    }

    /// What the hosts did with the subsystem since it was made.
    pub fn statistics(&self) -> Snapshot {
        self.statistics.snapshot()
    }

    /// Makes durable what was written to any namespace. Flushes all of them even if one fails.
    ///
    /// # Errors
    ///
    /// The status of the first that failed, as a Flush command would be answered.
    pub fn flush(&self) -> Result<(), Status> {
        flush_all(&self.namespaces())
    }

    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    pub(crate) fn books(&self) -> &Statistics {
        &self.statistics
    }

    /// Storage has lost what was written to it: each host is told that the subsystem is not to be
    /// relied on.
    pub(crate) fn lost_writes(&self) {
        if !self.degraded.swap(true, Ordering::Relaxed) {
            for association in self.associations() {
                association.events().raise(Event::RELIABILITY);
            }
        }
    }

    /// Whether [`lost_writes`](Self::lost_writes) was called.
    pub(crate) fn has_lost_writes(&self) -> bool {
        self.degraded.load(Ordering::Relaxed)
    }

    pub(crate) fn is_discovery(&self) -> bool {
        self.max_io_queues() == 0
    }

    /// What a host sees of it through a port.
    pub(crate) fn view(&self, host: &Nqn, port: &Port) -> View {
        View::new(self.state().namespaces.values(), host, port)
    }

    /// Adds a namespace and tells the hosts.
    ///
    /// # Errors
    ///
    /// [`SubsystemError`] if its identifiers clash with those of another.
    pub(crate) fn attach(&self, ns: Arc<Namespace>) -> Result<(), SubsystemError> {
        {
            let mut state = self.state();
            builder::check(&ns, &state.namespaces, self.max_nsid)?;
            if let Some(persistence) = &self.persistence {
                ns.persist(persistence);
            }
            state.namespaces.insert(ns.nsid(), ns);
        }
        self.refresh();
        Ok(())
    }

    /// Takes a namespace away and tells the hosts. Commands that are under way may still use it.
    pub(crate) fn detach(&self, nsid: u32) -> Option<Arc<Namespace>> {
        let ns = self.state().namespaces.remove(&nsid)?;
        ns.detach();
        self.refresh();
        Some(ns)
    }

    /// Says who may connect from now on. Those that may no more lose their controllers.
    pub(crate) fn set_hosts(&self, hosts: Hosts) {
        self.state().hosts = hosts.clone();
        for association in self.associations() {
            if !hosts.allow(association.host()) {
                association.disconnect();
            }
        }
    }

    /// Says what controllers that come from now on are like.
    pub(crate) fn set_controllers(&self, max_io_queues: u16, cntlids: RangeInclusive<u16>) {
        self.max_io_queues.store(max_io_queues.max(1), Ordering::Relaxed);
        self.controllers().range = (*cntlids.start(), *cntlids.end());
    }

    /// Something about the namespaces or the ports is not what it was: each controller gets a new
    /// view, and its host is told what is different.
    pub(crate) fn refresh(&self) {
        self.associations().iter().for_each(|association| association.refresh());
    }

    /// The controllers there are now.
    pub(crate) fn associations(&self) -> Vec<Arc<Association>> {
        self.controllers().by_id.values().filter_map(Weak::upgrade).collect()
    }

    /// Whether its controllers are always there.
    pub(crate) fn is_static(&self) -> bool {
        self.static_controllers.is_some()
    }

    /// The identifiers of the controllers that there are, whether hosts have them or not.
    pub(crate) fn controller_ids(&self) -> Vec<u16> {
        let controllers = self.controllers();
        match self.static_controllers {
            Some(count) => controllers.fixed(count).collect(),
            None => controllers.by_id.keys().copied().collect(),
        }
    }

    /// Makes a controller for a host that connects its admin queue through this port.
    pub(crate) fn connect_admin(
        self: &Arc<Self>,
        request: &ConnectRequest,
        port: &Arc<Port>,
    ) -> Result<Arc<Association>, Refusal> {
        let mut controllers = self.controllers();
        // Asked under the lock, so that a host that is shut out meanwhile is found by who does it.
        self.admit(request)?;
        let cntlid = match (self.static_controllers, request.controller) {
            (None, ControllerChoice::Dynamic) => controllers.next(),
            (Some(count), ControllerChoice::StaticAny) => controllers.any(count, request.host_id),
            (Some(count), ControllerChoice::Id(id)) if controllers.fixed(count).contains(&id) => {
                controllers.free(id)
            }
            (_, choice) => {
                let reason = format!("there is no controller {:#06x} to be had", choice.to_wire());
                return Err(Refusal::data(ConnectData::OFFSET_CNTLID, reason));
            }
        };
        let cntlid = cntlid.ok_or(Refusal::Busy)?;
        let association =
            Arc::new(Association::new(cntlid, request, Arc::clone(self), Arc::clone(port)));
        controllers.by_id.insert(cntlid, Arc::downgrade(&association));
        controllers.last = cntlid;
        if self.is_static() {
            controllers.hosts.insert(cntlid, request.host_id);
        }
        drop(controllers);
        self.statistics.connected(&request.host);
        Ok(association)
    }

    /// Finds the controller to which a host connects an I/O queue, if it is that host's own and has
    /// queues that large.
    pub(crate) fn find_controller(
        &self,
        cntlid: u16,
        request: &ConnectRequest,
    ) -> Result<Arc<Association>, Refusal> {
        self.admit(request)?;
        let association =
            self.controllers().by_id.get(&cntlid).and_then(Weak::upgrade).ok_or_else(|| {
                let reason = format!("there is no controller {cntlid}");
                Refusal::data(ConnectData::OFFSET_CNTLID, reason)
            })?;
        if association.host_id() != request.host_id {
            let reason = "not the host identifier of the admin queue";
            return Err(Refusal::data(ConnectData::OFFSET_HOSTID, reason));
        }
        if *association.host() != request.host {
            let reason = "not the host NQN of the admin queue";
            return Err(Refusal::data(ConnectData::OFFSET_HOSTNQN, reason));
        }
        let (asked, most) = (request.command.size, self.max_queue_entries);
        if asked > most {
            let (asked, most) = (asked.entries(), most.entries());
            let reason = format!("{asked} entries; 2 to {most} are possible");
            return Err(Refusal::command(Connect::OFFSET_SQSIZE, reason));
        }
        Ok(association)
    }

    /// Whether the host may connect.
    fn admit(&self, request: &ConnectRequest) -> Result<(), Refusal> {
        if self.state().hosts.allow(&request.host) { Ok(()) } else { Err(Refusal::Host) }
    }

    /// An association is gone with all its queues: its identifier may be given out again.
    pub(crate) fn forget_controller(&self, cntlid: u16) {
        self.controllers().by_id.remove(&cntlid);
    }

    fn controllers(&self) -> MutexGuard<'_, Controllers> {
        self.controllers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Controllers {
    /// An identifier for a new controller. They go round before one comes again, so that a host
    /// that lags behind does not meet another's controller.
    fn next(&self) -> Option<u16> {
        let (least, greatest) = self.range;
        let last = self.last.max(least.saturating_sub(1));
        let mut ids = (last.saturating_add(1)..=greatest).chain(least..=last.min(greatest));
        ids.find(|id| self.free(*id).is_some())
    }

    /// The identifiers of `count` controllers that are always there.
    fn fixed(&self, count: u16) -> RangeInclusive<u16> {
        let (least, greatest) = self.range;
        least..=least.saturating_add(count.saturating_sub(1)).min(greatest)
    }

    /// One of these that this host had before, else one that none had, else any.
    fn any(&self, count: u16, host: HostId) -> Option<u16> {
        let free = || self.fixed(count).filter_map(|id| self.free(id));
        free()
            .find(|id| self.hosts.get(id) == Some(&host))
            .or_else(|| free().find(|id| !self.hosts.contains_key(id)))
            .or_else(|| free().next())
    }

    /// This one, if no host has it.
    fn free(&self, cntlid: u16) -> Option<u16> {
        (!self.by_id.contains_key(&cntlid)).then_some(cntlid)
    }
}

#[cfg(test)]
mod tests;

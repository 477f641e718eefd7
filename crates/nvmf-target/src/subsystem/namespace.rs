//! A namespace: an identifier, and the blocks behind it.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::Instant;

use nvme_spec::identify::{IdentifyNamespace, NSID_ALL};
use nvme_spec::{HostId, Nqn, Status};
use nvmf::controller::identify::NamespaceDescription;
use nvmf_storage::{Backend, NamespaceSpec, OpenError};

use super::SubsystemError;
use super::exclusion::{Exclusion, Place};
use super::marks::Marks;
use crate::identity::{namespace_nguid, namespace_uuid};
use crate::limit::{Limiter, Limits};
use crate::persistence::{Persistence, Store};
use crate::port::Port;
use crate::reservation::{Access, Reservations, Saved};

/// A namespace of a [`Subsystem`](crate::Subsystem): an identifier, and the blocks behind it.
///
/// What it is stays; how it may be used can change while hosts use it.
#[derive(Debug)]
pub struct Namespace {
    nsid: u32,
    backend: Arc<dyn Backend>,
    uuid: [u8; 16],
    nguid: [u8; 16],
    eui64: Option<[u8; 8]>,
    ana_group: AtomicU32,
    write_protected: AtomicBool,
    /// The same by the Namespace Write Protection Config feature: a host cannot undo the other.
    protected_by_host: AtomicBool,
    /// Held while that is changed and saved.
    protecting: Mutex<()>,
    /// Whose it is; `None`: every host's that the subsystem lets in.
    hosts: RwLock<Option<BTreeSet<Nqn>>>,
    reservations: Reservations,
    /// Blocks that hosts marked as not to be read.
    marks: Marks,
    /// Where what outlasts a restart is saved.
    store: OnceLock<Store>,
    /// Keeps others from writing while a fused pair is executed.
    exclusion: Exclusion,
    limiter: Limiter,
    /// Its subsystem has it no more: nobody may keep its files.
    detached: AtomicBool,
}

impl Namespace {
    /// A namespace of this identifier in front of `backend`; see [`NamespaceBuilder`].
    pub fn builder(nsid: u32, backend: Arc<dyn Backend>) -> NamespaceBuilder {
        NamespaceBuilder {
            nsid,
            backend,
            uuid: None,
            nguid: None,
            eui64: None,
            ana_group: 1,
            write_protected: false,
            protected_by_host: false,
            hosts: None,
            uncorrectable: Vec::new(),
            reservations: None,
            persistence: None,
            limits: Limits::default(),
        }
    }

    /// Opens what the spec says, as the namespace of this identifier.
    ///
    /// # Errors
    ///
    /// [`OpenError`], as [`NamespaceSpec::open_as`].
    pub fn open(nsid: u32, spec: &NamespaceSpec) -> Result<NamespaceBuilder, OpenError> {
        let builder = Self::builder(nsid, Arc::from(spec.open_as(nsid)?));
        Ok(NamespaceBuilder { uuid: spec.uuid, ..builder })
    }

    /// The namespace identifier, from 1.
    pub fn nsid(&self) -> u32 {
        self.nsid
    }

    /// Where the blocks are.
    pub fn backend(&self) -> &Arc<dyn Backend> {
        &self.backend
    }

    /// The UUID, in the order it is written.
    pub fn uuid(&self) -> [u8; 16] {
        self.uuid
    }

    /// The NGUID, in the order it is written.
    pub fn nguid(&self) -> [u8; 16] {
        self.nguid
    }

    /// The EUI-64, if one was given.
    pub fn eui64(&self) -> Option<[u8; 8]> {
        self.eui64
    }

    /// The ANA group that it belongs to.
    pub fn ana_group(&self) -> u32 {
        self.ana_group.load(Ordering::Relaxed)
    }

    /// Whether writes are refused, be it that the storage refuses them or that the namespace is
    /// write-protected, here or by a host.
    pub fn is_read_only(&self) -> bool {
        self.write_protected.load(Ordering::Relaxed)
            || self.is_protected_by_host()
            || self.backend.geometry().read_only()
    }

    /// Whether a host sees it, of those that the subsystem lets in.
    pub fn is_visible_to(&self, host: &Nqn) -> bool {
        let hosts = self.hosts.read().unwrap_or_else(PoisonError::into_inner);
        hosts.as_ref().is_none_or(|only| only.contains(host))
    }

    /// What hosts may ask of it in a second.
    pub fn limits(&self) -> Limits {
        self.limiter.limits()
    }

    /// Sets what hosts may ask of it in a second, from now on.
    ///
    /// Commands that wait already look again when the time comes that they were told; with
    /// [`Handle::change_namespace`](crate::Handle::change_namespace) they look at once.
    pub fn set_limits(&self, limits: Limits) {
        self.limiter.set(limits, Instant::now());
    }

    /// Registrations and reservation as they are to outlast a restart; `None` if they are not to.
    pub fn saved_reservations(&self) -> Option<Saved> {
        self.reservations.saved()
    }

    /// The namespace as Identify tells of it.
    pub fn description(&self) -> NamespaceDescription {
        let geometry = self.backend.geometry();
        NamespaceDescription {
            blocks: geometry.blocks(),
            block_shift: geometry.block_shift(),
            read_only: self.is_read_only(),
            uuid: self.uuid,
            nguid: self.nguid,
            eui64: self.eui64.unwrap_or_default(),
            ana_group: self.ana_group(),
            reservations: self.reservation_capabilities(),
        }
    }

    fn reservation_capabilities(&self) -> u8 {
        let persistence = match self.reservations.can_persist() {
            true => IdentifyNamespace::RESCAP_PERSISTENCE,
            false => 0,
        };
        IdentifyNamespace::RESCAP_ALL_TYPES | IdentifyNamespace::RESCAP_IGNORE_KEY_1_3 | persistence
    }

    pub(crate) fn reservations(&self) -> &Reservations {
        &self.reservations
    }

    pub(crate) fn marks(&self) -> &Marks {
        &self.marks
    }

    pub(crate) fn exclusion(&self) -> &Exclusion {
        &self.exclusion
    }

    pub(crate) fn limiter(&self) -> &Limiter {
        &self.limiter
    }

    /// Lets a command of this host write, unless it would have to wait (`None`) or another host has
    /// reserved the namespace.
    ///
    /// The reservation is looked at once there is a place: so who changes it and then waits until
    /// all places are given back knows that nothing is written any more that it forbids.
    #[inline]
    pub(crate) fn enter(&self, host: HostId) -> Result<Option<Place<'_>>, Status> {
        let Some(place) = self.exclusion.enter() else { return Ok(None) };
        self.reservations.check(host, Access::Write)?;
        Ok(Some(place))
    }

    /// The same, and waits if it has to.
    pub(crate) fn wait(&self, host: HostId) -> Result<Place<'_>, Status> {
        let place = self.exclusion.wait();
        self.reservations.check(host, Access::Write)?;
        Ok(place)
    }

    /// Has what outlasts a restart saved there, unless there is a place already.
    pub(super) fn persist(&self, persistence: &Arc<dyn Persistence>) {
        let store = Store::new(self.nsid, Arc::clone(persistence));
        self.reservations.persist(store.clone());
        self.marks.persist(store.clone());
        let _ = self.store.set(store);
    }

    /// Puts it into another ANA group. Who sees it has to be told, here and below.
    pub(crate) fn set_ana_group(&self, group: u32) {
        self.ana_group.store(group, Ordering::Relaxed);
    }

    pub(crate) fn set_write_protected(&self, on: bool) {
        self.write_protected.store(on, Ordering::Relaxed);
    }

    /// Whether a host has write-protected it.
    pub(crate) fn is_protected_by_host(&self) -> bool {
        self.protected_by_host.load(Ordering::Relaxed)
    }

    /// A host protects it, or no more, which is saved first, if there is a place for it; that may
    /// wait. Who sees it has to be told.
    pub(crate) fn protect_by_host(&self, on: bool) -> Result<(), Status> {
        let _alone = self.protecting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(store) = self.store.get()
            && on != self.is_protected_by_host()
        {
            store.save_protection(on)?;
        }
        self.protected_by_host.store(on, Ordering::Relaxed);
        Ok(())
    }

    pub(crate) fn set_hosts(&self, hosts: Option<BTreeSet<Nqn>>) {
        *self.hosts.write().unwrap_or_else(PoisonError::into_inner) = hosts;
    }

    pub(crate) fn detach(&self) {
        self.detached.store(true, Ordering::Release);
    }

    pub(crate) fn is_detached(&self) -> bool {
        self.detached.load(Ordering::Acquire)
    }
}

/// Collects what a [`Namespace`] is.
#[derive(Debug, Clone)]
#[must_use]
pub struct NamespaceBuilder {
    nsid: u32,
    backend: Arc<dyn Backend>,
    uuid: Option<[u8; 16]>,
    nguid: Option<[u8; 16]>,
    eui64: Option<[u8; 8]>,
    ana_group: u32,
    write_protected: bool,
    protected_by_host: bool,
    uncorrectable: Vec<Range<u64>>,
    hosts: Option<BTreeSet<Nqn>>,
    reservations: Option<Saved>,
    persistence: Option<Arc<dyn Persistence>>,
    limits: Limits,
}

impl NamespaceBuilder {
    /// The namespace identifier.
    pub fn nsid(&self) -> u32 {
        self.nsid
    }

    /// The UUID, in the order it is written. If not said, it follows from the subsystem's name and
    /// [`Backend::location`].
    pub fn uuid(mut self, uuid: [u8; 16]) -> Self {
        self.uuid = Some(uuid);
        self
    }

    /// The NGUID, likewise; if not said, it follows from the UUID.
    pub fn nguid(mut self, nguid: [u8; 16]) -> Self {
        self.nguid = Some(nguid);
        self
    }

    /// The EUI-64, likewise; none if not said.
    pub fn eui64(mut self, eui64: [u8; 8]) -> Self {
        self.eui64 = Some(eui64);
        self
    }

    /// The ANA group, 1 to 32; 1 if not said.
    pub fn ana_group(mut self, group: u32) -> Self {
        self.ana_group = group;
        self
    }

    /// Refuses writes, whatever the storage says.
    pub fn write_protected(mut self, on: bool) -> Self {
        self.write_protected = on;
        self
    }

    /// Restores that a host has write-protected it, as [`Persistence::save_protection`] was given it.
    pub fn protected_by_host(mut self, on: bool) -> Self {
        self.protected_by_host = on;
        self
    }

    /// Restores the blocks that hosts marked as not to be read, as
    /// [`Persistence::save_uncorrectable`] was given them.
    pub fn uncorrectable(mut self, ranges: impl IntoIterator<Item = Range<u64>>) -> Self {
        self.uncorrectable = ranges.into_iter().collect();
        self
    }

    /// Makes it private to these hosts; all others do not see it.
    pub fn hosts(mut self, hosts: impl IntoIterator<Item = Nqn>) -> Self {
        self.hosts = Some(hosts.into_iter().collect());
        self
    }

    /// Restores registrations and reservation, as [`Persistence::save_reservations`] was given them.
    /// They need a place to be saved to again: [`persistence`](Self::persistence), or that of the subsystem.
    pub fn reservations(mut self, saved: Saved) -> Self {
        self.reservations = Some(saved);
        self
    }

    /// Where what of it outlasts a restart is saved; the subsystem's place if not said.
    pub fn persistence(mut self, persistence: Arc<dyn Persistence>) -> Self {
        self.persistence = Some(persistence);
        self
    }

    /// What hosts may ask of it in a second; as much as they can if not said.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// The namespace, as one of this subsystem.
    ///
    /// # Errors
    ///
    /// [`SubsystemError::Nsid`], [`SubsystemError::AnaGroup`], [`SubsystemError::Reservations`],
    /// [`SubsystemError::Uncorrectable`].
    pub fn build(self, subsystem: &Nqn) -> Result<Arc<Namespace>, SubsystemError> {
        if matches!(self.nsid, 0 | NSID_ALL) {
            return Err(SubsystemError::Nsid { nsid: self.nsid });
        }
        if !Port::is_group(self.ana_group) {
            return Err(SubsystemError::AnaGroup { group: self.ana_group });
        }
        let reservations = match self.reservations {
            None => Reservations::new(false),
            Some(saved) => Reservations::restore(saved)
                .map_err(|error| SubsystemError::Reservations { nsid: self.nsid, error })?,
        };
        let marks = Marks::restore(self.uncorrectable)
            .map_err(|error| SubsystemError::Uncorrectable { nsid: self.nsid, error })?;
        let now = Instant::now();
        let limiter = Limiter::new(now);
        limiter.set(self.limits, now);
        let uuid = self.uuid.unwrap_or_else(|| namespace_uuid(subsystem, &self.backend.location()));
        let ns = Namespace {
            nsid: self.nsid,
            backend: self.backend,
            uuid,
            nguid: self.nguid.unwrap_or_else(|| namespace_nguid(uuid)),
            eui64: self.eui64,
            ana_group: self.ana_group.into(),
            write_protected: self.write_protected.into(),
            protected_by_host: self.protected_by_host.into(),
            protecting: Mutex::default(),
            hosts: RwLock::new(self.hosts),
            reservations,
            marks,
            store: OnceLock::new(),
            exclusion: Exclusion::default(),
            limiter,
            detached: AtomicBool::new(false),
        };
        if let Some(persistence) = &self.persistence {
            ns.persist(persistence);
        }
        Ok(Arc::new(ns))
    }
}

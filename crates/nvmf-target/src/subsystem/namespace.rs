//! A namespace: an identifier, and the blocks behind it.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use nvme_spec::Nqn;
use nvme_spec::identify::NSID_ALL;
use nvmf::controller::identify::NamespaceDescription;
use nvmf_storage::{Backend, NamespaceSpec, OpenError};

use super::SubsystemError;
use crate::identity::{namespace_nguid, namespace_uuid};
use crate::port::Port;

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
    /// Whose it is; `None`: every host's that the subsystem lets in.
    hosts: RwLock<Option<BTreeSet<Nqn>>>,
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
            hosts: None,
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
        }
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

    /// A host protects it, or no more. Who sees it has to be told.
    pub(crate) fn protect_by_host(&self, on: bool) {
        self.protected_by_host.store(on, Ordering::Relaxed);
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
    hosts: Option<BTreeSet<Nqn>>,
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

    /// Makes it private to these hosts; all others do not see it.
    pub fn hosts(mut self, hosts: impl IntoIterator<Item = Nqn>) -> Self {
        self.hosts = Some(hosts.into_iter().collect());
        self
    }

    /// The namespace, as one of this subsystem.
    ///
    /// # Errors
    ///
    /// [`SubsystemError::Nsid`], [`SubsystemError::AnaGroup`].
    pub fn build(self, subsystem: &Nqn) -> Result<Arc<Namespace>, SubsystemError> {
        if matches!(self.nsid, 0 | NSID_ALL) {
            return Err(SubsystemError::Nsid { nsid: self.nsid });
        }
        if !Port::is_group(self.ana_group) {
            return Err(SubsystemError::AnaGroup { group: self.ana_group });
        }
        let uuid = self.uuid.unwrap_or_else(|| namespace_uuid(subsystem, &self.backend.location()));
        Ok(Arc::new(Namespace {
            nsid: self.nsid,
            backend: self.backend,
            uuid,
            nguid: self.nguid.unwrap_or_else(|| namespace_nguid(uuid)),
            eui64: self.eui64,
            ana_group: self.ana_group.into(),
            write_protected: self.write_protected.into(),
            protected_by_host: AtomicBool::new(false),
            hosts: RwLock::new(self.hosts),
            detached: AtomicBool::new(false),
        }))
    }
}

//! What a subsystem is made of.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use nvme_spec::Nqn;
use nvme_spec::fabrics::ConnectData;
use nvme_spec::identify::NSID_ALL;
use nvmf::controller::SerialNumber;
use nvmf_proto::queue::QueueSize;
use nvmf_storage::{Backend, NamespaceSpec, OpenError, TooManyRanges};

use super::{Controllers, Hosts, Namespace, NamespaceBuilder, State, Subsystem};
use crate::limits::{self, MaxTransfer};
use crate::persistence::Persistence;
use crate::reservation::RestoreError;
use crate::statistics::Statistics;

/// Collects what a [`Subsystem`] is made of.
#[derive(Debug)]
#[must_use]
pub struct SubsystemBuilder {
    nqn: Nqn,
    serial: SerialNumber,
    model: String,
    firmware: String,
    namespaces: Vec<NamespaceBuilder>,
    hosts: Hosts,
    max_io_queues: u16,
    max_transfer: MaxTransfer,
    max_queue_entries: QueueSize,
    cntlids: (u16, u16),
    static_controllers: Option<u16>,
    persistence: Option<Arc<dyn Persistence>>,
}

impl SubsystemBuilder {
    pub(super) fn new(nqn: Nqn) -> Self {
        Self {
            serial: SerialNumber::derived(&nqn),
            nqn,
            model: limits::MODEL.to_owned(),
            firmware: limits::FIRMWARE.to_owned(),
            namespaces: Vec::new(),
            hosts: Hosts::Any,
            max_io_queues: limits::IO_QUEUES,
            max_transfer: MaxTransfer::default(),
            max_queue_entries: limits::IO_ENTRIES,
            cntlids: (1, ConnectData::CNTLID_MAX),
            static_controllers: None,
            persistence: None,
        }
    }

    /// No I/O queues: for discovery.
    pub(super) fn without_io(self) -> Self {
        Self { max_io_queues: 0, ..self }
    }

    /// The serial number, where the one that follows from the name will not do.
    pub fn serial(mut self, serial: SerialNumber) -> Self {
        self.serial = serial;
        self
    }

    /// The model number, of which 40 bytes of ASCII are told; `nvmf` if not said.
    pub fn model(mut self, model: impl Into<String>) -> Self {
        self.model = model.into();
        self
    }

    /// The firmware revision, of which 8 bytes of ASCII are told; this crate's version if not said.
    pub fn firmware(mut self, firmware: impl Into<String>) -> Self {
        self.firmware = firmware.into();
        self
    }

    /// Who may connect; everybody if not said.
    pub fn hosts(mut self, hosts: Hosts) -> Self {
        self.hosts = hosts;
        self
    }

    /// Adds a namespace whose UUID and NGUID follow from the subsystem's name and
    /// [`Backend::location`].
    pub fn namespace(self, nsid: u32, backend: Arc<dyn Backend>) -> Self {
        self.with(Namespace::builder(nsid, backend))
    }

    /// Adds a namespace with this UUID, in the order it is written.
    pub fn namespace_with_uuid(self, nsid: u32, backend: Arc<dyn Backend>, uuid: [u8; 16]) -> Self {
        self.with(Namespace::builder(nsid, backend).uuid(uuid))
    }

    /// Adds a namespace.
    pub fn with(mut self, ns: NamespaceBuilder) -> Self {
        self.namespaces.push(ns);
        self
    }

    /// Opens what the spec says and adds it under the next free identifier.
    ///
    /// # Errors
    ///
    /// [`OpenError`], as [`NamespaceSpec::open_as`].
    pub fn open(self, spec: &NamespaceSpec) -> Result<Self, OpenError> {
        let last = self.namespaces.iter().map(NamespaceBuilder::nsid).max();
        let nsid = last.unwrap_or(0).saturating_add(1);
        Ok(self.with(Namespace::open(nsid, spec)?))
    }

    /// The most I/O queues a controller grants, at least 1; each is a connection. 128 if not given.
    pub fn max_io_queues(mut self, queues: u16) -> Self {
        self.max_io_queues = queues.max(1);
        self
    }

    /// The most data that one command moves (MDTS, and VSL for what Verify reads); 1 MiB if not
    /// said. Hosts cut what is larger.
    pub fn max_transfer(mut self, most: MaxTransfer) -> Self {
        self.max_transfer = most;
        self
    }

    /// The largest I/O queue that hosts may connect (CAP.MQES and MAXCMD), up to
    /// [`limits::IO_ENTRIES`], which it is if not said: how many commands a host has under way on
    /// each.
    pub fn max_queue_entries(mut self, most: QueueSize) -> Self {
        self.max_queue_entries = most.min(limits::IO_ENTRIES);
        self
    }

    /// The least and the greatest identifier that a controller gets, of 1 to FFEFh, which is what
    /// they are if not said: targets that serve one subsystem together must not overlap.
    pub fn controller_ids(mut self, least: u16, greatest: u16) -> Self {
        let least = least.clamp(1, ConnectData::CNTLID_MAX);
        self.cntlids = (least, greatest.clamp(least, ConnectData::CNTLID_MAX));
        self
    }

    /// So many controllers that are always there, at least 1, with the first of the
    /// [identifiers](Self::controller_ids): the static controller model. Hosts ask for one of them,
    /// or for any, and get the one that they had before if it is free. If not said, each host that
    /// connects gets a new one.
    pub fn static_controllers(mut self, count: u16) -> Self {
        self.static_controllers = Some(count.max(1));
        self
    }

    /// Where what of its namespaces outlasts a restart is saved, also of those that come later.
    /// Without it hosts cannot ask for reservations that do; what they protect against writes and
    /// mark as uncorrectable is forgotten with the subsystem.
    pub fn persistence(mut self, persistence: Arc<dyn Persistence>) -> Self {
        self.persistence = Some(persistence);
        self
    }

    /// The subsystem.
    ///
    /// # Errors
    ///
    /// [`SubsystemError`] if names or identifiers clash.
    pub fn build(self) -> Result<Arc<Subsystem>, SubsystemError> {
        if self.nqn.is_discovery() {
            return Err(SubsystemError::DiscoveryName);
        }
        let mut namespaces = BTreeMap::new();
        for builder in &self.namespaces {
            let ns = builder.clone().build(&self.nqn)?;
            check(&ns, &namespaces, NSID_ALL - 1)?;
            if let Some(persistence) = &self.persistence {
                ns.persist(persistence);
            }
            namespaces.insert(ns.nsid(), ns);
        }
        Ok(self.finish(namespaces))
    }

    pub(super) fn finish(self, namespaces: BTreeMap<u32, Arc<Namespace>>) -> Arc<Subsystem> {
        let highest = namespaces.last_key_value().map_or(0, |(nsid, _)| *nsid);
        Arc::new(Subsystem {
            nqn: self.nqn,
            serial: self.serial,
            model: self.model,
            firmware: self.firmware,
            max_io_queues: self.max_io_queues.into(),
            max_transfer: self.max_transfer,
            max_queue_entries: self.max_queue_entries,
            max_nsid: highest.max(limits::NAMESPACES),
            static_controllers: self.static_controllers,
            started: Instant::now(),
            statistics: Statistics::default(),
            degraded: false.into(),
            persistence: self.persistence,
            state: Mutex::new(State { namespaces, hosts: self.hosts }),
            controllers: Mutex::new(Controllers {
                by_id: BTreeMap::new(),
                range: self.cntlids,
                last: 0,
                hosts: BTreeMap::new(),
            }),
        })
    }
}

/// Whether a namespace can be one more beside these.
pub(super) fn check(
    ns: &Namespace,
    others: &BTreeMap<u32, Arc<Namespace>>,
    max_nsid: u32,
) -> Result<(), SubsystemError> {
    let nsid = ns.nsid();
    if nsid > max_nsid {
        return Err(SubsystemError::NsidTooGreat { nsid, greatest: max_nsid });
    }
    if others.contains_key(&nsid) {
        return Err(SubsystemError::NsidTwice { nsid });
    }
    if others.len() >= limits::NAMESPACES as usize {
        return Err(SubsystemError::TooMany);
    }
    let same = |other: &&Arc<Namespace>| {
        other.uuid() == ns.uuid()
            || other.nguid() == ns.nguid()
            || (ns.eui64().is_some() && other.eui64() == ns.eui64())
    };
    match others.values().find(same) {
        Some(other) => Err(SubsystemError::SameIdentity {
            first: other.nsid(),
            second: nsid,
            location: ns.backend().location(),
        }),
        None => Ok(()),
    }
}

/// Why namespaces do not make a [`Subsystem`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubsystemError {
    /// The well-known discovery name belongs to the discovery subsystem that every target has.
    #[error("{} is the name of the discovery subsystem; choose another NQN", Nqn::DISCOVERY)]
    DiscoveryName,
    /// 0 and FFFFFFFFh are not identifiers of a namespace.
    #[error("{nsid:#x} is not a namespace identifier; use 1 to 0xfffffffe")]
    Nsid {
        /// The identifier.
        nsid: u32,
    },
    /// Hosts were told that there is none so great.
    #[error(
        "{nsid} is too great for a namespace that comes while hosts are connected; use 1 to {greatest}"
    )]
    NsidTooGreat {
        /// The identifier.
        nsid: u32,
        /// The greatest possible.
        greatest: u32,
    },
    /// Two namespaces have the same identifier.
    #[error("there are two namespaces {nsid}")]
    NsidTwice {
        /// The identifier.
        nsid: u32,
    },
    /// There are as many namespaces as there can be.
    #[error("a subsystem has at most {} namespaces", limits::NAMESPACES)]
    TooMany,
    /// There is no such ANA group.
    #[error("{group} is not an ANA group; use 1 to {}", limits::ANA_GROUPS)]
    AnaGroup {
        /// The group.
        group: u32,
    },
    /// What was saved of a namespace's reservations contradicts itself.
    #[error("the reservations of namespace {nsid} cannot be restored: {error}")]
    Reservations {
        /// The namespace.
        nsid: u32,
        /// What is wrong.
        #[source]
        error: RestoreError,
    },
    /// More blocks were saved as marked by hosts than can be.
    #[error("the uncorrectable blocks of namespace {nsid} cannot be restored: {error}")]
    Uncorrectable {
        /// The namespace.
        nsid: u32,
        /// What is wrong.
        #[source]
        error: TooManyRanges,
    },
    /// Two namespaces have the same UUID, NGUID or EUI-64, mostly because they are the same file: a
    /// host would take them for one disk, and its file systems for each other's.
    #[error(
        "namespaces {first} and {second} have the same UUID ({location}); serve it once, or give one a `uuid=` of its own"
    )]
    SameIdentity {
        /// The one.
        first: u32,
        /// The other.
        second: u32,
        /// Where the blocks of the other are.
        location: String,
    },
}

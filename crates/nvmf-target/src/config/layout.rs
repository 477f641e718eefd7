//! A configuration that was judged: what a target can apply as it is.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroU64};
use std::ops::RangeInclusive;

use nvme_spec::Nqn;
use nvme_spec::fabrics::ConnectData;
use nvme_spec::log::AnaState;
use nvme_spec::nqn::UuidText;
use nvmf::controller::SerialNumber;
use nvmf_proto::queue::QueueSize;
use nvmf_storage::{NamespaceSpec, display_size};

use super::{Config, HostList, Size};
use crate::limits::{self, InCapsule, MaxTransfer};
use crate::subsystem::Hosts;

/// A target whose parts fit each other. There is no other way to one than [`Config::resolve`], so
/// that what has a `Layout` need not check again:
///
/// - every port, subsystem and namespace has an identifier, and no two have the same;
/// - ports name subsystems that there are; namespaces are for hosts that may connect;
/// - a subsystem that says nothing of hosts is reached through loopback only.
///
/// What is edited is its [`Layout::config`], which is then resolved again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    pub(super) discovery: Discovery,
    pub(super) metrics: Option<SocketAddr>,
    pub(super) transport: Transport,
    pub(super) ports: BTreeMap<u16, Port>,
    pub(super) subsystems: BTreeMap<Nqn, Subsystem>,
}

impl Layout {
    /// The discovery subsystem.
    pub fn discovery(&self) -> &Discovery {
        &self.discovery
    }

    /// Where metrics are served.
    pub fn metrics(&self) -> Option<SocketAddr> {
        self.metrics
    }

    /// What holds on all ports alike.
    pub fn transport(&self) -> &Transport {
        &self.transport
    }

    /// The ports, by their identifiers; at least one.
    pub fn ports(&self) -> &BTreeMap<u16, Port> {
        &self.ports
    }

    /// The subsystems, by their names.
    pub fn subsystems(&self) -> &BTreeMap<Nqn, Subsystem> {
        &self.subsystems
    }

    /// The ports through which a subsystem can be reached.
    pub fn ports_of(&self, subsystem: &Nqn) -> impl Iterator<Item = &Port> {
        self.ports.values().filter(move |port| port.offers(subsystem))
    }

    /// The same as one writes it down, with all identifiers and without what is the default.
    /// Resolved, it gives this layout again.
    pub fn config(&self) -> Config {
        Config {
            discovery: self.discovery.config(),
            metrics: self.metrics.map(|at| super::Metrics { listen: at.to_string() }),
            transport: self.transport.config(),
            ports: self.ports.values().map(Port::config).collect(),
            subsystems: self.subsystems.values().map(Subsystem::config).collect(),
        }
    }
}

/// The discovery subsystem.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Discovery {
    /// Its unique NQN, never the well-known one.
    pub nqn: Option<Nqn>,
    /// Whether it is announced by DNS-SD.
    pub mdns: bool,
    /// Other discovery controllers that the log tells of, each once.
    pub referrals: Vec<Referral>,
}

impl Discovery {
    fn config(&self) -> super::Discovery {
        super::Discovery {
            nqn: self.nqn.as_ref().map(Nqn::to_string),
            mdns: self.mdns,
            referrals: self.referrals.iter().map(Referral::config).collect(),
        }
    }
}

/// Another discovery controller.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Referral {
    /// Where it listens: neither 0.0.0.0 nor port 0.
    pub address: SocketAddr,
    /// Its name.
    pub nqn: Nqn,
    /// PORTID of its entry.
    pub port_id: u16,
}

impl Referral {
    fn config(&self) -> super::Referral {
        super::Referral {
            address: self.address.to_string(),
            nqn: (!self.nqn.is_discovery()).then(|| self.nqn.to_string()),
            port_id: (self.port_id != 0).then(|| self.port_id.into()),
        }
    }
}

/// What holds for the connections of all ports.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Transport {
    /// What a command capsule of an I/O queue may bring.
    pub in_capsule: InCapsule,
    /// Whether hosts may have header digests.
    pub header_digest: bool,
    /// Whether hosts may have data digests.
    pub data_digest: bool,
    /// Connections at once, 1 to 1000000.
    pub max_connections: usize,
}

impl Default for Transport {
    fn default() -> Self {
        Self {
            in_capsule: InCapsule::default(),
            header_digest: true,
            data_digest: true,
            max_connections: limits::CONNECTIONS,
        }
    }
}

impl Transport {
    fn config(&self) -> super::Transport {
        let usual = Self::default();
        let other = |permit: bool, usual| (permit != usual).then_some(permit);
        super::Transport {
            in_capsule: (self.in_capsule != usual.in_capsule)
                .then(|| size(self.in_capsule.bytes().into())),
            header_digest: other(self.header_digest, usual.header_digest),
            data_digest: other(self.data_digest, usual.data_digest),
            max_connections: u32::try_from(self.max_connections)
                .ok()
                .filter(|_| self.max_connections != usual.max_connections),
        }
    }
}

/// A listener.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Port {
    /// Its identifier, from 1.
    pub id: u16,
    /// Where it listens.
    pub listen: SocketAddr,
    /// The subsystems that can be reached here, all of which there are; `None` is all.
    pub subsystems: Option<BTreeSet<Nqn>>,
    /// The ANA groups that are not optimized, with their states.
    pub ana: BTreeMap<AnaGroup, AnaState>,
}

impl Port {
    /// Whether a subsystem can be reached here.
    pub fn offers(&self, subsystem: &Nqn) -> bool {
        self.subsystems.as_ref().is_none_or(|these| these.contains(subsystem))
    }

    /// The state of an ANA group on this port.
    pub fn state(&self, group: AnaGroup) -> AnaState {
        self.ana.get(&group).copied().unwrap_or(AnaState::Optimized)
    }

    fn config(&self) -> super::Port {
        super::Port {
            id: Some(self.id.into()),
            listen: self.listen.to_string(),
            subsystems: self.subsystems.as_ref().map(texts),
            ana: self.ana.iter().map(|(g, s)| (g.to_string(), s.name().to_owned())).collect(),
        }
    }
}

/// An NVM subsystem.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Subsystem {
    /// Its name; not the well-known discovery name.
    pub nqn: Nqn,
    /// Its serial number; [derived](SerialNumber::derived) where none was given.
    pub serial: SerialNumber,
    /// Its model number: 1 to 40 printable ASCII characters.
    pub model: String,
    /// Its firmware revision: 1 to 8 printable ASCII characters.
    pub firmware: String,
    /// Who may connect. `None` is everybody, because every port through which it can be reached
    /// listens on loopback.
    pub hosts: Option<Hosts>,
    /// I/O queues that a controller grants, 1 to 1024.
    pub max_io_queues: u16,
    /// The most data of one command.
    pub max_transfer: MaxTransfer,
    /// The largest I/O queue, up to 1024 entries.
    pub max_queue_entries: QueueSize,
    /// How many controllers are always there, 1 to 1000 and no more than there are identifiers;
    /// `None`: each host that connects gets a new one.
    pub static_controllers: Option<u16>,
    /// The identifiers of its controllers, within 1 to FFEFh.
    pub cntlid: RangeInclusive<u16>,
    /// Its namespaces, by their NSIDs.
    pub namespaces: BTreeMap<u32, Namespace>,
}

impl Subsystem {
    /// The identifiers of controllers where nothing else was said.
    pub const CNTLID: RangeInclusive<u16> = 1..=ConnectData::CNTLID_MAX;

    /// Whether a host may connect.
    pub fn allows(&self, host: &Nqn) -> bool {
        self.hosts.as_ref().is_none_or(|hosts| hosts.allow(host))
    }

    /// What hosts were told of the subsystem: what cannot change while one is connected.
    pub(super) fn identity(&self) -> impl PartialEq {
        let sizes = (self.max_transfer, self.max_queue_entries);
        (&self.serial, &self.model, &self.firmware, sizes, self.static_controllers)
    }

    fn config(&self) -> super::Subsystem {
        let other = |text: &str, default| (text != default).then(|| text.to_owned());
        let derived = SerialNumber::derived(&self.nqn);
        let (min, max) = (*self.cntlid.start(), *self.cntlid.end());
        super::Subsystem {
            nqn: self.nqn.to_string(),
            serial: other(self.serial.as_str(), derived.as_str()),
            model: other(&self.model, limits::MODEL),
            firmware: other(&self.firmware, limits::FIRMWARE),
            hosts: self.hosts.as_ref().map(host_list),
            max_io_queues: (self.max_io_queues != limits::IO_QUEUES)
                .then(|| self.max_io_queues.into()),
            max_transfer: (self.max_transfer != MaxTransfer::default())
                .then(|| size(self.max_transfer.bytes().into())),
            max_queue_entries: (self.max_queue_entries != limits::IO_ENTRIES)
                .then(|| self.max_queue_entries.entries()),
            static_controllers: self.static_controllers.map(Into::into),
            cntlid_min: (min != *Self::CNTLID.start()).then(|| min.into()),
            cntlid_max: (max != *Self::CNTLID.end()).then(|| max.into()),
            namespaces: self.namespaces.values().map(Namespace::config).collect(),
        }
    }
}

fn host_list(hosts: &Hosts) -> HostList {
    match hosts {
        Hosts::Any => HostList::Any,
        Hosts::Only(hosts) => HostList::Only(texts(hosts)),
    }
}

/// A namespace of a subsystem.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Namespace {
    /// Its identifier, 1 to FFFFFFFEh.
    pub nsid: u32,
    /// Where its blocks are. Its own `uuid` is `None`: it is [`Namespace::uuid`].
    pub spec: NamespaceSpec,
    /// Its UUID in the order it is written, not all zero, if one was given.
    pub uuid: Option<[u8; 16]>,
    /// Its NGUID in the order it is written, not all zero, if one was given.
    pub nguid: Option<[u8; 16]>,
    /// Its EUI-64 in the order it is written, not all zero, if one was given.
    pub eui64: Option<[u8; 8]>,
    /// Its ANA group.
    pub ana_group: AnaGroup,
    /// Whether it is write-protected, over what the source says.
    pub read_only: bool,
    /// The hosts that have it, all of which may connect; `None` is all that connect.
    pub hosts: Option<BTreeSet<Nqn>>,
    /// How much hosts may ask of it.
    pub limits: Limits,
}

impl Namespace {
    /// Whether a host that may connect has this namespace.
    pub fn is_for(&self, host: &Nqn) -> bool {
        self.hosts.as_ref().is_none_or(|hosts| hosts.contains(host))
    }

    fn config(&self) -> super::Namespace {
        super::Namespace {
            id: Some(self.nsid),
            source: self.spec.to_string(),
            uuid: self.uuid.map(|uuid| UuidText(uuid).to_string()),
            nguid: self.nguid.map(|nguid| hex(&nguid)),
            eui64: self.eui64.map(|eui64| hex(&eui64)),
            ana_group: (self.ana_group != AnaGroup::FIRST).then(|| self.ana_group.get()),
            read_only: self.read_only,
            hosts: self.hosts.as_ref().map(texts),
            limits: self.limits.config(),
        }
    }
}

/// The most that a namespace does in a second, for all hosts together; `None` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Limits {
    /// Commands.
    pub iops: Option<NonZeroU32>,
    /// Commands that read.
    pub read_iops: Option<NonZeroU32>,
    /// Commands that write.
    pub write_iops: Option<NonZeroU32>,
    /// Bytes.
    pub bandwidth: Option<NonZeroU64>,
    /// Bytes read.
    pub read_bandwidth: Option<NonZeroU64>,
    /// Bytes written.
    pub write_bandwidth: Option<NonZeroU64>,
}

impl Limits {
    fn config(&self) -> super::Limits {
        let size = |bytes: NonZeroU64| size(bytes.get());
        super::Limits {
            iops: self.iops.map(NonZeroU32::get),
            read_iops: self.read_iops.map(NonZeroU32::get),
            write_iops: self.write_iops.map(NonZeroU32::get),
            bandwidth: self.bandwidth.map(size),
            read_bandwidth: self.read_bandwidth.map(size),
            write_bandwidth: self.write_bandwidth.map(size),
        }
    }
}

/// The number of an ANA group: 1 to 32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AnaGroup(u8);

impl AnaGroup {
    /// The group of a namespace for which none was given.
    pub const FIRST: Self = Self(1);

    /// The greatest number.
    pub const MAX: u8 = 32;

    /// The group of this number, if it is one.
    pub fn new(number: u32) -> Option<Self> {
        u8::try_from(number).ok().filter(|n| (1..=Self::MAX).contains(n)).map(Self)
    }

    /// Its number, as in ANAGRPID.
    pub fn get(self) -> u32 {
        self.0.into()
    }
}

impl fmt::Display for AnaGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

fn texts(names: &BTreeSet<Nqn>) -> Vec<String> {
    names.iter().map(Nqn::to_string).collect()
}

fn size(bytes: u64) -> Size {
    Size::from(display_size(bytes).as_str())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

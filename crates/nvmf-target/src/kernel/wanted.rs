//! From a configuration to what the kernel shall have; what nvmet cannot do is refused.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::{Path, absolute};

use nvme_spec::Nqn;
use nvme_spec::log::AnaState;
use nvme_spec::nqn::UuidText;
use nvmf_storage::{NamespaceSpec, Source};

use super::attribute::{self as a, Attributes};
use super::blocks;
use super::state::{Links, Port, State, Subsystem};
use crate::config::layout::{self, AnaGroup};
use crate::config::{
    self, Config, ConfigError, HostList, Layout, Problem, ReadError, assigned, judge, judge_file,
};
use crate::limits::MaxTransfer;
use crate::{identity, limits};

/// The most I/O queues of a controller of nvmet.
const IO_QUEUES: u16 = 128;

/// The least that a capsule has to hold: Connect's data.
const CONNECT_DATA: u32 = 1024;

/// What a configuration says, of what the kernel's target can be.
///
/// Making one looks at the files of namespaces: at their names, because the UUIDs follow from them
/// as they do in `nvmf serve`, and at their blocks.
///
/// ```
/// use nvmf_target::kernel::Wanted;
///
/// let config = r#"
/// [[port]]
/// listen = "127.0.0.1:4420"
/// [[subsystem]]
/// nqn = "nqn.2026-01.org.example:a"
/// [[subsystem.namespace]]
/// source = "mem:1M"
/// "#;
/// let error = Wanted::from_toml(config).unwrap_err().to_string();
/// assert!(error.starts_with("line 7: subsystem[0].namespace[0].source: "), "{error}");
/// ```
#[derive(Debug, Clone)]
pub struct Wanted {
    pub(super) state: State,
    pub(super) namespaces: Vec<Storage>,
}

/// A namespace and where its blocks are.
#[derive(Debug, Clone)]
pub(super) struct Storage {
    pub(super) nqn: Nqn,
    pub(super) nsid: u32,
    pub(super) spec: NamespaceSpec,
    /// As the kernel is told of it.
    pub(super) path: String,
}

impl Wanted {
    /// What a configuration says.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] with all that is wrong with it, or, if nothing is, with all that nvmet cannot
    /// do. It has keys and no lines.
    pub fn new(config: &Config) -> Result<Self, ConfigError> {
        Self::of(config, &config.resolve()?)
    }

    /// The same of a text.
    ///
    /// # Errors
    ///
    /// [`ConfigError`], as [`Wanted::new`], with lines.
    pub fn from_toml(text: &str) -> Result<Self, ConfigError> {
        judge(text, |config, layout| Self::of(config, &layout))
    }

    /// The same of a file.
    ///
    /// # Errors
    ///
    /// [`ReadError`] if the file cannot be read, or is no such configuration.
    pub fn read(path: &Path) -> Result<Self, ReadError> {
        judge_file(path, |config, layout| Self::of(config, &layout))
    }

    fn of(config: &Config, layout: &Layout) -> Result<Self, ConfigError> {
        let mut judge = Judge { problems: Vec::new(), namespaces: Vec::new() };
        let state = judge.target(config, layout);
        match judge.problems.is_empty() {
            true => Ok(Self { state, namespaces: judge.namespaces }),
            false => Err(ConfigError::new(judge.problems)),
        }
    }
}

struct Judge {
    problems: Vec<Problem>,
    namespaces: Vec<Storage>,
}

impl Judge {
    fn refuse(&mut self, key: impl Into<String>, message: impl Into<String>) {
        self.problems.push(Problem::new(key, message));
    }

    /// Refuses something that is nothing but what is not so by itself.
    fn refuse_if(&mut self, asked: bool, key: &str, message: &str) {
        if asked {
            self.refuse(key, message);
        }
    }

    fn target(&mut self, config: &Config, layout: &Layout) -> State {
        self.whole(config, layout);
        let mut state = State::empty();
        if let Some(nqn) = layout.discovery().nqn.as_ref() {
            state.attributes.set(a::DISCOVERY_NQN, nqn.as_str());
        }
        for (i, asked) in config.subsystems.iter().enumerate() {
            let Ok(nqn) = Nqn::parse_strict(&asked.nqn) else { continue };
            let Some(subsystem) = layout.subsystems().get(&nqn) else { continue };
            let judged = self.subsystem(&format!("subsystem[{i}]"), asked, subsystem);
            let hosts = judged.allowed_hosts.keys();
            state.hosts.extend(hosts.map(|host| (host.clone(), Attributes::default())));
            state.subsystems.insert(nqn.to_string(), judged);
        }
        let referrals = referrals(layout.discovery());
        let ids = assigned(config.ports.iter().map(|port| port.id));
        for (i, id) in ids.into_iter().enumerate() {
            let port = u16::try_from(id).ok().and_then(|id| layout.ports().get(&id));
            let Some(port) = port else { continue };
            let mut judged = self.port(&format!("port[{i}]"), port, layout);
            judged.referrals.clone_from(&referrals);
            state.ports.insert(id.to_string(), judged);
        }
        state
    }

    /// What is of the target as a whole.
    fn whole(&mut self, config: &Config, layout: &Layout) {
        let discovery = layout.discovery();
        self.refuse_if(
            discovery.mdns,
            "discovery.mdns",
            "nvmet does not announce itself; leave it out, and have avahi-daemon announce \
             _nvme-disc._tcp",
        );
        for (i, referral) in discovery.referrals.iter().enumerate() {
            self.refuse_if(
                !referral.nqn.is_discovery(),
                &format!("discovery.referral[{i}].nqn"),
                "nvmet refers to the well-known discovery NQN only; leave it out",
            );
        }
        for (i, subsystem) in config.subsystems.iter().enumerate() {
            let begins = |nqn: &Nqn| subsystem.nqn.starts_with(nqn.as_str());
            self.refuse_if(
                discovery.nqn.as_ref().is_some_and(begins),
                &format!("subsystem[{i}].nqn"),
                "this begins with discovery.nqn, which nvmet takes for the same name; choose another",
            );
        }
        self.refuse_if(
            layout.metrics().is_some(),
            "metrics",
            "nvmet has no metrics; leave this table out",
        );
        let (transport, usual) = (layout.transport(), layout::Transport::default());
        for (key, permitted) in
            [("header-digest", transport.header_digest), ("data-digest", transport.data_digest)]
        {
            self.refuse_if(
                !permitted,
                &format!("transport.{key}"),
                "nvmet gives digests to all hosts that ask for them; leave it out",
            );
        }
        self.refuse_if(
            transport.max_connections != usual.max_connections,
            "transport.max-connections",
            "nvmet does not bound the number of connections; leave it out",
        );
        self.refuse_if(
            transport.in_capsule.bytes() < CONNECT_DATA,
            "transport.in-capsule",
            "nvmet takes the 1024 bytes of Connect in no other way; use 1024 or more",
        );
    }

    fn subsystem(
        &mut self,
        at: &str,
        asked: &config::Subsystem,
        judged: &layout::Subsystem,
    ) -> Subsystem {
        self.directory(&format!("{at}.nqn"), &asked.nqn);
        if let Some(HostList::Only(hosts)) = &asked.hosts {
            for (i, host) in hosts.iter().enumerate() {
                self.directory(&format!("{at}.hosts[{i}]"), host);
            }
        }
        self.sizes(at, judged);
        let allowed_hosts = match &judged.hosts {
            Some(crate::Hosts::Only(hosts)) => links(hosts.iter()),
            Some(crate::Hosts::Any) | None => Links::new(),
        };
        let any = !matches!(judged.hosts, Some(crate::Hosts::Only(_)));
        let mut attributes = Attributes::default()
            .with(a::SERIAL, judged.serial.as_str())
            .with(a::MODEL, judged.model.as_str())
            .with(a::CNTLID_MIN, judged.cntlid.start().to_string())
            .with(a::CNTLID_MAX, judged.cntlid.end().to_string())
            .with(a::QID_MAX, judged.max_io_queues.to_string())
            .with(a::ALLOW_ANY_HOST, if any { a::ON } else { a::OFF });
        // Else it says which kernel this is, as `nvmf serve` says which version it is.
        if let Some(firmware) = &asked.firmware {
            attributes.set(a::FIRMWARE, firmware.as_str());
        }
        let mut namespaces = BTreeMap::new();
        let mut first: BTreeMap<[u8; 16], u32> = BTreeMap::new();
        let ids = assigned(asked.namespaces.iter().map(|ns| ns.id));
        for (i, nsid) in ids.into_iter().enumerate() {
            let Some(namespace) = judged.namespaces.get(&nsid) else { continue };
            let at = format!("{at}.namespace[{i}]");
            let Some((uuid, attributes)) = self.namespace(&at, &judged.nqn, namespace) else {
                continue;
            };
            if let Some(other) = first.insert(uuid, nsid) {
                self.refuse(
                    format!("{at}.source"),
                    format!(
                        "namespace {other} has the same UUID, and hosts would take the two for \
                         one disk; give one a `uuid`"
                    ),
                );
            }
            namespaces.insert(nsid.to_string(), attributes);
        }
        Subsystem {
            attributes,
            passthru: Attributes::default().with(a::ENABLE, a::OFF),
            allowed_hosts,
            namespaces,
        }
    }

    /// A name that is to be that of a directory.
    fn directory(&mut self, key: &str, name: &str) {
        self.refuse_if(
            name.contains('/'),
            key,
            "nvmet makes a directory of this name, which cannot have a `/`; choose another",
        );
    }

    fn sizes(&mut self, at: &str, subsystem: &layout::Subsystem) {
        if subsystem.max_io_queues > IO_QUEUES {
            self.refuse(
                format!("{at}.max-io-queues"),
                format!("nvmet has at most {IO_QUEUES} I/O queues for a controller"),
            );
        }
        self.refuse_if(
            subsystem.max_transfer != MaxTransfer::default(),
            &format!("{at}.max-transfer"),
            "nvmet does not bound the data of a command; leave it out",
        );
        self.refuse_if(
            subsystem.max_queue_entries != limits::IO_ENTRIES,
            &format!("{at}.max-queue-entries"),
            "nvmet's queues have the sizes that hosts ask for; leave it out",
        );
        self.refuse_if(
            subsystem.static_controllers.is_some(),
            &format!("{at}.static-controllers"),
            "nvmet makes a controller for each host that connects; leave it out",
        );
        if subsystem.namespaces.len() > limits::NAMESPACES as usize {
            let most = limits::NAMESPACES;
            self.refuse(format!("{at}.namespace"), format!("nvmet has at most {most} namespaces"));
        }
    }

    /// A namespace's UUID and what its files have.
    fn namespace(
        &mut self,
        at: &str,
        nqn: &Nqn,
        namespace: &layout::Namespace,
    ) -> Option<([u8; 16], Attributes)> {
        self.refuse_if(
            namespace.read_only,
            &format!("{at}.read-only"),
            "nvmet protects a namespace against writes for hosts that ask for it, and by itself \
             only if its device is read-only; leave it out",
        );
        self.refuse_if(
            namespace.eui64.is_some(),
            &format!("{at}.eui64"),
            "nvmet's namespaces have no EUI-64; leave it out",
        );
        self.refuse_if(
            namespace.hosts.is_some(),
            &format!("{at}.hosts"),
            "nvmet shows all namespaces of a subsystem to all of its hosts; leave it out, or put it \
             into a subsystem of its own",
        );
        self.refuse_if(
            namespace.limits != layout::Limits::default(),
            &format!("{at}.limits"),
            "nvmet does not limit what hosts do; leave this table out",
        );
        let key = format!("{at}.source");
        let (path, buffered) = self.file(&key, &namespace.spec)?;
        let location = self.location(&key, &namespace.spec, buffered)?;
        let uuid = namespace.uuid.unwrap_or_else(|| identity::namespace_uuid(nqn, &location));
        let nguid = namespace.nguid.unwrap_or_else(|| identity::namespace_nguid(uuid));
        let attributes = Attributes::default()
            .with(a::DEVICE_PATH, path.as_str())
            .with(a::DEVICE_UUID, UuidText(uuid).to_string())
            .with(a::DEVICE_NGUID, UuidText(nguid).to_string())
            .with(a::BUFFERED_IO, if buffered { a::ON } else { a::OFF })
            .with(a::ANA_GROUP, namespace.ana_group.to_string())
            .with(a::ENABLE, a::ON);
        let (nqn, nsid, spec) = (nqn.clone(), namespace.nsid, namespace.spec.clone());
        self.namespaces.push(Storage { nqn, nsid, spec, path });
        Some((uuid, attributes))
    }

    /// The absolute path of a source that nvmet can have, and whether it goes through the page cache.
    fn file(&mut self, key: &str, spec: &NamespaceSpec) -> Option<(String, bool)> {
        let Source::File { path, read_only, direct } = &spec.source else {
            self.refuse(
                key,
                "nvmet has files and block devices only; write file:PATH, with a file on a tmpfs, \
                 say, or a null_blk device",
            );
            return None;
        };
        self.refuse_if(
            *read_only,
            key,
            "nvmet opens all files for writing; leave out `,ro`, and make the device read-only with \
             `blockdev --setro`",
        );
        let absolute = self.value(key, absolute(path))?;
        match absolute.to_str() {
            Some(path) if !path.contains('\n') => Some((path.to_owned(), !direct)),
            _ => {
                self.refuse(key, "nvmet cannot be told of this path; make a link to the file");
                None
            }
        }
    }

    /// Looks at a file as `nvmf serve` does, and whether its blocks are as large as is asked for.
    /// Gives what its UUID follows from.
    fn location(&mut self, key: &str, spec: &NamespaceSpec, buffered: bool) -> Option<String> {
        let Source::File { path, direct, .. } = &spec.source else { return None };
        // Who opens it only to read takes no lock from anybody.
        let source = Source::File { path: path.clone(), direct: *direct, read_only: true };
        let opened = self.value(key, NamespaceSpec { source, ..spec.clone() }.open())?;
        let bytes = self.value(key, blocks::size(path, buffered))?;
        let asked = spec.block_size.bytes();
        if bytes != asked {
            let what = if buffered { "its file system's" } else { "the device's or file system's" };
            self.refuse(key, format!(
                "this asks for blocks of {asked} bytes, but nvmet has blocks of {bytes} here, {what}{}",
                match bytes {
                    512 => "; add bs=512",
                    4096 => "; leave out bs=512",
                    _ => "; put it on another",
                }
            ));
        }
        Some(opened.location())
    }

    fn value<T>(&mut self, key: &str, result: Result<T, impl Display>) -> Option<T> {
        result.map_err(|error| self.refuse(key, error.to_string())).ok()
    }

    fn port(&mut self, at: &str, port: &layout::Port, layout: &Layout) -> Port {
        self.refuse_if(
            port.listen.port() == 0,
            &format!("{at}.listen"),
            "nvmet would not say which port it took; write a number",
        );
        let offered: Vec<&layout::Subsystem> =
            layout.subsystems().values().filter(|subsystem| port.offers(&subsystem.nqn)).collect();
        self.refuse_if(
            offered.is_empty(),
            &format!("{at}.subsystems"),
            "nvmet listens only where a subsystem is offered; offer one, or leave this port out",
        );
        let attributes = address(port.listen)
            .with(a::TREQ, a::NOT_SPECIFIED)
            .with(a::TSAS, a::NO_SECURITY)
            .with(a::INLINE_DATA_SIZE, layout.transport().in_capsule.bytes().to_string());
        // A group that a port does not have is inaccessible there.
        let used = layout.subsystems().values().flat_map(|subsystem| subsystem.namespaces.values());
        let used = used.map(|ns| ns.ana_group).chain([AnaGroup::FIRST]);
        let ana_groups = used.chain(port.ana.keys().copied()).map(|group| {
            let state: AnaState = port.state(group);
            (group.to_string(), Attributes::default().with(a::ANA_STATE, state.name()))
        });
        Port {
            attributes,
            subsystems: links(offered.iter().map(|subsystem| &subsystem.nqn)),
            referrals: BTreeMap::new(),
            ana_groups: ana_groups.collect(),
        }
    }
}

/// Links that are called as what they are to.
fn links<'n>(to: impl Iterator<Item = &'n Nqn>) -> Links {
    to.map(|nqn| (nqn.to_string(), nqn.to_string())).collect()
}

fn address(address: std::net::SocketAddr) -> Attributes {
    let family = if address.is_ipv4() { "ipv4" } else { "ipv6" };
    Attributes::default()
        .with(a::TRTYPE, a::TCP)
        .with(a::ADRFAM, family)
        .with(a::TRADDR, address.ip().to_string())
        .with(a::TRSVCID, address.port().to_string())
}

/// What each port refers to, by address.
fn referrals(discovery: &layout::Discovery) -> BTreeMap<String, Attributes> {
    let referrals = discovery.referrals.iter().map(|referral| {
        let attributes = address(referral.address)
            .with(a::TREQ, a::NOT_SPECIFIED)
            .with(a::PORTID, referral.port_id.to_string())
            .with(a::ENABLE, a::ON);
        (referral.address.to_string(), attributes)
    });
    referrals.collect()
}

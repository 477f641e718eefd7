//! Judges a configuration as a whole: all that is wrong, not only the first.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::net::IpAddr;
use std::num::{NonZeroU32, NonZeroU64};

use nvme_spec::Nqn;
use nvme_spec::identify::NSID_ALL;
use nvme_spec::log::AnaState;
use nvmf::controller::SerialNumber;
use nvmf_proto::queue::QueueSize;
use nvmf_storage::{NamespaceSpec, parse_size};

use super::error::{ConfigError, Problem};
use super::layout::{self, AnaGroup, Layout};
use super::parse::nearest;
use super::{Config, HostList, Limits, Namespace, Port, Size, Subsystem, Transport};
use crate::limits::{self, InCapsule, MaxTransfer};
use crate::subsystem::Hosts;

mod clash;
mod value;

pub(super) use clash::overlap;
use value::{hex, identity_text, socket_address};

impl Config {
    /// Judges the configuration and assigns the identifiers that were left out: to each port and
    /// namespace in the order in which they stand, the lowest that no other has, whether that one
    /// stands before or behind.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] with all that is wrong. It has keys and no lines: those a text has,
    /// see [`Layout::from_toml`].
    pub fn resolve(&self) -> Result<Layout, ConfigError> {
        let mut check = Check::default();
        let layout = check.config(self);
        if check.problems.is_empty() { Ok(layout) } else { Err(ConfigError::new(check.problems)) }
    }
}

/// What was found so far. Where something is wrong the rest is judged as if it were not there.
#[derive(Default)]
struct Check {
    problems: Vec<Problem>,
}

impl Check {
    fn wrong(&mut self, key: &str, message: impl Into<String>) {
        self.problems.push(Problem::new(key, message));
    }

    /// The value, or what is wrong with it.
    fn value<T>(&mut self, key: &str, result: Result<T, impl Display>) -> Option<T> {
        result.map_err(|error| self.wrong(key, error.to_string())).ok()
    }

    /// A number within a range, or the number where there is none.
    fn within<T>(&mut self, key: &str, number: Option<u32>, (min, max): (T, T), none: T) -> T
    where
        T: TryFrom<u32> + PartialOrd + Display + Copy,
    {
        let Some(number) = number else { return none };
        match T::try_from(number).ok().filter(|n| (min..=max).contains(n)) {
            Some(number) => number,
            None => {
                self.wrong(key, format!("{number} is out of range; use {min} to {max}"));
                none
            }
        }
    }

    /// A number of bytes that is one of certain sizes, or the usual where there is none.
    fn size<T: Default>(
        &mut self,
        key: &str,
        size: Option<&Size>,
        new: impl FnOnce(u32) -> Option<T>,
        form: &str,
    ) -> T {
        let bytes = size.and_then(|size| self.value(key, parse_size(size.as_str())));
        let Some(bytes) = bytes else { return T::default() };
        let sized = u32::try_from(bytes).ok().and_then(new);
        sized.unwrap_or_else(|| {
            self.wrong(key, format!("{bytes} bytes cannot be; use {form}"));
            T::default()
        })
    }

    fn nqn(&mut self, key: &str, text: &str) -> Option<Nqn> {
        let result = Nqn::parse_strict(text).map_err(|error| {
            format!("`{}`: {error}; write nqn.YYYY-MM.DOMAIN:NAME", text.escape_debug())
        });
        self.value(key, result)
    }

    fn nqns(&mut self, key: &str, texts: &[String]) -> BTreeSet<Nqn> {
        let named = |(i, text): (usize, &String)| self.nqn(&format!("{key}[{i}]"), text);
        texts.iter().enumerate().filter_map(named).collect()
    }

    fn config(&mut self, config: &Config) -> Layout {
        let mut layout = Layout {
            discovery: self.discovery(config),
            metrics: config
                .metrics
                .as_ref()
                .and_then(|m| self.value("metrics.listen", socket_address(&m.listen))),
            transport: self.transport(&config.transport),
            ports: BTreeMap::new(),
            subsystems: BTreeMap::new(),
        };
        if config.ports.is_empty() {
            self.wrong(
                "port",
                "there is no [[port]], so nobody could connect; add one with listen = \
                 \"127.0.0.1:4420\"",
            );
        }
        self.identifiers_once("port", config.ports.iter().map(|port| port.id));
        let ids = assigned(config.ports.iter().map(|port| port.id));
        for (i, (port, id)) in config.ports.iter().zip(ids).enumerate() {
            if let Some(port) = self.port(&format!("port[{i}]"), id, port, config) {
                layout.ports.insert(port.id, port);
            }
        }
        self.addresses(config);
        let mut first: BTreeMap<Nqn, usize> = BTreeMap::new();
        for (i, subsystem) in config.subsystems.iter().enumerate() {
            let at = format!("subsystem[{i}]");
            let Some(nqn) = self.nqn(&format!("{at}.nqn"), &subsystem.nqn) else {
                // Judge the rest of it all the same.
                self.subsystem(&at, Nqn::DISCOVERY, subsystem);
                continue;
            };
            if nqn.is_discovery() {
                self.wrong(
                    &format!("{at}.nqn"),
                    "this is the name of the discovery subsystem, which every target has; \
                     choose another NQN",
                );
            } else if layout.discovery.nqn.as_ref() == Some(&nqn) {
                self.wrong(&format!("{at}.nqn"), "this is discovery.nqn, too; choose another NQN");
            }
            if let Some(other) = first.insert(nqn.clone(), i) {
                self.wrong(
                    &format!("{at}.nqn"),
                    format!(
                        "subsystem[{other}] has this NQN, too; choose another, or make them one"
                    ),
                );
            }
            let subsystem = self.subsystem(&at, nqn.clone(), subsystem);
            self.open_to_all(&at, &subsystem, &layout);
            layout.subsystems.insert(nqn, subsystem);
        }
        self.files_once(config);
        layout
    }

    fn discovery(&mut self, config: &Config) -> layout::Discovery {
        let discovery = &config.discovery;
        let nqn = discovery.nqn.as_ref().and_then(|text| self.nqn("discovery.nqn", text));
        if nqn.as_ref().is_some_and(Nqn::is_discovery) {
            self.wrong(
                "discovery.nqn",
                "this is the well-known name, which the discovery subsystem always has; \
                 leave it out, or give a unique one",
            );
        }
        let (mut referrals, mut seen) = (Vec::new(), BTreeSet::new());
        for (i, referral) in discovery.referrals.iter().enumerate() {
            let at = format!("discovery.referral[{i}]");
            let key = format!("{at}.address");
            let address = self.value(&key, socket_address(&referral.address));
            let nqn = match &referral.nqn {
                Some(text) => self.nqn(&format!("{at}.nqn"), text),
                None => Some(Nqn::DISCOVERY),
            };
            let range = (0, u16::MAX);
            let port_id = self.within(&format!("{at}.port-id"), referral.port_id, range, 0);
            let (Some(address), Some(nqn)) = (address, nqn) else { continue };
            if address.port() == 0 || address.ip().is_unspecified() {
                self.wrong(
                    &key,
                    format!(
                        "no host can connect to {address}; write the address and port that \
                         they would use"
                    ),
                );
            } else if !seen.insert((address, nqn.clone())) {
                self.wrong(&key, format!("there is another referral to {address}; leave one out"));
            }
            referrals.push(layout::Referral { address, nqn, port_id });
        }
        layout::Discovery { nqn, mdns: discovery.mdns, referrals }
    }

    fn transport(&mut self, transport: &Transport) -> layout::Transport {
        let usual = layout::Transport::default();
        let in_capsule = self.size(
            "transport.in-capsule",
            transport.in_capsule.as_ref(),
            InCapsule::new,
            "a multiple of 16 up to \"16K\"",
        );
        let max_connections = self.within(
            "transport.max-connections",
            transport.max_connections,
            (1, 1_000_000),
            usual.max_connections,
        );
        layout::Transport {
            in_capsule,
            header_digest: transport.header_digest.unwrap_or(usual.header_digest),
            data_digest: transport.data_digest.unwrap_or(usual.data_digest),
            max_connections,
        }
    }

    fn port(&mut self, at: &str, id: u32, port: &Port, config: &Config) -> Option<layout::Port> {
        let id = self.within(&format!("{at}.id"), Some(id), (1, u16::MAX), 1);
        let subsystems = port.subsystems.as_ref().map(|names| {
            let known: Vec<&str> = config.subsystems.iter().map(|s| s.nqn.as_str()).collect();
            let all: BTreeSet<&str> = known.iter().copied().collect();
            for (i, name) in names.iter().enumerate() {
                if !all.contains(name.as_str()) {
                    let near = nearest(name, &known).map(|near| format!("; did you mean {near}?"));
                    self.wrong(
                        &format!("{at}.subsystems[{i}]"),
                        format!(
                            "there is no subsystem `{}`{}",
                            name.escape_debug(),
                            near.unwrap_or_default()
                        ),
                    );
                }
            }
            // What is not well-formed is said where the subsystem is named.
            names.iter().filter_map(|name| Nqn::parse_strict(name).ok()).collect()
        });
        let ana = self.ana(&format!("{at}.ana"), &port.ana);
        let listen = self.value(&format!("{at}.listen"), socket_address(&port.listen))?;
        Some(layout::Port { id, listen, subsystems, ana })
    }

    fn ana(&mut self, at: &str, ana: &BTreeMap<String, String>) -> BTreeMap<AnaGroup, AnaState> {
        const STATES: [AnaState; 5] = [
            AnaState::Optimized,
            AnaState::NonOptimized,
            AnaState::Inaccessible,
            AnaState::PersistentLoss,
            AnaState::Change,
        ];
        let mut states = BTreeMap::new();
        for (number, name) in ana {
            let key = format!("{at}.{}", number.escape_debug());
            let group = number.parse().ok().and_then(AnaGroup::new);
            // Not `01`: a group has one name.
            let group = group.filter(|group| group.to_string() == *number);
            if group.is_none() {
                self.wrong(&key, format!("an ANA group is a number from 1 to {}", AnaGroup::MAX));
            }
            let state = STATES.into_iter().find(|state| state.name() == name);
            if state.is_none() {
                let names = STATES.map(AnaState::name).join(", ");
                self.wrong(
                    &key,
                    format!("`{}` is no state; write one of {names}", name.escape_debug()),
                );
            }
            if let (Some(group), Some(state)) = (group, state)
                && state != AnaState::Optimized
            {
                states.insert(group, state);
            }
        }
        states
    }

    fn subsystem(&mut self, at: &str, nqn: Nqn, subsystem: &Subsystem) -> layout::Subsystem {
        let serial = subsystem
            .serial
            .as_ref()
            .and_then(|serial| self.value(&format!("{at}.serial"), SerialNumber::new(serial)));
        let mut text = |name: &str, text: &Option<String>, most, default: &str| {
            let text = text.as_ref();
            text.and_then(|text| self.value(&format!("{at}.{name}"), identity_text(text, most)))
                .unwrap_or_else(|| default.to_owned())
        };
        let model = text("model", &subsystem.model, 40, limits::MODEL);
        let firmware = text("firmware", &subsystem.firmware, 8, limits::FIRMWARE);
        let key = format!("{at}.hosts");
        let hosts = subsystem.hosts.as_ref().map(|hosts| match hosts {
            HostList::Any => Hosts::Any,
            HostList::Only(hosts) => Hosts::Only(self.nqns(&key, hosts)),
        });
        let queues = (1, 1024);
        let key = format!("{at}.max-io-queues");
        let max_io_queues = self.within(&key, subsystem.max_io_queues, queues, limits::IO_QUEUES);
        let (lowest, highest) = layout::Subsystem::CNTLID.into_inner();
        let ids = (lowest, highest);
        let min = self.within(&format!("{at}.cntlid-min"), subsystem.cntlid_min, ids, lowest);
        let max = self.within(&format!("{at}.cntlid-max"), subsystem.cntlid_max, ids, highest);
        if min > max {
            self.wrong(
                &format!("{at}.cntlid-max"),
                format!(
                    "there is no identifier from {min} to {max}; exchange cntlid-min and cntlid-max"
                ),
            );
        }
        let max_transfer = self.size(
            &format!("{at}.max-transfer"),
            subsystem.max_transfer.as_ref(),
            MaxTransfer::new,
            "a power of two from \"8K\" to \"1M\"",
        );
        let most = limits::IO_ENTRIES.entries();
        let key = format!("{at}.max-queue-entries");
        let entries = self.within(&key, subsystem.max_queue_entries, (2, most), most);
        let max_queue_entries = QueueSize::new(entries).unwrap_or(limits::IO_ENTRIES);
        let key = format!("{at}.static-controllers");
        let ids = max.saturating_sub(min).saturating_add(1);
        let static_controllers = subsystem.static_controllers.map(|count| {
            let count = self.within(&key, Some(count), (1, 1000), 1);
            if min <= max && count > ids {
                self.wrong(
                    &key,
                    format!("there are {ids} identifiers for them, cntlid-min to cntlid-max"),
                );
            }
            count
        });
        let namespaces = &subsystem.namespaces;
        self.identifiers_once(&format!("{at}.namespace"), namespaces.iter().map(|ns| ns.id));
        let mut checked = BTreeMap::new();
        let ids = assigned(namespaces.iter().map(|ns| ns.id));
        for (i, (namespace, nsid)) in namespaces.iter().zip(ids).enumerate() {
            let at = format!("{at}.namespace[{i}]");
            if let Some(ns) = self.namespace(&at, nsid, namespace, hosts.as_ref()) {
                checked.insert(nsid, ns);
            }
        }
        self.identities_once(at, subsystem);
        let serial = serial.unwrap_or_else(|| SerialNumber::derived(&nqn));
        layout::Subsystem {
            nqn,
            serial,
            model,
            firmware,
            hosts,
            max_io_queues,
            max_transfer,
            max_queue_entries,
            static_controllers,
            cntlid: min..=max,
            namespaces: checked,
        }
    }

    fn namespace(
        &mut self,
        at: &str,
        nsid: u32,
        namespace: &Namespace,
        allowed: Option<&Hosts>,
    ) -> Option<layout::Namespace> {
        if matches!(nsid, 0 | NSID_ALL) {
            self.wrong(
                &format!("{at}.id"),
                format!("{nsid} is no namespace identifier; use 1 to {}", NSID_ALL - 1),
            );
        }
        let spec = self.value(&format!("{at}.source"), namespace.source.parse::<NamespaceSpec>());
        let key = format!("{at}.uuid");
        let mut uuid = namespace.uuid.as_ref().and_then(|text| self.value(&key, value::uuid(text)));
        let in_source = spec.as_ref().and_then(|spec| spec.uuid);
        if in_source.is_some() && namespace.uuid.is_some() {
            self.wrong(&key, "the source has a uuid=, too; leave one of them out");
        }
        uuid = uuid.or(in_source);
        let nguid = namespace
            .nguid
            .as_ref()
            .and_then(|text| self.value(&format!("{at}.nguid"), hex::<16>(text)));
        let eui64 = namespace
            .eui64
            .as_ref()
            .and_then(|text| self.value(&format!("{at}.eui64"), hex::<8>(text)));
        let ana_group = match namespace.ana_group.map(AnaGroup::new) {
            None => AnaGroup::FIRST,
            Some(Some(group)) => group,
            Some(None) => {
                self.wrong(
                    &format!("{at}.ana-group"),
                    format!("an ANA group is a number from 1 to {}", AnaGroup::MAX),
                );
                AnaGroup::FIRST
            }
        };
        let key = format!("{at}.hosts");
        let hosts = namespace.hosts.as_ref().map(|hosts| {
            for (i, host) in hosts.iter().enumerate() {
                let refused = Nqn::parse_strict(host)
                    .is_ok_and(|host| allowed.is_some_and(|hosts| !hosts.allow(&host)));
                if refused {
                    self.wrong(
                        &format!("{key}[{i}]"),
                        format!(
                            "{host} may not connect to the subsystem; add it to the \
                             subsystem's hosts, or leave it out here"
                        ),
                    );
                }
            }
            self.nqns(&key, hosts)
        });
        let limits = self.limits(&format!("{at}.limits"), &namespace.limits);
        let spec = NamespaceSpec { uuid: None, ..spec? };
        let read_only = namespace.read_only;
        Some(layout::Namespace {
            nsid,
            spec,
            uuid,
            nguid,
            eui64,
            ana_group,
            read_only,
            hosts,
            limits,
        })
    }

    fn limits(&mut self, at: &str, limits: &Limits) -> layout::Limits {
        const ZERO: &str = "0 would let nothing through; leave it out for no limit";
        let mut number = |name: &str, number: Option<u32>| {
            let number = NonZeroU32::new(number?);
            if number.is_none() {
                self.wrong(&format!("{at}.{name}"), ZERO);
            }
            number
        };
        let iops = number("iops", limits.iops);
        let read_iops = number("read-iops", limits.read_iops);
        let write_iops = number("write-iops", limits.write_iops);
        let mut size = |name: &str, size: &Option<Size>| {
            let key = format!("{at}.{name}");
            let bytes = self.value(&key, parse_size(size.as_ref()?.as_str()))?;
            if bytes == 0 {
                self.wrong(&key, ZERO);
            }
            NonZeroU64::new(bytes)
        };
        layout::Limits {
            iops,
            read_iops,
            write_iops,
            bandwidth: size("bandwidth", &limits.bandwidth),
            read_bandwidth: size("read-bandwidth", &limits.read_bandwidth),
            write_bandwidth: size("write-bandwidth", &limits.write_bandwidth),
        }
    }

    /// A subsystem without `hosts` is open. Beyond this machine that has to be asked for by name.
    fn open_to_all(&mut self, at: &str, subsystem: &layout::Subsystem, layout: &Layout) {
        if subsystem.hosts.is_some() {
            return;
        }
        let mut exposed =
            layout.ports_of(&subsystem.nqn).filter(|port| !is_loopback(port.listen.ip()));
        let Some(first) = exposed.next() else { return };
        let more = match exposed.count() {
            0 => String::new(),
            more => format!(" (and {more} more)"),
        };
        self.wrong(
            &format!("{at}.hosts"),
            format!(
                "{} would be open to everybody who reaches {}{more}; list hosts = [\"nqn…\"], or \
                 write hosts = \"any\"",
                subsystem.nqn, first.listen,
            ),
        );
    }
}

fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

/// The identifiers of ports or of namespaces, in the order in which they stand: where none was
/// asked for, the lowest that no other has.
pub(crate) fn assigned(asked: impl Iterator<Item = Option<u32>> + Clone) -> Vec<u32> {
    let taken: BTreeSet<u32> = asked.clone().flatten().collect();
    let mut free = (1..=u32::MAX).filter(|id| !taken.contains(id));
    asked.map(|id| id.or_else(|| free.next()).unwrap_or(u32::MAX)).collect()
}

#[cfg(test)]
mod tests;

//! What may be there once only.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use nvmf_storage::{NamespaceSpec, Source};

use super::super::{Config, Subsystem};
use super::{Check, value};

impl Check {
    /// No two ports, and no two namespaces of a subsystem, have the same identifier.
    pub(super) fn identifiers_once(&mut self, at: &str, ids: impl Iterator<Item = Option<u32>>) {
        let mut first = BTreeMap::new();
        for (i, id) in ids.enumerate() {
            let Some(id) = id else { continue };
            if let Some(other) = first.insert(id, i) {
                self.wrong(
                    &format!("{at}[{i}].id"),
                    format!(
                        "{at}[{other}] has the id {id}, too; give one another, or leave it out to \
                         have a free one"
                    ),
                );
            }
        }
    }

    /// No two listeners are at the same address, or one at an address that another's covers.
    pub(super) fn addresses(&mut self, config: &Config) {
        let ports = config.ports.iter().enumerate();
        let ports = ports.map(|(i, port)| (format!("port[{i}]"), port.listen.as_str()));
        let metrics = config.metrics.iter().map(|m| ("metrics".to_owned(), m.listen.as_str()));
        let mut by_port: BTreeMap<u16, BTreeMap<SocketAddr, String>> = BTreeMap::new();
        for (at, listen) in ports.chain(metrics) {
            let Ok(address) = value::socket_address(listen) else { continue };
            let others = by_port.entry(address.port()).or_default();
            if let Some((there, other)) = in_the_way(others, address) {
                let what = if *there == address {
                    format!("{other} listens on {address}, too")
                } else if covers(*there, address) {
                    format!("{other} listens on {there}, which covers {address}")
                } else {
                    format!("this covers {there}, where {other} listens")
                };
                let message = format!("{what}; give one another address or port");
                self.wrong(&format!("{at}.listen"), message);
            }
            others.insert(address, at);
        }
    }

    /// No two namespaces of a subsystem have the same identity: hosts would take them for one disk.
    pub(super) fn identities_once(&mut self, at: &str, subsystem: &Subsystem) {
        let mut first: BTreeMap<(&str, Vec<u8>), usize> = BTreeMap::new();
        for (i, namespace) in subsystem.namespaces.iter().enumerate() {
            let spec = namespace.source.parse::<NamespaceSpec>().ok();
            let own = namespace.uuid.as_ref().and_then(|text| value::uuid(text).ok());
            let in_source = spec.as_ref().and_then(|spec| spec.uuid);
            let uuid = own.or(in_source);
            let nguid = namespace.nguid.as_ref().and_then(|text| value::hex::<16>(text).ok());
            let eui64 = namespace.eui64.as_ref().and_then(|text| value::hex::<8>(text).ok());
            let key = if own.is_some() { "uuid" } else { "source" };
            let identities = [
                (key, "UUID", uuid.map(Vec::from)),
                ("nguid", "NGUID", nguid.map(Vec::from)),
                ("eui64", "EUI-64", eui64.map(Vec::from)),
                // Without a UUID it follows from the file, which two may have that only read.
                (
                    "source",
                    "file and no UUID of its own",
                    match (uuid, spec.and_then(file)) {
                        (None, Some((path, read_only))) if read_only || namespace.read_only => {
                            Some(path.into_os_string().into_encoded_bytes())
                        }
                        _ => None,
                    },
                ),
            ];
            for (key, what, identity) in identities {
                let Some(identity) = identity else { continue };
                if let Some(other) = first.insert((what, identity), i) {
                    let key = format!("{at}.namespace[{i}].{key}");
                    self.wrong(
                        &key,
                        format!(
                            "{at}.namespace[{other}] has the same {what}, and hosts would \
                             take the two for one disk; give one another"
                        ),
                    );
                }
            }
        }
    }

    /// No file is the source of two namespaces, unless neither writes: they would know nothing of
    /// each other's caches, reservations and sizes.
    pub(super) fn files_once(&mut self, config: &Config) {
        let mut first: BTreeMap<PathBuf, (String, bool)> = BTreeMap::new();
        for (s, subsystem) in config.subsystems.iter().enumerate() {
            for (n, namespace) in subsystem.namespaces.iter().enumerate() {
                let spec = namespace.source.parse::<NamespaceSpec>().ok();
                let Some((path, read_only)) = spec.and_then(file) else { continue };
                let read_only = read_only || namespace.read_only;
                let at = format!("subsystem[{s}].namespace[{n}]");
                let Some((other, reads)) = first.get(&path) else {
                    first.insert(path, (at, read_only));
                    continue;
                };
                if !(read_only && *reads) {
                    let message = format!(
                        "{other} is this file, too; use another file, or make both read-only"
                    );
                    self.wrong(&format!("{at}.source"), message);
                }
            }
        }
    }
}

/// Whether two listeners cannot be there at once. `[::]` covers IPv4, too: Linux's default.
pub(in super::super) fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    // Port 0 is another one each time.
    a.port() == b.port() && a.port() != 0 && (a == b || covers(a, b) || covers(b, a))
}

/// Which of these, all of one port, cannot be there at once with this address.
fn in_the_way(
    others: &BTreeMap<SocketAddr, String>,
    address: SocketAddr,
) -> Option<(&SocketAddr, &String)> {
    let same = others.get_key_value(&address);
    let all: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
    let all = all.map(|ip| others.get_key_value(&SocketAddr::new(ip, address.port())));
    // What covers others covers the first, since IPv4 comes before IPv6.
    let candidates = [same].into_iter().chain(all).chain([others.first_key_value()]);
    candidates.flatten().find(|(there, _)| overlap(**there, address))
}

/// Whether one IP address stands for all of which the other is one.
fn covers(all: SocketAddr, one: SocketAddr) -> bool {
    all.ip().is_unspecified() && (all.is_ipv6() || one.is_ipv4())
}

/// The file of a source, and whether it is opened for reading only.
fn file(spec: NamespaceSpec) -> Option<(PathBuf, bool)> {
    match spec.source {
        // Its components: `a//b` is `a/b`.
        Source::File { path, read_only, .. } => Some((path.components().collect(), read_only)),
        _ => None,
    }
}

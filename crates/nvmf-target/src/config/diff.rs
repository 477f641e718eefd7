//! What has to be done to a running target so that it is what is written down now.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::ops::RangeInclusive;

use nvme_spec::Nqn;
use nvme_spec::log::AnaState;
use nvmf_storage::{NamespaceSpec, Source};

use super::check::overlap;
use super::layout::{Discovery, Limits, Namespace, Port, Subsystem, Transport};
use super::{AnaGroup, Layout};
use crate::subsystem::Hosts;

/// One step from a [`Layout`] to another, see [`diff`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// Other bounds for all connections, which a target that runs cannot get: it has to be started
    /// again.
    TransportChanged {
        /// What is asked for.
        transport: Transport,
    },
    /// Stop serving metrics.
    MetricsStopped,
    /// Close a listener.
    PortRemoved {
        /// Its identifier.
        id: u16,
    },
    /// Take a namespace away.
    NamespaceRemoved {
        /// Its subsystem.
        subsystem: Nqn,
        /// Its identifier.
        nsid: u32,
    },
    /// Take a subsystem away with its namespaces and controllers.
    SubsystemRemoved {
        /// Its name.
        nqn: Nqn,
    },
    /// Take a subsystem away and make it again with all of its namespaces: its serial number, model,
    /// firmware, sizes of commands or queues, or the number of its controllers is another, which hosts
    /// do not expect of one that they are connected to.
    SubsystemReplaced {
        /// What it is now.
        subsystem: Box<Subsystem>,
    },
    /// Let other hosts connect. Controllers of hosts that may no longer be there end.
    HostsChanged {
        /// The subsystem.
        subsystem: Nqn,
        /// Who may connect.
        hosts: Option<Hosts>,
    },
    /// Other bounds for controllers that come from now on; those that are there stay as they are.
    ControllersChanged {
        /// The subsystem.
        subsystem: Nqn,
        /// I/O queues that a controller grants.
        max_io_queues: u16,
        /// Their identifiers.
        cntlid: RangeInclusive<u16>,
    },
    /// The state of an ANA group on a port.
    AnaChanged {
        /// The port's identifier.
        port: u16,
        /// The group.
        group: AnaGroup,
        /// Its state now.
        state: AnaState,
    },
    /// Give a namespace to other hosts.
    NamespaceHostsChanged {
        /// Its subsystem.
        subsystem: Nqn,
        /// Its identifier.
        nsid: u32,
        /// The hosts that have it.
        hosts: Option<BTreeSet<Nqn>>,
    },
    /// Set or take off a namespace's write protection.
    NamespaceProtected {
        /// Its subsystem.
        subsystem: Nqn,
        /// Its identifier.
        nsid: u32,
        /// Whether it is write-protected now.
        read_only: bool,
    },
    /// Move a namespace to another ANA group.
    NamespaceRegrouped {
        /// Its subsystem.
        subsystem: Nqn,
        /// Its identifier.
        nsid: u32,
        /// The group.
        group: AnaGroup,
    },
    /// Bound what hosts may ask of a namespace.
    NamespaceLimited {
        /// Its subsystem.
        subsystem: Nqn,
        /// Its identifier.
        nsid: u32,
        /// The limits.
        limits: Limits,
    },
    /// Give a namespace another size: memory or null, of which nothing else changes.
    NamespaceResized {
        /// Its subsystem.
        subsystem: Nqn,
        /// Its identifier.
        nsid: u32,
        /// Its size in bytes.
        bytes: u64,
    },
    /// Add a namespace to a subsystem that is there. Where one of the same identifier was removed
    /// before, it is another one.
    NamespaceAdded {
        /// Its subsystem.
        subsystem: Nqn,
        /// What it is.
        namespace: Box<Namespace>,
    },
    /// Add a subsystem with its namespaces.
    SubsystemAdded {
        /// What it is.
        subsystem: Box<Subsystem>,
    },
    /// Other subsystems can be reached through a port.
    PortSubsystemsChanged {
        /// The port's identifier.
        id: u16,
        /// Which; `None` is all.
        subsystems: Option<BTreeSet<Nqn>>,
    },
    /// Listen elsewhere. The new address is free: a port whose new one is not free before others
    /// have left is removed and added.
    PortMoved {
        /// The port's identifier.
        id: u16,
        /// Where it listens now.
        listen: SocketAddr,
    },
    /// Listen.
    PortAdded {
        /// What it is.
        port: Box<Port>,
    },
    /// The discovery subsystem has another name or referrals, or is (no longer) announced.
    DiscoveryChanged {
        /// What it is now.
        discovery: Discovery,
    },
    /// Serve metrics.
    MetricsStarted {
        /// Where.
        listen: SocketAddr,
    },
}

/// The steps from one layout to the other that disturb hosts least, none if they are the same.
///
/// They can be taken one after the other, but for [`Change::TransportChanged`], which comes first:
/// with it, the target has to be started again. What is removed goes first, so that files and addresses
/// are free; then what hosts may do is settled; then things are added, and ports open last. In
/// between a port may name a subsystem that is not there.
///
/// Of a namespace, hosts, write protection, ANA group, limits and, of memory and null, the size can
/// change; where anything else does, it is removed and added.
#[must_use]
pub fn diff(old: &Layout, new: &Layout) -> Vec<Change> {
    let mut steps = Steps::default();
    steps.subsystems(old, new);
    steps.ports(old, new);
    let mut changes = Vec::new();
    if old.transport != new.transport {
        changes.push(Change::TransportChanged { transport: new.transport.clone() });
    }
    if old.metrics != new.metrics {
        changes.extend(old.metrics.map(|_| Change::MetricsStopped));
    }
    changes.append(&mut steps.removed);
    changes.append(&mut steps.rights);
    changes.append(&mut steps.changed);
    changes.append(&mut steps.added);
    changes.append(&mut steps.ports);
    if old.discovery != new.discovery {
        changes.push(Change::DiscoveryChanged { discovery: new.discovery.clone() });
    }
    if old.metrics != new.metrics {
        changes.extend(new.metrics.map(|listen| Change::MetricsStarted { listen }));
    }
    changes
}

/// Steps by when they are taken.
#[derive(Default)]
struct Steps {
    /// What is gone, and what has to go before it comes again.
    removed: Vec<Change>,
    /// Who may do what.
    rights: Vec<Change>,
    changed: Vec<Change>,
    added: Vec<Change>,
    /// Ports that move or open.
    ports: Vec<Change>,
}

impl Steps {
    fn subsystems(&mut self, old: &Layout, new: &Layout) {
        for nqn in old.subsystems.keys().filter(|nqn| !new.subsystems.contains_key(nqn)) {
            self.removed.push(Change::SubsystemRemoved { nqn: nqn.clone() });
        }
        // First of what is added: they have files that others may get.
        let mut replaced = Vec::new();
        for (nqn, subsystem) in &new.subsystems {
            let boxed = || Box::new(subsystem.clone());
            match old.subsystems.get(nqn) {
                None => self.added.push(Change::SubsystemAdded { subsystem: boxed() }),
                Some(before) if before.identity() != subsystem.identity() => {
                    replaced.push(Change::SubsystemReplaced { subsystem: boxed() });
                }
                Some(before) => self.subsystem(before, subsystem),
            }
        }
        replaced.append(&mut self.added);
        self.added = replaced;
    }

    fn subsystem(&mut self, old: &Subsystem, new: &Subsystem) {
        let subsystem = || new.nqn.clone();
        if old.hosts != new.hosts {
            let hosts = new.hosts.clone();
            self.rights.push(Change::HostsChanged { subsystem: subsystem(), hosts });
        }
        if (old.max_io_queues, &old.cntlid) != (new.max_io_queues, &new.cntlid) {
            self.changed.push(Change::ControllersChanged {
                subsystem: subsystem(),
                max_io_queues: new.max_io_queues,
                cntlid: new.cntlid.clone(),
            });
        }
        for nsid in old.namespaces.keys().filter(|nsid| !new.namespaces.contains_key(nsid)) {
            self.removed.push(Change::NamespaceRemoved { subsystem: subsystem(), nsid: *nsid });
        }
        for (nsid, namespace) in &new.namespaces {
            let nsid = *nsid;
            let added = || Change::NamespaceAdded {
                subsystem: subsystem(),
                namespace: Box::new(namespace.clone()),
            };
            match old.namespaces.get(&nsid) {
                None => self.added.push(added()),
                Some(before) if !is_same_disk(before, namespace) => {
                    self.removed.push(Change::NamespaceRemoved { subsystem: subsystem(), nsid });
                    self.added.push(added());
                }
                Some(before) => self.namespace(&new.nqn, before, namespace),
            }
        }
    }

    fn namespace(&mut self, subsystem: &Nqn, old: &Namespace, new: &Namespace) {
        let (subsystem, nsid) = (|| subsystem.clone(), new.nsid);
        if old.hosts != new.hosts {
            let hosts = new.hosts.clone();
            let subsystem = subsystem();
            self.rights.push(Change::NamespaceHostsChanged { subsystem, nsid, hosts });
        }
        if old.read_only != new.read_only {
            let (subsystem, read_only) = (subsystem(), new.read_only);
            self.rights.push(Change::NamespaceProtected { subsystem, nsid, read_only });
        }
        if old.ana_group != new.ana_group {
            let (subsystem, group) = (subsystem(), new.ana_group);
            self.changed.push(Change::NamespaceRegrouped { subsystem, nsid, group });
        }
        if old.limits != new.limits {
            let (subsystem, limits) = (subsystem(), new.limits);
            self.changed.push(Change::NamespaceLimited { subsystem, nsid, limits });
        }
        if let Some(bytes) = resizable(&new.spec).filter(|_| old.spec != new.spec) {
            self.changed.push(Change::NamespaceResized { subsystem: subsystem(), nsid, bytes });
        }
    }

    fn ports(&mut self, old: &Layout, new: &Layout) {
        let mut removed = Vec::new();
        let mut added = Vec::new();
        // Addresses that are not free until the last step has been taken.
        let moves =
            |id: &u16, port: &Port| new.ports.get(id).is_some_and(|now| now.listen != port.listen);
        let leaving: Vec<SocketAddr> =
            old.ports.iter().filter(|(id, port)| moves(id, port)).map(|(_, p)| p.listen).collect();
        for id in old.ports.keys().filter(|id| !new.ports.contains_key(id)) {
            removed.push(Change::PortRemoved { id: *id });
        }
        for (id, port) in &new.ports {
            let id = *id;
            let boxed = || Change::PortAdded { port: Box::new(port.clone()) };
            let Some(before) = old.ports.get(&id) else {
                added.push(boxed());
                continue;
            };
            if before.listen != port.listen {
                if leaving.iter().any(|address| overlap(*address, port.listen)) {
                    removed.push(Change::PortRemoved { id });
                    added.push(boxed());
                    continue;
                }
                self.ports.push(Change::PortMoved { id, listen: port.listen });
            }
            self.ana(before, port);
            if before.subsystems != port.subsystems {
                let subsystems = port.subsystems.clone();
                self.added.push(Change::PortSubsystemsChanged { id, subsystems });
            }
        }
        // Nobody comes in any more before anything else goes.
        removed.append(&mut self.removed);
        self.removed = removed;
        self.ports.append(&mut added);
    }

    fn ana(&mut self, old: &Port, new: &Port) {
        let groups: BTreeSet<AnaGroup> = old.ana.keys().chain(new.ana.keys()).copied().collect();
        for group in groups {
            let state = new.state(group);
            if old.state(group) != state {
                self.rights.push(Change::AnaChanged { port: new.id, group, state });
            }
        }
    }
}

/// Whether two namespaces are one whose properties changed.
fn is_same_disk(old: &Namespace, new: &Namespace) -> bool {
    let identity = |ns: &Namespace| (ns.uuid, ns.nguid, ns.eui64);
    identity(old) == identity(new) && (old.spec == new.spec || is_resized(&old.spec, &new.spec))
}

/// Whether only the size differs, of what can have another.
fn is_resized(old: &NamespaceSpec, new: &NamespaceSpec) -> bool {
    let same_kind = matches!(
        (&old.source, &new.source),
        (Source::Memory { .. }, Source::Memory { .. }) | (Source::Null { .. }, Source::Null { .. })
    );
    same_kind && old.block_size == new.block_size
}

/// The size of what can have another.
fn resizable(spec: &NamespaceSpec) -> Option<u64> {
    match spec.source {
        Source::Memory { bytes } | Source::Null { bytes } => Some(bytes),
        _ => None,
    }
}

#[cfg(test)]
mod tests;

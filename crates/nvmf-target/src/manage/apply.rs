//! From one layout to another.
//!
//! First all that can fail is tried: files are opened, addresses bound, sizes looked at. Then the
//! outcome is written down, and then it is done. Only a namespace whose file has to be let go of
//! first, by another that is taken away, is opened late; whether that will work is tried before by
//! all but the lock.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use nvme_spec::Nqn;
use nvmf_storage::{Geometry, Source};

use super::services::PreparedMetrics;
use super::{Applied, Inner, ManageError, build};
use crate::config::layout::{Namespace as NamespaceLayout, Subsystem as SubsystemLayout};
use crate::config::{Change, Layout, diff};
use crate::{BoundPort, ChangeError, Handle, Namespace, NamespaceChange, Subsystem};

/// A change that is ready to be done.
enum Step {
    /// It needs nothing.
    Plain(Change),
    Subsystem(Arc<Subsystem>),
    Namespace(Nqn, Arc<Namespace>),
    Port(BoundPort),
    MovedPort(u16, BoundPort),
    Metrics(PreparedMetrics),
    /// To be opened when its file is free.
    LateNamespace(Nqn, Box<NamespaceLayout>),
    /// Likewise; one of the same name goes before.
    LateSubsystem(Box<SubsystemLayout>, bool),
}

pub(super) fn apply(
    handle: &Handle,
    inner: &mut Inner,
    new: Layout,
) -> Result<Applied, ManageError> {
    let changes = diff(&inner.layout, &new);
    let mut applied = Applied { changes: changes.len(), warnings: Vec::new() };
    if changes.is_empty() {
        return Ok(applied);
    }
    let removed = removed(&changes);
    let steps = prepare(handle, inner, changes)?;
    if let Some(state) = &inner.state {
        state.save(&new, &removed)?;
    }
    inner.layout = new;
    let mut missing = None;
    for step in steps {
        match take(handle, inner, step) {
            Ok(()) => {}
            Err(Failure::Told(warning)) => applied.warnings.push(warning),
            Err(Failure::Missing(lost)) => {
                strike_out(inner, &lost);
                missing = missing.or(Some(lost));
            }
        }
    }
    if let Err(error) = inner.services.announce(handle, &inner.layout) {
        applied.warnings.push(error.to_string());
    }
    for warning in &applied.warnings {
        tracing::warn!("{warning}");
    }
    match missing {
        None => Ok(applied),
        Some(lost) => {
            let Lost { what, source, .. } = *lost;
            if let Some(state) = &inner.state {
                state.save(&inner.layout, &[])?;
            }
            Err(ManageError::Partly { what, source: Box::new(source) })
        }
    }
}

/// Tries what can fail.
fn prepare(handle: &Handle, inner: &Inner, changes: Vec<Change>) -> Result<Vec<Step>, ManageError> {
    if changes.iter().any(|change| matches!(change, Change::TransportChanged { .. })) {
        return Err(ManageError::Restart("what [transport] says"));
    }
    let state = inner.state.as_ref();
    let freed = freed(&inner.layout, &changes);
    let waits = |ns: &NamespaceLayout| file_of(ns).is_some_and(|path| freed.contains(&path));
    let mut steps = Vec::with_capacity(changes.len());
    for change in changes {
        steps.push(match change {
            Change::NamespaceAdded { subsystem, namespace } if waits(&namespace) => {
                build::try_out(&subsystem, &namespace)?;
                Step::LateNamespace(subsystem, namespace)
            }
            Change::NamespaceAdded { subsystem, namespace } => {
                Step::Namespace(subsystem.clone(), build::namespace(&subsystem, &namespace, state)?)
            }
            Change::SubsystemAdded { subsystem } if subsystem.namespaces.values().any(waits) => {
                try_out(&subsystem)?;
                Step::LateSubsystem(subsystem, false)
            }
            Change::SubsystemAdded { subsystem } => {
                Step::Subsystem(build::subsystem(&subsystem, state)?)
            }
            Change::SubsystemReplaced { subsystem } => {
                try_out(&subsystem)?;
                Step::LateSubsystem(subsystem, true)
            }
            Change::PortAdded { port } => Step::Port(BoundPort::bind(build::port(&port))?),
            Change::PortMoved { id, listen } => Step::MovedPort(id, rebind(handle, id, listen)?),
            Change::MetricsStarted { listen } => {
                Step::Metrics(PreparedMetrics::start(handle, listen)?)
            }
            Change::NamespaceResized { subsystem, nsid, bytes } => {
                check_size(handle, &subsystem, nsid, bytes)?;
                Step::Plain(Change::NamespaceResized { subsystem, nsid, bytes })
            }
            other => Step::Plain(other),
        });
    }
    Ok(steps)
}

/// The namespaces that are taken away, be it to come again as something else.
fn removed(changes: &[Change]) -> Vec<(Nqn, u32)> {
    let removed = changes.iter().filter_map(|change| match change {
        Change::NamespaceRemoved { subsystem, nsid } => Some((subsystem.clone(), *nsid)),
        _ => None,
    });
    removed.collect()
}

/// The files that are let go of.
fn freed(old: &Layout, changes: &[Change]) -> BTreeSet<PathBuf> {
    let of_subsystem = |nqn: &Nqn| {
        let subsystem = old.subsystems().get(nqn);
        subsystem.into_iter().flat_map(|s| s.namespaces.values().filter_map(file_of)).collect()
    };
    let files = changes.iter().flat_map(|change| -> Vec<PathBuf> {
        match change {
            Change::SubsystemRemoved { nqn } => of_subsystem(nqn),
            Change::SubsystemReplaced { subsystem } => of_subsystem(&subsystem.nqn),
            Change::NamespaceRemoved { subsystem, nsid } => {
                let subsystem = old.subsystems().get(subsystem);
                let ns = subsystem.and_then(|s| s.namespaces.get(nsid));
                ns.and_then(file_of).into_iter().collect()
            }
            _ => Vec::new(),
        }
    });
    files.collect()
}

/// The file of a namespace, by its canonical path if it has one.
fn file_of(ns: &NamespaceLayout) -> Option<PathBuf> {
    match &ns.spec.source {
        Source::File { path, .. } => Some(path.canonicalize().unwrap_or_else(|_| path.clone())),
        _ => None,
    }
}

fn try_out(subsystem: &SubsystemLayout) -> Result<(), ManageError> {
    subsystem.namespaces.values().try_for_each(|ns| build::try_out(&subsystem.nqn, ns))
}

/// Takes the address to which a port moves.
fn rebind(
    handle: &Handle,
    id: u16,
    listen: std::net::SocketAddr,
) -> Result<BoundPort, ManageError> {
    let port = handle.port(id)?;
    Ok(BoundPort::bind(port.moved(listen))?)
}

/// Whether a namespace can get this size, as far as can be said before.
fn check_size(handle: &Handle, nqn: &Nqn, nsid: u32, bytes: u64) -> Result<(), ManageError> {
    let now = handle.namespace(nqn, nsid)?.backend().geometry();
    if bytes < now.bytes() {
        return Err(ManageError::Clash(format!(
            "namespace {nsid} of {nqn} has {} bytes and cannot get smaller, to {bytes}: hosts may \
             have data there; remove it and add another",
            now.bytes()
        )));
    }
    Ok(())
}

/// Why something was not done as it was to be.
enum Failure {
    /// It was, and this is to be known.
    Told(String),
    /// It was not.
    Missing(Box<Lost>),
}

/// What is not there although it was to be.
struct Lost {
    what: String,
    source: ManageError,
    nqn: Nqn,
    /// `None`: all of the subsystem.
    nsid: Option<u32>,
}

fn told(error: impl std::fmt::Display) -> Failure {
    Failure::Told(error.to_string())
}

/// Does what is ready.
fn take(handle: &Handle, inner: &mut Inner, step: Step) -> Result<(), Failure> {
    let state = inner.state.as_ref();
    match step {
        Step::Plain(Change::MetricsStopped) => {
            inner.services.stop_metrics();
            Ok(())
        }
        Step::Metrics(prepared) => {
            inner.services.serve_metrics(prepared);
            Ok(())
        }
        Step::Plain(change) => plain(handle, change).map_err(told),
        Step::Subsystem(subsystem) => handle.add_subsystem(subsystem).map_err(told),
        Step::Namespace(nqn, ns) => handle.add_namespace(&nqn, ns).map_err(told),
        Step::Port(bound) => handle.add_port(bound).map_err(told),
        Step::MovedPort(id, bound) => {
            let gone = handle.remove_port(id);
            handle.add_port(bound).and(gone).map_err(told)
        }
        Step::LateNamespace(nqn, ns) => {
            let lost = |source| {
                Failure::Missing(Box::new(Lost {
                    what: format!("namespace {} of {nqn}", ns.nsid),
                    source,
                    nqn: nqn.clone(),
                    nsid: Some(ns.nsid),
                }))
            };
            let built = build::namespace(&nqn, &ns, state).map_err(lost)?;
            handle.add_namespace(&nqn, built).map_err(told)
        }
        Step::LateSubsystem(subsystem, replaces) => {
            let gone = if replaces { handle.remove_subsystem(&subsystem.nqn) } else { Ok(()) };
            let built = build::subsystem(&subsystem, state).map_err(|source| {
                Failure::Missing(Box::new(Lost {
                    what: format!("subsystem {}", subsystem.nqn),
                    source,
                    nqn: subsystem.nqn.clone(),
                    nsid: None,
                }))
            })?;
            handle.add_subsystem(built).and(gone).map_err(told)
        }
    }
}

fn plain(handle: &Handle, change: Change) -> Result<(), ChangeError> {
    match change {
        Change::PortRemoved { id } => handle.remove_port(id),
        Change::NamespaceRemoved { subsystem, nsid } => handle.remove_namespace(&subsystem, nsid),
        Change::SubsystemRemoved { nqn } => handle.remove_subsystem(&nqn),
        Change::HostsChanged { subsystem, hosts } => {
            handle.set_hosts(&subsystem, build::hosts(hosts.as_ref()))
        }
        Change::ControllersChanged { subsystem, max_io_queues, cntlid } => {
            handle.set_controllers(&subsystem, max_io_queues, cntlid)
        }
        Change::AnaChanged { port, group, state } => handle.set_ana(port, group.get(), state),
        Change::NamespaceHostsChanged { subsystem, nsid, hosts } => {
            handle.change_namespace(&subsystem, nsid, NamespaceChange::Hosts(hosts))
        }
        Change::NamespaceProtected { subsystem, nsid, read_only } => {
            handle.change_namespace(&subsystem, nsid, NamespaceChange::WriteProtected(read_only))
        }
        Change::NamespaceRegrouped { subsystem, nsid, group } => {
            handle.change_namespace(&subsystem, nsid, NamespaceChange::AnaGroup(group.get()))
        }
        Change::NamespaceLimited { subsystem, nsid, limits } => {
            let limits = NamespaceChange::Limits(build::limits(&limits));
            handle.change_namespace(&subsystem, nsid, limits)
        }
        Change::NamespaceResized { subsystem, nsid, bytes } => {
            handle.resize_namespace(&subsystem, nsid, Some(bytes)).map(drop)
        }
        Change::PortSubsystemsChanged { id, subsystems } => {
            handle.set_port_subsystems(id, subsystems)
        }
        Change::DiscoveryChanged { discovery } => {
            handle.set_discovery(build::discovery_nqn(&discovery), build::referrals(&discovery));
            Ok(())
        }
        // These were made ready, or refused.
        Change::TransportChanged { .. }
        | Change::NamespaceAdded { .. }
        | Change::SubsystemAdded { .. }
        | Change::SubsystemReplaced { .. }
        | Change::PortAdded { .. }
        | Change::PortMoved { .. }
        | Change::MetricsStarted { .. }
        | Change::MetricsStopped => Ok(()),
    }
}

/// Takes out of the layout what is not there.
fn strike_out(inner: &mut Inner, lost: &Lost) {
    let mut config = inner.layout.config();
    let name = lost.nqn.to_string();
    match lost.nsid {
        Some(nsid) => {
            for subsystem in config.subsystems.iter_mut().filter(|s| s.nqn == name) {
                subsystem.namespaces.retain(|ns| ns.id != Some(nsid));
            }
        }
        None => {
            config.subsystems.retain(|subsystem| subsystem.nqn != name);
            for port in &mut config.ports {
                if let Some(only) = &mut port.subsystems {
                    only.retain(|nqn| *nqn != name);
                }
            }
        }
    }
    match config.resolve() {
        Ok(layout) => inner.layout = layout,
        Err(error) => tracing::error!(%error, "the running configuration cannot be said"),
    }
}

/// Makes a namespace larger; where its size is in the layout, that is another one then.
pub(super) fn resize(
    handle: &Handle,
    inner: &mut Inner,
    nqn: &Nqn,
    nsid: u32,
    bytes: Option<u64>,
) -> Result<Geometry, ManageError> {
    let mut config = inner.layout.config();
    let name = nqn.to_string();
    let subsystem = config.subsystems.iter_mut().find(|s| s.nqn == name);
    let ns = subsystem.and_then(|s| s.namespaces.iter_mut().find(|ns| ns.id == Some(nsid)));
    let spec = inner.layout.subsystems().get(nqn).and_then(|s| s.namespaces.get(&nsid));
    let (Some(ns), Some(spec)) = (ns, spec) else {
        return Err(ManageError::Missing(format!("{nqn} has no namespace {nsid}")));
    };
    if let (Some(bytes), Source::Memory { .. } | Source::Null { .. }) = (bytes, &spec.spec.source) {
        ns.source = spec.spec.clone().with_bytes(bytes).to_string();
        let layout = config.resolve()?;
        let _ = apply(handle, inner, layout)?;
        return Ok(handle.namespace(nqn, nsid)?.backend().geometry());
    }
    Ok(handle.resize_namespace(nqn, nsid, bytes)?)
}

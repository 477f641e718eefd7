//! What a layout's parts are at run time.

use std::num::NonZeroU64;
use std::sync::Arc;

use nvme_spec::Nqn;
use nvmf_storage::{NamespaceSpec, Source};

use super::state::Left;
use super::{ManageError, StateFile};
use crate::config::layout;
use crate::{Hosts, Limits, Namespace, NamespaceBuilder, Port, Referral, Subsystem, TargetBuilder};

pub(super) fn discovery(builder: TargetBuilder, discovery: &layout::Discovery) -> TargetBuilder {
    builder.discovery(discovery_nqn(discovery)).referrals(referrals(discovery))
}

/// The name of the discovery subsystem.
pub(super) fn discovery_nqn(discovery: &layout::Discovery) -> Nqn {
    discovery.nqn.clone().unwrap_or(Nqn::DISCOVERY)
}

pub(super) fn referrals(discovery: &layout::Discovery) -> Vec<Referral> {
    let referrals = discovery.referrals.iter();
    let referral = |r: &layout::Referral| Referral {
        address: r.address,
        nqn: r.nqn.clone(),
        port_id: r.port_id,
    };
    referrals.map(referral).collect()
}

pub(super) fn port(port: &layout::Port) -> Port {
    let built = port
        .ana
        .iter()
        .fold(Port::new(port.id, port.listen), |built, (g, state)| built.with_ana(g.get(), *state));
    match &port.subsystems {
        Some(only) => built.with_subsystems(only.iter().cloned()),
        None => built,
    }
}

/// Who may connect, where nothing that was said means everybody.
pub(super) fn hosts(hosts: Option<&Hosts>) -> Hosts {
    hosts.cloned().unwrap_or(Hosts::Any)
}

/// Makes a subsystem and opens its namespaces; what hosts left on them is in the state.
pub(super) fn subsystem(
    of: &layout::Subsystem,
    state: Option<&StateFile>,
) -> Result<Arc<Subsystem>, ManageError> {
    let mut builder = Subsystem::builder(of.nqn.clone())
        .serial(of.serial.clone())
        .model(of.model.clone())
        .firmware(of.firmware.clone())
        .hosts(hosts(of.hosts.as_ref()))
        .max_io_queues(of.max_io_queues)
        .max_transfer(of.max_transfer)
        .max_queue_entries(of.max_queue_entries)
        .controller_ids(*of.cntlid.start(), *of.cntlid.end());
    if let Some(count) = of.static_controllers {
        builder = builder.static_controllers(count);
    }
    if let Some(state) = state {
        builder = builder.persistence(state.of(&of.nqn));
    }
    for ns in of.namespaces.values() {
        builder = builder.with(restore(open(&of.nqn, ns)?, &of.nqn, ns, state));
    }
    let nqn = Box::new(of.nqn.clone());
    builder.build().map_err(|source| ManageError::Subsystem { nqn, source })
}

/// Opens a namespace, on which hosts have left nothing yet.
pub(super) fn namespace(
    nqn: &Nqn,
    of: &layout::Namespace,
    state: Option<&StateFile>,
) -> Result<Arc<Namespace>, ManageError> {
    let clash = |source| ManageError::Subsystem { nqn: Box::new(nqn.clone()), source };
    let mut builder = open(nqn, of)?;
    if let Some(state) = state {
        builder = builder.persistence(state.of(nqn));
    }
    builder.build(nqn).map_err(clash)
}

/// Gives a namespace back what hosts left on it.
fn restore(
    builder: NamespaceBuilder,
    nqn: &Nqn,
    of: &layout::Namespace,
    state: Option<&StateFile>,
) -> NamespaceBuilder {
    let Some(state) = state else { return builder };
    let Left { reservations, protected, uncorrectable } = state.left(nqn, of.nsid);
    let mut builder = builder.protected_by_host(protected);
    // What was marked is there no more where blocks are in memory.
    if let Source::File { .. } = of.spec.source {
        builder = builder.uncorrectable(uncorrectable);
    }
    match reservations {
        Some(saved) => builder.reservations(saved),
        None => builder,
    }
}

/// What a namespace is limited to.
pub(super) fn limits(of: &layout::Limits) -> Limits {
    Limits {
        iops: of.iops.map(NonZeroU64::from),
        read_iops: of.read_iops.map(NonZeroU64::from),
        write_iops: of.write_iops.map(NonZeroU64::from),
        bandwidth: of.bandwidth,
        read_bandwidth: of.read_bandwidth,
        write_bandwidth: of.write_bandwidth,
    }
}

fn open(nqn: &Nqn, of: &layout::Namespace) -> Result<NamespaceBuilder, ManageError> {
    let mut builder = Namespace::open(of.nsid, &of.spec)
        .map_err(|source| ManageError::Open { nqn: Box::new(nqn.clone()), nsid: of.nsid, source })?
        .ana_group(of.ana_group.get())
        .limits(limits(&of.limits))
        .write_protected(of.read_only);
    if let Some(uuid) = of.uuid {
        builder = builder.uuid(uuid);
    }
    if let Some(nguid) = of.nguid {
        builder = builder.nguid(nguid);
    }
    if let Some(eui64) = of.eui64 {
        builder = builder.eui64(eui64);
    }
    if let Some(hosts) = &of.hosts {
        builder = builder.hosts(hosts.iter().cloned());
    }
    Ok(builder)
}

/// Looks whether a namespace could be opened once those that hold its file let go of it: all but
/// the lock.
pub(super) fn try_out(nqn: &Nqn, of: &layout::Namespace) -> Result<(), ManageError> {
    let source = match of.spec.source.clone() {
        Source::File { path, direct, .. } => Source::File { path, direct, read_only: true },
        other => other,
    };
    let spec = NamespaceSpec { source, ..of.spec.clone() };
    open(nqn, &layout::Namespace { spec, ..of.clone() }).map(drop)
}

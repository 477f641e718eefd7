//! What was counted, for whoever watches: numbers of one moment, which do not change any more.

use std::collections::BTreeMap;
use std::time::SystemTime;

use nvme_spec::Nqn;

use super::Operation;
use super::sums::{Failure, OperationSum};
use crate::limit::Limits;
use crate::subsystem::Subsystem;

/// What a target did since it was made, and what goes on now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetReport {
    /// When the target was made.
    pub started: SystemTime,
    /// Connections there are, those that have not sent their Connect among them.
    pub connections: u64,
    /// Connections that were taken.
    pub accepted: u64,
    /// PDUs whose header or data digest was wrong.
    pub digest_errors: u64,
    /// Other ways in which peers broke the protocol.
    pub violations: u64,
    /// Each subsystem.
    pub subsystems: Vec<SubsystemReport>,
}

/// What hosts did with a subsystem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubsystemReport {
    /// The subsystem's name.
    pub nqn: Nqn,
    /// Controllers there are, each with its admin queue.
    pub controllers: u64,
    /// I/O queues there are.
    pub io_queues: u64,
    /// I/O commands that came and have not been answered.
    pub under_way: u64,
    /// How often a host was silent for longer than its Keep Alive Timeout.
    pub keep_alive_expirations: u64,
    /// The namespaces there are.
    pub namespaces: Vec<NamespaceReport>,
    /// What each host did.
    pub hosts: Vec<HostReport>,
}

/// What a namespace is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamespaceReport {
    /// The namespace identifier.
    pub nsid: u32,
    /// Its size in bytes.
    pub bytes: u64,
    /// What hosts may ask of it in a second.
    pub limits: Limits,
}

/// What one host did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostReport {
    /// The host's name; `None` for all hosts together that are not remembered any more.
    pub host: Option<Nqn>,
    /// How often it connected an admin queue.
    pub connects: u64,
    /// How often it did so having been here before, as far as that is remembered.
    pub reconnects: u64,
    /// Commands that succeeded, by namespace and operation. The namespace may be
    /// [`NSID_OTHER`](super::NSID_OTHER), or FFFFFFFFh for commands for all of them.
    pub operations: BTreeMap<(u32, Operation), OperationSum>,
    /// Commands that failed, by the way they did.
    pub failures: BTreeMap<Failure, u64>,
}

impl Subsystem {
    /// What hosts did with this subsystem since it was made, and what goes on now.
    pub fn report(&self) -> SubsystemReport {
        let books = self.books();
        let activity = books.activity();
        let namespaces = self.namespaces();
        let namespaces = namespaces.iter().map(|ns| {
            let geometry = ns.backend().geometry();
            let bytes = geometry.blocks().saturating_mul(geometry.block_size().into());
            NamespaceReport { nsid: ns.nsid(), bytes, limits: ns.limits() }
        });
        SubsystemReport {
            nqn: self.nqn().clone(),
            controllers: self.controller_ids().len() as u64,
            io_queues: activity.queues as u64,
            under_way: activity.under_way,
            keep_alive_expirations: books.keep_alive_expirations(),
            namespaces: namespaces.collect(),
            hosts: books.hosts(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{association, subsystem};
    use std::num::NonZeroU64;
    use std::time::Duration;

    #[test]
    fn a_subsystem_tells_of_its_namespaces_controllers_queues_and_hosts() {
        let subsystem = subsystem();
        let limits = Limits { read_iops: NonZeroU64::new(500), ..Limits::default() };
        subsystem.namespace(3).unwrap().set_limits(limits);
        let association = association(&subsystem);
        association.enable();
        let queue = association.join(1, || ()).unwrap();
        queue.counters().command();
        subsystem.books().keep_alive_expired();
        let report = subsystem.report();
        assert_eq!(report.nqn, *subsystem.nqn());
        let counts = (report.controllers, report.io_queues, report.under_way);
        assert_eq!((counts, report.keep_alive_expirations), ((1, 1, 1), 1));
        let sizes: Vec<_> = report.namespaces.iter().map(|ns| (ns.nsid, ns.bytes)).collect();
        assert_eq!(sizes, [(1, 1 << 20), (3, 64 << 20)]);
        let told: Vec<_> = report.namespaces.iter().map(|ns| ns.limits).collect();
        assert_eq!(told, [Limits::default(), limits]);
        assert_eq!(report.hosts.len(), 1);
        assert_eq!(report.hosts[0].host.as_ref(), Some(association.host()));
        assert_eq!((report.hosts[0].connects, report.hosts[0].reconnects), (1, 0));

        queue.counters().done(1, Operation::Read, 4096, Duration::from_micros(9));
        let report = subsystem.report();
        assert_eq!(report.under_way, 0);
        assert_eq!(report.hosts[0].operations[&(1, Operation::Read)].bytes, 4096);
    }
}

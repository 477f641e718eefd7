//! Numbers as text, in the Prometheus format.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU64;
use std::time::{Duration, UNIX_EPOCH};

use nvme_spec::Nqn;
use nvme_spec::identify::NSID_ALL;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, MetricEncoder, NoLabelSet,
    prometheus_text,
};
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::registry::Registry;

use super::families::{self, Family};
use crate::limit::Limits;
use crate::limits;
use crate::statistics::{
    BUCKETS, Histogram, HostReport, NSID_OTHER, NamespaceReport, Operation, OperationSum,
    SubsystemReport, TargetReport,
};

/// Renders what a target counted.
#[derive(Debug)]
pub struct Exposition {
    registry: Registry,
}

impl Exposition {
    /// Renders what `report` gives, which is asked at each scrape.
    pub fn new(report: impl Fn() -> TargetReport + Send + Sync + 'static) -> Self {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Scrape(report)));
        Self { registry }
    }

    /// All metrics as they are now, in the Prometheus text format 0.0.4.
    pub fn render(&self) -> String {
        let mut text = String::new();
        if prometheus_text::encode(&mut text, &self.registry).is_err() {
            // Writing to a string does not fail, and the encoder has no other reason to.
            tracing::error!("the metrics cannot be written down");
        }
        text
    }
}

struct Scrape<F>(F);

impl<F> fmt::Debug for Scrape<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scrape")
    }
}

impl<F: Fn() -> TargetReport + Send + Sync + 'static> Collector for Scrape<F> {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let report = (self.0)();
        let mut page = Page(encoder);
        page.target(&report)?;
        page.subsystems(&report.subsystems)?;
        page.hosts(&report.subsystems)?;
        page.latencies(&report.subsystems)
    }
}

type Label<'a> = (&'static str, &'a str);

/// One time series of a family: how it is told from others, and its value.
type Series<'a, V, const N: usize> = ([Label<'a>; N], V);

/// What is being written.
struct Page<'a>(DescriptorEncoder<'a>);

impl Page<'_> {
    fn target(&mut self, report: &TargetReport) -> fmt::Result {
        self.family(families::BUILD)?.encode_info(&[("version", limits::FIRMWARE)])?;
        let started = report.started.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        self.gauges(families::START_TIME, [([], started.as_secs_f64())])?;
        self.gauges(families::CONNECTIONS, [([], report.connections)])?;
        self.counters(families::ACCEPTED, [([], report.accepted)])?;
        self.counters(families::DIGEST_ERRORS, [([], report.digest_errors)])?;
        self.counters(families::VIOLATIONS, [([], report.violations)])
    }

    fn subsystems(&mut self, subsystems: &[SubsystemReport]) -> fmt::Result {
        let each = |value: fn(&SubsystemReport) -> u64| {
            subsystems.iter().map(move |s| ([of_subsystem(s)], value(s)))
        };
        self.gauges(families::CONTROLLERS, each(|s| s.controllers))?;
        let queues = subsystems.iter().flat_map(|s| {
            // A controller is there for as long as its admin queue is.
            let kinds = [("admin", s.controllers), ("io", s.io_queues)];
            kinds.map(|(kind, queues)| ([of_subsystem(s), ("kind", kind)], queues))
        });
        self.gauges(families::QUEUES, queues)?;
        self.gauges(families::QUEUE_DEPTH, each(|s| s.under_way))?;
        self.counters(families::EXPIRATIONS, each(|s| s.keep_alive_expirations))?;
        self.namespaces(subsystems)?;
        self.limits(families::LIMIT_IOPS, subsystems, |limits| {
            [limits.iops, limits.read_iops, limits.write_iops]
        })?;
        self.limits(families::LIMIT_BYTES, subsystems, |limits| {
            [limits.bandwidth, limits.read_bandwidth, limits.write_bandwidth]
        })
    }

    fn namespaces(&mut self, subsystems: &[SubsystemReport]) -> fmt::Result {
        let mut metric = self.family(families::NAMESPACE_BYTES)?;
        for (subsystem, ns) in namespaces_of(subsystems) {
            let labels = [of_subsystem(subsystem), ("namespace", &namespace(ns.nsid))];
            metric.encode_family(&labels)?.encode_gauge(&ns.bytes)?;
        }
        Ok(())
    }

    /// A sample for each limit that is set, of those of all commands, of reads and of writes.
    fn limits(
        &mut self,
        family: Family,
        subsystems: &[SubsystemReport],
        values: fn(&Limits) -> [Option<NonZeroU64>; 3],
    ) -> fmt::Result {
        let mut metric = self.family(family)?;
        for (subsystem, ns) in namespaces_of(subsystems) {
            for (direction, value) in ["all", "read", "write"].into_iter().zip(values(&ns.limits)) {
                let Some(value) = value else { continue };
                let nsid = namespace(ns.nsid);
                let labels =
                    [of_subsystem(subsystem), ("namespace", &nsid), ("direction", direction)];
                metric.encode_family(&labels)?.encode_gauge(&value.get())?;
            }
        }
        Ok(())
    }

    fn hosts(&mut self, subsystems: &[SubsystemReport]) -> fmt::Result {
        let each = |value: fn(&HostReport) -> u64| {
            let hosts = subsystems.iter().flat_map(|s| s.hosts.iter().map(move |host| (s, host)));
            hosts.map(move |(s, host)| ([of_subsystem(s), of_host(host)], value(host)))
        };
        self.counters(families::CONNECTS, each(|host| host.connects))?;
        self.counters(families::RECONNECTS, each(|host| host.reconnects))?;
        self.operations(families::COMMANDS, subsystems, |sum| sum.latency.count())?;
        self.operations(families::BYTES, subsystems, |sum| sum.bytes)?;
        self.operations(families::SECONDS, subsystems, |sum| sum.latency.seconds())?;
        self.errors(subsystems)
    }

    fn operations<V: EncodeCounterValue>(
        &mut self,
        family: Family,
        subsystems: &[SubsystemReport],
        value: fn(&OperationSum) -> V,
    ) -> fmt::Result {
        let mut metric = self.family(family)?;
        for subsystem in subsystems {
            for host in &subsystem.hosts {
                for ((nsid, operation), sum) in &host.operations {
                    let ns = namespace(*nsid);
                    let labels = of_command(subsystem, &ns, host, *operation);
                    count(&mut metric, &labels, &value(sum))?;
                }
            }
        }
        Ok(())
    }

    fn errors(&mut self, subsystems: &[SubsystemReport]) -> fmt::Result {
        let mut metric = self.family(families::ERRORS)?;
        for subsystem in subsystems {
            for host in &subsystem.hosts {
                for (failure, times) in &host.failures {
                    let ns = namespace(failure.nsid);
                    let [subsystem, ns, host, operation] =
                        of_command(subsystem, &ns, host, failure.operation);
                    let (code, name) = match failure.status() {
                        Some(status) => {
                            (format!("{:x}/{:02x}", status.sct(), status.sc()), status.name())
                        }
                        None => (String::new(), ""),
                    };
                    let labels =
                        [subsystem, ns, host, operation, ("status", &code), ("name", name)];
                    count(&mut metric, &labels, times)?;
                }
            }
        }
        Ok(())
    }

    /// Over all hosts: with one for each, a page would be a hundred times as long.
    fn latencies(&mut self, subsystems: &[SubsystemReport]) -> fmt::Result {
        let mut metric = self.family(families::LATENCY)?;
        for subsystem in subsystems {
            let mut sums: BTreeMap<(u32, Operation), Histogram> = BTreeMap::new();
            let operations = subsystem.hosts.iter().flat_map(|host| &host.operations);
            operations.for_each(|(key, sum)| sums.entry(*key).or_default().add(&sum.latency));
            for ((nsid, operation), histogram) in sums {
                let labels = [
                    of_subsystem(subsystem),
                    ("namespace", &namespace(nsid)),
                    ("operation", operation.name()),
                ];
                let buckets: [(f64, u64); BUCKETS] =
                    std::array::from_fn(|i| (Histogram::bound(i), histogram.buckets[i]));
                metric.encode_family(&labels)?.encode_histogram::<NoLabelSet>(
                    histogram.seconds(),
                    histogram.count(),
                    &buckets,
                    None,
                )?;
            }
        }
        Ok(())
    }

    fn gauges<'l, V: EncodeGaugeValue, const N: usize>(
        &mut self,
        family: Family,
        all: impl IntoIterator<Item = Series<'l, V, N>>,
    ) -> fmt::Result {
        let mut metric = self.family(family)?;
        all.into_iter()
            .try_for_each(|(labels, value)| metric.encode_family(&labels)?.encode_gauge(&value))
    }

    fn counters<'l, const N: usize>(
        &mut self,
        family: Family,
        all: impl IntoIterator<Item = Series<'l, u64, N>>,
    ) -> fmt::Result {
        let mut metric = self.family(family)?;
        all.into_iter().try_for_each(|(labels, value)| count(&mut metric, &labels, &value))
    }

    fn family(&mut self, family: Family) -> Result<MetricEncoder<'_>, fmt::Error> {
        self.0.encode_descriptor(family.name, family.help, None, family.kind)
    }
}

fn count<V: EncodeCounterValue, const N: usize>(
    metric: &mut MetricEncoder<'_>,
    labels: &[Label<'_>; N],
    value: &V,
) -> fmt::Result {
    let none: Option<&Exemplar<NoLabelSet, f64>> = None;
    metric.encode_family(labels)?.encode_counter(value, none)
}

/// Each namespace there is, with its subsystem.
fn namespaces_of(
    subsystems: &[SubsystemReport],
) -> impl Iterator<Item = (&SubsystemReport, &NamespaceReport)> {
    subsystems
        .iter()
        .flat_map(|subsystem| subsystem.namespaces.iter().map(move |ns| (subsystem, ns)))
}

fn of_subsystem(subsystem: &SubsystemReport) -> Label<'_> {
    ("subsystem", subsystem.nqn.as_str())
}

/// Hosts that are not remembered have no name; any other text could be that of one that is.
fn of_host(host: &HostReport) -> Label<'_> {
    ("host", host.host.as_ref().map_or("", Nqn::as_str))
}

fn of_command<'a>(
    subsystem: &'a SubsystemReport,
    namespace: &'a str,
    host: &'a HostReport,
    operation: Operation,
) -> [Label<'a>; 4] {
    let operation = ("operation", operation.name());
    [of_subsystem(subsystem), ("namespace", namespace), of_host(host), operation]
}

fn namespace(nsid: u32) -> String {
    match nsid {
        NSID_OTHER => "other".to_owned(),
        NSID_ALL => "all".to_owned(),
        nsid => nsid.to_string(),
    }
}

#[cfg(test)]
mod tests;

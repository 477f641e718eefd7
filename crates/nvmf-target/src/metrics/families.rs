//! The metrics there are: their names, kinds and descriptions.

use prometheus_client::metrics::MetricType;

/// A metric: all time series of a name.
#[derive(Debug, Clone, Copy)]
pub(super) struct Family {
    /// As it is encoded: what that appends (`_total`, `_info`) is not here.
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) kind: MetricType,
}

const fn counter(name: &'static str, help: &'static str) -> Family {
    Family { name, help, kind: MetricType::Counter }
}

const fn gauge(name: &'static str, help: &'static str) -> Family {
    Family { name, help, kind: MetricType::Gauge }
}

pub(super) const BUILD: Family =
    Family { name: "nvmf_build", help: "Which program this is", kind: MetricType::Info };
pub(super) const START_TIME: Family =
    gauge("nvmf_start_time_seconds", "When the target was made, in seconds since 1970");
pub(super) const CONNECTIONS: Family = gauge("nvmf_connections", "Connections there are");
pub(super) const ACCEPTED: Family =
    counter("nvmf_accepted_connections", "Connections that were taken");
pub(super) const DIGEST_ERRORS: Family =
    counter("nvmf_digest_errors", "PDUs whose header or data digest was wrong");
pub(super) const VIOLATIONS: Family =
    counter("nvmf_protocol_violations", "Other ways in which peers broke the protocol");
pub(super) const CONTROLLERS: Family = gauge("nvmf_controllers", "Controllers there are");
pub(super) const QUEUES: Family = gauge("nvmf_queues", "Queues there are");
pub(super) const QUEUE_DEPTH: Family =
    gauge("nvmf_queue_depth", "I/O commands that came and have not been answered");
pub(super) const EXPIRATIONS: Family = counter(
    "nvmf_keep_alive_expirations",
    "Hosts that were silent for longer than their Keep Alive Timeout",
);
pub(super) const NAMESPACE_BYTES: Family = gauge("nvmf_namespace_bytes", "The size of a namespace");
pub(super) const LIMIT_IOPS: Family = gauge(
    "nvmf_namespace_limit_iops",
    "I/O commands a second, of those that read, that write or of all, that a namespace is limited to",
);
pub(super) const LIMIT_BYTES: Family = gauge(
    "nvmf_namespace_limit_bytes_per_second",
    "Bytes a second, read, written or both, that a namespace is limited to",
);
pub(super) const CONNECTS: Family = counter("nvmf_connects", "Admin queues that a host connected");
pub(super) const RECONNECTS: Family =
    counter("nvmf_reconnects", "Admin queues that a host connected that was here before");
pub(super) const COMMANDS: Family = counter("nvmf_commands", "I/O commands that succeeded");
pub(super) const BYTES: Family = counter("nvmf_bytes", "Bytes of I/O commands that succeeded");
pub(super) const SECONDS: Family =
    counter("nvmf_command_time_seconds", "Time that I/O commands took that succeeded");
pub(super) const ERRORS: Family =
    counter("nvmf_errors", "I/O commands that were answered with an error");
pub(super) const LATENCY: Family = Family {
    name: "nvmf_command_seconds",
    help: "How long I/O commands took that succeeded",
    kind: MetricType::Histogram,
};

//! What a load generator reports, as `nvmf bench -o json` prints it.

use serde::{Deserialize, Serialize};

/// One run of a load generator.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    /// Whom it loaded.
    pub target: String,
    /// With what.
    pub workload: Workload,
    /// Reads and writes together.
    pub total: Part,
    /// The reads.
    pub read: Part,
    /// The writes.
    pub write: Part,
    /// The load generator's own CPU time.
    pub cpu: Cpu,
    /// I/Os that failed.
    pub errors: u64,
    /// Blocks that were not what had been written.
    pub mismatches: u64,
}

/// What the load was.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Workload {
    /// read, write, rw, or the same with "rand" before it.
    pub rw: String,
    /// Reads of a hundred I/Os.
    pub mix: u8,
    /// Bytes of one I/O.
    pub block_size: u32,
    /// I/Os outstanding, over all queues.
    pub queue_depth: u32,
    /// I/O queues, a connection each.
    pub queues: u32,
    /// How long was measured.
    pub seconds: f64,
    /// I/Os per second that were offered, unless as many as go.
    pub rate: Option<f64>,
    /// Whether the data that came was checked.
    pub verify: bool,
    /// PDU headers had digests.
    pub header_digest: bool,
    /// Data had digests.
    pub data_digest: bool,
    /// Of the random numbers.
    pub seed: u64,
}

/// The I/Os of one kind.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Part {
    /// How many were completed.
    pub ios: u64,
    /// The same per second.
    pub iops: f64,
    /// Payload per second.
    pub bytes_per_second: f64,
    /// How long they took.
    pub latency_us: LatencyUs,
}

impl Part {
    /// `ios` of `block_size` bytes in `seconds`.
    #[allow(clippy::cast_precision_loss, reason = "fewer I/Os than 2^53 are done in a run")]
    pub fn new(ios: u64, block_size: u32, seconds: f64, latency_us: LatencyUs) -> Self {
        let iops = if seconds > 0.0 { ios as f64 / seconds } else { 0.0 };
        Self { ios, iops, bytes_per_second: iops * f64::from(block_size), latency_us }
    }
}

/// Latencies in microseconds.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "their names say it")]
pub struct LatencyUs {
    pub mean: f64,
    pub min: f64,
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    #[serde(rename = "p99.9")]
    pub p99_9: f64,
    #[serde(rename = "p99.99")]
    pub p99_99: f64,
    pub max: f64,
}

/// CPU time of the load generator while it measured.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Cpu {
    /// In user space.
    pub user_seconds: f64,
    /// In the kernel.
    pub system_seconds: f64,
    /// Both, divided by the I/Os.
    pub us_per_io: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_those_of_nvmf_bench() {
        let json = serde_json::to_string(&Report::default()).unwrap();
        for name in ["block_size", "queue_depth", "bytes_per_second", "p99.99", "us_per_io"] {
            assert!(json.contains(&format!("\"{name}\":")), "no {name} in {json}");
        }
    }

    #[test]
    fn a_report_with_more_or_fewer_fields_is_read_all_the_same() {
        let json = r#"{"total":{"ios":7,"iops":3.5,"new":1},"later":{}}"#;
        let report: Report = serde_json::from_str(json).unwrap();
        assert_eq!((report.total.ios, report.total.iops), (7, 3.5));
    }
}

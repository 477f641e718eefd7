//! What came of a benchmark, for people and for scripts.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};
use serde_json::{Map, Value, json};

use super::cpu::Cpu;
use super::plan::Plan;
use super::tally::{Latency, Tally, Troubles};

/// The results.
#[derive(Debug)]
pub(crate) struct Report {
    /// The target as a URL.
    pub target: String,
    pub plan: Arc<Plan>,
    pub header_digest: bool,
    pub data_digest: bool,
    /// How long was measured.
    pub measured: Duration,
    pub tally: Tally,
    pub troubles: Troubles,
    pub cpu: Cpu,
    pub reconnects: u64,
}

/// What is shown of latencies, in percent.
const PERCENTILES: [(&str, f64); 5] =
    [("p50", 50.0), ("p90", 90.0), ("p99", 99.0), ("p99.9", 99.9), ("p99.99", 99.99)];

impl Report {
    #[allow(clippy::cast_precision_loss, reason = "a rate of more than 53 bits is none")]
    fn rate(&self, latency: &Latency) -> f64 {
        let seconds = self.measured.as_secs_f64();
        if seconds > 0.0 { latency.count() as f64 / seconds } else { 0.0 }
    }

    #[allow(clippy::cast_precision_loss, reason = "a command has few bytes")]
    fn throughput(&self, latency: &Latency) -> f64 {
        self.rate(latency) * self.plan.bytes as f64
    }

    #[allow(clippy::cast_precision_loss, reason = "a mean with three digits")]
    fn cpu_of_each(&self, total: &Latency) -> f64 {
        let cpu = self.cpu.user + self.cpu.system;
        match total.count() {
            0 => 0.0,
            count => cpu.as_secs_f64() * 1e6 / count as f64,
        }
    }

    fn direction(&self, latency: &Latency) -> Value {
        let mut times = Map::new();
        times.insert("mean".to_owned(), micro(latency.mean()));
        times.insert("min".to_owned(), micro(latency.min()));
        for (name, percent) in PERCENTILES {
            times.insert(name.to_owned(), micro(latency.percentile(percent)));
        }
        times.insert("max".to_owned(), micro(latency.max()));
        json!({
            "ios": latency.count(),
            "iops": self.rate(latency),
            "bytes_per_second": self.throughput(latency),
            "latency_us": times,
        })
    }

    /// All of it, for scripts.
    pub(crate) fn json(&self) -> Value {
        let Self { plan, tally, troubles, cpu, .. } = self;
        let total = tally.total();
        json!({
            "target": self.target,
            "workload": {
                "rw": plan.rw.name(),
                "mix": plan.mix,
                "block_size": plan.bytes,
                "queue_depth": plan.depth,
                "queues": plan.queues,
                "seconds": self.measured.as_secs_f64(),
                "rate": plan.rate,
                "verify": plan.verify,
                "header_digest": self.header_digest,
                "data_digest": self.data_digest,
                "seed": plan.seed,
            },
            "total": self.direction(&total),
            "read": self.direction(&tally.reads),
            "write": self.direction(&tally.writes),
            "cpu": {
                "user_seconds": cpu.user.as_secs_f64(),
                "system_seconds": cpu.system.as_secs_f64(),
                "us_per_io": micro(self.cpu_of_each(&total)),
            },
            "errors": troubles.errors(),
            "errors_by_status": troubles.errors,
            "mismatches": troubles.mismatches,
            "reconnects": self.reconnects,
            "lost": troubles.lost,
        })
    }

    /// All of it, for people.
    pub(crate) fn text(&self) -> String {
        let mut text = self.title();
        for line in self.table().lines() {
            text.push('\n');
            text.push_str(line.trim_end());
        }
        let Self { troubles, cpu, .. } = self;
        // Writing to a string does not fail.
        let _ = write!(
            text,
            "\nCPU of this side: {:.2} s user, {:.2} s system, {:.2} µs for each I/O",
            cpu.user.as_secs_f64(),
            cpu.system.as_secs_f64(),
            self.cpu_of_each(&self.tally.total())
        );
        for (status, count) in &troubles.errors {
            let _ = write!(text, "\nFailed {count} times: {status}");
        }
        if self.reconnects > 0 {
            let _ = write!(
                text,
                "\nReconnected {} times; {} commands were under way",
                self.reconnects, troubles.lost
            );
        }
        for mismatch in &troubles.examples {
            let _ = write!(text, "\nMismatch: {mismatch}");
        }
        text
    }

    fn title(&self) -> String {
        let Plan { rw, mix, bytes, depth, queues, threads, rate, verify, .. } = &*self.plan;
        let mut title = format!("{} ", rw.name());
        if !matches!(*mix, 0 | 100) {
            let _ = write!(title, "({mix} % reads) ");
        }
        let _ = write!(title, "of {bytes} bytes, {depth} at once on {}", count(*queues, "queue"));
        if *threads > 1 {
            let _ = write!(title, " and {threads} threads");
        }
        if let Some(rate) = rate {
            let _ = write!(title, ", {rate} a second");
        }
        if *verify {
            title.push_str(", verified");
        }
        let _ = write!(title, ", for {:.1} s", self.measured.as_secs_f64());
        title
    }

    fn table(&self) -> Table {
        let mut header: Vec<_> =
            ["", "I/Os", "IOPS", "MB/s", "mean µs", "min"].into_iter().map(str::to_owned).collect();
        header.extend(PERCENTILES.iter().map(|(name, _)| (*name).to_owned()));
        header.push("max".to_owned());
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_header(header);
        let Tally { reads, writes } = &self.tally;
        let total = self.tally.total();
        for (name, latency) in [("read", reads), ("write", writes), ("total", &total)] {
            // What there is none of is left out, and a total of one is that one.
            let shown = match name {
                "total" => (reads.count() > 0) == (writes.count() > 0),
                _ => latency.count() > 0,
            };
            if shown {
                table.add_row(self.row(name, latency));
            }
        }
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table
    }

    fn row(&self, name: &str, latency: &Latency) -> Vec<String> {
        let mut row = vec![
            name.to_owned(),
            latency.count().to_string(),
            format!("{:.0}", self.rate(latency)),
            format!("{:.1}", self.throughput(latency) / 1e6),
            format!("{:.1}", latency.mean()),
            format!("{:.1}", latency.min()),
        ];
        row.extend(PERCENTILES.iter().map(|(_, p)| format!("{:.1}", latency.percentile(*p))));
        row.push(format!("{:.1}", latency.max()));
        row
    }
}

/// Microseconds to the nanosecond.
fn micro(us: f64) -> Value {
    json!((us * 1000.0).round() / 1000.0)
}

fn count(n: usize, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::plan::tests::plan;

    fn report() -> Report {
        let mut tally = Tally::new().unwrap();
        (1..=1000).for_each(|us| tally.reads.record(us * 1000));
        Report {
            target: "nvme+tcp://h:4420/nqn.2026-01.a:b/1".to_owned(),
            plan: Arc::new(plan(100)),
            header_digest: true,
            data_digest: false,
            measured: Duration::from_secs(2),
            tally,
            troubles: Troubles::default(),
            cpu: Cpu { user: Duration::from_millis(2), system: Duration::from_millis(8) },
            reconnects: 0,
        }
    }

    #[test]
    fn the_table_has_a_row_for_what_there_was() {
        let mut report = report();
        let text = report.text();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "randread of 4096 bytes, 8 at once on 1 queue, for 2.0 s");
        let row: Vec<_> = lines[2].split_whitespace().collect();
        assert_eq!(row[..4], ["read", "1000", "500", "2.0"]);
        assert_eq!(row.len(), 12);
        assert_eq!(lines.len(), 4, "{text}");
        assert!(lines[3].ends_with("0.00 s user, 0.01 s system, 10.00 µs for each I/O"));
        report.tally.writes.record(5000);
        report.troubles.error("Write Fault".to_owned());
        let text = report.text();
        let names: Vec<_> =
            text.lines().skip(2).take(3).map(|l| l.split_whitespace().next().unwrap()).collect();
        assert_eq!(names, ["read", "write", "total"]);
        assert!(text.ends_with("\nFailed 1 times: Write Fault"), "{text}");
    }

    #[test]
    fn the_json_has_everything_and_times_in_microseconds() {
        let json = report().json();
        assert_eq!(json["workload"]["queue_depth"], 8);
        assert_eq!(json["total"]["ios"], 1000);
        assert_eq!(json["total"]["bytes_per_second"], 500.0 * 4096.0);
        let p99 = json["read"]["latency_us"]["p99"].as_f64().unwrap();
        assert!((989.0..992.0).contains(&p99), "{p99}");
        assert_eq!(json["write"]["ios"], 0);
        assert_eq!(json["cpu"]["us_per_io"], 10.0);
    }
}

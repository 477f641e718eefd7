//! The page as another implementation of the format reads it.

use std::collections::{BTreeMap, BTreeSet};

use prometheus_parse::{Sample, Scrape as Parsed, Value};

use super::*;
use crate::testing::{association, nqn, subsystem};
use nvme_spec::Status;
use std::time::SystemTime;

fn target(subsystems: Vec<SubsystemReport>) -> TargetReport {
    TargetReport {
        started: UNIX_EPOCH + Duration::from_millis(1_700_000_000_500),
        connections: 4,
        accepted: 5,
        digest_errors: 6,
        violations: 7,
        subsystems,
    }
}

fn render(report: TargetReport) -> String {
    Exposition::new(move || report.clone()).render()
}

fn parse(text: &str) -> Parsed {
    Parsed::parse(text.lines().map(|line| Ok(line.to_owned()))).unwrap()
}

/// The sample of this name and these labels, which are all that it has.
fn find<'a>(page: &'a Parsed, name: &str, labels: &[(&str, &str)]) -> Option<&'a Sample> {
    let labels: BTreeMap<&str, &str> = labels.iter().copied().collect();
    page.samples.iter().find(|sample| {
        let have: BTreeMap<&str, &str> =
            sample.labels.iter().map(|(name, value)| (&**name, &**value)).collect();
        sample.metric == name && have == labels
    })
}

fn number(page: &Parsed, name: &str, labels: &[(&str, &str)]) -> f64 {
    match find(page, name, labels).map(|sample| &sample.value) {
        Some(Value::Counter(n) | Value::Gauge(n) | Value::Untyped(n)) => *n,
        other => panic!("{name}{labels:?} is {other:?}"),
    }
}

/// A subsystem on which one host has done a little of everything.
fn used() -> SubsystemReport {
    let subsystem = subsystem();
    let association = association(&subsystem);
    association.enable();
    let queue = association.join(1, || ()).unwrap();
    let counters = queue.counters();
    (0..6).for_each(|_| counters.command());
    counters.done(1, Operation::Read, 4096, Duration::from_micros(3));
    counters.done(1, Operation::Read, 512, Duration::from_micros(100));
    counters.done(3, Operation::WriteZeroes, 1 << 20, Duration::from_secs(20));
    counters.done(NSID_ALL, Operation::Flush, 0, Duration::from_micros(1));
    counters.failed(NSID_OTHER, Operation::Write, Status::INVALID_NAMESPACE.with_dnr(true));
    subsystem.books().keep_alive_expired();
    let mut report = subsystem.report();
    let limit = NonZeroU64::new;
    report.namespaces[1].limits = Limits {
        iops: limit(1000),
        read_iops: limit(900),
        write_iops: limit(800),
        bandwidth: None,
        read_bandwidth: limit(1 << 20),
        write_bandwidth: limit(1 << 19),
    };
    report
}

const SUBSYSTEM: (&str, &str) = ("subsystem", crate::testing::NQN);
const HOST: (&str, &str) = ("host", "nqn.2026-01.org.example:host1");

#[test]
fn the_page_tells_what_was_counted() {
    let page = parse(&render(target(vec![used()])));
    for (name, value) in [
        ("nvmf_start_time_seconds", 1_700_000_000.5),
        ("nvmf_connections", 4.0),
        ("nvmf_accepted_connections_total", 5.0),
        ("nvmf_digest_errors_total", 6.0),
        ("nvmf_protocol_violations_total", 7.0),
    ] {
        assert_eq!(number(&page, name, &[]), value, "{name}");
    }
    assert_eq!(number(&page, "nvmf_build_info", &[("version", limits::FIRMWARE)]), 1.0);
    for (name, value) in [
        ("nvmf_controllers", 1.0),
        ("nvmf_queue_depth", 1.0),
        ("nvmf_keep_alive_expirations_total", 1.0),
    ] {
        assert_eq!(number(&page, name, &[SUBSYSTEM]), value, "{name}");
    }
    for kind in ["admin", "io"] {
        assert_eq!(number(&page, "nvmf_queues", &[SUBSYSTEM, ("kind", kind)]), 1.0);
    }
    assert_eq!(number(&page, "nvmf_connects_total", &[SUBSYSTEM, HOST]), 1.0);
    assert_eq!(number(&page, "nvmf_reconnects_total", &[SUBSYSTEM, HOST]), 0.0);

    let command = |namespace, operation| {
        [SUBSYSTEM, HOST, ("namespace", namespace), ("operation", operation)]
    };
    let read = command("1", "read");
    assert_eq!(number(&page, "nvmf_commands_total", &read), 2.0);
    assert_eq!(number(&page, "nvmf_bytes_total", &read), 4608.0);
    assert!((number(&page, "nvmf_command_time_seconds_total", &read) - 103e-6).abs() < 1e-9);
    let zeroes = command("3", "write-zeroes");
    assert_eq!(number(&page, "nvmf_bytes_total", &zeroes), 1_048_576.0);
    assert_eq!(number(&page, "nvmf_commands_total", &command("all", "flush")), 1.0);

    let [a, b, c, d] = command("other", "write");
    let status = [("status", "0/0b"), ("name", Status::INVALID_NAMESPACE.name())];
    let error = [a, b, c, d, status[0], status[1]];
    assert_eq!(number(&page, "nvmf_errors_total", &error), 1.0);
}

#[test]
fn namespaces_have_a_size_and_those_that_are_limited_their_limits() {
    let page = parse(&render(target(vec![used()])));
    let bytes =
        |namespace| number(&page, "nvmf_namespace_bytes", &[SUBSYSTEM, ("namespace", namespace)]);
    assert_eq!((bytes("1"), bytes("3")), (1_048_576.0, 67_108_864.0));
    let (iops, bytes) = ("nvmf_namespace_limit_iops", "nvmf_namespace_limit_bytes_per_second");
    for (name, direction, limit) in [
        (iops, "all", Some(1000.0)),
        (iops, "read", Some(900.0)),
        (iops, "write", Some(800.0)),
        (bytes, "all", None),
        (bytes, "read", Some(1_048_576.0)),
        (bytes, "write", Some(524_288.0)),
    ] {
        let labels = |ns| [SUBSYSTEM, ("namespace", ns), ("direction", direction)];
        match limit {
            Some(limit) => assert_eq!(number(&page, name, &labels("3")), limit),
            None => assert!(find(&page, name, &labels("3")).is_none(), "it is not set"),
        }
        assert!(find(&page, name, &labels("1")).is_none(), "{name} of one that is not limited");
    }
}

#[test]
fn buckets_of_a_histogram_are_cumulative_and_end_with_all() {
    let text = render(target(vec![used()]));
    let page = parse(&text);
    let labels = |ns, operation| [SUBSYSTEM, ("namespace", ns), ("operation", operation)];
    let buckets = |ns, operation| {
        let sample = find(&page, "nvmf_command_seconds", &labels(ns, operation)).unwrap();
        match &sample.value {
            Value::Histogram(buckets) => {
                buckets.iter().map(|bucket| (bucket.less_than, bucket.count)).collect::<Vec<_>>()
            }
            other => panic!("{other:?}"),
        }
    };
    let read = buckets("1", "read");
    assert_eq!(read.len(), BUCKETS);
    assert!(read.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1), "{read:?}");
    let below = |seconds: f64| read.iter().filter(|b| b.0 <= seconds).map(|b| b.1).next_back();
    assert_eq!((below(2.1e-6), below(4.1e-6)), (Some(0.0), Some(1.0)));
    assert_eq!((below(65e-6), below(129e-6)), (Some(1.0), Some(2.0)));
    assert_eq!(read.last(), Some(&(f64::INFINITY, 2.0)));
    let slow = buckets("3", "write-zeroes");
    assert_eq!((slow[BUCKETS - 2].1, slow[BUCKETS - 1].1), (0.0, 1.0), "longer than 16.8 s");
    let all = |name| number(&page, name, &labels("1", "read"));
    assert_eq!(all("nvmf_command_seconds_count"), 2.0);
    assert!((all("nvmf_command_seconds_sum") - 103e-6).abs() < 1e-9);
}

#[test]
fn a_histogram_is_over_all_hosts() {
    let mut report = used();
    let mut other = report.hosts[0].clone();
    other.host = Some(nqn("nqn.2026-01.org.example:other"));
    report.hosts.push(other);
    let page = parse(&render(target(vec![report])));
    let labels = [SUBSYSTEM, ("namespace", "1"), ("operation", "read")];
    assert_eq!(number(&page, "nvmf_command_seconds_count", &labels), 4.0);
}

/// The hosts of a metric's lines, unescaped as the format says.
fn hosts_of(text: &str, metric: &str) -> Vec<String> {
    let lines = text.lines().filter(|line| line.starts_with(&format!("{metric}{{")));
    let hosts = lines.map(|line| {
        let (_, rest) = line.split_once("host=\"").unwrap();
        let (mut value, mut rest) = (String::new(), rest.chars());
        loop {
            match rest.next().unwrap() {
                '"' => return value,
                '\\' => value.push(match rest.next().unwrap() {
                    'n' => '\n',
                    c @ ('"' | '\\') => c,
                    other => panic!("no such escape: {other}"),
                }),
                c => value.push(c),
            }
        }
    });
    hosts.collect()
}

#[test]
fn names_of_hosts_cannot_break_out_of_their_label() {
    let hostile = [
        "\"} 1\nnvmf_connections 666\n#",
        "back\\slash\\",
        "\\n is not a line break",
        "ends with a quote\"",
        "nqn.2026-01.org.example:größe\r\t\u{1}",
    ];
    let mut report = used();
    report.hosts = hostile
        .iter()
        .map(|name| HostReport { host: Some(nqn(name)), ..report.hosts[0].clone() })
        .collect();
    let text = render(target(vec![report]));
    assert_eq!(hosts_of(&text, "nvmf_connects_total"), hostile);
    assert_eq!(hosts_of(&text, "nvmf_reconnects_total"), hostile);
    let lines: Vec<&str> =
        text.split('\n').filter(|line| line.starts_with("nvmf_connections ")).collect();
    assert_eq!(lines, ["nvmf_connections 4"]);
    let orderly =
        |line: &&str| line.is_empty() || line.starts_with('#') || line.starts_with("nvmf_");
    assert!(text.split('\n').all(|line| orderly(&line)));
}

#[test]
fn what_is_counted_together_has_labels_that_nothing_else_can_have() {
    let subsystem = subsystem();
    let counters = subsystem.books().open(&nqn("other"));
    (1..=300).for_each(|nsid| counters.failed(nsid, Operation::Read, Status::INVALID_FIELD));
    let mut report = subsystem.report();
    let mut forgotten = report.hosts[0].clone();
    forgotten.host = None;
    report.hosts.push(forgotten);
    let text = render(target(vec![report]));
    assert_eq!(hosts_of(&text, "nvmf_connects_total"), ["other", ""]);
    let page = parse(&text);
    let together = [("namespace", "other"), ("operation", "other"), ("status", ""), ("name", "")];
    for host in ["other", ""] {
        let labels = [&[SUBSYSTEM, ("host", host)], &together[..]].concat();
        assert_eq!(number(&page, "nvmf_errors_total", &labels), 44.0);
    }
}

#[test]
fn no_time_series_is_there_twice() {
    let text = render(target(vec![used()]));
    let mut seen = BTreeSet::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (series, _) = line.rsplit_once(' ').unwrap();
        assert!(seen.insert(series), "{series}");
    }
    assert!(seen.len() > 100);
}

#[test]
fn each_metric_is_in_the_document_and_nothing_else_is() {
    let text = render(target(vec![used()]));
    let rendered: BTreeMap<&str, &str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect();
    let document =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/metrics.md"));
    let document = document.expect("docs/metrics.md is part of the source");
    let rows: Vec<Vec<&str>> = document
        .lines()
        .filter(|line| line.starts_with("| `nvmf_"))
        .map(|line| {
            line.trim_matches('|').split('|').map(|cell| cell.trim().trim_matches('`')).collect()
        })
        .collect();
    let documented: BTreeMap<&str, &str> = rows.iter().map(|row| (row[0], row[1])).collect();
    assert_eq!(rows.len(), documented.len(), "one row for each");
    assert_eq!(rendered, documented);

    // The labels, too: those of each metric that has a time series here, which are all.
    for row in &rows {
        let labels: BTreeSet<&str> = row[2]
            .split(',')
            .map(|label| label.trim().trim_matches('`'))
            .filter(|l| !l.is_empty())
            .collect();
        let page = parse(&text);
        let sample = page.samples.iter().find(|sample| sample.metric == row[0]);
        let sample = sample.unwrap_or_else(|| panic!("{} has no time series", row[0]));
        let have: BTreeSet<&str> = sample.labels.keys().map(|label| &**label).collect();
        assert_eq!(have, labels, "{}", row[0]);
    }
}

#[test]
fn a_clock_before_1970_is_no_reason_to_fail() {
    let mut report = target(Vec::new());
    report.started = SystemTime::UNIX_EPOCH - Duration::from_secs(1);
    assert_eq!(number(&parse(&render(report)), "nvmf_start_time_seconds", &[]), 0.0);
}

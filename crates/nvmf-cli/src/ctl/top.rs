//! `nvmf ctl top`: what hosts do, from one look to the next.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal};
use std::path::Path;
use std::thread;
use std::time::Instant;

use nvmf_target::control::{Activity, OperationActivity, Reply, Request};
use serde_json::json;

use super::args;
use super::show::rounded;
use crate::args::Format;
use crate::output;

/// Moves to the corner of the terminal, and clears it from there.
const CLEAR: &str = "\x1b[H\x1b[J";

pub(super) fn run(socket: &Path, args: &args::Top, format: Format) -> anyhow::Result<()> {
    let live = format == Format::Normal && io::stdout().is_terminal();
    let mut before = look(socket)?;
    let mut looked = Instant::now();
    let mut looks = 0;
    while args.count.is_none_or(|count| looks < count) {
        thread::sleep(args.interval);
        let now = look(socket)?;
        let seconds = looked.elapsed().as_secs_f64();
        looked = Instant::now();
        let rows = rates(&before, &now, seconds);
        match format {
            Format::Json => output::print(as_json(&now, &rows))?,
            Format::Normal if live => output::print(format_args!("{CLEAR}{}", text(&now, &rows)))?,
            Format::Normal => output::print(format_args!("{}\n", text(&now, &rows)))?,
        }
        before = now;
        looks += 1;
    }
    Ok(())
}

/// Connects each time: the target closes a connection on which nothing is asked for long.
fn look(socket: &Path) -> anyhow::Result<Activity> {
    match super::call(socket, &Request::Activity {})? {
        Reply::Activity(activity) => Ok(activity),
        other => anyhow::bail!("an answer to something else: {other:?}"),
    }
}

/// What a host did on a namespace in a second, of one kind.
#[derive(Debug, PartialEq)]
struct Rate {
    subsystem: String,
    namespace: u32,
    host: String,
    operation: String,
    commands: f64,
    bytes: f64,
    /// Mean time of a command, in seconds.
    mean: f64,
}

type Key<'a> = (&'a str, u32, &'a str, &'a str);

fn key(of: &OperationActivity) -> Key<'_> {
    (&of.subsystem, of.namespace, &of.host, &of.operation)
}

/// What happened between two looks, the busiest first.
fn rates(before: &Activity, now: &Activity, seconds: f64) -> Vec<Rate> {
    let before: BTreeMap<Key<'_>, &OperationActivity> =
        before.operations.iter().map(|operation| (key(operation), operation)).collect();
    let mut rates: Vec<Rate> = now
        .operations
        .iter()
        .filter_map(|operation| {
            let old = before.get(&key(operation));
            let past = |of: fn(&OperationActivity) -> u64| old.map_or(0, |old| of(old));
            let commands = operation.commands.saturating_sub(past(|o| o.commands));
            let bytes = operation.bytes.saturating_sub(past(|o| o.bytes));
            let took = operation.seconds - old.map_or(0.0, |old| old.seconds);
            (commands > 0).then(|| Rate {
                subsystem: operation.subsystem.clone(),
                namespace: operation.namespace,
                host: operation.host.clone(),
                operation: operation.operation.clone(),
                commands: commands as f64 / seconds,
                bytes: bytes as f64 / seconds,
                mean: (took / commands as f64).max(0.0),
            })
        })
        .collect();
    rates.sort_by(|a, b| b.commands.total_cmp(&a.commands));
    rates
}

fn text(now: &Activity, rates: &[Rate]) -> String {
    let commands: f64 = rates.iter().map(|rate| rate.commands).sum();
    let bytes: f64 = rates.iter().map(|rate| rate.bytes).sum();
    let mut text = format!(
        "{commands:.0} commands/s, {}/s; {} under way, {} connections, {} failures, {} digest \
         errors, {} violations\n",
        rounded(bytes),
        now.under_way,
        now.connections,
        now.failures,
        now.digest_errors,
        now.violations,
    );
    let mut table =
        output::table(&["subsystem", "ns", "host", "operation", "commands/s", "bytes/s", "mean"]);
    for rate in rates {
        table.add_row([
            rate.subsystem.clone(),
            rate.namespace.to_string(),
            rate.host.clone(),
            rate.operation.clone(),
            format!("{:.0}", rate.commands),
            rounded(rate.bytes),
            format!("{:.0} us", rate.mean * 1e6),
        ]);
    }
    text.push_str(&table.to_string());
    text
}

/// One line.
fn as_json(now: &Activity, rates: &[Rate]) -> serde_json::Value {
    let rates: Vec<_> = rates
        .iter()
        .map(|rate| {
            json!({
                "subsystem": rate.subsystem,
                "namespace": rate.namespace,
                "host": rate.host,
                "operation": rate.operation,
                "commands-per-second": rate.commands,
                "bytes-per-second": rate.bytes,
                "mean-seconds": rate.mean,
            })
        })
        .collect();
    json!({
        "connections": now.connections,
        "under-way": now.under_way,
        "failures": now.failures,
        "digest-errors": now.digest_errors,
        "violations": now.violations,
        "rates": rates,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn activity(commands: u64, seconds: f64) -> Activity {
        serde_json::from_value(json!({
            "connections": 3, "digest-errors": 0, "violations": 0, "under-way": 4, "failures": 5,
            "operations": [{
                "subsystem": "nqn.a", "namespace": 1, "host": "nqn.h", "operation": "read",
                "commands": commands, "bytes": commands * 4096, "seconds": seconds,
            }],
        }))
        .unwrap()
    }

    #[test]
    fn rates_are_what_happened_between_two_looks() {
        let rates = rates(&activity(100, 1.0), &activity(300, 1.02), 2.0);
        assert_eq!(rates.len(), 1);
        assert_eq!((rates[0].commands, rates[0].bytes), (100.0, 409_600.0));
        assert!((rates[0].mean - 0.0001).abs() < 1e-9);
        let text = text(&activity(300, 1.02), &rates);
        assert!(text.contains("100 commands/s") && text.contains("400.0 KiB"), "{text}");
        assert!(text.contains("100 us"), "{text}");
    }

    #[test]
    fn what_rests_is_not_listed() {
        assert_eq!(rates(&activity(100, 1.0), &activity(100, 1.0), 1.0), []);
    }
}

//! Replies as people and programs read them.

use std::fmt::Write;

use nvmf_storage::display_size;
use nvmf_target::control::{Controller, Reply, Status};

use crate::output;

/// The reply without its name.
pub(super) fn json(reply: &Reply) -> anyhow::Result<String> {
    let value = serde_json::to_value(reply)?;
    let inner = value.as_object().and_then(|object| object.values().next());
    Ok(serde_json::to_string_pretty(inner.unwrap_or(&value))?)
}

pub(super) fn status(status: &Status) -> String {
    let mut text = format!(
        "nvmf {}, process {}, up {}, {} connections",
        status.version,
        status.pid,
        duration(status.uptime),
        status.connections
    );
    // Writing to a string does not fail.
    for port in &status.ports {
        let _ = write!(text, "\nport {}: {}", port.id, port.address);
    }
    if let Some(metrics) = &status.metrics {
        let _ = write!(text, "\nmetrics: http://{metrics}/metrics");
    }
    for subsystem in &status.subsystems {
        let _ = write!(
            text,
            "\n{}: {} controllers, {} reads ({}), {} writes ({})",
            subsystem.nqn,
            subsystem.controllers,
            subsystem.reads,
            rounded(subsystem.bytes_read as f64),
            subsystem.writes,
            rounded(subsystem.bytes_written as f64),
        );
        if subsystem.media_errors > 0 {
            let _ = write!(text, ", {} media errors", subsystem.media_errors);
        }
        for ns in &subsystem.namespaces {
            let bytes = ns.blocks.saturating_mul(ns.block_size.into());
            let _ = write!(
                text,
                "\n  namespace {}: {}, {} in blocks of {}, ANA group {}{}",
                ns.id,
                ns.location,
                display_size(bytes),
                ns.block_size,
                ns.ana_group,
                if ns.read_only { ", read-only" } else { "" },
            );
        }
    }
    text
}

pub(super) fn controllers(controllers: &[Controller]) -> String {
    let mut table =
        output::table(&["subsystem", "cntlid", "host", "port", "peer", "queues", "commands"]);
    for c in controllers {
        table.add_row([
            c.subnqn.clone(),
            c.cntlid.to_string(),
            c.hostnqn.clone(),
            c.port.to_string(),
            c.peer.clone(),
            c.io_queues.len().to_string(),
            c.io_commands.to_string(),
        ]);
    }
    table.to_string()
}

/// Bytes in the largest unit, with one digit behind the point.
pub(super) fn rounded(bytes: f64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut value = bytes;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes:.0} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

fn duration(seconds: u64) -> String {
    let (days, hours) = (seconds / 86_400, seconds / 3600 % 24);
    let (minutes, seconds) = (seconds / 60 % 60, seconds % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {seconds} s"),
        (0, _, _) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        assert_eq!(rounded(1023.0), "1023 B");
        assert_eq!(rounded(1536.0), "1.5 KiB");
        assert_eq!(rounded(f64::from(3) * 1024f64.powi(4)), "3.0 TiB");
        assert_eq!(duration(59), "59 s");
        assert_eq!(duration(90_061), "1 d 1 h");
        assert_eq!(duration(3_660), "1 h 1 min");
    }
}

//! `nvmf discover`

use anyhow::Context;
use comfy_table::{Table, presets};
use nvmf::host::DiscoveryLog;
use nvmf::spec::Nqn;
use nvmf::spec::identify::controller_type;
use nvmf::spec::log::{DiscoveryEntry, sectype, subtype, trtype};
use nvmf::spec::print::Json;

use crate::args::{self, Format};
use crate::connect::Connector;
use crate::failure::Usage;
use crate::output;
use crate::target;

pub(crate) fn run(args: &args::Discover) -> anyhow::Result<()> {
    let connector = Connector::new(&args.connect, args.target.clone())?;
    let url = args.target.as_ref().and_then(|target| target.subsystem.as_ref());
    if let Some(nqn) = url.filter(|nqn| !nqn.is_discovery()) {
        return Err(leave_out(nqn, &connector));
    }
    // A discovery subsystem may have a name of its own; else it is the well-known one.
    let subsystem = connector.target.subsystem.clone().unwrap_or(Nqn::DISCOVERY);
    let mut association = connector.connect_to(&subsystem)?;
    if association.controller().cntrltype == controller_type::IO {
        return Err(leave_out(&subsystem, &connector));
    }
    let log = association
        .discovery_log()
        .with_context(|| format!("cannot read the discovery log of {}", connector.name()))?;
    // Discovery controllers need not be told that their host leaves.
    drop(association);
    match args.output.format {
        Format::Json => output::print(format_args!("{:#}", Json(&log)))?,
        Format::Normal => output::print(table(&log))?,
    }
    Ok(())
}

fn leave_out(nqn: &Nqn, connector: &Connector) -> anyhow::Error {
    Usage::new(format!(
        "discover asks the discovery subsystem, not {nqn}; leave the NQN out: `nvmf discover \
         nvme+tcp://{}`",
        connector.target.authority()
    ))
    .into()
}

/// One line for each entry, and how to use it where that is possible.
fn table(log: &DiscoveryLog) -> String {
    let count = match log.entries.len() {
        1 => "1 entry".to_owned(),
        n => format!("{n} entries"),
    };
    let mut text = format!("Discovery log, generation {}: {count}", log.generation);
    if log.entries.is_empty() {
        return text;
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header([
        "SUBNQN",
        "TYPE",
        "TRANSPORT",
        "ADDRESS",
        "PORT",
        "SECURITY",
    ]);
    for entry in &log.entries {
        table.add_row([
            text_of(nvmf::spec::identify::Ascii::new(&entry.subnqn)),
            subtype::name(entry.subtype).to_owned(),
            trtype::name(entry.trtype).to_owned(),
            text_of(entry.address()),
            text_of(entry.service()),
            entry.sectype().map_or("-", sectype::name).to_owned(),
        ]);
    }
    for line in table.lines() {
        text.push('\n');
        text.push_str(line.trim());
    }
    if let Some(url) = log.entries.iter().find_map(url) {
        text.push_str(&format!("\n\nTry: nvmf identify '{url}'"));
    }
    text
}

/// What a peer sent as text, without what could steer a terminal.
fn text_of(text: nvmf::spec::identify::Ascii<'_>) -> String {
    text.to_string().escape_default().to_string()
}

/// The target that an entry stands for, if it is one for `nvmf identify`.
fn url(entry: &DiscoveryEntry) -> Option<String> {
    if (entry.trtype, entry.subtype) != (trtype::TCP, subtype::NVM) {
        return None;
    }
    let url = format!(
        "nvme+tcp://{}/{}",
        target::authority(entry.address().as_str()?, entry.port()?),
        entry.subsystem_nqn().ok()?
    );
    // Only what can be pasted as it is.
    (!url.contains(|c: char| c == '\'' || c.is_control() || c.is_whitespace())).then_some(url)
}

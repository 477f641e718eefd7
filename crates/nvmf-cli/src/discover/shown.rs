//! Discovery logs and their changes as people and programs read them.

use std::fmt::Write;

use nvmf::host::DiscoveryLog;
use nvmf::host::discovery::{Changes, DiscoveryController, DiscoveryEvent, Visit, Watched};
use nvmf::spec::identify::Ascii;
use nvmf::spec::log::{DiscoveryEntry, sectype, subtype, trtype};
use nvmf::spec::print::{FieldSink, Fields};

use crate::failure;
use crate::output;
use crate::target;

/// A controller that was asked.
pub(super) type Asked = Visit<DiscoveryLog, anyhow::Error>;

/// All logs, one after the other, and how to use what is in them.
pub(super) fn tables(visits: &[Asked], single: bool) -> String {
    let mut text = String::new();
    for (at, visit) in visits.iter().enumerate() {
        let Ok(log) = &visit.log else { continue };
        if !text.is_empty() {
            text.push_str("\n\n");
        }
        // Writing to a string does not fail.
        let _ = match (single && at == 0, visit.referred_by) {
            (true, _) => write!(text, "Discovery log, {}", head(log)),
            (_, None) => write!(text, "Discovery log of {}, {}", visit.controller, head(log)),
            (_, Some(by)) => write!(
                text,
                "Discovery log of {}, to which {} refers, {}",
                visit.controller,
                visits[by].controller,
                head(log)
            ),
        };
        text.push_str(&table(log));
    }
    let mut entries = visits.iter().flat_map(|visit| &visit.log).flat_map(|log| &log.entries);
    if let Some(url) = entries.find_map(url) {
        let _ = write!(text, "\n\nTry: nvmf identify '{url}'");
    }
    text
}

fn head(log: &DiscoveryLog) -> String {
    let count = match log.entries.len() {
        1 => "1 entry".to_owned(),
        n => format!("{n} entries"),
    };
    format!("generation {}: {count}", log.generation)
}

/// One line for each entry.
fn table(log: &DiscoveryLog) -> String {
    let mut text = String::new();
    if log.entries.is_empty() {
        return text;
    }
    let header = ["SUBNQN", "TYPE", "TRANSPORT", "ADDRESS", "PORT", "SECURITY"];
    let mut table = output::table(&header);
    for entry in &log.entries {
        table.add_row(cells(entry));
    }
    for line in table.lines() {
        text.push('\n');
        text.push_str(line.trim());
    }
    text
}

fn cells(entry: &DiscoveryEntry) -> [String; 6] {
    [
        text_of(Ascii::new(&entry.subnqn)),
        subtype::name(entry.subtype).to_owned(),
        trtype::name(entry.trtype).to_owned(),
        text_of(entry.address()),
        text_of(entry.service()),
        entry.sectype().map_or("-", sectype::name).to_owned(),
    ]
}

/// What a peer sent as text, without what could steer a terminal.
fn text_of(text: Ascii<'_>) -> String {
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

/// The log of the one controller that was asked for, and those of the referrals.
pub(super) struct Single<'a>(pub(super) &'a [Asked]);

impl Fields for Single<'_> {
    fn fields(&self, out: &mut dyn FieldSink) {
        if let Some(Ok(log)) = self.0.first().map(|visit| &visit.log) {
            log.fields(out);
        }
        if self.0.len() > 1 {
            let all = self.0.iter().enumerate().skip(1);
            out.objects("referrals", all.map(|(at, _)| One { visits: self.0, at }));
        }
    }
}

/// All controllers.
pub(super) struct Several<'a>(pub(super) &'a [Asked]);

impl Fields for Several<'_> {
    fn fields(&self, out: &mut dyn FieldSink) {
        out.objects("controllers", (0..self.0.len()).map(|at| One { visits: self.0, at }));
    }
}

struct One<'a> {
    visits: &'a [Asked],
    at: usize,
}

impl Fields for One<'_> {
    fn fields(&self, out: &mut dyn FieldSink) {
        let visit = &self.visits[self.at];
        who(&visit.controller, out);
        if let Some(by) = visit.referred_by {
            out.text("referred_by", &self.visits[by].controller);
        }
        match &visit.log {
            Ok(log) => log.fields(out),
            Err(error) => out.text("error", failure::one_line(error)),
        }
    }
}

/// Which controller, with the names that its entry would have.
fn who(controller: &DiscoveryController, out: &mut dyn FieldSink) {
    out.text("traddr", controller.address());
    out.text("trsvcid", controller.port());
    out.text("subnqn", controller.subsystem());
}

/// An event, as a line of JSON.
pub(super) struct EventFields<'a>(pub(super) &'a Watched);

impl Fields for EventFields<'_> {
    fn fields(&self, out: &mut dyn FieldSink) {
        let Watched { controller, event } = self.0;
        out.text("event", name(event));
        who(controller, out);
        match event {
            DiscoveryEvent::Connected { log, changes }
            | DiscoveryEvent::Changed { log, changes } => {
                out.number("genctr", log.generation);
                out.objects("added", changes.added.iter());
                out.objects("removed", changes.removed.iter());
                out.objects("changed", changes.changed.iter().map(Changed));
            }
            DiscoveryEvent::Lost { error } => out.text("error", error),
            _ => {}
        }
    }
}

struct Changed<'a>(&'a (DiscoveryEntry, DiscoveryEntry));

impl Fields for Changed<'_> {
    fn fields(&self, out: &mut dyn FieldSink) {
        out.object("before", &self.0.0);
        out.object("after", &self.0.1);
    }
}

fn name(event: &DiscoveryEvent) -> &'static str {
    match event {
        DiscoveryEvent::Connected { .. } => "connected",
        DiscoveryEvent::Changed { .. } => "changed",
        DiscoveryEvent::Lost { .. } => "lost",
        DiscoveryEvent::Left => "left",
        _ => "unknown",
    }
}

/// An event in lines.
pub(super) fn event(watched: &Watched) -> String {
    let Watched { controller, event } = watched;
    match event {
        DiscoveryEvent::Connected { log, changes } | DiscoveryEvent::Changed { log, changes } => {
            format!("{controller} {}, {}{}", name(event), head(log), lines(changes))
        }
        DiscoveryEvent::Lost { error } => {
            let error = failure::one_line(&anyhow::anyhow!("{error}"));
            format!("{controller} lost: {error}; trying again")
        }
        DiscoveryEvent::Left => format!("{controller} left: nobody refers to it any more"),
        _ => format!("{controller}: something happened"),
    }
}

fn lines(changes: &Changes) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    let after = changes.changed.iter().map(|(_, after)| after);
    let marked = (changes.added.iter().map(|entry| ("+ ", entry)))
        .chain(changes.removed.iter().map(|entry| ("- ", entry)))
        .chain(after.map(|entry| ("~ ", entry)));
    for (mark, entry) in marked {
        let mut cells = cells(entry);
        cells[0].insert_str(0, mark);
        table.add_row(cells);
    }
    table.lines().fold(String::new(), |text, line| format!("{text}\n  {}", line.trim()))
}

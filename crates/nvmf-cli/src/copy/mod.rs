//! `nvmf copy`

pub(crate) mod args;
mod endpoint;

use std::cell::RefCell;
use std::fmt::Write;

use anyhow::anyhow;
use nvmf_copy::{Copier, Destination, Error, FileDestination, Journal, Phase, Report, Unfinished};
use serde_json::json;

use crate::args::Format;
use crate::failure::{self, Interrupted};
use crate::output;
use crate::progress::Progress;
use crate::stop::Stop;
use args::Copy;
use endpoint::End;

pub(crate) fn run(args: &Copy) -> anyhow::Result<()> {
    let stop = Stop::on_signals()?;
    // The source first: a destination is not made for nothing.
    let source = endpoint::source(args)?;
    let destination = endpoint::destination(args)?;
    let bar = Bar::default();
    let copy = Copier::new(source.as_source(), destination.as_destination())
        .source_offset(args.source_offset)
        .offset(args.offset)
        .length(args.length)
        .sparse(args.sparse.into())
        .verify(args.verify)
        .journal(journal(args, &destination))
        .resume(args.resume)
        .jobs(args.qd.into())
        .chunk(args.chunk)
        .rate(args.rate)
        .stop(stop.flag())
        .progress(|progress| bar.show(progress));
    let result = copy.run();
    source.close();
    destination.close();
    match result {
        Ok(report) => {
            bar.finish(args.output.format, &report);
            tell(args, &report)
        }
        Err(unfinished) => {
            bar.abandon();
            Err(explain(args, unfinished, &stop))
        }
    }
}

/// Where it is noted what is done, if anywhere.
fn journal(args: &Copy, destination: &End<FileDestination>) -> Option<Journal> {
    match (&args.state, destination) {
        (Some(path), _) => Some(Journal::at(path)),
        (None, End::File(file)) if file.grows() => Some(Journal::beside(&args.destination)),
        (None, _) => None,
    }
}

/// What was done.
fn tell(args: &Copy, report: &Report) -> anyhow::Result<()> {
    if report.source_changed {
        failure::say(&format!(
            "{} was changed while it was copied; the copy may have some of it from before that",
            args.source
        ));
    }
    if args.output.format == Format::Json {
        output::print(format_args!("{:#}", described(args, report)))?;
    }
    Ok(())
}

fn described(args: &Copy, report: &Report) -> serde_json::Value {
    let seconds = report.copying.as_secs_f64();
    json!({
        "source": args.source,
        "destination": args.destination,
        "bytes": report.length,
        "resumed": report.resumed,
        "written": report.written,
        "zeroed": report.zeroed,
        "repeated": report.repeated,
        "seconds": seconds,
        "bytes-per-second": rate(report.length.saturating_sub(report.resumed), seconds),
        "verified": report.verifying.is_some(),
        "verify-seconds": report.verifying.map(|time| time.as_secs_f64()),
        "source-changed": report.source_changed,
    })
}

#[allow(clippy::cast_precision_loss, reason = "a rate need not be exact")]
fn rate(bytes: u64, seconds: f64) -> f64 {
    if seconds > 0.0 { (bytes as f64 / seconds).round() } else { 0.0 }
}

/// Why it did not come to its end, how far it came, and how to go on.
fn explain(args: &Copy, unfinished: Unfinished, stop: &Stop) -> anyhow::Error {
    let Unfinished { error, done, length, journal } = unfinished;
    let begun = length > 0 && !matches!(error, Error::Differs { .. } | Error::Shrank { .. });
    let how = match journal {
        _ if !begun => String::new(),
        Some(_) => "; the same command with --resume goes on".to_owned(),
        None => "; with --state FILE it could go on from there".to_owned(),
    };
    let reason = match (&error, stop.signal()) {
        (Error::Stopped, Some(signal)) => anyhow!(Interrupted { signal }),
        _ => anyhow!(error),
    };
    let (from, to) = (&args.source, &args.destination);
    let reason = match begun {
        true => reason.context(format!("stopped after {done} of {length} bytes{how}")),
        false => reason,
    };
    reason.context(format!("cannot copy {from} to {to}"))
}

/// The progress of the phase at hand, on a terminal.
#[derive(Default)]
struct Bar(RefCell<Option<(Phase, Progress)>>);

impl Bar {
    fn show(&self, progress: nvmf_copy::Progress) {
        let mut bar = self.0.borrow_mut();
        if bar.as_ref().is_none_or(|(phase, _)| *phase != progress.phase) {
            if let Some((_, before)) = bar.take() {
                before.abandon();
            }
            *bar = Some((progress.phase, Progress::going_on(progress.done, progress.length)));
        }
        if let Some((_, bar)) = &*bar {
            bar.set(progress.done);
        }
    }

    fn abandon(&self) {
        if let Some((_, bar)) = self.0.borrow_mut().take() {
            bar.abandon();
        }
    }

    fn finish(&self, format: Format, report: &Report) {
        self.abandon();
        if format == Format::Normal {
            let bytes = report.length.saturating_sub(report.resumed);
            let more = more(report);
            crate::progress::summarize("copied", bytes, report.copying, &more);
        }
    }
}

/// What there is to say beside bytes and rate.
fn more(report: &Report) -> String {
    let mut more = String::new();
    // Writing to a string does not fail.
    if report.zeroed > 0 {
        let _ = write!(more, ", {} of them zeroes that were not written", report.zeroed);
    }
    if report.resumed > 0 {
        let _ = write!(more, "; {} bytes were there before", report.resumed);
    }
    if report.repeated > 0 {
        let lost = "copied again after a connection was lost";
        let _ = write!(more, "; {} bytes {lost}", report.repeated);
    }
    if let Some(time) = report.verifying {
        let _ = write!(more, "; verified in {:.2} s", time.as_secs_f64());
    }
    more
}

//! Connections that do nothing: for what they cost a target.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use nvmf::host::{Association, QueuePair};
use nvmf::proto::queue::QueueSize;
use serde_json::json;

use super::args::Bench;
use crate::args::Format;
use crate::connect::Connector;
use crate::progress::Line;
use crate::stop::Stop;
use crate::{limits, output};

/// Opens associations with one I/O queue each and keeps them, all on this thread.
pub(crate) fn run(args: &Bench, connector: &Connector, wanted: u32) -> anyhow::Result<()> {
    limits::raise_descriptors();
    let stop = Stop::on_signals()?;
    let line = Line::new();
    let entries = QueueSize::new(args.qd.saturating_add(1)).unwrap_or(QueueSize::MAX_IO);
    let begin = Instant::now();
    let mut held: Vec<Held> = Vec::new();
    let mut looked = begin;
    for number in 1..=wanted {
        if stop.is_asked() {
            break;
        }
        let new = Held::open(connector, entries)
            .with_context(|| format!("association {number} of {wanted}"))?;
        held.push(new);
        line.say(format!("{number} of {wanted} associations"));
        // Opening many takes longer than the first ones may be silent.
        if looked.elapsed() >= LOOK {
            keep_alive(&mut held)?;
            looked = Instant::now();
        }
    }
    let opened = begin.elapsed();
    let end = Instant::now() + args.time;
    while !stop.is_asked() && Instant::now() < end {
        keep_alive(&mut held)?;
        let due = held.iter().filter_map(|held| held.association.keep_alive_due()).min();
        let next = due.map_or(end, |due| due.min(end)).min(Instant::now() + LOOK);
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    line.clear();
    let kept = held.len();
    for Held { association, queue } in held {
        if let Err(error) = association.shutdown(vec![queue]) {
            tracing::info!(%error, "the controller does not shut down");
        }
    }
    let (opened, seconds) = (opened.as_secs_f64(), args.time.as_secs_f64());
    match args.output.format {
        Format::Json => output::print(format_args!(
            "{:#}",
            json!({
                "target": connector.url(),
                "idle": kept,
                "seconds": seconds,
                "opened_in_seconds": opened,
            })
        ))?,
        Format::Normal => output::print(format_args!(
            "{kept} associations with an I/O queue each were opened in {opened:.2} s and kept for \
             {seconds:.1} s"
        ))?,
    }
    Ok(())
}

/// Between two looks at whether to go on.
const LOOK: Duration = Duration::from_millis(100);

struct Held {
    association: Association,
    queue: QueuePair,
}

impl Held {
    fn open(connector: &Connector, entries: QueueSize) -> anyhow::Result<Self> {
        let mut association = connector.connect()?;
        let mut queues = association
            .connect_io_queues(1, Some(entries))
            .context("cannot connect the I/O queue")?;
        let queue = queues.pop().context("the controller grants no I/O queue")?;
        Ok(Self { association, queue })
    }
}

fn keep_alive(held: &mut [Held]) -> anyhow::Result<()> {
    for (number, held) in (1..).zip(held) {
        held.association
            .keep_alive_if_due()
            .map_err(|error| anyhow!(error).context(format!("association {number} is lost")))?;
    }
    Ok(())
}

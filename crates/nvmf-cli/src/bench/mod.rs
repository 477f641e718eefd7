//! `nvmf bench`

pub(crate) mod args;
mod job;
mod random;

use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use nvmf::proto::queue::QueueSize;
use nvmf_host::{Options, Pace};

use crate::connect::Connector;
use crate::output;
use crate::pipeline;
use args::Bench;
use job::{Job, Plan};

pub(crate) fn run(args: &Bench) -> anyhow::Result<()> {
    let (connector, extra) = Connector::with_argument(&args.connect, args.target.as_deref(), None)?;
    if let Some(extra) = extra {
        bail!("`{extra}` is one argument too many");
    }
    let connector = connector.with_namespace(args.namespace_id)?;
    let prepared = pipeline::prepare(&connector)?;
    let plan = Plan::new(args, &prepared.namespace)?;
    let mut association = prepared.association;
    let entries =
        QueueSize::new(args.qd.div_ceil(u32::from(args.queues)) + 1).unwrap_or(QueueSize::MIN);
    let queues = association.connect_io_queues(args.queues, Some(entries))?;
    let mut threads: Vec<Vec<_>> = (0..args.cores).map(|_| Vec::new()).collect();
    for (at, queue) in queues.into_iter().enumerate() {
        threads[at % usize::from(args.cores)].push(queue.into_tcp()?);
    }
    let start = Instant::now();
    let plan = Arc::new(plan);
    let (sender, receiver) = mpsc::channel();
    for (at, queues) in threads.into_iter().enumerate() {
        let mut options = Options::new(queues.len() * args.qd as usize / usize::from(args.queues));
        options.engine = args.engine.engine;
        options.timeout = args.connect.timeout;
        options.pace = Pace::new(args.spin);
        let (plan, sender) = (Arc::clone(&plan), sender.clone());
        thread::Builder::new()
            .name("nvmf-bench".to_owned())
            .spawn(move || {
                let mut job = Job::new(plan, at, start);
                let result = nvmf_host::run(queues, &mut job, &options);
                let _ = sender.send((job, result));
            })
            .context("cannot start a thread")?;
    }
    drop(sender);
    let mut ios = 0;
    let mut latency = job::histogram();
    loop {
        match receiver.recv_timeout(Duration::from_millis(100)) {
            Ok((job, result)) => {
                result?;
                ios += job.ios;
                latency.add(&job.latency)?;
            }
            Err(RecvTimeoutError::Timeout) => {
                association.keep_alive_if_due().map_err(|e| anyhow!(e))?;
            }
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    #[allow(clippy::cast_precision_loss, reason = "a rate for people")]
    let iops = ios as f64 / args.time.as_secs_f64();
    output::print(format_args!(
        "{ios} I/Os, {iops:.0} IOPS, p50 {} µs, p99 {} µs",
        latency.value_at_quantile(0.5) / 1000,
        latency.value_at_quantile(0.99) / 1000
    ))?;
    Ok(association.shutdown(Vec::new())?)
}

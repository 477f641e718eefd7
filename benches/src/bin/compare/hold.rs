//! `compare hold`: hosts that are connected and silent, but for their Keep Alives.

use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;
use nvmf::host::{Association, QueuePair};
use nvmf::spec::Nqn;

use crate::children::Stop;
use crate::probe::options;

/// `compare hold`
#[derive(Args, Debug)]
pub(crate) struct Hold {
    /// Where the target listens, on 127.0.0.1.
    #[arg(long, value_name = "PORT")]
    port: u16,
    /// The subsystem.
    #[arg(long, value_name = "NQN", value_parser = Nqn::lenient)]
    subnqn: Nqn,
    /// Hosts, each with an admin queue.
    #[arg(long, value_name = "N", default_value_t = 1)]
    hosts: u32,
    /// I/O queues of each.
    #[arg(long, value_name = "N", default_value_t = 1)]
    queues: u16,
}

pub(crate) fn run(args: &Hold, stop: &Stop) -> anyhow::Result<()> {
    let address = format!("127.0.0.1:{}", args.port);
    let mut hosts: Vec<(Association, Vec<QueuePair>)> = Vec::new();
    for n in 0..args.hosts {
        let connect = || {
            let mut host = Association::connect_tcp(&address, &args.subnqn, options(n))?;
            let queues = match args.queues {
                0 => Vec::new(),
                queues => host.connect_io_queues(queues, None)?,
            };
            Ok::<_, nvmf::Error>((host, queues))
        };
        let (host, queues) = connect().with_context(|| format!("host {n} cannot connect"))?;
        anyhow::ensure!(
            queues.len() == usize::from(args.queues),
            "host {n} was given {} of {} I/O queues",
            queues.len(),
            args.queues
        );
        hosts.push((host, queues));
        // With many hosts, the first one's time may come before the last one is connected.
        keep_alive(&mut hosts)?;
    }
    writeln!(std::io::stdout(), "{} hosts are connected", hosts.len())?;
    while !stop.load(std::sync::atomic::Ordering::Relaxed) {
        keep_alive(&mut hosts)?;
        let now = Instant::now();
        let due = hosts.iter().filter_map(|(host, _)| host.keep_alive_due()).min();
        let wait = due.map_or(Duration::MAX, |due| due.saturating_duration_since(now));
        // A signal is noticed in time to end before one is killed.
        std::thread::sleep(wait.min(Duration::from_millis(200)));
    }
    Ok(())
}

fn keep_alive(hosts: &mut [(Association, Vec<QueuePair>)]) -> anyhow::Result<()> {
    for (host, _) in hosts {
        host.keep_alive_if_due().context("an idle host was given up")?;
    }
    Ok(())
}

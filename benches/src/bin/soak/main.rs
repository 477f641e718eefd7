//! Hours of `nvmf bench --verify` against `nvmf serve` while connections are killed at random.
//!
//! Between the two is a proxy that closes or resets one of the connections every now and then,
//! wherever it just is. Three namespaces are written and read at once: in memory by 4 KiB with both
//! digests, in memory by 128 KiB (so that data comes by R2T), and a file by 16 KiB. Whatever one of
//! the benches reads must be what was written; it fails otherwise, and so does this.

#![forbid(unsafe_code)]

mod proxy;

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Parser;
use proxy::Proxy;

const NQN: &str = "nqn.2026-01.io.nvmf:soak";

/// Hours of verified load while connections are killed at random.
#[derive(Parser)]
struct Args {
    /// The command under test.
    #[arg(long, default_value = "target/release/nvmf")]
    nvmf: PathBuf,
    /// How long, in seconds.
    #[arg(long, default_value_t = 3600)]
    seconds: u64,
    /// The event loop of both ends: auto, uring or poll.
    #[arg(long, default_value = "auto")]
    engine: String,
    /// Commands a second of the bench with small blocks; the others have fewer.
    #[arg(long, default_value_t = 2000)]
    rate: u64,
    /// A connection is killed so often, in milliseconds, on the average.
    #[arg(long, default_value_t = 2000)]
    kill_every: u64,
    /// What random numbers begin with.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where the results go.
    #[arg(long, default_value = "target/soak")]
    results: PathBuf,
}

/// Ends a child that is still there.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    std::fs::create_dir_all(&args.results).context("cannot make the directory of results")?;
    let image = args.results.join("disk.img");
    std::fs::File::create(&image)?.set_len(64 << 20)?;
    let (server, port) = serve(&args, &image)?;
    let proxy = Proxy::start(port, args.seed, Duration::from_millis(args.kill_every))?;
    let works = [
        // Namespace, block size, depth, queues, share of the rate, further options.
        (1, "4k", "32", "4", 1, &["--hdgst", "--ddgst"][..]),
        (2, "128k", "8", "2", 20, &[][..]),
        (3, "16k", "16", "2", 4, &["--ddgst"][..]),
    ];
    let mut benches = Vec::new();
    for (nsid, bs, qd, queues, share, more) in works {
        let target = format!("nvme+tcp://127.0.0.1:{}/{NQN}/{nsid}", proxy.port());
        let out = std::fs::File::create(args.results.join(format!("bench-{nsid}.json")))?;
        let errors = std::fs::File::create(args.results.join(format!("bench-{nsid}.log")))?;
        let child = Command::new(&args.nvmf)
            .args(["bench", &target, "--rw", "randrw", "--mix", "50", "--verify", "-o", "json"])
            .args(["--bs", bs, "--qd", qd, "--queues", queues, "--reconnect", "60"])
            .args(["--time", &args.seconds.to_string(), "--seed", &args.seed.to_string()])
            .args(["--rate", &(args.rate / share).max(1).to_string()])
            .args(["--engine", &args.engine])
            .args(more)
            .stdout(out)
            .stderr(errors)
            .spawn()
            .context("cannot start a bench")?;
        benches.push((nsid, Running(child)));
    }
    wait(&args, &mut benches, &proxy)?;
    drop(server);
    report(&args, &proxy)
}

/// Starts the target; returns its port.
fn serve(args: &Args, image: &std::path::Path) -> anyhow::Result<(Running, u16)> {
    let log = std::fs::File::create(args.results.join("serve.log"))?;
    let mut child = Command::new(&args.nvmf)
        .args(["serve", "--listen", "127.0.0.1:0", "--nqn", NQN, "--engine", &args.engine])
        .args(["--namespace", "mem:64M", "--namespace", "mem:128M"])
        .args(["--namespace", &format!("file:{}", image.display())])
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .with_context(|| format!("cannot start {}", args.nvmf.display()))?;
    let said = child.stdout.take().context("no standard output")?;
    let server = Running(child);
    let mut port = None;
    for line in BufReader::new(said).lines() {
        let line = line?;
        let ready =
            line.strip_prefix("Ready on 127.0.0.1:").and_then(|rest| rest.split(';').next());
        if let Some(ready) = ready {
            port = Some(ready.parse()?);
        }
        // The last line: a target whose words nobody hears would end.
        if let Some(port) = port.filter(|_| line.starts_with("Ctrl-C")) {
            return Ok((server, port));
        }
    }
    bail!("the target is not ready: see serve.log")
}

/// Waits until the benches have ended, each with success.
fn wait(args: &Args, benches: &mut [(u32, Running)], proxy: &Proxy) -> anyhow::Result<()> {
    let start = Instant::now();
    let limit = Duration::from_secs(args.seconds + 180);
    let mut next = Duration::from_secs(60);
    let mut left: Vec<_> = benches.iter_mut().collect();
    while !left.is_empty() {
        let mut ended = Vec::new();
        for (i, (nsid, bench)) in left.iter_mut().enumerate() {
            let Some(status) = bench.0.try_wait()? else { continue };
            if !status.success() {
                let log = args.results.join(format!("bench-{nsid}.log"));
                let said = std::fs::read_to_string(log).unwrap_or_default();
                bail!("the bench of namespace {nsid} failed: {status}: {said}");
            }
            ended.push(i);
        }
        for i in ended.into_iter().rev() {
            left.remove(i);
        }
        if start.elapsed() > limit {
            bail!("a bench does not end");
        }
        if start.elapsed() > next {
            let (minutes, kills) = (start.elapsed().as_secs() / 60, proxy.kills());
            writeln!(std::io::stdout(), "{minutes} min, {kills} connections killed")?;
            next += Duration::from_secs(300);
        }
        thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}

/// Prints what the benches counted.
fn report(args: &Args, proxy: &Proxy) -> anyhow::Result<()> {
    let mut out = std::io::stdout();
    let mut wrong = 0;
    for nsid in 1..=3 {
        let text = std::fs::read_to_string(args.results.join(format!("bench-{nsid}.json")))?;
        let result: serde_json::Value = serde_json::from_str(&text).context("no JSON")?;
        let number = |name: &str| result[name].as_u64().unwrap_or(u64::MAX);
        let ios = result["total"]["ios"].as_u64().unwrap_or(0);
        let (mismatches, errors) = (number("mismatches"), number("errors"));
        let reconnects = result["reconnects"].as_u64().unwrap_or(0);
        writeln!(
            out,
            "namespace {nsid}: {ios} commands verified, {mismatches} mismatches, {errors} errors, {reconnects} reconnects"
        )?;
        wrong += mismatches;
        if ios == 0 {
            bail!("nothing was done on namespace {nsid}");
        }
    }
    writeln!(out, "{} connections killed", proxy.kills())?;
    if wrong > 0 {
        bail!("{wrong} mismatches");
    }
    Ok(())
}

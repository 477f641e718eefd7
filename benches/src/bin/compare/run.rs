//! `compare run`

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail, ensure};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::calm::Calm;
use crate::children::Stop;
use crate::measure::Bench;
use crate::plan::{Load, Pair, Plan, Probe, Target, Work};
use crate::results::{Header, Record, Run, Writer};

/// `compare run`
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// The plan.
    #[arg(long, value_name = "FILE", default_value = "benches/compare.toml")]
    plan: PathBuf,
    /// A value for ${NAME} in the plan; may be given several times.
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_setting)]
    set: Vec<(String, String)>,
    /// Only figures, work and probes with this in their names; may be given several times.
    #[arg(long, value_name = "TEXT")]
    only: Vec<String>,
    /// Rounds, instead of the plan's.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rounds: Option<u32>,
    /// How long each run measures, instead of what the plan says.
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds)]
    seconds: Option<f64>,
    /// Wait for moments in which a cache line goes from one core to the other and back within this
    /// time, and make runs again that end in others; for machines whose cores move.
    #[arg(long, value_name = "NANOSECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    calm: Option<u64>,
    /// The core of the targets.
    #[arg(long, value_name = "CORE", default_value_t = 0)]
    target_core: usize,
    /// The core of the load generators.
    #[arg(long, value_name = "CORE", default_value_t = 1)]
    load_core: usize,
    /// Where to put the results; else a new directory in target/compare.
    #[arg(long, value_name = "DIR")]
    results: Option<PathBuf>,
}

fn parse_setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("a setting is NAME=VALUE".to_owned()),
    }
}

fn parse_seconds(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|seconds| (0.1..=3600.0).contains(seconds))
        .ok_or_else(|| "seconds are 0.1 to 3600".to_owned())
}

/// One thing to be measured.
enum Job<'a> {
    Run { work: &'a Work, target: &'a Target, load: &'a Load },
    Probe { probe: &'a Probe, target: &'a Target },
}

/// Measures everything; returns the file that has the results.
pub(crate) fn run(args: &Args, stop: &Stop) -> anyhow::Result<PathBuf> {
    let (mut plan, left_out) = Plan::load(&args.plan, &variables(args)?)?;
    if let Some(rounds) = args.rounds {
        plan.rounds = rounds;
    }
    if let Some(seconds) = args.seconds {
        plan.seconds = seconds;
        for work in &mut plan.work {
            work.seconds = None;
        }
        for probe in &mut plan.probe {
            probe.seconds = seconds;
        }
    }
    keep_only(&mut plan, &args.only);
    let directory = args.results.clone().unwrap_or_else(new_directory);
    let logs = directory.join("logs");
    std::fs::create_dir_all(&logs).with_context(|| format!("cannot make {}", logs.display()))?;
    let path = directory.join("results.jsonl");
    let mut writer = Writer::create(&path)?;
    writer.write(&Record::Plan(Box::new(Header {
        machine: machine(),
        rounds: plan.rounds,
        seconds: plan.seconds,
        calm: args.calm,
        work: plan.work.clone(),
        figure: plan.figure.clone(),
        left_out,
    })))?;
    let bench = Bench {
        plan: &plan,
        plan_path: &args.plan,
        logs,
        target_core: args.target_core,
        load_core: args.load_core,
        calm: args.calm.map(|nanoseconds| Calm {
            limit: Duration::from_nanos(nanoseconds),
            cores: (args.target_core, args.load_core),
        }),
        stop: Stop::clone(stop),
    };
    let groups = groups(&plan)?;
    let jobs = groups.iter().map(Vec::len).sum::<usize>() * plan.rounds as usize;
    ensure!(jobs > 0, "there is nothing to measure: no figure and no probe is left");
    let progress = progress(jobs as u64);
    for group in &groups {
        for round in 0..plan.rounds {
            for job in alternate(group, round) {
                progress.set_message(job.to_string());
                let record = measure(&bench, job, round);
                // What was interrupted is no result.
                if stop.load(Ordering::Relaxed) {
                    progress.finish_and_clear();
                    bail!("interrupted; what was measured is in {}", path.display());
                }
                writer.write(&record)?;
                progress.inc(1);
            }
        }
    }
    progress.finish_and_clear();
    Ok(path)
}

fn measure(bench: &Bench<'_>, job: &Job<'_>, round: u32) -> Record {
    let stem = file_name(&format!("{job}-{round}"));
    match *job {
        Job::Run { work, target, load } => Record::Run(Box::new(Run {
            work: work.name.clone(),
            round,
            pair: Pair { target: target.name.clone(), load: load.name.clone() },
            measured: bench.run_in_calm(work, target, load, &stem).into(),
        })),
        Job::Probe { probe, target } => Record::Probe(crate::results::Probe {
            probe: probe.name.clone(),
            target: target.name.clone(),
            round,
            values: bench.probe(probe, target, &stem).into(),
        }),
    }
}

/// What is to be alternated, a group for each piece of work and each probe.
fn groups(plan: &Plan) -> anyhow::Result<Vec<Vec<Job<'_>>>> {
    let target = |name: &str| {
        let found = plan.target.iter().find(|t| t.name == name);
        found.with_context(|| format!("no target `{name}`"))
    };
    let load = |name: &str| {
        let found = plan.load.iter().find(|l| l.name == name);
        found.with_context(|| format!("no load `{name}`"))
    };
    let mut groups = Vec::new();
    for work in &plan.work {
        let job = |pair: Pair| {
            Ok(Job::Run { work, target: target(&pair.target)?, load: load(&pair.load)? })
        };
        groups.push(plan.pairs(work).into_iter().map(job).collect::<anyhow::Result<_>>()?);
    }
    for probe in &plan.probe {
        let job = |name: &String| Ok(Job::Probe { probe, target: target(name)? });
        groups.push(probe.targets.iter().map(job).collect::<anyhow::Result<_>>()?);
    }
    Ok(groups)
}

/// Forwards and backwards in turn: what drifts in a round favours nobody.
fn alternate<T>(group: &[T], round: u32) -> Vec<&T> {
    let mut order: Vec<&T> = group.iter().collect();
    if round % 2 == 1 {
        order.reverse();
    }
    order
}

/// Figures with a text in their names or in that of their work, and probes.
fn keep_only(plan: &mut Plan, only: &[String]) {
    let wanted = |name: &str| only.is_empty() || only.iter().any(|text| name.contains(text));
    for figure in &mut plan.figure {
        if !wanted(&figure.name) {
            figure.work.retain(|work| wanted(work));
        }
    }
    plan.figure.retain(|figure| !figure.work.is_empty());
    plan.probe.retain(|probe| wanted(&probe.name));
}

impl std::fmt::Display for Job<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Run { work, target, load } => {
                write!(f, "{}, {} under {}", work.name, target.name, load.name)
            }
            Self::Probe { probe, target } => write!(f, "{}, {}", probe.name, target.name),
        }
    }
}

/// A name without anything that a file's name should not have.
fn file_name(text: &str) -> String {
    let mut name = String::new();
    for c in text.chars() {
        if c.is_ascii_alphanumeric() {
            name.push(c);
        } else if !name.ends_with('-') {
            name.push('-');
        }
    }
    name
}

/// What the command line sets, and `BIN`: where this program is, and with it the others of the same
/// build.
fn variables(args: &Args) -> anyhow::Result<BTreeMap<String, String>> {
    let exe = std::env::current_exe().context("cannot tell where this program is")?;
    let bin = exe.parent().unwrap_or(Path::new("")).display().to_string();
    let mut variables = BTreeMap::from([("BIN".to_owned(), bin)]);
    variables.extend(args.set.iter().cloned());
    Ok(variables)
}

fn new_directory() -> PathBuf {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Path::new("target/compare").join(now.as_secs().to_string())
}

/// The processor, its cores, the kernel, and how its TCP holds back.
fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let field = |name: &str| {
        let line = cpuinfo.lines().find(|line| line.split(':').next().map(str::trim) == Some(name));
        line.and_then(|line| line.split_once(':')).map_or("?", |(_, value)| value.trim())
    };
    let cores = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
    format!(
        "{} (family {}, model {}), {cores} cores, Linux {}, congestion control {}",
        field("model name"),
        field("cpu family"),
        field("model"),
        read("/proc/sys/kernel/osrelease").trim(),
        read("/proc/sys/net/ipv4/tcp_congestion_control").trim(),
    )
}

fn progress(jobs: u64) -> ProgressBar {
    let target = if std::io::stderr().is_terminal() {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    let style = ProgressStyle::with_template("{pos}/{len} {elapsed} of {duration}: {msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::with_draw_target(Some(jobs), target).with_style(style)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_go_forwards_and_backwards() {
        assert_eq!(alternate(&[1, 2, 3], 0), [&1, &2, &3]);
        assert_eq!(alternate(&[1, 2, 3], 1), [&3, &2, &1]);
    }

    #[test]
    fn any_name_becomes_a_file_name() {
        assert_eq!(file_name("4k read, QD 1/2: a < b"), "4k-read-QD-1-2-a-b");
    }

    #[test]
    fn a_setting_has_a_name() {
        assert_eq!(parse_setting("A=b=c"), Ok(("A".to_owned(), "b=c".to_owned())));
        assert!(parse_setting("=x").is_err() && parse_setting("x").is_err());
    }
}

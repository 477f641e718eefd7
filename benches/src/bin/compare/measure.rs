//! One run: a target is started, loaded, watched, and ended.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nvmf_benches::proc;

use crate::calm::Calm;
use crate::children::{Failure, Running, Stop, accepts, free_port};
use crate::formats;
use crate::plan::{Load, Options, Plan, Ready, Target, Work, beside};
use crate::prefill::prefill;
use crate::results::Measured;
use crate::variables::{Unknown, fill, fill_command};

/// Where and how everything is run.
pub(crate) struct Bench<'a> {
    pub plan: &'a Plan,
    pub plan_path: &'a Path,
    /// For what the programs print.
    pub logs: PathBuf,
    pub target_core: usize,
    pub load_core: usize,
    pub calm: Option<Calm>,
    pub stop: Stop,
}

/// A target that is ready.
pub(crate) struct Served {
    pub process: Running,
    pub port: u16,
}

/// How long a load generator may take beside measuring.
const SLACK: Duration = Duration::from_secs(40);

type Values = BTreeMap<&'static str, String>;

impl Bench<'_> {
    /// Measures one pair with some work, in calm if that is wanted; `stem` names the files of this
    /// run.
    pub(crate) fn run_in_calm(
        &self,
        work: &Work,
        target: &Target,
        load: &Load,
        stem: &str,
    ) -> Result<Measured, Failure> {
        let run = || self.run(work, target, load, stem);
        match self.calm {
            Some(calm) => calm.during(&self.stop, run),
            None => run(),
        }
    }

    fn run(
        &self,
        work: &Work,
        target: &Target,
        load: &Load,
        stem: &str,
    ) -> Result<Measured, Failure> {
        let mut served = self.serve(target, stem)?;
        if !target.subnqn.is_empty() {
            prefill(served.port, &target.subnqn)?;
        }
        let seconds = work.seconds(self.plan);
        let mut values = self.values(target, served.port, self.load_core, stem);
        values.extend([
            ("qd", work.qd.to_string()),
            ("bs", work.bs.to_string()),
            ("rw", work.rw.name().to_owned()),
            ("mix", work.mix.to_string()),
            ("seconds", seconds.to_string()),
            ("connections", work.connections.to_string()),
        ]);
        if let Some(rate) = work.rate {
            values.insert("rate", rate.to_string());
        }
        let command = fill_command(&load.command, &values, &lists(&load.options, work))
            .map_err(|unknown| no_such(&load.name, &unknown))?;
        let running = Running::start(&load.name, &command, &self.log(stem, "load"), &self.stop)?;
        let pid = served.process.pid();
        let mut samples = Vec::new();
        let limit = Duration::from_secs_f64(seconds) + SLACK;
        let printed = running.finish(limit, || {
            // A target that is gone is found below, with its last words.
            if let Ok(used) = proc::run_time(pid) {
                samples.push((Instant::now(), used));
            }
            Ok(())
        });
        let ended = Instant::now();
        served.process.must_run()?;
        let report = formats::parse(load.format, &printed?)
            .map_err(|error| format!("{}: {error}", load.name))?;
        let target_cpu = middle_share(&samples, ended, seconds)
            .ok_or("the target's CPU time was not seen often enough")?;
        Ok(Measured { report, target_cpu })
    }

    /// Starts a target and waits until it is ready.
    pub(crate) fn serve(&self, target: &Target, stem: &str) -> Result<Served, Failure> {
        let mut served = self.start(target, stem)?;
        let limit = Duration::from_secs_f64(target.ready_seconds);
        let port = served.port;
        match target.ready {
            Ready::Tcp => served.process.wait_until("its port accepts", limit, || accepts(port))?,
        }
        Ok(served)
    }

    /// Starts a target.
    pub(crate) fn start(&self, target: &Target, stem: &str) -> Result<Served, Failure> {
        let port = free_port()?;
        let mut values = self.values(target, port, self.target_core, stem);
        if let Some(config) = &target.config {
            let path = self.fill_config(config, &values, stem)?;
            values.insert("config", path.display().to_string());
        }
        let command = fill_command(&target.command, &values, &BTreeMap::new())
            .map_err(|unknown| no_such(&target.name, &unknown))?;
        let process =
            Running::start(&target.name, &command, &self.log(stem, "target"), &self.stop)?;
        Ok(Served { process, port })
    }

    /// Starts what keeps `hosts` of `queues` I/O queues connected, and waits until they are.
    pub(crate) fn idle_hosts(
        &self,
        target: &Target,
        port: u16,
        (hosts, queues): (u32, u32),
        stem: &str,
    ) -> Result<Running, Failure> {
        const LIMIT: Duration = Duration::from_secs(60);
        let idle = self.plan.idle_hosts.as_ref().ok_or("the plan has no idle_hosts")?;
        let mut values = self.values(target, port, self.load_core, stem);
        values.extend([("hosts", hosts.to_string()), ("queues", queues.to_string())]);
        let command = fill_command(&idle.command, &values, &BTreeMap::new())
            .map_err(|unknown| no_such("idle_hosts", &unknown))?;
        let mut running =
            Running::start("idle_hosts", &command, &self.log(stem, "hosts"), &self.stop)?;
        let connections = hosts as usize * (1 + queues as usize);
        running.wait_until("all hosts are connected", LIMIT, || {
            proc::established(port).is_ok_and(|n| n >= connections)
        })?;
        Ok(running)
    }

    fn values(&self, target: &Target, port: u16, core: usize, stem: &str) -> Values {
        BTreeMap::from([
            ("port", port.to_string()),
            ("core", core.to_string()),
            ("core_mask", format!("0x{:x}", core_mask(core))),
            ("subnqn", target.subnqn.clone()),
            ("scratch", self.log(stem, "scratch").display().to_string()),
        ])
    }

    fn fill_config(&self, file: &str, values: &Values, stem: &str) -> Result<PathBuf, Failure> {
        let template = beside(self.plan_path, file);
        let failure = |path: &Path, error: &dyn std::fmt::Display| {
            format!("configuration {}: {error}", path.display())
        };
        let text = std::fs::read_to_string(&template).map_err(|e| failure(&template, &e))?;
        let text = fill(&text, values).map_err(|unknown| no_such(file, &unknown))?;
        let path = self.log(stem, "config");
        std::fs::write(&path, text).map_err(|e| failure(&path, &e))?;
        // The target may change its working directory.
        path.canonicalize().map_err(|e| failure(&path, &e))
    }

    fn log(&self, stem: &str, what: &str) -> PathBuf {
        self.logs.join(format!("{stem}.{what}"))
    }
}

fn no_such(who: &str, Unknown(name): &Unknown) -> Failure {
    format!("`{who}` has no {{{name}}} here")
}

/// A mask with one core in it; there is none beyond 127.
fn core_mask(core: usize) -> u128 {
    u32::try_from(core).ok().and_then(|core| 1u128.checked_shl(core)).unwrap_or(0)
}

/// The arguments that only some work needs.
fn lists(options: &Options, work: &Work) -> BTreeMap<&'static str, Vec<String>> {
    let when = |needed: bool, option: &Option<Vec<String>>| {
        if needed { option.clone().unwrap_or_default() } else { Vec::new() }
    };
    let mut digests = when(work.digests.header(), &options.header_digest);
    digests.extend(when(work.digests.data(), &options.data_digest));
    BTreeMap::from([
        ("digests", digests),
        ("mix", when(work.rw.is_mixed(), &options.mix)),
        ("rate", when(work.rate.is_some(), &options.rate)),
    ])
}

/// The part of a core that was used in the middle of a run, when the load is sure to be on: load
/// generators take time to connect before, and to end after.
fn middle_share(samples: &[(Instant, Duration)], ended: Instant, seconds: f64) -> Option<f64> {
    let back = |part: f64| ended.checked_sub(Duration::from_secs_f64(seconds * part));
    let (from, to) = (back(0.8)?, back(0.3)?);
    let mut middle = samples.iter().filter(|(at, _)| (from..=to).contains(at));
    let (first, last) = (middle.next()?, middle.next_back()?);
    let used = last.1.saturating_sub(first.1);
    Some(used.as_secs_f64() / (last.0 - first.0).as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_of_a_core_is_that_of_the_middle_of_the_run() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        // Nothing for three seconds, then half of a core for ten, then nothing.
        let samples: Vec<_> = (0..150)
            .map(|n| {
                let ms = n * 100;
                (at(ms), Duration::from_millis((ms.clamp(3000, 13_000) - 3000) / 2))
            })
            .collect();
        let share = middle_share(&samples, at(14_000), 10.0).unwrap();
        assert!((share - 0.5).abs() < 0.01, "{share}");
        assert_eq!(middle_share(&samples[..2], at(14_000), 10.0), None);
    }

    #[test]
    fn arguments_for_digests_mixes_and_rates_are_there_when_the_work_needs_them() {
        let toml = r#"
            header_digest = ["-H"]
            data_digest = ["-I"]
            mix = ["-M", "{mix}"]
            rate = ["--rate", "{rate}"]
        "#;
        let options: Options = toml::from_str(toml).unwrap();
        let work = |text: &str| -> Work {
            toml::from_str(&format!("name = 'w'\nbs = '4k'\nqd = 1\n{text}")).unwrap()
        };
        let none = lists(&options, &work("rw = 'randread'"));
        assert!(none.values().all(Vec::is_empty), "{none:?}");
        let all = lists(&options, &work("rw = 'randrw'\ndigests = 'both'\nrate = 5.0"));
        assert_eq!(all["digests"], ["-H", "-I"]);
        assert_eq!(all["mix"], ["-M", "{mix}"]);
        assert_eq!(all["rate"], ["--rate", "{rate}"]);
    }
}

//! The plan: which targets, which load generators, what work, and which figures to make of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use nvmf_benches::size;
use serde::{Deserialize, Deserializer, Serialize};

use crate::variables::{Unknown, expand};

/// A plan as it is written in TOML.
#[derive(Deserialize, Clone, Debug)]
#[serde(deny_unknown_fields)]
pub(crate) struct Plan {
    /// How often everything is measured.
    pub rounds: u32,
    /// How long each run measures.
    pub seconds: f64,
    pub idle_hosts: Option<IdleHosts>,
    #[serde(default)]
    pub target: Vec<Target>,
    #[serde(default)]
    pub load: Vec<Load>,
    #[serde(default)]
    pub work: Vec<Work>,
    #[serde(default)]
    pub figure: Vec<Figure>,
    #[serde(default)]
    pub probe: Vec<Probe>,
}

/// A program that serves.
#[derive(Deserialize, Clone, Debug)]
#[serde(deny_unknown_fields)]
pub(crate) struct Target {
    pub name: String,
    pub command: Vec<String>,
    #[serde(default)]
    pub subnqn: String,
    /// A file to be filled in for each run; `{config}` is where it is then.
    pub config: Option<String>,
    #[serde(default)]
    pub ready: Ready,
    /// How long it may take to be ready.
    #[serde(default = "half_a_minute")]
    pub ready_seconds: f64,
}

/// How to know that a target is ready.
#[derive(Deserialize, Clone, Copy, PartialEq, Eq, Debug, Default)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Ready {
    /// Its port accepts connections.
    #[default]
    Tcp,
}

fn half_a_minute() -> f64 {
    30.0
}

/// A load generator.
#[derive(Deserialize, Clone, Debug)]
#[serde(deny_unknown_fields)]
pub(crate) struct Load {
    pub name: String,
    pub command: Vec<String>,
    pub format: Format,
    #[serde(default)]
    pub options: Options,
}

/// How a load generator prints its results.
#[derive(Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Format {
    /// JSON, as `nvmf bench` does.
    Nvmf,
    /// JSON, as `raw load` does: the same.
    Raw,
    /// The table of `spdk_nvme_perf`.
    Spdk,
}

/// Arguments that only some work needs. Without one, the load generator cannot do such work.
#[derive(Deserialize, Clone, Debug, Default)]
#[serde(deny_unknown_fields)]
pub(crate) struct Options {
    /// In `{digests...}`.
    pub header_digest: Option<Vec<String>>,
    /// In `{digests...}`.
    pub data_digest: Option<Vec<String>>,
    /// In `{mix...}`, for reads and writes together.
    pub mix: Option<Vec<String>>,
    /// In `{rate...}`.
    pub rate: Option<Vec<String>>,
}

/// The command that opens connections and then keeps silent.
#[derive(Deserialize, Clone, Debug)]
#[serde(deny_unknown_fields)]
pub(crate) struct IdleHosts {
    pub command: Vec<String>,
}

/// What a load generator does.
#[derive(Deserialize, Serialize, Clone, PartialEq, Debug)]
#[serde(deny_unknown_fields)]
pub(crate) struct Work {
    pub name: String,
    pub rw: Rw,
    /// Reads of a hundred I/Os, where there are both.
    #[serde(default = "seventy")]
    pub mix: u8,
    #[serde(deserialize_with = "deserialize_size")]
    pub bs: u32,
    /// I/Os outstanding, over all connections together.
    pub qd: u32,
    #[serde(default = "one")]
    pub connections: u32,
    #[serde(default)]
    pub digests: Digests,
    /// Other than the plan's.
    pub seconds: Option<f64>,
    /// I/Os per second to offer, instead of as many as go.
    pub rate: Option<f64>,
}

#[derive(Deserialize, Serialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Rw {
    Read,
    Write,
    #[serde(rename = "rw")]
    Mixed,
    RandRead,
    RandWrite,
    #[serde(rename = "randrw")]
    RandMixed,
}

impl Rw {
    /// As load generators know it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Mixed => "rw",
            Self::RandRead => "randread",
            Self::RandWrite => "randwrite",
            Self::RandMixed => "randrw",
        }
    }

    pub(crate) fn is_mixed(self) -> bool {
        matches!(self, Self::Mixed | Self::RandMixed)
    }
}

#[derive(Deserialize, Serialize, Clone, Copy, PartialEq, Eq, Debug, Default)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Digests {
    #[default]
    None,
    Header,
    Data,
    Both,
}

impl Digests {
    pub(crate) fn header(self) -> bool {
        matches!(self, Self::Header | Self::Both)
    }

    pub(crate) fn data(self) -> bool {
        matches!(self, Self::Data | Self::Both)
    }
}

fn seventy() -> u8 {
    70
}

fn one() -> u32 {
    1
}

/// A size is a number of bytes, or a text such as "4k"; a plan that was written again has numbers.
fn deserialize_size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Size {
        Bytes(u32),
        Text(String),
    }
    match Size::deserialize(deserializer)? {
        Size::Bytes(bytes) => Ok(bytes),
        Size::Text(text) => size::parse(&text).map_err(serde::de::Error::custom),
    }
}

/// A ratio of two measurements that were made in the same round.
#[derive(Deserialize, Serialize, Clone, PartialEq, Debug)]
#[serde(deny_unknown_fields)]
pub(crate) struct Figure {
    pub name: String,
    /// The names of all work that it is made of, a ratio each.
    pub work: Vec<String>,
    pub numerator: Pair,
    pub denominator: Pair,
    pub statistic: Statistic,
    /// What the median has to be at least.
    pub at_least: Option<f64>,
    /// What the median has to be at most.
    pub at_most: Option<f64>,
}

/// A target under a load.
#[derive(Deserialize, Serialize, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pair {
    pub target: String,
    pub load: String,
}

#[derive(Deserialize, Serialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Statistic {
    Iops,
    /// Mean latency.
    Mean,
    /// Latency that one I/O of a hundred is above.
    P99,
    /// CPU time of the target for one I/O.
    CpuUsPerIo,
}

impl Statistic {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Iops => "IOPS",
            Self::Mean => "mean latency",
            Self::P99 => "p99 latency",
            Self::CpuUsPerIo => "target's CPU per I/O",
        }
    }
}

/// Something measured of a target without load.
#[derive(Deserialize, Clone, Debug)]
#[serde(deny_unknown_fields)]
pub(crate) struct Probe {
    pub name: String,
    pub kind: ProbeKind,
    pub targets: Vec<String>,
    /// Hosts that are connected.
    #[serde(default = "one")]
    pub hosts: u32,
    /// I/O queues of each; with its admin queue a host has one connection more.
    #[serde(default = "one")]
    pub queues: u32,
    /// How long idle CPU is measured.
    #[serde(default = "half_a_minute")]
    pub seconds: f64,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ProbeKind {
    /// CPU time while hosts are connected and silent.
    IdleCpu,
    /// Memory while hosts are connected.
    Memory,
    /// From exec to the first Connect that is accepted.
    Start,
}

impl Plan {
    /// Reads a plan and puts the variables in.
    ///
    /// Entries with a variable that is not set are left out, and what is made of them; the second
    /// value says which, a line each.
    pub(crate) fn load(
        path: &Path,
        variables: &BTreeMap<String, String>,
    ) -> anyhow::Result<(Self, Vec<String>)> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the plan {}", path.display()))?;
        Self::parse(&text, variables).with_context(|| format!("in the plan {}", path.display()))
    }

    fn parse(
        text: &str,
        variables: &BTreeMap<String, String>,
    ) -> anyhow::Result<(Self, Vec<String>)> {
        let mut plan: Self = toml::from_str(text)?;
        plan.check()?;
        let mut left_out = Vec::new();
        let mut is_set = |what: String, texts: &mut dyn Iterator<Item = &mut String>| {
            for text in texts {
                match expand(text, variables) {
                    Ok(expanded) => *text = expanded,
                    Err(Unknown(name)) => {
                        left_out.push(format!("{what} is left out: {name} is not set"));
                        return false;
                    }
                }
            }
            true
        };
        plan.target.retain_mut(|t| {
            is_set(
                format!("target `{}`", t.name),
                &mut t.command.iter_mut().chain(t.config.as_mut()),
            )
        });
        plan.load.retain_mut(|l| is_set(format!("load `{}`", l.name), &mut l.command.iter_mut()));
        plan.idle_hosts = plan
            .idle_hosts
            .take_if(|hosts| is_set("idle_hosts".to_owned(), &mut hosts.command.iter_mut()));
        plan.drop_dependents(&mut left_out);
        Ok((plan, left_out))
    }

    /// Takes away figures and probes of what was left out.
    fn drop_dependents(&mut self, left_out: &mut Vec<String>) {
        let (targets, loads) = (&self.target, &self.load);
        let has_target = |name: &str| targets.iter().any(|t| t.name == name);
        let has_load = |name: &str| loads.iter().any(|l| l.name == name);
        self.figure.retain(|figure| {
            let missing = [&figure.numerator, &figure.denominator].into_iter().find_map(|pair| {
                if has_target(&pair.target) { None } else { Some(&pair.target) }
                    .or(if has_load(&pair.load) { None } else { Some(&pair.load) })
            });
            if let Some(missing) = missing {
                left_out.push(format!("figure `{}` is left out: no `{missing}`", figure.name));
            }
            missing.is_none()
        });
        for probe in &mut self.probe {
            probe.targets.retain(|target| has_target(target));
        }
    }

    /// Finds names that nothing has, and work that a load generator cannot do.
    fn check(&self) -> anyhow::Result<()> {
        ensure!(self.rounds > 0, "rounds are at least 1");
        unique("target", self.target.iter().map(|t| &t.name))?;
        unique("load", self.load.iter().map(|l| &l.name))?;
        unique("work", self.work.iter().map(|w| &w.name))?;
        for (what, command) in self
            .target
            .iter()
            .map(|t| (&t.name, &t.command))
            .chain(self.load.iter().map(|l| (&l.name, &l.command)))
        {
            ensure!(!command.is_empty(), "`{what}` has no command");
        }
        for figure in &self.figure {
            let of =
                |what: &str, name: &str| format!("figure `{}`: no {what} `{name}`", figure.name);
            for name in &figure.work {
                let work = self.work(name).with_context(|| of("work", name))?;
                for Pair { target, load } in [&figure.numerator, &figure.denominator] {
                    ensure!(self.target.iter().any(|t| t.name == *target), of("target", target));
                    let load = self
                        .load
                        .iter()
                        .find(|l| l.name == *load)
                        .with_context(|| of("load", load))?;
                    load.check(work)?;
                }
            }
        }
        for probe in &self.probe {
            for name in &probe.targets {
                let known = self.target.iter().any(|t| t.name == *name);
                ensure!(known, "probe `{}`: no target `{name}`", probe.name);
            }
        }
        for work in &self.work {
            ensure!(
                work.qd >= work.connections,
                "work `{}`: qd is over all connections",
                work.name
            );
            ensure!(work.seconds(self) >= 0.1, "work `{}`: too short", work.name);
        }
        Ok(())
    }

    pub(crate) fn work(&self, name: &str) -> Option<&Work> {
        self.work.iter().find(|w| w.name == name)
    }

    /// What has to be measured for the figures that name a piece of work.
    pub(crate) fn pairs(&self, work: &Work) -> Vec<Pair> {
        let mut pairs: Vec<Pair> = Vec::new();
        for figure in self.figure.iter().filter(|f| f.work.contains(&work.name)) {
            for pair in [&figure.numerator, &figure.denominator] {
                if !pairs.contains(pair) {
                    pairs.push(pair.clone());
                }
            }
        }
        pairs
    }
}

impl Load {
    fn check(&self, work: &Work) -> anyhow::Result<()> {
        let Options { header_digest, data_digest, mix, rate } = &self.options;
        for (needed, option, what) in [
            (work.digests.header(), header_digest, "header_digest"),
            (work.digests.data(), data_digest, "data_digest"),
            (work.rw.is_mixed(), mix, "mix"),
            (work.rate.is_some(), rate, "rate"),
        ] {
            if needed && option.is_none() {
                bail!("work `{}` needs the option {what} of load `{}`", work.name, self.name);
            }
        }
        Ok(())
    }
}

impl Work {
    pub(crate) fn seconds(&self, plan: &Plan) -> f64 {
        self.seconds.unwrap_or(plan.seconds)
    }
}

fn unique<'a>(what: &str, names: impl Iterator<Item = &'a String>) -> anyhow::Result<()> {
    let mut seen: Vec<&String> = Vec::new();
    for name in names {
        ensure!(!seen.contains(&name), "there are two of {what} `{name}`");
        seen.push(name);
    }
    Ok(())
}

/// A file that a target's entry names, beside the plan.
pub(crate) fn beside(plan: &Path, file: &str) -> PathBuf {
    plan.parent().unwrap_or(Path::new("")).join(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULT: &str = include_str!("../../../compare.toml");

    fn set(names: &[&str]) -> BTreeMap<String, String> {
        names.iter().map(|name| ((*name).to_owned(), format!("/{name}"))).collect()
    }

    #[test]
    fn the_default_plan_is_whole_when_all_variables_are_set() {
        let (plan, left_out) =
            Plan::parse(DEFAULT, &set(&["BIN", "SPDK_DIR", "HUGE_DIR"])).unwrap();
        assert_eq!(left_out, Vec::<String>::new());
        for work in &plan.work {
            assert!(plan.pairs(work).len() >= 2, "{}", work.name);
        }
        assert!(plan.target[0].command.contains(&"/BIN/nvmf".to_owned()));
    }

    #[test]
    fn what_needs_a_variable_that_is_not_set_is_left_out_with_all_that_is_made_of_it() {
        let (plan, left_out) = Plan::parse(DEFAULT, &set(&["BIN"])).unwrap();
        let targets: Vec<_> = plan.target.iter().map(|t| t.name.as_str()).collect();
        assert_eq!(targets, ["nvmf", "nvmf file", "raw"]);
        let figures: Vec<_> = plan.figure.iter().map(|f| f.name.as_str()).collect();
        assert_eq!(
            figures,
            [
                "goal: 0.85 of the ceiling",
                "goal: a file in the page cache, 0.7 of memory",
                "both of our ends and the ceiling"
            ]
        );
        assert!(plan.probe.iter().all(|probe| probe.targets == ["nvmf"]));
        let says = |line: &str| assert!(left_out.iter().any(|l| l == line), "{left_out:#?}");
        says("target `spdk` is left out: SPDK_DIR is not set");
        says("load `spdk perf` is left out: SPDK_DIR is not set");
        says("figure `our target and SPDK's` is left out: no `spdk perf`");
    }

    const SMALL: &str = r#"
        rounds = 1
        seconds = 1.0
        [[target]]
        name = "t"
        command = ["serve"]
        [[load]]
        name = "l"
        format = "raw"
        command = ["load"]
        [[work]]
        name = "w"
        rw = "randread"
        bs = "4k"
        qd = 2
        [[figure]]
        name = "f"
        work = ["w"]
        statistic = "iops"
        numerator = { target = "t", load = "l" }
        denominator = { target = "t", load = "l" }
    "#;

    #[test]
    fn mistakes_are_said() {
        let error = |from: &str, to: &str| {
            let text = SMALL.replace(from, to);
            assert_ne!(text, SMALL);
            format!("{:#}", Plan::parse(&text, &set(&[])).unwrap_err())
        };
        assert!(Plan::parse(SMALL, &set(&[])).is_ok());
        assert!(error("work = [\"w\"]", "work = [\"v\"]").contains("no work `v`"));
        assert!(
            error("numerator = { target = \"t\"", "numerator = { target = \"u\"")
                .contains("no target `u`")
        );
        assert!(error("qd = 2", "qd = 2\nconnections = 3").contains("over all connections"));
        assert!(error("qd = 2", "qd = 2\ndigests = \"both\"").contains("header_digest"));
        assert!(error("\"randread\"", "\"randrw\"").contains("option mix"));
        assert!(error("bs = \"4k\"", "bs = \"4x\"").contains("a size is"));
        assert!(error("rounds = 1", "rounds = 1\nround = 2").contains("unknown field"));
    }
}

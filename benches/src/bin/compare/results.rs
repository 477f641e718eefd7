//! What was measured, a line of JSON each, so that it can be shown again.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;

use anyhow::Context;
use nvmf_benches::report::Report;
use serde::{Deserialize, Serialize};

use crate::plan::{Figure, Pair, Statistic, Work};

/// A line of the file.
#[derive(Serialize, Deserialize, Clone, Debug)]
#[serde(tag = "record", rename_all = "snake_case")]
pub(crate) enum Record {
    /// The first one: what the others are about.
    Plan(Box<Header>),
    Run(Box<Run>),
    Probe(Probe),
}

#[derive(Serialize, Deserialize, Clone, Debug, Default)]
pub(crate) struct Header {
    /// Of the machine, for people.
    pub machine: String,
    pub rounds: u32,
    pub seconds: f64,
    /// Runs began and ended while a cache line went between the cores and back within so many
    /// nanoseconds.
    #[serde(default)]
    pub calm: Option<u64>,
    pub work: Vec<Work>,
    pub figure: Vec<Figure>,
    /// What the plan has and was not measured, and why.
    pub left_out: Vec<String>,
}

/// One run of a load generator against a target.
#[derive(Serialize, Deserialize, Clone, Debug)]
pub(crate) struct Run {
    pub work: String,
    pub round: u32,
    pub pair: Pair,
    pub measured: Outcome<Measured>,
}

/// What came of something.
#[derive(Serialize, Deserialize, Clone, Debug)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome<T> {
    Value(T),
    Error(String),
}

impl<T> Outcome<T> {
    pub(crate) fn value(&self) -> Option<&T> {
        match self {
            Self::Value(value) => Some(value),
            Self::Error(_) => None,
        }
    }
}

impl<T> From<Result<T, String>> for Outcome<T> {
    fn from(result: Result<T, String>) -> Self {
        result.map_or_else(Self::Error, Self::Value)
    }
}

#[derive(Serialize, Deserialize, Clone, Debug)]
pub(crate) struct Measured {
    pub report: Report,
    /// The part of a core that the target used.
    pub target_cpu: f64,
}

impl Measured {
    pub(crate) fn statistic(&self, statistic: Statistic) -> f64 {
        let total = &self.report.total;
        match statistic {
            Statistic::Iops => total.iops,
            Statistic::Mean => total.latency_us.mean,
            Statistic::P99 => total.latency_us.p99,
            Statistic::CpuUsPerIo => self.target_cpu * 1e6 / total.iops,
        }
    }
}

/// Something measured of a target without load.
#[derive(Serialize, Deserialize, Clone, Debug)]
pub(crate) struct Probe {
    pub probe: String,
    pub target: String,
    pub round: u32,
    /// By name, which has the unit.
    pub values: Outcome<BTreeMap<String, f64>>,
}

/// Everything of one file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Results {
    pub header: Header,
    pub runs: Vec<Run>,
    pub probes: Vec<Probe>,
}

impl Results {
    pub(crate) fn add(&mut self, record: Record) {
        match record {
            Record::Plan(header) => self.header = *header,
            Record::Run(run) => self.runs.push(*run),
            Record::Probe(probe) => self.probes.push(probe),
        }
    }

    pub(crate) fn load(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        let mut results = Self::default();
        for (number, line) in (1..).zip(text.lines()) {
            let record = serde_json::from_str(line)
                .with_context(|| format!("{}, line {number}", path.display()))?;
            results.add(record);
        }
        Ok(results)
    }

    /// The runs of a pair with some work.
    pub(crate) fn runs_of<'a>(
        &'a self,
        work: &'a str,
        pair: &'a Pair,
    ) -> impl Iterator<Item = &'a Run> {
        self.runs.iter().filter(move |run| run.work == work && run.pair == *pair)
    }

    /// The ratios of a figure with some work, one for each round that has both measurements.
    pub(crate) fn ratios(&self, figure: &Figure, work: &str) -> Vec<f64> {
        let of = |pair, round| {
            self.runs_of(work, pair)
                .find(|run| run.round == round)
                .and_then(|run| Some(run.measured.value()?.statistic(figure.statistic)))
        };
        (0..self.header.rounds)
            .filter_map(|round| {
                Some(of(&figure.numerator, round)? / of(&figure.denominator, round)?)
            })
            .filter(|ratio| ratio.is_finite())
            .collect()
    }

    /// Everything that went wrong.
    pub(crate) fn errors(&self) -> Vec<String> {
        let runs = self.runs.iter().filter_map(|run| match &run.measured {
            Outcome::Error(error) => {
                let Pair { target, load } = &run.pair;
                Some(format!("{}, {target} under {load}, round {}: {error}", run.work, run.round))
            }
            Outcome::Value(_) => None,
        });
        let probes = self.probes.iter().filter_map(|probe| match &probe.values {
            Outcome::Error(error) => {
                Some(format!("{}, {}, round {}: {error}", probe.probe, probe.target, probe.round))
            }
            Outcome::Value(_) => None,
        });
        runs.chain(probes).collect()
    }
}

/// Writes records as they are made: an interrupted comparison keeps what it has.
pub(crate) struct Writer(File);

impl Writer {
    pub(crate) fn create(path: &Path) -> anyhow::Result<Self> {
        File::create(path).map(Self).with_context(|| format!("cannot write {}", path.display()))
    }

    pub(crate) fn write(&mut self, record: &Record) -> anyhow::Result<()> {
        let line = serde_json::to_string(record)?;
        writeln!(self.0, "{line}").context("cannot write the results")
    }
}

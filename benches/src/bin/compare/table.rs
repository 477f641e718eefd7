//! The results as Markdown.

use std::fmt::Write;

use crate::plan::{Figure, Pair, Statistic};
use crate::results::{Measured, Results};
use crate::statistics::Spread;

/// Everything, in sections.
pub(crate) fn markdown(results: &Results) -> String {
    let mut text = String::new();
    let header = &results.header;
    let _ = writeln!(
        text,
        "{}; {} rounds of {} s in alternation.",
        header.machine, header.rounds, header.seconds
    );
    if let Some(calm) = header.calm {
        let _ = writeln!(
            text,
            "Runs began and ended while a cache line went between the cores and back in {calm} ns."
        );
    }
    text.push('\n');
    figures(results, &mut text);
    runs(results, &mut text);
    probes(results, &mut text);
    section("What went wrong", &results.errors(), &mut text);
    section("What was not measured", &header.left_out, &mut text);
    text
}

/// Whether a figure keeps its bounds; `None` where it has none.
pub(crate) fn holds(figure: &Figure, median: f64) -> Option<bool> {
    let least = figure.at_least.map(|bound| median >= bound);
    let most = figure.at_most.map(|bound| median <= bound);
    match (least, most) {
        (Some(a), Some(b)) => Some(a && b),
        (a, b) => a.or(b),
    }
}

/// The figures that miss a bound, or that could not be made and have one.
pub(crate) fn misses(results: &Results) -> usize {
    rows(results)
        .filter(|(figure, work)| {
            let bounded = figure.at_least.is_some() || figure.at_most.is_some();
            let spread = Spread::of(&results.ratios(figure, work));
            bounded && spread.is_none_or(|s| holds(figure, s.median) == Some(false))
        })
        .count()
}

/// Each figure with each piece of its work.
pub(crate) fn rows(results: &Results) -> impl Iterator<Item = (&Figure, &str)> {
    let all = results.header.figure.iter();
    all.flat_map(|figure| figure.work.iter().map(move |work| (figure, work.as_str())))
}

/// What a figure divides by what.
pub(crate) fn quotient(figure: &Figure) -> String {
    format!("{} / {}", pair(&figure.numerator), pair(&figure.denominator))
}

pub(crate) fn pair(Pair { target, load }: &Pair) -> String {
    if target == load { target.clone() } else { format!("{target} < {load}") }
}

fn figures(results: &Results, text: &mut String) {
    if results.header.figure.is_empty() {
        return;
    }
    text.push_str("## Figures\n\n`A < B` is target A under load generator B.\n\n");
    text.push_str("| figure | work | ratio of | | median | quartiles | min – max | bound | |\n");
    text.push_str("|---|---|---|---|---|---|---|---|---|\n");
    for (figure, work) in rows(results) {
        let values = results.ratios(figure, work);
        let (median, quartiles, extremes, verdict) = match Spread::of(&values) {
            None => ("–".to_owned(), "–".to_owned(), "–".to_owned(), "not measured"),
            Some(s) => (
                format!("**{:.3}**", s.median),
                format!("{:.3} – {:.3}", s.low, s.high),
                format!("{:.3} – {:.3}", s.min, s.max),
                match holds(figure, s.median) {
                    None => "",
                    Some(true) => "holds",
                    Some(false) => "**missed**",
                },
            ),
        };
        let mut bounds: Vec<String> = Vec::new();
        bounds.extend(figure.at_least.map(|bound| format!("≥ {bound}")));
        bounds.extend(figure.at_most.map(|bound| format!("≤ {bound}")));
        let _ = writeln!(
            text,
            "| {} | {work} | {} | {} | {median} | {quartiles} | {extremes} | {} | {verdict} |",
            figure.name,
            figure.statistic.name(),
            quotient(figure),
            bounds.join(", ")
        );
    }
    text.push('\n');
}

fn runs(results: &Results, text: &mut String) {
    if results.runs.is_empty() {
        return;
    }
    text.push_str("## Runs\n\nMedians; IOPS with their extremes.\n\n");
    text.push_str("| work | target < load | IOPS | min – max | MiB/s | mean, µs | p99, µs ");
    text.push_str("| target's CPU, µs per I/O | of a core | failed |\n");
    text.push_str("|---|---|---|---|---|---|---|---|---|---|\n");
    for (work, pair) in measured_pairs(results) {
        let all: Vec<_> = results.runs_of(work, &pair).collect();
        let values: Vec<&Measured> = all.iter().filter_map(|run| run.measured.value()).collect();
        let failed = match all.len() - values.len() {
            0 => String::new(),
            n => format!("**{n} of {}**", all.len()),
        };
        let of = |value: &dyn Fn(&Measured) -> f64| {
            Spread::of(&values.iter().map(|m| value(m)).collect::<Vec<_>>())
        };
        let median = |value: &dyn Fn(&Measured) -> f64, digits: usize| {
            of(value).map_or("–".to_owned(), |s| format!("{:.digits$}", s.median))
        };
        let extremes = of(&|m| m.statistic(Statistic::Iops))
            .map_or("–".to_owned(), |s| format!("{:.0} – {:.0}", s.min, s.max));
        let _ = writeln!(
            text,
            "| {work} | {} | {} | {extremes} | {} | {} | {} | {} | {} | {failed} |",
            self::pair(&pair),
            median(&|m| m.statistic(Statistic::Iops), 0),
            median(&|m| m.report.total.bytes_per_second / f64::from(1 << 20), 0),
            median(&|m| m.statistic(Statistic::Mean), 1),
            median(&|m| m.statistic(Statistic::P99), 1),
            median(&|m| m.statistic(Statistic::CpuUsPerIo), 2),
            median(&|m| m.target_cpu, 2),
        );
    }
    text.push('\n');
}

/// Each piece of work with each pair that was measured, in order.
pub(crate) fn measured_pairs(results: &Results) -> Vec<(&str, Pair)> {
    let mut found: Vec<(&str, Pair)> = Vec::new();
    for run in &results.runs {
        let key = (run.work.as_str(), run.pair.clone());
        if !found.contains(&key) {
            found.push(key);
        }
    }
    found
}

fn probes(results: &Results, text: &mut String) {
    if results.probes.is_empty() {
        return;
    }
    text.push_str("## Without load\n\n| probe | target | | median | min – max | failed |\n");
    text.push_str("|---|---|---|---|---|---|\n");
    let mut seen: Vec<(&str, &str)> = Vec::new();
    for probe in &results.probes {
        let key = (probe.probe.as_str(), probe.target.as_str());
        if seen.contains(&key) {
            continue;
        }
        seen.push(key);
        let all: Vec<_> = results
            .probes
            .iter()
            .filter(|p| (p.probe.as_str(), p.target.as_str()) == key)
            .collect();
        let good: Vec<_> = all.iter().filter_map(|p| p.values.value()).collect();
        let failed = match all.len() - good.len() {
            0 => String::new(),
            n => format!("**{n} of {}**", all.len()),
        };
        let Some(first) = good.first() else {
            let _ = writeln!(text, "| {} | {} | – | – | – | {failed} |", key.0, key.1);
            continue;
        };
        for name in first.keys() {
            let values: Vec<f64> = good.iter().filter_map(|v| v.get(name).copied()).collect();
            let Some(s) = Spread::of(&values) else { continue };
            let _ = writeln!(
                text,
                "| {} | {} | {name} | {:.2} | {:.2} – {:.2} | {failed} |",
                key.0, key.1, s.median, s.min, s.max
            );
        }
    }
    text.push('\n');
}

fn section(title: &str, entries: &[String], text: &mut String) {
    if entries.is_empty() {
        return;
    }
    let _ = writeln!(text, "## {title}\n");
    for entry in entries {
        // The last lines of a program are set off as they were printed.
        let _ = match entry.split_once('\n') {
            None => writeln!(text, "- {entry}"),
            Some((what, lines)) => writeln!(text, "- {what}\n\n  ```\n{lines}\n  ```"),
        };
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::{Header, Outcome, Probe, Run};
    use nvmf_benches::report::{Part, Report};

    fn results() -> Results {
        let of = |name: &str| Pair { target: name.to_owned(), load: "perf".to_owned() };
        let figure = Figure {
            name: "as fast".to_owned(),
            work: vec!["w".to_owned()],
            numerator: of("ours"),
            denominator: of("theirs"),
            statistic: Statistic::Iops,
            at_least: Some(1.5),
            at_most: None,
        };
        let run = |name: &str, round, iops: f64| Run {
            work: "w".to_owned(),
            round,
            pair: of(name),
            measured: Outcome::Value(Measured {
                report: Report { total: Part { iops, ..Part::default() }, ..Report::default() },
                target_cpu: 0.5,
            }),
        };
        let mut runs: Vec<_> = [(0, 300.0, 100.0), (1, 100.0, 50.0), (2, 700.0, 1000.0)]
            .into_iter()
            .flat_map(|(round, a, b)| [run("ours", round, a), run("theirs", round, b)])
            .collect();
        let error = "perf: failed\n    its last line".to_owned();
        runs[5].measured = Outcome::Error(error.clone());
        Results {
            header: Header { rounds: 3, figure: vec![figure], ..Header::default() },
            runs,
            probes: vec![Probe {
                probe: "idle".to_owned(),
                target: "theirs".to_owned(),
                round: 0,
                values: Outcome::Error(error),
            }],
        }
    }

    #[test]
    fn a_figure_is_made_of_the_rounds_that_have_both() {
        let results = results();
        let figure = &results.header.figure[0];
        assert_eq!(results.ratios(figure, "w"), [3.0, 2.0]);
        let text = markdown(&results);
        let line = "| as fast | w | IOPS | ours < perf / theirs < perf | **2.500** \
                    | 2.250 – 2.750 | 2.000 – 3.000 | ≥ 1.5 | holds |";
        assert!(text.contains(line), "{text}");
        assert_eq!(misses(&results), 0);
    }

    #[test]
    fn what_failed_is_in_the_table_and_said_below() {
        let text = markdown(&results());
        assert!(text.contains("| w | theirs < perf | 75 | 50 – 100 |"), "{text}");
        assert!(text.contains("**1 of 3** |"), "{text}");
        assert!(text.contains("| idle | theirs | – | – | – | **1 of 1** |"), "{text}");
        assert_eq!(text.matches("its last line").count(), 2, "{text}");
    }

    #[test]
    fn a_bound_is_missed_by_a_worse_median_or_none() {
        let mut results = results();
        results.header.figure[0].at_most = Some(2.0);
        assert_eq!(misses(&results), 1);
        results.runs.clear();
        results.header.figure[0].at_most = None;
        assert_eq!(misses(&results), 1);
    }
}

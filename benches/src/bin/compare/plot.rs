//! The results as a picture: bars with their spread.

use std::path::Path;

use anyhow::anyhow;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::plan::Statistic;
use crate::results::Results;
use crate::statistics::Spread;
use crate::table::{holds, measured_pairs, pair, quotient, rows};

/// A group of bars under a heading, as long as their medians.
struct Group {
    heading: String,
    bars: Vec<Bar>,
}

struct Bar {
    label: String,
    /// `None` where nothing could be measured.
    spread: Option<Spread>,
    value: String,
    colour: RGBColor,
    /// What the median has to reach or must not exceed.
    bounds: Vec<f64>,
    /// Where both would be the same.
    even: Option<f64>,
}

const WIDTH: u32 = 1000;
const LINE: i32 = 22;
/// Where bars begin, and where the longest whisker ends.
const LEFT: i32 = 330;
const RIGHT: i32 = 840;
const MARGIN: i32 = 12;

const INK: RGBColor = RGBColor(0x22, 0x22, 0x22);
const FAINT: RGBColor = RGBColor(0xbb, 0xbb, 0xbb);
const BAD: RGBColor = RGBColor(0xc0, 0x39, 0x2b);
const COLOURS: [RGBColor; 6] = [
    RGBColor(0x2b, 0x6c, 0xb0),
    RGBColor(0xdd, 0x8a, 0x2b),
    RGBColor(0x6b, 0x8e, 0x4e),
    RGBColor(0x8e, 0x5a, 0xa8),
    RGBColor(0x3a, 0x9c, 0x9c),
    RGBColor(0x80, 0x80, 0x80),
];

/// Draws the figures, and below them what each pair reached.
pub(crate) fn draw(results: &Results, path: &Path) -> anyhow::Result<()> {
    let mut groups = figures(results);
    groups.extend(works(results));
    let bars: usize = groups.iter().map(|group| 2 + group.bars.len()).sum();
    let lines = i32::try_from(bars + 2)?;
    let height = u32::try_from(lines * LINE + 2 * MARGIN)?;
    let area = SVGBackend::new(path, (WIDTH, height)).into_drawing_area();
    let failed = |error: &dyn std::fmt::Display| anyhow!("cannot draw: {error}");
    area.fill(&WHITE).map_err(|e| failed(&e))?;
    let caption = "Bars are medians with quartiles (thick) and extremes (thin). Ratios have a line at 1; \
                   red are bounds, and what misses one.";
    let mut canvas = Canvas { area, y: MARGIN };
    canvas.text(MARGIN, &results.header.machine, INK, HPos::Left)?;
    canvas.y += LINE;
    canvas.text(MARGIN, caption, INK, HPos::Left)?;
    canvas.y += LINE;
    for group in &groups {
        canvas.group(group)?;
    }
    canvas.area.present().map_err(|e| failed(&e))
}

/// The ratios, a group for each figure.
fn figures(results: &Results) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for (figure, work) in rows(results) {
        let spread = Spread::of(&results.ratios(figure, work));
        let heading =
            format!("{}: {} of {}", figure.name, figure.statistic.name(), quotient(figure));
        let missed = spread.is_some_and(|s| holds(figure, s.median) == Some(false));
        let bar = Bar {
            label: work.to_owned(),
            spread,
            value: spread.map_or("not measured".to_owned(), |s| format!("{:.2}", s.median)),
            colour: if missed { BAD } else { COLOURS[0] },
            bounds: figure.at_least.into_iter().chain(figure.at_most).collect(),
            even: Some(1.0),
        };
        match groups.last_mut().filter(|group| group.heading == heading) {
            Some(group) => group.bars.push(bar),
            None => groups.push(Group { heading, bars: vec![bar] }),
        }
    }
    groups
}

/// IOPS, a group for each piece of work; a pair has the same colour everywhere.
fn works(results: &Results) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    let mut colours = Vec::new();
    for (work, key) in measured_pairs(results) {
        let values: Vec<f64> = results
            .runs_of(work, &key)
            .filter_map(|run| Some(run.measured.value()?.statistic(Statistic::Iops)))
            .collect();
        let spread = Spread::of(&values);
        if !colours.contains(&key) {
            colours.push(key.clone());
        }
        let colour = colours.iter().position(|pair| *pair == key).unwrap_or(0);
        let bar = Bar {
            label: pair(&key),
            spread,
            value: spread.map_or("failed".to_owned(), |s| format!("{:.1} k", s.median / 1e3)),
            colour: COLOURS[colour % COLOURS.len()],
            bounds: Vec::new(),
            even: None,
        };
        let heading = format!("{work}: IOPS");
        match groups.last_mut().filter(|group| group.heading == heading) {
            Some(group) => group.bars.push(bar),
            None => groups.push(Group { heading, bars: vec![bar] }),
        }
    }
    groups
}

struct Canvas<'a> {
    area: DrawingArea<SVGBackend<'a>, plotters::coord::Shift>,
    /// The top of the next line.
    y: i32,
}

impl Canvas<'_> {
    fn group(&mut self, group: &Group) -> anyhow::Result<()> {
        let longest = group
            .bars
            .iter()
            .flat_map(|bar| {
                bar.bounds.iter().copied().chain(bar.even).chain(bar.spread.map(|s| s.max))
            })
            .fold(0.0, f64::max);
        self.y += LINE / 2;
        self.text(MARGIN, &group.heading, INK, HPos::Left)?;
        self.y += LINE;
        for bar in &group.bars {
            self.bar(bar, longest)?;
            self.y += LINE;
        }
        self.y += LINE / 2;
        Ok(())
    }

    fn bar(&self, bar: &Bar, longest: f64) -> anyhow::Result<()> {
        let x = |value: f64| position(value, longest);
        let (top, bottom) = (self.y + 3, self.y + LINE - 3);
        let middle = i32::midpoint(top, bottom);
        self.text(LEFT - 8, &bar.label, INK, HPos::Right)?;
        if let Some(s) = &bar.spread {
            self.rectangle([(LEFT, top), (x(s.median), bottom)], bar.colour)?;
            self.line([(x(s.min), middle), (x(s.max), middle)], INK, 1)?;
            self.line([(x(s.low), middle), (x(s.high), middle)], INK, 4)?;
        }
        if let Some(even) = bar.even {
            self.line([(x(even), self.y), (x(even), self.y + LINE)], INK, 1)?;
        }
        for &bound in &bar.bounds {
            self.line([(x(bound), self.y), (x(bound), self.y + LINE)], BAD, 2)?;
        }
        self.line([(LEFT, self.y), (LEFT, self.y + LINE)], FAINT, 1)?;
        self.text(RIGHT + 10, &bar.value, INK, HPos::Left)
    }

    fn rectangle(&self, corners: [(i32, i32); 2], colour: RGBColor) -> anyhow::Result<()> {
        let shape = Rectangle::new(corners, colour.filled());
        self.area.draw(&shape).map_err(|error| anyhow!("cannot draw: {error}"))
    }

    fn line(&self, ends: [(i32, i32); 2], colour: RGBColor, width: u32) -> anyhow::Result<()> {
        let shape = PathElement::new(ends, colour.stroke_width(width));
        self.area.draw(&shape).map_err(|error| anyhow!("cannot draw: {error}"))
    }

    fn text(&self, x: i32, text: &str, colour: RGBColor, side: HPos) -> anyhow::Result<()> {
        let style = TextStyle::from(("sans-serif", 14).into_font())
            .color(&colour)
            .pos(Pos::new(side, VPos::Center));
        let place = (x, self.y + LINE / 2);
        self.area.draw_text(text, &style, place).map_err(|error| anyhow!("cannot draw: {error}"))
    }
}

#[allow(clippy::cast_possible_truncation, reason = "a place in the picture")]
fn position(value: f64, longest: f64) -> i32 {
    let part = if longest > 0.0 { (value / longest).clamp(0.0, 1.0) } else { 0.0 };
    LEFT + (f64::from(RIGHT - LEFT) * part).round() as i32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Figure, Pair};
    use crate::results::{Header, Outcome, Run};

    #[test]
    fn what_failed_has_its_line_too() {
        let pair = Pair { target: "a & b".to_owned(), load: "perf".to_owned() };
        let figure = Figure {
            name: "f".to_owned(),
            work: vec!["w".to_owned()],
            numerator: pair.clone(),
            denominator: pair.clone(),
            statistic: Statistic::Iops,
            at_least: Some(0.5),
            at_most: None,
        };
        let error = Outcome::Error("perf: failed".to_owned());
        let run = Run { work: "w".to_owned(), round: 0, pair, measured: error };
        let header = Header { rounds: 1, figure: vec![figure], ..Header::default() };
        let results = Results { header, runs: vec![run], probes: Vec::new() };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.svg");
        draw(&results, &path).unwrap();
        let svg = std::fs::read_to_string(path).unwrap();
        for text in ["not measured", "failed", "a &amp; b &lt; perf"] {
            assert!(svg.contains(text), "no {text} in {svg}");
        }
    }

    #[test]
    fn bars_are_as_long_as_their_part_of_the_longest() {
        assert_eq!(position(0.0, 5.0), LEFT);
        assert_eq!(position(5.0, 5.0), RIGHT);
        assert_eq!(position(9.0, 5.0), RIGHT);
        assert_eq!(position(1.0, 0.0), LEFT);
    }
}

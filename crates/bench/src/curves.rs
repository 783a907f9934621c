//! The shape of the cost: what grows, with what, and what must not.

mod each;
mod runs;

use std::fmt::Write as _;

use anyhow::{Result, ensure};

use crate::{contenders::Places, measure, report::say, rows::Sizes};

/// One chart.
#[derive(Debug, Clone)]
pub(crate) struct Curve {
    pub(crate) title: String,
    /// What is along the x axis.
    pub(crate) across: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) series: Vec<(String, Vec<(f64, f64)>)>,
    /// What it comes to, in a sentence.
    pub(crate) verdict: String,
}

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Extent {
    /// Curves by name, instead of all: fan, append, members, memory, hello, nodes
    #[arg(long = "curve", value_delimiter = ',')]
    curves: Vec<String>,
    /// How often each point is measured
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Messages that one conversation is filled with
    #[arg(long, default_value_t = 1_000_000)]
    messages: usize,
    /// The most receivers, and connections
    #[arg(long, default_value_t = 10_000)]
    most: usize,
}

struct Bench<'a> {
    extent: &'a Extent,
    places: &'a Places,
    frame_bytes: usize,
    sizes: Sizes,
}

type Draw = fn(&Bench<'_>) -> Result<Curve>;
const CURVES: [(&str, Draw); 6] = [
    ("fan", each::fan),
    ("append", each::append),
    ("members", each::members),
    ("memory", each::memory),
    ("hello", each::hello),
    ("nodes", each::nodes),
];

pub(crate) fn draw(extent: &Extent, places: &Places) -> Result<Vec<Curve>> {
    for name in &extent.curves {
        ensure!(CURVES.iter().any(|(known, _)| known == name), "no curve is called {name}");
    }
    let sizes = Sizes { seconds: 2.0, ..Sizes::default() };
    let frame_bytes = measure::frame_bytes(&sizes, places)?;
    let bench = Bench { extent, places, frame_bytes, sizes };
    let wanted = |name: &str| extent.curves.is_empty() || extent.curves.iter().any(|it| it == name);
    let mut curves = vec![];
    for (name, draw) in CURVES {
        if wanted(name) {
            say(&format!("curve {name}"));
            curves.push(draw(&bench)?);
        }
    }
    Ok(curves)
}

pub(crate) fn markdown(curves: &[Curve]) -> String {
    let mut out = String::new();
    for Curve { title, across, unit, series, verdict } in curves {
        let _ = write!(out, "### {title}\n\n{verdict}\n\n");
        let mut ticks: Vec<f64> =
            series.iter().flat_map(|(_, points)| points.iter().map(|(x, _)| *x)).collect();
        ticks.sort_by(f64::total_cmp);
        ticks.dedup();
        let names: Vec<_> = series.iter().map(|(name, _)| format!("{name}, {unit}")).collect();
        let _ = write!(
            out,
            "| {across} | {} |\n|---:|{}\n",
            names.join(" | "),
            "---:|".repeat(series.len())
        );
        for tick in ticks {
            let cell = |(_, points): &(String, Vec<(f64, f64)>)| {
                let found = points.iter().find(|(x, _)| x.total_cmp(&tick).is_eq());
                found.map_or_else(|| "–".to_owned(), |(_, y)| format!("{y:.2}"))
            };
            let cells: Vec<_> = series.iter().map(cell).collect();
            let _ = writeln!(out, "| {tick} | {} |", cells.join(" | "));
        }
        out += "\n";
    }
    out
}

/// The costliest point relative to the first.
fn growth(points: &[(f64, f64)]) -> f64 {
    let first = points.first().map_or(f64::NAN, |it| it.1);
    points.iter().map(|it| it.1 / first).fold(f64::NAN, f64::max)
}

/// The mean cost of a piece up to `end`, where each point stands for all between the previous one and itself.
fn mean_until(points: &[(f64, f64)], end: f64) -> f64 {
    let (mut before, mut all) = (0.0, 0.0);
    for (x, y) in points.iter().filter(|(x, _)| *x <= end) {
        all += (x - before) * y;
        before = *x;
    }
    all / before
}

/// Judge a value as it was measured, not as it is shown.
fn met(is_met: bool) -> &'static str {
    if is_met { "met" } else { "MISSED" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_against_the_first_point() {
        let points = [(100.0, 2.0), (1_000.0, 3.0), (10_000.0, 2.5)];
        assert!((growth(&points) - 1.5).abs() < 1e-9);
    }

    #[test]
    fn a_mean_weighs_each_piece_by_its_length() {
        let points = [(10.0, 4.0), (100.0, 2.0), (200.0, 9.0)];
        assert!((mean_until(&points, 100.0) - 2.2).abs() < 1e-9);
        assert!((mean_until(&points[..1], 100.0) - 4.0).abs() < 1e-9);
    }

    #[test]
    fn markdown_has_a_line_for_each_x() {
        let curve = Curve {
            title: "T".into(),
            across: "n",
            unit: "µs",
            series: vec![
                ("a".into(), vec![(1.0, 2.0), (2.0, 3.0)]),
                ("b".into(), vec![(1.0, 4.0)]),
            ],
            verdict: "V".into(),
        };
        let text = markdown(&[curve]);
        assert!(text.contains("| 1 | 2.00 | 4.00 |\n| 2 | 3.00 | – |"), "{text}");
    }
}

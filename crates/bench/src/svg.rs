//! Pictures of results: bars for the table, lines for the curves. Plain SVG, legible on light and dark.

use std::fmt::Write as _;

use crate::{
    contenders::Kind,
    curves::Curve,
    table::{COLUMNS, Line},
};

const STYLE: &str = "<style>\
    text{font:12px system-ui,sans-serif;fill:#24292f}.title{font-weight:600}.small{font-size:10.5px;fill:#57606a}\
    .back{fill:#fff}.axis{stroke:#d0d7de;stroke-width:1}.l{fill:none;stroke-width:2}\
    .f0{fill:#0969da}.f1{fill:#bf8700}.f2{fill:#8250df}.f3{fill:#1a7f37}.f4{fill:#8c959f}\
    .s0{stroke:#0969da}.s1{stroke:#bf8700}.s2{stroke:#8250df}.s3{stroke:#1a7f37}\
    @media(prefers-color-scheme:dark){text{fill:#e6edf3}.small{fill:#9198a1}.back{fill:#0d1117}.axis{stroke:#3d444d}\
    .f0{fill:#4493f8}.f1{fill:#d29922}.f2{fill:#ab7df8}.f3{fill:#3fb950}.f4{fill:#656c76}\
    .s0{stroke:#4493f8}.s1{stroke:#d29922}.s2{stroke:#ab7df8}.s3{stroke:#3fb950}}</style>";

const WIDTH: f64 = 760.0;
/// A chart of curves, with the text around it; two stand side by side.
const CHART: (f64, f64) = (WIDTH / 2.0, 250.0);
const INNER: (f64, f64, f64, f64) = (58.0, 34.0, CHART.0 - 16.0, CHART.1 - 58.0);

/// The table as bars; each line has a scale of its own.
pub(crate) fn bars(lines: &[Line]) -> String {
    let (mut body, mut y) = (String::new(), 12.0);
    for line in lines {
        let values: Vec<_> =
            COLUMNS.iter().filter_map(|kind| Some((*kind, line.median(*kind)?))).collect();
        let most = values.iter().map(|(_, value)| *value).fold(f64::MIN_POSITIVE, f64::max);
        y += 20.0;
        let _ =
            write!(body, r#"<text class="title" x="12" y="{y}">{}</text>"#, escaped(&line.what));
        for (kind, value) in values {
            y += 18.0;
            let ours = matches!(kind, Kind::Parlance | Kind::ParlanceMongo);
            let (class, width) = (if ours { "f0" } else { "f4" }, (value / most * 440.0).max(1.0));
            let _ = write!(
                body,
                r#"<text x="180" y="{y}" text-anchor="end">{}</text><rect class="{class}" x="188" y="{}" width="{width:.1}" height="12" rx="2"/><text class="small" x="{:.1}" y="{y}">{}</text>"#,
                escaped(kind.name()),
                y - 10.0,
                194.0 + width,
                line.shown(Some(value)),
            );
        }
        y += 10.0;
    }
    document(y + 14.0, &body)
}

/// Charts, two side by side.
pub(crate) fn charts(curves: &[Curve]) -> String {
    let mut body = String::new();
    for (n, curve) in curves.iter().enumerate() {
        let (x, y) = ((n % 2) as f64 * CHART.0, (n / 2) as f64 * CHART.1);
        let _ = write!(body, r#"<g transform="translate({x},{y})">{}</g>"#, chart(curve));
    }
    document(curves.len().div_ceil(2) as f64 * CHART.1, &body)
}

fn chart(curve: &Curve) -> String {
    let (left, top, right, bottom) = INNER;
    let points = || curve.series.iter().flat_map(|(_, points)| points.iter());
    let (from, to) = points().fold((f64::MAX, f64::MIN), |(a, b), (x, _)| (a.min(*x), b.max(*x)));
    let most = points().map(|(_, y)| *y).fold(0.0, f64::max) * 1.1;
    // Logarithmic, if it spans orders of magnitude.
    let scale = |x: f64| if from > 0.0 && to / from > 20.0 { x.ln() } else { x };
    let across = |x: f64| {
        let share = (scale(x) - scale(from)) / (scale(to) - scale(from)).max(f64::MIN_POSITIVE);
        left + share * (right - left)
    };
    let up = |y: f64| bottom - y / most.max(f64::MIN_POSITIVE) * (bottom - top);
    let mut out = format!(
        r#"<text class="title" x="12" y="18">{}</text><path class="axis l" d="M{left},{top}V{bottom}H{right}"/>"#,
        escaped(&curve.title)
    );
    for share in [0.0, 0.5, 1.0] {
        let value = most / 1.1 * share;
        let y = up(value);
        let _ = write!(
            out,
            r#"<path class="axis" d="M{left},{y:.1}H{right}"/><text class="small" x="{}" y="{:.1}" text-anchor="end">{}</text>"#,
            left - 6.0,
            y + 4.0,
            short(value)
        );
    }
    let mut ticks: Vec<f64> = points().map(|(x, _)| *x).collect();
    ticks.sort_by(f64::total_cmp);
    ticks.dedup();
    let step = ticks.len().div_ceil(6).max(1);
    for x in ticks.iter().step_by(step) {
        let _ = write!(
            out,
            r#"<text class="small" x="{:.1}" y="{}" text-anchor="middle">{}</text>"#,
            across(*x),
            bottom + 15.0,
            short(*x)
        );
    }
    let _ = write!(
        out,
        r#"<text class="small" x="{right}" y="{}" text-anchor="end">{}</text>"#,
        bottom + 30.0,
        escaped(curve.across)
    );
    for (n, (name, points)) in curve.series.iter().enumerate() {
        let path: Vec<_> =
            points.iter().map(|(x, y)| format!("{:.1},{:.1}", across(*x), up(*y))).collect();
        let _ = write!(out, r#"<path class="l s{n}" d="M{}"/>"#, path.join("L"));
        for (x, y) in points {
            let _ = write!(
                out,
                r#"<circle class="f{n}" cx="{:.1}" cy="{:.1}" r="2.5"/>"#,
                across(*x),
                up(*y)
            );
        }
        let x = left + n as f64 * 105.0;
        let _ = write!(
            out,
            r#"<rect class="f{n}" x="{x}" y="{}" width="10" height="10" rx="2"/><text class="small" x="{}" y="{}">{}</text>"#,
            bottom + 36.0,
            x + 14.0,
            bottom + 45.0,
            escaped(name)
        );
    }
    out
}

fn document(height: f64, body: &str) -> String {
    format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}">{STYLE}<rect class="back" width="100%" height="100%"/>{body}</svg>"#
    )
}

fn short(value: f64) -> String {
    match value {
        big if big >= 1e6 => format!("{} M", trimmed(big / 1e6)),
        big if big >= 1e3 => format!("{} k", trimmed(big / 1e3)),
        small => trimmed(small),
    }
}

fn trimmed(value: f64) -> String {
    let digits = usize::from(value < 100.0) + usize::from(value < 10.0);
    let text = format!("{value:.digits$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_stays_inside_its_frame() {
        let curve = Curve {
            title: "a < b".into(),
            across: "receivers",
            unit: "µs",
            series: vec![
                ("Bun".into(), vec![(100.0, 1.0), (10_000.0, 2.0)]),
                ("Parlance".into(), vec![(100.0, 0.0)]),
            ],
            verdict: String::new(),
        };
        let text = charts(&[curve]);
        assert!(
            text.contains("a &lt; b") && !text.contains("NaN") && !text.contains("inf"),
            "{text}"
        );
        for part in text.split("cx=\"").skip(1) {
            let x: f64 = part.split('"').next().unwrap().parse().unwrap();
            assert!((INNER.0..=INNER.2).contains(&x), "{x}");
        }
        assert_eq!(text.matches("<circle").count(), 3);
    }

    #[test]
    fn numbers_are_short() {
        for (value, shown) in [
            (0.0, "0"),
            (0.5, "0.5"),
            (1.25, "1.25"),
            (100.0, "100"),
            (1_000.0, "1 k"),
            (2_500_000.0, "2.5 M"),
        ] {
            assert_eq!(short(value), shown);
        }
    }
}

//! Medians, ratios and targets as a table, for a terminal and as Markdown.

use crate::{
    contenders::Kind,
    rows::{Bound, Figure, Row, Target},
    stats::{median, median_ratio},
};

/// A column each, in this order.
pub(crate) const COLUMNS: [Kind; 6] =
    [Kind::Socketio, Kind::Nats, Kind::Floor, Kind::Bun, Kind::ParlanceMongo, Kind::Parlance];

/// One figure of one row: what each contender's runs gave.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) what: String,
    pub(crate) figure: Figure,
    pub(crate) values: Vec<(Kind, Vec<f64>)>,
}

/// A target and what was reached.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Verdict {
    pub(crate) reached: String,
    pub(crate) wanted: String,
    pub(crate) met: bool,
}

/// The lines of a row from the values of its runs.
pub(crate) fn lines(row: &Row, runs: &[(Kind, Vec<f64>)]) -> Vec<Line> {
    let of = |(n, figure): (usize, &Figure)| {
        let mut values: Vec<(Kind, Vec<f64>)> = vec![];
        for (kind, run) in runs {
            match values.iter_mut().find(|(known, _)| known == kind) {
                Some((_, values)) => values.push(run[n]),
                None => values.push((*kind, vec![run[n]])),
            }
        }
        let what = format!("{}: {}", row.what, figure.unit);
        Line { what, figure: *figure, values }
    };
    row.figures.iter().enumerate().map(of).collect()
}

impl Line {
    pub(crate) fn median(&self, kind: Kind) -> Option<f64> {
        self.values(kind).and_then(median)
    }

    pub(crate) fn verdicts(&self) -> Vec<Verdict> {
        self.figure.targets.iter().filter_map(|target| self.verdict(target)).collect()
    }

    /// Of the runs that stood side by side.
    pub(crate) fn ratio(&self, who: Kind, against: Kind) -> Option<f64> {
        median_ratio(self.values(who)?.iter().copied(), self.values(against)?.iter().copied())
    }

    /// How Parlance compares with what it replaces, unless a target says so.
    fn beside_the_replaced(&self) -> Option<String> {
        let named = self.figure.targets.iter().any(|target| match target.bound {
            Bound::Times(_, kind) | Bound::TimesMore(_, kind) => kind == Kind::Socketio,
            Bound::AtMost(_) => false,
        });
        let ratio = self.ratio(Kind::Parlance, Kind::Socketio)?;
        if named || !ratio.is_finite() || ratio <= 0.0 {
            return None;
        }
        let (times, word) = if ratio < 1.0 { (1.0 / ratio, "less") } else { (ratio, "more") };
        let digits = usize::from(times < 10.0);
        Some(format!("{times:.digits$} × {word} than {}", Kind::Socketio.name()))
    }

    fn values(&self, kind: Kind) -> Option<&[f64]> {
        self.values.iter().find(|(of, _)| *of == kind).map(|(_, values)| &**values)
    }

    fn verdict(&self, Target { who, bound }: &Target) -> Option<Verdict> {
        Some(match *bound {
            Bound::Times(most, kind) => {
                let ratio = self.ratio(*who, kind)?;
                let (reached, wanted) =
                    (format!("{ratio:.2} × {}", kind.name()), format!("≤ {most}"));
                Verdict { reached, wanted, met: ratio <= most }
            }
            Bound::TimesMore(least, kind) => {
                let ratio = self.ratio(*who, kind)?;
                let (reached, wanted) =
                    (format!("{ratio:.1} × {}", kind.name()), format!("≥ {least}"));
                Verdict { reached, wanted, met: ratio >= least }
            }
            Bound::AtMost(most) => {
                let value = self.median(*who)?;
                Verdict {
                    reached: self.shown(Some(value)),
                    wanted: format!("≤ {most}"),
                    met: value <= most,
                }
            }
        })
    }

    pub(crate) fn shown(&self, value: Option<f64>) -> String {
        value.map_or_else(|| "–".to_owned(), |value| grouped(value, self.figure.digits))
    }

    fn cells(&self) -> Vec<String> {
        let mut cells = vec![self.what.clone()];
        cells.extend(COLUMNS.iter().map(|kind| self.shown(self.median(*kind))));
        let verdicts = self.verdicts();
        let said = |it: &Verdict| {
            format!("{} ({}){}", it.reached, it.wanted, if it.met { "" } else { " MISSED" })
        };
        let said = verdicts.iter().map(said).chain(self.beside_the_replaced());
        cells.push(said.collect::<Vec<_>>().join("; "));
        cells
    }
}

/// Aligned for a terminal.
pub(crate) fn plain(lines: &[Line]) -> String {
    let rows = rows(lines);
    let width =
        |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<_> = (0..COLUMNS.len() + 2).map(width).collect();
    let line = |row: &Vec<String>| {
        let cell = |(n, cell): (usize, &String)| {
            let pad = " ".repeat(widths[n] - cell.chars().count());
            // Texts to the left, numbers to the right.
            if n == 0 || n > COLUMNS.len() {
                format!("{cell}{pad}")
            } else {
                format!("{pad}{cell}")
            }
        };
        row.iter().enumerate().map(cell).collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

pub(crate) fn markdown(lines: &[Line]) -> String {
    let row = |cells: &Vec<String>| format!("| {} |", cells.join(" | "));
    let mut rows = rows(lines).iter().map(row).collect::<Vec<_>>();
    rows.insert(1, format!("|---|{}---|", "---:|".repeat(COLUMNS.len())));
    rows.join("\n")
}

fn rows(lines: &[Line]) -> Vec<Vec<String>> {
    let mut head = vec!["median of each".to_owned()];
    head.extend(COLUMNS.iter().map(|kind| kind.name().to_owned()));
    head.push("reached (wanted)".to_owned());
    std::iter::once(head).chain(lines.iter().map(Line::cells)).collect()
}

/// With a comma for each thousand.
fn grouped(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$}");
    let (whole, fraction) = text.split_once('.').map_or((&*text, None), |(a, b)| (a, Some(b)));
    let mut grouped = String::new();
    for (n, digit) in whole.chars().enumerate() {
        if n > 0 && (whole.len() - n).is_multiple_of(3) && whole.chars().all(|c| c.is_ascii_digit())
        {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    fraction.map_or_else(|| grouped.clone(), |fraction| format!("{grouped}.{fraction}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::ROWS;

    fn row(name: &str) -> &'static Row {
        ROWS.iter().find(|row| row.name == name).unwrap()
    }

    /// `make bench` writes the table; the README is to show that one.
    #[test]
    fn the_readme_shows_the_last_table() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let read = |path: &str| std::fs::read_to_string(root.join(path)).unwrap();
        let (readme, table) = (read("../../README.md"), read("results/rows.md"));
        assert!(table.lines().count() > 10, "{table}");
        assert!(readme.contains(table.trim_end()), "copy results/rows.md into the README");
    }

    #[test]
    fn ratios_are_of_runs_that_stood_beside_each_other() {
        let runs = [
            (Kind::Bun, vec![1.0]),
            (Kind::Parlance, vec![1.2]),
            // Here something else took the machine from both.
            (Kind::Bun, vec![4.0]),
            (Kind::Parlance, vec![4.4]),
            (Kind::Bun, vec![1.0]),
            (Kind::Parlance, vec![0.9]),
        ];
        let [line] = &*lines(row("fan-1000x16"), &runs) else { panic!("one figure, one line") };
        assert_eq!(line.median(Kind::Bun), Some(1.0));
        assert!((line.ratio(Kind::Parlance, Kind::Bun).unwrap() - 1.1).abs() < 1e-9);
        assert_eq!(line.median(Kind::Floor), None);
    }

    #[test]
    fn a_target_is_met_or_missed() {
        let met = |name: &str, runs: &[(Kind, Vec<f64>)]| {
            let all = lines(row(name), runs).iter().flat_map(Line::verdicts).collect::<Vec<_>>();
            all.iter().map(|it| it.met).collect::<Vec<_>>()
        };
        let fan = |ours| [(Kind::Bun, vec![1.0]), (Kind::Parlance, vec![ours])];
        assert_eq!(met("fan-1000x8", &fan(1.0)), [true]);
        assert_eq!(met("fan-1000x8", &fan(1.01)), [false]);
        assert_eq!(met("idle", &[(Kind::Parlance, vec![8.1])]), [false]);
        let acks = [
            (Kind::Socketio, vec![1_000.0]),
            (Kind::ParlanceMongo, vec![3_999.0]),
            (Kind::Parlance, vec![10_000.0]),
        ];
        assert_eq!(met("acks", &acks), [true, false]);
        assert_eq!(
            met("fan-1000x8", &[(Kind::Parlance, vec![1.0])]),
            [false; 0],
            "nothing to compare with"
        );
    }

    /// A figure's last cell.
    fn said(name: &str, figure: usize, runs: &[(Kind, Vec<f64>)]) -> String {
        lines(row(name), runs)[figure].cells().pop().unwrap()
    }

    #[test]
    fn what_is_replaced_is_beside_every_figure() {
        let beside = |theirs: f64, ours: f64| {
            let runs = [(Kind::Socketio, vec![1.0, theirs]), (Kind::Parlance, vec![10.0, ours])];
            said("history", 1, &runs)
        };
        assert_eq!(beside(100.0, 5.0), "20 × less than Socket.IO stack");
        assert_eq!(beside(10.0, 4.0), "2.5 × less than Socket.IO stack");
        assert_eq!(beside(10.0, 15.0), "1.5 × more than Socket.IO stack");
        assert_eq!(beside(0.0, 15.0), "", "not measured");
        let runs = [(Kind::Socketio, vec![32.0]), (Kind::Parlance, vec![6.4])];
        assert_eq!(said("idle", 0, &runs), "6.4 (≤ 8); 5.0 × less than Socket.IO stack");
        let runs = [(Kind::Socketio, vec![100.0]), (Kind::Parlance, vec![2_000.0])];
        assert_eq!(said("acks", 0, &runs), "20.0 × Socket.IO stack (≥ 10)", "once is enough");
    }

    #[test]
    fn a_table_has_a_cell_for_each_contender() {
        let runs = [(Kind::Bun, vec![83.4]), (Kind::Parlance, vec![1_234.6])];
        let text = markdown(&lines(row("connect"), &runs));
        let cells: Vec<_> = text.lines().map(|line| line.matches('|').count()).collect();
        assert_eq!(cells, [COLUMNS.len() + 3; 3]);
        assert!(
            text.contains("| 83 |") && text.contains("| 1,235 |") && text.contains("MISSED"),
            "{text}"
        );
        let plain = plain(&lines(row("connect"), &runs));
        assert_eq!(plain.lines().count(), 2, "{plain}");
    }

    #[test]
    fn thousands_are_grouped() {
        for (value, digits, shown) in [
            (999.0, 0, "999"),
            (1_000.0, 0, "1,000"),
            (1_234_567.25, 2, "1,234,567.25"),
            (-1.5, 1, "-1.5"),
        ] {
            assert_eq!(grouped(value, digits), shown);
        }
    }
}

//! Medians, ratios and targets as a table, for a terminal and as Markdown.

use crate::{
    contenders::Kind,
    rows::{Bound, Figure, Row, Target},
    stats::median,
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

/// A target beside what was reached.
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
        self.values.iter().find(|(of, _)| *of == kind).and_then(|(_, values)| median(values))
    }

    pub(crate) fn verdicts(&self) -> Vec<Verdict> {
        self.figure.targets.iter().filter_map(|target| self.verdict(target)).collect()
    }

    /// Of paired runs the median of their ratios, so that what slows both down does not count.
    pub(crate) fn ratio(&self, who: Kind, against: Kind) -> Option<f64> {
        let of = |kind| self.values.iter().find(|(of, _)| *of == kind).map(|(_, values)| values);
        let ratios: Vec<_> = of(who)?.iter().zip(of(against)?).map(|(a, b)| a / b).collect();
        median(&ratios)
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

    fn shown(&self, value: Option<f64>) -> String {
        value.map_or_else(|| "–".to_owned(), |value| grouped(value, self.figure.digits))
    }

    fn cells(&self) -> Vec<String> {
        let mut cells = vec![self.what.clone()];
        cells.extend(COLUMNS.iter().map(|kind| self.shown(self.median(*kind))));
        let verdicts = self.verdicts();
        let said = |it: &Verdict| {
            format!("{} ({}){}", it.reached, it.wanted, if it.met { "" } else { " MISSED" })
        };
        cells.push(verdicts.iter().map(said).collect::<Vec<_>>().join("; "));
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

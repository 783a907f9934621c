//! The few runs that guard every change: beside Bun in the same minutes, sends beside the disk's syncs, so that a slow
//! machine is slow for all.
//!
//! Only gross regressions fail, and only twice in a row: neighbours on a shared machine come and go. And the server is
//! the tests' own build, hardly optimised and with its assertions: an optimised build takes longer than all that is
//! measured here.

use std::{fs::File, io::Write as _, time::Duration};

use anyhow::{Result, bail};

use crate::{
    clock,
    contenders::{Kind, Places, home},
    measure,
    report::{result, say},
    rows::{Load, ROWS, Row, Sizes},
    table::{self, Line},
};

/// The worst that a row may show.
struct Gate {
    row: &'static str,
    load: Load,
    seconds: f64,
    runs: usize,
    contenders: &'static [Kind],
    /// For each figure: this many times as much as this contender, plus this much.
    limits: &'static [(f64, Kind, f64)],
}

const GATES: [Gate; 4] = [
    Gate {
        row: "fan-1000x8",
        load: Load::InFlight { receivers: 500, sends: 8 },
        seconds: 1.0,
        runs: 3,
        contenders: &[Kind::Bun, Kind::Parlance],
        limits: &[(2.5, Kind::Bun, 0.0)],
    },
    Gate {
        row: "paced",
        load: Load::Paced { receivers: 100, per_second: 100 },
        seconds: 2.0,
        runs: 3,
        contenders: &[Kind::Bun, Kind::Parlance],
        // On a quiet machine Bun's CPU time is less than half of that on a busy one; a commit's is not. On a busy
        // machine the median latency says little and the tail nothing: every message waits for a disk that is shared,
        // too.
        limits: &[(4.0, Kind::Bun, 6.0), (4.0, Kind::Bun, 20.0), (4.0, Kind::Bun, 80.0)],
    },
    Gate {
        row: "idle",
        load: Load::Idle { connections: 2_000 },
        seconds: 1.0,
        runs: 1,
        contenders: &[Kind::Bun, Kind::Parlance],
        limits: &[(2.0, Kind::Bun, 10.0)],
    },
    Gate {
        row: "connect",
        load: Load::Connect { connections: 1_500 },
        seconds: 1.0,
        runs: 1,
        contenders: &[Kind::Bun, Kind::Parlance],
        // A connection costs Bun a few microseconds: the added part is the limit.
        limits: &[(10.0, Kind::Bun, 800.0)],
    },
];

/// Sends are committed and synced together: more of them are acknowledged in a second than this disk syncs.
const ACKS_PER_SYNC: f64 = 2.0;
/// But this many are enough: if a sync is nearly free, a send's own CPU time limits them.
const ENOUGH_ACKS: f64 = 5_000.0;

pub(crate) fn run(places: &Places) -> Result<()> {
    let begin = clock::now();
    let sizes = Sizes::default();
    let frame_bytes = measure::frame_bytes(&sizes, places)?;
    let (mut lines, mut broken) = (vec![], vec![]);
    for gate in &GATES {
        let (measured, found) = twice(|| gate.pass(frame_bytes, places))?;
        lines.extend(measured);
        broken.extend(found);
    }
    let ((), found) = twice(|| Ok(((), acks(frame_bytes, places)?)))?;
    broken.extend(found);
    result(&table::plain(&lines));
    say(&format!("took {:.0} s", begin.elapsed().as_secs_f64()));
    if !broken.is_empty() {
        bail!("much slower than it should be, twice in a row:\n{}", broken.join("\n"));
    }
    Ok(())
}

/// Retries what did not pass.
fn twice<T>(measure: impl Fn() -> Result<(T, Vec<String>)>) -> Result<(T, Vec<String>)> {
    let first = measure()?;
    if first.1.is_empty() {
        return Ok(first);
    }
    say(&format!("once more: {}", first.1.join("; ")));
    measure()
}

impl Gate {
    /// The lines of the table, and which of them are beyond their limits.
    fn pass(&self, frame_bytes: usize, places: &Places) -> Result<(Vec<Line>, Vec<String>)> {
        let found = ROWS.iter().find(|row| row.name == self.row).copied();
        let Some(row) = found else { bail!("no row {}", self.row) };
        let row = Row { load: self.load, contenders: self.contenders, what: "", ..row };
        let sizes = Sizes { seconds: self.seconds, warm_up: 0.5, ..Sizes::default() };
        let mut runs = vec![];
        for _ in 0..self.runs {
            for kind in self.contenders {
                say(&format!("{}, {}", row.name, kind.name()));
                runs.push((*kind, row.measure(*kind, &sizes, frame_bytes, places)?));
            }
        }
        let mut lines = table::lines(&row, &runs);
        for line in &mut lines {
            line.what = format!("{}: {}", self.row, line.figure.unit);
            line.figure.targets = &[];
        }
        let broken = lines.iter().zip(self.limits).filter_map(|(line, limit)| beyond(line, *limit));
        let broken = broken.collect();
        Ok((lines, broken))
    }
}

fn beyond(line: &Line, (times, against, more): (f64, Kind, f64)) -> Option<String> {
    let (Some(ours), Some(theirs)) = (line.median(Kind::Parlance), line.median(against)) else {
        return Some(format!("{} was not measured", line.what));
    };
    let limit = times * theirs + more;
    // Not a number, or nothing at all, means not measured: that is no pass.
    let passes = ours.is_finite() && ours > 0.0 && limit.is_finite() && ours <= limit;
    (!passes).then(|| {
        let name = against.name();
        format!("{}: {ours:.2}, and {limit:.2} is {times} × {name} + {more}", line.what)
    })
}

fn acks(frame_bytes: usize, places: &Places) -> Result<Vec<String>> {
    let Some(row) = ROWS.iter().find(|row| row.name == "acks") else { bail!("no row acks") };
    let sizes = Sizes { seconds: 2.0, warm_up: 0.5, ..Sizes::default() };
    let syncs = synced_per_second(places)?;
    let acks = row.measure(Kind::Parlance, &sizes, frame_bytes, places)?[0];
    say(&format!("{acks:.0} acknowledged per second, {syncs:.0} syncs of this disk"));
    Ok(few(acks, syncs).into_iter().collect())
}

fn few(acks: f64, syncs: f64) -> Option<String> {
    let enough = acks >= (ACKS_PER_SYNC * syncs).min(ENOUGH_ACKS);
    (!enough).then(|| format!("{acks:.0} acknowledged per second; the disk syncs {syncs:.0}"))
}

/// How often a block can be appended to a file and synced, where the stores of the runs are.
fn synced_per_second(places: &Places) -> Result<f64> {
    let home = home(&places.target)?;
    let mut file = File::create(home.path().join("log"))?;
    let (begin, mut synced) = (clock::now(), 0);
    while begin.elapsed() < Duration::from_secs(1) {
        file.write_all(&[7; 4096])?;
        file.sync_data()?;
        synced += 1;
    }
    Ok(f64::from(synced) / begin.elapsed().as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::Figure;

    #[test]
    fn a_limit_is_a_multiple_and_a_rest() {
        assert_eq!(beyond(&line(2.0, 7.0), (3.0, Kind::Bun, 1.0)), None);
        assert!(beyond(&line(2.0, 7.1), (3.0, Kind::Bun, 1.0)).unwrap().contains("7.10"));
    }

    #[test]
    fn what_was_not_measured_is_no_pass() {
        assert!(beyond(&line(2.0, 1.0), (3.0, Kind::Floor, 1.0)).is_some());
        for (theirs, ours) in [
            (2.0, f64::NAN),
            (2.0, f64::INFINITY),
            (2.0, 0.0),
            (2.0, -1.0),
            (f64::NAN, 1.0),
            (f64::INFINITY, 1.0),
        ] {
            let found = beyond(&line(theirs, ours), (3.0, Kind::Bun, 1.0));
            assert!(found.is_some(), "{ours} beside {theirs}");
        }
    }

    fn line(theirs: f64, ours: f64) -> Line {
        Line {
            what: "x".into(),
            figure: Figure { unit: "ms", digits: 1, targets: &[] },
            values: vec![(Kind::Bun, vec![theirs]), (Kind::Parlance, vec![ours])],
        }
    }

    #[test]
    fn few_acknowledgements_are_few_beside_the_syncs_of_a_disk_that_takes_its_time() {
        for (acks, syncs, is_few) in [
            (1_999.0, 1_000.0, true),
            (2_000.0, 1_000.0, false),
            (4_999.0, 500_000.0, true),
            (5_000.0, 500_000.0, false),
            (f64::NAN, 1_000.0, true),
        ] {
            assert_eq!(few(acks, syncs).is_some(), is_few, "{acks} with {syncs}");
        }
    }

    #[test]
    fn every_gate_has_a_row_and_a_limit_for_each_of_its_figures() {
        for gate in &GATES {
            let row = ROWS.iter().find(|row| row.name == gate.row).unwrap();
            assert_eq!(row.figures.len(), gate.limits.len(), "{}", gate.row);
            assert!(gate.contenders.contains(&Kind::Parlance), "{}", gate.row);
        }
    }
}

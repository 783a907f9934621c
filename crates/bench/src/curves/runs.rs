//! Points that are measured several times, in turns.

use anyhow::Result;

use crate::stats::{median, median_ratio};

/// What each run gave for each point. A point is an x, and the series that it is of.
pub(super) struct Runs<S> {
    points: Vec<(usize, S)>,
    /// One for each run, with a value for each point.
    values: Vec<Vec<f64>>,
}

impl<S: Copy + PartialEq> Runs<S> {
    /// Every point once in each run, so that a slow minute is slow for all of them.
    pub(super) fn in_turns(
        runs: usize,
        points: Vec<(usize, S)>,
        measure: impl Fn(usize, S) -> Result<f64>,
    ) -> Result<Self> {
        let run = |points: &[(usize, S)]| points.iter().map(|(x, of)| measure(*x, *of)).collect();
        Self::whole(runs, points, run)
    }

    /// The same where a run measures its points in one go.
    pub(super) fn whole(
        runs: usize,
        points: Vec<(usize, S)>,
        measure: impl Fn(&[(usize, S)]) -> Result<Vec<f64>>,
    ) -> Result<Self> {
        let values = (0..runs).map(|_| measure(&points)).collect::<Result<_>>()?;
        Ok(Self { points, values })
    }

    /// The medians of a series.
    pub(super) fn series(&self, of: S) -> Vec<(f64, f64)> {
        let value = |(n, (x, series)): (usize, &(usize, S))| {
            let median = median(&self.of_point(n).collect::<Vec<_>>()).unwrap_or(f64::NAN);
            (*series == of).then_some((*x as f64, median))
        };
        self.points.iter().enumerate().filter_map(value).collect()
    }

    /// The last point relative to the first, in the same run.
    pub(super) fn last_to_first(&self) -> f64 {
        let last = self.points.len().saturating_sub(1);
        median_ratio(self.of_point(last), self.of_point(0)).unwrap_or(f64::NAN)
    }

    /// What the runs gave for a point.
    fn of_point(&self, n: usize) -> impl Iterator<Item = f64> {
        self.values.iter().filter_map(move |run| run.get(n).copied())
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn points_take_turns_and_a_series_is_of_medians() {
        let asked = RefCell::new(vec![]);
        let measure = |x: usize, of: char| {
            let mut asked = asked.borrow_mut();
            asked.push((x, of));
            // What came before makes the second run slow.
            Ok(x as f64 * if (4..8).contains(&(asked.len() - 1)) { 9.0 } else { 1.0 })
        };
        let points = vec![(1, 'a'), (1, 'b'), (2, 'a'), (2, 'b')];
        let runs = Runs::in_turns(3, points.clone(), measure).unwrap();
        assert_eq!(runs.series('a'), [(1.0, 1.0), (2.0, 2.0)]);
        assert!((runs.last_to_first() - 2.0).abs() < 1e-9);
        assert_eq!(*asked.borrow(), points.repeat(3));
    }
}

//! Medians, and percentiles of many latencies in little memory.

use std::time::Duration;

/// Counts by the hundredth of a millisecond, up to ten seconds.
#[derive(Debug, Default, Clone)]
pub(crate) struct Histogram {
    counts: Vec<u64>,
    total: u64,
}

const STEP: Duration = Duration::from_micros(10);
const STEPS: usize = 1_000_000;

impl Histogram {
    pub(crate) fn add(&mut self, value: Duration) {
        let step = usize::try_from(value.as_nanos() / STEP.as_nanos()).unwrap_or(STEPS).min(STEPS);
        if self.counts.len() <= step {
            self.counts.resize(step + 1, 0);
        }
        self.counts[step] += 1;
        self.total += 1;
    }

    /// The value that this share of all (0–1) does not exceed, in milliseconds; `None` if there are none.
    pub(crate) fn percentile(&self, share: f64) -> Option<f64> {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "0 ≤ share ≤ 1"
        )]
        let rank = ((self.total as f64 * share).ceil() as u64).max(1);
        let mut before = 0;
        for (step, count) in self.counts.iter().enumerate() {
            before += count;
            if before >= rank {
                return Some((step + 1) as f64 * STEP.as_secs_f64() * 1_000.0);
            }
        }
        None
    }
}

/// The middle one, or between the middle two; `None` if there are none.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(sorted[middle]),
        _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
    }
}

/// The median of the ratios of values measured side by side, so that what slows both down does not count.
pub(crate) fn median_ratio(
    of: impl IntoIterator<Item = f64>,
    to: impl IntoIterator<Item = f64>,
) -> Option<f64> {
    let ratios: Vec<_> = of.into_iter().zip(to).map(|(a, b)| a / b).collect();
    median(&ratios)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[7.0]), Some(7.0));
        assert_eq!(median(&[9.0, 1.0, 5.0]), Some(5.0));
        assert_eq!(median(&[9.0, 1.0, 5.0, 6.0]), Some(5.5));
    }

    #[test]
    fn ratios_are_of_neighbours() {
        // What took the machine from both in the second run shows in neither ratio.
        assert_eq!(median_ratio([2.0, 20.0, 3.0], [1.0, 10.0, 1.0]), Some(2.0));
        assert_eq!(median_ratio([2.0], []), None);
    }

    #[test]
    fn percentiles_count_from_below() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.percentile(0.5), None);
        for milliseconds in 1..=100 {
            histogram.add(Duration::from_micros(milliseconds * 1_000 - 5));
        }
        let near = |share: f64, expected: f64| {
            let found = histogram.percentile(share).unwrap();
            assert!((found - expected).abs() < 1e-9, "{share}: {found}");
        };
        near(0.5, 50.0);
        near(0.99, 99.0);
        near(1.0, 100.0);
        near(0.0, 1.0);
    }

    #[test]
    fn what_took_for_ever_is_counted_too() {
        let mut histogram = Histogram::default();
        histogram.add(Duration::from_hours(1));
        assert!(histogram.percentile(0.5).unwrap() >= 10_000.0);
    }
}

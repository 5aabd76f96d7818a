//! Several runs of one program: the median, and how far apart they lie.

use std::fmt;

/// The seconds of several runs, at least one.
#[derive(Clone, Debug, Default)]
pub(super) struct Spread(Vec<f64>);

impl Spread {
    pub(super) fn push(&mut self, seconds: f64) {
        let place = self.0.partition_point(|other| *other < seconds);
        self.0.insert(place, seconds);
    }

    /// The middle run, or the mean of the two in the middle; NaN without runs.
    pub(super) fn median(&self) -> f64 {
        let runs = &self.0;
        let (low, high) = (runs.len().saturating_sub(1) / 2, runs.len() / 2);
        match (runs.get(low), runs.get(high)) {
            (Some(low), Some(high)) => (low + high) / 2.0,
            _ => f64::NAN,
        }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0.first(), self.0.last()) {
            (Some(least), Some(most)) => write!(f, "{}-{}", seconds(*least), seconds(*most)),
            _ => f.write_str("no run"),
        }
    }
}

/// Three digits at least.
pub(super) fn seconds(value: f64) -> String {
    let digits = if value >= 10.0 {
        1
    } else if value >= 0.1 {
        3
    } else {
        5
    };
    format!("{value:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_ends() {
        let check = |runs: &[f64], median: f64, shown: &str| {
            let mut spread = Spread::default();
            runs.iter().for_each(|run| spread.push(*run));
            assert_eq!((spread.median(), spread.to_string()), (median, shown.to_owned()));
        };
        check(&[3.0, 1.0, 2.0], 2.0, "1.000-3.000");
        check(&[12.0, 0.25], 6.125, "0.250-12.0");
        check(&[0.0125], 0.0125, "0.01250-0.01250");
        assert!(Spread::default().median().is_nan());
    }
}

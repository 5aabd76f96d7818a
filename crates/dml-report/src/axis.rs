//! The numbers beside a chart.

/// Round values that cover a range.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Ticks {
    pub(crate) values: Vec<f64>,
    decimals: usize,
}

impl Ticks {
    /// About `count` round values: the first at or below `low` and the last at or above `high` where `outside`, otherwise
    /// those between.
    pub(crate) fn new(low: f64, high: f64, count: usize, outside: bool) -> Self {
        let span = if high > low { high - low } else { 1.0 };
        let rough = span / count.max(1) as f64;
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 2.5, 5.0, 10.0].map(|m| m * power).into_iter().find(|&s| s >= rough * 0.999);
        let step = step.unwrap_or(10.0 * power);
        let tolerance = 1e-6;
        let (first, last) = match outside {
            true => ((low / step + tolerance).floor(), ((low + span) / step - tolerance).ceil()),
            false => ((low / step - tolerance).ceil(), ((low + span) / step + tolerance).floor()),
        };
        let values = (0..=(last - first).max(0.0) as usize).map(|i| (first + i as f64) * step).collect();
        let decimals = (0..6).find(|&d| is_whole(step * 10f64.powi(d as i32))).unwrap_or(6);
        Self { values, decimals }
    }

    pub(crate) fn label(&self, value: f64) -> String {
        // Not "-0".
        format!("{:.*}", self.decimals, value + 0.0)
    }
}

fn is_whole(value: f64) -> bool {
    (value - value.round()).abs() < 1e-6 * value.abs().max(1.0)
}

/// About how wide text is at this size in pixels: of a usual sans-serif, on the wide side.
pub(crate) fn text_width(text: &str, size: f64) -> f64 {
    text.chars().count() as f64 * size * 0.56
}

/// A coordinate with one decimal: finer than any screen, and short.
pub(crate) fn at(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map(String::from).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round() {
        let check = |low, high, outside, expected: &[&str]| {
            let ticks = Ticks::new(low, high, 4, outside);
            let labels: Vec<String> = ticks.values.iter().map(|&value| ticks.label(value)).collect();
            assert_eq!(labels, expected, "{low} to {high}");
        };
        check(0.0, 100.0, true, &["0", "25", "50", "75", "100"]);
        check(43.2, 61.0, true, &["40", "45", "50", "55", "60", "65"]);
        check(0.0, 18.0, false, &["0", "5", "10", "15"]);
        check(0.0, 1.0, false, &["0.00", "0.25", "0.50", "0.75", "1.00"]);
        check(5.0, 5.0, true, &["5.00", "5.25", "5.50", "5.75", "6.00"]);
        check(-0.3, 0.3, true, &["-0.4", "-0.2", "0.0", "0.2", "0.4"]);
    }
}

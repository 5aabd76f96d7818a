//! Checks shared by the measures; each error names the argument it is about.

use crate::{MetricError, Result};

/// Refuses NaN. Infinities are ordered like any other value and may pass.
pub(crate) fn no_nan(argument: &'static str, values: &[f32]) -> Result<()> {
    match values.iter().position(|value| value.is_nan()) {
        Some(index) => Err(MetricError::NotANumber { argument, index }),
        None => Ok(()),
    }
}

pub(crate) fn length(
    argument: &'static str,
    actual: usize,
    expected: usize,
    reason: &'static str,
) -> Result<()> {
    if actual == expected { Ok(()) } else { Err(MetricError::Length { argument, expected, actual, reason }) }
}

/// Checks a row-major (n, k) matrix of scores without NaN and returns n, which is at least 1.
pub(crate) fn rows(argument: &'static str, values: &[f32], k: usize) -> Result<usize> {
    if k == 0 {
        return Err(invalid("k", "there must be at least one class".to_owned()));
    }
    if values.is_empty() {
        return Err(MetricError::Empty { argument });
    }
    if !values.len().is_multiple_of(k) {
        return Err(invalid(argument, format!("{} values are no whole number of rows of {k}", values.len())));
    }
    no_nan(argument, values)?;
    Ok(values.len() / k)
}

/// Checks that every label is below `k`.
pub(crate) fn labels(labels: &[u32], k: usize) -> Result<()> {
    match labels.iter().position(|&label| label as usize >= k) {
        Some(at) => Err(invalid("labels", format!("label {} at position {at}, of {k} classes", labels[at]))),
        None => Ok(()),
    }
}

/// Checks that every flag is 1 (positive), 0 (difficult) or -1 (negative).
pub(crate) fn flags(flags: &[i8]) -> Result<()> {
    match flags.iter().position(|flag| !(-1..=1).contains(flag)) {
        Some(at) => Err(invalid("flags", format!("{} at position {at} is none of 1, 0, -1", flags[at]))),
        None => Ok(()),
    }
}

pub(crate) fn invalid(argument: &'static str, problem: String) -> MetricError {
    MetricError::Invalid { argument, problem }
}

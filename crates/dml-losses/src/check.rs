//! Checks of arguments. Those of a tensor's values are made on the CPU only: a look at values on a GPU waits for all that
//! the GPU has still to do, in every step. They look at labels, targets and recorded responses only, never at a prediction: a network that diverges must show as a NaN
//! loss, which the caller handles, not as a wrong argument.

use candle_core::{DType, Tensor};

use crate::{LossError, Result};

/// How far a row of probabilities may sum from 1: wide enough for half-precision storage of hundreds of classes, narrow
/// enough to tell logits or multi-hot flags from probabilities.
const SUM_TOLERANCE: f64 = 1e-3;

/// The two sizes of a non-empty floating-point matrix.
pub(crate) fn matrix(argument: &'static str, x: &Tensor) -> Result<(usize, usize)> {
    float(argument, x)?;
    match *x.dims() {
        [n, k] if n > 0 && k > 0 => Ok((n, k)),
        _ => Err(shape(argument, "(n, k) with n and k at least 1", x)),
    }
}

/// The matrix `x` has so many columns.
pub(crate) fn columns(argument: &'static str, x: &Tensor, columns: usize) -> Result<()> {
    match x.dims() {
        [_, k] if *k == columns => Ok(()),
        _ => Err(shape(argument, format!("(n, {columns})"), x)),
    }
}

/// `x` is like the matrix `reference` in shape and element type.
pub(crate) fn like(
    argument: &'static str,
    x: &Tensor,
    other: &'static str,
    reference: &Tensor,
) -> Result<()> {
    if x.dims() != reference.dims() {
        return Err(shape(argument, format!("that of `{other}`, {:?}", reference.dims()), x));
    }
    same_dtype(argument, x, other, reference)
}

/// `x` is a floating-point scalar.
pub(crate) fn scalar(argument: &'static str, x: &Tensor) -> Result<()> {
    float(argument, x)?;
    if x.rank() == 0 { Ok(()) } else { Err(shape(argument, "a scalar", x)) }
}

pub(crate) fn same_dtype(
    argument: &'static str,
    x: &Tensor,
    other: &'static str,
    reference: &Tensor,
) -> Result<()> {
    if x.dtype() == reference.dtype() {
        return Ok(());
    }
    let expected = format!("that of `{other}`, {:?}", reference.dtype());
    Err(LossError::DType { argument, expected, got: x.dtype() })
}

/// `labels` are n class numbers below k.
pub(crate) fn labels(labels: &Tensor, n: usize, k: usize) -> Result<()> {
    let argument = "labels";
    if labels.dtype() != DType::U32 {
        return Err(LossError::DType { argument, expected: "U32".into(), got: labels.dtype() });
    }
    if labels.dims() != [n] {
        return Err(shape(argument, format!("({n}), one label for each row of `logits`"), labels));
    }
    if !labels.device().is_cpu() {
        return Ok(());
    }
    let values = labels.to_vec1::<u32>()?;
    match values.iter().position(|&label| label as usize >= k) {
        None => Ok(()),
        Some(row) => {
            let problem = format!("label {} is not below the number of classes, {k}", values[row]);
            Err(LossError::Row { argument, row, problem })
        }
    }
}

/// Each row of `x` is a probability distribution.
pub(crate) fn distributions(argument: &'static str, x: &Tensor) -> Result<()> {
    rows(argument, x, |row| {
        if let Some(value) = row.iter().find(|value| !(value.is_finite() && **value >= 0.0)) {
            return Some(format!("{value} is not a probability"));
        }
        let sum: f64 = row.iter().sum();
        let fits = (sum - 1.0).abs() <= SUM_TOLERANCE;
        (!fits).then(|| format!("the probabilities sum to {sum:.6}, not to 1"))
    })
}

/// Each value of `x` lies in [0, 1].
pub(crate) fn unit_interval(argument: &'static str, x: &Tensor) -> Result<()> {
    rows(argument, x, |row| {
        let outside = row.iter().find(|value| !(0.0..=1.0).contains(*value));
        outside.map(|value| format!("{value} lies outside [0, 1]"))
    })
}

/// Each row of `x` holds zeros and at least one one, nothing else.
pub(crate) fn multi_hot(argument: &'static str, x: &Tensor) -> Result<()> {
    rows(argument, x, |row| {
        if let Some(value) = row.iter().find(|value| **value != 0.0 && **value != 1.0) {
            return Some(format!("{value} is neither 0 nor 1"));
        }
        row.iter().all(|&value| value == 0.0).then(|| "no class is set, so there is no distribution".into())
    })
}

/// `value` is finite and above zero.
pub(crate) fn positive(argument: &'static str, value: f64) -> Result<()> {
    if value.is_finite() && value > 0.0 {
        return Ok(());
    }
    Err(LossError::Range { argument, expected: "finite and above 0", got: value })
}

fn rows(argument: &'static str, x: &Tensor, problem: impl Fn(&[f64]) -> Option<String>) -> Result<()> {
    if !x.device().is_cpu() {
        return Ok(());
    }
    let (_, k) = x.dims2()?;
    let values = x.detach().to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
    for (row, values) in values.chunks_exact(k).enumerate() {
        if let Some(problem) = problem(values) {
            return Err(LossError::Row { argument, row, problem });
        }
    }
    Ok(())
}

fn float(argument: &'static str, x: &Tensor) -> Result<()> {
    match x.dtype() {
        DType::F32 | DType::F64 => Ok(()),
        got => Err(LossError::DType { argument, expected: "F32 or F64".into(), got }),
    }
}

fn shape(argument: &'static str, expected: impl Into<String>, x: &Tensor) -> LossError {
    LossError::Shape { argument, expected: expected.into(), got: x.dims().to_vec() }
}

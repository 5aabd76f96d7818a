//! The two differentiable functions that the losses are made of.

use candle_core::Tensor;

use crate::{Result, check};

/// Logarithm of the softmax of each row, exact for logits of any finite size.
///
/// Use this for training: candle's `softmax_last_dim` has no gradient.
///
/// # Shapes
/// `logits` (n, k), f32 or f64 → (n, k).
///
/// # Errors
/// If `logits` has another shape or element type, or is empty.
pub fn log_softmax(logits: &Tensor) -> Result<Tensor> {
    check::matrix("logits", logits)?;
    Ok(dml_ops::log_softmax(logits)?)
}

/// Each row divided by its Euclidean norm. The zero vector, or one whose components are all below 10⁻¹² in size, becomes
/// the zero vector and gets a zero gradient.
///
/// # Shapes
/// `x` (n, d), f32 or f64 → (n, d).
///
/// # Errors
/// If `x` has another shape or element type, or is empty.
pub fn l2_normalize(x: &Tensor) -> Result<Tensor> {
    check::matrix("x", x)?;
    Ok(dml_ops::l2_normalize(x)?)
}

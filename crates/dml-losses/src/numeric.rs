//! The two differentiable functions that the losses are made of.

use candle_core::Tensor;

use crate::{Result, check};

/// A row whose largest component is below this has no direction. It bounds the gradient too, at about its inverse.
const SMALLEST: f64 = 1e-12;

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
    // The maximum shifts the row and cancels, so its gradient is zero. candle's own would give each of several equal
    // maxima the whole of it, which cancels only up to rounding.
    let shifted = logits.broadcast_sub(&logits.detach().max_keepdim(1)?)?;
    // The maximum contributes exp(0), so the sum is at least 1 and its logarithm is finite.
    let log_sum = shifted.exp()?.sum_keepdim(1)?.log()?;
    Ok(shifted.broadcast_sub(&log_sum)?)
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
    // Scaled to a largest component of 1, no square overflows. The scale cancels, so it may be held constant.
    let largest = x.detach().abs()?.max_keepdim(1)?;
    let has_direction = largest.ge(SMALLEST)?.to_dtype(x.dtype())?;
    let scaled = x.broadcast_mul(&(&has_direction / largest.maximum(SMALLEST)?)?)?;
    // Without direction the norm would be 0, where a square root has no gradient; 1 gives 0 / 1.
    let norm = (scaled.sqr()?.sum_keepdim(1)? + (1.0 - has_direction)?)?.sqrt()?;
    Ok(scaled.broadcast_div(&norm)?)
}

use candle_core::Tensor;

use crate::{Result, cuda, portable};

/// Logarithm of the softmax of each row, exact for logits of any finite size.
///
/// Use this for training: candle's `softmax_last_dim` has no gradient.
///
/// # Shapes
/// `x` (n, k) → the same.
///
/// # Errors
/// If `x` has another rank, or is empty.
pub fn log_softmax(x: &Tensor) -> Result<Tensor> {
    x.dims2()?;
    match cuda::log_softmax(x)? {
        Some(y) => Ok(y),
        None => portable::log_softmax(x),
    }
}

/// Each row divided by its Euclidean norm. The zero vector, or one whose components are all below 10⁻¹² in size, becomes
/// the zero vector and gets a zero gradient.
///
/// # Shapes
/// `x` (n, d) → the same.
///
/// # Errors
/// If `x` has another rank, or is empty.
pub fn l2_normalize(x: &Tensor) -> Result<Tensor> {
    x.dims2()?;
    match cuda::l2_normalize(x)? {
        Some(y) => Ok(y),
        None => portable::l2_normalize(x),
    }
}

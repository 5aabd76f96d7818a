//! Weights of losses that are learnt with the network.

use candle_core::Tensor;

use crate::{Result, check};

/// A loss weighed by the uncertainty of its task: exp(−s) · loss + s / 2, where s = log σ² is trained with the network.
///
/// Source: Kendall, Gal and Cipolla, CVPR 2018 (arXiv 1705.07115): the classification term of eq. 10, in the logarithm of the
/// variance, which is what they train. For unit vectors, whose 1 − cos is half a squared distance, it is the regression term of eq. 7
/// too. For a loss that stays as it is the best s is log(2 · loss), which weighs it by 1 / (2 · loss). So the loss must not be
/// negative, below which s would fall without end: give it 1 + [`emb`](crate::emb).
///
/// # Shapes
/// `loss`, `log_variance`: scalars of one element type, f32 or f64 → scalar.
///
/// # Errors
/// If one is not a scalar, or the element types differ.
pub fn uncertainty(loss: &Tensor, log_variance: &Tensor) -> Result<Tensor> {
    check::scalar("loss", loss)?;
    check::scalar("log_variance", log_variance)?;
    check::same_dtype("log_variance", log_variance, "loss", loss)?;
    Ok(((loss * log_variance.neg()?.exp()?)? + (log_variance * 0.5)?)?)
}

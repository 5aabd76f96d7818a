//! Losses of an embedding task: the prediction should point where the target points.

use candle_core::Tensor;

use crate::classification::negative_log_likelihood;
use crate::{Result, check, l2_normalize};

/// Negative cosine between prediction and target (eq. 2), mean over the batch: −1 when all agree, 1 when all oppose.
///
/// Both are normalised here. The prediction is the head's raw vector, and its gradient is tangent to it: only its
/// direction is trained. `target` gets no gradient. A zero vector on either side has cosine 0 and gradient 0.
///
/// # Shapes
/// `predicted` (n, d), f32 or f64, of any length; `target` (n, d) of any length → scalar.
///
/// # Errors
/// If a shape or element type differs.
pub fn emb(predicted: &Tensor, target: &Tensor) -> Result<Tensor> {
    let (predicted, target) = directions(predicted, target)?;
    let n = predicted.dim(0)? as f64;
    Ok(((predicted * target)?.sum_all()? / -n)?)
}

/// Symmetric InfoNCE within the batch: cross-entropy of cosine / τ, of each prediction among all targets and of each
/// target among all predictions, the mean of both.
///
/// The other rows of the batch are the negatives, also where two rows have equal targets; a batch of 1 has none, and its
/// loss is 0. Both sides are normalised here; `target` gets no gradient. Source: van den Oord et al. 2018
/// (arXiv 1807.03748), the symmetric form as in Radford et al. 2021 (arXiv 2103.00020).
///
/// # Shapes
/// `predicted` (n, d), f32 or f64, of any length; `target` (n, d) of any length; `tau` the temperature, above 0 → scalar.
///
/// # Errors
/// If a shape or element type differs, or `tau` is not a finite number above 0.
pub fn info_nce(predicted: &Tensor, target: &Tensor, tau: f64) -> Result<Tensor> {
    check::positive("tau", tau)?;
    let (predicted, target) = directions(predicted, target)?;
    let scores = (predicted.matmul(&target.t()?)? / tau)?;
    let own = Tensor::arange(0, scores.dim(0)? as u32, scores.device())?;
    let among_targets = negative_log_likelihood(&scores, &own)?;
    let among_predictions = negative_log_likelihood(&scores.t()?.contiguous()?, &own)?;
    Ok(((among_targets + among_predictions)? / 2.0)?)
}

/// The checked arguments as unit vectors, the target without gradient.
fn directions(predicted: &Tensor, target: &Tensor) -> Result<(Tensor, Tensor)> {
    check::matrix("predicted", predicted)?;
    check::like("target", target, "predicted", predicted)?;
    Ok((l2_normalize(predicted)?, l2_normalize(&target.detach())?))
}

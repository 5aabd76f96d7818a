//! Losses of a classification task against given labels.

use candle_core::Tensor;

use crate::{Result, check, log_softmax};

/// Cross-entropy with one label for each sample (eq. 1), mean over the batch.
///
/// # Shapes
/// `logits` (n, k), f32 or f64; `labels` (n), u32, each below k → scalar.
///
/// # Errors
/// If a shape or element type differs, or a label is not below k.
pub fn cls(logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
    let (n, k) = check::matrix("logits", logits)?;
    check::labels(labels, n, k)?;
    negative_log_likelihood(logits, labels)
}

/// Cross-entropy with a distribution over the classes for each sample (eq. 1), mean over the batch.
///
/// Images that carry several classes are trained so with [`multi_hot_to_distribution`]. `targets` get no gradient.
///
/// # Shapes
/// `logits` (n, k), f32 or f64; `targets` (n, k), rows sum to 1 → scalar.
///
/// # Errors
/// If a shape or element type differs, or a row of `targets` is not a distribution (sum within 10⁻³ of 1).
pub fn cls_soft(logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
    check::matrix("logits", logits)?;
    check::like("targets", targets, "logits", logits)?;
    check::distributions("targets", targets)?;
    cross_entropy(logits, targets)
}

/// Multi-hot class flags as distributions: each row divided by its sum.
///
/// A row without any class is an error, since it has no distribution: leave such a sample out, or use [`bce`].
///
/// # Shapes
/// `flags` (n, k), f32 or f64, zeros and ones → (n, k), rows sum to 1.
///
/// # Errors
/// If the shape or element type differs, a value is neither 0 nor 1, or a row holds no 1.
pub fn multi_hot_to_distribution(flags: &Tensor) -> Result<Tensor> {
    check::matrix("flags", flags)?;
    check::multi_hot("flags", flags)?;
    Ok(flags.broadcast_div(&flags.sum_keepdim(1)?)?)
}

/// Sigmoid binary cross-entropy for samples of several classes: sum over the classes, mean over the batch.
///
/// `targets` may be soft, and get no gradient.
///
/// # Shapes
/// `logits` (n, k), f32 or f64; `targets` (n, k) in [0, 1] → scalar.
///
/// # Errors
/// If a shape or element type differs, or a value of `targets` lies outside [0, 1].
pub fn bce(logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
    check::matrix("logits", logits)?;
    check::like("targets", targets, "logits", logits)?;
    check::unit_interval("targets", targets)?;
    binary_cross_entropy(logits, targets)
}

/// −log softmax(logits) at the labels, mean over the batch, of checked arguments.
pub(crate) fn negative_log_likelihood(logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
    let labels = labels.contiguous()?.unsqueeze(1)?;
    Ok(log_softmax(logits)?.gather(&labels, 1)?.mean_all()?.neg()?)
}

/// −Σ targets · log softmax(logits), mean over the batch, of checked arguments.
pub(crate) fn cross_entropy(logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
    let n = logits.dim(0)? as f64;
    Ok(((log_softmax(logits)? * targets.detach())?.sum_all()? / -n)?)
}

/// Σ of the binary cross-entropies of sigmoid(logits), mean over the batch, of checked arguments.
pub(crate) fn binary_cross_entropy(logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
    let n = logits.dim(0)? as f64;
    // log(1 + eˣ) = relu(x) + log(1 + e^−|x|) never overflows. At x = 0 candle takes the slope 1 for both relu and |x|,
    // which together is the true ½; other pairs of one-sided slopes would not be.
    let softplus = (logits.relu()? + (logits.abs()?.neg()?.exp()? + 1.0)?.log()?)?;
    Ok(((softplus - (logits * targets.detach())?)?.sum_all()? / n)?)
}

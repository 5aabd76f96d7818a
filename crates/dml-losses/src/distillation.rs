//! Losses against responses that a network recorded earlier. The recorded side is held fixed and gets no gradient.

use candle_core::Tensor;

use crate::classification::{binary_cross_entropy, cross_entropy};
use crate::{Result, check, log_softmax};

/// Distillation (eq. 6 and 7): cross-entropy of softmax(logits / T) against `recorded` raised to 1/T and renormalised,
/// mean over the batch.
///
/// T = 1 is [`cls_soft`](crate::cls_soft). There is no factor T², so the gradient shrinks as T grows. The smallest value
/// is the entropy of the target, not 0.
///
/// # Shapes
/// `logits` (n, k), f32 or f64; `recorded` (n, k), rows sum to 1, zeros allowed; `temperature` above 0 → scalar.
///
/// # Errors
/// If a shape or element type differs, a row of `recorded` is not a distribution (sum within 10⁻³ of 1), or
/// `temperature` is not a finite number above 0.
pub fn distill(logits: &Tensor, recorded: &Tensor, temperature: f64) -> Result<Tensor> {
    check_distributions(logits, recorded)?;
    check::positive("temperature", temperature)?;
    // Relative to the row's largest probability, one power is 1 and the sum cannot underflow, however small T is.
    let recorded = recorded.detach();
    let power = recorded.broadcast_div(&recorded.max_keepdim(1)?)?.powf(1.0 / temperature)?;
    let target = power.broadcast_div(&power.sum_keepdim(1)?)?;
    cross_entropy(&(logits / temperature)?, &target)
}

/// Distillation of a multi-label task: for each class binary cross-entropy of sigmoid(logits / T) against
/// c^(1/T) / (c^(1/T) + (1 − c)^(1/T)) with c the recorded probability; sum over the classes, mean over the batch.
///
/// T = 1 is [`bce`](crate::bce), and there is no factor T². Source: the code of Learning without Forgetting (Li and
/// Hoiem, arXiv 1606.09282), which sums over the classes.
///
/// # Shapes
/// `logits` (n, k), f32 or f64; `recorded` (n, k) sigmoid probabilities in [0, 1]; `temperature` above 0 → scalar.
///
/// # Errors
/// If a shape or element type differs, a value of `recorded` lies outside [0, 1], or `temperature` is not a finite
/// number above 0.
pub fn distill_multi_label(logits: &Tensor, recorded: &Tensor, temperature: f64) -> Result<Tensor> {
    check::matrix("logits", logits)?;
    check::like("recorded", recorded, "logits", logits)?;
    check::unit_interval("recorded", recorded)?;
    check::positive("temperature", temperature)?;
    // Relative to the larger of both, as in `distill`.
    let yes = recorded.detach();
    let no = (1.0 - &yes)?;
    let larger = yes.maximum(&no)?;
    let yes = (yes / &larger)?.powf(1.0 / temperature)?;
    let no = (no / larger)?.powf(1.0 / temperature)?;
    let target = (&yes / (&yes + no)?)?;
    binary_cross_entropy(&(logits / temperature)?, &target)
}

/// Absolute difference of softmax(logits) and `recorded` (Table 5): sum over the classes, mean over the batch.
///
/// Where the two are equal the gradient is 0.
///
/// # Shapes
/// `logits` (n, k), f32 or f64; `recorded` (n, k), rows sum to 1 → scalar in [0, 2].
///
/// # Errors
/// If a shape or element type differs, or a row of `recorded` is not a distribution (sum within 10⁻³ of 1).
pub fn l1(logits: &Tensor, recorded: &Tensor) -> Result<Tensor> {
    let difference = difference(logits, recorded)?;
    // Not `abs`: candle gives it the slope 1 at 0, where a freshly recorded response lies.
    let sign = difference.detach().sign()?;
    mean_over_batch(&(difference * sign)?)
}

/// Half the squared difference of softmax(logits) and `recorded` (Table 5): sum over the classes, mean over the batch.
///
/// # Shapes
/// `logits` (n, k), f32 or f64; `recorded` (n, k), rows sum to 1 → scalar in [0, 1].
///
/// # Errors
/// If a shape or element type differs, or a row of `recorded` is not a distribution (sum within 10⁻³ of 1).
pub fn l2(logits: &Tensor, recorded: &Tensor) -> Result<Tensor> {
    mean_over_batch(&(difference(logits, recorded)?.sqr()? / 2.0)?)
}

fn check_distributions(logits: &Tensor, recorded: &Tensor) -> Result<()> {
    check::matrix("logits", logits)?;
    check::like("recorded", recorded, "logits", logits)?;
    check::distributions("recorded", recorded)
}

fn difference(logits: &Tensor, recorded: &Tensor) -> Result<Tensor> {
    check_distributions(logits, recorded)?;
    Ok((log_softmax(logits)?.exp()? - recorded.detach())?)
}

fn mean_over_batch(x: &Tensor) -> Result<Tensor> {
    Ok((x.sum_all()? / x.dim(0)? as f64)?)
}

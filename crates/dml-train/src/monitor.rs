//! What is watched while a run goes on; none of it changes what the run computes.

use std::collections::BTreeMap;

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor, Var};
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::task::{Preservation, Task};

/// What is watched.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MonitorConfig {
    /// Samples of a dataset on which the drift of recorded responses is measured, once a phase of at least an epoch; 0
    /// for never.
    pub drift_samples: usize,
    /// Measure the cosine between the losses' gradients on the root every so many steps, at the price of a backward
    /// pass for each loss; 0 for never.
    pub gradient_cosine_every: usize,
    /// Measure where the time goes. The device is waited for after each part of a step, which makes steps slower.
    pub profile: bool,
}

impl Default for MonitorConfig {
    fn default() -> Self {
        Self { drift_samples: 64, gradient_cosine_every: 0, profile: false }
    }
}

/// Mean KL(new ‖ old) in nats where the answers are probabilities, and mean cosine between them.
///
/// # Shapes
/// `old` and `new` (n, k).
pub(crate) fn drift(task: &Task, old: &Tensor, new: &Tensor) -> Result<(Option<f64>, f64)> {
    let (old, new) = (old.to_dtype(DType::F64)?, new.to_dtype(DType::F64)?);
    // Probabilities of f32 that have become 0 would make the divergence infinite.
    let log = |p: &Tensor| p.maximum(1e-38)?.log();
    let divergence = |p: &Tensor, q: &Tensor| -> candle_core::Result<f64> {
        (p * (log(p)? - log(q)?)?)?.sum(1)?.mean_all()?.to_scalar::<f64>()
    };
    let kl = match task.preserve {
        Preservation::Cosine => None,
        Preservation::DistillMultiLabel { .. } => {
            let not = |p: &Tensor| p.affine(-1.0, 1.0);
            Some(divergence(&new, &old)? + divergence(&not(&new)?, &not(&old)?)?)
        }
        _ => Some(divergence(&new, &old)?),
    };
    let dot = |a: &Tensor, b: &Tensor| (a * b)?.sum(1);
    let length = (dot(&old, &old)? * dot(&new, &new)?)?.sqrt()?;
    let cosine = (dot(&old, &new)? / length)?.mean_all()?.to_scalar::<f64>()?;
    Ok((kl, cosine))
}

/// Cosines between the gradients that each loss has on the parameters of the root, for every pair of losses; `mean` makes
/// those of all ranks of those of one.
pub(crate) fn gradient_cosines(
    losses: &[(String, f64, Tensor)],
    vars: &[(String, Var)],
    mean: &dyn Fn(GradStore) -> Result<GradStore>,
) -> Result<BTreeMap<String, f64>> {
    let mut gradients = Vec::new();
    for (_, _, loss) in losses {
        let all = mean(dml_ops::backward(loss)?)?;
        let of_root = vars.iter().filter(|(name, _)| name.starts_with("root."));
        gradients.push(of_root.map(|(_, var)| all.get(var).cloned()).collect::<Vec<Option<Tensor>>>());
    }
    let dot = |a: &[Option<Tensor>], b: &[Option<Tensor>]| -> Result<f64> {
        let mut sum = 0.0;
        for (a, b) in a.iter().zip(b) {
            if let (Some(a), Some(b)) = (a, b) {
                sum += (a * b)?.to_dtype(DType::F64)?.sum_all()?.to_scalar::<f64>()?;
            }
        }
        Ok(sum)
    };
    let mut pairs = BTreeMap::new();
    for (i, a) in gradients.iter().enumerate() {
        for (j, b) in gradients.iter().enumerate().skip(i + 1) {
            let cosine = dot(a, b)? / (dot(a, a)? * dot(b, b)?).sqrt();
            // Two losses that do not both reach the root have no angle.
            if cosine.is_finite() {
                pairs.insert(format!("{} · {}", losses[i].0, losses[j].0), cosine);
            }
        }
    }
    Ok(pairs)
}

/// The most memory so far, in bytes, where the system tells: what tensors took on a GPU, else the process's resident memory.
pub(crate) fn peak_memory(device: &Device) -> Option<u64> {
    #[cfg(feature = "cuda")]
    if let Ok(Some(memory)) = dml_ops::device_memory(device) {
        return Some(memory.peak);
    }
    let _ = device;
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use dml_model::HeadConfig;

    use super::*;
    use crate::task::Loss;

    #[test]
    fn drift_is_nothing_for_equal_answers_and_the_divergence_by_hand_else() {
        let answers = |rows: &[[f32; 2]; 2]| Tensor::new(rows, &Device::Cpu).unwrap();
        let old = answers(&[[0.5, 0.5], [0.9, 0.1]]);
        let new = answers(&[[0.25, 0.75], [0.9, 0.1]]);
        let of = |preserve| Task { head: HeadConfig::Classes { classes: 2 }, loss: Loss::Softmax, preserve };
        let softmax = of(Preservation::Distill { temperature: 2.0 });
        let (kl, cosine) = drift(&softmax, &old, &old).unwrap();
        assert!(kl.unwrap().abs() < 1e-12 && (cosine - 1.0).abs() < 1e-12);
        let row = 0.25 * 0.5f64.ln() + 0.75 * 1.5f64.ln();
        let (kl, cosine) = drift(&softmax, &old, &new).unwrap();
        assert!((kl.unwrap() - row / 2.0).abs() < 1e-7, "{kl:?}");
        let angle = 0.5 / (0.5f64.sqrt() * 0.625f64.sqrt());
        assert!((cosine - (angle + 1.0) / 2.0).abs() < 1e-7, "{cosine}");
        // Each class is an experiment of its own: the two columns of this row have the same divergence.
        let (kl, _) = drift(&of(Preservation::DistillMultiLabel { temperature: 1.0 }), &old, &new).unwrap();
        let class = |p: f64, q: f64| p * (p / q).ln() + (1.0 - p) * ((1.0 - p) / (1.0 - q)).ln();
        assert!((kl.unwrap() - (class(0.25, 0.5) + class(0.75, 0.5)) / 2.0).abs() < 1e-7, "{kl:?}");
        assert_eq!(drift(&of(Preservation::Cosine), &old, &new).unwrap().0, None);
    }

    #[test]
    fn gradients_that_agree_oppose_and_are_square_to_each_other() {
        let var = Var::new(&[1f32, 2.0], &Device::Cpu).unwrap();
        let along = |direction: &[f32]| {
            (var.as_tensor() * Tensor::new(direction, &Device::Cpu).unwrap()).unwrap().sum_all().unwrap()
        };
        let losses = [("a", along(&[1.0, 0.0])), ("b", along(&[-2.0, 0.0])), ("c", along(&[0.0, 3.0]))]
            .map(|(name, loss)| (name.to_string(), 1.0, loss));
        let vars = vec![("root.w".to_string(), var.clone())];
        let pairs = gradient_cosines(&losses, &vars, &Ok).unwrap();
        assert_eq!(pairs.values().copied().collect::<Vec<_>>(), [-1.0, 0.0, 0.0]);
        assert!(gradient_cosines(&losses, &[("head.w".to_string(), var)], &Ok).unwrap().is_empty());
    }

    #[test]
    fn the_process_has_a_peak() {
        assert!(!cfg!(target_os = "linux") || peak_memory(&Device::Cpu).is_some_and(|bytes| bytes > 1 << 20));
    }
}

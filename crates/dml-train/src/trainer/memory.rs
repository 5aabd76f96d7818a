//! What to do where a device has no room for a step.

use dml_ops::Precision;

use super::{Trainer, plan::Draws};
use crate::TrainError;
use crate::schedule::Phase;
use crate::task::{Loss, Task};

impl Trainer<'_> {
    /// An error of a step, with what to do if the device has no room for it.
    pub(super) fn if_out_of_memory(
        &self,
        error: TrainError,
        step: usize,
        phase: &Phase,
        own: &Draws,
    ) -> TrainError {
        if !is_out_of_memory(&error) {
            return error;
        }
        let samples = own.iter().map(|draw| draw.indices.len()).max().unwrap_or(1);
        let samples = match self.settings.micro_batch {
            0 => samples,
            most => samples.min(most),
        };
        let contrasts = |task: &Task| matches!(task.loss, Loss::InfoNce { .. });
        let whole = self.problem.tasks.values().any(contrasts).then_some(self.ranks.size());
        let advice = advice(samples, whole, dml_ops::precision());
        TrainError::OutOfMemory { phase: phase.name.clone(), step, samples, advice, source: Box::new(error) }
    }
}

/// Whether CUDA, cuBLAS or cuDNN had no memory.
fn is_out_of_memory(error: &TrainError) -> bool {
    let told = format!("{error:?}");
    ["OUT_OF_MEMORY", "STATUS_ALLOC_FAILED"].iter().any(|code| told.contains(code))
}

/// What needs less memory than so many samples at once; `whole` is the number of ranks where a loss needs all samples of a
/// batch at once.
fn advice(samples: usize, whole: Option<usize>, precision: Precision) -> String {
    let half = samples / 2;
    let fewer = match whole {
        _ if half == 0 => None,
        Some(ranks) => Some(format!("--set training.batch={}", half * ranks)),
        None => Some(format!("--set training.micro_batch={half} (the same step, in parts)")),
    };
    let coarser = (precision != Precision::Bf16).then(|| "--set training.precision=bf16".into());
    let ways = fewer.into_iter().chain(coarser).chain(["a smaller input or root".to_string()]);
    ways.collect::<Vec<_>>().join(", or ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_room_is_told_from_what_is_wrong() {
        let text = r#"conv3d: no room on the GPU: DriverError(CUDA_ERROR_OUT_OF_MEMORY, "out of memory")"#;
        let none = candle_core::Error::msg(text).context("a convolution");
        assert!(is_out_of_memory(&TrainError::Tensor(none)));
        assert!(!is_out_of_memory(&TrainError::Tensor(candle_core::Error::msg(
            "CUDA_ERROR_ILLEGAL_ADDRESS"
        ))));
    }

    #[test]
    fn the_advice_fits_the_losses_and_the_precision() {
        let check = |samples, whole, precision, want: &str| {
            assert_eq!(advice(samples, whole, precision), want);
        };
        let (bf16, smaller) = ("--set training.precision=bf16", "a smaller input or root");
        let parts = "--set training.micro_batch=32 (the same step, in parts)";
        check(64, None, Precision::F32, &format!("{parts}, or {bf16}, or {smaller}"));
        check(65, None, Precision::Bf16, &format!("{parts}, or {smaller}"));
        check(8, Some(3), Precision::Bf16, &format!("--set training.batch=12, or {smaller}"));
        check(1, None, Precision::Tf32, &format!("{bf16}, or {smaller}"));
    }
}

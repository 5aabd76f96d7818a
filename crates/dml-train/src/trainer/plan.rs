//! Which samples a phase takes, and in which order.

use candle_core::Tensor;
use dml_data::{Prefetch, Prefetched, View};

use super::Trainer;
use crate::sampler::Draw;
use crate::schedule::{Length, Phase, Stream};
use crate::{Result, TrainError};

/// The samples of one step, a draw for each stream.
pub(super) type Draws = Vec<Draw>;

/// Number of samples of a step.
pub(super) fn samples(draws: &Draws) -> usize {
    draws.iter().map(|draw| draw.indices.len()).sum()
}

impl Trainer<'_> {
    /// The batches of every step, drawn before the first one so that responses can be recorded for them.
    pub(super) fn plan(&mut self, phase: &Phase) -> Vec<Draws> {
        let steps = self.steps(phase);
        if let Length::Epochs(_) = phase.length {
            for stream in &phase.streams {
                if let Some(cursor) = self.cursors.get_mut(&stream.dataset) {
                    cursor.align();
                }
            }
        }
        let batch = self.settings.batch;
        let mut step = || {
            phase.streams.iter().filter_map(|s| Some(self.cursors.get_mut(&s.dataset)?.draw(batch))).collect()
        };
        (0..steps).map(|_| step()).collect()
    }

    /// Steps of a phase.
    pub(super) fn steps(&self, phase: &Phase) -> usize {
        match phase.length {
            Length::Steps(steps) => steps,
            Length::Epochs(epochs) => epochs * self.epoch_steps(phase),
        }
    }

    /// Steps of one epoch over the largest dataset of the phase.
    fn epoch_steps(&self, phase: &Phase) -> usize {
        let steps =
            |stream: &Stream| self.problem.sets[&stream.dataset].dataset.len().div_ceil(self.settings.batch);
        phase.streams.iter().map(steps).max().unwrap_or(1)
    }

    /// Whether an epoch's worth of samples has been seen since the last evaluation: phases of a few steps are not each
    /// worth one.
    pub(super) fn epoch_has_passed(&self, phase: &Phase) -> bool {
        let smallest = phase
            .streams
            .iter()
            .map(|stream| self.problem.sets[&stream.dataset].dataset.len())
            .min()
            .unwrap_or(0);
        self.state.samples - self.state.evaluated_at >= smallest
    }

    /// The inputs of some steps, one iterator a stream, read by threads of their own while steps are computed.
    pub(super) fn read_ahead(&self, phase: &Phase, plan: &[Draws]) -> Result<Vec<Prefetched>> {
        phase.streams.iter().enumerate().map(|(s, stream)| self.read_stream(s, stream, plan)).collect()
    }

    pub(super) fn read_stream(&self, s: usize, stream: &Stream, plan: &[Draws]) -> Result<Prefetched> {
        let view = |draw: &Draw| View { seed: self.settings.seed, epoch: Some(draw.epoch) };
        let batches = plan.iter().map(|draws| (view(&draws[s]), draws[s].indices.clone())).collect();
        let dataset = self.problem.sets[&stream.dataset].dataset.clone();
        Ok(Prefetch::default().read(dataset, batches, &self.device)?)
    }
}

/// The inputs of the next step.
pub(super) fn next_inputs(ahead: &mut Prefetched) -> Result<Tensor> {
    match ahead.next() {
        Some(batch) => Ok(batch?.inputs),
        None => Err(TrainError::invalid("there are fewer batches than steps")),
    }
}

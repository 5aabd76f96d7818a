use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use dml_collective::Wire;

use crate::average::Ema;
use crate::checkpoint::CheckpointConfig;
use crate::monitor::MonitorConfig;
use crate::optimizer::{AdamSharing, LearningRates};
use crate::responses::Recording;
use crate::weighting::Weighting;

/// How a schedule is run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Seed of every draw.
    pub seed: u64,
    /// Samples of a step, from each stream; where there are several ranks, those of all together.
    pub batch: usize,
    /// Most samples of a stream that are computed at a time; a larger batch is cut into parts, whose gradients are summed:
    /// the same step in less memory. 0 for all.
    pub micro_batch: usize,
    /// Learning rates.
    pub learning_rates: LearningRates,
    /// Which phases share Adam's moments.
    pub adam: AdamSharing,
    /// The format in which gradients travel between ranks.
    pub wire: Wire,
    /// How responses are kept.
    pub recording: Recording,
    /// The moving average of the parameters, where the schedule asks for a mean teacher or the average is evaluated.
    pub ema: Ema,
    /// How the terms of the loss are weighed.
    pub weighting: Weighting,
    /// Learning rate of weights that are learnt.
    pub weighting_learning_rate: f64,
    /// Whether tasks are evaluated before training and after each phase of at least an epoch, or only at the end.
    pub evaluate_throughout: bool,
    /// What is watched.
    pub monitor: MonitorConfig,
    /// Folder of the run, for its checkpoints; none are written without it.
    pub folder: Option<PathBuf>,
    /// When checkpoints are written, and which stay.
    pub checkpoints: CheckpointConfig,
    /// Whether to go on from the newest checkpoint in the folder, where there is one.
    pub resume: bool,
    /// Set from outside to end the run after the current step, or within an evaluation or recording.
    pub stop: Arc<AtomicBool>,
}

/// Batches of 64, Adam at 5e-4 with a state for each task, scores at the end, and no checkpoints.
impl Default for Settings {
    fn default() -> Self {
        Self {
            seed: 0,
            batch: 64,
            micro_batch: 0,
            learning_rates: LearningRates { root: 5e-4, heads: 5e-4 },
            adam: AdamSharing::PerTask,
            wire: Wire::F32,
            recording: Recording::default(),
            ema: Ema::default(),
            weighting: Weighting::default(),
            weighting_learning_rate: 1e-2,
            evaluate_throughout: false,
            monitor: MonitorConfig::default(),
            folder: None,
            checkpoints: CheckpointConfig::default(),
            resume: false,
            stop: Arc::default(),
        }
    }
}

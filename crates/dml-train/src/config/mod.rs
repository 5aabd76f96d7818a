//! Everything a run depends on, as data.

mod data;
mod defaults;
mod layers;

use std::path::PathBuf;

use dml_model::RootConfig;
use serde::{Deserialize, Serialize};

pub use data::{DataConfig, PhotographsConfig, VideosConfig};

use crate::average::Ema;
use crate::checkpoint::CheckpointConfig;
use crate::method::Method;
use crate::monitor::MonitorConfig;
use crate::optimizer::AdamSharing;
use crate::responses::{Recording, Responses};
use crate::schedule::Schedule;
use crate::task::{Loss, Preservation};
use crate::weighting::Weighting;
use crate::{Result, TrainError};

/// Everything a run depends on. A file gives the settings that differ from the defaults of its kind of data; unknown
/// keys are refused; the resolved whole is saved with the run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Seed of every random draw.
    pub seed: u64,
    /// The named method.
    pub method: Method,
    /// Folder of what is computed once: features, caption embeddings, pretrained roots.
    pub cache: PathBuf,
    /// Fraction of the training samples of each dataset that is held out, in [0, 1): the rest is trained on, and scores are taken
    /// on what is held out in place of the evaluation sets, so that settings can be chosen by them. It is the same for every seed.
    pub validation: f64,
    /// The data.
    pub data: DataConfig,
    /// The shared root.
    pub root: RootConfig,
    /// Pretraining of the root.
    pub pretrain: PretrainConfig,
    /// Losses and schedule.
    pub training: TrainingConfig,
    /// The optimiser.
    pub optimizer: OptimizerConfig,
    /// When checkpoints are written, and which stay.
    #[serde(default)]
    pub checkpoints: CheckpointConfig,
    /// What is watched while the run goes on.
    #[serde(default)]
    pub monitor: MonitorConfig,
    /// A schedule in place of the method's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Schedule>,
}

/// Pretraining of a root that starts from random values, as the paper's roots are pretrained: on a third set of the sample,
/// on the classes of the class task elsewhere. Every method and every seed of a comparison starts from the same root.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PretrainConfig {
    /// Epochs; 0 pretrains nothing.
    pub epochs: usize,
    /// Learning rate of root and head.
    pub learning_rate: f64,
    /// Seed, so that all seeds of a comparison start from one root.
    pub seed: u64,
}

/// Losses and schedule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingConfig {
    /// Epochs on each dataset.
    pub epochs: usize,
    /// Epochs of a phase where phases alternate.
    pub block: usize,
    /// Samples of a step, from each stream.
    pub batch: usize,
    /// Most samples of a stream that are computed at a time, 0 for all: a larger batch is cut into parts whose gradients are
    /// summed, which is the same step in less memory.
    pub micro_batch: usize,
    /// λ of eq. 8: weight of the class loss on class data; 1 − λ is the weight of the preserved captions.
    pub lambda_class: f64,
    /// λ of eq. 9: weight of the preserved classes on caption data; 1 − λ is the weight of the caption loss.
    pub lambda_caption: f64,
    /// Scale of the class loss and of the preservation of classes.
    pub class_scale: f64,
    /// Scale of the caption loss and of the preservation of captions.
    pub caption_scale: f64,
    /// Loss of the class task.
    pub class_loss: Loss,
    /// Loss of the caption task.
    pub caption_loss: Loss,
    /// How classes are preserved, where the method does not say.
    pub preserve_class: Preservation,
    /// Who answers for preserved tasks: the network as it was at the switch, or a mean teacher.
    pub responses: Responses,
    /// Decay of the moving average of the parameters, where it is a mean teacher or evaluated; in [0, 1] (see
    /// [`Ema::decay`](crate::Ema::decay)).
    pub ema_decay: f64,
    /// Whether scores, and the network that a run leaves, are those of the moving average of the parameters.
    pub evaluate_ema: bool,
    /// How the losses of a step are weighed: by λ and scales, or by weights that are learnt.
    pub weighting: Weighting,
    /// How gradients travel between ranks, where there are several.
    pub gradients: Gradients,
    /// Whether the head of a preserved task is held still.
    pub freeze_preserved_head: bool,
    /// Which dataset comes first where phases alternate.
    pub first: First,
    /// Epochs on each dataset before the methods that alternate preserve anything; a multiple of the block.
    pub preserve_after: usize,
    /// What a sample with several captions is trained towards.
    pub caption_target: CaptionTarget,
    /// Epochs in which a new head is trained alone, in the second half of fine-tuning and LwF.
    pub warm_up: usize,
    /// How responses are kept.
    pub recording: Recording,
    /// Whether tasks are evaluated throughout, or only at the end.
    pub evaluate_throughout: bool,
    /// In which type a GPU multiplies; a processor has `f32` only.
    pub precision: Precision,
    /// Whether convolutions on the CPU are sums over the kernel's taps, instead of what is fastest (see
    /// [`dml_ops::set_exact`]).
    pub exact: bool,
}

/// In which type a GPU multiplies; see [`dml_ops::Precision`]. Parameters and the optimiser's state are f32 in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// Single precision.
    F32,
    /// Products with 11 bits of mantissa.
    Tf32,
    /// The root in bf16.
    Bf16,
}

impl From<Precision> for dml_ops::Precision {
    fn from(precision: Precision) -> Self {
        match precision {
            Precision::F32 => Self::F32,
            Precision::Tf32 => Self::Tf32,
            Precision::Bf16 => Self::Bf16,
        }
    }
}

/// The format in which gradients travel between ranks; see [`dml_collective::Wire`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Gradients {
    /// As they are.
    F32,
    /// Rounded to bf16: half the volume.
    Bf16,
}

impl From<Gradients> for dml_collective::Wire {
    fn from(gradients: Gradients) -> Self {
        match gradients {
            Gradients::F32 => Self::F32,
            Gradients::Bf16 => Self::Bf16,
        }
    }
}

/// One of the two datasets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum First {
    /// The captions.
    Caption,
    /// The classes.
    Class,
}

/// What is made of a sample's captions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CaptionTarget {
    /// The embedding of one of them, drawn anew in each epoch.
    One,
    /// The mean of their embeddings, scaled to length one.
    Mean,
}

/// The optimiser.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OptimizerConfig {
    /// Learning rate of the root.
    pub root_learning_rate: f64,
    /// Learning rate of the heads.
    pub head_learning_rate: f64,
    /// Learning rate of the losses' weights, where they are learnt: Adam moves the logarithm of a weight by about as much in a
    /// step.
    pub weighting_learning_rate: f64,
    /// Which phases share Adam's moments.
    pub adam: AdamSharing,
}

impl Config {
    /// Refuses numbers that no run could use, before anything is computed.
    ///
    /// # Errors
    /// If a λ is outside [0, 1], the batch is empty, or the block does not divide the epochs.
    pub fn check(&self) -> Result<()> {
        let training = &self.training;
        for (name, lambda) in
            [("lambda_class", training.lambda_class), ("lambda_caption", training.lambda_caption)]
        {
            dml_losses::Lambda::new(lambda)
                .map_err(|_| TrainError::invalid(format!("training.{name} is {lambda}, not in [0, 1]")))?;
        }
        Ema { decay: training.ema_decay, evaluate: training.evaluate_ema }.check()?;
        if !(0.0..1.0).contains(&self.validation) {
            let fraction = self.validation;
            return Err(TrainError::invalid(format!("validation is {fraction}, not from 0 up to below 1")));
        }
        if training.batch == 0 {
            return Err(TrainError::invalid("training.batch must be at least 1"));
        }
        if training.epochs == 0 || training.block == 0 || !training.epochs.is_multiple_of(training.block) {
            let (epochs, block) = (training.epochs, training.block);
            return Err(TrainError::invalid(format!(
                "training.epochs ({epochs}) must be a positive multiple of training.block ({block}); set both"
            )));
        }
        Ok(())
    }

    /// The configuration as TOML.
    ///
    /// # Errors
    /// If a number does not fit TOML.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string_pretty(self).map_err(|e| TrainError::invalid(e.to_string()))
    }
}

#[cfg(test)]
mod tests;

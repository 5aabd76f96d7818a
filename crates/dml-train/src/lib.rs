#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod answers;
mod average;
mod checkpoint;
mod compare;
mod config;
mod error;
mod evaluate;
mod event;
mod experiment;
mod gallery;
mod log;
mod method;
mod monitor;
mod optimizer;
mod pair;
mod photographs;
mod predict;
mod pretrain;
mod responses;
mod sample;
mod sampler;
mod schedule;
mod summary;
mod svm;
mod sweep;
mod targets;
mod task;
mod trainer;
mod validation;
mod videos;
mod weighting;

pub use answers::{Answers, ClassRow, ClassTable};
pub use average::Ema;
pub use checkpoint::{Checkpoint, CheckpointConfig, Which};
pub use compare::{Cell, Comparison, Row, half_interval, mean_and_sd};
pub use config::{
    CaptionTarget, Config, DataConfig, First, Gradients, OptimizerConfig, PhotographsConfig, Precision,
    PretrainConfig, TrainingConfig, VideosConfig,
};
pub use error::{Result, TrainError};
pub use evaluate::{EvalSet, Score, evaluate};
pub use event::{Change, Event};
pub use experiment::{Experiment, Run};
pub use gallery::{Gallery, Item};
pub use log::Log;
pub use method::{Method, Pair};
pub use monitor::MonitorConfig;
pub use optimizer::{AdamSharing, LearningRates};
pub use photographs::photograph_features;
pub use predict::{Prediction, Predictor, Takes};
pub use responses::{Recording, Responses};
pub use schedule::{Length, Phase, Preserve, Recorded, Schedule, Stream, Supervise};
pub use sweep::{Axis, Grid, Planned, Sweep, SweepEvent, SweepRun, SweepSettings, sweep};
pub use targets::Targets;
pub use task::{Loss, Preservation, Task};
pub use trainer::{Outcome, Problem, Settings, TrainSet, Trainer};
pub use weighting::Weighting;

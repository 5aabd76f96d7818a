//! Tasks, phases, schedules and the trainer of disjoint multi-task learning.
//!
//! A run is data: a [`Schedule`] lists [`Phase`]s, and a phase says from which dataset it draws, which task it
//! supervises there, which tasks it preserves and when their responses are recorded. Single-task training, fine-tuning,
//! learning without forgetting, naive alternation, the paper's method and mixed batches are values of that type (see
//! [`Method`]); the [`Trainer`] has no case for any of them.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod checkpoint;
mod compare;
mod config;
mod error;
mod evaluate;
mod event;
mod experiment;
mod method;
mod optimizer;
mod photographs;
mod responses;
mod sampler;
mod schedule;
mod summary;
mod targets;
mod task;
mod trainer;

pub use checkpoint::Checkpoint;
pub use compare::{Cell, Comparison, compare, mean_and_sd};
pub use config::{Config, DataConfig, OptimizerConfig, PhotographsConfig, PretrainConfig, TrainingConfig};
pub use error::{Result, TrainError};
pub use evaluate::{EvalSet, Score, evaluate};
pub use event::Event;
pub use experiment::{Experiment, Run};
pub use method::{Method, Pair};
pub use optimizer::{AdamSharing, LearningRates};
pub use responses::Recording;
pub use schedule::{Length, Phase, Preserve, Recorded, Schedule, Stream, Supervise};
pub use targets::Targets;
pub use task::{Loss, Preservation, Task};
pub use trainer::{Outcome, Settings, TrainSet, Trainer};

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use super::Identity;
use crate::evaluate::Score;
use crate::responses::Recorder;
use crate::{Result, TrainError};

/// How far a run has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Position {
    /// The phase, from 1; 0 before the evaluation that comes before training, and one more than there are after the
    /// last.
    pub(crate) phase: usize,
    /// Steps done in the phase; all of them while its evaluation is still to come.
    pub(crate) step: usize,
}

/// The best value of the watched score.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Best {
    pub(crate) steps: usize,
    pub(crate) value: f64,
}

/// Everything of a run that is not a tensor. It is written as TOML, from which floats come back to the last bit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) position: Position,
    /// Optimiser steps done since the start of the run.
    pub(crate) steps: usize,
    /// Samples seen since the start of the run.
    pub(crate) samples: usize,
    /// `samples` at the time of the last evaluation.
    pub(crate) evaluated_at: usize,
    /// Whether the run is over.
    pub(crate) finished: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) best: Option<Best>,
    /// Datasets and tasks whose drift has been measured in this phase.
    #[serde(default)]
    pub(crate) probed: BTreeSet<(String, String)>,
    /// Steps of which the saved moving average is one, where there is one.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) averaged: usize,
    /// Logarithms of the variances by which terms of the loss are weighed, where they are learnt.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) log_variances: BTreeMap<String, f64>,
    /// The last scores.
    #[serde(default)]
    pub(crate) scores: Vec<Score>,
    pub(crate) identity: Identity,
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

impl State {
    /// Tells the state from others, also of those after the same steps: before and after an evaluation, say.
    pub(crate) fn digest(&self) -> Result<u32> {
        let text = toml::to_string(self).map_err(|e| TrainError::invalid(e.to_string()))?;
        Ok(crc32fast::hash(text.as_bytes()))
    }
}

/// The networks that record responses, and what they answered to the probe samples of each dataset and task.
#[derive(Clone, Default)]
pub(crate) struct Recorders {
    /// Made at the start of the phase.
    pub(crate) current: Option<Arc<Recorder>>,
    /// Made once for a dataset and a task, and kept.
    pub(crate) kept: BTreeMap<(String, String), Arc<Recorder>>,
    /// The last answers to the probe samples.
    pub(crate) probes: BTreeMap<(String, String), Tensor>,
}

//! What is kept of a run on disk, so that it can be used, and gone on with.

mod folder;
mod identity;
mod state;
mod store;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use dml_model::load_safetensors;
use serde::{Deserialize, Serialize};

pub(crate) use folder::{AVERAGE, Contents, TRAINED};
pub(crate) use identity::Identity;
pub(crate) use state::{Best, Position, Recorders, State};
pub(crate) use store::Store;

use crate::Result;

/// The parameters of a finished run, in its folder; and those of a checkpoint, in the checkpoint's.
pub(crate) const MODEL: &str = "model.safetensors";
/// The checkpoints, in the folder of a run.
pub(crate) const CHECKPOINTS: &str = "checkpoints";

/// When checkpoints are written, and which stay. One is written after every evaluation and when a run is stopped in
/// any case. None of this changes what a run computes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CheckpointConfig {
    /// Write one when this many minutes have passed since the last; 0 for never.
    pub minutes: f64,
    /// Write one when this many optimiser steps have passed since the last; 0 for never.
    pub steps: usize,
    /// How many of the newest stay; 0 counts as 1.
    pub keep: usize,
    /// Part of the name of a score, such as `class | hit@1`: the checkpoint where it was best stays too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub best: Option<String>,
}

impl Default for CheckpointConfig {
    fn default() -> Self {
        Self { minutes: 5.0, steps: 0, keep: 2, best: None }
    }
}

/// Which network of a run is meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Which {
    /// The finished one; of a run that is not finished, that of the newest whole checkpoint.
    #[default]
    Newest,
    /// The one where the score that the configuration names (see [`CheckpointConfig::best`]) was best.
    Best,
    /// The checkpoint of this name, such as `step-00000120`.
    Named(String),
}

/// The networks that a run has left.
#[derive(Clone, Copy, Debug)]
pub struct Checkpoint;

impl Checkpoint {
    /// Reads the parameters of a run's network, newest first.
    ///
    /// # Errors
    /// If there is none, or the file is not a safetensors file.
    pub fn load_model(run: &Path, device: &Device) -> Result<BTreeMap<String, Tensor>> {
        Ok(load_safetensors(&Self::find(run, &Which::Newest)?, device)?)
    }

    /// The file with the parameters of a run's network.
    ///
    /// # Errors
    /// If the run has no such network.
    pub fn find(run: &Path, which: &Which) -> Result<PathBuf> {
        let finished = run.join(MODEL);
        match which {
            Which::Newest if finished.exists() => Ok(finished),
            _ => Ok(Store::open(run, CheckpointConfig::default()).find(which)?.join(MODEL)),
        }
    }
}

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;

use crate::evaluate::Score;

/// What happens in a run, in order. The trainer prints nothing; whoever listens draws bars, writes files or collects.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// Something that takes a while before training, such as computing features.
    Preparing {
        /// What is being prepared.
        what: String,
        /// How many pieces are done.
        done: usize,
        /// How many there are.
        of: usize,
    },
    /// The run begins.
    Started {
        /// Number of phases.
        phases: usize,
        /// Number of optimiser steps.
        steps: usize,
        /// Number of trainable numbers.
        parameters: usize,
    },
    /// A phase begins.
    PhaseStarted {
        /// Its number, from 1.
        phase: usize,
        /// Its name.
        name: String,
        /// The round it belongs to; 0 is the prologue.
        round: usize,
        /// Its length in steps.
        steps: usize,
        /// Its length in samples.
        samples: usize,
    },
    /// The responses for a phase have been recorded.
    Recorded {
        /// The phase's number.
        phase: usize,
        /// The dataset.
        dataset: String,
        /// The preserved tasks.
        tasks: Vec<String>,
        /// Recorded answers, or none where a frozen copy answers batch by batch.
        samples: usize,
    },
    /// One optimiser step is done.
    Step {
        /// The phase's number.
        phase: usize,
        /// The step in the phase, from 1.
        step: usize,
        /// Samples of the step.
        samples: usize,
        /// Each term of the loss, unweighted.
        terms: BTreeMap<String, f64>,
    },
    /// All tasks have been evaluated.
    Evaluated {
        /// The phase's number, or 0 before training.
        phase: usize,
        /// Its name.
        name: String,
        /// Epochs seen by now, over all datasets.
        epochs: f64,
        /// The scores.
        scores: Vec<Score>,
    },
    /// A checkpoint is on disk.
    Saved {
        /// Its folder.
        path: PathBuf,
    },
    /// The run is over.
    Finished {
        /// Whether it was interrupted before its end.
        interrupted: bool,
        /// Wall-clock seconds.
        seconds: f64,
    },
}

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
        /// How many of them are done already.
        done: usize,
        /// Number of trainable numbers.
        parameters: usize,
    },
    /// The run goes on from a checkpoint.
    Resumed {
        /// The checkpoint's folder.
        path: PathBuf,
        /// Optimiser steps done by then.
        steps: usize,
        /// The phase's number.
        phase: usize,
        /// Steps done in the phase.
        step: usize,
        /// That of the [`Event::Saving`] that the checkpoint was written after.
        state: u32,
    },
    /// A checkpoint was found that is not whole; one before it is taken.
    Skipped {
        /// Its folder.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A phase begins, or goes on.
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
        /// Weight of each term of its loss, at its start.
        weights: BTreeMap<String, f64>,
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
    /// How far the recorded answers of a task have moved since they were recorded last, on some samples of a dataset.
    Drift {
        /// The phase's number.
        phase: usize,
        /// The dataset.
        dataset: String,
        /// The preserved task.
        task: String,
        /// Number of samples.
        samples: usize,
        /// Mean Kullback-Leibler divergence of the new answers from the old, in nats, where they are probabilities.
        kl: Option<f64>,
        /// Mean cosine between old and new answers.
        cosine: f64,
    },
    /// The cosine between the gradients of two losses on the shared root.
    GradientCosine {
        /// The phase's number.
        phase: usize,
        /// The step in the phase, from 1.
        step: usize,
        /// `first · second`, and their cosine.
        pairs: BTreeMap<String, f64>,
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
        /// Weight of each term in this step, where weights are learnt.
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        weights: BTreeMap<String, f64>,
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
    /// Batches of an evaluation are done.
    Evaluating {
        /// How many.
        done: usize,
        /// Of how many.
        of: usize,
    },
    /// A phase has ended.
    PhaseFinished {
        /// Its number.
        phase: usize,
        /// Its name.
        name: String,
        /// Wall-clock seconds of this process in the phase, with recording and evaluation.
        seconds: f64,
        /// Samples a second, in the steps alone.
        samples_per_second: f64,
        /// The largest resident memory of the process so far, in bytes, where the system tells.
        peak_memory: Option<u64>,
        /// Scores before and after the phase, where it was evaluated.
        changes: Vec<Change>,
    },
    /// Where the time of a phase went, where that is asked for.
    Profile {
        /// The phase's number.
        phase: usize,
        /// Wall-clock seconds of each part of the work.
        seconds: BTreeMap<String, f64>,
    },
    /// A checkpoint is about to be written: what has been told until now belongs to it.
    Saving {
        /// Optimiser steps done by then.
        steps: usize,
        /// Its folder.
        path: PathBuf,
        /// Tells it from others after the same steps.
        state: u32,
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

/// What a phase did to a score.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// Name of the score.
    pub key: String,
    /// Its value at the evaluation before the phase.
    pub before: f64,
    /// Its value after it.
    pub after: f64,
}

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{Result, TrainError};

/// Who answers for a preserved task, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Recorded {
    /// At the start of each phase (the paper's method, eq. 10).
    AtStart,
    /// At the first phase that preserves this task on this dataset, and kept from then on (learning without forgetting).
    Kept,
    /// Never: the moving average of the network's parameters answers each step anew (mean teacher; see
    /// [`Ema`](crate::Ema)).
    MeanTeacher,
}

/// The task a stream is labelled for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Supervise {
    /// The task.
    pub task: String,
    /// Weight of its loss: λ, times a scale if one is used.
    pub weight: f64,
}

/// A task that is held to its recorded responses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preserve {
    /// The task.
    pub task: String,
    /// Weight of its loss: 1 − λ, times a scale if one is used.
    pub weight: f64,
    /// Where its responses come from.
    pub recorded: Recorded,
}

/// Batches from one dataset, with what is learnt from them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stream {
    /// The dataset.
    pub dataset: String,
    /// The task it is labelled for.
    pub supervise: Supervise,
    /// The tasks preserved on it.
    #[serde(default)]
    pub preserve: Vec<Preserve>,
}

/// How long a phase lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Length {
    /// Passes over the largest of the phase's datasets; smaller ones start again when they end.
    Epochs(usize),
    /// Optimiser steps; the next phase on the dataset goes on where this one stopped.
    Steps(usize),
}

/// A stretch of training with one objective. With several streams every step takes a batch from each, and a sample's
/// loss has only the terms of its own stream: mixed batches with masked losses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Phase {
    /// Name in tables and logs.
    pub name: String,
    /// Where the batches come from.
    pub streams: Vec<Stream>,
    /// How long it lasts.
    pub length: Length,
    /// Prefixes of parameter names that are held still, such as `root` or `head.caption`.
    #[serde(default)]
    pub freeze: Vec<String>,
    /// Whether the phase begins, after its responses are recorded, with the parameters that the run began with and a fresh
    /// optimiser: what was trained before teaches, and is not trained on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub restart: bool,
}

impl Phase {
    /// Whether the parameter is held still in this phase.
    pub fn freezes(&self, parameter: &str) -> bool {
        self.freeze.iter().any(|prefix| {
            parameter
                .strip_prefix(prefix.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        })
    }

    /// The tasks whose heads take part, supervised or preserved.
    pub fn tasks(&self) -> BTreeSet<&str> {
        let preserved =
            self.streams.iter().flat_map(|stream| stream.preserve.iter().map(|p| p.task.as_str()));
        self.streams.iter().map(|stream| stream.supervise.task.as_str()).chain(preserved).collect()
    }

    /// The supervised tasks.
    pub fn supervised(&self) -> BTreeSet<&str> {
        self.streams.iter().map(|stream| stream.supervise.task.as_str()).collect()
    }
}

/// A whole run: the prologue once, then the repeated phases, `rounds` times.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// Phases that come once, first.
    #[serde(default)]
    pub prologue: Vec<Phase>,
    /// Phases of a round.
    #[serde(default)]
    pub repeat: Vec<Phase>,
    /// How many rounds.
    #[serde(default)]
    pub rounds: usize,
}

impl Schedule {
    /// All phases in the order they run, each with the round it belongs to (the prologue is round 0).
    pub fn phases(&self) -> impl Iterator<Item = (usize, &Phase)> {
        let rounds = (1..=self.rounds).flat_map(|round| self.repeat.iter().map(move |phase| (round, phase)));
        self.prologue.iter().map(|phase| (0, phase)).chain(rounds)
    }

    /// Whether a preserved task is held to the answers of the parameters' moving average.
    pub(crate) fn has_mean_teacher(&self) -> bool {
        let mut preserved = self.phases().flat_map(|(_, phase)| &phase.streams).flat_map(|s| &s.preserve);
        preserved.any(|preserve| preserve.recorded == Recorded::MeanTeacher)
    }

    /// Checks names, weights and lengths.
    ///
    /// # Errors
    /// If there is no phase, a phase is empty, a name is unknown, a weight is negative or not finite, or a stream
    /// preserves the task that it supervises.
    pub fn check<'a>(
        &self,
        datasets: impl IntoIterator<Item = &'a str>,
        tasks: impl IntoIterator<Item = &'a str>,
    ) -> Result<()> {
        let datasets: BTreeSet<&str> = datasets.into_iter().collect();
        let tasks: BTreeSet<&str> = tasks.into_iter().collect();
        if self.phases().next().is_none() {
            return Err(TrainError::invalid(
                "the schedule has no phase: give it a prologue, or repeat and rounds",
            ));
        }
        for phase in self.prologue.iter().chain(&self.repeat) {
            let fail =
                |problem: String| Err(TrainError::invalid(format!("phase {:?}: {problem}", phase.name)));
            if phase.streams.is_empty() {
                return fail("it has no stream".into());
            }
            if matches!(phase.length, Length::Epochs(0) | Length::Steps(0)) {
                return fail("its length is 0".into());
            }
            for stream in &phase.streams {
                if !datasets.contains(stream.dataset.as_str()) {
                    return fail(format!("dataset {:?} is unknown; there are {datasets:?}", stream.dataset));
                }
                let weights = stream.preserve.iter().map(|p| (&p.task, p.weight));
                for (task, weight) in weights.chain([(&stream.supervise.task, stream.supervise.weight)]) {
                    if !tasks.contains(task.as_str()) {
                        return fail(format!("task {task:?} is unknown; there are {tasks:?}"));
                    }
                    if !(weight.is_finite() && weight >= 0.0) {
                        return fail(format!(
                            "the weight {weight} of task {task:?} is not a number from 0 up"
                        ));
                    }
                }
                if let Some(p) = stream.preserve.iter().find(|p| p.task == stream.supervise.task) {
                    return fail(format!(
                        "it both supervises and preserves {:?} on {:?}",
                        p.task, stream.dataset
                    ));
                }
            }
        }
        Ok(())
    }
}

//! Many runs as one: a grid of settings, methods and seeds, whose finished runs are never run again.

mod grid;
mod keep;
mod workers;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use candle_core::Device;
use serde::{Deserialize, Serialize};
use toml::Value;

pub use grid::{Axis, Grid, Planned};

use crate::evaluate::Score;
use crate::event::Event;
use crate::experiment::{Experiment, Run};
use crate::method::Method;
use crate::{Result, TrainError};

/// The runs of a sweep that are finished: what `sweep.json` in its folder says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sweep {
    /// The settings that were varied.
    pub axes: Vec<Axis>,
    /// The finished runs, in the order of the grid.
    pub runs: Vec<SweepRun>,
}

/// A finished run of a sweep.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SweepRun {
    /// Digest of everything that the run's results depend on.
    pub hash: String,
    /// The method.
    pub method: Method,
    /// The seed.
    pub seed: u64,
    /// The value of each axis.
    pub settings: BTreeMap<String, Value>,
    /// The run's folder, below that of the sweep. Runs that compute the same share it.
    pub folder: PathBuf,
    /// The scores after its last step.
    pub scores: Vec<Score>,
    /// What a phase of another task costs each score (see [`Cell::switch_costs`](crate::Cell::switch_costs)); read from
    /// the run's events.
    #[serde(skip)]
    pub switch_costs: BTreeMap<String, f64>,
}

impl Sweep {
    /// Reads the sweep in a folder.
    ///
    /// # Errors
    /// If it has none, or a file of it cannot be read.
    pub fn read(folder: &Path) -> Result<Self> {
        keep::read(folder)
    }
}

/// How a sweep is carried out. None of this changes its numbers.
#[derive(Clone)]
pub struct SweepSettings {
    /// The sweep's folder. A run's is `runs/<hash>` below it, with `config.toml`, `metrics.jsonl` and, when it is
    /// finished, `model.safetensors` and `scores.json`.
    pub folder: PathBuf,
    /// Where to compute.
    pub device: Device,
    /// How many runs at once; they share the threads.
    pub jobs: usize,
    /// Whether each run's network is kept.
    pub models: bool,
    /// Whether runs write checkpoints, as their configuration says, and go on from them when they were interrupted. Runs
    /// of seconds are sooner run again. The checkpoints of a run that is finished are removed.
    pub checkpoints: bool,
    /// What the runs are computed with: kept beside each as `environment.json`.
    pub environment: serde_json::Value,
    /// Set from outside to end all runs after their current step.
    pub stop: Arc<AtomicBool>,
}

/// What happens in a sweep.
#[derive(Debug)]
pub enum SweepEvent<'a> {
    /// Data and initial root are being prepared.
    Preparing(&'a Event),
    /// A run need not be run: it was finished before, or computes the same as another.
    Kept(&'a Planned),
    /// Something happened in a run.
    Running {
        /// The run's number in the grid, from 0.
        number: usize,
        /// The run.
        planned: &'a Planned,
        /// What happened.
        event: &'a Event,
    },
    /// A run is over, and on disk.
    Finished {
        /// The run's number in the grid, from 0.
        number: usize,
        /// The run.
        planned: &'a Planned,
        /// Its scores.
        scores: &'a [Score],
        /// Wall-clock seconds it took.
        seconds: f64,
    },
    /// A run's loss became NaN or infinite; the others go on.
    Diverged {
        /// The run.
        planned: &'a Planned,
        /// What happened.
        error: &'a TrainError,
    },
}

/// Runs all of a grid that is not finished yet. `sweep.json` is written whole after each run.
///
/// # Errors
/// If the grid is none, another process is at work in the folder, the folder cannot be written, or a run fails for
/// another reason than that its loss diverged. What was finished before the error stays, and is not run again.
pub fn sweep(grid: &Grid, settings: &SweepSettings, sink: &mut dyn FnMut(SweepEvent<'_>)) -> Result<Sweep> {
    let plan = grid.plan()?;
    let _lock = keep::lock(&settings.folder)?;
    let mut finished: Vec<Option<SweepRun>> = vec![None; plan.len()];
    let mut first_error = None;
    for group in groups(&plan) {
        if settings.stop.load(Ordering::Relaxed) || first_error.is_some() {
            break;
        }
        let config = &plan[group[0]].config;
        let prepared = Experiment::prepare(config, &settings.device, &settings.stop, &mut |event| {
            sink(SweepEvent::Preparing(event));
        })?;
        let mut jobs: Vec<workers::Job> = Vec::new();
        let mut same: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for number in group {
            let experiment = prepared.with(&plan[number].config).ok_or_else(|| {
                TrainError::invalid("settings that ask for other data were taken for others of the same")
            })?;
            let hash = experiment.hash(&plan[number].run(&settings.stop))?;
            let known = same.contains_key(&hash);
            same.entry(hash.clone()).or_default().push(number);
            if known {
                sink(SweepEvent::Kept(&plan[number]));
                continue;
            }
            match keep::finished(&settings.folder, &hash)? {
                Some((scores, switch_costs)) => {
                    sink(SweepEvent::Kept(&plan[number]));
                    finished[number] = Some(plan[number].record(&hash, scores, switch_costs));
                }
                None => jobs.push(workers::Job { number, hash, experiment }),
            }
        }
        let complete = |finished: &mut Vec<Option<SweepRun>>| {
            // Runs that compute the same have one result.
            for numbers in same.values() {
                if let Some(run) = finished[numbers[0]].clone() {
                    for &number in &numbers[1..] {
                        let (scores, costs) = (run.scores.clone(), run.switch_costs.clone());
                        finished[number] = Some(plan[number].record(&run.hash, scores, costs));
                    }
                }
            }
        };
        complete(&mut finished);
        keep::write(&settings.folder, &grid.axes, &finished)?;
        workers::run(&plan, jobs, settings, &mut |message| {
            match message {
                workers::Message::Event(number, event) => {
                    sink(SweepEvent::Running { number, planned: &plan[number], event: &event });
                }
                workers::Message::Finished(number, run, seconds) => {
                    let planned = &plan[number];
                    sink(SweepEvent::Finished { number, planned, scores: &run.scores, seconds });
                    finished[number] = Some(*run);
                    complete(&mut finished);
                    keep::write(&settings.folder, &grid.axes, &finished)?;
                }
                workers::Message::Failed(number, error @ TrainError::NotFinite { .. }) => {
                    sink(SweepEvent::Diverged { planned: &plan[number], error: &error });
                }
                workers::Message::Failed(_, error) => {
                    first_error.get_or_insert(error);
                }
            }
            Ok(first_error.is_none())
        })?;
    }
    match first_error {
        Some(error) => Err(error),
        None => Ok(Sweep { axes: grid.axes.clone(), runs: finished.into_iter().flatten().collect() }),
    }
}

/// The numbers of the runs that share data and initial root, so that these are prepared once.
fn groups(plan: &[Planned]) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for (number, planned) in plan.iter().enumerate() {
        match groups.iter_mut().find(|group| Experiment::share(&plan[group[0]].config, &planned.config)) {
            Some(group) => group.push(number),
            None => groups.push(vec![number]),
        }
    }
    groups
}

impl Planned {
    fn run(&self, stop: &Arc<AtomicBool>) -> Run {
        let (method, seed) = (self.config.method, self.config.seed);
        Run { method, seed, folder: None, resume: false, stop: stop.clone() }
    }

    fn record(&self, hash: &str, scores: Vec<Score>, switch_costs: BTreeMap<String, f64>) -> SweepRun {
        SweepRun {
            hash: hash.into(),
            method: self.config.method,
            seed: self.config.seed,
            settings: self.settings.clone(),
            folder: keep::below(hash),
            scores,
            switch_costs,
        }
    }
}

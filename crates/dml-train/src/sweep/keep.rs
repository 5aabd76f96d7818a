//! What a sweep keeps on disk.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use dml_model::Params;
use serde_json::Value;

use super::{Axis, Sweep, SweepRun};
use crate::checkpoint::{CHECKPOINTS, MODEL};
use crate::config::Config;
use crate::evaluate::Score;
use crate::event::Event;
use crate::log::Log;
use crate::summary::History;
use crate::{Result, TrainError};

const SWEEP: &str = "sweep.json";
const LOCK: &str = "sweep.lock";
const CONFIG: &str = "config.toml";
const METRICS: &str = "metrics.jsonl";
const SCORES: &str = "scores.json";
const ENVIRONMENT: &str = "environment.json";

/// How a run ended: its scores, and what a switch costs each.
pub(super) type Ended = (Vec<Score>, BTreeMap<String, f64>);

/// A run's folder, below that of the sweep.
pub(super) fn below(hash: &str) -> PathBuf {
    Path::new("runs").join(hash)
}

/// Makes the folder, and keeps other processes from working in it until the lock is dropped.
pub(super) fn lock(folder: &Path) -> Result<File> {
    fs::create_dir_all(folder).map_err(io(folder))?;
    let path = folder.join(LOCK);
    let file = File::create(&path).map_err(io(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(TrainError::invalid(format!(
            "another process is at work in {}: wait for it, or choose another folder",
            folder.display()
        ))),
        Err(fs::TryLockError::Error(error)) => Err(io(&path)(error)),
    }
}

/// Reads `sweep.json`, and of each run what its switches cost.
pub(super) fn read(folder: &Path) -> Result<Sweep> {
    let path = folder.join(SWEEP);
    let mut sweep: Sweep = parse(&path, &fs::read(&path).map_err(io(&path))?)?;
    for run in &mut sweep.runs {
        run.switch_costs = history(&folder.join(&run.folder))?.switch_costs();
    }
    Ok(sweep)
}

/// Writes `sweep.json` whole.
pub(super) fn write(folder: &Path, axes: &[Axis], finished: &[Option<SweepRun>]) -> Result<()> {
    let sweep = Sweep { axes: axes.to_vec(), runs: finished.iter().flatten().cloned().collect() };
    write_json(&folder.join(SWEEP), &sweep)
}

/// Scores and switch costs of the run with this hash, if it is finished.
pub(super) fn finished(folder: &Path, hash: &str) -> Result<Option<Ended>> {
    let run = folder.join(below(hash));
    let path = run.join(SCORES);
    match fs::read(&path) {
        Ok(bytes) => Ok(Some((parse(&path, &bytes)?, history(&run)?.switch_costs()))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io(&path)(error)),
    }
}

/// A run's evaluations, from its events.
pub(super) fn history(run: &Path) -> Result<History> {
    let path = run.join(METRICS);
    let text = fs::read_to_string(&path).map_err(io(&path))?;
    let mut history = History::default();
    for line in text.lines().filter(|line| line.contains("\"evaluated\"")) {
        let event: Value = parse(&path, line.as_bytes())?;
        if let (Some("evaluated"), Some(name)) = (event["event"].as_str(), event["name"].as_str()) {
            history.push(name, &parse::<Vec<Score>>(&path, event["scores"].to_string().as_bytes())?);
        }
    }
    Ok(history)
}

/// The folder of a run that is going on.
pub(super) struct RunFolder {
    folder: PathBuf,
    log: Log,
}

impl RunFolder {
    /// Makes the folder, with the configuration in it. What an interrupted run left is replaced, or gone on with.
    pub(super) fn create(folder: PathBuf, config: &Config, environment: &Value) -> Result<Self> {
        fs::create_dir_all(&folder).map_err(io(&folder))?;
        write_whole(&folder.join(CONFIG), config.to_toml()?.as_bytes())?;
        write_json(&folder.join(ENVIRONMENT), environment)?;
        Ok(Self { log: Log::open(&folder.join(METRICS))?, folder })
    }

    pub(super) fn path(&self) -> &Path {
        &self.folder
    }

    /// Writes a line; an error is told by [`finish`](Self::finish).
    pub(super) fn log(&mut self, event: &Event) {
        self.log.write(event);
    }

    /// Puts what has been logged on disk.
    pub(super) fn close(self) -> Result<()> {
        self.log.close()
    }

    /// Puts everything on disk, the scores last: they say that the run is finished.
    pub(super) fn finish(self, scores: &[Score], params: Option<&Params>) -> Result<()> {
        self.log.close()?;
        if let Some(params) = params {
            let path = self.folder.join(MODEL);
            dml_model::save_safetensors(&path, &params.tensors(), &BTreeMap::new())?;
        }
        write_json(&self.folder.join(SCORES), &scores)?;
        let checkpoints = self.folder.join(CHECKPOINTS);
        match fs::remove_dir_all(&checkpoints) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(io(&checkpoints)(error)),
            _ => Ok(()),
        }
    }
}

fn parse<T: serde::de::DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<T> {
    let problem = |error: serde_json::Error| format!("{error}; remove the file to make it anew");
    serde_json::from_slice(bytes)
        .map_err(|error| TrainError::Config { path: path.into(), problem: problem(error) })
}

fn write_json(path: &Path, value: &impl serde::Serialize) -> Result<()> {
    let bytes = serde_json::to_vec_pretty(value)
        .map_err(|error| TrainError::Config { path: path.into(), problem: error.to_string() })?;
    write_whole(path, &bytes)
}

/// Writes a file whole or not at all.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let temporary = path.with_extension("tmp");
    let attempt = || {
        let mut file = File::create(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    attempt().map_err(io(path))
}

fn io(path: &Path) -> impl Fn(std::io::Error) -> TrainError + '_ {
    move |source| TrainError::Io { path: path.into(), source }
}

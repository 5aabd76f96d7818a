//! What a sweep keeps on disk.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use dml_model::Params;
use serde_json::Value;

use super::{Axis, Sweep, SweepRun};
use crate::config::Config;
use crate::evaluate::Score;
use crate::event::Event;
use crate::summary::History;
use crate::{Result, TrainError};

const SWEEP: &str = "sweep.json";
const LOCK: &str = "sweep.lock";
const CONFIG: &str = "config.toml";
const METRICS: &str = "metrics.jsonl";
const SCORES: &str = "scores.json";
const MODEL: &str = "model.safetensors";

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
fn history(run: &Path) -> Result<History> {
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
    log: BufWriter<File>,
    failed: Option<std::io::Error>,
}

impl RunFolder {
    /// Makes the folder anew, with the configuration in it: what an interrupted run left is replaced.
    pub(super) fn create(folder: PathBuf, config: &Config) -> Result<Self> {
        fs::create_dir_all(&folder).map_err(io(&folder))?;
        write_whole(&folder.join(CONFIG), config.to_toml()?.as_bytes())?;
        let path = folder.join(METRICS);
        let log = BufWriter::new(File::create(&path).map_err(io(&path))?);
        Ok(Self { folder, log, failed: None })
    }

    /// Writes a line; an error is told by [`finish`](Self::finish).
    pub(super) fn log(&mut self, event: &Event) {
        let written = serde_json::to_string(event)
            .map_err(std::io::Error::from)
            .and_then(|line| writeln!(self.log, "{line}"));
        if let (Err(error), None) = (written, &self.failed) {
            self.failed = Some(error);
        }
    }

    /// Puts everything on disk, the scores last: they say that the run is finished.
    pub(super) fn finish(mut self, scores: &[Score], params: Option<&Params>) -> Result<()> {
        let path = self.folder.join(METRICS);
        let flushed = self.log.flush().and_then(|()| self.log.get_ref().sync_all());
        self.failed.map_or(flushed, Err).map_err(io(&path))?;
        if let Some(params) = params {
            let path = self.folder.join(MODEL);
            dml_model::save_safetensors(&path, &params.tensors(), &BTreeMap::new())?;
        }
        write_json(&self.folder.join(SCORES), &scores)
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

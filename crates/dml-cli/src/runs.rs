//! The folders of runs.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use dml_train::{Config, DataConfig};

use crate::environment::Environment;

/// The resolved configuration of a run.
pub(crate) const CONFIG: &str = "config.toml";
/// Everything that happened, a JSON object a line.
pub(crate) const METRICS: &str = "metrics.jsonl";
/// The final scores.
pub(crate) const SCORES: &str = "scores.json";

/// What the run was computed with.
const ENVIRONMENT: &str = "environment.json";
/// Held by the process that works on the run.
const LOCK: &str = ".lock";

/// The scores of a comparison.
pub(crate) const COMPARISON: &str = "comparison.json";

/// Makes the folder of a new run: the one asked for, or the first free `runs/<data>-<method>-seed<n>`.
pub(crate) fn create(out: Option<&Path>, config: &Config) -> Result<PathBuf> {
    match out {
        Some(folder) if folder.join(CONFIG).exists() => {
            bail!("{} holds a run already; choose another --out", folder.display())
        }
        Some(folder) => fill(folder, config),
        None => create_named(&format!("{}-seed{}", config.method, config.seed), config),
    }
}

/// What the folders of a kind of data are called after.
pub(crate) fn kind(config: &Config) -> &'static str {
    match config.data {
        DataConfig::Sample(_) => "sample",
        DataConfig::Photographs(_) => "photographs",
        DataConfig::Videos(_) => "videos",
    }
}

/// Makes the first free folder `runs/<data>-<name>`, with the resolved configuration in it.
fn create_named(name: &str, config: &Config) -> Result<PathBuf> {
    let name = format!("{}-{name}", kind(config));
    let names = std::iter::once(name.clone()).chain((2..).map(|n| format!("{name}-{n}")));
    let free = names.map(|name| Path::new("runs").join(name)).find(|folder| !folder.exists());
    fill(&free.unwrap_or_default(), config)
}

pub(crate) fn fill(folder: &Path, config: &Config) -> Result<PathBuf> {
    fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    write(&folder.join(CONFIG), config.to_toml()?.as_bytes())?;
    Ok(folder.to_path_buf())
}

/// Keeps other processes from a run while it lives.
pub(crate) struct Hold(#[allow(dead_code)] fs::File);

/// Takes hold of the run of this folder, and notes what it is computed with.
pub(crate) fn hold(folder: &Path, environment: &Environment) -> Result<Hold> {
    let path = folder.join(LOCK);
    let file = fs::File::create(&path).with_context(|| format!("making {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(fs::TryLockError::WouldBlock) => {
            bail!("another process works on {}: wait for it, or stop it", folder.display())
        }
        Err(fs::TryLockError::Error(error)) => {
            return Err(error).with_context(|| format!("locking {}", path.display()));
        }
    }
    write(&folder.join(ENVIRONMENT), &serde_json::to_vec_pretty(environment)?)?;
    Ok(Hold(file))
}

/// The folder that `--resume` means: one that is named, or for `latest` that in `runs` which was worked on last.
pub(crate) fn to_resume(which: &Path) -> Result<PathBuf> {
    if which != Path::new("latest") || which.join(CONFIG).exists() {
        config(which)?;
        return Ok(which.to_path_buf());
    }
    let entries = fs::read_dir("runs").context("looking for the latest run in the folder `runs`")?;
    let worked_on =
        |folder: &PathBuf| fs::metadata(folder.join(METRICS)).and_then(|file| file.modified()).ok();
    let folders = entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|f| f.join(CONFIG).exists());
    let latest = folders.filter(|folder| worked_on(folder).is_some()).max_by_key(worked_on);
    latest.context("there is no run in the folder `runs` to resume")
}

/// The configuration of a run.
pub(crate) fn config(folder: &Path) -> Result<Config> {
    let path = folder.join(CONFIG);
    if !path.exists() {
        bail!("{} is not the folder of a run: it has no {CONFIG}", folder.display());
    }
    Ok(Config::load(&Config::sample(), Some(&path), &[])?)
}

/// Writes a small file whole or not at all.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let temporary = path.with_extension("tmp");
    let attempt = || -> std::io::Result<()> {
        let mut file = fs::File::create(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    attempt().with_context(|| format!("writing {}", path.display()))
}

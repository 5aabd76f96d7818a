//! The folders of runs.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use dml_train::{Config, DataConfig};

/// The resolved configuration of a run.
pub(crate) const CONFIG: &str = "config.toml";
/// Everything that happened, a JSON object a line.
pub(crate) const METRICS: &str = "metrics.jsonl";
/// The final scores.
pub(crate) const SCORES: &str = "scores.json";

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

/// Makes the first free folder `runs/<data>-<name>`, with the resolved configuration in it.
pub(crate) fn create_named(name: &str, config: &Config) -> Result<PathBuf> {
    let data = match config.data {
        DataConfig::Sample(_) => "sample",
        DataConfig::Photographs(_) => "photographs",
        DataConfig::Videos(_) => "videos",
    };
    let name = format!("{data}-{name}");
    let names = std::iter::once(name.clone()).chain((2..).map(|n| format!("{name}-{n}")));
    let free = names.map(|name| Path::new("runs").join(name)).find(|folder| !folder.exists());
    fill(&free.unwrap_or_default(), config)
}

fn fill(folder: &Path, config: &Config) -> Result<PathBuf> {
    fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    write(&folder.join(CONFIG), config.to_toml()?.as_bytes())?;
    Ok(folder.to_path_buf())
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

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use serde::Deserialize;

use crate::Done;
use crate::progress::say;

pub(crate) mod fetch;

/// The registry: a file in the repository, so that an address that moves is a change of data.
const REGISTRY: &str = include_str!("../../../data/weights.toml");

#[derive(Debug, Args)]
pub(crate) struct WeightsArgs {
    #[command(subcommand)]
    command: WeightsCommand,
}

#[derive(Debug, Subcommand)]
enum WeightsCommand {
    /// List the published weights that are known, with their licences.
    List {
        /// Print as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Download published weights.
    Fetch {
        /// Its name in the list.
        name: String,
        /// Folder for the file; by default $DML_WEIGHTS, or `dml-weights` in the user's cache. What comes from the
        /// Hugging Face hub goes into the hub's own cache.
        #[arg(long, value_name = "DIR")]
        into: Option<PathBuf>,
    },
}

/// Published weights.
#[derive(Debug, Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    /// What they are.
    what: String,
    /// The name under which the file is stored.
    file: Option<String>,
    /// Where the file is.
    url: Option<String>,
    /// Owner and name on the Hugging Face hub, with the files there.
    hub: Option<String>,
    #[serde(default)]
    hub_files: Vec<String>,
    /// In bytes.
    size: Option<u64>,
    sha256: Option<String>,
    sha1: Option<String>,
    licence: String,
    citation: String,
    /// What to do with it, or why it cannot be fetched.
    note: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Registry {
    weights: Vec<Entry>,
}

pub(crate) fn run(args: &WeightsArgs) -> Result<Done> {
    let Registry { weights } = toml::from_str(REGISTRY).context("reading the registry of weights")?;
    match &args.command {
        WeightsCommand::List { json: true } => say(&serde_json::to_string_pretty(&weights)?),
        WeightsCommand::List { json: false } => weights.iter().for_each(describe),
        WeightsCommand::Fetch { name, into } => {
            let Some(entry) = weights.iter().find(|entry| entry.name == *name) else {
                let names: Vec<&str> = weights.iter().map(|entry| entry.name.as_str()).collect();
                bail!("no weights are called {name:?}; there are {}", names.join(", "));
            };
            say(&format!("{}\nlicence: {}\nplease cite: {}", entry.what, entry.licence, entry.citation));
            for path in get(entry, into.as_deref())? {
                say(&path.display().to_string());
            }
            if let Some(note) = &entry.note {
                say(note);
            }
        }
    }
    Ok(Done::Whole)
}

fn describe(entry: &Entry) {
    let size = entry.size.map_or("size unknown".into(), |size| format!("{:.1} MB", size as f64 / 1e6));
    let place = match (&entry.hub, &entry.url) {
        (Some(hub), _) => format!("huggingface.co/{hub}"),
        (None, Some(url)) => url.clone(),
        (None, None) => "to be fetched by hand".into(),
    };
    let check = match (&entry.sha256, &entry.sha1) {
        (Some(_), _) => "sha256 known",
        (None, Some(_)) => "sha1 known",
        (None, None) => "no checksum known",
    };
    say(&format!("{}: {}\n  {place}\n  {size}, {check}; {}", entry.name, entry.what, entry.licence));
    if let Some(note) = &entry.note {
        say(&format!("  {note}"));
    }
}

/// The one place that knows how a file comes here.
fn get(entry: &Entry, into: Option<&Path>) -> Result<Vec<PathBuf>> {
    if let Some(hub) = &entry.hub {
        return entry.hub_files.iter().map(|file| fetch::from_hub(hub, file)).collect();
    }
    let (Some(url), Some(file)) = (&entry.url, &entry.file) else {
        bail!("{} cannot be fetched: {}", entry.name, entry.note.as_deref().unwrap_or("no address is known"));
    };
    let folder = match into {
        Some(folder) => folder.to_path_buf(),
        None => folder().context("no folder for weights: give --into, or set DML_WEIGHTS")?,
    };
    let checks = fetch::Checks { size: entry.size, sha256: entry.sha256.clone(), sha1: entry.sha1.clone() };
    let path = folder.join(file);
    fetch::from_url(url, &path, &checks)?;
    Ok(vec![path])
}

/// Where the commands look for weights first.
fn folder() -> Option<PathBuf> {
    let var = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = || var("XDG_CACHE_HOME").or_else(|| Some(var("HOME")?.join(".cache")));
    var("DML_WEIGHTS").or_else(|| Some(cache()?.join("dml-weights")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_can_be_fetched_or_says_why_not() {
        let Registry { weights } = toml::from_str(REGISTRY).unwrap();
        assert!(weights.len() >= 10);
        for entry in &weights {
            let places =
                [entry.hub.is_some(), entry.url.is_some()].into_iter().filter(|there| *there).count();
            assert!(places == 1 || places == 0 && entry.note.is_some(), "{}", entry.name);
            assert_eq!(entry.hub.is_some(), !entry.hub_files.is_empty(), "{}", entry.name);
            assert_eq!(entry.url.is_some(), entry.file.is_some(), "{}", entry.name);
            for (digest, length) in [(&entry.sha256, 64), (&entry.sha1, 40)] {
                assert!(digest.iter().all(|digest| digest.len() == length), "{}", entry.name);
            }
            assert_eq!(weights.iter().filter(|other| other.name == entry.name).count(), 1, "{}", entry.name);
        }
    }
}

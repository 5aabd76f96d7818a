use std::path::{Path, PathBuf};

use dml_train::{ClassTable, Gallery, Score};

use crate::history::History;
use crate::{ReportError, Result};

/// What the folder of a run says about it.
#[derive(Clone, Debug)]
pub struct Run {
    /// Its name: that of the folder.
    pub name: String,
    /// The folder.
    pub folder: PathBuf,
    /// The resolved settings: dotted keys with their values, in the file's order.
    pub settings: Vec<(String, String)>,
    /// What it ran on, likewise; nothing where the run does not say.
    pub environment: Vec<(String, String)>,
    /// What happened.
    pub history: History,
    /// The last scores.
    pub scores: Vec<Score>,
    /// What a look at the checkpoint has found, or why nothing; none where the page is to say nothing about it.
    pub detail: Option<std::result::Result<Detail, String>>,
}

/// What only the checkpoint can say.
#[derive(Clone, Debug, Default)]
pub struct Detail {
    /// Its scores.
    pub scores: Vec<Score>,
    /// Its class tasks, class by class.
    pub classes: Vec<ClassTable>,
    /// Its cross-task predictions.
    pub galleries: Vec<Gallery>,
    /// Tasks that the run has not trained.
    pub untrained: Vec<String>,
}

impl Run {
    /// Whether the folder is that of a run.
    pub fn is_in(folder: &Path) -> bool {
        folder.join(CONFIG).is_file()
    }

    /// Reads the folder of a run: `config.toml`, and of `metrics.jsonl`, `scores.json` and `environment.json` what is there.
    ///
    /// # Errors
    /// If there is no `config.toml`, or a file cannot be read or is not what it should be.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(CONFIG);
        let config = read(&path)?.ok_or_else(|| ReportError::Folder(folder.into()))?;
        let config: toml::Table =
            config.parse().map_err(|e: toml::de::Error| format(&path, e.to_string()))?;
        let config = serde_json::to_value(config).map_err(|e| format(&path, e.to_string()))?;
        let history =
            read(&folder.join("metrics.jsonl"))?.map(|text| History::parse(&text)).unwrap_or_default();
        let saved: Option<Vec<Score>> = read_json(&folder.join("scores.json"))?;
        let last = || history.evaluations.last().map(|last| last.scores.clone());
        let scores = saved.or_else(last).unwrap_or_default();
        let environment: Option<serde_json::Value> = read_json(&folder.join("environment.json"))?;
        let name = folder.canonicalize().unwrap_or_else(|_| folder.into());
        let name = name.file_name().unwrap_or(name.as_os_str()).to_string_lossy().into_owned();
        Ok(Self {
            name,
            folder: folder.into(),
            settings: flat(&config),
            environment: environment.as_ref().map(flat).unwrap_or_default(),
            history,
            scores,
            detail: None,
        })
    }

    /// A setting by its dotted key.
    pub fn setting(&self, key: &str) -> Option<&str> {
        self.settings.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str())
    }

    /// The scores of the checkpoint where it was looked at, otherwise those that the run has left.
    pub fn final_scores(&self) -> &[Score] {
        match &self.detail {
            Some(Ok(detail)) if !detail.scores.is_empty() => &detail.scores,
            _ => &self.scores,
        }
    }
}

const CONFIG: &str = "config.toml";

/// The file's text; none where there is no such file.
pub(crate) fn read(path: &Path) -> Result<Option<String>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ReportError::Io { path: path.into(), source }),
    }
}

pub(crate) fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let parse = |text: String| serde_json::from_str(&text).map_err(|e| format(path, e.to_string()));
    read(path)?.map(parse).transpose()
}

fn format(path: &Path, problem: String) -> ReportError {
    ReportError::Format { path: path.into(), problem }
}

/// Nested values as dotted keys. A list of plain values stays in one piece.
pub(crate) fn flat(value: &serde_json::Value) -> Vec<(String, String)> {
    use serde_json::Value;
    fn walk(key: &str, value: &Value, out: &mut Vec<(String, String)>) {
        let below = |name: &str| if key.is_empty() { name.to_string() } else { format!("{key}.{name}") };
        match value {
            Value::Object(map) if !map.is_empty() => {
                map.iter().for_each(|(name, value)| walk(&below(name), value, out));
            }
            Value::Array(list) if list.iter().any(|value| value.is_object() || value.is_array()) => {
                list.iter().enumerate().for_each(|(i, value)| walk(&below(&(i + 1).to_string()), value, out));
            }
            Value::String(text) => out.push((key.into(), text.clone())),
            other => out.push((key.into(), other.to_string())),
        }
    }
    let mut out = Vec::new();
    walk("", value, &mut out);
    out
}

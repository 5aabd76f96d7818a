use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use dml_train::{Axis, Score, SweepRun};
use toml::Value;

use crate::heat::axis_name;
use crate::run::read_json;
use crate::{ReportError, Result};

/// Runs that differ in some settings: `sweep.json` of a sweep or a comparison, with its folder.
#[derive(Clone, Debug)]
pub struct Sweep {
    /// The folder.
    pub folder: PathBuf,
    /// The settings that were varied.
    pub axes: Vec<Axis>,
    /// The finished runs.
    pub runs: Vec<SweepRun>,
}

/// A score over the grid of two axes.
#[derive(Clone, Debug, PartialEq)]
pub struct Heat {
    /// Name of the score within a run.
    pub score: Score,
    /// What all its runs have in common beside the axes, such as the method.
    pub common: String,
    /// Key and values from left to right.
    pub x: (String, Vec<String>),
    /// Key and values from top to bottom.
    pub y: (String, Vec<String>),
    /// Rows from top to bottom: the mean over the seeds, and how many there were.
    pub cells: Vec<Vec<Option<(f64, usize)>>>,
}

impl Sweep {
    /// Whether the folder is that of a sweep.
    pub fn is_in(folder: &Path) -> bool {
        folder.join(FILE).is_file()
    }

    /// Reads `sweep.json`.
    ///
    /// # Errors
    /// If it cannot be read or is not what it should be.
    pub fn read(folder: &Path) -> Result<Self> {
        let file: Option<dml_train::Sweep> = read_json(&folder.join(FILE))?;
        let dml_train::Sweep { axes, runs } = file.ok_or_else(|| ReportError::Folder(folder.into()))?;
        Ok(Self { folder: folder.into(), axes, runs })
    }

    /// A heat map for each score and each combination of what varies beside the first two axes; nothing where fewer than
    /// two settings vary. Smaller values are at the left and at the bottom, as in a diagram.
    pub fn heats(&self) -> Vec<Heat> {
        let varied: Vec<&Axis> = self.axes.iter().filter(|axis| is_shown(axis)).collect();
        let [x, y, rest @ ..] = varied.as_slice() else { return vec![] };
        let other = |run: &SweepRun| {
            let of_axes =
                rest.iter().map(|axis| format!("{} {}", axis.key, text(run.settings.get(&axis.key))));
            std::iter::once(run.method.to_string()).chain(of_axes).collect::<Vec<_>>().join(", ")
        };
        let groups: BTreeSet<String> = self.runs.iter().map(other).collect();
        let mut heats = Vec::new();
        for score in self.scores() {
            for common in &groups {
                let mean = |row: &Value, column: &Value| {
                    let values: Vec<f64> = self
                        .runs
                        .iter()
                        .filter(|run| other(run) == *common)
                        .filter(|run| run.settings.get(&x.key) == Some(column))
                        .filter(|run| run.settings.get(&y.key) == Some(row))
                        .filter_map(|run| run.scores.iter().find(|s| s.key() == score.key()))
                        .map(|score| score.value)
                        .collect();
                    (!values.is_empty())
                        .then(|| (values.iter().sum::<f64>() / values.len() as f64, values.len()))
                };
                let row = |row: &Value| x.values.iter().map(|column| mean(row, column)).collect();
                let labels = |axis: &Axis| axis.values.iter().map(|value| text(Some(value))).collect();
                let mut upwards: Vec<String> = labels(y);
                upwards.reverse();
                heats.push(Heat {
                    score: score.clone(),
                    common: common.clone(),
                    x: (x.key.clone(), labels(x)),
                    y: (y.key.clone(), upwards),
                    cells: y.values.iter().rev().map(row).collect(),
                });
            }
        }
        heats
    }

    /// One score of each key, in the order in which the runs have them.
    pub fn scores(&self) -> Vec<Score> {
        let mut known: Vec<Score> = Vec::new();
        for score in self.runs.iter().flat_map(|run| &run.scores) {
            if known.iter().all(|other| other.key() != score.key()) {
                known.push(score.clone());
            }
        }
        known
    }

    /// The folders of at most `most` runs to lay over each other, if there are no more: those of the first seed.
    pub fn comparable(&self, most: usize) -> Vec<PathBuf> {
        let Some(first) = self.runs.iter().map(|run| run.seed).min() else { return vec![] };
        let of_first = self.runs.iter().filter(|run| run.seed == first);
        // Runs that compute the same share a folder.
        let folders: BTreeSet<PathBuf> = of_first.map(|run| self.folder.join(&run.folder)).collect();
        if folders.len() > most { vec![] } else { folders.into_iter().collect() }
    }
}

/// A name that tells a run from the others: method, settings and seed.
pub(crate) fn name(run: &SweepRun) -> String {
    let settings = run.settings.iter().filter(|(key, _)| !["method", "seed"].contains(&key.as_str()));
    let settings = settings.map(|(key, value)| format!("{} {}", axis_name(key), text(Some(value))));
    let seed = format!("seed {}", run.seed);
    std::iter::once(run.method.to_string()).chain(settings).chain([seed]).collect::<Vec<_>>().join(", ")
}

/// Whether scores are shown at each of the axis's values, not averaged over them.
fn is_shown(axis: &Axis) -> bool {
    axis.values.len() > 1 && axis.key != "seed" && !axis.averaged
}

const FILE: &str = "sweep.json";

/// A value without the quotes of its format.
pub(crate) fn text(value: Option<&Value>) -> String {
    match value {
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
        None => "–".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_averaged_and_missing_cells_stay_empty() {
        let score = |value: f64| {
            format!(
                r#"{{"eval":"class","task":"class","measure":"hit@1","protocol":"clip","value":{value},
                "higher_is_better":true,"n":9}}"#
            )
        };
        let run = |seed: u64, a: f64, b: u64, value: f64| {
            format!(
                r#"{{"hash":"x","method":"dml","seed":{seed},"settings":{{"a":{a},"b":{b}}},"folder":"runs/{seed}-{b}",
                "scores":[{}]}}"#,
                score(value)
            )
        };
        let runs = [run(0, 0.1, 1, 10.0), run(1, 0.1, 1, 20.0), run(0, 0.5, 2, 30.0)].join(",");
        let folder = tempfile::tempdir().unwrap();
        let text = format!(
            r#"{{"axes":[{{"key":"a","values":[0.1,0.5]}},{{"key":"b","values":[1,2]}},
            {{"key":"seed","values":[0,1]}}],"runs":[{runs}]}}"#
        );
        std::fs::write(folder.path().join(FILE), text).unwrap();
        let heats = Sweep::read(folder.path()).unwrap().heats();
        assert_eq!(heats.len(), 1);
        assert_eq!(heats[0].x, ("a".into(), vec!["0.1".into(), "0.5".into()]));
        assert_eq!(heats[0].y, ("b".into(), vec!["2".into(), "1".into()]));
        assert_eq!(heats[0].cells, [[None, Some((30.0, 1))], [Some((15.0, 2)), None]]);
        assert_eq!(Sweep::read(folder.path()).unwrap().comparable(2).len(), 2);
        assert!(Sweep::read(folder.path()).unwrap().comparable(1).is_empty());
    }
}

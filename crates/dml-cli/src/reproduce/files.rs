//! What a reproduction leaves for other programs.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result};
use dml_report::{Evaluation, History};
use dml_train::{Comparison, Score, Sweep, SweepRun, mean_and_sd};

use crate::runs;

/// Every run with its configuration's hash, seed, method, settings and scores: a row a run, a column a score.
pub(super) fn ledger(path: &Path, table: &str, kind: &str, sweep: &Sweep) -> Result<()> {
    let keys: BTreeSet<String> =
        sweep.runs.iter().flat_map(|run| run.scores.iter().map(Score::key)).collect();
    let settings: Vec<&str> = sweep.axes.iter().map(|axis| axis.key.as_str()).collect();
    let head = ["table", "data", "hash", "seed", "method"].into_iter().chain(settings.iter().copied());
    let rows = sweep.runs.iter().map(|run| {
        let SweepRun { hash, seed, method, scores, .. } = run;
        let first = [table.into(), kind.into(), hash.clone(), seed.to_string(), method.to_string()];
        let settings = settings.iter().map(|key| run.settings[*key].to_string());
        let score = |key: &String| scores.iter().find(|score| score.key() == *key);
        let scores =
            keys.iter().map(|key| score(key).map(|score| score.value.to_string()).unwrap_or_default());
        first.into_iter().chain(settings).chain(scores).collect()
    });
    csv(path, head.chain(keys.iter().map(String::as_str)), rows)
}

/// Every evaluation of every run: a row a score.
pub(super) fn curves(path: &Path, folder: &Path, sweep: &Sweep) -> Result<()> {
    let mut rows = Vec::new();
    for run in &sweep.runs {
        for Evaluation { name, epochs, scores, .. } in evaluations(&folder.join(&run.folder))? {
            rows.extend(scores.iter().map(|score| {
                let first = [run.hash.clone(), run.seed.to_string(), run.method.to_string(), name.clone()];
                first.into_iter().chain([epochs.to_string(), score.key(), score.value.to_string()]).collect()
            }));
        }
    }
    csv(path, ["hash", "seed", "method", "after", "epochs", "score", "value"].into_iter(), rows.into_iter())
}

/// Every score over every combination of settings: mean and sample standard deviation over the seeds.
pub(super) fn map(path: &Path, comparison: &Comparison) -> Result<()> {
    let keys: Vec<&str> =
        comparison.axes.iter().filter(|axis| !axis.averaged).map(|axis| axis.key.as_str()).collect();
    let mut rows = Vec::new();
    for row in &comparison.rows {
        for (score, cell) in &row.cells {
            let settings = keys.iter().map(|key| row.settings[*key].to_string());
            let (mean, sd) = mean_and_sd(&cell.values);
            let sd = sd.map(|sd| sd.to_string()).unwrap_or_default();
            let values = [score.clone(), mean.to_string(), sd, cell.values.len().to_string()];
            rows.push(std::iter::once(row.method.to_string()).chain(settings).chain(values).collect());
        }
    }
    let head = std::iter::once("method").chain(keys.iter().copied()).chain(["score", "mean", "sd", "seeds"]);
    csv(path, head, rows.into_iter())
}

/// The evaluations of a run, from its events.
pub(super) fn evaluations(run: &Path) -> Result<Vec<Evaluation>> {
    let path = run.join(runs::METRICS);
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    Ok(History::parse(&text).evaluations)
}

fn csv<'a>(
    path: &Path,
    head: impl Iterator<Item = &'a str>,
    rows: impl Iterator<Item = Vec<String>>,
) -> Result<()> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(head)?;
    for row in rows {
        writer.write_record(row)?;
    }
    runs::write(path, &writer.into_inner().context("writing CSV")?)
}

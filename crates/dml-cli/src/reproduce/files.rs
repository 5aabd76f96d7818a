//! What a reproduction leaves for other programs.

use std::path::Path;

use anyhow::{Context, Result};
use dml_report::{Evaluation, History};
use dml_train::{Comparison, Sweep, mean_and_sd};

use crate::ledger::csv;
use crate::runs;

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

//! The ledger of many runs: what they computed, and to what scores they came.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result};
use dml_train::{Score, Sweep, SweepRun};

use crate::runs;

/// Its name in the folder of the runs.
pub(crate) const LEDGER: &str = "ledger.csv";

/// Every run with its configuration's hash, seed, method, settings and scores: a row a run, a column a score.
pub(crate) fn write(path: &Path, table: &str, kind: &str, sweep: &Sweep) -> Result<()> {
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

/// Writes a file of rows below their head.
pub(crate) fn csv<'a>(
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

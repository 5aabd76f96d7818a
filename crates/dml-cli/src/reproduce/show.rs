//! A table of the paper's, ours beside it.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use dml_report::Evaluation;
use dml_train::{Cell, Comparison, Method, Sweep, mean_and_sd};
use serde_json::{Value, json};

use super::files::evaluations;
use super::paper::{Column, Table};
use crate::progress::say;
use crate::table::{markdown, over, summary, values};

/// Prints ours, the paper's and the difference, a column of the paper's at a time; a varied pair of settings as a map.
pub(super) fn table(table: &Table, kind: &str, comparison: &Comparison) {
    say(&format!("\n{}", table.title));
    let other = if kind == table.data[0] { "" } else { "; the paper's numbers are of its own data" };
    say(&format!("on {kind}, {}{other}", over(comparison)));
    if let Some(note) = &table.note {
        say(&format!("({note})"));
    }
    let varied: Vec<usize> =
        (0..comparison.axes.len()).filter(|&axis| !comparison.axes[axis].averaged).collect();
    for column in &table.columns {
        let Some(key) = score(column, comparison) else {
            say(&format!("\n{}: this data has no such score", column.name));
            continue;
        };
        say(&format!("\n{}: {key}", column.name));
        match varied[..] {
            [rows, columns] => map(comparison, rows, columns, key),
            _ => rows(table, column, comparison, key),
        }
    }
}

/// The same as JSON.
pub(super) fn json(table: &Table, kind: &str, comparison: &Comparison, folder: &Path) -> Value {
    let columns = table.columns.iter().map(|column| {
        let key = score(column, comparison);
        let rows = table.rows.iter().flat_map(|row| {
            let ours: Vec<_> = comparison.rows.iter().filter(|ours| Some(ours.method) == row.method).collect();
            let line = move |settings: Option<_>, cell: Option<&Cell>| {
                let paper = column.paper(row);
                let (mean, sd) = cell.map(|cell| mean_and_sd(&cell.values)).unzip();
                let difference = mean.and_then(|mean| Some(mean - paper?));
                json!({
                    "row": row.name, "method": row.method, "settings": settings, "mean": mean, "sd": sd.flatten(),
                    "values": cell.map(|cell| &cell.values), "seeds": cell.map(|cell| &cell.seeds),
                    "paper": paper, "difference": difference,
                })
            };
            match ours.is_empty() {
                true => vec![line(None, None)],
                false => ours
                    .into_iter()
                    .map(|ours| line(Some(&ours.settings), key.and_then(|key| ours.cells.get(key))))
                    .collect(),
            }
        });
        json!({ "column": column.name, "score": key, "rows": rows.collect::<Vec<_>>() })
    });
    json!({
        "what": table.name, "title": table.title, "data": kind, "note": table.note, "folder": folder,
        "seeds": comparison.seeds, "columns": columns.collect::<Vec<_>>(),
    })
}

/// Prints how the scores of each column went, round by round: after the phase with which a run also ends.
pub(super) fn curves(table: &Table, folder: &Path, sweep: &Sweep) -> Result<()> {
    let mut runs: BTreeMap<Method, Vec<Vec<Evaluation>>> = BTreeMap::new();
    for run in &sweep.runs {
        let mut all = evaluations(&folder.join(&run.folder))?;
        let last = all.last().map(|last| last.name.clone());
        all.retain(|evaluation| Some(&evaluation.name) == last.as_ref());
        runs.entry(run.method).or_default().push(all);
    }
    let rounds = runs.values().flatten().map(Vec::len).max().unwrap_or(0);
    for column in &table.columns {
        let trained = |method: &Method| match column.scores[0].starts_with("class") {
            true => method.trains().0,
            false => method.trains().1,
        };
        let rows: Vec<_> = table.rows.iter().filter_map(|row| Some((row, row.method?))).collect();
        let rows: Vec<_> = rows.into_iter().filter(|(_, method)| trained(method)).collect();
        let value = |method: Method, round: usize| -> Vec<f64> {
            let of = |run: &Vec<Evaluation>| {
                let matches = |text: &String| {
                    run.get(round)?.scores.iter().find(|score| score.key().contains(text.as_str()))
                };
                column.scores.iter().find_map(matches).map(|score| score.value)
            };
            runs.get(&method).into_iter().flatten().filter_map(of).collect()
        };
        let head: Vec<&str> =
            std::iter::once("round").chain(rows.iter().map(|(row, _)| row.name.as_str())).collect();
        let lines = (0..rounds).map(|round| {
            let cells = rows.iter().map(|(_, method)| summary(&value(*method, round), false));
            std::iter::once((round + 1).to_string()).chain(cells).collect()
        });
        say(&format!("\n{}, after each round", column.name));
        markdown(&head, lines.collect());
    }
    Ok(())
}

/// The name of our score for a column, if there is one.
fn score<'a>(column: &Column, comparison: &'a Comparison) -> Option<&'a str> {
    let keys = || comparison.rows.iter().flat_map(|row| row.cells.keys());
    let found = column.scores.iter().find_map(|text| keys().find(|key| key.contains(text.as_str())));
    found.map(String::as_str)
}

fn rows(table: &Table, column: &Column, comparison: &Comparison, key: &str) {
    let seeds = comparison.seeds.len();
    let printed = table.rows.iter().any(|row| column.paper(row).is_some());
    let lines = table.rows.iter().filter_map(|row| {
        let ours = comparison.rows.iter().find(|ours| Some(ours.method) == row.method);
        let cell = ours.and_then(|ours| ours.cells.get(key));
        let paper = column.paper(row);
        if cell.is_none() && paper.is_none() {
            return None;
        }
        let difference = cell.and_then(|cell| Some(mean_and_sd(&cell.values).0 - paper?));
        let ours = [row.name.clone(), cell.map_or("–".into(), |cell| values(cell, seeds))];
        let beside = [
            paper.map_or("–".into(), |paper| format!("{paper:?}")),
            difference.map_or("–".into(), |difference| format!("{difference:+.2}")),
        ];
        Some(ours.into_iter().chain(beside.into_iter().filter(|_| printed)).collect())
    });
    let head = ["", "ours", "paper", "difference"];
    markdown(if printed { &head } else { &head[..2] }, lines.collect());
}

/// Means over two varied settings, the best with a star.
fn map(comparison: &Comparison, down: usize, across: usize, key: &str) {
    let (down, across) = (&comparison.axes[down], &comparison.axes[across]);
    let best = comparison.best(key).map(|(row, _)| row);
    let cell = |y: &toml::Value, x: &toml::Value| {
        let found = comparison.rows.iter().enumerate().find(|(_, row)| {
            row.settings.get(&down.key) == Some(y) && row.settings.get(&across.key) == Some(x)
        });
        let Some((number, values)) = found.and_then(|(number, row)| Some((number, row.cells.get(key)?)))
        else {
            return "–".to_string();
        };
        format!("{}{}", summary(&values.values, false), if best == Some(number) { " *" } else { "" })
    };
    let corner = format!("{} ↓  {} →", down.key, across.key);
    let names: Vec<String> = across.values.iter().map(ToString::to_string).collect();
    let head: Vec<&str> = std::iter::once(corner.as_str()).chain(names.iter().map(String::as_str)).collect();
    let lines = down
        .values
        .iter()
        .map(|y| std::iter::once(y.to_string()).chain(across.values.iter().map(|x| cell(y, x))).collect());
    markdown(&head, lines.collect());
}

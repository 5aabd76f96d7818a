//! Tables in Markdown: readable on a terminal, and to be pasted as they are.

use std::collections::BTreeSet;

use dml_train::{Cell, Comparison, Score, mean_and_sd};

use crate::progress::{is_main_key, say};

/// The scores of one run.
pub(crate) fn scores(scores: &[Score]) {
    let rows = scores.iter().map(|s| {
        vec![
            s.eval.clone(),
            s.measure.clone(),
            format!("{:.2}", s.value),
            s.n.to_string(),
            s.protocol.clone(),
        ]
    });
    markdown(&["evaluation", "measure", "value", "n", "protocol"], rows.collect());
}

/// A table for each measure: a row a method, with mean ± standard deviation over the seeds.
pub(crate) fn comparison(comparison: &Comparison, all: bool) {
    let keys: BTreeSet<&String> = comparison.rows.iter().flat_map(|(_, cells)| cells.keys()).collect();
    say(&format!("{} seeds; mean ± sample standard deviation", comparison.seeds.len()));
    for key in keys.into_iter().filter(|key| all || is_main_key(key)) {
        say(&format!("\n{key}"));
        let rows = comparison.rows.iter().filter_map(|(method, cells)| {
            let Cell { values, to_single, switch_costs, .. } = cells.get(key)?;
            Some(vec![
                method.to_string(),
                summary(values, false),
                summary(to_single, true),
                summary(switch_costs, true),
            ])
        });
        markdown(
            &["method", "after the last phase", "difference to single-task", "cost of a switch"],
            rows.collect(),
        );
    }
}

fn summary(values: &[f64], signed: bool) -> String {
    if values.is_empty() {
        return "–".into();
    }
    let (mean, sd) = mean_and_sd(values);
    let mean = if signed { format!("{mean:+.2}") } else { format!("{mean:.2}") };
    sd.map_or_else(|| mean.clone(), |sd| format!("{mean} ± {sd:.2}"))
}

/// Prints a table with its columns aligned.
pub(crate) fn markdown(head: &[&str], rows: Vec<Vec<String>>) {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([head[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |cells: Vec<&str>| {
        let padded = cells.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}"));
        say(&format!("| {} |", padded.collect::<Vec<_>>().join(" | ")));
    };
    line(head.to_vec());
    let rules: Vec<String> = widths.iter().map(|&width| "-".repeat(width)).collect();
    line(rules.iter().map(String::as_str).collect());
    for row in &rows {
        line(row.iter().map(String::as_str).collect());
    }
}

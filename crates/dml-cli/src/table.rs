//! Tables in Markdown: readable on a terminal, and to be pasted as they are.

use std::collections::{BTreeMap, BTreeSet};

use dml_train::{Cell, Comparison, Method, Score, half_interval, mean_and_sd};

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

/// Seconds of each part of a run's work, the longest first.
pub(crate) fn profile(parts: &BTreeMap<String, f64>) {
    let total: f64 = parts.values().sum();
    let mut parts: Vec<_> = parts.iter().collect();
    parts.sort_by(|a, b| b.1.total_cmp(a.1));
    let share = |seconds: f64| format!("{:.1} %", 100.0 * seconds / total.max(f64::MIN_POSITIVE));
    let rows = parts.into_iter().map(|(part, &s)| vec![part.clone(), format!("{s:.2}"), share(s)]);
    markdown(&["part of the work", "seconds", "share"], rows.collect());
}

/// A table for each measure: a row for each method and combination of settings, with mean ± standard deviation over the
/// seeds, and the mean difference to another method, seed by seed, with its 95 % interval. Where settings are varied, the
/// best row of each measure has a star.
pub(crate) fn comparison(comparison: &Comparison, all: bool, against: Option<Method>) {
    let Comparison { seeds, axes, rows } = comparison;
    let difference = format!("difference to {}", against.map_or("single-task", |method| method.name()));
    let keys: BTreeSet<&String> = rows.iter().flat_map(|row| row.cells.keys()).collect();
    say(&over(comparison));
    let varied: Vec<&str> = axes.iter().filter(|axis| !axis.averaged).map(|axis| axis.key.as_str()).collect();
    let head: Vec<&str> = std::iter::once("method")
        .chain(varied.iter().copied())
        .chain(["after the last phase", &difference, "cost of a switch"])
        .collect();
    for key in keys.into_iter().filter(|key| all || is_main_key(key)) {
        say(&format!("\n{key}"));
        let best = comparison.best(key).map(|(row, _)| row).filter(|_| !varied.is_empty());
        let rows = rows.iter().enumerate().filter_map(|(number, row)| {
            let cell = row.cells.get(key)?;
            let star = if best == Some(number) { " *" } else { "" };
            let settings = varied.iter().map(|axis| row.settings[*axis].to_string());
            let values = [
                format!("{}{star}", values(cell, seeds.len())),
                interval(&match against {
                    Some(method) => comparison.differences(row, key, method),
                    None => cell.to_single.clone(),
                }),
                summary(&cell.switch_costs, true),
            ];
            Some(std::iter::once(row.method.to_string()).chain(settings).chain(values).collect())
        });
        markdown(&head, rows.collect());
    }
}

/// What the values of a comparison are means over.
pub(crate) fn over(comparison: &Comparison) -> String {
    let mut text = match comparison.seeds.len() {
        1 => "1 seed".to_string(),
        n => format!("{n} seeds; mean ± sample standard deviation"),
    };
    for axis in comparison.axes.iter().filter(|axis| axis.averaged) {
        let values: Vec<String> = axis.values.iter().map(ToString::to_string).collect();
        text += &format!("; each seed's value is the mean over {} {}", axis.key, values.join(", "));
    }
    text
}

/// Mean ± standard deviation of a cell, and over how many seeds where they are fewer than asked for.
pub(crate) fn values(cell: &Cell, seeds: usize) -> String {
    let text = summary(&cell.values, false);
    match cell.values.len() {
        n if n == seeds => text,
        n => format!("{text} ({n} of {seeds} seeds)"),
    }
}

/// Mean ± standard deviation; a dash where there is no value.
pub(crate) fn summary(values: &[f64], signed: bool) -> String {
    if values.is_empty() {
        return "–".into();
    }
    let (mean, sd) = mean_and_sd(values);
    let mean = if signed { format!("{mean:+.2}") } else { format!("{mean:.2}") };
    sd.map_or_else(|| mean.clone(), |sd| format!("{mean} ± {sd:.2}"))
}

/// Mean of differences and its 95 % confidence interval; a dash where there is no value.
fn interval(values: &[f64]) -> String {
    let mean = match values.len() {
        0 => return "–".into(),
        _ => mean_and_sd(values).0,
    };
    let ends = |half: f64| format!(" [{:+.2}, {:+.2}]", mean - half, mean + half);
    format!("{mean:+.2}{}", half_interval(values).map(ends).unwrap_or_default())
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

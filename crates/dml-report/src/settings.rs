//! Settings of runs, and what they ran on.

use maud::{Markup, html};

use crate::page::table;
use crate::run::Run;

/// Settings that a reader asks for first.
const FIRST: [&str; 12] = [
    "method",
    "seed",
    "data.kind",
    "root.kind",
    "training.epochs",
    "training.block",
    "training.batch",
    "training.lambda_class",
    "training.lambda_caption",
    "optimizer.root_learning_rate",
    "optimizer.head_learning_rate",
    "optimizer.adam",
];

/// A run in a line: method, data, seed, epochs, and how long it took.
pub(crate) fn in_a_line(run: &Run) -> String {
    let named = |key: &str, before: &str, after: &str| {
        run.setting(key).map(|value| format!("{before}{value}{after}"))
    };
    let parts = [
        named("method", "", ""),
        named("data.kind", "data: ", ""),
        named("root.kind", "root: ", ""),
        named("training.epochs", "", " epochs on each dataset"),
        named("seed", "seed ", ""),
        run.history.seconds.map(|seconds| format!("trained in {}", duration(seconds))),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" · ")
}

/// The section of the page.
pub(crate) fn section(runs: &[Run]) -> Markup {
    let columns: Vec<Values> = runs.iter().map(|run| run.settings.clone()).collect();
    let (keys, differing) = (keys(&columns), differing(&columns));
    html! {
        section id="settings" aria-labelledby="settings-heading" {
            h2 id="settings-heading" { "Settings and environment" }
            @if runs.len() > 1 {
                h3 { "Settings that differ" }
                @if differing.is_empty() {
                    p.empty { "None: the runs have the same settings." }
                } @else {
                    (compare("Settings that differ", runs, &differing, &columns))
                }
            } @else if let Some(run) = runs.first() {
                dl.facts {
                    @for key in FIRST { @if let Some(value) = run.setting(key) {
                        div { dt { (key) } dd { (value) } }
                    } }
                }
            }
            details {
                summary { "All settings (" (keys.len()) ")" }
                (compare("All settings", runs, &keys, &columns))
            }
            (environment(runs))
        }
    }
}

fn environment(runs: &[Run]) -> Markup {
    let columns: Vec<Values> = runs.iter().map(|run| [size(run), run.environment.clone()].concat()).collect();
    let keys = keys(&columns);
    html! {
        h3 { "Environment" }
        @if !keys.is_empty() { (compare("Environment", runs, &keys, &columns)) }
        @if runs.iter().all(|run| run.environment.is_empty()) {
            p.empty { "No record of the machine (" code { "environment.json" } ") was left." }
        }
    }
}

/// What the log says of the run's size.
fn size(run: &Run) -> Values {
    let history = &run.history;
    let parts = [
        ("parameters", history.parameters.map(grouped)),
        ("optimiser steps", history.steps.map(grouped)),
        ("wall-clock time", history.seconds.map(duration)),
    ];
    parts.into_iter().filter_map(|(key, value)| Some((key.to_string(), value?))).collect()
}

/// Keys with values, of one run.
type Values = Vec<(String, String)>;

fn keys(columns: &[Values]) -> Vec<&str> {
    let mut keys: Vec<&str> = Vec::new();
    for (key, _) in columns.iter().flatten() {
        if !keys.contains(&key.as_str()) {
            keys.push(key);
        }
    }
    keys
}

fn value<'a>(values: &'a Values, key: &str) -> Option<&'a str> {
    values.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str())
}

fn differing(columns: &[Values]) -> Vec<&str> {
    let differs = |key: &&str| columns.iter().any(|values| value(values, key) != value(&columns[0], key));
    keys(columns).into_iter().filter(differs).collect()
}

fn compare(label: &str, runs: &[Run], keys: &[&str], columns: &[Values]) -> Markup {
    let head = html! {
        th scope="col" { "key" }
        @for run in runs { th scope="col" { @if runs.len() > 1 { (run.name) } @else { "value" } } }
    };
    let body = html! {
        @for key in keys { tr {
            th scope="row" { code { (key) } }
            @for values in columns { td.value { (value(values, key).unwrap_or("–")) } }
        } }
    };
    table(label, false, head, body)
}

/// 1234567 as 1 234 567, with narrow spaces.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 60.0 => format!("{s:.1} s"),
        s if s < 3600.0 => format!("{:.0} min {:.0} s", (s / 60.0).floor(), s % 60.0),
        s => format!("{:.0} h {:.0} min", (s / 3600.0).floor(), (s % 3600.0) / 60.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_as_people_read_them() {
        let check = |number, expected| assert_eq!(grouped(number).replace('\u{202f}', " "), expected);
        check(0, "0");
        check(999, "999");
        check(1000, "1 000");
        check(1234567, "1 234 567");
        let check = |seconds, expected| assert_eq!(duration(seconds), expected);
        check(9.94, "9.9 s");
        check(61.0, "1 min 1 s");
        check(7260.0, "2 h 1 min");
    }
}

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
    let keys = keys(runs, |run| &run.settings);
    let differing = differing(runs, |run| &run.settings);
    html! {
        section id="settings" aria-labelledby="settings-heading" {
            h2 id="settings-heading" { "Settings and environment" }
            @if runs.len() > 1 {
                h3 { "Settings that differ" }
                @if differing.is_empty() {
                    p.empty { "None: the runs have the same settings." }
                } @else {
                    (compare("Settings that differ", runs, &differing, |run| &run.settings))
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
                (compare("All settings", runs, &keys, |run| &run.settings))
            }
            (environment(runs))
        }
    }
}

fn environment(runs: &[Run]) -> Markup {
    let keys = keys(runs, |run| &run.environment);
    html! {
        h3 { "Environment" }
        dl.facts {
            @for run in runs {
                @let history = &run.history;
                @let of = if runs.len() > 1 { format!("{}: ", run.name) } else { String::new() };
                @if let Some(parameters) = history.parameters {
                    div { dt { (of) "parameters" } dd { (grouped(parameters)) } }
                }
                @if let Some(steps) = history.steps { div { dt { (of) "optimiser steps" } dd { (grouped(steps)) } } }
                @if let Some(seconds) = history.seconds { div { dt { (of) "wall-clock time" } dd { (duration(seconds)) } } }
            }
        }
        @if keys.is_empty() {
            p.empty { "No record of the machine (" code { "environment.json" } ") was left." }
        } @else {
            (compare("Environment", runs, &keys, |run| &run.environment))
        }
    }
}

type Values = [(String, String)];

fn keys(runs: &[Run], of: impl Fn(&Run) -> &Values) -> Vec<&str> {
    let mut keys: Vec<&str> = Vec::new();
    for run in runs {
        for (key, _) in of(run) {
            if !keys.contains(&key.as_str()) {
                keys.push(key);
            }
        }
    }
    keys
}

fn value<'a>(values: &'a Values, key: &str) -> Option<&'a str> {
    values.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str())
}

fn differing(runs: &[Run], of: impl Fn(&Run) -> &Values + Copy) -> Vec<&str> {
    let differs = |key: &&str| runs.iter().any(|run| value(of(run), key) != value(of(&runs[0]), key));
    keys(runs, of).into_iter().filter(differs).collect()
}

fn compare(label: &str, runs: &[Run], keys: &[&str], of: impl Fn(&Run) -> &Values) -> Markup {
    let head = html! {
        th scope="col" { "key" }
        @for run in runs { th scope="col" { @if runs.len() > 1 { (run.name) } @else { "value" } } }
    };
    table(
        label,
        false,
        head,
        html! {
            @for key in keys { tr {
                th scope="row" { code { (key) } }
                @for run in runs { td.value { (value(of(run), key).unwrap_or("–")) } }
            } }
        },
    )
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

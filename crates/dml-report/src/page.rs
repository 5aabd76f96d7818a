//! The page around the sections.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest, Sha256};

use crate::charts::{CHART, THEME};
use crate::run::{Detail, Run};
use crate::{Report, charts, classes, gallery, scores, settings, sweeps};

const STYLE: &str = include_str!("assets/report.css");
const SCRIPT: &str = include_str!("assets/report.js");

pub(crate) fn page(report: &Report) -> Markup {
    let Report { runs, sweeps } = report;
    let title = title(report);
    let detailed: Vec<&Run> = runs.iter().filter(|run| run.detail.is_some()).collect();
    // Nothing is loaded from anywhere, and no script runs but this one.
    let hash = STANDARD.encode(Sha256::digest(SCRIPT));
    let policy =
        format!("default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{hash}'");
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(policy);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                link rel="icon" href="data:,";
                style { (PreEscaped(THEME)) (PreEscaped(CHART)) (PreEscaped(STYLE)) }
            }
            body {
                a.skip href="#content" { "Skip to the content" }
                header.top {
                    nav aria-label="Sections" {
                        @if !runs.is_empty() { a href="#scores" { "Scores" } a href="#curves" { "Curves" } }
                        @for (number, _) in sweeps.iter().enumerate() {
                            a href={ "#sweep-" (number) } { "Sweep" @if sweeps.len() > 1 { " " (number + 1) } }
                        }
                        @for (number, run) in runs.iter().enumerate() { @if run.detail.is_some() {
                            a href={ "#run-" (number) } { @if detailed.len() > 1 { (run.name) } @else { "Predictions" } }
                        } }
                        @if !runs.is_empty() { a href="#settings" { "Settings" } }
                    }
                    button id="theme" type="button" hidden { "Theme: as the system" }
                }
                main id="content" tabindex="-1" {
                    h1 { (title) }
                    @if let [run] = runs.as_slice() { p.about { (settings::in_a_line(run)) } }
                    (notices(runs))
                    @if let [run] = runs.as_slice() { (scores::tiles(run)) }
                    @for (number, sweep) in sweeps.iter().enumerate() { (sweeps::section(sweep, number)) }
                    @if !runs.is_empty() {
                        (scores::section(runs))
                        (charts::section(runs))
                        @for (number, run) in runs.iter().enumerate() { (run_section(run, number, detailed.len() > 1)) }
                        (settings::section(runs))
                    }
                }
                footer { p { "Made by dml " (env!("CARGO_PKG_VERSION")) ". This page loads nothing and sends nothing." } }
                script { (PreEscaped(SCRIPT)) }
            }
        }
    }
}

fn title(report: &Report) -> String {
    match (report.runs.as_slice(), report.sweeps.as_slice()) {
        ([run], []) => run.name.clone(),
        (runs, []) => format!("{} runs side by side", runs.len()),
        (_, [sweep]) => {
            let name = sweep.folder.file_name().unwrap_or(sweep.folder.as_os_str());
            format!("{}: {} runs", name.to_string_lossy(), sweep.runs.len())
        }
        (_, sweeps) => format!("{} sweeps", sweeps.len()),
    }
}

/// What a reader must know before the numbers.
fn notices(runs: &[Run]) -> Markup {
    let mut notices: Vec<(String, String)> = Vec::new();
    for run in runs {
        let history = &run.history;
        let mut note = |text: String| notices.push((run.name.clone(), text));
        if history.interrupted {
            note("was interrupted before its end; these are the numbers until then.".into());
        } else if history.seconds.is_none() && !history.phases.is_empty() {
            note("has not finished, or was stopped at once; these are the numbers so far.".into());
        }
        if history.unreadable > 0 {
            note(format!(
                "{} lines of its metrics.jsonl cannot be read and were left out.",
                history.unreadable
            ));
        }
        match &run.detail {
            Some(Err(why)) => note(format!("its predictions are not shown: {why}")),
            Some(Ok(detail)) => {
                for task in &detail.untrained {
                    note(format!(
                        "never trained the task “{task}”: its answers are those of a head as it was first drawn."
                    ));
                }
            }
            None => {}
        }
    }
    html! {
        @if !notices.is_empty() {
            ul.notices { @for (name, text) in &notices { li { strong { (name) } " " (text) } } }
        }
    }
}

/// What there is to say about one run alone.
fn run_section(run: &Run, number: usize, several: bool) -> Markup {
    let id = format!("run-{number}");
    html! {
        @if let Some(detail) = &run.detail {
            section id=(id) aria-labelledby={ (id) "-heading" } {
                h2 id={ (id) "-heading" } { @if several { (run.name) } @else { "Predictions and phases" } }
                @match detail {
                    Ok(Detail { classes, galleries, .. }) => {
                        @if !galleries.is_empty() { h3 { "Across the tasks" } }
                        @for (place, shown) in galleries.iter().enumerate() {
                            (gallery::view(shown, &format!("{id}-gallery-{place}")))
                        }
                        @if !classes.is_empty() { h3 { "Class by class" } }
                        @for shown in classes { (classes::view(shown)) }
                    }
                    Err(why) => p.empty { "No predictions, classes and confusion: " (why) }
                }
                h3 { "Phase by phase" }
                (scores::phases(run))
            }
        }
    }
}

/// A table that scrolls within its own frame where the page is narrow.
pub(crate) fn table(label: &str, sorts: bool, head: Markup, body: Markup) -> Markup {
    html! {
        div.scroll role="region" tabindex="0" aria-label=(label) {
            table data-sorts[sorts] {
                caption.hidden { (label) }
                thead { tr { (head) } }
                tbody { (body) }
            }
        }
    }
}

/// The head of a column by which a table can be sorted.
pub(crate) fn sortable(label: &str, number: bool) -> Markup {
    html! {
        th.number[number] scope="col" aria-sort="none" { button type="button" { (label) } }
    }
}

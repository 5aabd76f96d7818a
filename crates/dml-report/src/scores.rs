//! Tables of scores: at the end, and after every phase.

use std::collections::BTreeSet;

use dml_train::Score;
use maud::{Markup, html};

use crate::charts::{is_main, is_rank};
use crate::history::Phase;
use crate::page::{sortable, table};
use crate::run::Run;

/// The main scores of a single run, large.
pub(crate) fn tiles(run: &Run) -> Markup {
    html! {
        dl.tiles {
            @for score in run.final_scores().iter().filter(|score| is_main(score)) {
                div {
                    dt { (score.eval) ": " (score.measure) }
                    dd { (value(score)) @if !is_rank(score) { span.unit { " %" } } }
                    dd.note { (score.protocol) "; n = " (score.n) }
                }
            }
        }
    }
}

/// The last scores of all runs.
pub(crate) fn section(runs: &[Run]) -> Markup {
    let mut rows: Vec<&Score> = Vec::new();
    for score in runs.iter().flat_map(Run::final_scores) {
        if rows.iter().all(|known| known.key() != score.key()) {
            rows.push(score);
        }
    }
    let of = |run: &'_ Run, key: &str| run.final_scores().iter().find(|score| score.key() == key).cloned();
    let looked = runs.iter().all(|run| matches!(&run.detail, Some(Ok(detail)) if !detail.scores.is_empty()));
    html! {
        section id="scores" aria-labelledby="scores-heading" {
            h2 id="scores-heading" { "Scores" }
            @if rows.is_empty() {
                p.empty { "No score was saved: the run ended before its first evaluation." }
            } @else {
                p.lead {
                    @if looked { "Measured on the saved checkpoint" @if runs.len() > 1 { "s" } ". " }
                    "Every row names how it was measured and on how many samples or queries. Numbers under different protocols
                    cannot be compared. Measures are percentages, but for ranks, which count from 1 and are better the lower they
                    are." @if runs.len() > 1 { " The best of a row is marked." }
                }
                @let head = html! {
                    (sortable("evaluation", false)) (sortable("measure", false))
                    @for run in runs { (sortable(if runs.len() == 1 { "value" } else { &run.name }, true)) }
                    (sortable("n", true)) (sortable("protocol", false))
                };
                (table("Scores at the end", true, head, html! {
                    @for score in rows {
                        @let key = score.key();
                        @let values: Vec<Option<Score>> = runs.iter().map(|run| of(run, &key)).collect();
                        @let best = best(values.iter().flatten()).filter(|_| values.iter().flatten().count() > 1);
                        tr.main[is_main(score)] {
                            th scope="row" { (score.eval) }
                            td { (score.measure) }
                            @for found in &values { @match found {
                                Some(found) => {
                                    td.number.best[Some(found.value) == best] data-value=(found.value) {
                                        (value(found))
                                        @if Some(found.value) == best { span.hidden { " (best)" } }
                                    }
                                }
                                None => td.number { "–" }
                            } }
                            @let n: BTreeSet<usize> = values.iter().flatten().map(|score| score.n).collect();
                            @let n: Vec<String> = n.iter().map(usize::to_string).collect();
                            td.number data-value=(score.n) { (n.join(", ")) }
                            td.protocol { (score.protocol) }
                        }
                    }
                }))
            }
        }
    }
}

fn best<'a>(scores: impl Iterator<Item = &'a Score>) -> Option<f64> {
    scores
        .map(|s| (s.value, s.higher_is_better))
        .reduce(|a, b| if (b.0 > a.0) == a.1 { b } else { a })
        .map(|s| s.0)
}

/// Both tasks' main scores after every phase, and how they changed in it.
pub(crate) fn phases(run: &Run) -> Markup {
    const MOST: usize = 200;
    let history = &run.history;
    let mains: Vec<&Score> = history
        .evaluations
        .last()
        .map(|last| last.scores.iter().filter(|score| is_main(score)).collect())
        .unwrap_or_default();
    let terms: BTreeSet<&String> = history.phases.iter().flat_map(|phase| phase.terms.keys()).collect();
    let pairs: BTreeSet<&String> =
        history.phases.iter().flat_map(|phase| phase.gradient_cosines.keys()).collect();
    let drifted = history.phases.iter().any(|phase| !phase.drifts.is_empty());
    let learnt = history.phases.iter().any(|phase| !phase.weights.is_empty());
    let timed = history.phases.iter().any(|phase| phase.seconds.is_some());
    let at = |phase: usize, key: &str| {
        let last = history.evaluations.iter().rfind(|evaluation| evaluation.phase == phase)?;
        last.scores.iter().find(|score| score.key() == key).map(|score| score.value)
    };
    html! {
        @if history.phases.is_empty() {
            p.empty { "The run has left no record of phases (" code { "metrics.jsonl" } ")." }
        } @else {
            p {
                "After each phase: the mean of its loss terms"
                @if learnt { " with the weight that each had in the end" }
                ", the scores, and in parentheses what the phase changed."
            }
            @let head = html! {
                th.number scope="col" { "phase" } th scope="col" { "name" } th.number scope="col" { "steps" }
                th.number scope="col" { "samples" }
                @if timed { th.number scope="col" { "seconds" } }
                @for term in &terms { th.number scope="col" { (term) } }
                @for pair in &pairs { th.number scope="col" { "gradient cosine, " (pair) } }
                @if drifted { th scope="col" { "drift of recorded answers" } }
                @for score in &mains { th.number scope="col" { (score.eval) ": " (score.measure) } }
            };
            (table(&format!("Phases of {}", run.name), false, head, html! {
                @for phase in history.phases.iter().take(MOST) { tr {
                    td.number { (phase.number) }
                    th scope="row" { (phase.name) @if phase.round > 0 { ", round " (phase.round) } }
                    td.number { (phase.steps) }
                    td.number { (phase.samples) }
                    @if timed { td.number { (phase.seconds.map_or("–".into(), |seconds| format!("{seconds:.1}"))) } }
                    @for term in &terms {
                        td.number {
                            (phase.terms.get(*term).map_or("–".into(), |mean| minus(&format!("{mean:.3}"))))
                            @if let Some(weight) = phase.weights.get(*term) { " × " (format!("{weight:.2}")) }
                        }
                    }
                    @for pair in &pairs {
                        td.number {
                            (phase.gradient_cosines.get(*pair).map_or("–".into(), |mean| minus(&format!("{mean:.2}"))))
                        }
                    }
                    @if drifted { td { (drifts(phase)) } }
                    @for score in &mains {
                        @let key = score.key();
                        td.number { @match (at(phase.number, &key), at(phase.number - 1, &key)) {
                            (Some(after), Some(before)) => {
                                (format!("{after:.1}"))
                                @let change = after - before;
                                @let worse = (change < 0.0) == score.higher_is_better && change.abs() >= 0.05;
                                " " span.change.worse[worse] { "(" (minus(&format!("{change:+.1}"))) ")" }
                            }
                            (Some(after), None) => (format!("{after:.1}")),
                            _ => "–",
                        } }
                    }
                } }
            }))
            @if history.phases.len() > MOST {
                p.note { "The first " (MOST) " of " (history.phases.len()) " phases." }
            }
        }
    }
}

/// Such as `class: KL 0.12, cosine 0.98`.
fn drifts(phase: &Phase) -> String {
    let words = phase.drifts.iter().map(|(task, kl, cosine)| {
        let kl = kl.map_or(String::new(), |kl| format!("KL {kl:.3}, "));
        format!("{task}: {kl}cosine {cosine:.3}")
    });
    let words: Vec<String> = words.collect();
    if words.is_empty() { "–".into() } else { words.join("; ") }
}

/// With a minus sign in place of a hyphen.
fn minus(number: &str) -> String {
    number.replace('-', "−")
}

/// The number as every table shows it.
pub(crate) fn value(score: &Score) -> String {
    format!("{:.2}", score.value)
}

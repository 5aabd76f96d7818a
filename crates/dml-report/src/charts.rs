//! Which charts a report has.

use std::collections::BTreeSet;

use dml_train::Score;
use maud::{Markup, PreEscaped, html};

use crate::Report;
use crate::curves::{Curves, Line, Point};
use crate::run::Run;

/// A chart of one measure, with the table that says the same.
pub(crate) struct Chart {
    pub(crate) curves: Curves,
    /// Whether it is one of those that are shown first.
    pub(crate) main: bool,
}

/// Measures that are shown first.
const MAIN: [&str; 6] = [
    "hit@1 | clip",
    "accuracy | video",
    "mAP | all points",
    "precision@1",
    "item→text R@1 | pools",
    "item→text R@5 | pools",
];

/// Whether a score is one of those that are shown first.
pub(crate) fn is_main(score: &Score) -> bool {
    let key = measure_key(score);
    MAIN.iter().any(|main| key.starts_with(main))
}

fn measure_key(score: &Score) -> String {
    format!("{} | {}", score.measure, score.protocol)
}

/// A chart for each measure under its protocol. Its lines are the evaluations of the runs.
pub(crate) fn charts(runs: &[Run]) -> Vec<Chart> {
    let mut measures: Vec<Score> = Vec::new();
    let scores =
        runs.iter().flat_map(|run| &run.history.evaluations).flat_map(|evaluation| &evaluation.scores);
    for score in scores {
        if measures.iter().all(|known| measure_key(known) != measure_key(score)) {
            measures.push(score.clone());
        }
    }
    // One evaluation alone makes no curve.
    if runs.iter().all(|run| run.history.evaluations.len() < 2) {
        return vec![];
    }
    let chart = |score: &Score| Chart { main: is_main(score), curves: curves(runs, score) };
    let mut charts: Vec<Chart> = measures.iter().map(chart).collect();
    if charts.iter().all(|chart| !chart.main) {
        charts.iter_mut().take(2).for_each(|chart| chart.main = true);
    }
    charts
}

fn curves(runs: &[Run], measured: &Score) -> Curves {
    let key = measure_key(measured);
    let same = |score: &&Score| measure_key(score) == key;
    let all =
        || runs.iter().flat_map(|run| &run.history.evaluations).flat_map(|evaluation| &evaluation.scores);
    let mut evals: Vec<&str> = Vec::new();
    for score in all().filter(same) {
        if !evals.contains(&score.eval.as_str()) {
            evals.push(&score.eval);
        }
    }
    let numbers: BTreeSet<usize> = all().filter(same).map(|score| score.n).collect();
    let (least, most) = (numbers.first().copied().unwrap_or(0), numbers.last().copied().unwrap_or(0));
    let n = if least == most { format!("n = {least}") } else { format!("n = {least} to {most}") };
    let only = evals.len() == 1;
    let lines = runs.iter().enumerate().flat_map(|(number, run)| {
        evals.iter().enumerate().filter_map(move |(eval_number, eval)| {
            let points: Vec<Point> = run
                .history
                .evaluations
                .iter()
                .filter_map(|evaluation| {
                    let same =
                        |score: &&Score| score.eval == **eval && measure_key(score) == measure_key(measured);
                    let score = evaluation.scores.iter().find(same)?;
                    let note = match evaluation.phase {
                        0 => evaluation.name.clone(),
                        phase => format!("in phase {phase}, {}", evaluation.name),
                    };
                    Some(Point { x: evaluation.epochs, y: score.value, note })
                })
                .collect();
            let (label, colour, dash) = match runs.len() {
                1 => (eval.to_string(), eval_number, eval_number),
                _ if only => (run.name.clone(), number, 0),
                _ => (format!("{}: {eval}", run.name), number, eval_number),
            };
            (!points.is_empty()).then_some(Line { label, colour, dash, points })
        })
    });
    let unit = if is_rank(measured) { "rank from 1, lower is better" } else { "%, higher is better" };
    Curves {
        title: measured.measure.clone(),
        protocol: measured.protocol.clone(),
        unit: format!("{n}; {unit}"),
        x_label: "epochs over all datasets".into(),
        bands: bands(runs),
        lines: lines.collect(),
        from_zero: !is_rank(measured),
    }
}

pub(crate) fn is_rank(score: &Score) -> bool {
    score.measure.contains("rank")
}

/// The phases, where all runs have the same and they are wide enough to be seen.
fn bands(runs: &[Run]) -> Vec<(f64, f64, String)> {
    const MOST: usize = 60;
    let spans = |run: &Run| -> Vec<(f64, f64, String)> {
        run.history.spans().into_iter().map(|(from, to, name)| (from, to, name.to_string())).collect()
    };
    let first = runs.first().map(&spans).unwrap_or_default();
    let same = |run: &Run| {
        let other = spans(run);
        other.len() == first.len()
            && other.iter().zip(&first).all(|(a, b)| a.2 == b.2 && (a.1 - b.1).abs() < 1e-3 * b.1.max(1.0))
    };
    if first.len() > MOST || !runs.iter().all(same) { vec![] } else { first }
}

/// The section of the page.
pub(crate) fn section(runs: &[Run]) -> Markup {
    let charts = charts(runs);
    let (main, others): (Vec<_>, Vec<_>) = charts.iter().enumerate().partition(|(_, chart)| chart.main);
    html! {
        section id="curves" aria-labelledby="curves-heading" {
            h2 id="curves-heading" { "Through the switches" }
            @if charts.is_empty() {
                p.empty { "There is one evaluation, or none: nothing to draw. With " code { "training.evaluate_throughout" }
                    " a run is evaluated all along." }
            } @else {
                p.lead {
                    "Each task’s score as training goes from dataset to dataset. "
                    @if bands(runs).is_empty() {
                        @if runs.len() > 1 { "The phases of these runs differ, so they are not shaded. " }
                    } @else {
                        "Shaded: the phases, named after what they train. "
                    }
                    @if runs.len() > 1 { "Colours and markers are the runs, dashes the evaluations." }
                }
                div.charts { @for (number, chart) in &main { (figure(*number, &chart.curves)) } }
                @if !others.is_empty() {
                    details {
                        summary { "All other measures (" (others.len()) ")" }
                        div.charts { @for (number, chart) in &others { (figure(*number, &chart.curves)) } }
                    }
                }
            }
        }
    }
}

fn figure(number: usize, curves: &Curves) -> Markup {
    html! {
        figure {
            (curves.svg(&format!("curve-{number}")))
            details {
                summary { "Values of " (curves.title) }
                div.scroll role="region" tabindex="0" aria-label={ "Values of " (curves.name()) } {
                    table {
                        caption.hidden { (curves.name()) }
                        thead { tr {
                            th scope="col" { "line" }
                            th.number scope="col" { "epochs" }
                            th scope="col" { "when" }
                            th.number scope="col" { "value" }
                        } }
                        tbody {
                            @for line in &curves.lines { @for point in &line.points { tr {
                                th scope="row" { (line.label) }
                                td.number { (format!("{:.2}", point.x)) }
                                td { (point.note) }
                                td.number { (format!("{:.2}", point.y)) }
                            } } }
                        }
                    }
                }
            }
        }
    }
}

/// All charts as files of their own, the main ones first.
pub(crate) fn files(report: &Report) -> Vec<(String, String)> {
    let mut charts = charts(&report.runs);
    charts.sort_by_key(|chart| !chart.main);
    let curves = charts.iter().map(|chart| {
        let Curves { title, protocol, .. } = &chart.curves;
        (format!("curve {title} {protocol}"), chart.curves.svg("chart"))
    });
    let heats = report.sweeps.iter().flat_map(crate::Sweep::heats);
    let heats = heats.map(|heat| {
        let name = format!("heat {} {} {}", heat.title(), heat.score.protocol, heat.common);
        (name, heat.svg("chart"))
    });
    let mut names = BTreeSet::new();
    let unique = |(name, svg): (String, Markup)| {
        let name = slug(&name);
        let name = (1..)
            .map(|n| if n == 1 { format!("{name}.svg") } else { format!("{name}-{n}.svg") })
            .find(|name| names.insert(name.clone()));
        (name.unwrap_or_default(), alone(svg))
    };
    curves.chain(heats).map(unique).collect()
}

/// A chart with its own styles, for a file.
fn alone(svg: Markup) -> String {
    let style = html! { style { (PreEscaped(THEME)) (PreEscaped(CHART)) } }.into_string();
    let text = svg.into_string();
    match text.split_once('>') {
        Some((head, rest)) => format!("{head}>{style}{rest}\n"),
        None => text,
    }
}

/// The colours of both themes.
pub(crate) const THEME: &str = include_str!("assets/theme.css");
/// The looks of charts.
pub(crate) const CHART: &str = include_str!("assets/chart.css");

/// A name for a file: letters, digits and dashes.
fn slug(text: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { ' ' };
    let text: String =
        text.replace('λ', "lambda").replace('→', " to ").replace('@', " ").chars().map(plain).collect();
    text.split_whitespace().collect::<Vec<_>>().join("-")
}

//! Sweeps and comparisons: heat maps and the table of runs.

use dml_train::Score;
use maud::{Markup, html};

use crate::charts::is_main;
use crate::heat::axis_name;
use crate::page::{sortable, table};
use crate::sweep::{Heat, Sweep, text};

/// The section of the page on one sweep. `number` tells sweeps of one page apart.
pub(crate) fn section(sweep: &Sweep, number: usize) -> Markup {
    let heats = sweep.heats();
    let (main, others): (Vec<_>, Vec<_>) =
        heats.iter().enumerate().partition(|(_, heat)| is_main(&heat.score));
    let name = sweep.folder.file_name().unwrap_or(sweep.folder.as_os_str()).to_string_lossy();
    let id = format!("sweep-{number}");
    let figures = |heats: &[(usize, &Heat)]| {
        html! { div.charts { @for (place, heat) in heats { (figure(heat, &format!("{id}-{place}"))) } } }
    };
    html! {
        section id=(id) aria-labelledby={ (id) "-heading" } {
            h2 id={ (id) "-heading" } { "Sweep " (name) }
            @if heats.is_empty() {
                p.empty { "Fewer than two settings were varied: the table has all there is." }
            } @else {
                p.lead { "Each cell is a setting of the two axes; the darker in a light page, or the lighter in a dark one, the better.
                    The best is framed." }
                (figures(&main))
                @if !others.is_empty() {
                    details { summary { "All other measures (" (others.len()) ")" } (figures(&others)) }
                }
            }
            (runs(sweep))
        }
    }
}

fn figure(heat: &Heat, id: &str) -> Markup {
    let best = heat.best();
    html! {
        figure {
            (heat.svg(id))
            details {
                summary { "Values of " (heat.title()) }
                div.scroll role="region" tabindex="0" aria-label={ "Values of " (heat.name()) } {
                    table {
                        caption.hidden { (heat.name()) }
                        thead { tr {
                            th scope="col" { (axis_name(&heat.y.0)) " by " (axis_name(&heat.x.0)) }
                            @for value in &heat.x.1 { th.number scope="col" { (value) } }
                        } }
                        tbody { @for (row, cells) in heat.cells.iter().enumerate() { tr {
                            th scope="row" { (heat.y.1[row]) }
                            @for (column, cell) in cells.iter().enumerate() {
                                @let is_best = best == Some((row, column));
                                td.number.best[is_best] {
                                    @match cell { Some((value, _)) => (format!("{value:.2}")), None => "–" }
                                    @if is_best { span.hidden { " (best)" } }
                                }
                            }
                        } } }
                    }
                }
            }
        }
    }
}

fn runs(sweep: &Sweep) -> Markup {
    let mains: Vec<Score> = sweep.scores().into_iter().filter(is_main).collect();
    let axes: Vec<&str> = sweep
        .axes
        .iter()
        .map(|axis| axis.key.as_str())
        .filter(|key| !["method", "seed"].contains(key))
        .collect();
    let head = html! {
        (sortable("method", false)) (sortable("seed", true))
        @for axis in &axes { (sortable(&axis_name(axis), true)) }
        @for score in &mains { (sortable(&format!("{}: {}", score.eval, score.measure), true)) }
    };
    html! {
        h3 { "All " (sweep.runs.len()) " runs" }
        @if !mains.is_empty() {
            p { "Measures: " @for (place, score) in mains.iter().enumerate() {
                @if place > 0 { "; " } (score.eval) ": " (score.measure) " (" (score.protocol) ", n = " (score.n) ")"
            } "." }
        }
        (table("Runs of the sweep", true, head, html! {
            @for run in &sweep.runs { tr {
                th scope="row" { (run.method) }
                td.number data-value=(run.seed) { (run.seed) }
                @for axis in &axes {
                    @let value = text(run.settings.get(*axis));
                    td.number data-value=(value) { (value) }
                }
                @for main in &mains {
                    @match run.scores.iter().find(|score| score.key() == main.key()) {
                        Some(score) => td.number data-value=(score.value) { (format!("{:.2}", score.value)) },
                        None => td.number { "–" }
                    }
                }
            } }
        }))
    }
}

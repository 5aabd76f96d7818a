//! Class tasks, class by class.

use dml_train::ClassTable;
use maud::{Markup, html};

use crate::colour::cell_style;
use crate::page::{sortable, table};

/// Per-class measures and the confusion matrix of one evaluation.
pub(crate) fn view(classes: &ClassTable) -> Markup {
    html! {
        h4 { "Classes: " (classes.eval) }
        (per_class(classes))
        (confusion(classes))
    }
}

fn per_class(classes: &ClassTable) -> Markup {
    let ClassTable { eval, several, rows, .. } = classes;
    let head = html! {
        (sortable("class", false)) (sortable("samples", true)) (sortable("average precision", true))
        (sortable("11 points", true)) (sortable("recall@1", true)) (sortable("precision@1", true))
    };
    let percent = |value: Option<f64>, bar: bool| {
        html! {
            @match value {
                Some(value) => td.number.share[bar] data-value=(value) style=[bar.then(|| format!("--w:{value:.1}%"))] {
                    span { (format!("{value:.1}")) }
                },
                None => td.number { "–" }
            }
        }
    };
    html! {
        p {
            "In percent. "
            @if *several {
                "Average precision ranks all samples by the class’s logit; samples in which the class is difficult are left out. "
            } @else {
                "Average precision ranks all samples by the class’s probability, the class against the rest. "
            }
            "Recall@1 and precision@1 look at the most probable class only."
        }
        (table(&format!("Measures of each class, {eval}"), true, head, html! {
            @for row in rows { tr {
                th scope="row" { (row.name) }
                td.number data-value=(row.positives) { (row.positives) }
                (percent(row.average_precision, true))
                (percent(row.eleven_points, false))
                (percent(row.recall, false))
                (percent(row.precision, false))
            } }
        }))
    }
}

fn confusion(classes: &ClassTable) -> Markup {
    let ClassTable { eval, several, rows, confusion } = classes;
    let label = format!("Confusion matrix, {eval}");
    html! {
        h5 { "Confusion" }
        p {
            "Rows are the labels, columns the most probable class; shades are shares of the row."
            @if *several { " A sample with several classes is counted in the row of each: even a perfect network fills cells
                beside the diagonal." }
        }
        div.scroll role="region" tabindex="0" aria-label=(label) {
            table.confusion {
                caption.hidden { (label) ": number of samples, label by most probable class" }
                thead { tr {
                    th.corner scope="col" { "label" span aria-hidden="true" { " ↓ " } span { "answer" } span aria-hidden="true" { " →" } }
                    @for row in rows { th.turned scope="col" { span { (row.name) } } }
                } }
                tbody { @for (number, (row, counts)) in rows.iter().zip(confusion).enumerate() {
                    @let total = counts.iter().sum::<usize>().max(1);
                    tr {
                        th scope="row" { (row.name) }
                        @for (column, &count) in counts.iter().enumerate() {
                            td.none[count == 0].diagonal[column == number]
                                style=[(count > 0).then(|| cell_style(count as f64 / total as f64))] { (count) }
                        }
                    }
                } }
            }
        }
    }
}

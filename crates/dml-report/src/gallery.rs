//! Cross-task predictions: Figures 6 and 7.

use dml_train::{Gallery, Item};
use maud::{Markup, html};

use crate::thumbnail::{Thumbnail, thumbnail};

/// Labels of a sample that are shown at once; the others are folded away.
const LABELS: usize = 2;

/// The cards of one gallery. `id` is unique in the page.
pub(crate) fn view(gallery: &Gallery, id: &str) -> Markup {
    let heading = match gallery.captions {
        true => format!("Captions for {}", gallery.set),
        false => format!("Classes for {}", gallery.set),
    };
    let confidence =
        if gallery.captions { "cosine of the nearest caption" } else { "probability of the first class" };
    html! {
        h4 id={ (id) "-heading" } { (heading) }
        p {
            @if gallery.captions {
                "These samples are labelled with classes; training has seen no caption of them. The captions are those of the
                evaluation set that the network puts nearest, with their cosine."
            } @else {
                "These samples are described by sentences; training has seen no class of them. The classes are the network’s most
                probable ones."
            }
            " Confidence: the " (confidence) ". Disagreement, from 0 to 1: how far the classes of the sample are from those of the
            samples that the nearest captions describe."
        }
        @if gallery.items.is_empty() {
            p.empty { "No sample was asked for." }
        } @else {
            div.order role="group" aria-label={ "Order of " (heading) } data-gallery=(id) {
                button type="button" data-key="order" aria-pressed="true" { "As in the set" }
                button type="button" data-key="confidence" aria-pressed="false" { "Confidence" }
                button type="button" data-key="disagreement" aria-pressed="false" { "Disagreement" }
                span.note role="status" {
                    (gallery.items.len()) " of " (gallery.samples) " samples"
                    @if gallery.items.len() < gallery.samples {
                        ": those of most confidence, of most disagreement, and others at equal distances"
                    }
                }
            }
            ol.gallery id=(id) aria-labelledby={ (id) "-heading" } {
                @for item in &gallery.items { (card(item, gallery.captions)) }
            }
        }
    }
}

fn card(item: &Item, captions: bool) -> Markup {
    let (shown, folded) =
        item.labels.split_at(item.labels.len().min(if captions { usize::MAX } else { LABELS }));
    html! {
        li.card data-order=(item.index) data-confidence=(item.confidence) data-disagreement=(item.disagreement) {
            (picture(item))
            div.body {
                p.id { (item.id) }
                @if captions {
                    p.labels { span.term { "Labelled " } (shown.join(", ")) }
                    p.labels { span.term { "Answered " } (classes_in_words(&item.own)) }
                    (sentences(&item.answers))
                } @else {
                    @for sentence in shown { p.sentence { "“" (sentence) "”" } }
                    @if !folded.is_empty() {
                        details { summary { (folded.len()) " more" } @for sentence in folded { p.sentence { "“" (sentence) "”" } } }
                    }
                    (bars(&item.answers))
                    @if let Some((sentence, cosine)) = item.own.first() {
                        details {
                            summary { "Nearest caption" }
                            p.sentence { (sentence) " " span.note { (format!("{cosine:.2}")) } }
                        }
                    }
                }
                dl.marks {
                    div { dt { "confidence" } dd { (format!("{:.2}", item.confidence)) } }
                    div { dt { "disagreement" } dd { (format!("{:.2}", item.disagreement)) } }
                }
            }
        }
    }
}

fn picture(item: &Item) -> Markup {
    let what = item.labels.first().map_or("without a label", String::as_str);
    html! {
        @match thumbnail(&item.pictures) {
            Some(Thumbnail { source, width, height, frames, coarse }) => {
                @let kind = if frames > 1 { format!("{frames} frames of a clip") } else { "Photograph".into() };
                img.coarse[coarse] src=(source) width=(width) height=(height) decoding="async"
                    alt={ (kind) ": " (what) };
            }
            None => div.absent { "no picture" }
        }
    }
}

fn classes_in_words(classes: &[(String, f64)]) -> String {
    let shown = classes.iter().enumerate().filter(|(rank, (_, p))| *rank == 0 || *p >= 0.1).take(3);
    let words: Vec<String> = shown.map(|(_, (name, p))| format!("{name} {:.0}\u{a0}%", 100.0 * p)).collect();
    words.join(", ")
}

fn sentences(nearest: &[(String, f64)]) -> Markup {
    html! {
        ol.nearest {
            @for (sentence, cosine) in nearest {
                li { span { (sentence) } span.amount { (format!("{cosine:.2}")) } }
            }
        }
    }
}

fn bars(classes: &[(String, f64)]) -> Markup {
    html! {
        ol.bars {
            @for (name, probability) in classes {
                li style={ "--w:" (format!("{:.1}", 100.0 * probability)) "%" } {
                    span { (name) } span.amount { (format!("{:.1}\u{a0}%", 100.0 * probability)) }
                }
            }
        }
    }
}

//! Against scikit-learn and NumPy; `golden/metrics.py` made `golden/metrics.json`.

#![allow(clippy::unwrap_used)]

use dml_metrics::{
    BothDirections, Interpolation, Pools, Relevance, Retrieval, average_precision, hit_at_1, item_ranks,
    mean_average_precision, pooled, standard, text_ranks, top1_precision, video_accuracy,
};
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    unit: f32,
    multi_label: Vec<MultiLabel>,
    single_label: SingleLabel,
    videos: Videos,
    retrieval: Vec<Matrix>,
}

#[derive(Deserialize)]
struct MultiLabel {
    name: String,
    k: usize,
    scores: Vec<f32>,
    flags: Vec<i8>,
    all_points: Vec<Option<f64>>,
    all_points_mean: f64,
    eleven_point: Vec<Option<f64>>,
    eleven_point_mean: f64,
    top1_precision: f64,
}

#[derive(Deserialize)]
struct SingleLabel {
    k: usize,
    scores: Vec<f32>,
    labels: Vec<u32>,
    hit_at_1: f64,
}

#[derive(Deserialize)]
struct Videos {
    k: usize,
    probabilities: Vec<f32>,
    labels: Vec<u32>,
    groups: Vec<usize>,
    video_accuracy: f64,
}

#[derive(Deserialize)]
struct Matrix {
    name: String,
    items: usize,
    owner: Vec<usize>,
    similarity: Vec<f32>,
    item_ranks: Vec<usize>,
    text_ranks: Vec<usize>,
    standard: BothDirections,
    pools: Pools,
    pooled: BothDirections,
}

fn golden() -> Golden {
    let mut golden: Golden = serde_json::from_str(include_str!("golden/metrics.json")).unwrap();
    let unit = golden.unit;
    let scale = |values: &mut Vec<f32>| values.iter_mut().for_each(|value| *value /= unit);
    golden.multi_label.iter_mut().for_each(|case| scale(&mut case.scores));
    golden.retrieval.iter_mut().for_each(|case| scale(&mut case.similarity));
    scale(&mut golden.videos.probabilities);
    golden
}

#[track_caller]
fn close(actual: f64, expected: f64, what: &str) {
    assert!((actual - expected).abs() < 1e-9, "{what}: {actual}, expected {expected}");
}

#[track_caller]
fn close_retrieval(actual: Retrieval, expected: Retrieval, what: &str) {
    close(actual.r1, expected.r1, what);
    close(actual.r5, expected.r5, what);
    close(actual.r10, expected.r10, what);
    close(actual.median_rank, expected.median_rank, what);
    close(actual.mean_rank, expected.mean_rank, what);
    assert_eq!(actual.queries, expected.queries, "{what}");
}

#[test]
fn average_precisions() {
    for case in golden().multi_label {
        let MultiLabel { name, k, scores, flags, .. } = &case;
        for (interpolation, per_class, mean) in [
            (Interpolation::AllPoints, &case.all_points, case.all_points_mean),
            (Interpolation::ElevenPoint, &case.eleven_point, case.eleven_point_mean),
        ] {
            let all = mean_average_precision(scores, *k, flags, interpolation).unwrap();
            close(all.mean, mean, name);
            assert_eq!(all.per_class.len(), per_class.len());
            for (class, expected) in per_class.iter().enumerate() {
                let column: Vec<_> = scores.iter().skip(class).step_by(*k).copied().collect();
                let marks: Vec<_> = flags.iter().skip(class).step_by(*k).copied().collect();
                let alone = average_precision(&column, &marks, interpolation).unwrap();
                assert_eq!(alone, all.per_class[class], "{name}");
                assert_eq!(alone.is_some(), expected.is_some(), "{name}");
                close(alone.unwrap_or(0.0), expected.unwrap_or(0.0), name);
            }
        }
    }
}

#[test]
fn highest_classes() {
    let Golden { multi_label, single_label, videos, .. } = golden();
    for case in multi_label {
        close(top1_precision(&case.scores, case.k, &case.flags).unwrap(), case.top1_precision, &case.name);
    }
    let SingleLabel { k, scores, labels, hit_at_1: expected } = single_label;
    close(hit_at_1(&scores, k, &labels).unwrap(), expected, "hit@1");
    let Videos { k, probabilities, labels, groups, video_accuracy: expected } = videos;
    close(video_accuracy(&probabilities, k, &labels, &groups).unwrap(), expected, "video accuracy");
}

#[test]
fn retrieval() {
    for case in golden().retrieval {
        let relevance = Relevance::new(case.items, &case.owner).unwrap();
        assert_eq!(item_ranks(&case.similarity, &relevance).unwrap(), case.item_ranks, "{}", case.name);
        assert_eq!(text_ranks(&case.similarity, &relevance).unwrap(), case.text_ranks, "{}", case.name);
        for (actual, expected) in [
            (standard(&case.similarity, &relevance).unwrap(), case.standard),
            (pooled(&case.similarity, &relevance, case.pools).unwrap(), case.pooled),
        ] {
            close_retrieval(actual.item_to_text, expected.item_to_text, &case.name);
            close_retrieval(actual.text_to_item, expected.text_to_item, &case.name);
        }
    }
}

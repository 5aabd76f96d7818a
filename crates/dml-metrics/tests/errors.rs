//! Every error names the argument that is wrong.

#![allow(clippy::unwrap_used)]

use dml_metrics::{
    Interpolation::AllPoints, Median, Pools, Relevance, Result, Retrieval, average_precision, hit_at_1,
    item_to_text, mean_average_precision, pooled, standard, text_to_item, top1_precision, video_accuracy,
};

#[track_caller]
fn check<T: std::fmt::Debug>(result: Result<T>, message: &str) {
    assert_eq!(result.unwrap_err().to_string(), message);
}

#[test]
fn classification() {
    check(hit_at_1(&[], 2, &[]), "`scores` is empty");
    check(hit_at_1(&[0.0, 1.0], 0, &[0]), "`k`: there must be at least one class");
    check(hit_at_1(&[0.0, 1.0, 2.0], 2, &[0]), "`scores`: 3 values are no whole number of rows of 2");
    check(hit_at_1(&[0.0, f32::NAN], 2, &[0]), "`scores` is NaN at position 1");
    check(
        hit_at_1(&[0.0, 1.0], 2, &[0, 1]),
        "`labels` has 2 values, but 1 are needed (one for each row of `scores`)",
    );
    check(hit_at_1(&[0.0, 1.0], 2, &[2]), "`labels`: label 2 at position 0, of 2 classes");

    check(video_accuracy(&[], 2, &[], &[]), "`probabilities` is empty");
    check(video_accuracy(&[0.5, f32::NAN], 2, &[0], &[0]), "`probabilities` is NaN at position 1");
    check(
        video_accuracy(&[0.5, 0.5], 2, &[0], &[]),
        "`groups` has 0 values, but 1 are needed (one for each row of `probabilities`)",
    );
    check(
        video_accuracy(&[0.5, 0.5], 2, &[], &[0]),
        "`labels` has 0 values, but 1 are needed (one for each row of `probabilities`)",
    );
    check(video_accuracy(&[0.5; 4], 2, &[0, 1], &[3, 3]), "`labels`: clips of video 3 are labelled 0 and 1");
    for logits in [[2.0, 1.0], [-1.0, 2.0], [f32::INFINITY, 0.0]] {
        let error = video_accuracy(&logits, 2, &[0], &[0]).unwrap_err().to_string();
        assert!(error.starts_with("`probabilities`: row 0 is no softmax"), "{error}");
    }
}

#[test]
fn multi_label() {
    check(top1_precision(&[], 2, &[]), "`scores` is empty");
    check(top1_precision(&[f32::NAN, 0.0], 2, &[1, 1]), "`scores` is NaN at position 0");
    check(top1_precision(&[1.0, 0.0], 2, &[0, 1]), "`flags`: the highest class of every sample is difficult");
    check(
        top1_precision(&[1.0, 0.0], 2, &[1]),
        "`flags` has 1 values, but 2 are needed (one for each of `scores`)",
    );

    check(average_precision(&[], &[], AllPoints), "`scores` is empty");
    check(average_precision(&[f32::NAN], &[1], AllPoints), "`scores` is NaN at position 0");
    check(average_precision(&[0.0], &[2], AllPoints), "`flags`: 2 at position 0 is none of 1, 0, -1");
    check(
        average_precision(&[0.0], &[], AllPoints),
        "`flags` has 0 values, but 1 are needed (one for each of `scores`)",
    );
    check(mean_average_precision(&[], 3, &[], AllPoints), "`scores` is empty");
    check(mean_average_precision(&[0.0, 0.0], 2, &[-1, 0], AllPoints), "`flags`: no class has a positive");
    assert_eq!(average_precision(&[0.0, 1.0], &[-1, 0], AllPoints), Ok(None));
}

#[test]
fn retrieval() {
    check(Relevance::new(0, &[]), "`items` is empty");
    check(Relevance::new(2, &[]), "`owner` is empty");
    check(Relevance::new(2, &[0, 2]), "`owner`: text 1 belongs to item 2, of 2 items");
    check(Relevance::new(2, &[0, 0]), "`owner`: item 1 has no text");
    check(Retrieval::from_ranks(&[], Median::Plain), "`ranks` is empty");
    check(Retrieval::from_ranks(&[1, 0], Median::Plain), "`ranks`: 0 at position 1; ranks count from 1");

    let relevance = Relevance::new(2, &[0, 1, 1]).unwrap();
    let pools = Pools { size: 2, median: Median::Floor };
    let size = "`similarity` has 4 values, but 6 are needed (items x texts of `relevance`)";
    let mut nan = [0.0; 6];
    nan[4] = f32::NAN;
    for (similarity, message) in [
        (&[] as &[f32], "`similarity` is empty"),
        (&[0.0; 4], size),
        (&nan, "`similarity` is NaN at position 4"),
    ] {
        check(item_to_text(similarity, &relevance, Median::Floor), message);
        check(text_to_item(similarity, &relevance, Median::Floor), message);
        check(standard(similarity, &relevance), message);
        check(pooled(similarity, &relevance, pools), message);
    }
    check(pooled(&[0.0; 6], &relevance, Pools { size: 0, ..pools }), "`pools` is empty");
    check(pooled(&[0.0; 6], &relevance, Pools::PAPER_VIDEOS), "`pools`: 2 items do not fill a pool of 16");
}

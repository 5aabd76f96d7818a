//! Laws that hold for any scores.

#![allow(clippy::unwrap_used)]

use dml_metrics::{
    Interpolation, Median, Pools, Relevance, average_precision, hit_at_1, item_ranks, item_to_text, pooled,
    standard, text_ranks, top1_precision, video_accuracy,
};
use proptest::prelude::*;

/// Few levels, so that ties are common.
fn score() -> impl Strategy<Value = f32> {
    (0i8..12).prop_map(|level| f32::from(level) / 4.0 - 1.0)
}

fn ranking() -> impl Strategy<Value = Vec<(f32, i8)>> {
    prop::collection::vec((score(), -1i8..=1), 1..60)
}

/// A square similarity matrix, one text per item.
fn square() -> impl Strategy<Value = (usize, Vec<f32>)> {
    (1usize..12).prop_flat_map(|n| (Just(n), prop::collection::vec(score(), n * n)))
}

fn ap(samples: &[(f32, i8)], interpolation: Interpolation) -> Option<f64> {
    let (scores, flags): (Vec<_>, Vec<_>) = samples.iter().copied().unzip();
    average_precision(&scores, &flags, interpolation).unwrap()
}

fn one_to_one(n: usize) -> Relevance {
    Relevance::new(n, &(0..n).collect::<Vec<_>>()).unwrap()
}

proptest! {
    #[test]
    fn average_precision_lies_between_the_prior_and_100(samples in ranking()) {
        let positives = samples.iter().filter(|sample| sample.1 == 1).count();
        let counted = samples.iter().filter(|sample| sample.1 != 0).count();
        match ap(&samples, Interpolation::AllPoints) {
            None => prop_assert_eq!(positives, 0),
            Some(value) => {
                let prior = 100.0 * positives as f64 / counted as f64;
                prop_assert!(value >= prior - 1e-9 && value <= 100.0 + 1e-9, "{value}, prior {prior}");
            }
        }
    }

    #[test]
    fn average_precision_sees_only_the_order(samples in ranking(), turn in 0usize..60) {
        for interpolation in [Interpolation::AllPoints, Interpolation::ElevenPoint] {
            let expected = ap(&samples, interpolation);
            let mut turned = samples.clone();
            turned.rotate_left(turn % samples.len());
            prop_assert_eq!(ap(&turned, interpolation), expected);
            let raised: Vec<_> = samples.iter().map(|(score, flag)| (score.exp(), *flag)).collect();
            prop_assert_eq!(ap(&raised, interpolation), expected);
            let easy: Vec<_> = samples.iter().copied().filter(|sample| sample.1 != 0).collect();
            if !easy.is_empty() {
                prop_assert_eq!(ap(&easy, interpolation), expected);
            }
        }
    }

    #[test]
    fn breaking_a_tie_never_lowers_average_precision(samples in ranking()) {
        let broken: Vec<_> = samples.iter().map(|(score, flag)| (score + f32::from(*flag) * 0.01, *flag)).collect();
        let (tied, broken) = (ap(&samples, Interpolation::AllPoints), ap(&broken, Interpolation::AllPoints));
        prop_assert!(broken.unwrap_or(0.0) >= tied.unwrap_or(0.0) - 1e-9);
    }

    #[test]
    fn single_labels_are_multi_labels_with_one_positive(
        rows in prop::collection::vec((prop::array::uniform4(score()), 0u32..4), 1..30),
    ) {
        let scores: Vec<f32> = rows.iter().flat_map(|(row, _)| *row).collect();
        let labels: Vec<u32> = rows.iter().map(|(_, label)| *label).collect();
        let flags: Vec<i8> =
            labels.iter().flat_map(|label| (0..4).map(move |class| if class == *label { 1 } else { -1 })).collect();
        let hit = hit_at_1(&scores, 4, &labels).unwrap();
        prop_assert_eq!(hit, top1_precision(&scores, 4, &flags).unwrap());

        // A video of one clip is judged as its clip, ties included.
        let onehot: Vec<f32> = scores.chunks(4).flat_map(|row| {
            let highest = row.iter().copied().fold(f32::MIN, f32::max);
            let ties = row.iter().filter(|score| **score == highest).count() as f32;
            row.iter().map(move |score| if *score == highest { 1.0 / ties } else { 0.0 }).collect::<Vec<_>>()
        }).collect();
        let each: Vec<usize> = (0..labels.len()).collect();
        prop_assert_eq!(hit, video_accuracy(&onehot, 4, &labels, &each).unwrap());
    }

    #[test]
    fn directions_swap_when_the_matrix_is_transposed((n, similarity) in square()) {
        let transposed: Vec<f32> = (0..n * n).map(|at| similarity[at % n * n + at / n]).collect();
        let relevance = one_to_one(n);
        prop_assert_eq!(item_ranks(&similarity, &relevance).unwrap(), text_ranks(&transposed, &relevance).unwrap());
    }

    #[test]
    fn one_pool_of_everything_is_the_standard_protocol((n, similarity) in square()) {
        let whole = Pools { size: n, median: Median::Floor };
        let relevance = one_to_one(n);
        prop_assert_eq!(
            pooled(&similarity, &relevance, whole).unwrap(),
            standard(&similarity, &relevance).unwrap()
        );
    }

    #[test]
    fn repeated_texts_double_the_others_before((n, similarity) in square()) {
        let owner: Vec<usize> = (0..n).chain(0..n).collect();
        // Twice the same texts: each item has the same best one, and twice as many others before it.
        let twice: Vec<f32> = similarity.chunks(n).flat_map(|row| row.iter().chain(row).copied()).collect();
        let doubled = item_ranks(&twice, &Relevance::new(n, &owner).unwrap()).unwrap();
        let once = item_ranks(&similarity, &one_to_one(n)).unwrap();
        prop_assert_eq!(doubled, once.iter().map(|rank| 2 * rank - 1).collect::<Vec<_>>());
    }

    #[test]
    fn recalls_and_medians_are_ordered((n, similarity) in square()) {
        let floor = item_to_text(&similarity, &one_to_one(n), Median::Floor).unwrap();
        let plain = item_to_text(&similarity, &one_to_one(n), Median::Plain).unwrap();
        prop_assert!(floor.r1 <= floor.r5 && floor.r5 <= floor.r10 && floor.r10 <= 100.0);
        prop_assert_eq!(floor.median_rank, plain.median_rank.floor());
        prop_assert!(floor.mean_rank >= 1.0 && floor.mean_rank <= n as f64);
    }
}

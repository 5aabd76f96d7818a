//! What chance scores: the figures that tell which protocol a published table was measured with.

#![allow(clippy::unwrap_used)]

use dml_metrics::{
    Interpolation, Median, Pools, Relevance, Retrieval, hit_at_1, mean_average_precision, pooled, standard,
    top1_precision,
};

/// Images of PASCAL VOC 2012 `val` with each class, in alphabetical order of the classes, of 5823 images (devkit
/// documentation, Table 1).
const VOC2012_VAL: [usize; 20] =
    [343, 284, 370, 248, 341, 208, 571, 541, 553, 152, 269, 654, 245, 261, 2093, 258, 154, 250, 271, 285];
const VOC2012_VAL_IMAGES: usize = 5823;
const COW: usize = 9;

/// The first `VOC2012_VAL[class]` images have the class.
fn voc2012_val_flags() -> Vec<i8> {
    let flag = |image, positives| if image < positives { 1 } else { -1 };
    (0..VOC2012_VAL_IMAGES).flat_map(|image| VOC2012_VAL.map(|positives| flag(image, positives))).collect()
}

#[test]
fn voc_average_precision_is_at_least_the_class_prior() {
    let flags = voc2012_val_flags();
    let descending: Vec<f32> = (0..VOC2012_VAL_IMAGES).flat_map(|image| [-(image as f32); 20]).collect();
    let ascending: Vec<f32> = descending.iter().map(|score| -score).collect();
    let constant = vec![0.5; flags.len()];
    let of = |scores: &[f32]| mean_average_precision(scores, 20, &flags, Interpolation::AllPoints).unwrap();

    assert_eq!(of(&descending).mean, 100.0);
    // Every positive last, and no order at all: both end at the prior, whose mean is 7.17 %. The "mAP" of 2.61 in the
    // paper's Table 4 lies below it.
    for worst in [of(&ascending), of(&constant)] {
        assert_eq!(format!("{:.2}", worst.mean), "7.17");
        for (precision, positives) in worst.per_class.iter().zip(VOC2012_VAL) {
            let prior = 100.0 * positives as f64 / VOC2012_VAL_IMAGES as f64;
            assert!((precision.unwrap() - prior).abs() < 1e-9);
        }
    }
}

#[test]
fn a_classifier_that_always_answers_cow_has_the_papers_lowest_map_as_its_top1_precision() {
    let mut row = [0.0; 20];
    row[COW] = 1.0;
    let scores: Vec<f32> = (0..VOC2012_VAL_IMAGES).flat_map(|_| row).collect();
    let precision = top1_precision(&scores, 20, &voc2012_val_flags()).unwrap();
    assert_eq!(format!("{precision:.2}"), "2.61");
}

/// A predictor that answers the same for every item: item i's own text has rank i + 1 in each pool.
fn collapsed(items: usize) -> (Vec<f32>, Relevance) {
    let similarity = (0..items * items).map(|at| -((at % items) as f32)).collect();
    (similarity, Relevance::new(items, &(0..items).collect::<Vec<_>>()).unwrap())
}

#[test]
fn uniform_ranks_in_pools_of_64_give_the_papers_row_at_chance() {
    // Three full pools and a partial one.
    let (similarity, relevance) = collapsed(3 * 64 + 20);
    let both = pooled(&similarity, &relevance, Pools::PAPER_IMAGES).unwrap();
    let expected = Retrieval {
        r1: 1.5625,
        r5: 7.8125,
        r10: 15.625,
        median_rank: 32.0, // the floor of 32.5
        mean_rank: 32.5,
        queries: 192,
    };
    assert_eq!(both.item_to_text, expected);
    // To a text all items are equally close: pessimistic ties put its own last.
    assert_eq!((both.text_to_item.r10, both.text_to_item.mean_rank), (0.0, 64.0));

    let plain = Pools { median: Median::Plain, ..Pools::PAPER_IMAGES };
    assert_eq!(pooled(&similarity, &relevance, plain).unwrap().item_to_text.median_rank, 32.5);
}

#[test]
fn uniform_ranks_in_pools_of_16_and_in_a_pool_of_1000() {
    let (similarity, relevance) = collapsed(48);
    let video = pooled(&similarity, &relevance, Pools::PAPER_VIDEOS).unwrap().item_to_text;
    assert_eq!((video.r1, video.r5, video.median_rank, video.mean_rank), (6.25, 31.25, 8.5, 8.5));

    let (similarity, relevance) = collapsed(1000);
    let whole = standard(&similarity, &relevance).unwrap().item_to_text;
    assert_eq!((whole.r1, whole.r5, whole.r10, whole.mean_rank), (0.1, 0.5, 1.0, 500.5));
}

#[test]
fn a_constant_network_gets_nothing() {
    assert_eq!(hit_at_1(&[0.25; 12], 4, &[0, 1, 2]).unwrap(), 0.0);
    let relevance = Relevance::new(3, &[0, 0, 1, 1, 2, 2]).unwrap();
    let both = standard(&[0.0; 18], &relevance).unwrap();
    // Behind the four texts of the other items, and behind the two other items.
    assert_eq!((both.item_to_text.r1, both.item_to_text.mean_rank), (0.0, 5.0));
    assert_eq!((both.text_to_item.r1, both.text_to_item.mean_rank), (0.0, 3.0));
}

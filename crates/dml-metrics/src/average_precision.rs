//! Average precision as the PASCAL VOC development kits define it.

use serde::{Deserialize, Serialize};

use crate::{MetricError, Result, check};

/// How the area under a precision/recall curve is taken.
///
/// Both use the monotone envelope: precision at a recall is the highest precision at that recall or a greater one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Interpolation {
    /// VOC 2010 to 2012 (`VOCap.m`): the area under the envelope at every recall that occurs.
    #[default]
    AllPoints,
    /// VOC 2007 to 2009: the mean of the envelope at the recalls 0, 0.1, ... 1. The recalls are compared as fractions
    /// of integers, so that a recall of 3/10 counts as 0.3 whatever the rounding of 0.1.
    ElevenPoint,
}

/// Average precision of each class, and their mean.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MeanAveragePrecision {
    /// Percent, one for each class in order; `None` for a class without positives.
    pub per_class: Vec<Option<f64>>,
    /// Percent; the mean over the classes with positives.
    pub mean: f64,
}

/// Average precision of one class in percent, with the samples ranked by descending score.
///
/// Difficult samples (flag 0) are ignored: they are neither true nor false positives (`VOCevalcls.m`). Ties are
/// pessimistic: among equal scores the negatives rank first. With the envelope this is the same as moving the threshold
/// over whole groups of equal scores, as scikit-learn's `precision_recall_curve` does; when all scores are equal, the
/// result is the class prior, which is the least any ranking can have with [`Interpolation::AllPoints`].
///
/// Returns `None` for a class without positives, where precision and recall have no meaning.
///
/// # Shapes
/// `scores` (n); `flags` (n): 1 positive, 0 difficult, -1 negative.
///
/// # Errors
/// `scores` empty or with NaN, `flags` of another length or with another value.
pub fn average_precision(scores: &[f32], flags: &[i8], interpolation: Interpolation) -> Result<Option<f64>> {
    check::rows("scores", scores, 1)?;
    check::length("flags", flags.len(), scores.len(), "one for each of `scores`")?;
    check::flags(flags)?;
    Ok(of_ranking(scores.iter().copied().zip(flags.iter().copied()).collect(), interpolation))
}

/// Average precision of every class, and the mean over the classes that have positives (VOC's mAP), in percent.
///
/// # Shapes
/// `scores` (n, k) row-major; `flags` (n, k) row-major: 1 positive, 0 difficult, -1 negative.
///
/// # Errors
/// `scores` empty, ragged or with NaN, `k` zero, `flags` of another length, with another value, or without a positive
/// in any class.
pub fn mean_average_precision(
    scores: &[f32],
    k: usize,
    flags: &[i8],
    interpolation: Interpolation,
) -> Result<MeanAveragePrecision> {
    check::rows("scores", scores, k)?;
    check::length("flags", flags.len(), scores.len(), "one for each of `scores`")?;
    check::flags(flags)?;
    let column = |class: usize| {
        let scores = scores.iter().copied().skip(class).step_by(k);
        scores.zip(flags.iter().copied().skip(class).step_by(k)).collect()
    };
    let per_class: Vec<_> = (0..k).map(|class| of_ranking(column(class), interpolation)).collect();
    let with_positives = per_class.iter().flatten().count();
    if with_positives == 0 {
        return Err(MetricError::Invalid {
            argument: "flags",
            problem: "no class has a positive".to_owned(),
        });
    }
    let mean = per_class.iter().flatten().sum::<f64>() / with_positives as f64;
    Ok(MeanAveragePrecision { per_class, mean })
}

/// A point of the precision/recall curve that a positive sample makes.
struct Point {
    true_positives: usize,
    precision: f64,
}

fn of_ranking(mut samples: Vec<(f32, i8)>, interpolation: Interpolation) -> Option<f64> {
    samples.retain(|(_, flag)| *flag != 0);
    // Not total_cmp, which tells -0 from 0. The scores hold no NaN, so that every comparison has an answer.
    samples.sort_by(|a, b| b.0.partial_cmp(&a.0).unwrap_or(std::cmp::Ordering::Equal).then(a.1.cmp(&b.1)));

    let mut curve = Vec::new();
    for (before, (_, flag)) in samples.iter().enumerate() {
        if *flag > 0 {
            let true_positives = curve.len() + 1;
            curve.push(Point { true_positives, precision: true_positives as f64 / (before + 1) as f64 });
        }
    }
    let mut highest: f64 = 0.0;
    for point in curve.iter_mut().rev() {
        highest = highest.max(point.precision);
        point.precision = highest;
    }

    let positives = curve.len();
    let mean = match interpolation {
        _ if positives == 0 => return None,
        // Each positive widens the recall by the same step, 1 / positives.
        Interpolation::AllPoints => curve.iter().map(|point| point.precision).sum::<f64>() / positives as f64,
        Interpolation::ElevenPoint => {
            let at = |tenth| curve.iter().find(|point| 10 * point.true_positives >= tenth * positives);
            (0..=10).filter_map(at).map(|point| point.precision).sum::<f64>() / 11.0
        }
    };
    Some(100.0 * mean)
}

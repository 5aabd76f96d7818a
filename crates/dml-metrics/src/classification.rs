//! Measures of single-label and multi-label classification that look at the highest class only.

use std::collections::BTreeMap;

use crate::{Result, check};

/// How far a row of probabilities may be from summing to 1: half-precision softmax stays within this.
const SUM_TOLERANCE: f64 = 1e-2;

/// Hit@1 in percent: how often the labelled class has the highest score. On clips this is the paper's Hit@1.
///
/// Ties are pessimistic: the labelled class must be strictly above every other one, so that a network which answers the
/// same for all classes scores 0, whichever class comes first.
///
/// # Shapes
/// `scores` (n, k) row-major: logits or probabilities; `labels` (n), each below k.
///
/// # Errors
/// `scores` empty, ragged or with NaN, `k` zero, `labels` of another length or beyond k.
pub fn hit_at_1(scores: &[f32], k: usize, labels: &[u32]) -> Result<f64> {
    let n = check::rows("scores", scores, k)?;
    check::length("labels", labels.len(), n, "one for each row of `scores`")?;
    check::labels(labels, k)?;
    let hits = scores.chunks_exact(k).zip(labels).filter(|(row, label)| is_highest(row, **label)).count();
    Ok(percent(hits, n))
}

/// Video accuracy in percent (the paper's Acc): the softmax of a video's clips is averaged, and the labelled class must
/// have the highest mean. Ties are pessimistic, as in [`hit_at_1`].
///
/// # Shapes
/// `probabilities` (n, k) row-major, each row a softmax (in \[0, 1\], sum 1); `labels` (n), the clips' labels, each
/// below k; `groups` (n), the clips' video: any numbers, equal for clips of one video, in any order.
///
/// # Errors
/// `probabilities` empty, ragged, with NaN or not probabilities (logits, say), `k` zero, `labels` of another length,
/// beyond k or different within a video, `groups` of another length.
pub fn video_accuracy(probabilities: &[f32], k: usize, labels: &[u32], groups: &[usize]) -> Result<f64> {
    let n = check::rows("probabilities", probabilities, k)?;
    check::length("labels", labels.len(), n, "one for each row of `probabilities`")?;
    check::length("groups", groups.len(), n, "one for each row of `probabilities`")?;
    check::labels(labels, k)?;

    let mut videos: BTreeMap<usize, (u32, Vec<f64>)> = BTreeMap::new();
    for (clip, row) in probabilities.chunks_exact(k).enumerate() {
        check_distribution(row, clip)?;
        let (label, sum) = videos.entry(groups[clip]).or_insert_with(|| (labels[clip], vec![0.0; k]));
        if *label != labels[clip] {
            return Err(check::invalid(
                "labels",
                format!("clips of video {} are labelled {label} and {}", groups[clip], labels[clip]),
            ));
        }
        for (total, &probability) in sum.iter_mut().zip(row) {
            *total += f64::from(probability);
        }
    }
    // The sum orders the classes as the mean does: a video's clips share one divisor.
    let hits = videos.values().filter(|(label, sum)| is_highest(sum, *label)).count();
    Ok(percent(hits, videos.len()))
}

/// Top-1 precision in percent, for samples with several classes: how often the highest class is one of the sample's.
///
/// Samples whose highest class is flagged difficult count neither way, as in [`average_precision`]. Ties are
/// pessimistic: among equal highest classes a negative one decides, then a difficult one. The paper's "mAP" column for
/// VOC behaves like this measure and not like an average precision.
///
/// # Shapes
/// `scores` (n, k) row-major; `flags` (n, k) row-major: 1 positive, 0 difficult, -1 negative.
///
/// # Errors
/// `scores` empty, ragged or with NaN, `k` zero, `flags` of another length or with another value, or `flags` difficult
/// for the highest class of every sample, so that nothing is left to count.
///
/// [`average_precision`]: crate::average_precision()
pub fn top1_precision(scores: &[f32], k: usize, flags: &[i8]) -> Result<f64> {
    check::rows("scores", scores, k)?;
    check::length("flags", flags.len(), scores.len(), "one for each of `scores`")?;
    check::flags(flags)?;
    let (mut hits, mut counted) = (0, 0);
    for (row, flags) in scores.chunks_exact(k).zip(flags.chunks_exact(k)) {
        let highest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let tied = row.iter().zip(flags).filter(|(score, _)| **score == highest);
        match tied.map(|(_, flag)| *flag).min() {
            Some(1) => (hits, counted) = (hits + 1, counted + 1),
            Some(-1) => counted += 1,
            _ => {}
        }
    }
    if counted == 0 {
        return Err(check::invalid("flags", "the highest class of every sample is difficult".to_owned()));
    }
    Ok(percent(hits, counted))
}

fn is_highest<T: PartialOrd>(row: &[T], label: u32) -> bool {
    let label = label as usize;
    row.iter().enumerate().all(|(class, score)| class == label || *score < row[label])
}

fn check_distribution(row: &[f32], clip: usize) -> Result<()> {
    let sum: f64 = row.iter().map(|&probability| f64::from(probability)).sum();
    if row.iter().any(|&probability| probability < 0.0) || (sum - 1.0).abs() > SUM_TOLERANCE {
        return Err(check::invalid(
            "probabilities",
            format!("row {clip} is no softmax: it sums to {sum:.3} and must be non-negative and sum to 1"),
        ));
    }
    Ok(())
}

fn percent(part: usize, whole: usize) -> f64 {
    100.0 * part as f64 / whole as f64
}

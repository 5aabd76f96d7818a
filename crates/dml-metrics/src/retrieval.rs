//! Ranks of a similarity matrix, and what is said about them: recall@k, median and mean rank.

use serde::{Deserialize, Serialize};

use crate::{MetricError, Relevance, Result, check};

/// Recall and ranks over a set of queries. Ranks count from 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Retrieval {
    /// Percent of the queries with rank 1.
    pub r1: f64,
    /// Percent of the queries with a rank of at most 5.
    pub r5: f64,
    /// Percent of the queries with a rank of at most 10.
    pub r10: f64,
    /// Median rank, as [`Median`] defines it; over pools the mean of the pools' medians.
    pub median_rank: f64,
    /// Mean rank.
    pub mean_rank: f64,
    /// How many queries were counted.
    pub queries: usize,
}

/// Which median of an even number of ranks is meant. For an odd number the two agree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Median {
    /// The whole rank below the middle of the two middle ones, `floor(median(rank - 1)) + 1`: what the public
    /// evaluation code of visual-semantic and order embeddings reports.
    #[default]
    Floor,
    /// The middle of the two middle ranks.
    Plain,
}

impl Retrieval {
    /// Summary of the ranks of some queries.
    ///
    /// # Shapes
    /// `ranks` (queries), each at least 1.
    ///
    /// # Errors
    /// `ranks` is empty or holds a zero.
    ///
    /// ```
    /// use dml_metrics::{Median, Retrieval};
    ///
    /// let summary = Retrieval::from_ranks(&[1, 6, 3, 30], Median::Plain)?;
    /// assert_eq!((summary.r1, summary.r5, summary.r10), (25.0, 50.0, 75.0));
    /// assert_eq!((summary.median_rank, summary.mean_rank), (4.5, 10.0));
    /// # Ok::<(), dml_metrics::MetricError>(())
    /// ```
    pub fn from_ranks(ranks: &[usize], median: Median) -> Result<Self> {
        if ranks.is_empty() {
            return Err(MetricError::Empty { argument: "ranks" });
        }
        if let Some(query) = ranks.iter().position(|&rank| rank == 0) {
            return Err(check::invalid("ranks", format!("0 at position {query}; ranks count from 1")));
        }
        let queries = ranks.len();
        let mut sorted = ranks.to_vec();
        sorted.sort_unstable();
        let recall = |k| 100.0 * sorted.partition_point(|&rank| rank <= k) as f64 / queries as f64;
        let plain = (sorted[(queries - 1) / 2] + sorted[queries / 2]) as f64 / 2.0;
        Ok(Self {
            r1: recall(1),
            r5: recall(5),
            r10: recall(10),
            median_rank: match median {
                Median::Floor => plain.floor(),
                Median::Plain => plain,
            },
            mean_rank: sorted.iter().map(|&rank| rank as f64).sum::<f64>() / queries as f64,
            queries,
        })
    }

    /// The mean of several summaries, each with the same weight; the queries add up.
    pub fn mean(summaries: &[Self]) -> Self {
        let mean =
            |value: fn(&Self) -> f64| summaries.iter().map(value).sum::<f64>() / summaries.len() as f64;
        Self {
            r1: mean(|s| s.r1),
            r5: mean(|s| s.r5),
            r10: mean(|s| s.r10),
            median_rank: mean(|s| s.median_rank),
            mean_rank: mean(|s| s.mean_rank),
            queries: summaries.iter().map(|s| s.queries).sum(),
        }
    }
}

/// Retrieval of texts for items over the whole matrix: one query per item. See [`item_ranks`].
///
/// # Shapes
/// `similarity` (items, texts) row-major, higher is closer.
///
/// # Errors
/// `similarity` is empty, of another size than `relevance` says, or holds NaN.
pub fn item_to_text(similarity: &[f32], relevance: &Relevance, median: Median) -> Result<Retrieval> {
    Retrieval::from_ranks(&item_ranks(similarity, relevance)?, median)
}

/// Retrieval of items for texts over the whole matrix: one query per text. See [`text_ranks`].
///
/// # Shapes
/// `similarity` (items, texts) row-major, higher is closer.
///
/// # Errors
/// `similarity` is empty, of another size than `relevance` says, or holds NaN.
pub fn text_to_item(similarity: &[f32], relevance: &Relevance, median: Median) -> Result<Retrieval> {
    Retrieval::from_ranks(&text_ranks(similarity, relevance)?, median)
}

/// The rank, from 1, of each item's best own text among all texts.
///
/// The item's other texts never stand before its best one. Ties are pessimistic: a text of another item that is equally
/// close ranks before it.
///
/// # Shapes
/// `similarity` (items, texts) row-major, higher is closer; the result (items).
///
/// # Errors
/// `similarity` is empty, of another size than `relevance` says, or holds NaN.
pub fn item_ranks(similarity: &[f32], relevance: &Relevance) -> Result<Vec<usize>> {
    relevance.check(similarity)?;
    let rank = |(item, row): (usize, &[f32])| {
        let texts = || row.iter().zip(relevance.owner());
        let own = texts().filter(|(_, owner)| **owner == item).map(|(score, _)| *score);
        let best = own.fold(f32::NEG_INFINITY, f32::max);
        1 + texts().filter(|(score, owner)| **owner != item && **score >= best).count()
    };
    Ok(similarity.chunks_exact(relevance.texts()).enumerate().map(rank).collect())
}

/// The rank, from 1, of each text's item among all items.
///
/// Ties are pessimistic: another item that is equally close ranks before it.
///
/// # Shapes
/// `similarity` (items, texts) row-major, higher is closer; the result (texts).
///
/// # Errors
/// `similarity` is empty, of another size than `relevance` says, or holds NaN.
pub fn text_ranks(similarity: &[f32], relevance: &Relevance) -> Result<Vec<usize>> {
    relevance.check(similarity)?;
    let (texts, owner) = (relevance.texts(), relevance.owner());
    let own: Vec<f32> =
        owner.iter().enumerate().map(|(text, item)| similarity[item * texts + text]).collect();
    // Row by row, as the matrix lies in memory: the own item counts itself and so makes the rank start at 1.
    let mut ranks = vec![0; texts];
    for row in similarity.chunks_exact(texts) {
        for ((rank, score), own) in ranks.iter_mut().zip(row).zip(&own) {
            *rank += usize::from(score >= own);
        }
    }
    Ok(ranks)
}

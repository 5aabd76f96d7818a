//! The two retrieval protocols: the whole test set as the pool, and small pools as behind the paper's tables.

use serde::{Deserialize, Serialize};

use crate::{
    Median, MetricError, Relevance, Result, Retrieval, check, item_ranks, item_to_text, text_ranks,
    text_to_item,
};

/// Retrieval both ways.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct BothDirections {
    /// Items are the queries, texts are found.
    pub item_to_text: Retrieval,
    /// Texts are the queries, items are found.
    pub text_to_item: Retrieval,
}

/// The pools of [`pooled`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Pools {
    /// How many consecutive items make a pool.
    pub size: usize,
    /// Which median is taken in each pool.
    pub median: Median,
}

impl Pools {
    /// Behind the image table of the paper (Flickr8k): 64 items, and medians such as 1.9 that are means of whole ranks.
    pub const PAPER_IMAGES: Self = Self { size: 64, median: Median::Floor };
    /// Behind the video table of the paper (YouTube2Text): 16 items, and medians such as 5.7 that fit plain ones.
    pub const PAPER_VIDEOS: Self = Self { size: 16, median: Median::Plain };
}

/// The standard protocol: the whole test set is the pool, every text takes part, an item counts with its best text, and
/// medians are [`Median::Floor`] as in public evaluation code. Ties are pessimistic.
///
/// On Flickr8k that is 1000 items and 5000 texts; on MSVD 670 videos and all their captions.
///
/// # Shapes
/// `similarity` (items, texts) row-major, higher is closer.
///
/// # Errors
/// `similarity` is empty, of another size than `relevance` says, or holds NaN.
pub fn standard(similarity: &[f32], relevance: &Relevance) -> Result<BothDirections> {
    Ok(BothDirections {
        item_to_text: item_to_text(similarity, relevance, Median::Floor)?,
        text_to_item: text_to_item(similarity, relevance, Median::Floor)?,
    })
}

/// The paper's protocol: pools of consecutive items with one caption each, the first of each item, and every measure
/// averaged over the pools.
///
/// The items after the last full pool are left out, because a smaller pool is an easier one and all pools weigh the
/// same; `queries` of the result says how many were counted. Shuffle the items before if neighbours are alike.
///
/// The paper does not state this protocol. It follows from its numbers: the row at chance of its image table (R@1 1.0,
/// R@5 6.0, R@10 15.3, mean rank 35.0) is that of 64 items (1.56, 7.81, 15.6, 32.5), its batch size. Numbers of this
/// protocol are not comparable with those of [`standard`].
///
/// # Shapes
/// `similarity` (items, texts) row-major, higher is closer.
///
/// # Errors
/// `similarity` is empty, of another size than `relevance` says, or holds NaN; `pools` have size zero, or there are too
/// few items for one.
pub fn pooled(similarity: &[f32], relevance: &Relevance, pools: Pools) -> Result<BothDirections> {
    relevance.check(similarity)?;
    let Pools { size, median } = pools;
    let items = relevance.items();
    if size == 0 {
        return Err(MetricError::Empty { argument: "pools" });
    }
    if items < size {
        return Err(check::invalid("pools", format!("{items} items do not fill a pool of {size}")));
    }
    let one_to_one = Relevance::new(size, &(0..size).collect::<Vec<_>>())?;
    let (mut to_text, mut to_item) = (Vec::new(), Vec::new());
    for (pool, texts) in relevance.first_text().chunks_exact(size).enumerate() {
        let rows = similarity.chunks_exact(relevance.texts()).skip(pool * size).take(size);
        let block: Vec<f32> = rows.flat_map(|row| texts.iter().map(|&text| row[text])).collect();
        to_text.push(Retrieval::from_ranks(&item_ranks(&block, &one_to_one)?, median)?);
        to_item.push(Retrieval::from_ranks(&text_ranks(&block, &one_to_one)?, median)?);
    }
    Ok(BothDirections { item_to_text: Retrieval::mean(&to_text), text_to_item: Retrieval::mean(&to_item) })
}

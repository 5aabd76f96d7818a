//! How well an encoder tells what belongs together.

use candle_core::Tensor;
use dml_metrics::{Median, Relevance, Retrieval, text_to_item};
use dml_rand::{Purpose, Stream};

use crate::{Result, SentenceEncoder, TeacherError};

/// How well captions find what they belong to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CaptionScore {
    /// Recalls and ranks.
    pub retrieval: Retrieval,
    /// Among how many each was sought.
    pub pool: usize,
}

impl CaptionScore {
    /// The recall at `k` of whoever guesses, in percent.
    pub fn chance(&self, k: usize) -> f64 {
        100.0 * k.min(self.pool) as f64 / self.pool as f64
    }

    /// The sum of the recalls at 1, 5 and 10, by which models are selected.
    pub fn sum(&self) -> f64 {
        let Retrieval { r1, r5, r10, .. } = self.retrieval;
        r1 + r5 + r10
    }
}

/// Whether two captions of one item find each other: of each item two captions of different words are drawn, and the
/// second is sought for the first among the second captions of all items, by cosine. The mean over `draws` draws. An item
/// with fewer than two such captions is left out. Ties are pessimistic: another item's caption that is equally near, such as
/// one of the same words, ranks before.
///
/// # Errors
/// If fewer than two items are left, and those of the encoder.
pub fn paraphrase_retrieval(
    encoder: &dyn SentenceEncoder,
    captions: &[Vec<String>],
    draws: usize,
    seed: u64,
) -> Result<CaptionScore> {
    let distinct = captions.iter().map(|captions| {
        let mut captions: Vec<&str> = captions.iter().map(String::as_str).collect();
        captions.sort_unstable();
        captions.dedup();
        captions
    });
    let items: Vec<Vec<&str>> = distinct.filter(|captions| captions.len() > 1).collect();
    if items.len() < 2 || draws == 0 {
        return Err(TeacherError::Invalid(format!(
            "{} items with two captions and {draws} draws leave nothing to rank",
            items.len()
        )));
    }
    let mut all = Vec::new();
    for draw in 0..draws {
        let [mut queries, mut targets] = [Vec::new(), Vec::new()];
        for (item, captions) in items.iter().enumerate() {
            let order =
                Stream::new(seed, Purpose::Caption, draw as u64, item as u64).permutation(captions.len());
            queries.push(captions[order[0]]);
            targets.push(captions[order[1]]);
        }
        let owner: Vec<usize> = (0..items.len()).collect();
        all.push(ranks(&encoder.encode(&queries)?, &encoder.encode(&targets)?, &owner)?);
    }
    Ok(CaptionScore { retrieval: Retrieval::mean(&all), pool: items.len() })
}

/// Whether captions find their items: each caption seeks its item among all, by cosine.
///
/// # Shapes
/// `items` (items, dim), rows of length one, in the encoder's space
///
/// # Errors
/// If there is no item or one without a caption, and those of the encoder.
pub fn caption_retrieval(
    encoder: &dyn SentenceEncoder,
    captions: &[Vec<String>],
    items: &Tensor,
) -> Result<CaptionScore> {
    let sentences: Vec<&str> = captions.iter().flatten().map(String::as_str).collect();
    let owner: Vec<usize> =
        captions.iter().enumerate().flat_map(|(item, captions)| captions.iter().map(move |_| item)).collect();
    let retrieval = ranks(&encoder.encode(&sentences)?, items, &owner)?;
    Ok(CaptionScore { retrieval, pool: captions.len() })
}

/// Each query seeks the item that owns it.
fn ranks(queries: &Tensor, items: &Tensor, owner: &[usize]) -> Result<Retrieval> {
    let similarity = items.matmul(&queries.t()?)?.flatten_all()?.to_vec1::<f32>()?;
    let relevance = Relevance::new(items.dim(0)?, owner)?;
    Ok(text_to_item(&similarity, &relevance, Median::Floor)?)
}

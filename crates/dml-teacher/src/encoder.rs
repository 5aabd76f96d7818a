use std::fmt::Write;

use candle_core::{DType, Device, Tensor};

use crate::{Result, TeacherError};

/// Turns sentences into vectors of length one. Frozen: the same sentence gives the same vector, always.
pub trait SentenceEncoder: Send + Sync {
    /// A short name, for tables and messages.
    fn name(&self) -> &str;

    /// Length of a vector.
    fn dim(&self) -> usize;

    /// A text that changes whenever the vectors would, for cache keys.
    fn fingerprint(&self) -> String;

    /// Encodes the sentences.
    ///
    /// # Shapes
    /// Returns (n, dim), f32, each row with Euclidean norm 1, on the encoder's device.
    ///
    /// # Errors
    /// If a sentence has no word in it; the error says which.
    fn encode(&self, sentences: &[&str]) -> Result<Tensor>;
}

/// Refuses sentences without a letter or digit: nothing can be learnt from them.
pub(crate) fn check(sentences: &[&str]) -> Result<()> {
    match sentences.iter().position(|sentence| !sentence.contains(char::is_alphanumeric)) {
        None => Ok(()),
        Some(index) => Err(TeacherError::Sentence {
            index,
            sentence: sentences[index].to_owned(),
            problem: "has no word".into(),
        }),
    }
}

/// Tokens of a batch, at most, with padding to its longest sentence; a single sentence may have more.
const TOKENS: usize = 8192;

/// Encodes in batches of like length, shortest first, and gives the rows in the order of the sentences.
///
/// # Shapes
/// `encode` takes the indices of a batch and answers (batch, dim); the whole is (n, dim), f32.
pub(crate) fn in_batches(
    lengths: &[usize],
    dim: usize,
    device: &Device,
    mut encode: impl FnMut(&[usize]) -> Result<Tensor>,
) -> Result<Tensor> {
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.sort_by_key(|&i| lengths[i]);
    let (mut batches, mut first) = (Vec::new(), 0);
    for next in 1..=order.len() {
        if next == order.len() || (next - first + 1) * lengths[order[next]] > TOKENS {
            batches.push(encode(&order[first..next])?);
            first = next;
        }
    }
    if batches.is_empty() {
        return Ok(Tensor::zeros((0, dim), DType::F32, device)?);
    }
    Ok(Tensor::cat(&batches, 0)?.index_select(&places(&order, device)?, 0)?)
}

/// Where each index stands in a permutation: what undoes it.
pub(crate) fn places(order: &[usize], device: &Device) -> candle_core::Result<Tensor> {
    let mut place = vec![0u32; order.len()];
    for (row, &i) in order.iter().enumerate() {
        place[i] = row as u32;
    }
    Tensor::new(place, device)
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

use candle_core::Tensor;

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

use std::cmp::Reverse;

use candle_core::{DType, Tensor};
use dml_ops::{gru, linear};

use crate::encoder::places;
use crate::{Result, TeacherError};

/// The gated recurrent unit of order-embeddings, with the words' vectors.
///
/// r, u = σ(x W + b + h U), the first half r and the second u; h̃ = tanh(x Wx + bx + r ∘ (h Ux));
/// h' = u ∘ h + (1 − u) ∘ h̃. The three products of x are one here, and so are those of h; matrices are (outputs, inputs).
#[derive(Clone, Debug)]
pub(crate) struct Gru {
    /// (words, word dim)
    pub(crate) words: Tensor,
    /// (3 dim, word dim): r, u and h̃ one below the other.
    pub(crate) input: Tensor,
    /// (3 dim)
    pub(crate) bias: Tensor,
    /// (3 dim, dim)
    pub(crate) state: Tensor,
}

impl Gru {
    /// The last state of each sentence, a list of word numbers. Nothing is padded.
    ///
    /// # Shapes
    /// n sentences of one number or more → (n, dim)
    pub(crate) fn forward(&self, sentences: &[&[u32]]) -> Result<Tensor> {
        if sentences.iter().any(|sentence| sentence.is_empty()) || sentences.is_empty() {
            return Err(TeacherError::Invalid("a sentence without a step".into()));
        }
        let device = self.words.device();
        let mut order: Vec<usize> = (0..sentences.len()).collect();
        order.sort_by_key(|&i| Reverse(sentences[i].len()));
        // The words of the first step, of all sentences; then those of the second, of the sentences that have one; …
        let (mut words, mut counts) = (Vec::new(), Vec::new());
        for step in 0..sentences[order[0]].len() {
            let count = order.partition_point(|&i| sentences[i].len() > step);
            words.extend(order[..count].iter().map(|&i| sentences[i][step]));
            counts.push(count);
        }
        let words = self.words.index_select(&Tensor::new(words, device)?, 0)?;
        let products = linear(&words, &self.input, Some(&self.bias))?;
        let last = gru(&products, &self.state, &counts)?;
        Ok(last.index_select(&places(&order, device)?, 0)?)
    }

    /// From the published arrays, whose matrices are (inputs, outputs).
    ///
    /// # Shapes
    /// `get` answers `Wemb` (words, word dim), `encoder_W` (word dim, 2 dim), `encoder_b` (2 dim), `encoder_U` (dim, 2 dim),
    /// `encoder_Wx` (word dim, dim), `encoder_bx` (dim), `encoder_Ux` (dim, dim).
    pub(crate) fn from_published(get: impl Fn(&str) -> candle_core::Result<Tensor>) -> Result<Self> {
        let below = |a: &str, b: &str| Tensor::cat(&[get(a)?, get(b)?], 1)?.t()?.contiguous();
        Ok(Self {
            words: get("Wemb")?,
            input: below("encoder_W", "encoder_Wx")?,
            bias: Tensor::cat(&[get("encoder_b")?, get("encoder_bx")?], 0)?,
            state: below("encoder_U", "encoder_Ux")?,
        })
    }

    /// The published arrays, copied to the CPU as f32.
    pub(crate) fn published(&self) -> candle_core::Result<Vec<(&'static str, Tensor)>> {
        let dim = self.state.dim(1)?;
        let gates = |x: &Tensor| x.narrow(0, 0, 2 * dim);
        let candidate = |x: &Tensor| x.narrow(0, 2 * dim, dim);
        [
            ("Wemb", Ok(self.words.clone())),
            ("encoder_W", gates(&self.input).and_then(|x| x.t())),
            ("encoder_Wx", candidate(&self.input).and_then(|x| x.t())),
            ("encoder_b", gates(&self.bias)),
            ("encoder_bx", candidate(&self.bias)),
            ("encoder_U", gates(&self.state).and_then(|x| x.t())),
            ("encoder_Ux", candidate(&self.state).and_then(|x| x.t())),
        ]
        .into_iter()
        .map(|(name, tensor)| Ok((name, published(&tensor?)?)))
        .collect()
    }
}

/// A copy on the CPU as f32.
pub(crate) fn published(x: &Tensor) -> candle_core::Result<Tensor> {
    x.detach().to_device(&candle_core::Device::Cpu)?.to_dtype(DType::F32)?.force_contiguous()?.copy()
}

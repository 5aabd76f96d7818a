use candle_core::{D, Tensor};
use candle_nn::ops::sigmoid;

/// The gated recurrent unit of order-embeddings, with the words' vectors.
///
/// r, u = σ(x W + b + h U), the first half r and the second u; h̃ = tanh(x Wx + bx + r ∘ (h Ux));
/// h' = u ∘ h + (1 − u) ∘ h̃. The three products of x are one here, and so are those of h.
pub(crate) struct Gru {
    /// (words, word dim)
    words: Tensor,
    /// (word dim, 3 dim): r, u and h̃ side by side.
    input: Tensor,
    /// (3 dim)
    bias: Tensor,
    /// (dim, 3 dim)
    state: Tensor,
}

impl Gru {
    /// From the published arrays.
    ///
    /// # Shapes
    /// `get` answers `Wemb` (words, word dim), `encoder_W` (word dim, 2 dim), `encoder_b` (2 dim), `encoder_U` (dim, 2 dim),
    /// `encoder_Wx` (word dim, dim), `encoder_bx` (dim), `encoder_Ux` (dim, dim).
    pub(crate) fn new<E: From<candle_core::Error>>(
        get: impl Fn(&str) -> Result<Tensor, E>,
    ) -> Result<Self, E> {
        let beside = |a: &str, b: &str| Ok::<_, E>(Tensor::cat(&[get(a)?, get(b)?], D::Minus1)?);
        Ok(Self {
            words: get("Wemb")?,
            input: beside("encoder_W", "encoder_Wx")?,
            bias: beside("encoder_b", "encoder_bx")?,
            state: beside("encoder_U", "encoder_Ux")?,
        })
    }

    /// The last state of each sentence. Where there is a mask, steps with 0 keep the state.
    ///
    /// # Shapes
    /// ids (n, t) u32, mask (n, t) of 0 and 1 → (n, dim)
    pub(crate) fn forward(&self, ids: &Tensor, mask: Option<&Tensor>) -> candle_core::Result<Tensor> {
        let (n, steps) = ids.dims2()?;
        let dim = self.state.dim(0)?;
        let words = self.words.index_select(&ids.flatten_all()?, 0)?;
        let inputs = words.matmul(&self.input)?.broadcast_add(&self.bias)?.reshape((n, steps, 3 * dim))?;
        let mut state: Option<Tensor> = None;
        for step in 0..steps {
            let x = inputs.narrow(1, step, 1)?.squeeze(1)?;
            let gates = x.narrow(1, 0, 2 * dim)?;
            let candidate = x.narrow(1, 2 * dim, dim)?;
            // The first state is zero, so its products are too.
            let next = match &state {
                None => {
                    let u = sigmoid(&gates.narrow(1, dim, dim)?.contiguous()?)?;
                    ((1.0 - u)? * candidate.tanh()?)?
                }
                Some(h) => {
                    let products = h.matmul(&self.state)?;
                    let gates = sigmoid(&(gates + products.narrow(1, 0, 2 * dim)?)?)?;
                    let (r, u) = (gates.narrow(1, 0, dim)?, gates.narrow(1, dim, dim)?);
                    let candidate = (candidate + (r * products.narrow(1, 2 * dim, dim)?)?)?.tanh()?;
                    (&candidate + (u * (h - &candidate)?)?)?
                }
            };
            state = Some(match (mask, &state) {
                (Some(mask), Some(h)) => (h + mask.narrow(1, step, 1)?.broadcast_mul(&(next - h)?)?)?,
                _ => next,
            });
        }
        state.ok_or_else(|| candle_core::Error::Msg("a sentence without a step".into()).bt())
    }
}

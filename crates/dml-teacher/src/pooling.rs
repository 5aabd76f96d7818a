use candle_core::{DType, Tensor};

/// How a sentence's vector is made of its tokens'.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Mode {
    /// The first token's.
    Cls,
    /// The largest value of each component.
    Max,
    Mean,
    /// The sum over the square root of the number of tokens.
    MeanSqrtLength,
}

impl Mode {
    /// sentence-transformers' names, old and new.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "cls" | "cls_token" => Self::Cls,
            "max" | "max_tokens" => Self::Max,
            "mean" | "mean_tokens" => Self::Mean,
            "mean_sqrt_len_tokens" => Self::MeanSqrtLength,
            _ => return None,
        })
    }
}

/// One mode, or several whose vectors lie one after the other.
#[derive(Clone, Debug)]
pub(crate) struct Pooling(Vec<Mode>);

impl Pooling {
    /// These modes, in sentence-transformers' order; nothing if there is none.
    pub(crate) fn new(mut modes: Vec<Mode>) -> Option<Self> {
        modes.sort();
        modes.dedup();
        if modes.is_empty() { None } else { Some(Self(modes)) }
    }

    pub(crate) fn mean() -> Self {
        Self(vec![Mode::Mean])
    }

    pub(crate) fn modes(&self) -> &[Mode] {
        &self.0
    }

    /// # Shapes
    /// tokens (n, t, hidden), mask (n, t) of 0 and 1 → (n, modes × hidden)
    pub(crate) fn forward(&self, tokens: &Tensor, mask: &Tensor) -> candle_core::Result<Tensor> {
        let mask = mask.to_dtype(DType::F32)?.unsqueeze(2)?;
        let sum = || tokens.broadcast_mul(&mask)?.sum(1);
        let parts = self.0.iter().map(|mode| match mode {
            Mode::Cls => tokens.narrow(1, 0, 1)?.squeeze(1),
            Mode::Max => tokens.broadcast_add(&mask.affine(1e9, -1e9)?)?.max(1),
            Mode::Mean => sum()?.broadcast_div(&mask.sum(1)?),
            Mode::MeanSqrtLength => sum()?.broadcast_div(&mask.sum(1)?.sqrt()?),
        });
        Tensor::cat(&parts.collect::<candle_core::Result<Vec<_>>>()?, 1)
    }
}

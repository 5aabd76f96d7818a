//! The parameters of an order-embedding in training.

use std::collections::BTreeMap;

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor, Var};
use dml_ops::{Adam, init, linear};
use dml_rand::{Purpose, Stream, hash};

use super::finish;
use super::gru::{Gru, published};
use crate::Result;

/// Half the width of the uniform distribution from which weights that are not square begin.
const SPREAD: f64 = 0.1;

/// Sizes of an order-embedding.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    pub(crate) words: usize,
    pub(crate) word_dim: usize,
    pub(crate) dim: usize,
    /// Of an image; 0 without an image side.
    pub(crate) features: usize,
}

/// The variables, which are those of [`Gru`] and the image side.
#[derive(Debug)]
pub(crate) struct Parameters {
    vars: BTreeMap<&'static str, Var>,
    gru: Gru,
    images: Option<[Tensor; 2]>,
}

impl Parameters {
    /// Drawn as Vendrov et al. do: words and inputs uniform, states orthogonal, images uniform as in Glorot and Bengio
    /// (2010), biases zero.
    pub(crate) fn new(sizes: Sizes, seed: u64, dtype: DType, device: &Device) -> Result<Self> {
        let Sizes { words, word_dim, dim, features } = sizes;
        let stream = |name: &str| Stream::new(seed, Purpose::Init, 0, hash(name));
        let uniform = |name: &'static str, shape: (usize, usize), spread: f64| {
            init::uniform(shape, (-spread, spread), &mut stream(name), dtype, device)
        };
        let orthogonal = |name| init::orthogonal(dim, &mut stream(name), dtype, device);
        let state = [orthogonal("U.r")?, orthogonal("U.u")?, orthogonal("Ux")?];
        let mut values = vec![
            ("words", uniform("words", (words, word_dim), SPREAD)?),
            ("input", uniform("input", (3 * dim, word_dim), SPREAD)?),
            ("bias", init::constant(3 * dim, 0.0, dtype, device)?),
            ("state", Tensor::cat(&state, 0)?),
        ];
        if features > 0 {
            let spread = (6.0 / (features + dim) as f64).sqrt();
            values.push(("image.weight", uniform("image.weight", (dim, features), spread)?));
            values.push(("image.bias", init::constant(dim, 0.0, dtype, device)?));
        }
        let mut vars = BTreeMap::new();
        for (name, value) in values {
            vars.insert(name, Var::from_tensor(&value)?);
        }
        let of = |name: &str| vars[name].as_tensor().clone();
        let gru = Gru { words: of("words"), input: of("input"), bias: of("bias"), state: of("state") };
        let images = (features > 0).then(|| [of("image.weight"), of("image.bias")]);
        Ok(Self { vars, gru, images })
    }

    /// (n, dim), of length one
    pub(crate) fn sentences(&self, sentences: &[&[u32]], absolute: bool) -> Result<Tensor> {
        Ok(finish(&self.gru.forward(sentences)?, absolute)?)
    }

    /// (n, features) → (n, dim), of length one
    pub(crate) fn images(&self, features: &Tensor, absolute: bool) -> Result<Tensor> {
        let [weight, bias] = self.images.as_ref().ok_or_else(|| {
            crate::TeacherError::Invalid("the model is trained without an image side".into())
        })?;
        Ok(finish(&linear(features, weight, Some(bias))?, absolute)?)
    }

    /// One step of Adam. Each published tensor's gradient is cut to this length.
    pub(crate) fn step(&self, adam: &mut Adam, gradients: &GradStore, rate: f64, length: f64) -> Result<()> {
        for (name, var) in &self.vars {
            let Some(gradient) = gradients.get(var) else { continue };
            // Of these, gates and candidate are published apart.
            let rows = gradient.dim(0)?;
            let parts = match *name {
                "input" | "bias" | "state" => vec![(0, rows / 3 * 2), (rows / 3 * 2, rows / 3)],
                _ => vec![(0, rows)],
            };
            let cut = parts.into_iter().map(|(first, rows)| {
                let part = gradient.narrow(0, first, rows)?;
                let norm = part.sqr()?.sum_all()?.to_dtype(DType::F64)?.to_scalar::<f64>()?.sqrt();
                if norm > length { part * (length / norm) } else { Ok(part) }
            });
            let cut = Tensor::cat(&cut.collect::<candle_core::Result<Vec<_>>>()?, 0)?;
            adam.update(name, var, &cut, rate)?;
        }
        Ok(())
    }

    /// Copies on the CPU, by their published names.
    pub(crate) fn published(&self) -> Result<BTreeMap<String, Tensor>> {
        let mut tensors = self.gru.published()?;
        if let Some([weight, bias]) = &self.images {
            tensors.push(("ff_image_W", published(&weight.t()?)?));
            tensors.push(("ff_image_b", published(bias)?));
        }
        Ok(tensors.into_iter().map(|(name, tensor)| (name.to_owned(), tensor)).collect())
    }

    #[cfg(test)]
    pub(crate) fn vars(&self) -> &BTreeMap<&'static str, Var> {
        &self.vars
    }
}

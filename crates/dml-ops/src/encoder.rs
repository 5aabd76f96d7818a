//! The encoder layer of a transformer, for networks that are not trained.

use candle_core::{D, DType, Device, Tensor};

use crate::kernel::encoder::{Packed, Panels};
use crate::kernel::on_cpu_kernel;
use crate::{OpError, Result};

/// The function between the two products of an encoder layer's second half.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EncoderActivation {
    /// x·Φ(x), Φ the normal distribution's.
    Gelu,
    /// Its approximation by tanh (Hendrycks and Gimpel 2016).
    GeluTanh,
    /// max(x, 0).
    Relu,
}

/// A weight and a bias: of a fully connected layer (o, i) and (o), of a normalisation (h) and (h).
#[derive(Clone, Debug)]
pub struct Affine {
    /// The weight, or scale.
    pub weight: Tensor,
    /// The bias, or shift.
    pub bias: Tensor,
}

/// The parameters of an [`EncoderLayer`] of h values a token and f between its last two products.
#[derive(Clone, Debug)]
pub struct EncoderWeights {
    /// (h, h)
    pub query: Affine,
    /// (h, h)
    pub key: Affine,
    /// (h, h)
    pub value: Affine,
    /// After the attention, (h, h).
    pub output: Affine,
    /// Of what the attention gave and its input together.
    pub attention_norm: Affine,
    /// (f, h)
    pub up: Affine,
    /// (h, f)
    pub down: Affine,
    /// Of the layer's result.
    pub norm: Affine,
    /// How many attentions there are side by side; they divide h.
    pub heads: usize,
    /// After `up`.
    pub activation: EncoderActivation,
    /// What is added to the variance before its root is taken.
    pub epsilon: f64,
}

/// An encoder layer of a transformer, normalised after each half (Vaswani et al. 2017; BERT's):
/// a = norm(x + attention(x)), y = norm(a + down(activation(up(a)))). It is not differentiable.
///
/// Sequences of any lengths lie one after the other, without padding, and do not see each other: on the CPU, in f32, a
/// sequence's result does not depend by a bit on the others of a call nor on the number of threads. The weights are packed
/// once, here.
pub struct EncoderLayer(Form);

enum Form {
    Packed(Box<Packed>),
    Tensors(Box<EncoderWeights>),
}

/// What a pair of positions adds to its attention's logit, by their distance (Shaw et al. 2018; T5's and MPNet's).
#[derive(Clone, Copy, Debug)]
pub struct RelativePositions<'a> {
    /// (heads, 2 m − 1): of the distances 1 − m to m − 1 from the token that asks to the one that is seen.
    pub by_distance: &'a Tensor,
}

impl EncoderLayer {
    /// # Errors
    /// If a shape does not fit the others, or the heads do not divide h.
    pub fn new(weights: EncoderWeights) -> Result<Self> {
        let hidden = weights.norm.weight.elem_count();
        let between = weights.up.bias.elem_count();
        let wrong = |name, problem: String| Err(OpError::argument("encoder layer", name, problem));
        if weights.heads == 0 || hidden == 0 || !hidden.is_multiple_of(weights.heads) {
            return wrong("heads", format!("must divide {hidden}, are {}", weights.heads));
        }
        for (name, affine, shape) in [
            ("query", &weights.query, &[hidden, hidden][..]),
            ("key", &weights.key, &[hidden, hidden]),
            ("value", &weights.value, &[hidden, hidden]),
            ("output", &weights.output, &[hidden, hidden]),
            ("attention_norm", &weights.attention_norm, &[hidden]),
            ("up", &weights.up, &[between, hidden]),
            ("down", &weights.down, &[hidden, between]),
            ("norm", &weights.norm, &[hidden]),
        ] {
            let dims = [affine.weight.dims(), affine.bias.dims()];
            if dims != [shape, &shape[..1]] {
                return wrong(
                    name,
                    format!("must have shapes {shape:?} and {:?}, has {dims:?}", &shape[..1]),
                );
            }
        }
        let x = &weights.norm.weight;
        Ok(Self(if on_cpu_kernel(x) && x.dtype() == DType::F32 {
            Form::Packed(Box::new(pack(&weights)?))
        } else {
            Form::Tensors(Box::new(weights))
        }))
    }

    /// # Shapes
    /// `x` (sum of lengths, h) → the same.
    ///
    /// # Errors
    /// If a shape does not fit, a sequence is longer than `positions` reach, or a gradient of `x` would be lost.
    pub fn forward(
        &self,
        x: &Tensor,
        lengths: &[usize],
        positions: Option<RelativePositions<'_>>,
    ) -> Result<Tensor> {
        let wrong = |name, problem: String| Err(OpError::argument("encoder layer", name, problem));
        let (hidden, heads) = match &self.0 {
            Form::Packed(layer) => (layer.hidden(), layer.heads),
            Form::Tensors(weights) => (weights.norm.bias.elem_count(), weights.heads),
        };
        let shape = [lengths.iter().sum(), hidden];
        if x.dims() != shape {
            return wrong("x", format!("must have shape {shape:?}, has {:?}", x.dims()));
        }
        if x.track_op() {
            return wrong("x", "needs a gradient, which this layer does not have".into());
        }
        let longest = lengths.iter().copied().max().unwrap_or(0);
        if let Some(RelativePositions { by_distance }) = positions {
            let (rows, distances) = by_distance.dims2()?;
            if rows != heads || distances % 2 == 0 || longest > distances.div_ceil(2) {
                let problem = format!(
                    "must have shape [{heads}, 2 m - 1] with m at least {longest}, has {:?}",
                    [rows, distances]
                );
                return wrong("by_distance", problem);
            }
        }
        match &self.0 {
            Form::Tensors(weights) => portable(weights, x, lengths, positions),
            Form::Packed(layer) => {
                let by_distance = positions.map(|positions| values(positions.by_distance)).transpose()?;
                let x = values(x)?;
                let y = layer.run(&x, lengths, by_distance.as_deref());
                Ok(Tensor::from_vec(y, shape.as_slice(), &Device::Cpu)?)
            }
        }
    }
}

/// Where the tokens of sequences that lie one after the other are in a padded batch, and the way back.
///
/// # Shapes
/// Rows of the tokens for each place of (n, longest), the first where there is none, then places for each token, both
/// flat; which places hold a token, (n, longest), 1 or 0.
///
/// # Errors
/// If candle refuses the device.
pub fn padded_places(lengths: &[usize], device: &Device) -> Result<[Tensor; 3]> {
    let longest = lengths.iter().copied().max().unwrap_or(0);
    let (mut rows, mut places, mut there) = (Vec::new(), Vec::new(), Vec::new());
    for (sequence, &length) in lengths.iter().enumerate() {
        for place in 0..longest {
            let held = place < length;
            rows.push(if held { places.len() as u32 } else { 0 });
            there.push(u32::from(held));
            if held {
                places.push((sequence * longest + place) as u32);
            }
        }
    }
    let there = Tensor::from_vec(there, (lengths.len(), longest), device)?;
    Ok([Tensor::new(rows, device)?, Tensor::new(places, device)?, there])
}

fn pack(weights: &EncoderWeights) -> Result<Packed> {
    let panels = |parts: &[&Affine]| -> Result<Panels> {
        let weight = Tensor::cat(&parts.iter().map(|part| &part.weight).collect::<Vec<_>>(), 0)?;
        let bias = Tensor::cat(&parts.iter().map(|part| &part.bias).collect::<Vec<_>>(), 0)?;
        Ok(Panels::new(&values(&weight)?, values(&bias)?))
    };
    let norm =
        |affine: &Affine| -> Result<[Vec<f32>; 2]> { Ok([values(&affine.weight)?, values(&affine.bias)?]) };
    Ok(Packed {
        attention: panels(&[&weights.query, &weights.key, &weights.value])?,
        output: panels(&[&weights.output])?,
        attention_norm: norm(&weights.attention_norm)?,
        up: panels(&[&weights.up])?,
        down: panels(&[&weights.down])?,
        norm: norm(&weights.norm)?,
        heads: weights.heads,
        activation: weights.activation,
        epsilon: weights.epsilon,
    })
}

fn values(x: &Tensor) -> Result<Vec<f32>> {
    Ok(x.flatten_all()?.to_vec1()?)
}

/// By candle's operations, on a padded batch.
fn portable(
    weights: &EncoderWeights,
    x: &Tensor,
    lengths: &[usize],
    positions: Option<RelativePositions<'_>>,
) -> Result<Tensor> {
    let (n, longest) = (lengths.len(), lengths.iter().copied().max().unwrap_or(0));
    if longest == 0 {
        return Ok(x.clone());
    }
    let hidden = x.dim(1)?;
    let dim = hidden / weights.heads;
    let [rows, places, there] = padded_places(lengths, x.device())?;
    let dense = |x: &Tensor, by: &Affine| -> Result<Tensor> {
        Ok(x.matmul(&by.weight.t()?)?.broadcast_add(&by.bias)?)
    };
    let by_head = |by: &Affine| -> Result<Tensor> {
        let x = dense(x, by)?.index_select(&rows, 0)?;
        Ok(x.reshape((n, longest, weights.heads, dim))?.transpose(1, 2)?.contiguous()?)
    };
    let keys = by_head(&weights.key)?.t()?.contiguous()?;
    let mut logits = (by_head(&weights.query)?.matmul(&keys)? / (dim as f64).sqrt())?;
    if let Some(RelativePositions { by_distance }) = positions {
        let reach = by_distance.dim(1)?.div_ceil(2);
        let distances =
            (0..longest * longest).map(|pair| (pair % longest + reach - 1 - pair / longest) as u32);
        let distances = Tensor::from_iter(distances, x.device())?;
        let bias = by_distance.index_select(&distances, 1)?.reshape((1, weights.heads, longest, longest))?;
        logits = logits.broadcast_add(&bias)?;
    }
    let unseen = there.to_dtype(x.dtype())?.affine(1e30, -1e30)?.reshape((n, 1, 1, longest))?;
    let logits = logits.broadcast_add(&unseen)?;
    let shares = logits.broadcast_sub(&logits.max_keepdim(D::Minus1)?)?.exp()?;
    let shares = shares.broadcast_div(&shares.sum_keepdim(D::Minus1)?)?;
    let seen = shares.matmul(&by_head(&weights.value)?)?;
    let seen = seen.transpose(1, 2)?.reshape((n * longest, hidden))?.index_select(&places, 0)?;
    let norm = |x: Tensor, by: &Affine| -> Result<Tensor> {
        let x = x.broadcast_sub(&x.mean_keepdim(1)?)?;
        let deviation = (x.sqr()?.mean_keepdim(1)? + weights.epsilon)?.sqrt()?;
        Ok(x.broadcast_div(&deviation)?.broadcast_mul(&by.weight)?.broadcast_add(&by.bias)?)
    };
    let a = norm((dense(&seen, &weights.output)? + x)?, &weights.attention_norm)?;
    let up = dense(&a, &weights.up)?;
    let up = match weights.activation {
        EncoderActivation::Gelu => up.gelu_erf()?,
        EncoderActivation::GeluTanh => up.gelu()?,
        EncoderActivation::Relu => crate::portable::relu(&up)?,
    };
    norm((dense(&up, &weights.down)? + a)?, &weights.norm)
}

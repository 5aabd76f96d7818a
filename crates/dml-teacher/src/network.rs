//! The transformers of the BERT family: what their configurations and their tensors are called, and how they run.

use candle_core::Tensor;
use candle_nn::VarBuilder;
use dml_ops::{Affine, EncoderActivation, EncoderLayer, EncoderWeights, RelativePositions};
use serde::Deserialize;
use serde_json::{Map, Value};

/// Which of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Family {
    Bert,
    #[serde(rename = "distilbert")]
    DistilBert,
    Roberta,
    XlmRoberta,
    #[serde(rename = "mpnet")]
    MpNet,
}

/// A transformer's `config.json`; DistilBERT has names of its own.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Config {
    #[serde(rename = "model_type", default = "bert")]
    family: Family,
    #[serde(alias = "dim")]
    pub(crate) hidden_size: usize,
    #[serde(alias = "n_layers")]
    num_hidden_layers: usize,
    #[serde(alias = "n_heads")]
    num_attention_heads: usize,
    #[serde(alias = "hidden_dim")]
    intermediate_size: usize,
    #[serde(alias = "activation")]
    hidden_act: Activation,
    max_position_embeddings: usize,
    #[serde(rename = "vocab_size")]
    pub(crate) vocabulary: usize,
    #[serde(default)]
    type_vocab_size: usize,
    #[serde(default = "epsilon")]
    layer_norm_eps: f64,
    #[serde(default)]
    pad_token_id: usize,
    position_embedding_type: Option<String>,
    #[serde(default = "buckets")]
    relative_attention_num_buckets: usize,
}

#[derive(Clone, Copy, Debug, Deserialize)]
enum Activation {
    #[serde(rename = "gelu")]
    Gelu,
    #[serde(rename = "gelu_new", alias = "gelu_pytorch_tanh", alias = "gelu_approximate")]
    GeluTanh,
    #[serde(rename = "relu")]
    Relu,
}

fn bert() -> Family {
    Family::Bert
}

/// DistilBERT's, which its files do not name.
fn epsilon() -> f64 {
    1e-12
}

fn buckets() -> usize {
    32
}

/// What a family calls the parts of a layer.
struct Names {
    layer: &'static str,
    query: &'static str,
    key: &'static str,
    value: &'static str,
    output: &'static str,
    attention_norm: &'static str,
    up: &'static str,
    down: &'static str,
    norm: &'static str,
}

const BERT: Names = Names {
    layer: "encoder.layer",
    query: "attention.self.query",
    key: "attention.self.key",
    value: "attention.self.value",
    output: "attention.output.dense",
    attention_norm: "attention.output.LayerNorm",
    up: "intermediate.dense",
    down: "output.dense",
    norm: "output.LayerNorm",
};

const DISTILBERT: Names = Names {
    layer: "transformer.layer",
    query: "attention.q_lin",
    key: "attention.k_lin",
    value: "attention.v_lin",
    output: "attention.out_lin",
    attention_norm: "sa_layer_norm",
    up: "ffn.lin1",
    down: "ffn.lin2",
    norm: "output_layer_norm",
};

const MPNET: Names = Names {
    query: "attention.attn.q",
    key: "attention.attn.k",
    value: "attention.attn.v",
    output: "attention.attn.o",
    attention_norm: "attention.LayerNorm",
    ..BERT
};

impl Family {
    fn names(self) -> Names {
        match self {
            Self::Bert | Self::Roberta | Self::XlmRoberta => BERT,
            Self::DistilBert => DISTILBERT,
            Self::MpNet => MPNET,
        }
    }

    /// What the tensors of a network with a head (one for masked words, say) begin with.
    fn prefix(self) -> &'static str {
        match self {
            Self::Bert => "bert",
            Self::DistilBert => "distilbert",
            Self::Roberta | Self::XlmRoberta => "roberta",
            Self::MpNet => "mpnet",
        }
    }
}

impl Config {
    /// # Errors
    /// A text that says what is wrong.
    pub(crate) fn read(file: Map<String, Value>) -> Result<Self, String> {
        let config: Self = serde_json::from_value(Value::Object(file)).map_err(|e| e.to_string())?;
        let (heads, hidden) = (config.num_attention_heads, config.hidden_size);
        if heads == 0 || !hidden.is_multiple_of(heads) {
            return Err(format!("{heads} attention heads do not divide hidden_size {hidden}"));
        }
        // Older files do not name the only kind that there was.
        match config.position_embedding_type.as_deref() {
            None | Some("absolute") => Ok(config),
            Some(other) => Err(format!("position_embedding_type {other} is not implemented; only absolute")),
        }
    }

    /// The number of a sentence's first position: RoBERTa counts from beyond the padding's number.
    fn first_position(&self) -> usize {
        match self.family {
            Family::Bert | Family::DistilBert => 0,
            Family::Roberta | Family::XlmRoberta => self.pad_token_id + 1,
            Family::MpNet => 2,
        }
    }

    /// The longest sentence in tokens.
    pub(crate) fn positions(&self) -> usize {
        self.max_position_embeddings.saturating_sub(self.first_position())
    }
}

/// A transformer's weights.
pub(crate) struct Network {
    words: Tensor,
    positions: Tensor,
    /// Of the first and second sentence of a pair; DistilBERT and MPNet have none.
    kinds: Option<Tensor>,
    norm: Affine,
    layers: Vec<EncoderLayer>,
    /// (heads, 2 · longest − 1), MPNet's.
    by_distance: Option<Tensor>,
    first_position: usize,
    epsilon: f64,
}

impl Network {
    pub(crate) fn load(config: &Config, weights: &VarBuilder<'_>) -> candle_core::Result<Self> {
        let prefixed = weights.pp(config.family.prefix());
        let weights =
            if weights.contains_tensor("embeddings.word_embeddings.weight") { weights } else { &prefixed };
        let hidden = config.hidden_size;
        let matrix = |name: &str, rows| weights.get((rows, hidden), &format!("{name}.weight"));
        let affine = |name: &str, shape: &[usize]| -> candle_core::Result<Affine> {
            let part = weights.pp(name);
            Ok(Affine { weight: part.get(shape, "weight")?, bias: part.get(shape[0], "bias")? })
        };
        let names = config.family.names();
        let layers = (0..config.num_hidden_layers).map(|index| {
            let part = |name, shape: &[usize]| affine(&format!("{}.{index}.{name}", names.layer), shape);
            let square = [hidden; 2];
            let between = config.intermediate_size;
            let weights = EncoderWeights {
                query: part(names.query, &square)?,
                key: part(names.key, &square)?,
                value: part(names.value, &square)?,
                output: part(names.output, &square)?,
                attention_norm: part(names.attention_norm, &[hidden])?,
                up: part(names.up, &[between, hidden])?,
                down: part(names.down, &[hidden, between])?,
                norm: part(names.norm, &[hidden])?,
                heads: config.num_attention_heads,
                activation: match config.hidden_act {
                    Activation::Gelu => EncoderActivation::Gelu,
                    Activation::GeluTanh => EncoderActivation::GeluTanh,
                    Activation::Relu => EncoderActivation::Relu,
                },
                epsilon: config.layer_norm_eps,
            };
            EncoderLayer::new(weights).map_err(candle_core::Error::wrap)
        });
        let layers = layers.collect::<candle_core::Result<_>>()?;
        let kinds = config.type_vocab_size;
        let by_distance = match config.family {
            Family::MpNet => {
                let buckets = config.relative_attention_num_buckets;
                let name = "encoder.relative_attention_bias.weight";
                let table = weights.get((buckets, config.num_attention_heads), name)?;
                let reach = config.positions() as i64 - 1;
                let of_distance = (-reach..=reach).map(|distance| bucket(distance, buckets));
                let of_distance = Tensor::from_iter(of_distance, table.device())?;
                Some(table.index_select(&of_distance, 0)?.t()?.contiguous()?)
            }
            _ => None,
        };
        Ok(Self {
            words: matrix("embeddings.word_embeddings", config.vocabulary)?,
            positions: matrix("embeddings.position_embeddings", config.max_position_embeddings)?,
            kinds: (kinds > 0).then(|| matrix("embeddings.token_type_embeddings", kinds)).transpose()?,
            norm: affine("embeddings.LayerNorm", &[hidden])?,
            layers,
            by_distance,
            first_position: config.first_position(),
            epsilon: config.layer_norm_eps,
        })
    }

    /// The tokens' vectors, of sentences one after the other.
    ///
    /// # Shapes
    /// The numbers of `words` and of their `kinds`, sum of `lengths` → (sum of lengths, hidden).
    pub(crate) fn forward(&self, words: &[u32], kinds: &[u32], lengths: &[usize]) -> dml_ops::Result<Tensor> {
        let device = self.words.device();
        let rows = |of: &Tensor, numbers: &[u32]| of.index_select(&Tensor::new(numbers, device)?, 0);
        let positions: Vec<u32> = lengths
            .iter()
            .flat_map(|&length| (0..length).map(|i| (self.first_position + i) as u32))
            .collect();
        let mut x = (rows(&self.words, words)? + rows(&self.positions, &positions)?)?;
        if let Some(table) = &self.kinds {
            x = (x + rows(table, kinds)?)?;
        }
        x = self.normalised(&x)?;
        let positions = self.by_distance.as_ref().map(|by_distance| RelativePositions { by_distance });
        for layer in &self.layers {
            x = layer.forward(&x, lengths, positions)?;
        }
        Ok(x)
    }

    /// The layer normalisation of the embeddings. candle's own loses gradients, and is not used even where there are none.
    fn normalised(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let x = x.broadcast_sub(&x.mean_keepdim(1)?)?;
        let deviation = (x.sqr()?.mean_keepdim(1)? + self.epsilon)?.sqrt()?;
        x.broadcast_div(&deviation)?.broadcast_mul(&self.norm.weight)?.broadcast_add(&self.norm.bias)
    }
}

/// Which of MPNet's biases a distance takes: half of them for tokens before and as many for those after, each its own up to
/// a quarter of all, then ever longer stretches up to 128 (T5's rule; `relative_position_bucket` of transformers).
fn bucket(distance: i64, buckets: usize) -> u32 {
    let half = buckets as i64 / 2;
    let exact = half / 2;
    let after = if distance > 0 { half } else { 0 };
    let distance = distance.abs();
    let place = if distance < exact {
        distance
    } else {
        let share = (distance as f32 / exact as f32).ln() / (128.0 / exact as f32).ln();
        (exact + (share * (half - exact) as f32) as i64).min(half - 1)
    };
    (after + place) as u32
}

#[cfg(test)]
mod tests {
    use super::bucket;

    #[test]
    fn distances_fall_into_the_buckets_of_transformers() {
        // (bucket, how many distances) from −140 on, as transformers 4's MPNetEncoder gives them.
        let mut want = vec![(15, 50), (14, 27), (13, 18), (12, 14), (11, 9), (10, 7), (9, 4), (8, 4)];
        want.extend((0..8).rev().map(|bucket| (bucket, 1)));
        want.extend((17..24).map(|bucket| (bucket, 1)));
        want.extend([(24, 4), (25, 4), (26, 7), (27, 9), (28, 14), (29, 18), (30, 27), (31, 50)]);
        let want: Vec<u32> = want.into_iter().flat_map(|(bucket, count)| vec![bucket; count]).collect();
        assert_eq!((-140..=140).map(|distance| bucket(distance, 32)).collect::<Vec<_>>(), want);
    }
}

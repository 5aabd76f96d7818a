use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use dml_ops::Precision;
use serde::{Deserialize, Serialize};

use crate::layers::{Layer, Start, positive};
use crate::params::constants;
use crate::{Mode, ModelError, Params, Result, Root, RootConfig, Tap};

/// What a task asks of the shared features: one fully connected layer, started as PyTorch's default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum HeadConfig {
    /// One class of several.
    Classes {
        /// How many classes.
        classes: usize,
    },
    /// Any subset of several classes.
    MultiLabel {
        /// How many classes.
        classes: usize,
    },
    /// A vector to compare with a sentence's embedding.
    Embedding {
        /// How many values.
        dim: usize,
    },
}

impl HeadConfig {
    /// The number of values that the head answers.
    pub fn outputs(&self) -> usize {
        match *self {
            Self::Classes { classes } | Self::MultiLabel { classes } => classes,
            Self::Embedding { dim } => dim,
        }
    }
}

/// A shared root and one head for each task, by the task's name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetConfig {
    /// The shared root.
    pub root: RootConfig,
    /// The heads. A name is not empty and has no dot.
    pub heads: BTreeMap<String, HeadConfig>,
}

/// One network for any number of tasks (spec §1): a shared root and a head for each task.
///
/// Parameters are named `root.<the root's own names>` and `head.<task>.weight`, `head.<task>.bias`.
pub struct MultiTaskNet {
    root: Box<dyn Root>,
    heads: BTreeMap<String, Layer>,
}

impl MultiTaskNet {
    /// Builds the network with the parameters of `vb`.
    ///
    /// # Errors
    /// If a size or a head's name is impossible, or the builder has a parameter with another shape.
    pub fn new(config: &NetConfig, vb: VarBuilder) -> Result<Self> {
        let root = config.root.build(vb.pp("root"))?;
        let mut heads = BTreeMap::new();
        for (name, head) in &config.heads {
            if name.is_empty() || name.contains('.') {
                return Err(ModelError::Config(format!(
                    "{name:?} cannot name a head: it is empty or has a dot"
                )));
            }
            positive(&format!("the number of outputs of head {name:?}"), head.outputs())?;
            let shape = [head.outputs(), root.feature_dim()];
            heads.insert(name.clone(), Layer::new(vb.pp("head").pp(name), &shape, Start::Torch)?);
        }
        Ok(Self { root, heads })
    }

    /// The network as it is now, with parameters that training does not change and no gradient reaches.
    ///
    /// # Errors
    /// If the parameters are not those of this configuration.
    pub fn frozen_copy(config: &NetConfig, params: &Params) -> Result<Self> {
        Self::frozen(config, params.copy_frozen()?, params.device())
    }

    /// A network of these parameters, such as those of a checkpoint or of [`Params::copy_frozen`], which training does
    /// not change and no gradient reaches.
    ///
    /// # Errors
    /// If the parameters are not those of this configuration.
    pub fn frozen(config: &NetConfig, tensors: BTreeMap<String, Tensor>, device: &Device) -> Result<Self> {
        let dtype = tensors.values().next().map_or(DType::F32, Tensor::dtype);
        Self::new(config, constants(tensors, dtype, device))
    }

    /// The shared features of a batch.
    ///
    /// # Shapes
    /// (n, [`input_shape`](MultiTaskNet::input_shape)…) → (n, [`feature_dim`](MultiTaskNet::feature_dim))
    ///
    /// # Errors
    /// As [`Root::forward`].
    pub fn features(&self, x: &Tensor, mode: &Mode) -> Result<Tensor> {
        self.root_in_its_type(x, Tap::Fc7, mode)
    }

    /// The features at fc6, without dropout: see [`Tap::Fc6`].
    ///
    /// # Shapes
    /// (n, [`input_shape`](MultiTaskNet::input_shape)…) → (n, [`feature_dim`](MultiTaskNet::feature_dim))
    ///
    /// # Errors
    /// As [`Root::forward`].
    pub fn fc6(&self, x: &Tensor) -> Result<Tensor> {
        self.root_in_its_type(x, Tap::Fc6, &Mode::Eval)
    }

    /// In bf16 where the process is told so ([`dml_ops::set_precision`]); the features come back in the input's type.
    fn root_in_its_type(&self, x: &Tensor, tap: Tap, mode: &Mode) -> Result<Tensor> {
        match dml_ops::precision() {
            Precision::Bf16 => {
                let features = self.root.forward_to(&x.to_dtype(DType::BF16)?, tap, mode)?;
                Ok(features.to_dtype(x.dtype())?)
            }
            Precision::F32 | Precision::Tf32 => self.root.forward_to(x, tap, mode),
        }
    }

    /// A task's answer to features: raw logits, or a raw vector (not normalised) for an embedding.
    ///
    /// # Shapes
    /// (n, [`feature_dim`](MultiTaskNet::feature_dim)) → (n, [`HeadConfig::outputs`])
    ///
    /// # Errors
    /// If there is no such head, or the features have another shape.
    pub fn head(&self, name: &str, features: &Tensor) -> Result<Tensor> {
        match self.heads.get(name) {
            Some(head) => head.linear(features),
            None => Err(ModelError::UnknownHead {
                name: name.into(),
                heads: self.heads.keys().cloned().collect(),
            }),
        }
    }

    /// The number of values in a feature vector.
    pub fn feature_dim(&self) -> usize {
        self.root.feature_dim()
    }

    /// The shape of one sample, without the batch dimension.
    pub fn input_shape(&self) -> Vec<usize> {
        self.root.input_shape()
    }
}

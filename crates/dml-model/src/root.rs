use candle_core::Tensor;
use candle_nn::VarBuilder;
use dml_ops::RowKeys;
use serde::{Deserialize, Serialize};

use crate::efficientnet::EfficientNetRoot;
use crate::small::{Features, SmallClip, SmallImage};
use crate::{C3d, Result, VggS};

/// How a network runs.
#[derive(Clone, Copy, Debug)]
pub enum Mode<'a> {
    /// Without dropout: evaluation, and recording of responses.
    Eval,
    /// With dropout, its masks keyed by the samples in the batch.
    Train(&'a RowKeys),
}

/// Where features are taken from a root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tap {
    /// fc6 after its ReLU: what C3D's authors give to a linear classifier.
    Fc6,
    /// fc7 after its ReLU: what the heads stand on.
    Fc7,
}

/// A shared root θ_R (spec §1): a network up to fc7, on which the tasks' heads stand.
pub trait Root: Send + Sync {
    /// The features of a batch.
    ///
    /// # Shapes
    /// (n, [`input_shape`](Root::input_shape)…) → (n, [`feature_dim`](Root::feature_dim))
    ///
    /// # Errors
    /// If the input has another shape, or in training if the keys are not one a row.
    fn forward(&self, x: &Tensor, mode: &Mode) -> Result<Tensor> {
        self.forward_to(x, Tap::Fc7, mode)
    }

    /// The same, ending at a tap; every tap is [`feature_dim`](Root::feature_dim) wide.
    ///
    /// # Shapes
    /// (n, [`input_shape`](Root::input_shape)…) → (n, [`feature_dim`](Root::feature_dim))
    ///
    /// # Errors
    /// As [`Root::forward`].
    fn forward_to(&self, x: &Tensor, tap: Tap, mode: &Mode) -> Result<Tensor>;

    /// The number of values in a feature vector.
    fn feature_dim(&self) -> usize;

    /// The shape of one sample, without the batch dimension.
    fn input_shape(&self) -> Vec<usize>;
}

/// Which root, as data. In TOML and JSON the field `kind` tells which.
///
/// ```
/// let root: dml_model::RootConfig = serde_json::from_str(r#"{ "kind": "c3d" }"#)?;
/// assert_eq!(root, dml_model::RootConfig::C3d { dropout: 0.5 });
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum RootConfig {
    /// [`C3d`]: clips (3, 16, 112, 112) → 4096.
    C3d {
        /// Probability with which fc6 and fc7 drop a value, 0.5 unless given.
        #[serde(default = "half")]
        dropout: f64,
    },
    /// [`VggS`]: images (3, 224, 224) → 4096.
    VggS {
        /// As for C3D.
        #[serde(default = "half")]
        dropout: f64,
    },
    /// [`SmallClip`]: clips (3, frames, size, size) → hidden.
    SmallClip {
        /// Frames of a clip, at least 4.
        frames: usize,
        /// Height and width in pixels, at least 8.
        size: usize,
        /// Outputs of the three convolutions.
        channels: [usize; 3],
        /// Outputs of fc6 and of fc7.
        hidden: usize,
        /// As for C3D.
        #[serde(default = "half")]
        dropout: f64,
    },
    /// [`SmallImage`]: images (3, size, size) → hidden.
    SmallImage {
        /// Height and width in pixels, at least 8.
        size: usize,
        /// Outputs of the three convolutions.
        channels: [usize; 3],
        /// Outputs of fc6 and of fc7.
        hidden: usize,
        /// As for C3D.
        #[serde(default = "half")]
        dropout: f64,
    },
    /// [`Features`]: vectors computed beforehand, (input) → hidden.
    Features {
        /// Values of a vector.
        input: usize,
        /// Outputs of fc6 and of fc7.
        hidden: usize,
        /// As for C3D.
        #[serde(default = "half")]
        dropout: f64,
    },
    /// [`EfficientNetRoot`]: images (3, size, size) → hidden.
    #[serde(rename = "efficientnet-lite0")]
    EfficientNetLite0 {
        /// Height and width in pixels, at least 32; the published weights were trained at 224, which it is unless given.
        #[serde(default = "published_size")]
        size: usize,
        /// Outputs of fc6 and of fc7; with 0 there are none, and the heads stand on the pooled features.
        hidden: usize,
        /// As for C3D.
        #[serde(default = "half")]
        dropout: f64,
    },
}

impl RootConfig {
    /// Builds the root with the parameters of `vb`.
    ///
    /// # Errors
    /// If a size is impossible, or the builder has a parameter with another shape.
    pub fn build(&self, vb: VarBuilder) -> Result<Box<dyn Root>> {
        Ok(match *self {
            Self::C3d { dropout } => Box::new(C3d::new(dropout, vb)?),
            Self::VggS { dropout } => Box::new(VggS::new(dropout, vb)?),
            Self::SmallClip { frames, size, channels, hidden, dropout } => {
                Box::new(SmallClip::new(frames, size, channels, hidden, dropout, vb)?)
            }
            Self::SmallImage { size, channels, hidden, dropout } => {
                Box::new(SmallImage::new(size, channels, hidden, dropout, vb)?)
            }
            Self::Features { input, hidden, dropout } => Box::new(Features::new(input, hidden, dropout, vb)?),
            Self::EfficientNetLite0 { size, hidden, dropout } => {
                Box::new(EfficientNetRoot::new(size, hidden, dropout, vb)?)
            }
        })
    }
}

fn half() -> f64 {
    0.5
}

fn published_size() -> usize {
    224
}

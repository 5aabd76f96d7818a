//! EfficientNet-Lite0 (Google 2020; Tan and Le 2019 without squeeze-and-excitation, with ReLU6): a small
//! ImageNet network that a processor runs, and the names of its public checkpoints.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{Device, Tensor};
use candle_nn::VarBuilder;
use candle_nn::init::{Init, ONE, ZERO};
use dml_ops::channels_last::{Then, conv2d, depthwise_conv2d, from_channels_first, mean_positions};
use dml_ops::{Activation, Conv2d, Padding2d};

use crate::layers::{FullyConnected, Start, check_input};
use crate::{Mode, ModelError, Result, Root, Tap, checkpoint, pth};

pub use keys::{from_lukemelas, from_timm};

mod keys;

/// Smallest height and width: the trunk halves them five times.
const LEAST: usize = 32;
/// The number of values in the pooled feature.
pub const POOLED: usize = 1280;
const STEM: usize = 32;
const EPSILON: f64 = 1e-3;
/// The stages: kernel, stride of the first block, expansion, outputs, blocks.
const STAGES: [(usize, usize, usize, usize, usize); 7] = [
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
];

/// The convolutional trunk of EfficientNet-Lite0, up to its pooled feature.
///
/// Parameter names are the keys of the lukemelas checkpoints (`_conv_stem.weight`,
/// `_blocks.0._bn1.running_mean`, …). Convolutions pad as TensorFlow's `SAME`: what is odd goes to the right
/// and the bottom, so the padding depends on the input's size. **Batch normalisation always uses the stored
/// statistics, in training too**: weights, scales (γ) and shifts (β) can be trained, the statistics stay
/// frozen, and a batch's other samples never change a sample's feature. Without a checkpoint the convolutions
/// start as He et al. (2015) say, for ReLU and fan in, the statistics as 0 and 1; that is of use in tests
/// only.
pub struct EfficientNetLite0 {
    stem: ConvBn,
    blocks: Vec<Block>,
    head: ConvBn,
}

impl EfficientNetLite0 {
    /// The trunk with the parameters of `vb`.
    ///
    /// # Errors
    /// If the builder has a parameter with another shape.
    pub fn new(vb: VarBuilder) -> Result<Self> {
        let conv = |name: &str, bn: &str, outputs, inputs, kernel, options| {
            ConvBn::new(&vb, name, bn, [outputs, inputs, kernel, kernel], options)
        };
        let stem =
            conv("_conv_stem", "_bn0", STEM, 3, 3, Options { stride: 2, by_channel: false, relu6: true })?;
        let mut blocks = Vec::new();
        let mut inputs = STEM;
        for (kernel, stride, expansion, outputs, repeats) in STAGES {
            for repeat in 0..repeats {
                let stride = if repeat == 0 { stride } else { 1 };
                let vb = vb.pp(format!("_blocks.{}", blocks.len()));
                blocks.push(Block::new(&vb, inputs, outputs, expansion, kernel, stride)?);
                inputs = outputs;
            }
        }
        let head = conv(
            "_conv_head",
            "_bn1",
            POOLED,
            inputs,
            1,
            Options { stride: 1, by_channel: false, relu6: true },
        )?;
        Ok(Self { stem, blocks, head })
    }

    /// The ImageNet feature: the last convolution's mean over height and width. The published input is 224 ×
    /// 224, RGB,
    /// (x − 127) / 128 with x from 0 to 255; other sizes work too.
    ///
    /// # Shapes
    /// (n, 3, h, w) → (n, 1280)
    ///
    /// # Errors
    /// If the input has no three channels.
    pub fn pooled(&self, x: &Tensor) -> Result<Tensor> {
        let mut x = self.stem.forward(&from_channels_first(x)?)?;
        for block in &self.blocks {
            x = block.forward(&x)?;
        }
        Ok(mean_positions(&self.head.forward(&x)?)?)
    }
}

/// [`EfficientNetLite0`] followed by the fc6 and fc7 of a shared root, or by nothing, so that all of the root is
/// pretrained and the heads stand on the pooled features. Names: the trunk's below `trunk.`, then `fc6` and `fc7`, which
/// start as PyTorch's default. To keep the trunk frozen, build with
/// [`Params::builder_frozen`](crate::Params::builder_frozen)`(&["root.trunk."])`.
pub struct EfficientNetRoot {
    trunk: EfficientNetLite0,
    end: Option<FullyConnected>,
    size: usize,
}

impl EfficientNetRoot {
    /// The root with the parameters of `vb`, for images of `size` pixels; with `hidden` 0 there is no fc6 and no fc7.
    ///
    /// # Errors
    /// If `size` is below 32, `dropout` is not in [0, 1), or the builder has a parameter with another shape.
    pub fn new(size: usize, hidden: usize, dropout: f64, vb: VarBuilder) -> Result<Self> {
        if size < LEAST {
            return Err(ModelError::Config(format!("size {size} is below {LEAST}")));
        }
        let end = || FullyConnected::new(POOLED, hidden, dropout, Start::Torch, &vb);
        let end = (hidden > 0).then(end).transpose()?;
        Ok(Self { trunk: EfficientNetLite0::new(vb.pp("trunk"))?, end, size })
    }
}

impl Root for EfficientNetRoot {
    fn forward_to(&self, x: &Tensor, tap: Tap, mode: &Mode) -> Result<Tensor> {
        check_input(x, &self.input_shape())?;
        let pooled = self.trunk.pooled(x)?;
        match &self.end {
            Some(end) => end.forward(&pooled, tap, mode),
            None => Ok(pooled),
        }
    }

    fn feature_dim(&self) -> usize {
        self.end.as_ref().map_or(POOLED, FullyConnected::hidden)
    }

    fn input_shape(&self) -> Vec<usize> {
        vec![3, self.size, self.size]
    }
}

/// Reads the trunk's weights from a public checkpoint: a `.safetensors` file with timm's names, or a legacy
/// `.pth` file with lukemelas's. The names that come back are [`EfficientNetLite0`]'s.
///
/// # Errors
/// If the file cannot be read, or a name is in no table.
pub fn read_weights(path: &Path, device: &Device) -> Result<BTreeMap<String, Tensor>> {
    if path.extension().is_some_and(|extension| extension == "safetensors") {
        from_timm(checkpoint::load_safetensors(path, device)?)
    } else {
        Ok(from_lukemelas(pth::read_legacy(path)?))
    }
}

/// An inverted residual block (Sandler et al. 2018): expand, filter each channel, project; the input is added
/// where the shape stays.
struct Block {
    expand: Option<ConvBn>,
    depthwise: ConvBn,
    project: ConvBn,
    residual: bool,
}

impl Block {
    fn new(
        vb: &VarBuilder,
        inputs: usize,
        outputs: usize,
        expansion: usize,
        kernel: usize,
        stride: usize,
    ) -> Result<Self> {
        let wide = inputs * expansion;
        let point = |relu6| Options { stride: 1, by_channel: false, relu6 };
        let expand = (expansion > 1)
            .then(|| ConvBn::new(vb, "_expand_conv", "_bn0", [wide, inputs, 1, 1], point(true)))
            .transpose()?;
        let filter = Options { stride, by_channel: true, relu6: true };
        Ok(Self {
            expand,
            depthwise: ConvBn::new(vb, "_depthwise_conv", "_bn1", [wide, 1, kernel, kernel], filter)?,
            project: ConvBn::new(vb, "_project_conv", "_bn2", [outputs, wide, 1, 1], point(false))?,
            residual: stride == 1 && inputs == outputs,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let wide = match &self.expand {
            Some(expand) => expand.forward(x)?,
            None => x.clone(),
        };
        let out = self.project.forward(&self.depthwise.forward(&wide)?)?;
        Ok(if self.residual { (out + x)? } else { out })
    }
}

struct Options {
    stride: usize,
    /// Each channel has a filter of its own.
    by_channel: bool,
    relu6: bool,
}

/// A convolution without bias and its batch normalisation.
struct ConvBn {
    weight: Tensor,
    gamma: Tensor,
    beta: Tensor,
    mean: Tensor,
    variance: Tensor,
    options: Options,
}

impl ConvBn {
    fn new(vb: &VarBuilder, conv: &str, bn: &str, shape: [usize; 4], options: Options) -> Result<Self> {
        let [outputs, inputs, height, width] = shape;
        let he = Init::Randn { mean: 0.0, stdev: (2.0 / (inputs * height * width) as f64).sqrt() };
        let vb_bn = vb.pp(bn);
        Ok(Self {
            weight: vb.pp(conv).get_with_hints(&shape, "weight", he)?,
            gamma: vb_bn.get_with_hints(outputs, "weight", ONE)?,
            beta: vb_bn.get_with_hints(outputs, "bias", ZERO)?,
            mean: vb_bn.get_with_hints(outputs, "running_mean", ZERO)?,
            variance: vb_bn.get_with_hints(outputs, "running_var", ONE)?,
            options,
        })
    }

    /// # Shapes
    /// (n, h, w, c) → (n, h', w', c')
    ///
    /// The normalisation is folded into the convolution's weight and bias at every call: with frozen
    /// statistics that is the same function with the same gradients, and it spares two passes over the
    /// activations.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (_, height, width, _) = x.dims4()?;
        let (outputs, _, kernel_height, kernel_width) = self.weight.dims4()?;
        let scale = (&self.gamma / (&self.variance + EPSILON)?.sqrt()?)?;
        let weight = self.weight.broadcast_mul(&scale.reshape((outputs, 1, 1, 1))?)?;
        let bias = (&self.beta - (&self.mean * &scale)?)?;
        let (weight, bias) = (weight.to_dtype(x.dtype())?, bias.to_dtype(x.dtype())?);
        let stride = [self.options.stride; 2];
        let padding = Padding2d::same([height, width], [kernel_height, kernel_width], stride);
        let activation = if self.options.relu6 { Activation::Relu6 } else { Activation::None };
        if self.options.by_channel {
            return Ok(depthwise_conv2d(x, &weight, Some(&bias), stride, padding, activation)?);
        }
        let options = Conv2d { stride, padding, ..Conv2d::default() };
        Ok(conv2d(x, &weight, Some(&bias), &options, &Then { activation, pool: None })?)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use candle_core::DType;

    use super::*;
    use crate::testing::{Golden, every_variable_learns, weights_or_say_why};
    use crate::{Params, weights};

    const GOLDEN: &str = include_str!("../tests/golden/efficientnet.json");

    #[test]
    fn formula_weights_answer_as_pytorch_whatever_the_size() {
        // The side decides how "SAME" pads: 64 is even at every level, 75 odd, 50 mixed.
        for side in [64, 75, 50] {
            let golden = Golden::read(GOLDEN, &format!("formula-{side}"));
            let net = EfficientNetLite0::new(golden.builder()).unwrap();
            golden.check("pooled", &net.pooled(&golden.input(&[1, 3, side, side])).unwrap());
        }
    }

    #[test]
    fn the_published_weights_answer_as_pytorch() {
        let Some(path) = weights_or_say_why(&weights::EFFICIENTNET_LITE0) else { return };
        let params = Params::new(0, &Device::Cpu);
        let net = EfficientNetLite0::new(params.builder_frozen(&[""]).pp("trunk")).unwrap();
        params.load_under("trunk", read_weights(&path, &Device::Cpu).unwrap()).unwrap();
        let golden = Golden::read(GOLDEN, "published");
        let x = golden.input_f32(&[16, 3, 224, 224]);
        let start = Instant::now();
        let pooled = net.pooled(&x).unwrap();
        eprintln!("EfficientNet-Lite0: {:.1} ms an image", start.elapsed().as_secs_f64() * 1e3 / 16.0);
        golden.check("pooled-16-values", &pooled.narrow(1, 0, 16).unwrap().narrow(0, 0, 1).unwrap());
        golden.check("sum", &pooled.narrow(0, 0, 1).unwrap().sum_all().unwrap());
        // Each image alone gives the same: nothing is normalised over the batch.
        let last = net.pooled(&x.narrow(0, 15, 1).unwrap()).unwrap();
        let gap = (last - pooled.narrow(0, 15, 1).unwrap()).unwrap().abs().unwrap();
        assert!(gap.max_all().unwrap().to_scalar::<f32>().unwrap() < 1e-5);
    }

    #[test]
    fn weights_train_and_statistics_do_not() {
        every_variable_learns(&[3, 32, 32], |vb| {
            struct Pooled(EfficientNetLite0);
            impl Root for Pooled {
                fn forward_to(&self, x: &Tensor, _: Tap, _: &Mode) -> Result<Tensor> {
                    self.0.pooled(x)
                }
                fn feature_dim(&self) -> usize {
                    POOLED
                }
                fn input_shape(&self) -> Vec<usize> {
                    vec![3, 32, 32]
                }
            }
            Ok(Box::new(Pooled(EfficientNetLite0::new(vb)?)))
        });
        let params = Params::new(0, &Device::Cpu);
        EfficientNetRoot::new(224, 8, 0.5, params.builder()).unwrap();
        assert!(params.vars().iter().all(|(name, _)| !name.contains("running")));
        assert_eq!(params.tensors().keys().filter(|name| name.contains("running")).count(), 2 * 49);
        assert_eq!(params.vars_except(&["trunk."]).len(), 4);
    }

    #[test]
    fn a_root_may_be_small_and_have_no_fc6() {
        let params = Params::new(0, &Device::Cpu);
        let root = EfficientNetRoot::new(40, 0, 0.5, params.builder()).unwrap();
        assert_eq!((root.input_shape(), root.feature_dim()), (vec![3, 40, 40], POOLED));
        assert!(params.vars_except(&["trunk."]).is_empty());
        let x = Tensor::ones((2, 3, 40, 40), DType::F32, &Device::Cpu).unwrap();
        assert_eq!(root.forward(&x, &Mode::Eval).unwrap().dims(), [2, POOLED]);
        let error = EfficientNetRoot::new(31, 0, 0.5, params.builder()).err().unwrap();
        assert_eq!(error.to_string(), "size 31 is below 32");
    }
}

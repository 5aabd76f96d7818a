//! Roots that a processor trains in minutes.

use candle_core::Tensor;
use candle_nn::VarBuilder;
use dml_ops::channels_last::{Then, conv2d, conv3d, from_channels_first, to_channels_first};
use dml_ops::{Conv2d, Conv3d, Padding2d, Pool};

use crate::layers::{FullyConnected, Layer, Start, check_input, positive};
use crate::{Mode, ModelError, Result, Root, Tap};

/// C3D in small: three 3×3×3 convolutions (`conv1` … `conv3`), each with ReLU and a pool, then `fc6` and
/// `fc7`.
///
/// The first pool halves height and width only, the other two also the frames; odd ends are dropped.
/// Parameters start as He et al. (2015) say for ReLU.
pub struct SmallClip {
    input: [usize; 4],
    convolutions: Vec<Layer>,
    end: FullyConnected,
}

impl SmallClip {
    /// A root for clips (3, frames, size, size).
    ///
    /// # Errors
    /// If there are fewer than 4 frames or 8 pixels, a width is 0, or `dropout` is not in [0, 1).
    pub fn new(
        frames: usize,
        size: usize,
        channels: [usize; 3],
        hidden: usize,
        dropout: f64,
        vb: VarBuilder,
    ) -> Result<Self> {
        if frames < 4 {
            return Err(ModelError::Config(format!(
                "a clip of {frames} frames is shorter than the pools' 4"
            )));
        }
        let convolutions = three(size, channels, 3, &vb)?;
        let flat = channels[2] * (frames / 4) * (size / 8).pow(2);
        let end = FullyConnected::new(flat, hidden, dropout, Start::He, &vb)?;
        Ok(Self { input: [3, frames, size, size], convolutions, end })
    }
}

impl Root for SmallClip {
    fn forward_to(&self, x: &Tensor, tap: Tap, mode: &Mode) -> Result<Tensor> {
        check_input(x, &self.input)?;
        let same = Conv3d { padding: [1; 3], ..Conv3d::default() };
        let first = Pool { kernel: [1, 2, 2], stride: [1, 2, 2], padding: [0; 3], ceil: false };
        let later = Pool { kernel: [2; 3], stride: [2; 3], ..first };
        let mut x = from_channels_first(x)?;
        for (i, layer) in self.convolutions.iter().enumerate() {
            let then = Then::relu(Some(if i == 0 { first } else { later }));
            let [weight, bias] = layer.like(&x)?;
            x = conv3d(&x, &weight, Some(&bias), &same, &then)?;
        }
        self.end.forward(&to_channels_first(&x)?, tap, mode)
    }

    fn feature_dim(&self) -> usize {
        self.end.hidden()
    }

    fn input_shape(&self) -> Vec<usize> {
        self.input.to_vec()
    }
}

/// The same for images: three 3×3 convolutions (`conv1` … `conv3`), each with ReLU and a 2×2 pool, then `fc6`
/// and `fc7`.
pub struct SmallImage {
    input: [usize; 3],
    convolutions: Vec<Layer>,
    end: FullyConnected,
}

impl SmallImage {
    /// A root for images (3, size, size).
    ///
    /// # Errors
    /// If there are fewer than 8 pixels, a width is 0, or `dropout` is not in [0, 1).
    pub fn new(
        size: usize,
        channels: [usize; 3],
        hidden: usize,
        dropout: f64,
        vb: VarBuilder,
    ) -> Result<Self> {
        let convolutions = three(size, channels, 2, &vb)?;
        let flat = channels[2] * (size / 8).pow(2);
        let end = FullyConnected::new(flat, hidden, dropout, Start::He, &vb)?;
        Ok(Self { input: [3, size, size], convolutions, end })
    }
}

impl Root for SmallImage {
    fn forward_to(&self, x: &Tensor, tap: Tap, mode: &Mode) -> Result<Tensor> {
        check_input(x, &self.input)?;
        let padding = Padding2d { top: 1, bottom: 1, left: 1, right: 1 };
        let same = Conv2d { padding, ..Conv2d::default() };
        let pool = Pool { kernel: [2; 2], stride: [2; 2], padding: [0; 2], ceil: false };
        let mut x = from_channels_first(x)?;
        for layer in &self.convolutions {
            let [weight, bias] = layer.like(&x)?;
            x = conv2d(&x, &weight, Some(&bias), &same, &Then::relu(Some(pool)))?;
        }
        self.end.forward(&to_channels_first(&x)?, tap, mode)
    }

    fn feature_dim(&self) -> usize {
        self.end.hidden()
    }

    fn input_shape(&self) -> Vec<usize> {
        self.input.to_vec()
    }
}

/// fc6 and fc7 alone, on features that a frozen network computed beforehand.
pub struct Features {
    input: usize,
    end: FullyConnected,
}

impl Features {
    /// A root for vectors of `input` values.
    ///
    /// # Errors
    /// If a width is 0, or `dropout` is not in [0, 1).
    pub fn new(input: usize, hidden: usize, dropout: f64, vb: VarBuilder) -> Result<Self> {
        positive("input", input)?;
        Ok(Self { input, end: FullyConnected::new(input, hidden, dropout, Start::Torch, &vb)? })
    }
}

impl Root for Features {
    fn forward_to(&self, x: &Tensor, tap: Tap, mode: &Mode) -> Result<Tensor> {
        check_input(x, &[self.input])?;
        self.end.forward(x, tap, mode)
    }

    fn feature_dim(&self) -> usize {
        self.end.hidden()
    }

    fn input_shape(&self) -> Vec<usize> {
        vec![self.input]
    }
}

/// Three convolutions with kernels of three in each of `axes` dimensions.
fn three(size: usize, channels: [usize; 3], axes: usize, vb: &VarBuilder) -> Result<Vec<Layer>> {
    if size < 8 {
        return Err(ModelError::Config(format!("{size} pixels are fewer than the pools' 8")));
    }
    let mut input = 3;
    let mut layers = Vec::with_capacity(3);
    for (i, width) in channels.into_iter().enumerate() {
        positive(&format!("channels[{i}]"), width)?;
        let shape: Vec<usize> = [width, input].into_iter().chain(std::iter::repeat_n(3, axes)).collect();
        layers.push(Layer::new(vb.pp(format!("conv{}", i + 1)), &shape, Start::He)?);
        input = width;
    }
    Ok(layers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Golden, every_variable_learns};

    const ROOTS: &str = include_str!("../tests/golden/roots.json");

    #[test]
    fn a_small_clip_net_answers_as_pytorch() {
        let golden = Golden::read(ROOTS, "small-clip");
        let net = SmallClip::new(9, 18, [4, 5, 6], 7, 0.5, golden.builder()).unwrap();
        golden.check("fc7", &net.forward(&golden.input(&[2, 3, 9, 18, 18]), &Mode::Eval).unwrap());
    }

    #[test]
    fn a_small_image_net_answers_as_pytorch() {
        let golden = Golden::read(ROOTS, "small-image");
        let net = SmallImage::new(18, [4, 5, 6], 7, 0.5, golden.builder()).unwrap();
        golden.check("fc7", &net.forward(&golden.input(&[2, 3, 18, 18]), &Mode::Eval).unwrap());
    }

    #[test]
    fn every_parameter_gets_a_gradient() {
        every_variable_learns(&[3, 8, 16, 16], |vb| {
            Ok(Box::new(SmallClip::new(8, 16, [4, 5, 6], 32, 0.2, vb)?))
        });
        every_variable_learns(&[3, 16, 16], |vb| Ok(Box::new(SmallImage::new(16, [4, 5, 6], 32, 0.2, vb)?)));
        every_variable_learns(&[10], |vb| Ok(Box::new(Features::new(10, 32, 0.2, vb)?)));
    }

    #[test]
    fn impossible_sizes_are_refused() {
        let vb = || VarBuilder::zeros(candle_core::DType::F32, &candle_core::Device::Cpu);
        assert!(SmallClip::new(3, 16, [4; 3], 8, 0.5, vb()).is_err());
        assert!(SmallClip::new(4, 7, [4; 3], 8, 0.5, vb()).is_err());
        assert!(SmallImage::new(16, [4, 0, 4], 8, 0.5, vb()).is_err());
        assert!(Features::new(4, 0, 0.5, vb()).is_err());
        assert!(Features::new(4, 4, 1.0, vb()).is_err());
        assert!(Features::new(4, 4, f64::NAN, vb()).is_err());
    }
}

use candle_core::Tensor;
use candle_nn::VarBuilder;
use dml_ops::channels_last::{Then, conv2d, from_channels_first, lrn, max_pool2d, to_channels_first};
use dml_ops::{Conv2d, Lrn, LrnAlpha, Padding2d, Pool};

use crate::layers::{FullyConnected, Layer, Start, check_input};
use crate::{Mode, Result, Root, Tap};

/// VGG-S, that is CNN-S or `VGG_CNN_S` (Chatfield et al. 2014): the paper's root for images.
///
/// Five convolutions, then fc6 and fc7; names `conv1` … `fc7`, each `.weight` and `.bias`. As in the released
/// model, conv2 is not padded and the pools round up (Caffe's ceil mode), so that fc6 takes 512 × 6 × 6
/// values; rounding down would give 5 × 5. The response normalisation has Caffe's α (5e-4, divided by the
/// window). The released description gives no initial values; parameters start as PyTorch's default.
///
/// Input as the released weights want it: BGR, 0 to 255, minus the mean image.
pub struct VggS {
    convolutions: Vec<Layer>,
    end: FullyConnected,
    classifier: Option<Layer>,
}

const INPUT: [usize; 3] = [3, 224, 224];
const KERNELS: [usize; 5] = [7, 5, 3, 3, 3];
const STRIDES: [usize; 5] = [2, 1, 1, 1, 1];
const PADDING: [usize; 5] = [0, 0, 1, 1, 1];
/// Kernel and stride of the pool after each convolution.
const POOLS: [Option<usize>; 5] = [Some(3), Some(2), None, None, Some(3)];
/// Values of a channel after pool5: 6 × 6.
const POOLED: usize = 36;
const NORMALISATION: Lrn =
    Lrn { size: 5, alpha: 5e-4, beta: 0.75, k: 2.0, convention: LrnAlpha::DividedBySize };

/// The numbers of channels; tests compare a narrow net with PyTorch.
struct Widths {
    convolutions: [usize; 5],
    hidden: usize,
}

const PUBLISHED: Widths = Widths { convolutions: [96, 256, 512, 512, 512], hidden: 4096 };

impl VggS {
    /// The network up to fc7.
    ///
    /// # Errors
    /// If `dropout` is not in [0, 1), or the builder has a parameter with another shape.
    pub fn new(dropout: f64, vb: VarBuilder) -> Result<Self> {
        Self::build(&PUBLISHED, None, dropout, vb)
    }

    /// The network with fc8, say 1000 classes of ImageNet: 102 908 520 parameters.
    ///
    /// # Errors
    /// As [`VggS::new`].
    pub fn with_classifier(classes: usize, dropout: f64, vb: VarBuilder) -> Result<Self> {
        Self::build(&PUBLISHED, Some(classes), dropout, vb)
    }

    fn build(widths: &Widths, classes: Option<usize>, dropout: f64, vb: VarBuilder) -> Result<Self> {
        let mut channels = INPUT[0];
        let mut convolutions = Vec::with_capacity(KERNELS.len());
        for (i, (width, kernel)) in widths.convolutions.into_iter().zip(KERNELS).enumerate() {
            let shape = [width, channels, kernel, kernel];
            convolutions.push(Layer::new(vb.pp(format!("conv{}", i + 1)), &shape, Start::Torch)?);
            channels = width;
        }
        let end = FullyConnected::new(channels * POOLED, widths.hidden, dropout, Start::Torch, &vb)?;
        let classifier = classes
            .map(|classes| Layer::new(vb.pp("fc8"), &[classes, widths.hidden], Start::Torch))
            .transpose()?;
        Ok(Self { convolutions, end, classifier })
    }

    /// The classifier's answers, where there is one.
    ///
    /// # Shapes
    /// (n, 3, 224, 224) → (n, classes), raw logits
    ///
    /// # Errors
    /// As [`Root::forward`].
    pub fn logits(&self, x: &Tensor, mode: &Mode) -> Result<Option<Tensor>> {
        let Some(classifier) = &self.classifier else { return Ok(None) };
        classifier.linear(&self.forward(x, mode)?).map(Some)
    }
}

impl Root for VggS {
    fn forward_to(&self, x: &Tensor, tap: Tap, mode: &Mode) -> Result<Tensor> {
        check_input(x, &INPUT)?;
        let mut x = from_channels_first(x)?;
        for (i, layer) in self.convolutions.iter().enumerate() {
            let p = PADDING[i];
            let padding = Padding2d { top: p, bottom: p, left: p, right: p };
            let options = Conv2d { stride: [STRIDES[i]; 2], padding, ..Conv2d::default() };
            let pool = POOLS[i].map(|size| Pool {
                kernel: [size; 2],
                stride: [size; 2],
                padding: [0; 2],
                ceil: true,
            });
            let normalised = i == 0;
            let then = Then::relu(pool.filter(|_| !normalised));
            let [weight, bias] = layer.like(&x)?;
            x = conv2d(&x, &weight, Some(&bias), &options, &then)?;
            if normalised {
                x = lrn(&x, &NORMALISATION)?;
                if let Some(pool) = pool {
                    x = max_pool2d(&x, &pool)?;
                }
            }
        }
        self.end.forward(&to_channels_first(&x)?, tap, mode)
    }

    fn feature_dim(&self) -> usize {
        self.end.hidden()
    }

    fn input_shape(&self) -> Vec<usize> {
        INPUT.to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Counting, Golden, every_variable_learns};

    #[test]
    fn parameters_are_the_published_ones() {
        let counting = Counting::default();
        VggS::with_classifier(1000, 0.5, counting.builder()).unwrap();
        assert_eq!(counting.total(), 102_908_520);
        assert_eq!(counting.shape("fc6.weight"), [4096, 18432]);
    }

    const NARROW: Widths = Widths { convolutions: [6, 8, 8, 8, 8], hidden: 12 };

    #[test]
    fn a_narrow_net_answers_as_pytorch() {
        let golden = Golden::read(include_str!("../tests/golden/roots.json"), "vgg-s");
        let net = VggS::build(&NARROW, Some(5), 0.5, golden.builder()).unwrap();
        let x = golden.input(&[1, 3, 224, 224]);
        golden.check("fc7", &net.forward(&x, &Mode::Eval).unwrap());
        golden.check("fc8", &net.logits(&x, &Mode::Eval).unwrap().unwrap());
    }

    #[test]
    fn every_parameter_gets_a_gradient() {
        every_variable_learns(&INPUT, |vb| Ok(Box::new(VggS::build(&NARROW, None, 0.5, vb)?)));
    }
}

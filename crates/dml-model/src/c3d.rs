use candle_core::Tensor;
use candle_nn::VarBuilder;
use dml_ops::channels_last::{Then, conv3d, from_channels_first, to_channels_first};
use dml_ops::{Conv3d, Pool};

use crate::layers::{FullyConnected, Layer, Start, check_input};
use crate::{Mode, Result, Root, Tap};

/// C3D (Tran et al. 2015, `conv3d_deepnetA`): the paper's root for video.
///
/// Eight 3×3×3 convolutions and five pools, then fc6 and fc7. Parameter names are the keys of the public
/// PyTorch checkpoint (`conv1`, `conv2`, `conv3a`, … `fc7`, each `.weight` and `.bias`); drop its `fc8.`
/// before [`Params::load_under`](crate::Params::load_under). pool5 is Caffe's: it pads on the right and at
/// the bottom only, where many ports pad on both sides and shift every window by a pixel. Parameters start as
/// the published prototxt says: Gaussian weights (σ 0.01, fc6 and fc7 0.005), biases 1, those of conv1 and
/// fc8 0.
///
/// Input as the checkpoint wants it: BGR, 0 to 255, minus the mean clip.
pub struct C3d {
    convolutions: Vec<Layer>,
    end: FullyConnected,
    classifier: Option<Layer>,
}

const NAMES: [&str; 8] = ["conv1", "conv2", "conv3a", "conv3b", "conv4a", "conv4b", "conv5a", "conv5b"];
const INPUT: [usize; 4] = [3, 16, 112, 112];
/// Values of a channel after pool5: 1 × 4 × 4.
const POOLED: usize = 16;

/// The numbers of channels; tests compare a narrow net with PyTorch.
struct Widths {
    convolutions: [usize; 8],
    hidden: usize,
}

const PUBLISHED: Widths = Widths { convolutions: [64, 128, 256, 256, 512, 512, 512, 512], hidden: 4096 };

impl C3d {
    /// The network up to fc7.
    ///
    /// # Errors
    /// If `dropout` is not in [0, 1), or the builder has a parameter with another shape.
    pub fn new(dropout: f64, vb: VarBuilder) -> Result<Self> {
        Self::build(&PUBLISHED, None, dropout, vb)
    }

    /// The network with fc8, say 487 classes of Sports-1M: 79 991 015 parameters.
    ///
    /// # Errors
    /// As [`C3d::new`].
    pub fn with_classifier(classes: usize, dropout: f64, vb: VarBuilder) -> Result<Self> {
        Self::build(&PUBLISHED, Some(classes), dropout, vb)
    }

    fn build(widths: &Widths, classes: Option<usize>, dropout: f64, vb: VarBuilder) -> Result<Self> {
        let mut channels = INPUT[0];
        let mut convolutions = Vec::with_capacity(NAMES.len());
        for (name, width) in NAMES.into_iter().zip(widths.convolutions) {
            let bias = if name == "conv1" { 0.0 } else { 1.0 };
            let start = Start::Gaussian { stdev: 0.01, bias };
            convolutions.push(Layer::new(vb.pp(name), &[width, channels, 3, 3, 3], start)?);
            channels = width;
        }
        let start = Start::Gaussian { stdev: 0.005, bias: 1.0 };
        let end = FullyConnected::new(channels * POOLED, widths.hidden, dropout, start, &vb)?;
        let start = Start::Gaussian { stdev: 0.01, bias: 0.0 };
        let classifier =
            classes.map(|classes| Layer::new(vb.pp("fc8"), &[classes, widths.hidden], start)).transpose()?;
        Ok(Self { convolutions, end, classifier })
    }

    /// The classifier's answers, where there is one.
    ///
    /// # Shapes
    /// (n, 3, 16, 112, 112) → (n, classes), raw logits
    ///
    /// # Errors
    /// As [`Root::forward`].
    pub fn logits(&self, x: &Tensor, mode: &Mode) -> Result<Option<Tensor>> {
        let Some(classifier) = &self.classifier else { return Ok(None) };
        classifier.linear(&self.forward(x, mode)?).map(Some)
    }
}

impl Root for C3d {
    fn forward_to(&self, x: &Tensor, tap: Tap, mode: &Mode) -> Result<Tensor> {
        check_input(x, &INPUT)?;
        let same = Conv3d { padding: [1; 3], ..Conv3d::default() };
        let first = Pool { kernel: [1, 2, 2], stride: [1, 2, 2], padding: [0; 3], ceil: true };
        let later = Pool { kernel: [2; 3], stride: [2; 3], ..first };
        let mut x = from_channels_first(x)?;
        for (name, layer) in NAMES.into_iter().zip(&self.convolutions) {
            // A stage ends with its last convolution: "a" is followed by "b".
            let pool = match name {
                "conv1" => Some(first),
                _ => (!name.ends_with('a')).then_some(later),
            };
            let [weight, bias] = layer.like(&x)?;
            x = conv3d(&x, &weight, Some(&bias), &same, &Then::relu(pool))?;
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
        C3d::with_classifier(487, 0.5, counting.builder()).unwrap();
        assert_eq!(counting.total(), 79_991_015);
        let counting = Counting::default();
        C3d::new(0.5, counting.builder()).unwrap();
        assert_eq!(counting.total(), 77_995_776);
        assert_eq!(counting.shape("fc6.weight"), [4096, 8192]);
        assert_eq!(counting.shape("conv3b.weight"), [256, 256, 3, 3, 3]);
    }

    const NARROW: Widths = Widths { convolutions: [4, 6, 8, 8, 10, 10, 12, 12], hidden: 16 };

    #[test]
    fn a_narrow_net_answers_as_pytorch() {
        let golden = Golden::read(include_str!("../tests/golden/roots.json"), "c3d");
        let net = C3d::build(&NARROW, Some(5), 0.5, golden.builder()).unwrap();
        let x = golden.input(&[1, 3, 16, 112, 112]);
        golden.check("fc7", &net.forward(&x, &Mode::Eval).unwrap());
        golden.check("fc8", &net.logits(&x, &Mode::Eval).unwrap().unwrap());
    }

    #[test]
    fn every_parameter_gets_a_gradient() {
        every_variable_learns(&INPUT, |vb| Ok(Box::new(C3d::build(&NARROW, None, 0.5, vb)?)));
    }

    #[test]
    fn another_shape_is_refused() {
        let golden = Golden::read(include_str!("../tests/golden/roots.json"), "c3d");
        let net = C3d::build(&NARROW, None, 0.5, golden.builder()).unwrap();
        let error = net.forward(&golden.input(&[1, 3, 8, 112, 112]), &Mode::Eval).unwrap_err().to_string();
        assert_eq!(error, "the root takes inputs of shape (n, 3, 16, 112, 112), not [1, 3, 8, 112, 112]");
    }
}

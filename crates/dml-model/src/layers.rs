//! What several roots share: a layer's parameters, and the fully connected end.

use candle_core::Tensor;
use candle_nn::VarBuilder;
use candle_nn::init::Init;

use crate::{Mode, ModelError, Result, Tap};

/// How a layer's parameters start.
#[derive(Clone, Copy)]
pub(crate) enum Start {
    /// PyTorch's default for `Linear` and `Conv`: weight and bias uniform in ±1/√(fan in).
    Torch,
    /// He et al. (2015) for ReLU: weight normal with variance 2 / fan in, bias 0.
    He,
    /// Caffe's `gaussian` and `constant` fillers.
    Gaussian { stdev: f64, bias: f64 },
}

/// The parameters of a convolution or a fully connected layer.
pub(crate) struct Layer {
    pub(crate) weight: Tensor,
    pub(crate) bias: Tensor,
}

impl Layer {
    /// # Shapes
    /// `shape` is the weight's, outputs first; the bias is (outputs).
    pub(crate) fn new(vb: VarBuilder, shape: &[usize], start: Start) -> Result<Self> {
        let fan_in: usize = shape[1..].iter().product();
        let (weight, bias) = match start {
            Start::Torch => {
                let bound = dml_ops::init::torch_linear_bound(fan_in);
                let uniform = Init::Uniform { lo: -bound, up: bound };
                (uniform, uniform)
            }
            Start::He => (Init::Randn { mean: 0.0, stdev: (2.0 / fan_in as f64).sqrt() }, Init::Const(0.0)),
            Start::Gaussian { stdev, bias } => (Init::Randn { mean: 0.0, stdev }, Init::Const(bias)),
        };
        Ok(Self {
            weight: vb.get_with_hints(shape, "weight", weight)?,
            bias: vb.get_with_hints(shape[0], "bias", bias)?,
        })
    }

    /// Weight and bias in the type of what they meet: where a root runs in bf16, the parameters stay f32.
    pub(crate) fn like(&self, x: &Tensor) -> Result<[Tensor; 2]> {
        Ok([self.weight.to_dtype(x.dtype())?, self.bias.to_dtype(x.dtype())?])
    }

    /// # Shapes
    /// (n, inputs) → (n, outputs)
    pub(crate) fn linear(&self, x: &Tensor) -> Result<Tensor> {
        let [weight, bias] = self.like(x)?;
        Ok(dml_ops::linear(x, &weight, Some(&bias))?)
    }

    /// The same with a ReLU.
    pub(crate) fn linear_relu(&self, x: &Tensor) -> Result<Tensor> {
        let [weight, bias] = self.like(x)?;
        Ok(dml_ops::linear_relu(x, &weight, Some(&bias))?)
    }
}

/// fc6 and fc7, each with ReLU and dropout: the end of every root.
pub(crate) struct FullyConnected {
    fc6: Layer,
    fc7: Layer,
    dropout: f64,
    hidden: usize,
}

impl FullyConnected {
    pub(crate) fn new(
        input: usize,
        hidden: usize,
        dropout: f64,
        start: Start,
        vb: &VarBuilder,
    ) -> Result<Self> {
        positive("hidden", hidden)?;
        if !(0.0..1.0).contains(&dropout) {
            return Err(ModelError::Config(format!("dropout {dropout} is not in [0, 1)")));
        }
        Ok(Self {
            fc6: Layer::new(vb.pp("fc6"), &[hidden, input], start)?,
            fc7: Layer::new(vb.pp("fc7"), &[hidden, hidden], start)?,
            dropout,
            hidden,
        })
    }

    /// # Shapes
    /// (n, …) with as many values a row as fc6 takes → (n, hidden)
    pub(crate) fn forward(&self, x: &Tensor, tap: Tap, mode: &Mode) -> Result<Tensor> {
        let x = self.fc6.linear_relu(&x.flatten_from(1)?)?;
        if tap == Tap::Fc6 {
            return self.drop(&x, 6, mode);
        }
        let x = self.fc7.linear_relu(&self.drop(&x, 6, mode)?)?;
        self.drop(&x, 7, mode)
    }

    pub(crate) fn hidden(&self) -> usize {
        self.hidden
    }

    fn drop(&self, x: &Tensor, layer: u32, mode: &Mode) -> Result<Tensor> {
        match mode {
            Mode::Train(keys) if self.dropout > 0.0 => Ok(dml_ops::dropout(x, self.dropout, layer, keys)?),
            _ => Ok(x.clone()),
        }
    }
}

/// Checks the shape of a batch against that of one sample.
pub(crate) fn check_input(x: &Tensor, sample: &[usize]) -> Result<()> {
    match x.dims() {
        [_, rest @ ..] if rest == sample => Ok(()),
        got => Err(ModelError::Input { expected: sample.to_vec(), got: got.to_vec() }),
    }
}

/// Checks that a size in a configuration is not 0.
pub(crate) fn positive(name: &str, value: usize) -> Result<()> {
    match value {
        0 => Err(ModelError::Config(format!("{name} is 0"))),
        _ => Ok(()),
    }
}

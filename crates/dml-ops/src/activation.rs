use candle_core::Tensor;

use crate::kernel::activation::Activate;
use crate::kernel::{Op, on_cpu_kernel};
use crate::{Result, portable};

/// What follows a layer's sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activation {
    /// Nothing.
    #[default]
    None,
    /// The larger of x and 0; the gradient at 0 is 0.
    Relu,
    /// x, at least 0 and at most 6; the gradient is 1 strictly between them, 0 elsewhere.
    Relu6,
}

/// The larger of x and 0; the gradient at 0 is 0. A NaN stays one (candle's own makes it 0, which hides a run that has
/// diverged).
///
/// # Shapes
/// Any → the same.
///
/// # Errors
/// If candle refuses the tensor.
pub fn relu(x: &Tensor) -> Result<Tensor> {
    if !on_cpu_kernel(x) {
        return portable::relu(x);
    }
    Ok(Op(Activate(Activation::Relu, x.shape().clone())).apply([x])?)
}

/// min(max(x, 0), 6); the gradient is 1 strictly between 0 and 6, and 0 at both ends, as PyTorch's. A NaN stays one.
///
/// # Shapes
/// Any → the same.
///
/// # Errors
/// If candle refuses the tensor.
pub fn relu6(x: &Tensor) -> Result<Tensor> {
    if !on_cpu_kernel(x) {
        return portable::relu6(x);
    }
    Ok(Op(Activate(Activation::Relu6, x.shape().clone())).apply([x])?)
}

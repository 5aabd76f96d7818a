use candle_core::Tensor;

use crate::kernel::linear::{Linear, Sizes};
use crate::kernel::{Op, on_cpu_kernel};
use crate::{Activation, OpError, Result, cuda, portable};

/// The fully connected layer: x·wᵀ + bias.
///
/// # Shapes
/// `x` (n, i), `w` (o, i), `bias` (o) → (n, o).
///
/// # Errors
/// If a shape does not fit.
pub fn linear(x: &Tensor, w: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    apply("linear", x, w, bias, false)
}

/// [`crate::relu`] of [`linear`], in one pass.
///
/// # Shapes
/// `x` (n, i), `w` (o, i), `bias` (o) → (n, o).
///
/// # Errors
/// If a shape does not fit.
pub fn linear_relu(x: &Tensor, w: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    apply("linear_relu", x, w, bias, true)
}

fn apply(op: &'static str, x: &Tensor, w: &Tensor, bias: Option<&Tensor>, relu: bool) -> Result<Tensor> {
    let (rows, inputs) = x.dims2()?;
    let (outputs, inputs_w) = w.dims2()?;
    if inputs != inputs_w {
        return Err(OpError::argument(op, "w", format!("must have {inputs} inputs, has {inputs_w}")));
    }
    if let Some(bias) = bias
        && bias.dims() != [outputs]
    {
        let problem = format!("must have shape [{outputs}], has {:?}", bias.dims());
        return Err(OpError::argument(op, "bias", problem));
    }
    if !on_cpu_kernel(x) {
        if cuda::serves(x) {
            let activation = if relu { Activation::Relu } else { Activation::None };
            if let Some(y) = cuda::bias_activation(&x.matmul(&w.t()?)?, bias, activation, None)? {
                return Ok(y);
            }
        }
        let y = portable::linear(x, w, bias)?;
        return if relu { portable::relu(&y) } else { Ok(y) };
    }
    let op = Op(Linear { sizes: Sizes { rows, inputs, outputs }, relu });
    Ok(match bias {
        Some(bias) => op.apply3([x, w, bias])?,
        None => op.apply2([x, w])?,
    })
}

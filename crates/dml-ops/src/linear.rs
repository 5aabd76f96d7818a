use candle_core::{Result as CandleResult, Shape, Tensor};
use rayon::prelude::*;

use crate::kernel::linear::{Linear, Sizes};
use crate::kernel::{Kernel, Op, Scalar, on_cpu_kernel};
use crate::{OpError, Result, portable};

/// Elements that one task of [`relu`] takes.
const ELEMENTS: usize = 1 << 14;

/// The fully connected layer: x·wᵀ + bias.
///
/// # Shapes
/// `x` (n, i), `w` (o, i), `bias` (o) → (n, o).
///
/// # Errors
/// If a shape does not fit.
pub fn linear(x: &Tensor, w: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let (rows, inputs) = x.dims2()?;
    let (outputs, inputs_w) = w.dims2()?;
    if inputs != inputs_w {
        return Err(OpError::argument("linear", "w", format!("must have {inputs} inputs, has {inputs_w}")));
    }
    if let Some(bias) = bias
        && bias.dims() != [outputs]
    {
        let problem = format!("must have shape [{outputs}], has {:?}", bias.dims());
        return Err(OpError::argument("linear", "bias", problem));
    }
    if !on_cpu_kernel(x) {
        return portable::linear(x, w, bias);
    }
    let op = Op(Linear(Sizes { rows, inputs, outputs }));
    Ok(match bias {
        Some(bias) => op.apply3([x, w, bias])?,
        None => op.apply2([x, w])?,
    })
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
    Ok(Op(Relu(x.shape().clone())).apply([x])?)
}

struct Relu(Shape);

impl Kernel<1> for Relu {
    const NAME: &'static str = "relu";

    fn shape(&self) -> Shape {
        self.0.clone()
    }

    fn run<T: Scalar>(&self, [x]: [&[T]; 1]) -> Vec<T> {
        let mut y = vec![T::zero(); x.len()];
        y.par_chunks_mut(ELEMENTS).zip(x.par_chunks(ELEMENTS)).for_each(|(y, x)| {
            for (y, &x) in y.iter_mut().zip(x) {
                // Written so that a NaN stays one.
                *y = if x < T::zero() { T::zero() } else { x };
            }
        });
        y
    }

    fn backward(
        &self,
        _: [&Tensor; 1],
        result: &Tensor,
        gradient: &Tensor,
    ) -> CandleResult<[Option<Tensor>; 1]> {
        Ok([Some(Op(ReluGradient(self.0.clone())).apply2_detached([result, gradient])?)])
    }
}

struct ReluGradient(Shape);

impl Kernel<2> for ReluGradient {
    const NAME: &'static str = "relu-gradient";

    fn shape(&self) -> Shape {
        self.0.clone()
    }

    fn run<T: Scalar>(&self, [y, dy]: [&[T]; 2]) -> Vec<T> {
        let mut dx = vec![T::zero(); y.len()];
        let sources = y.par_chunks(ELEMENTS).zip(dy.par_chunks(ELEMENTS));
        dx.par_chunks_mut(ELEMENTS).zip(sources).for_each(|(dx, (y, dy))| {
            for ((dx, &y), &dy) in dx.iter_mut().zip(y).zip(dy) {
                *dx = if y > T::zero() { dy } else { T::zero() };
            }
        });
        dx
    }
}

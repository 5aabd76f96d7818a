//! Activations by themselves, and their gradients.

use candle_core::{Result, Shape, Tensor};
use pulp::Simd;

use super::after::{activate, gate};
use super::elementwise::{Map, map};
use super::simd::{Lane, Real};
use super::{Kernel, Op, Scalar};
use crate::Activation;

/// The activation of each element.
#[derive(Clone)]
pub(crate) struct Activate(pub(crate) Activation, pub(crate) Shape);

/// The gradient before the activation, from the result and the gradient after it.
pub(crate) struct ActivationGradient(pub(crate) Activation, pub(crate) Shape);

#[derive(Clone, Copy)]
struct Forward(Activation);
#[derive(Clone, Copy)]
struct Backward(Activation);

impl Map<1> for Forward {
    #[inline(always)]
    fn of<T: Real, S: Simd>(&self, s: S, [x]: [Lane<T, S>; 1]) -> Lane<T, S> {
        activate(s, x, self.0)
    }
}

impl Map<2> for Backward {
    #[inline(always)]
    fn of<T: Real, S: Simd>(&self, s: S, [y, dy]: [Lane<T, S>; 2]) -> Lane<T, S> {
        gate(s, self.0, y, dy)
    }
}

impl Kernel<1> for Activate {
    const NAME: &'static str = "activation";

    fn shape(&self) -> Shape {
        self.1.clone()
    }

    fn run<T: Scalar>(&self, x: [&[T]; 1]) -> Vec<T> {
        map(x, Forward(self.0))
    }

    fn backward(&self, _: [&Tensor; 1], y: &Tensor, dy: &Tensor) -> Result<[Option<Tensor>; 1]> {
        Ok([Some(Op(ActivationGradient(self.0, self.1.clone())).apply2_detached([y, dy])?)])
    }
}

impl Kernel<2> for ActivationGradient {
    const NAME: &'static str = "activation-gradient";

    fn shape(&self) -> Shape {
        self.1.clone()
    }

    fn run<T: Scalar>(&self, inputs: [&[T]; 2]) -> Vec<T> {
        map(inputs, Backward(self.0))
    }
}

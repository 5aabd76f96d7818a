//! Activations and their gradients.

use candle_core::{Result, Shape, Tensor};
use pulp::Simd;

use super::elementwise::{Map, map};
use super::simd::{Lane, Real};
use super::{Kernel, Op, Scalar};

/// max(x, 0). Comparisons are written so that a value that is not a number stays so.
#[derive(Clone)]
pub(crate) struct Relu(pub(crate) Shape);

/// min(max(x, 0), 6)
#[derive(Clone)]
pub(crate) struct Relu6(pub(crate) Shape);

/// The gradient where the result is positive.
pub(crate) struct ReluGradient(pub(crate) Shape);

/// The gradient where the result is strictly between 0 and 6.
pub(crate) struct Relu6Gradient(pub(crate) Shape);

#[derive(Clone, Copy)]
struct AtLeast0;
#[derive(Clone, Copy)]
struct From0To6;
#[derive(Clone, Copy)]
struct WherePositive;
#[derive(Clone, Copy)]
struct WhereBetween;

impl Map<1> for AtLeast0 {
    #[inline(always)]
    fn of<T: Real, S: Simd>(&self, s: S, [x]: [Lane<T, S>; 1]) -> Lane<T, S> {
        let zero = Lane::zero(s);
        zero.if_greater(x, zero, x)
    }
}

impl Map<1> for From0To6 {
    #[inline(always)]
    fn of<T: Real, S: Simd>(&self, s: S, [x]: [Lane<T, S>; 1]) -> Lane<T, S> {
        let (zero, six) = (Lane::zero(s), Lane::splat(s, T::of(6.0)));
        let x = zero.if_greater(x, zero, x);
        x.if_greater(six, six, x)
    }
}

impl Map<2> for WherePositive {
    #[inline(always)]
    fn of<T: Real, S: Simd>(&self, s: S, [y, dy]: [Lane<T, S>; 2]) -> Lane<T, S> {
        let zero = Lane::zero(s);
        y.if_greater(zero, dy, zero)
    }
}

impl Map<2> for WhereBetween {
    #[inline(always)]
    fn of<T: Real, S: Simd>(&self, s: S, [y, dy]: [Lane<T, S>; 2]) -> Lane<T, S> {
        let (zero, six) = (Lane::zero(s), Lane::splat(s, T::of(6.0)));
        let below = six.if_greater(y, dy, zero);
        y.if_greater(zero, below, zero)
    }
}

macro_rules! activation {
    ($name:literal, $op:ident, $of:ident, $gradient:ident, $of_gradient:ident) => {
        impl Kernel<1> for $op {
            const NAME: &'static str = $name;

            fn shape(&self) -> Shape {
                self.0.clone()
            }

            fn run<T: Scalar>(&self, x: [&[T]; 1]) -> Vec<T> {
                map(x, $of)
            }

            fn backward(&self, _: [&Tensor; 1], y: &Tensor, dy: &Tensor) -> Result<[Option<Tensor>; 1]> {
                Ok([Some(Op($gradient(self.0.clone())).apply2_detached([y, dy])?)])
            }
        }

        impl Kernel<2> for $gradient {
            const NAME: &'static str = concat!($name, "-gradient");

            fn shape(&self) -> Shape {
                self.0.clone()
            }

            fn run<T: Scalar>(&self, inputs: [&[T]; 2]) -> Vec<T> {
                map(inputs, $of_gradient)
            }
        }
    };
}

activation!("relu", Relu, AtLeast0, ReluGradient, WherePositive);
activation!("relu6", Relu6, From0To6, Relu6Gradient, WhereBetween);

//! Local response normalisation, in tiles of all channels of some positions.

use std::ops::Range;

use candle_core::{Result, Shape, Tensor};
use rayon::prelude::*;

use super::geometry::part;
use super::{Kernel, MatrixMut, Op, Scalar};

/// Positions of a tile: long enough to vectorise, and the tile of all channels stays in the cache.
const POSITIONS: usize = 64;

/// `x / (k + alpha·sum x²)^beta` over a window of channels; `alpha` is divided already, if it is to be.
#[derive(Clone)]
pub(crate) struct Normalise {
    pub(crate) size: usize,
    pub(crate) alpha: f64,
    pub(crate) beta: f64,
    pub(crate) k: f64,
    /// (n, c, h, w)
    pub(crate) dims: [usize; 4],
}

impl Normalise {
    fn positions(&self) -> usize {
        self.dims[2] * self.dims[3]
    }

    /// Runs `tile` on all tiles, with the sample's offset, the tile's positions, and scratch memory for two elements
    /// per channel and position.
    fn for_each_tile<T: Scalar>(&self, tile: impl Fn(usize, Range<usize>, &mut [T]) + Sync) {
        let [n, channels, ..] = self.dims;
        let tiles = self.positions().div_ceil(POSITIONS);
        (0..n * tiles).into_par_iter().for_each(|task| {
            let positions = part(task % tiles, POSITIONS, self.positions());
            T::with_scratch(2 * channels * positions.len(), |scratch| {
                tile(task / tiles * channels * self.positions(), positions, scratch);
            });
        });
    }

    /// A tile's denominators before the power (channels × positions), and their power −beta.
    fn scale<T: Scalar>(&self, x: &[T], positions: Range<usize>, scale: &mut [T], factor: &mut [T]) {
        let count = positions.len();
        let (alpha, k) = (T::from_f64(self.alpha), T::from_f64(self.k));
        for (c, scale) in scale.chunks_exact_mut(count).enumerate() {
            scale.fill(T::zero());
            let window = c.saturating_sub(self.size / 2)..(c + self.size.div_ceil(2)).min(self.dims[1]);
            for other in window {
                let x = &x[other * self.positions() + positions.start..][..count];
                for (scale, &x) in scale.iter_mut().zip(x) {
                    *scale += x * x;
                }
            }
            scale.iter_mut().for_each(|scale| *scale = k + alpha * *scale);
        }
        let power = T::from_f64(-self.beta);
        for (factor, &scale) in factor.iter_mut().zip(&*scale) {
            // The usual beta: two square roots are several times faster than a power.
            *factor = if self.beta == 0.75 {
                let root = scale.sqrt();
                T::one() / (root * root.sqrt())
            } else {
                scale.powf(power)
            };
        }
    }
}

impl Kernel<1> for Normalise {
    const NAME: &'static str = "lrn";

    fn shape(&self) -> Shape {
        Shape::from(&self.dims[..])
    }

    fn run<T: Scalar>(&self, [x]: [&[T]; 1]) -> Vec<T> {
        let mut y = vec![T::zero(); x.len()];
        let result = MatrixMut::new(&mut y);
        self.for_each_tile(|sample, positions, scratch| {
            let count = positions.len();
            let (scale, factor) = scratch.split_at_mut(self.dims[1] * count);
            self.scale(&x[sample..], positions.clone(), scale, factor);
            for (c, factor) in factor.chunks_exact(count).enumerate() {
                let start = sample + c * self.positions() + positions.start;
                // SAFETY: these positions of this sample are this task's alone.
                let y = unsafe { result.slice(start, count) };
                for ((y, &x), &factor) in y.iter_mut().zip(&x[start..]).zip(factor) {
                    *y = x * factor;
                }
            }
        });
        y
    }

    fn backward(&self, [x]: [&Tensor; 1], _: &Tensor, gradient: &Tensor) -> Result<[Option<Tensor>; 1]> {
        Ok([Some(Op(Gradient(self.clone())).apply2_detached([x, gradient])?)])
    }
}

/// `dx_i = dy_i·s_i^-beta − 2·alpha·beta·x_i·sum_j dy_j·x_j·s_j^(-beta-1)` over the windows j that i is in.
struct Gradient(Normalise);

impl Kernel<2> for Gradient {
    const NAME: &'static str = "lrn-gradient";

    fn shape(&self) -> Shape {
        self.0.shape()
    }

    fn run<T: Scalar>(&self, [x, dy]: [&[T]; 2]) -> Vec<T> {
        let lrn = &self.0;
        let channels = lrn.dims[1];
        let ratio = T::from_f64(-2.0 * lrn.alpha * lrn.beta);
        let mut dx = vec![T::zero(); x.len()];
        let result = MatrixMut::new(&mut dx);
        lrn.for_each_tile(|sample, positions, scratch| {
            let count = positions.len();
            let start = |c: usize| sample + c * lrn.positions() + positions.start;
            let (terms, factor) = scratch.split_at_mut(channels * count);
            lrn.scale(&x[sample..], positions.clone(), terms, factor);
            let tile = terms.chunks_exact_mut(count).zip(factor.chunks_exact(count));
            for (c, (terms, factor)) in tile.enumerate() {
                let inputs = x[start(c)..].iter().zip(&dy[start(c)..]);
                for ((term, &factor), (&x, &dy)) in terms.iter_mut().zip(factor).zip(inputs) {
                    *term = dy * x * factor / *term;
                }
            }
            for (c, factor) in factor.chunks_exact(count).enumerate() {
                // SAFETY: these positions of this sample are this task's alone.
                let dx = unsafe { result.slice(start(c), count) };
                // Channel j's window reaches from j − size / 2 to j + (size − 1) / 2.
                let first = (c + 1).saturating_sub(lrn.size.div_ceil(2));
                for j in first..(c + lrn.size / 2 + 1).min(channels) {
                    for (dx, &term) in dx.iter_mut().zip(&terms[j * count..]) {
                        *dx += term;
                    }
                }
                let inputs = x[start(c)..].iter().zip(&dy[start(c)..]);
                for ((dx, &factor), (&x, &dy)) in dx.iter_mut().zip(factor).zip(inputs) {
                    *dx = dy * factor + ratio * x * *dx;
                }
            }
        });
        dx
    }
}

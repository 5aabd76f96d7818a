//! Sums and means over the positions of images whose channels are neighbours.

use candle_core::{Result, Shape, Tensor};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::geometry::part;
use super::scratch::Scratch;
use super::simd::{Lane, Real, dispatch};
use super::{Kernel, Op, Scalar};

/// Parts of a sum, at most, and positions of a part, at least.
const PARTS: usize = 64;
const POSITIONS: usize = 64;

/// (batch, positions, channels) to sums (batch, channels), which are called `shape`.
pub(crate) struct Sums {
    pub(crate) batch: usize,
    pub(crate) positions: usize,
    pub(crate) channels: usize,
    pub(crate) shape: Shape,
}

impl Sums {
    pub(crate) fn of<T: Scalar>(&self, x: &[T]) -> Vec<T> {
        let Self { batch, positions, channels, .. } = *self;
        let each = positions.div_ceil(PARTS).max(POSITIONS);
        let parts = positions.div_ceil(each);
        let mut total = vec![T::zero(); batch * channels];
        if total.is_empty() || parts == 0 {
            return total;
        }
        let mut sums = Scratch::new(batch * parts * channels);
        sums.par_chunks_mut(channels).enumerate().for_each(|(task, sums)| {
            let part = part(task % parts, each, positions);
            let x = &x[(task / parts * positions + part.start) * channels..][..part.len() * channels];
            dispatch(Part { x, sums });
        });
        for (total, sums) in total.chunks_exact_mut(channels).zip(sums.chunks_exact(parts * channels)) {
            for part in sums.chunks_exact(channels) {
                for (total, &part) in total.iter_mut().zip(part) {
                    *total += part;
                }
            }
        }
        total
    }
}

impl Kernel<1> for Sums {
    const NAME: &'static str = "sum-positions";

    fn shape(&self) -> Shape {
        self.shape.clone()
    }

    fn run<T: Scalar>(&self, [x]: [&[T]; 1]) -> Vec<T> {
        self.of(x)
    }
}

/// The sums over the positions divided by how many there are.
pub(crate) struct Means(pub(crate) Sums);

impl Kernel<1> for Means {
    const NAME: &'static str = "mean-positions";

    fn shape(&self) -> Shape {
        self.0.shape.clone()
    }

    fn run<T: Scalar>(&self, [x]: [&[T]; 1]) -> Vec<T> {
        let mut means = self.0.of(x);
        let factor = T::from_f64(1.0 / self.0.positions as f64);
        means.iter_mut().for_each(|mean| *mean *= factor);
        means
    }

    fn backward(&self, [x]: [&Tensor; 1], _: &Tensor, gradient: &Tensor) -> Result<[Option<Tensor>; 1]> {
        let Sums { positions, channels, .. } = self.0;
        Ok([Some(Op(Spread { positions, channels, shape: x.shape().clone() }).apply_detached([gradient])?)])
    }
}

/// The gradient of [`Means`].
struct Spread {
    positions: usize,
    channels: usize,
    shape: Shape,
}

impl Kernel<1> for Spread {
    const NAME: &'static str = "mean-positions-gradient";

    fn shape(&self) -> Shape {
        self.shape.clone()
    }

    fn run<T: Scalar>(&self, [gradient]: [&[T]; 1]) -> Vec<T> {
        let factor = T::from_f64(1.0 / self.positions as f64);
        let mut dx = vec![T::zero(); self.shape.elem_count()];
        let images =
            dx.par_chunks_mut(self.positions * self.channels).zip(gradient.par_chunks(self.channels));
        images.for_each(|(image, gradient)| {
            let (first, others) = image.split_at_mut(self.channels);
            for (to, &gradient) in first.iter_mut().zip(gradient) {
                *to = gradient * factor;
            }
            others.chunks_exact_mut(self.channels).for_each(|to| to.copy_from_slice(first));
        });
        dx
    }
}

struct Part<'a, T> {
    x: &'a [T],
    sums: &'a mut [T],
}

impl<T: Real> WithSimd for Part<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let (lanes, channels) = (T::lanes::<S>(), self.sums.len());
        let mut channel = 0;
        while channel < channels {
            channel += if channels - channel >= 4 * lanes {
                self.add::<S, 4>(s, channel)
            } else {
                self.add::<S, 1>(s, channel)
            };
        }
    }
}

impl<T: Real> Part<'_, T> {
    /// `N` registers of channels; returns how many channels.
    #[inline(always)]
    fn add<S: Simd, const N: usize>(&self, s: S, channel: usize) -> usize {
        let (lanes, channels) = (T::lanes::<S>(), self.sums.len());
        let left = channels - channel;
        let mut sums = [Lane::zero(s); N];
        for row in self.x.chunks_exact(channels) {
            for (n, sum) in sums.iter_mut().enumerate() {
                // SAFETY: a row has `left` values from `channel` on, N registers where N is not 1.
                *sum = *sum + unsafe { Lane::load_up_to(s, row.as_ptr().add(channel + n * lanes), left) };
            }
        }
        for (n, sum) in sums.iter().enumerate() {
            // SAFETY: as above; the sums are this part's alone.
            unsafe { sum.store_up_to(self.sums.as_ptr().cast_mut().add(channel + n * lanes), left) };
        }
        N * lanes
    }
}

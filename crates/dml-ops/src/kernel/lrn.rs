//! Local response normalisation on images whose channels are neighbours, a position after the other.

use candle_core::{Result, Shape, Tensor};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::geometry::part;
use super::result::{Place, written};
use super::scratch::Scratch;
use super::simd::{Lane, dispatch};
use super::{Kernel, Op, Scalar};

/// Values that make a task worth its while.
const ELEMENTS: usize = 1 << 14;

/// `x / (k + alpha·sum x²)^beta` over a window of channels; `alpha` is divided already, if it is to be. The last axis
/// is the channels.
#[derive(Clone)]
pub(crate) struct Normalise {
    pub(crate) size: usize,
    pub(crate) alpha: f64,
    pub(crate) beta: f64,
    pub(crate) k: f64,
    pub(crate) channels: usize,
    pub(crate) shape: Shape,
}

impl Normalise {
    /// The result, or with `dy` the gradient.
    pub(super) fn of<T: Scalar>(&self, x: &[T], dy: Option<&[T]>) -> Vec<T> {
        let channels = self.channels;
        let positions = x.len() / channels.max(1);
        let each = ELEMENTS.div_ceil(channels.max(1));
        let write = |to: Place<T>| {
            (0..positions.div_ceil(each)).into_par_iter().for_each(|task| {
                let part = part(task, each, positions);
                let part = part.start * channels..part.end * channels;
                // Squares and then terms of a position, with zeros for what is before the first channel and after
                // the last; and room for whole registers.
                let mut squares = Scratch::new(channels + 2 * self.size + 2 * MOST);
                let mut factors = Scratch::new(channels + MOST);
                dispatch(Positions {
                    lrn: self,
                    x: &x[part.clone()],
                    dy: dy.map(|dy| &dy[part.clone()]),
                    to: to.at(part.start),
                    squares: &mut squares,
                    factors: &mut factors,
                });
            });
        };
        // SAFETY: the parts are all there are, each one task's.
        unsafe { written(positions * channels, write) }
    }
}

/// Values of the largest register.
const MOST: usize = 64;

struct Positions<'a, T> {
    lrn: &'a Normalise,
    x: &'a [T],
    dy: Option<&'a [T]>,
    to: *mut T,
    squares: &'a mut [T],
    factors: &'a mut [T],
}

impl<T: Scalar> WithSimd for Positions<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let Self { lrn, x, dy, to, squares, factors } = self;
        let channels = lrn.channels;
        squares.fill(T::zero());
        let position = Position {
            channels,
            size: lrn.size,
            squares: squares.as_mut_ptr(),
            factors: factors.as_mut_ptr(),
        };
        for (index, x) in x.chunks_exact(channels).enumerate() {
            let to = to.wrapping_add(index * channels);
            // SAFETY: the scratch has room for the windows of all channels and a register after them; `to` is a
            // position of this task's.
            unsafe {
                match dy {
                    None => position.forward(s, lrn, x, to),
                    Some(dy) => position.backward(s, lrn, x, &dy[index * channels..][..channels], to),
                }
            }
        }
    }
}

/// The power −beta of a register, and −1.
#[inline(always)]
fn powers<T: Scalar, S: Simd>(s: S, x: Lane<T, S>, beta: f64) -> [Lane<T, S>; 2] {
    let inverse = Lane::splat(s, T::one()) / x;
    let power = if beta == 0.75 {
        // Square roots are several times faster than a power.
        let root = inverse.root();
        root * root.root()
    } else if beta == 0.5 {
        inverse.root()
    } else if beta == 1.0 {
        inverse
    } else {
        let mut values = [T::zero(); MOST];
        let beta = T::from_f64(beta);
        // SAFETY: no register has more values than there is room for.
        unsafe {
            inverse.store(values.as_mut_ptr());
            values[..T::lanes::<S>()].iter_mut().for_each(|x| *x = x.powf(beta));
            Lane::load(s, values.as_ptr())
        }
    };
    [power, inverse]
}

#[derive(Clone, Copy)]
struct Position<T> {
    channels: usize,
    size: usize,
    squares: *mut T,
    factors: *mut T,
}

impl<T: Scalar> Position<T> {
    /// The sum of a window of the scratch for a register of channels, which starts `channel` into it.
    #[inline(always)]
    unsafe fn window<S: Simd>(&self, s: S, channel: usize) -> Lane<T, S> {
        let mut sum = Lane::zero(s);
        for offset in 0..self.size {
            // SAFETY: the caller's promise.
            sum = sum + unsafe { Lane::load(s, self.squares.add(channel + offset)) };
        }
        sum
    }

    /// Writes the squares: channel c is at c + size / 2, so that its window starts at c.
    #[inline(always)]
    unsafe fn square<S: Simd>(&self, s: S, x: &[T]) {
        for c in (0..self.channels).step_by(T::lanes::<S>()) {
            let left = self.channels - c;
            // SAFETY: the caller's promise.
            unsafe {
                let x = Lane::load_up_to(s, x.as_ptr().add(c), left);
                (x * x).store_up_to(self.squares.add(c + self.size / 2), left);
            }
        }
    }

    #[inline(always)]
    unsafe fn forward<S: Simd>(&self, s: S, lrn: &Normalise, x: &[T], to: *mut T) {
        let (k, alpha) = (Lane::splat(s, T::of(lrn.k)), Lane::splat(s, T::of(lrn.alpha)));
        // SAFETY: the caller's promise.
        unsafe {
            self.square(s, x);
            for c in (0..self.channels).step_by(T::lanes::<S>()) {
                let left = self.channels - c;
                let [power, _] = powers(s, k.plus_product(alpha, self.window(s, c)), lrn.beta);
                (Lane::load_up_to(s, x.as_ptr().add(c), left) * power).store_up_to(to.add(c), left);
            }
        }
    }

    /// `dx_i = dy_i·s_i^-beta − 2·alpha·beta·x_i·sum_j dy_j·x_j·s_j^(-beta-1)` over the windows j that i is in.
    #[inline(always)]
    unsafe fn backward<S: Simd>(&self, s: S, lrn: &Normalise, x: &[T], dy: &[T], to: *mut T) {
        let (k, alpha) = (Lane::splat(s, T::of(lrn.k)), Lane::splat(s, T::of(lrn.alpha)));
        let ratio = Lane::splat(s, T::of(-2.0 * lrn.alpha * lrn.beta));
        // Channel j's window reaches from j − size / 2 to j + (size − 1) / 2, so i is in those from i − (size − 1) / 2.
        let before = (self.size - 1) / 2;
        // SAFETY: the caller's promise.
        unsafe {
            self.square(s, x);
            // The terms take the place of dx until all squares have been seen.
            for c in (0..self.channels).step_by(T::lanes::<S>()) {
                let left = self.channels - c;
                let [power, inverse] = powers(s, k.plus_product(alpha, self.window(s, c)), lrn.beta);
                power.store(self.factors.add(c));
                let [x, dy] = [x, dy].map(|x| Lane::load_up_to(s, x.as_ptr().add(c), left));
                (dy * x * power * inverse).store_up_to(to.add(c), left);
            }
            for c in (0..self.channels).step_by(T::lanes::<S>()) {
                let left = self.channels - c;
                Lane::load_up_to(s, to.add(c), left).store_up_to(self.squares.add(c + before), left);
            }
            // With an even size the terms start one place before the squares.
            let end = self.squares.add(before + self.channels);
            end.write_bytes(0, self.size);
            for c in (0..self.channels).step_by(T::lanes::<S>()) {
                let left = self.channels - c;
                let [x, dy] = [x, dy].map(|x| Lane::load_up_to(s, x.as_ptr().add(c), left));
                let dx = dy * Lane::load(s, self.factors.add(c));
                dx.plus_product(ratio * x, self.window(s, c)).store_up_to(to.add(c), left);
            }
            if self.size.is_multiple_of(2) {
                // The first square's place and those before it are zeros again.
                self.squares.write_bytes(0, self.size);
            }
        }
    }
}

impl Kernel<1> for Normalise {
    const NAME: &'static str = "lrn";

    fn shape(&self) -> Shape {
        self.shape.clone()
    }

    fn run<T: Scalar>(&self, [x]: [&[T]; 1]) -> Vec<T> {
        self.of(x, None)
    }

    fn backward(&self, [x]: [&Tensor; 1], _: &Tensor, gradient: &Tensor) -> Result<[Option<Tensor>; 1]> {
        Ok([Some(Op(Gradient(self.clone())).apply2_detached([x, gradient])?)])
    }
}

struct Gradient(Normalise);

impl Kernel<2> for Gradient {
    const NAME: &'static str = "lrn-gradient";

    fn shape(&self) -> Shape {
        self.0.shape.clone()
    }

    fn run<T: Scalar>(&self, [x, dy]: [&[T]; 2]) -> Vec<T> {
        self.0.of(x, Some(dy))
    }
}

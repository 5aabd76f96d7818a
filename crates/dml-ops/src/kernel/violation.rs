//! How far each row of one matrix exceeds each row of another.

use candle_core::{Result, Shape, Tensor};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::result::{Place, written};
use super::simd::{Lane, Real, dispatch};
use super::{Kernel, Scalar, gradients};

/// Registers that are summed side by side.
const SIDE: usize = 4;

/// Σ max(0, a − b)² over the columns, for each row of a (rows, dim) and each of b (others, dim). None of them is 0.
#[derive(Clone, Copy)]
pub(crate) struct Violation {
    pub(crate) rows: usize,
    pub(crate) others: usize,
    pub(crate) dim: usize,
}

impl Kernel<2> for Violation {
    const NAME: &'static str = "order_violation";

    fn shape(&self) -> Shape {
        (self.rows, self.others).into()
    }

    fn run<T: Scalar>(&self, [a, b]: [&[T]; 2]) -> Vec<T> {
        let Self { rows, others, dim } = *self;
        let write = |to: Place<T>| {
            (0..rows).into_par_iter().for_each(|row| {
                let a = &a[row * dim..(row + 1) * dim];
                dispatch(Sums { a, b, to: to.at(row * others), others });
            });
        };
        // SAFETY: each row of the result is one task's.
        unsafe { written(rows * others, write) }
    }

    fn backward(
        &self,
        inputs: [&Tensor; 2],
        result: &Tensor,
        gradient: &Tensor,
    ) -> Result<[Option<Tensor>; 2]> {
        gradients(self, inputs, result, gradient)
    }

    fn gradients<T: Scalar>(
        &self,
        [a, b]: [&[T]; 2],
        [_, gradient]: [&[T]; 2],
        wanted: [bool; 2],
    ) -> Result<[Option<Vec<T>>; 2]> {
        let Self { others, dim, .. } = *self;
        // The gradients of a row's results are `step` apart, the first ones of rows `next`.
        let of = |x: &[T], y: &[T], [step, next]: [usize; 2], greater: bool| {
            let write = |to: Place<T>| {
                (0..x.len() / dim).into_par_iter().for_each(|row| {
                    let x = &x[row * dim..(row + 1) * dim];
                    let gradient = &gradient[row * next..];
                    dispatch(Terms { x, y, gradient, step, greater, to: to.at(row * dim) });
                });
            };
            // SAFETY: each row of the result is one task's.
            unsafe { written(x.len(), write) }
        };
        let [da, db] = wanted;
        Ok([da.then(|| of(a, b, [1, others], true)), db.then(|| of(b, a, [others, 1], false))])
    }
}

/// What is above zero of a − b. A NaN stays one.
#[inline(always)]
fn excess<T: Real, S: Simd>(s: S, a: Lane<T, S>, b: Lane<T, S>) -> Lane<T, S> {
    let (zero, excess) = (Lane::zero(s), a - b);
    zero.if_greater(excess, zero, excess)
}

/// A row of the result.
struct Sums<'a, T> {
    a: &'a [T],
    b: &'a [T],
    to: *mut T,
    others: usize,
}

impl<T: Real> WithSimd for Sums<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let Self { a, b, to, others } = self;
        let dim = a.len();
        for other in 0..others {
            let b = &b[other * dim..(other + 1) * dim];
            let mut sums = [Lane::zero(s); SIDE];
            for (turn, at) in (0..dim).step_by(T::lanes::<S>()).enumerate() {
                // SAFETY: both rows have `dim` values.
                let excess = unsafe {
                    let a = Lane::load_up_to(s, a.as_ptr().add(at), dim - at);
                    excess(s, a, Lane::load_up_to(s, b.as_ptr().add(at), dim - at))
                };
                sums[turn % SIDE] = sums[turn % SIDE].plus_product(excess, excess);
            }
            let [w, x, y, z] = sums;
            // SAFETY: the row of the result has `others` values.
            unsafe { to.add(other).write(((w + x) + (y + z)).sum()) };
        }
    }
}

/// The gradient of a row: 2·Σ gradient·max(0, x − y) over the rows y where the row is to be the `greater`, else
/// −2·Σ gradient·max(0, y − x).
struct Terms<'a, T> {
    x: &'a [T],
    y: &'a [T],
    /// Of the first y; those of the next are `step` apart.
    gradient: &'a [T],
    step: usize,
    greater: bool,
    to: *mut T,
}

impl<T: Real> WithSimd for Terms<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let Self { x, y, gradient, step, greater, to } = self;
        let (dim, lanes) = (x.len(), T::lanes::<S>());
        for at in (0..dim).step_by(SIDE * lanes) {
            let mut sums = [Lane::zero(s); SIDE];
            for (y, &gradient) in y.chunks_exact(dim).zip(gradient.iter().step_by(step)) {
                // A hinge that is closed hands nothing on.
                if gradient == T::default() {
                    continue;
                }
                let gradient = Lane::splat(s, gradient);
                for (side, sum) in sums.iter_mut().enumerate() {
                    let at = at + side * lanes;
                    if at < dim {
                        // SAFETY: both rows have `dim` values.
                        let (x, y) = unsafe {
                            let x = Lane::load_up_to(s, x.as_ptr().add(at), dim - at);
                            (x, Lane::load_up_to(s, y.as_ptr().add(at), dim - at))
                        };
                        let excess = if greater { excess(s, x, y) } else { excess(s, y, x) };
                        *sum = sum.plus_product(gradient, excess);
                    }
                }
            }
            for (side, sum) in sums.into_iter().enumerate() {
                let at = at + side * lanes;
                if at < dim {
                    // SAFETY: the row of the result has `dim` values.
                    unsafe { sum.times(if greater { 2.0 } else { -2.0 }).store_up_to(to.add(at), dim - at) };
                }
            }
        }
    }
}

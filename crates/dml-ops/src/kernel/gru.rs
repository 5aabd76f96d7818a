//! The step of a gated recurrent unit, after its products.

use candle_core::{Result, Shape, Tensor};
use rayon::prelude::*;

use super::result::{Place, written};
use super::{Kernel, Scalar, gradients};

/// The next state of `rows` sequences from the input's and the state's products and the state.
#[derive(Clone, Copy)]
pub(crate) struct GruCell {
    pub(crate) rows: usize,
    pub(crate) dim: usize,
}

/// Reset gate, update gate and candidate of one component.
struct Gates<T> {
    r: T,
    u: T,
    c: T,
}

impl<T: Scalar> Gates<T> {
    /// Component `k` of a row.
    #[inline(always)]
    fn of(x: &[T], y: &[T], dim: usize, k: usize) -> Self {
        let sigmoid = |x: T| T::one() / (T::one() + (T::zero() - x).exp());
        let r = sigmoid(x[k] + y[k]);
        let u = sigmoid(x[dim + k] + y[dim + k]);
        let c = (x[2 * dim + k] + r * y[2 * dim + k]).tanh();
        Self { r, u, c }
    }
}

impl Kernel<3> for GruCell {
    const NAME: &'static str = "gru_cell";

    fn shape(&self) -> Shape {
        (self.rows, self.dim).into()
    }

    fn run<T: Scalar>(&self, [x, y, h]: [&[T]; 3]) -> Vec<T> {
        let Self { rows, dim } = *self;
        let write = |to: Place<T>| {
            (0..rows).into_par_iter().for_each(|row| {
                let [x, y, h] = row_of(row, dim, [x, y, h]);
                for k in 0..dim {
                    let Gates { u, c, .. } = Gates::of(x, y, dim, k);
                    // SAFETY: the row is this task's.
                    unsafe { to.at(row * dim + k).write(c + u * (h[k] - c)) };
                }
            });
        };
        // SAFETY: each row of the result is one task's.
        unsafe { written(rows * dim, write) }
    }

    fn backward(
        &self,
        inputs: [&Tensor; 3],
        result: &Tensor,
        gradient: &Tensor,
    ) -> Result<[Option<Tensor>; 3]> {
        gradients(self, inputs, result, gradient)
    }

    fn gradients<T: Scalar>(
        &self,
        [x, y, h]: [&[T]; 3],
        [_, gradient]: [&[T]; 2],
        wanted: [bool; 3],
    ) -> Result<[Option<Vec<T>>; 3]> {
        let Self { rows, dim } = *self;
        let mut dx = vec![T::zero(); 3 * rows * dim];
        let mut dy = vec![T::zero(); 3 * rows * dim];
        let mut dh = vec![T::zero(); rows * dim];
        let rows = dx.par_chunks_mut(3 * dim).zip(dy.par_chunks_mut(3 * dim)).zip(dh.par_chunks_mut(dim));
        rows.enumerate().for_each(|(row, ((dx, dy), dh))| {
            let [x, y, h] = row_of(row, dim, [x, y, h]);
            let gradient = &gradient[row * dim..(row + 1) * dim];
            for k in 0..dim {
                let Gates { r, u, c } = Gates::of(x, y, dim, k);
                let g = gradient[k];
                let du = g * (h[k] - c) * u * (T::one() - u);
                let dc = g * (T::one() - u) * (T::one() - c * c);
                let dr = dc * y[2 * dim + k] * r * (T::one() - r);
                (dx[k], dx[dim + k], dx[2 * dim + k]) = (dr, du, dc);
                (dy[k], dy[dim + k], dy[2 * dim + k]) = (dr, du, dc * r);
                dh[k] = g * u;
            }
        });
        let [want_x, want_y, want_h] = wanted;
        Ok([want_x.then_some(dx), want_y.then_some(dy), want_h.then_some(dh)])
    }
}

/// A row of the products and of the state.
fn row_of<T>(row: usize, dim: usize, [x, y, h]: [&[T]; 3]) -> [&[T]; 3] {
    let products = row * 3 * dim..(row + 1) * 3 * dim;
    [&x[products.clone()], &y[products], &h[row * dim..(row + 1) * dim]]
}

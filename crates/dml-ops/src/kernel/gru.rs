//! A gated recurrent unit over sequences of unequal lengths, without padding.

use std::sync::OnceLock;

use candle_core::{CpuStorage, Error, Result, Shape, Tensor};
use rayon::prelude::*;

use super::linear::Sizes;
use super::{Kernel, Scalar, gradients};

/// The last states of sequences, from their inputs' products and the weights of the state.
pub(crate) struct Gru {
    /// How many sequences each step has; none more than the one before.
    pub(crate) counts: Vec<usize>,
    pub(crate) dim: usize,
    /// The states after each step, and then the products of the states before it: what the gradient needs.
    pub(crate) kept: OnceLock<CpuStorage>,
}

/// Reset gate, update gate and candidate of one component.
struct Gates<T> {
    r: T,
    u: T,
    c: T,
}

impl<T: Scalar> Gates<T> {
    /// Component `k` of a row of products.
    #[inline(always)]
    fn of(x: &[T], y: &[T], dim: usize, k: usize) -> Self {
        let sigmoid = |x: T| T::one() / (T::one() + (T::zero() - x).exp());
        let r = sigmoid(x[k] + y[k]);
        let u = sigmoid(x[dim + k] + y[dim + k]);
        let c = (x[2 * dim + k] + r * y[2 * dim + k]).tanh();
        Self { r, u, c }
    }
}

impl Gru {
    /// Rows of all steps.
    fn rows(&self) -> usize {
        self.counts.iter().sum()
    }

    /// The product of states and weights, for so many rows.
    fn product(&self, rows: usize) -> Sizes {
        Sizes { rows, inputs: self.dim, outputs: 3 * self.dim }
    }

    /// Each step's first row, and its number of rows.
    fn steps(&self) -> impl DoubleEndedIterator<Item = (usize, usize)> {
        let mut first = 0;
        let steps = self.counts.iter().map(|&count| {
            first += count;
            (first - count, count)
        });
        steps.collect::<Vec<_>>().into_iter()
    }

    /// The rows of `count` sequences of the step before that which begins at `first`, whose rows are `width` values.
    fn before(&self, first: usize, count: usize, width: usize) -> std::ops::Range<usize> {
        let step = self.steps().take_while(|&(start, _)| start < first).last();
        let start = step.map_or(0, |(start, _)| start);
        start * width..(start + count) * width
    }

    /// States and products of all steps.
    fn forward<T: Scalar>(&self, x: &[T], w: &[T]) -> [Vec<T>; 2] {
        let dim = self.dim;
        let mut states = vec![T::zero(); self.rows() * dim];
        let mut products = Vec::with_capacity(3 * self.rows() * dim);
        let none = vec![T::zero(); self.counts[0] * dim];
        for (first, count) in self.steps() {
            let (done, to) = states.split_at_mut(first * dim);
            // The first state is zero, and so are its products.
            let before = match first {
                0 => {
                    products.resize(3 * count * dim, T::zero());
                    &none[..]
                }
                _ => {
                    let before = &done[self.before(first, count, dim)];
                    products.extend(self.product(count).forward(before, w, None, false));
                    before
                }
            };
            let rows = 3 * first * dim..3 * (first + count) * dim;
            let (x, y) = (&x[rows.clone()], &products[rows]);
            let rows = to[..count * dim].par_chunks_mut(dim).zip(before.par_chunks(dim));
            let rows = rows.zip(x.par_chunks(3 * dim)).zip(y.par_chunks(3 * dim));
            rows.for_each(|(((to, h), x), y)| {
                for k in 0..dim {
                    let Gates { u, c, .. } = Gates::of(x, y, dim, k);
                    to[k] = c + u * (h[k] - c);
                }
            });
        }
        [states, products]
    }
}

impl Kernel<2> for Gru {
    const NAME: &'static str = "gru";

    fn shape(&self) -> Shape {
        (self.counts[0], self.dim).into()
    }

    fn run<T: Scalar>(&self, [x, w]: [&[T]; 2]) -> Vec<T> {
        let dim = self.dim;
        let [mut states, products] = self.forward(x, w);
        let mut last = vec![T::zero(); self.counts[0] * dim];
        for (first, count) in self.steps() {
            last[..count * dim].copy_from_slice(&states[first * dim..(first + count) * dim]);
        }
        states.extend(products);
        let _ = self.kept.set(T::to_cpu_storage_owned(states));
        last
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
        [x, w]: [&[T]; 2],
        [_, gradient]: [&[T]; 2],
        [want_x, want_w]: [bool; 2],
    ) -> Result<[Option<Vec<T>>; 2]> {
        let dim = self.dim;
        let kept = self.kept.get().ok_or(Error::BackwardNotSupported { op: Self::NAME })?;
        let (states, products) = T::cpu_storage_as_slice(kept)?.split_at(self.rows() * dim);
        let mut dx = vec![T::zero(); 3 * self.rows() * dim];
        let mut dy = vec![T::zero(); 3 * self.rows() * dim];
        let none = vec![T::zero(); self.counts[0] * dim];
        // The gradient of each sequence's state: from its end on, what the steps after hand back.
        let mut dh = gradient.to_vec();
        for (first, count) in self.steps().rev() {
            let before = if first == 0 { &none[..] } else { &states[self.before(first, count, dim)] };
            let rows = 3 * first * dim..3 * (first + count) * dim;
            let outer =
                dx[rows.clone()].par_chunks_mut(3 * dim).zip(dy[rows.clone()].par_chunks_mut(3 * dim));
            let inner = x[rows.clone()].par_chunks(3 * dim).zip(products[rows.clone()].par_chunks(3 * dim));
            let all = outer.zip(inner).zip(before.par_chunks(dim)).zip(dh[..count * dim].par_chunks_mut(dim));
            all.for_each(|((((dx, dy), (x, y)), h), dh)| {
                for k in 0..dim {
                    let Gates { r, u, c } = Gates::of(x, y, dim, k);
                    let g = dh[k];
                    let du = g * (h[k] - c) * u * (T::one() - u);
                    let dc = g * (T::one() - u) * (T::one() - c * c);
                    let dr = dc * y[2 * dim + k] * r * (T::one() - r);
                    (dx[k], dx[dim + k], dx[2 * dim + k]) = (dr, du, dc);
                    (dy[k], dy[dim + k], dy[2 * dim + k]) = (dr, du, dc * r);
                    dh[k] = g * u;
                }
            });
            if first > 0 {
                let back = self.product(count).data_gradient(w, &dy[rows]);
                dh.iter_mut().zip(back).for_each(|(dh, back)| *dh += back);
            }
        }
        let dw = want_w.then(|| {
            // All steps' products but the first ones', which were none, at once.
            let mut before = Vec::with_capacity(self.rows() * dim);
            for (first, count) in self.steps().skip(1) {
                before.extend_from_slice(&states[self.before(first, count, dim)]);
            }
            self.product(before.len() / dim).weight_gradient(&before, &dy[3 * self.counts[0] * dim..])
        });
        Ok([want_x.then_some(dx), dw])
    }
}

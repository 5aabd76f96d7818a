//! Inner products of the rows of two matrices: for few rows of x, where reading w is all the time.

use pulp::{Simd, WithSimd};

use crate::kernel::Scalar;
use crate::kernel::simd::Lane;

/// Rows of w side by side.
const OUTPUTS: usize = 4;
/// Terms of a sum before it is added up; the terms of so many rows stay in the cache.
const TERMS: usize = 4096;

/// `sums[o][row] = Σ over i of x[row][i]·w[o][i]`.
pub(super) struct Dots<'a, T> {
    pub(super) inputs: usize,
    pub(super) rows: usize,
    pub(super) x: &'a [T],
    pub(super) w: &'a [T],
    pub(super) sums: &'a mut [T],
}

impl<T: Scalar> WithSimd for Dots<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let Self { inputs, rows, x, w, sums } = self;
        let most = if S::REGISTER_COUNT >= 32 { 4 } else { 2 };
        let outputs = w.len() / inputs;
        sums.fill(T::zero());
        for first in (0..outputs).step_by(OUTPUTS) {
            let wide = OUTPUTS.min(outputs - first);
            for start in (0..inputs).step_by(TERMS) {
                let terms = TERMS.min(inputs - start);
                let mut row = 0;
                while row < rows {
                    let high = most.min(rows - row);
                    let tile = Tile {
                        inputs,
                        terms,
                        x: x[row * inputs + start..].as_ptr(),
                        w: w[first * inputs + start..].as_ptr(),
                    };
                    // SAFETY: the operands have these rows and terms.
                    let sum = unsafe {
                        match (wide, high) {
                            (OUTPUTS, 4) => tile.sum::<S, OUTPUTS, 4>(s),
                            (OUTPUTS, 3) => tile.sum::<S, OUTPUTS, 3>(s),
                            (OUTPUTS, 2) => tile.sum::<S, OUTPUTS, 2>(s),
                            (OUTPUTS, _) => tile.sum::<S, OUTPUTS, 1>(s),
                            (_, 4) => tile.of_some::<S, 4>(s, wide),
                            (_, 3) => tile.of_some::<S, 3>(s, wide),
                            (_, 2) => tile.of_some::<S, 2>(s, wide),
                            _ => tile.of_some::<S, 1>(s, wide),
                        }
                    };
                    for (o, sum) in sum.iter().enumerate().take(wide) {
                        for (r, &sum) in sum.iter().enumerate().take(high) {
                            let to = &mut sums[(first + o) * rows + row + r];
                            *to += sum;
                        }
                    }
                    row += high;
                }
            }
        }
    }
}

/// Some rows of w and of x.
struct Tile<T> {
    inputs: usize,
    terms: usize,
    x: *const T,
    w: *const T,
}

impl<T: Scalar> Tile<T> {
    /// Fewer than [`OUTPUTS`] rows of w.
    #[inline(always)]
    unsafe fn of_some<S: Simd, const R: usize>(&self, s: S, wide: usize) -> [[T; 4]; OUTPUTS] {
        // SAFETY: the caller's promise.
        unsafe {
            match wide {
                3 => self.sum::<S, 3, R>(s),
                2 => self.sum::<S, 2, R>(s),
                _ => self.sum::<S, 1, R>(s),
            }
        }
    }

    #[inline(always)]
    unsafe fn sum<S: Simd, const O: usize, const R: usize>(&self, s: S) -> [[T; 4]; OUTPUTS] {
        let lanes = T::lanes::<S>();
        let mut sums = [[Lane::zero(s); R]; O];
        let whole = self.terms / lanes * lanes;
        // SAFETY: the caller's promise.
        unsafe {
            let mut i = 0;
            while i < whole {
                let x: [_; R] = std::array::from_fn(|r| Lane::load(s, self.x.add(r * self.inputs + i)));
                for (o, sums) in sums.iter_mut().enumerate() {
                    let w = Lane::load(s, self.w.add(o * self.inputs + i));
                    for (sum, &x) in sums.iter_mut().zip(&x) {
                        *sum = sum.plus_product(w, x);
                    }
                }
                i += lanes;
            }
            if i < self.terms {
                let left = self.terms - i;
                for (o, sums) in sums.iter_mut().enumerate() {
                    let w = Lane::load_up_to(s, self.w.add(o * self.inputs + i), left);
                    for (r, sum) in sums.iter_mut().enumerate() {
                        *sum =
                            sum.plus_product(w, Lane::load_up_to(s, self.x.add(r * self.inputs + i), left));
                    }
                }
            }
        }
        let mut total = [[T::zero(); 4]; OUTPUTS];
        for (total, sums) in total.iter_mut().zip(&sums) {
            for (total, sum) in total.iter_mut().zip(sums) {
                *total = sum.sum();
            }
        }
        total
    }
}

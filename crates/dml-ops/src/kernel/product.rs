//! The one matrix product that convolutions, in all their forms, and linear layers are made of.
//!
//! A tile of the result, rows × two registers, stays in registers while the sum runs: over several *runs*, each a
//! stretch of the operands with fixed steps. A direct convolution's runs are the rows of its kernel, a weight
//! gradient's are rows of the image, a plain product has one. Neither operand is copied; B's columns must be
//! neighbours in memory, A can lie in any way.

use pulp::{Simd, WithSimd};

use super::after::activate;
use super::cache::{LINE, prefetch};
use super::simd::{Lane, Real, dispatch};
use crate::Activation;

/// Registers side by side in a tile.
const WIDTH: usize = 2;

/// A stretch of a sum: where it starts in both operands, and how many terms it has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    pub(crate) a: usize,
    pub(crate) b: usize,
    pub(crate) len: usize,
}

/// What happens to a sum before it is stored.
#[derive(Clone, Copy)]
pub(crate) enum Finish<T> {
    /// It replaces what was there.
    Store,
    /// It is added to what was there.
    Add,
    /// It is added to what was there if `add`; then come the column's bias, if there is one, and the activation.
    Layer { add: bool, bias: *const T, activation: Activation },
}

/// `c[i][j] = Σ over runs, Σ over l < len of a[run.a + i·a_row + l·a_step] · b[run.b + panel(j) + l·b_step]`.
///
/// B's columns come in panels, each of [`columns`] neighbouring values and `b_panel` after the one before.
#[derive(Clone, Copy)]
pub(crate) struct Product<'a, T> {
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) runs: &'a [Run],
    pub(crate) a: *const T,
    pub(crate) a_row: usize,
    pub(crate) a_step: usize,
    pub(crate) b: *const T,
    pub(crate) b_panel: usize,
    pub(crate) b_step: usize,
    pub(crate) c: *mut T,
    pub(crate) c_row: usize,
    pub(crate) finish: Finish<T>,
}

/// Columns of a panel on this processor.
pub(crate) fn columns<T: Real>() -> usize {
    struct Lanes<T>(std::marker::PhantomData<T>);
    impl<T: Real> WithSimd for Lanes<T> {
        type Output = usize;

        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) -> usize {
            WIDTH * T::lanes::<S>()
        }
    }
    dispatch(Lanes::<T>(std::marker::PhantomData))
}

impl<T: Real> Product<'_, T> {
    /// Computes the product on this thread.
    ///
    /// # Safety
    /// Every element that the sums name can be read, and every element of the result written by this call alone.
    pub(crate) unsafe fn run(self) {
        dispatch(self);
    }
}

impl<T: Real> WithSimd for Product<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let most = if S::REGISTER_COUNT >= 32 { 12 } else { 6 };
        let lanes = T::lanes::<S>();
        let tiles = self.rows.div_ceil(most);
        let terms: usize = self.runs.iter().map(|run| run.len).sum();
        let mut column = 0;
        while column < self.columns {
            let panel = column / (WIDTH * lanes);
            let wide = (self.columns - column).min(WIDTH * lanes);
            let b = unsafe { self.b.add(panel * self.b_panel) };
            let mut next = b.wrapping_add(self.b_panel);
            let mut row = 0;
            for tile in 0..tiles {
                // Rows are split evenly: seven and seven rather than twelve and two.
                let end = (tile + 1) * self.rows / tiles;
                let tile = Tile { product: &self, b, next, row, column, wide };
                // SAFETY: the promise of `run`.
                unsafe { tile.of_rows(s, end - row) };
                next = next.wrapping_add(terms * LINE / size_of::<T>());
                row = end;
            }
            column += wide;
        }
    }
}

struct Tile<'a, T> {
    product: &'a Product<'a, T>,
    b: *const T,
    /// What the cache should hold next: a line a term.
    next: *const T,
    row: usize,
    column: usize,
    wide: usize,
}

macro_rules! by_rows {
    ($self:ident, $s:ident, $rows:ident, $n:literal, $part:literal, $($m:literal)*) => {
        match $rows {
            $($m => unsafe { $self.sum::<S, $m, $n, $part>($s) },)*
            _ => unreachable!("a tile has at most twelve rows"),
        }
    };
}

impl<T: Real> Tile<'_, T> {
    #[inline(always)]
    unsafe fn of_rows<S: Simd>(&self, s: S, rows: usize) {
        let lanes = T::lanes::<S>();
        if self.wide == 2 * lanes {
            by_rows!(self, s, rows, 2, false, 1 2 3 4 5 6 7 8 9 10 11 12)
        } else if self.wide > lanes {
            by_rows!(self, s, rows, 2, true, 1 2 3 4 5 6 7 8 9 10 11 12)
        } else {
            by_rows!(self, s, rows, 1, true, 1 2 3 4 5 6 7 8 9 10 11 12)
        }
    }

    /// `PART`: the last register is not full.
    #[inline(always)]
    unsafe fn sum<S: Simd, const M: usize, const N: usize, const PART: bool>(&self, s: S) {
        let lanes = T::lanes::<S>();
        let last = self.wide - (N - 1) * lanes;
        let Product { runs, a, a_row, a_step, b_step, c, c_row, finish, .. } = *self.product;
        let mut sums = [[Lane::zero(s); N]; M];
        let mut next = self.next;
        for run in runs {
            // SAFETY: the promise of `Product::run`.
            unsafe {
                let mut a = a.add(run.a + self.row * a_row);
                let mut b = self.b.add(run.b);
                for _ in 0..run.len {
                    let mut columns = [Lane::zero(s); N];
                    for j in 0..N {
                        let from = b.add(j * lanes);
                        columns[j] = if PART && j + 1 == N {
                            Lane::load_up_to(s, from, last)
                        } else {
                            Lane::load(s, from)
                        };
                    }
                    for i in 0..M {
                        let x = Lane::splat(s, *a.add(i * a_row));
                        for j in 0..N {
                            sums[i][j] = sums[i][j].plus_product(x, columns[j]);
                        }
                    }
                    prefetch(next);
                    next = next.wrapping_add(LINE / size_of::<T>());
                    a = a.wrapping_add(a_step);
                    b = b.wrapping_add(b_step);
                }
            }
        }
        // The compiler keeps in registers what no loop indexes that it leaves rolled, as it does the next one.
        let mut done = [[Lane::zero(s); N]; M];
        for i in 0..M {
            for j in 0..N {
                done[i][j] = sums[i][j];
            }
        }
        for i in 0..M {
            for j in 0..N {
                let part = PART && j + 1 == N;
                // SAFETY: the promise of `Product::run`.
                unsafe {
                    let to = c.add((self.row + i) * c_row + self.column + j * lanes);
                    let count = if part { last } else { lanes };
                    let mut x = done[i][j];
                    match finish {
                        Finish::Store => {}
                        Finish::Add => x = x + Lane::load_up_to(s, to, count),
                        Finish::Layer { add, bias, activation } => {
                            if add {
                                x = x + Lane::load_up_to(s, to, count);
                            }
                            if !bias.is_null() {
                                x = x + Lane::load_up_to(s, bias.add(self.column + j * lanes), count);
                            }
                            x = activate(s, x, activation);
                        }
                    }
                    x.store_up_to(to, count);
                }
            }
        }
    }
}

//! Filters to points, laid out as the product wants its second operand, and gradients of points back to filters.

use std::marker::PhantomData;
use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::axis::{Axis, MOST};
use super::chunk::APART;
use crate::kernel::cache::{LARGE, streamed};
use crate::kernel::filters::{Block, Filters, ROWS};
use crate::kernel::product::columns;
use crate::kernel::result::Place;
use crate::kernel::simd::{Lane, dispatch};
use crate::kernel::{MatrixMut, Scalar};

/// Products a point: the taps over time, where the time axis has no tiles.
pub(super) fn slices<Ti: Axis>(filters: &Filters) -> usize {
    if Ti::TAPS == 1 { filters.taps[0] } else { 1 }
}

/// Values from a point to the next.
pub(super) fn point<T: Scalar, Ti: Axis>(filters: &Filters) -> usize {
    slices::<Ti>(filters) * filters.rows * filters.padded::<T>() + APART
}

/// The points of all filters: (point, panel, slice, row, column of the panel).
pub(super) fn to_points<T: Scalar, Sp: Axis, Ti: Axis>(filters: &Filters, w: &[T], u: &mut [T]) {
    let stream = size_of_val(u) > LARGE;
    let u = MatrixMut::new(u);
    filters.for_each_block(|block, local| {
        filters.gather(w, block, local);
        let step = Step::<T, Sp, Ti>::new(filters, block, local, u.start());
        dispatch(ToPoints { step, stream });
        if stream {
            streamed();
        }
    });
}

/// The gradients of all filters from those of the points: (point, slice, row, column). Every filter is written.
///
/// # Safety
/// There is room for all filters, and they are the caller's alone.
pub(super) unsafe fn from_points<T: Scalar, Sp: Axis, Ti: Axis>(filters: &Filters, u: &[T], w: Place<T>) {
    filters.for_each_block(|block, local| {
        let step = Step::<T, Sp, Ti>::new(filters, block, local, u.as_ptr().cast_mut());
        dispatch(FromPoints(step));
        // SAFETY: this block is this task's alone.
        unsafe { filters.scatter(local, block, w) };
    });
}

/// The gradients of the filters of some rows of a panel from those of their points: (point, row, column). The first row is a
/// multiple of [`ROWS`].
///
/// # Safety
/// There is room for all filters, and these are the caller's alone.
pub(super) unsafe fn block_from_points<T: Scalar, Sp: Axis, Ti: Axis>(
    filters: &Filters,
    u: &[T],
    panel: usize,
    rows: Range<usize>,
    w: Place<T>,
) {
    let width = columns::<T>();
    T::with_scratch(filters.all_taps() * ROWS * width, |local| {
        for first in rows.clone().step_by(ROWS) {
            let step = Step::<T, Sp, Ti>::of_rows(filters, &rows, first, local, u.as_ptr().cast_mut());
            dispatch(FromPoints(step));
            // SAFETY: the caller's promise.
            unsafe { filters.scatter(local, Block { panel, first, width }, w) };
        }
    });
}

/// The transform of a block.
struct Step<T, Sp, Ti> {
    rows: usize,
    slices: usize,
    /// Rows of all blocks, and columns of all panels.
    all: [usize; 2],
    taps: [usize; 3],
    block: Block,
    /// (tap, row, column)
    local: *mut T,
    /// All points, and the values of one.
    u: *mut T,
    point: usize,
    axes: PhantomData<(Sp, Ti)>,
}

impl<T: Scalar, Sp: Axis, Ti: Axis> Step<T, Sp, Ti> {
    fn new(filters: &Filters, block: Block, local: &mut [T], u: *mut T) -> Self {
        Self {
            rows: ROWS.min(filters.rows - block.first),
            slices: slices::<Ti>(filters),
            all: [filters.rows, filters.padded::<T>()],
            taps: filters.taps,
            block,
            local: local.as_mut_ptr(),
            u,
            point: point::<T, Ti>(filters),
            axes: PhantomData,
        }
    }

    /// Of the block that starts at `first`, where only some rows of its panel have points.
    fn of_rows(filters: &Filters, rows: &Range<usize>, first: usize, local: &mut [T], u: *mut T) -> Self {
        let width = columns::<T>();
        Self {
            rows: ROWS.min(rows.end - first),
            slices: 1,
            all: [rows.len(), width],
            taps: filters.taps,
            block: Block { panel: 0, first: first - rows.start, width },
            local: local.as_mut_ptr(),
            u,
            point: rows.len() * width,
            axes: PhantomData,
        }
    }

    /// The local value of a tap: of a slice where time has no tiles, else of all.
    #[inline(always)]
    fn local(&self, slice: usize, k: [usize; 3], row: usize, column: usize) -> *mut T {
        let [_, kh, kw] = self.taps;
        let tap = ((slice + k[0]) * kh + k[1]) * kw + k[2];
        self.local.wrapping_add((tap * ROWS + row) * self.block.width + column)
    }
}

struct ToPoints<T, Sp, Ti> {
    step: Step<T, Sp, Ti>,
    /// The points are too many for the caches.
    stream: bool,
}

impl<T: Scalar, Sp: Axis, Ti: Axis> WithSimd for ToPoints<T, Sp, Ti> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let (step, lanes) = (&self.step, T::lanes::<S>());
        let points = Sp::POINTS * Sp::POINTS;
        let zero = Lane::zero(s);
        let mut frames = [[zero; MOST * MOST]; MOST];
        for slice in 0..step.slices {
            for row in 0..step.rows {
                for column in [0, lanes] {
                    for k in 0..Ti::TAPS {
                        let mut half = [[zero; MOST]; MOST];
                        for j in 0..Sp::TAPS {
                            let mut line = [zero; MOST];
                            for i in 0..Sp::TAPS {
                                // SAFETY: the local copy has a value for every tap.
                                line[i] = unsafe { Lane::load(s, step.local(slice, [k, i, j], row, column)) };
                            }
                            let line = Sp::filter(line);
                            for i in 0..Sp::POINTS {
                                half[i][j] = line[i];
                            }
                        }
                        for i in 0..Sp::POINTS {
                            let line = Sp::filter(half[i]);
                            for j in 0..Sp::POINTS {
                                frames[k][i * Sp::POINTS + j] = line[j];
                            }
                        }
                    }
                    let matrix = (step.block.panel * step.slices + slice) * step.all[0];
                    let to = (matrix + step.block.first + row) * step.block.width + column;
                    for p in 0..points {
                        let mut line = [zero; MOST];
                        for k in 0..Ti::TAPS {
                            line[k] = frames[k][p];
                        }
                        let line = Ti::filter(line);
                        for f in 0..Ti::POINTS {
                            let to = step.u.wrapping_add((f * points + p) * step.point + to);
                            // SAFETY: this panel's rows are this task's alone, and whole lines.
                            unsafe { if self.stream { line[f].stream(to) } else { line[f].store(to) } };
                        }
                    }
                }
            }
        }
    }
}

struct FromPoints<T, Sp, Ti>(Step<T, Sp, Ti>);

impl<T: Scalar, Sp: Axis, Ti: Axis> WithSimd for FromPoints<T, Sp, Ti> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let (step, lanes) = (&self.0, T::lanes::<S>());
        let points = Sp::POINTS * Sp::POINTS;
        let zero = Lane::zero(s);
        let mut frames = [[zero; MOST * MOST]; MOST];
        for slice in 0..step.slices {
            for row in 0..step.rows {
                for column in [0, lanes] {
                    let row_of_all = slice * step.all[0] + step.block.first + row;
                    let from = row_of_all * step.all[1] + step.block.panel * step.block.width + column;
                    for p in 0..points {
                        let mut line = [zero; MOST];
                        for f in 0..Ti::POINTS {
                            // SAFETY: the points have a value for every row and column.
                            line[f] =
                                unsafe { Lane::load(s, step.u.add((f * points + p) * step.point + from)) };
                        }
                        let line = Ti::filter_gradient(line);
                        for k in 0..Ti::TAPS {
                            frames[k][p] = line[k];
                        }
                    }
                    for k in 0..Ti::TAPS {
                        let mut half = [[zero; MOST]; MOST];
                        for j in 0..Sp::POINTS {
                            let mut line = [zero; MOST];
                            for i in 0..Sp::POINTS {
                                line[i] = frames[k][i * Sp::POINTS + j];
                            }
                            let line = Sp::filter_gradient(line);
                            for i in 0..Sp::TAPS {
                                half[i][j] = line[i];
                            }
                        }
                        for i in 0..Sp::TAPS {
                            let line = Sp::filter_gradient(half[i]);
                            for j in 0..Sp::TAPS {
                                // SAFETY: the local copy has room for every tap.
                                unsafe { line[j].store(step.local(slice, [k, i, j], row, column)) };
                            }
                        }
                    }
                }
            }
        }
    }
}

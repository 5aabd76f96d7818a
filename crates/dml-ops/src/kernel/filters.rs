//! The filters of a convolution as they lie in memory, (outputs, inputs, taps), and as the products want them.

use rayon::prelude::*;

use super::cache::{LINE, prefetch};
use super::geometry::Geometry;
use super::product::columns;
use super::result::Place;
use super::scratch::Scratch;
use super::{MatrixMut, Scalar};

/// Rows that one task takes, so that a filter's taps, which are neighbours in memory, are read together.
pub(crate) const ROWS: usize = 8;

/// Columns whose filters are on their way from memory.
const AHEAD: usize = 4;

/// Filters as matrices, one a tap: rows are the channels that a product sums over, columns those that it answers.
#[derive(Clone, Copy)]
pub(crate) struct Filters {
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    /// Distance between filters of neighbouring rows and columns.
    row: usize,
    column: usize,
    /// Taps over time, height and width.
    pub(crate) taps: [usize; 3],
    /// From the last tap to the first: a data gradient's.
    flipped: bool,
}

impl Filters {
    /// The filters of a convolution.
    pub(crate) fn new(g: &Geometry) -> Self {
        let taps = g.taps();
        Self {
            rows: g.c_in,
            columns: g.c_out,
            row: taps,
            column: g.c_in * taps,
            taps: g.kernel,
            flipped: false,
        }
    }

    /// The filters of the convolution that the data gradient is.
    pub(crate) fn transposed(g: &Geometry) -> Self {
        let Self { rows, columns, row, column, taps, .. } = Self::new(g);
        Self { rows: columns, columns: rows, row: column, column: row, taps, flipped: true }
    }

    /// Columns, filled up with zeros to whole panels.
    pub(crate) fn padded<T: Scalar>(&self) -> usize {
        self.columns.next_multiple_of(columns::<T>())
    }

    pub(crate) fn all_taps(&self) -> usize {
        self.taps.iter().product()
    }

    /// Runs `task` for each panel of columns and block of [`ROWS`] rows, with memory for their filters as (tap, row,
    /// column).
    pub(crate) fn for_each_block<T: Scalar>(&self, task: impl Fn(Block, &mut [T]) + Sync) {
        let width = columns::<T>();
        let blocks = self.rows.div_ceil(ROWS);
        (0..self.columns.div_ceil(width) * blocks).into_par_iter().for_each(|index| {
            let block = Block { panel: index / blocks, first: index % blocks * ROWS, width };
            T::with_scratch(self.all_taps() * ROWS * width, |local| task(block, local));
        });
    }

    /// The filters of a block, zeros where there is none.
    pub(crate) fn gather<T: Scalar>(&self, w: &[T], block: Block, local: &mut [T]) {
        let (taps, width) = (self.all_taps(), block.width);
        let first = block.panel * width;
        let (there, rows) = (width.min(self.columns - first), ROWS.min(self.rows - block.first));
        if there < width {
            local.fill(T::zero());
        }
        // No processor sees by itself which filters come after those of a column; the next block's come after the last.
        let ahead = |column: usize, row: usize| {
            let (next, row) = match column + AHEAD < there {
                true => (column + AHEAD, row),
                false => (column + AHEAD - there, row + ROWS),
            };
            let from = w.as_ptr().wrapping_add((first + next) * self.column + (block.first + row) * self.row);
            for line in 0..(taps * size_of::<T>()).div_ceil(LINE) {
                prefetch(from.wrapping_add(line * LINE / size_of::<T>()));
            }
        };
        assert!(local.len() >= taps * ROWS * width, "a block has no room");
        for column in 0..there {
            for row in 0..rows {
                ahead(column, row);
                let from = (first + column) * self.column + (block.first + row) * self.row;
                let from = w[from..from + taps].as_ptr();
                let to = local.as_mut_ptr().wrapping_add(row * width + column);
                for tap in 0..taps {
                    let source = if self.flipped { taps - 1 - tap } else { tap };
                    // SAFETY: both have that many taps, and `row` and `column` are within a block.
                    unsafe { *to.add(tap * ROWS * width) = *from.add(source) };
                }
            }
        }
    }

    /// Writes a block's filters to their place.
    ///
    /// # Safety
    /// There is room for all filters, and these are the caller's alone.
    pub(crate) unsafe fn scatter<T: Scalar>(&self, local: &[T], block: Block, w: Place<T>) {
        let width = block.width;
        let first = block.panel * width;
        let taps = self.all_taps();
        assert!(local.len() >= taps * ROWS * width, "a block has no room");
        for column in 0..width.min(self.columns - first) {
            for row in 0..ROWS.min(self.rows - block.first) {
                let to = (first + column) * self.column + (block.first + row) * self.row;
                let from = local.as_ptr().wrapping_add(row * width + column);
                for tap in 0..taps {
                    // SAFETY: the caller's promise; `row` and `column` are within the block.
                    unsafe { w.at(to + tap).write(*from.add(tap * ROWS * width)) };
                }
            }
        }
    }

    /// All filters as (panel, tap, row, column of the panel).
    pub(crate) fn pack<T: Scalar>(&self, w: &[T]) -> Scratch<T> {
        let taps = self.all_taps();
        let mut packed = Scratch::new(taps * self.rows * self.padded::<T>());
        let shared = MatrixMut::new(&mut packed);
        self.for_each_block(|block, local| {
            self.gather(w, block, local);
            let (width, rows) = (block.width, ROWS.min(self.rows - block.first));
            for (tap, from) in local.chunks_exact(ROWS * width).enumerate() {
                let to = ((block.panel * taps + tap) * self.rows + block.first) * width;
                // SAFETY: these rows of this panel are this task's alone.
                unsafe { shared.slice(to, rows * width) }.copy_from_slice(&from[..rows * width]);
            }
        });
        packed
    }

    /// All filters from matrices (tap, row, column). Every one is written.
    ///
    /// # Safety
    /// There is room for all filters, and they are the caller's alone.
    pub(crate) unsafe fn unpack<T: Scalar>(&self, from: &[T], w: Place<T>) {
        self.for_each_block(|block, local| {
            let first = block.panel * block.width;
            let there = block.width.min(self.columns - first);
            for (tap, to) in local.chunks_exact_mut(ROWS * block.width).enumerate() {
                for (row, to) in to.chunks_exact_mut(block.width).enumerate() {
                    if block.first + row < self.rows {
                        let from = &from[(tap * self.rows + block.first + row) * self.columns + first..];
                        to[..there].copy_from_slice(&from[..there]);
                    }
                }
            }
            // SAFETY: this block is this task's alone.
            unsafe { self.scatter(local, block, w) };
        });
    }
}

/// Some filters: those of a panel of columns and of some rows.
#[derive(Clone, Copy)]
pub(crate) struct Block {
    pub(crate) panel: usize,
    /// The first row.
    pub(crate) first: usize,
    /// Columns of a panel.
    pub(crate) width: usize,
}

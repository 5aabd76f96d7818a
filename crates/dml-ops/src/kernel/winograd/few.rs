//! The filters' gradient of few tiles. The points of the filters outnumber those of the images many times: made in one go,
//! they would be written to memory and read back. Here they are made a block at a time, in the processor's own cache, and
//! are turned into taps at once.

use rayon::prelude::*;

use super::Time;
use super::axis::Axis;
use super::chunk::{Image, Points, Tiles};
use super::tile::{Gradients, Inputs};
use super::weights;
use crate::kernel::filters::{Filters, ROWS};
use crate::kernel::geometry::Geometry;
use crate::kernel::product::{Finish, Product, Run, columns};
use crate::kernel::result::Place;
use crate::kernel::scratch::Scratch;
use crate::kernel::{MatrixMut, Scalar};

/// Most tiles of a pass that goes this way.
const TILES: usize = 32;
/// Bytes of filters' points that are made at a time.
const BLOCK: usize = 480 << 10;

/// Whether a pass over so many tiles goes this way.
pub(super) fn serves(tiles: usize, time: Time) -> bool {
    time != Time::Whole && tiles <= TILES
}

/// The gradient of the weights. Every one is written.
///
/// # Safety
/// There is room for all weights, and they are the caller's alone.
pub(super) unsafe fn filter_gradient<T: Scalar, Sp: Axis, Ti: Axis>(
    g: &Geometry,
    filters: &Filters,
    x: &[T],
    dy: &[T],
    dw: Place<T>,
) {
    let (width, points) = (columns::<T>(), Sp::POINTS * Sp::POINTS * Ti::POINTS);
    // All tiles are one chunk.
    let tiles = Tiles::new::<u8, Sp, Ti>(g, 1, usize::MAX);
    let most = (BLOCK / (points * width * size_of::<T>()) / ROWS * ROWS).max(ROWS);
    let zeros = vec![T::zero(); g.c_in.max(g.c_out)];
    let step = [Ti::OUTPUTS, Sp::OUTPUTS, Sp::OUTPUTS];
    let inputs = Image { values: x, sizes: g.input, channels: g.c_in, zeros: &zeros, low: g.low, step };
    let gradients =
        Image { values: dy, sizes: g.output, channels: g.c_out, zeros: &zeros, low: [0; 3], step };
    let (row_v, row_q) = (g.c_in.next_multiple_of(width), filters.padded::<T>());
    let (stride_v, size_v) = Points::<T>::size(points, 1, row_v, &tiles);
    let (stride_q, size_q) = Points::<T>::size(points, 1, row_q, &tiles);
    let (mut v, mut q) = (Scratch::<T>::new(size_v), Scratch::<T>::new(size_q));
    let v = Points::new(&mut v, stride_v, row_v, &tiles);
    let q = Points::new(&mut q, stride_q, row_q, &tiles);
    v.fill::<Inputs<Sp>, Inputs<Ti>>(&inputs, 0..tiles.count, 1);
    q.fill::<Gradients<Sp>, Gradients<Ti>>(&gradients, 0..tiles.count, 1);
    let blocks = filters.rows.div_ceil(most);
    (0..row_q / width * blocks).into_par_iter().for_each(|task| {
        let (panel, first) = (task / blocks, task % blocks * most);
        let rows = first..(first + most).min(filters.rows);
        let point = rows.len() * width;
        let mut u = Scratch::<T>::new(points * point);
        let du = MatrixMut::new(&mut u);
        for p in 0..points {
            let product = Product {
                rows: rows.len(),
                columns: width,
                runs: &[Run { a: 0, b: 0, len: tiles.count }],
                a: v.values.start().wrapping_add(p * stride_v + first).cast_const(),
                a_row: 1,
                a_step: row_v,
                b: q.values.start().wrapping_add(p * stride_q + panel * width).cast_const(),
                b_panel: stride_q,
                b_step: row_q,
                c: du.start().wrapping_add(p * point),
                c_row: width,
                finish: Finish::Store,
            };
            // SAFETY: the operands have those rows and columns; the points are this task's alone.
            unsafe { product.run() };
        }
        // SAFETY: these rows of this panel are this task's alone.
        unsafe { weights::block_from_points::<T, Sp, Ti>(filters, &u, panel, rows, dw) };
    });
}

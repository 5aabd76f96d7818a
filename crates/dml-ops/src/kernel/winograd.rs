//! Winograd's minimal filtering for convolutions of stride 1: fewer products for more additions.
//!
//! Space is cut into tiles of 4 × 4 outputs (2 × 2 for filters of 5 × 5), time into tiles of 4 or 2, or not at all: then the
//! taps over time are summed in the product. A pass transforms the tiles of a chunk to points, multiplies each point's
//! matrix (tiles × channels) with the filters' (channels × channels), and transforms back (Lavin and Gray, CVPR 2016; in
//! more dimensions Jia, Zlateski, Durand and Li, PPoPP 2018). A data gradient is the same pass with flipped filters; a
//! weight gradient multiplies the points of the inputs with those of the gradients.

use std::marker::PhantomData;

use rayon::prelude::*;

use super::after::After;
use super::filters::Filters;
use super::geometry::Geometry;
use super::product::{Finish, Product, Run, columns};
use super::result::Place;
use super::scratch::Scratch;
use super::simd::dispatch;
use super::{MatrixMut, Scalar};
use axis::{Axis, F23, F25, F43, MOST, One};
use chunk::{FromPoints, Image, Points, TILES, Tiles, ToPoints};
use few::filter_gradient as few_tiles;
use tile::{Gradients, Inputs};

mod axis;
mod chunk;
mod few;
mod tile;
mod weights;

/// Bytes of points that a chunk keeps at a time, at least and at most. The filters' points are read once a chunk, their
/// gradients read and written: the larger they are, the fewer chunks; with few the chunk stays in the last-level cache.
const CHUNK: [usize; 2] = [6 << 20, 24 << 20];
const GRADIENT_CHUNK: [usize; 2] = [12 << 20, 64 << 20];
/// Bytes of filters' points up to which every task has a chunk of its own, and bytes of inputs' points in that: both fit
/// the caches, the filters' the last level, the inputs' the processor's own.
const OWN_FILTERS: usize = 12 << 20;
const OWN_CHUNK: usize = 900 << 10;

/// How the time axis is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Time {
    /// Frame by frame.
    Whole,
    /// Two outputs a tile.
    Two,
    /// Four outputs a tile.
    Four,
}

/// Whether this algorithm can do that convolution.
pub(crate) fn serves(g: &Geometry, time: Time) -> bool {
    let [kt, kh, kw] = g.kernel;
    let square = kh == kw && (kh == 3 || kh == 5 && time == Time::Whole);
    let padded = (0..3).all(|axis| g.low[axis] < g.kernel[axis]);
    square && padded && g.stride == [1; 3] && (time == Time::Whole || kt == 3)
}

/// Outputs of a tile over (time, height, width).
pub(crate) fn tile(g: &Geometry, time: Time) -> [usize; 3] {
    let side = if g.kernel[1] == 5 { F25::OUTPUTS } else { F43::OUTPUTS };
    let frames = match time {
        Time::Whole => One::OUTPUTS,
        Time::Two => F23::OUTPUTS,
        Time::Four => F43::OUTPUTS,
    };
    [frames, side, side]
}

/// Tiles of a pass.
fn tiles(g: &Geometry, time: Time) -> usize {
    let over = tile(g, time);
    let frames = if time == Time::Whole { 1 } else { g.output[0].div_ceil(over[0]) };
    g.batch * frames * g.output[1].div_ceil(over[1]) * g.output[2].div_ceil(over[2])
}

/// What this algorithm costs, in multiply-adds at the processor's peak. The factors fit the layers of C3D, measured at
/// batch 1 and 4 on two cores; they say what moving a value costs, in memory that is too large for the caches.
pub(crate) fn cost(g: &Geometry, time: Time, of_weights: bool) -> f64 {
    let [frames, side, _] = tile(g, time);
    let spatial = (side + g.kernel[1] - 1).pow(2);
    let tiles = g.batch * g.output[1].div_ceil(side) * g.output[2].div_ceil(side);
    let (c_in, c_out) = (g.c_in as f64, g.c_out.next_multiple_of(columns::<f32>()) as f64);
    // Matrices of a point and their rows, and matrices of filters.
    let (points, rows, rows_in, rows_out, filters) = match time {
        Time::Whole => {
            let seen: usize = (0..g.kernel[0]).map(|tap| g.valid(0, tap).len()).sum();
            (spatial, tiles * seen, tiles * g.input[0], tiles * g.output[0], g.kernel[0])
        }
        _ => {
            let rows = tiles * g.output[0].div_ceil(frames);
            (spatial * (frames + 2), rows, rows, rows, 1)
        }
    };
    let products = (points * rows) as f64 * c_in * c_out;
    // Points of filters' gradients are summed in memory and gathered from far apart, unless tiles are few.
    let (value, filter) = match of_weights {
        true if few::serves(self::tiles(g, time), time) => (64.0, 30.0),
        true => (64.0, 64.0),
        false => (44.0, 50.0),
    };
    let values = rows_in as f64 * c_in + rows_out as f64 * c_out;
    products + points as f64 * (value * values + filter * filters as f64 * c_in * c_out)
}

macro_rules! by_axes {
    ($g:expr, $time:expr, $pass:ident ( $($argument:expr),* )) => {
        match ($g.kernel[1], $time) {
            (5, _) => $pass::<T, F25, One>($($argument),*),
            (_, Time::Whole) => $pass::<T, F43, One>($($argument),*),
            (_, Time::Two) => $pass::<T, F43, F23>($($argument),*),
            (_, Time::Four) => $pass::<T, F43, F43>($($argument),*),
        }
    };
}

/// The convolution of x with the weights (outputs, inputs, taps).
pub(crate) fn forward<T: Scalar>(g: &Geometry, time: Time, x: &[T], w: &[T], after: &After<T>) {
    let filters = Filters::new(g);
    by_axes!(g, time, pass(g, &filters, x, w, after));
}

/// The gradient of x: a convolution of the gradient with the flipped filters.
pub(crate) fn data_gradient<T: Scalar>(g: &Geometry, time: Time, w: &[T], dy: &[T], after: &After<T>) {
    let filters = Filters::transposed(g);
    by_axes!(g, time, pass(&g.transposed(), &filters, dy, w, after));
}

/// The gradient of the weights. Every one is written.
///
/// # Safety
/// There is room for all weights, and they are the caller's alone.
pub(crate) unsafe fn weight_gradient<T: Scalar>(g: &Geometry, time: Time, x: &[T], dy: &[T], dw: Place<T>) {
    let filters = Filters::new(g);
    if few::serves(tiles(g, time), time) {
        // SAFETY: the caller's promise.
        return unsafe { by_axes!(g, time, few_tiles(g, &filters, x, dy, dw)) };
    }
    // SAFETY: the caller's promise.
    unsafe { by_axes!(g, time, filter_gradient(g, &filters, x, dy, dw)) };
}

fn pass<T: Scalar, Sp: Axis, Ti: Axis>(g: &Geometry, filters: &Filters, x: &[T], w: &[T], after: &After<T>) {
    let width = columns::<T>();
    let (row_v, row_m) = (g.c_in.next_multiple_of(width), filters.padded::<T>());
    let points = Sp::POINTS * Sp::POINTS * Ti::POINTS;
    let frames = if Ti::POINTS == 1 { [g.input[0], g.output[0]] } else { [1, 1] };
    let filter_bytes = points * weights::point::<T, Ti>(filters) * size_of::<T>();
    if Ti::POINTS > 1 && filter_bytes <= OWN_FILTERS {
        return own_chunks::<T, Sp, Ti>(g, filters, x, w, after);
    }
    let chunk = (filter_bytes / 2).clamp(CHUNK[0], CHUNK[1]);
    let tiles = Tiles::new::<T, Sp, Ti>(g, points * (frames[0] * row_v + frames[1] * row_m), chunk);
    let mut u = Scratch::<T>::new(points * weights::point::<T, Ti>(filters));
    weights::to_points::<T, Sp, Ti>(filters, w, &mut u);
    let (stride_v, size_v) = Points::<T>::size(points, frames[0], row_v, &tiles);
    let (stride_m, size_m) = Points::<T>::size(points, frames[1], row_m, &tiles);
    let (mut v, mut m) = (Scratch::<T>::new(size_v), Scratch::<T>::new(size_m));
    let v = Points::new(&mut v, stride_v, row_v, &tiles);
    let m = Points::new(&mut m, stride_m, row_m, &tiles);
    let zeros = vec![T::zero(); g.c_in];
    let step = [Ti::OUTPUTS, Sp::OUTPUTS, Sp::OUTPUTS];
    let image = Image { values: x, sizes: g.input, channels: g.c_in, zeros: &zeros, low: g.low, step };
    let (slices, point) = (weights::slices::<Ti>(filters), weights::point::<T, Ti>(filters));
    for chunk in tiles.chunks() {
        v.fill::<Inputs<Sp>, Inputs<Ti>>(&image, chunk.clone(), frames[0]);
        let rows = chunk.len();
        (0..points * frames[1]).into_par_iter().for_each(|task| {
            let (p, frame) = (task / frames[1], task % frames[1]);
            let mut runs = [Run { a: 0, b: 0, len: 0 }; MOST];
            let mut count = 0;
            for slice in 0..slices {
                let from = if Ti::POINTS == 1 { (frame + slice).wrapping_sub(g.low[0]) } else { frame };
                if from < frames[0] {
                    let b = slice * filters.rows * width;
                    runs[count] = Run { a: from * rows * row_v, b, len: g.c_in };
                    count += 1;
                }
            }
            let product = Product {
                rows,
                columns: row_m,
                runs: &runs[..count],
                a: v.values.start().wrapping_add(p * stride_v).cast_const(),
                a_row: row_v,
                a_step: 1,
                b: u[p * point..].as_ptr(),
                b_panel: slices * filters.rows * width,
                b_step: width,
                c: m.values.start().wrapping_add(p * stride_m + frame * rows * row_m),
                c_row: row_m,
                finish: Finish::Store,
            };
            // SAFETY: the operands have those rows and columns; this frame of this point is this task's alone.
            unsafe { product.run() };
        });
        // Frames that are pooled together are handed on together.
        let set = match after.windows {
            Some(windows) if Ti::POINTS == 1 => windows.size[0],
            _ => 1,
        };
        let sets = frames[1].div_ceil(set);
        (0..rows.div_ceil(TILES) * sets).into_par_iter().for_each(|task| {
            let first = task / sets * TILES;
            let task = FromPoints::<T, Sp, Ti> {
                points: &m,
                after,
                chunk: chunk.start,
                tiles: first..(first + TILES).min(rows),
                in_chunk: rows,
                frames: task % sets * set..(task % sets * set + set).min(frames[1]),
                channels: 0..after.channels,
                axes: PhantomData,
            };
            dispatch(task);
        });
    }
}

/// The pass where the filters are small: a task takes few tiles all the way, a panel of outputs at a time, so that their
/// points stay in its processor's cache.
fn own_chunks<T: Scalar, Sp: Axis, Ti: Axis>(
    g: &Geometry,
    filters: &Filters,
    x: &[T],
    w: &[T],
    after: &After<T>,
) {
    let width = columns::<T>();
    let row_v = g.c_in.next_multiple_of(width);
    let points = Sp::POINTS * Sp::POINTS * Ti::POINTS;
    let point = weights::point::<T, Ti>(filters);
    let tiles = Tiles::new::<T, Sp, Ti>(g, points * row_v, OWN_CHUNK);
    let mut u = Scratch::<T>::new(points * point);
    weights::to_points::<T, Sp, Ti>(filters, w, &mut u);
    let (stride_v, size_v) = Points::<T>::size(points, 1, row_v, &tiles);
    let (stride_m, size_m) = Points::<T>::size(points, 1, width, &tiles);
    let zeros = vec![T::zero(); g.c_in];
    let step = [Ti::OUTPUTS, Sp::OUTPUTS, Sp::OUTPUTS];
    let image = Image { values: x, sizes: g.input, channels: g.c_in, zeros: &zeros, low: g.low, step };
    let chunks: Vec<_> = tiles.chunks().collect();
    chunks.into_par_iter().for_each(|chunk| {
        let (mut v, mut m) = (Scratch::<T>::new(size_v), Scratch::<T>::new(size_m));
        let v = Points::new(&mut v, stride_v, row_v, &tiles);
        let m = Points::new(&mut m, stride_m, width, &tiles);
        let rows = chunk.len();
        dispatch(ToPoints::<T, Inputs<Sp>, Inputs<Ti>> {
            image: &image,
            points: &v,
            chunk: chunk.start,
            tiles: 0..rows,
            in_chunk: rows,
            frame: 0,
            axes: PhantomData,
        });
        for panel in 0..filters.padded::<T>() / width {
            for p in 0..points {
                let product = Product {
                    rows,
                    columns: width,
                    runs: &[Run { a: 0, b: 0, len: g.c_in }],
                    a: v.values.start().wrapping_add(p * stride_v).cast_const(),
                    a_row: row_v,
                    a_step: 1,
                    b: u[p * point + panel * g.c_in * width..].as_ptr(),
                    // The next point's panel is what the cache should hold next.
                    b_panel: point,
                    b_step: width,
                    c: m.values.start().wrapping_add(p * stride_m),
                    c_row: width,
                    finish: Finish::Store,
                };
                // SAFETY: the operands have those rows and columns; the chunk is this task's alone.
                unsafe { product.run() };
            }
            dispatch(FromPoints::<T, Sp, Ti> {
                points: &m,
                after,
                chunk: chunk.start,
                tiles: 0..rows,
                in_chunk: rows,
                frames: 0..1,
                channels: panel * width..((panel + 1) * width).min(after.channels),
                axes: PhantomData,
            });
        }
    });
}

/// # Safety
/// That of [`weight_gradient`].
unsafe fn filter_gradient<T: Scalar, Sp: Axis, Ti: Axis>(
    g: &Geometry,
    filters: &Filters,
    x: &[T],
    dy: &[T],
    dw: Place<T>,
) {
    let width = columns::<T>();
    let (row_v, row_q) = (g.c_in.next_multiple_of(width), filters.padded::<T>());
    let points = Sp::POINTS * Sp::POINTS * Ti::POINTS;
    let frames = if Ti::POINTS == 1 { [g.input[0], g.output[0]] } else { [1, 1] };
    let filter_bytes = points * weights::point::<T, Ti>(filters) * size_of::<T>();
    let chunk = (2 * filter_bytes).clamp(GRADIENT_CHUNK[0], GRADIENT_CHUNK[1]);
    let tiles = Tiles::new::<T, Sp, Ti>(g, points * (frames[0] * row_v + frames[1] * row_q), chunk);
    let (stride_v, size_v) = Points::<T>::size(points, frames[0], row_v, &tiles);
    let (stride_q, size_q) = Points::<T>::size(points, frames[1], row_q, &tiles);
    let (mut v, mut q) = (Scratch::<T>::new(size_v), Scratch::<T>::new(size_q));
    let v = Points::new(&mut v, stride_v, row_v, &tiles);
    let q = Points::new(&mut q, stride_q, row_q, &tiles);
    let (slices, point) = (weights::slices::<Ti>(filters), weights::point::<T, Ti>(filters));
    let mut u = Scratch::<T>::new(points * point);
    let du = MatrixMut::new(&mut u);
    let zeros = vec![T::zero(); g.c_in.max(g.c_out)];
    let step = [Ti::OUTPUTS, Sp::OUTPUTS, Sp::OUTPUTS];
    let inputs = Image { values: x, sizes: g.input, channels: g.c_in, zeros: &zeros, low: g.low, step };
    let gradients =
        Image { values: dy, sizes: g.output, channels: g.c_out, zeros: &zeros, low: [0; 3], step };
    for chunk in tiles.chunks() {
        v.fill::<Inputs<Sp>, Inputs<Ti>>(&inputs, chunk.clone(), frames[0]);
        q.fill::<Gradients<Sp>, Gradients<Ti>>(&gradients, chunk.clone(), frames[1]);
        let rows = chunk.len();
        (0..points * slices).into_par_iter().for_each(|task| {
            let (p, slice) = (task / slices, task % slices);
            let runs: Vec<Run> = (0..frames[1])
                .filter_map(|frame| {
                    let from = if Ti::POINTS == 1 { (frame + slice).wrapping_sub(g.low[0]) } else { frame };
                    let run = Run { a: from.wrapping_mul(rows * row_v), b: frame * rows * row_q, len: rows };
                    (from < frames[0]).then_some(run)
                })
                .collect();
            let product = Product {
                rows: g.c_in,
                columns: row_q,
                runs: &runs,
                a: v.values.start().wrapping_add(p * stride_v).cast_const(),
                a_row: 1,
                a_step: row_v,
                b: q.values.start().wrapping_add(p * stride_q).cast_const(),
                b_panel: width,
                b_step: row_q,
                c: du.start().wrapping_add(p * point + slice * g.c_in * row_q),
                c_row: row_q,
                finish: if chunk.start == 0 { Finish::Store } else { Finish::Add },
            };
            // SAFETY: the operands have those rows and columns; this slice of this point is this task's alone.
            unsafe { product.run() };
        });
    }
    // SAFETY: the caller's promise.
    unsafe { weights::from_points::<T, Sp, Ti>(filters, &u, dw) };
}

//! Convolution as it is written: a sum over the kernel's taps, of any size, stride and padding.
//!
//! In channels-last order the inputs that one row of a kernel sees are neighbours in memory, so the sum is a matrix
//! product whose left operand is the image itself: no columns are copied. Only the padding at the ends of a row is.

use std::ops::Range;

use rayon::prelude::*;

use super::after::After;
use super::filters::Filters;
use super::geometry::{Geometry, part, parts};
use super::pool::Pooling;
use super::product::{Finish, Product, Run, columns};
use super::result::Place;
use super::scratch::Scratch;
use super::{MatrixMut, Scalar};

/// Bytes of weights, or of their gradients, that stay in a processor's own cache beside the rest.
const CACHED: usize = 256 << 10;
/// Positions that a task computes, at least.
const POSITIONS: usize = 512;
/// Rows of a kernel that one product takes.
const RUNS: usize = 16;
/// Parts of the positions whose weight gradients are summed one by one.
const SLABS: usize = 16;

/// An image whose rows begin and end with the zeros that windows reach.
struct Padded<'a, T: Scalar> {
    copy: Option<Scratch<T>>,
    values: &'a [T],
    /// Values of a row.
    row: usize,
}

impl<'a, T: Scalar> Padded<'a, T> {
    fn new(g: &Geometry, x: &'a [T]) -> Self {
        let [_, _, width] = g.input;
        let (c, low) = (g.c_in, g.low[2]);
        let reach = (g.output[2] - 1) * g.stride[2] + g.kernel[2];
        if low == 0 && reach <= width {
            return Self { copy: None, values: x, row: width * c };
        }
        let row = reach.max(low + width) * c;
        let mut copy = Scratch::new(x.len() / (width * c) * row);
        copy.par_chunks_mut(row).zip(x.par_chunks(width * c)).for_each(|(to, from)| {
            to[..low * c].fill(T::zero());
            to[low * c..low * c + from.len()].copy_from_slice(from);
            to[low * c + from.len()..].fill(T::zero());
        });
        Self { copy: Some(copy), values: &[], row }
    }

    fn start(&self) -> &[T] {
        self.copy.as_deref().unwrap_or(self.values)
    }
}

/// The rows of an image's outputs, and the taps over time and height that see the image.
struct Rows<'a> {
    g: &'a Geometry,
    /// Values of a row of the (padded) image.
    row: usize,
}

impl Rows<'_> {
    fn count(&self) -> usize {
        self.g.batch * self.g.output[0] * self.g.output[1]
    }

    /// Where the image's row begins that the first tap of output row `index` sees through tap (kt, kh); none if it is
    /// padding.
    fn input(&self, index: usize, tap: usize) -> Option<usize> {
        let g = self.g;
        let [times, height, _] = g.input;
        let (n, t, h) =
            (index / (g.output[0] * g.output[1]), index / g.output[1] % g.output[0], index % g.output[1]);
        let t = (t * g.stride[0] + tap / g.kernel[1]).wrapping_sub(g.low[0]);
        let h = (h * g.stride[1] + tap % g.kernel[1]).wrapping_sub(g.low[1]);
        (t < times && h < height).then(|| ((n * times + t) * height + h) * self.row)
    }

    /// The sums over some taps for some places of a row and some outputs, which start at a panel, into `to`.
    ///
    /// # Safety
    /// The places and outputs, with all outputs a row apart, can be written at `to` and are the caller's alone; `x` and
    /// `packed` are the padded image and all packed weights.
    #[allow(clippy::too_many_arguments)]
    unsafe fn product<T: Scalar>(
        &self,
        x: &[T],
        packed: &[T],
        row: usize,
        places: Range<usize>,
        outputs: Range<usize>,
        taps: &[usize],
        to: *mut T,
        finish: Finish<T>,
    ) {
        let g = self.g;
        let (line, width) = (g.kernel[2] * g.c_in, columns::<T>());
        let panel = g.taps() * g.c_in * width;
        let runs: Vec<Run> = taps
            .iter()
            .filter_map(|&tap| Some(Run { a: self.input(row, tap)?, b: tap * line * width, len: line }))
            .collect();
        let product = Product {
            rows: places.len(),
            columns: outputs.len(),
            runs: &runs,
            a: x.as_ptr().wrapping_add(places.start * g.stride[2] * g.c_in),
            a_row: g.stride[2] * g.c_in,
            a_step: 1,
            b: packed.as_ptr().wrapping_add(outputs.start / width * panel),
            b_panel: panel,
            b_step: width,
            c: to,
            c_row: g.c_out,
            finish,
        };
        // SAFETY: the runs lie in the padded rows; the caller's promise.
        unsafe { product.run() };
    }
}

/// The convolution of x with the weights (outputs, inputs, taps); `after` has no windows.
pub(crate) fn forward<T: Scalar>(g: &Geometry, x: &[T], w: &[T], after: &After<T>) {
    convolve(g, x, &Filters::new(g).pack(w), after);
}

/// The convolution and a max pooling of its outputs, a row of windows at a time.
pub(crate) fn forward_pooled<T: Scalar>(g: &Geometry, x: &[T], w: &[T], pooling: &Pooling, after: &After<T>) {
    let packed = Filters::new(g).pack(w);
    let width = g.output[2] * g.c_out;
    let lines = pooling.kernel[0] * pooling.kernel[1];
    if packed.len() * size_of::<T>() > CACHED {
        let mut z = Scratch::<T>::new(g.batch * g.out_positions() * g.c_out);
        convolve(g, x, &packed, &After::raw(g.c_out, g.output, z.as_mut_ptr()));
        return pooling.forward(&z, after);
    }
    let padded = Padded::new(g, x);
    let (rows, x) = (Rows { g, row: padded.row }, padded.start());
    let taps: Vec<usize> = (0..g.kernel[0] * g.kernel[1]).collect();
    (0..pooling.rows()).into_par_iter().for_each(|row| {
        T::with_scratch(lines * width, |sums| {
            let sums = MatrixMut::new(sums);
            let mut seen = Vec::with_capacity(lines);
            for (index, (line, place)) in pooling.lines(row).enumerate() {
                let to = sums.start().wrapping_add(index * width);
                // SAFETY: the sums have room for every line of a window.
                unsafe {
                    rows.product(x, &packed, line, 0..g.output[2], 0..g.c_out, &taps, to, Finish::Store)
                };
                seen.push((to.cast_const(), place));
            }
            // SAFETY: the lines were just written; this row of windows is this task's alone.
            unsafe { pooling.row(row, &seen, after) };
        });
    });
}

/// The gradient of x: a convolution of the gradient, with zeros between its values where strides are, with the flipped
/// weights. `after` has no windows.
pub(crate) fn data_gradient<T: Scalar>(g: &Geometry, w: &[T], dy: &[T], after: &After<T>) {
    let mut back = *g;
    (back.c_in, back.c_out, back.output, back.stride) = (g.c_out, g.c_in, g.input, [1; 3]);
    // Outputs before the first that sees more than padding have no part in it.
    let mut skipped = [0; 3];
    for axis in 0..3 {
        let reach = g.kernel[axis] - 1;
        back.low[axis] = reach.saturating_sub(g.low[axis]);
        skipped[axis] = g.low[axis].saturating_sub(reach);
        let spread = (g.output[axis] - 1) * g.stride[axis] + 1;
        back.input[axis] = spread.saturating_sub(skipped[axis]).max(1);
    }
    let spread = spread(g, dy, skipped, back.input);
    convolve(&back, spread.as_deref().unwrap_or(dy), &Filters::transposed(g).pack(w), after);
}

/// The gradient with `stride − 1` zeros between its values, without the first `skipped`.
fn spread<T: Scalar>(
    g: &Geometry,
    dy: &[T],
    skipped: [usize; 3],
    [t, h, w]: [usize; 3],
) -> Option<Scratch<T>> {
    if g.stride == [1; 3] && skipped == [0; 3] {
        return None;
    }
    let c = g.c_out;
    let mut spread = Scratch::new(g.batch * t * h * w * c);
    spread.fill(T::zero());
    let place = |axis: usize, index: usize| (index * g.stride[axis]).checked_sub(skipped[axis]);
    for (index, from) in dy.chunks_exact(g.output[2] * c).enumerate() {
        let (n, rest) = (index / (g.output[0] * g.output[1]), index % (g.output[0] * g.output[1]));
        let (time, row) = (place(0, rest / g.output[1]), place(1, rest % g.output[1]));
        let Some((time, row)) = time.zip(row) else { continue };
        for (column, from) in from.chunks_exact(c).enumerate() {
            if let Some(column) = place(2, column) {
                spread[(((n * t + time) * h + row) * w + column) * c..][..c].copy_from_slice(from);
            }
        }
    }
    Some(spread)
}

fn convolve<T: Scalar>(g: &Geometry, x: &[T], packed: &[T], after: &After<T>) {
    let padded = Padded::new(g, x);
    let (rows, x) = (Rows { g, row: padded.row }, padded.start());
    let [kt, kh, kw] = g.kernel;
    let width = columns::<T>();
    // Taps whose weights of a panel stay in the cache while all rows of the task pass by.
    let small = size_of_val(packed) <= CACHED;
    let most = if small { kt * kh } else { CACHED / (kw * g.c_in * width * size_of::<T>()) };
    let group = most.clamp(1, RUNS.min(kt * kh));
    // Where rows and their inputs follow one another without a gap, all are one.
    let (count, length) = match g.is_pointwise() {
        true => (1, rows.count() * g.output[2]),
        false => (rows.count(), g.output[2]),
    };
    let block = POSITIONS.div_ceil(length);
    let pieces = if g.is_pointwise() { length.div_ceil(POSITIONS) } else { 1 };
    let panels = if small { 1 } else { g.c_out.div_ceil(width) };
    let all: Vec<usize> = (0..kt * kh).collect();
    (0..count.div_ceil(block) * pieces * panels).into_par_iter().for_each(|task| {
        let (panel, task) = (task % panels, task / panels);
        let (piece, first) = (task % pieces, task / pieces);
        let outputs = if small { 0..g.c_out } else { part(panel, width, g.c_out) };
        let places = if pieces > 1 { part(piece, POSITIONS, length) } else { 0..length };
        for (index, taps) in all.chunks(group).enumerate() {
            let end = (index + 1) * group >= kt * kh;
            let bias = match after.bias.is_null() {
                true => after.bias,
                false => after.bias.wrapping_add(outputs.start),
            };
            let finish = match (index, end) {
                (0, false) => Finish::Store,
                (_, false) => Finish::Add,
                (_, true) => Finish::Layer { add: index > 0, bias, activation: after.activation },
            };
            for row in part(first, block, count) {
                let to = (row * length + places.start) * g.c_out + outputs.start;
                let to = after.y.wrapping_add(to);
                // SAFETY: these outputs are this task's alone.
                unsafe { rows.product(x, packed, row, places.clone(), outputs.clone(), taps, to, finish) };
            }
        }
    });
}

/// The gradient of the weights (outputs, inputs, taps). Every one is written.
///
/// # Safety
/// There is room for all weights, and they are the caller's alone.
pub(crate) unsafe fn weight_gradient<T: Scalar>(g: &Geometry, x: &[T], dy: &[T], dw: Place<T>) {
    let padded = Padded::new(g, x);
    let (rows, x) = (Rows { g, row: padded.row }, padded.start());
    let [kt, kh, kw] = g.kernel;
    let (line, c_out) = (kw * g.c_in, g.c_out);
    let size = kt * kh * line * c_out;
    let step = POSITIONS.div_ceil(g.output[2]);
    // Adds the products of some rows for a tap to the weights' gradients of some outputs.
    let add = |sums: MatrixMut<T>, at: Range<usize>, tap: usize, outputs: Range<usize>, finish: Finish<T>| {
        let runs: Vec<Run> = at
            .filter_map(|row| {
                let a = rows.input(row, tap)?;
                Some(Run { a, b: row * g.output[2] * c_out + outputs.start, len: g.output[2] })
            })
            .collect();
        let product = Product {
            rows: line,
            columns: outputs.len(),
            runs: &runs,
            a: x.as_ptr(),
            a_row: 1,
            a_step: g.stride[2] * g.c_in,
            b: dy.as_ptr(),
            b_panel: columns::<T>(),
            b_step: c_out,
            c: sums.start().wrapping_add(tap * line * c_out + outputs.start),
            c_row: c_out,
            finish,
        };
        // SAFETY: the runs lie in the rows; the sums of this tap and these outputs are the caller's alone.
        unsafe { product.run() };
    };
    let finish = |first: bool| if first { Finish::Store } else { Finish::Add };
    let mut sums;
    if size * size_of::<T>() <= CACHED {
        let slab = rows.count().div_ceil(SLABS);
        let slabs = rows.count().div_ceil(slab);
        sums = Scratch::new(slabs * size);
        sums.par_chunks_mut(size).enumerate().for_each(|(index, sums)| {
            let sums = MatrixMut::new(sums);
            let all = part(index, slab, rows.count());
            for at in parts(all.len(), step) {
                let first = at.start == 0;
                let at = all.start + at.start..all.start + at.end;
                for tap in 0..kt * kh {
                    add(sums, at.clone(), tap, 0..c_out, finish(first));
                }
            }
        });
        let (first, rest) = sums.split_at_mut(size);
        for slab in rest.chunks_exact(size) {
            for (sum, &x) in first.iter_mut().zip(slab) {
                *sum += x;
            }
        }
    } else {
        sums = Scratch::new(size);
        let shared = MatrixMut::new(&mut sums);
        let width = columns::<T>();
        let panels = c_out.div_ceil(width);
        (0..kt * kh * panels).into_par_iter().for_each(|task| {
            for at in parts(rows.count(), 4 * step) {
                let first = at.start == 0;
                add(shared, at, task / panels, part(task % panels, width, c_out), finish(first));
            }
        });
    }
    // SAFETY: the caller's promise.
    unsafe { Filters::new(g).unpack(&sums[..size], dw) };
}

/// What a direct convolution costs, in the measure of [`winograd::cost`](super::winograd::cost): its sums, and copying its
/// weights.
pub(crate) fn cost(g: &Geometry, of_weights: bool) -> f64 {
    let seen = |axis: usize| (0..g.kernel[axis]).map(|tap| g.valid(axis, tap).len()).sum::<usize>();
    let terms = seen(0) * seen(1) * g.output[2] * g.kernel[2];
    let c_out = g.c_out.next_multiple_of(columns::<f32>()) as f64;
    let (term, weight) = if of_weights { (1.35, 65.0) } else { (1.0, 80.0) };
    term * (g.batch * terms * g.c_in) as f64 * c_out + weight * (g.taps() * g.c_in) as f64 * c_out
}

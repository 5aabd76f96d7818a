//! Max pooling of channels-last images over (time, height, width), with the places of the maxima kept for the gradient.

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::after::{After, Best, gate};
use super::scratch::Scratch;
use super::simd::{Lane, Real, dispatch};
use super::{MatrixMut, Scalar};
use crate::Activation;

/// The sizes of a pooling; in two dimensions the time has one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pooling {
    pub(crate) batch: usize,
    pub(crate) channels: usize,
    pub(crate) input: [usize; 3],
    pub(crate) kernel: [usize; 3],
    pub(crate) stride: [usize; 3],
    pub(crate) low: [usize; 3],
    pub(crate) output: [usize; 3],
}

impl Pooling {
    pub(crate) fn outputs(&self) -> usize {
        self.batch * self.channels * self.output.iter().product::<usize>()
    }

    /// Rows of windows.
    pub(crate) fn rows(&self) -> usize {
        self.batch * self.output[0] * self.output[1]
    }

    /// The inputs along an axis that a window covers, and how many of its elements come before them.
    fn range(&self, axis: usize, index: usize) -> (std::ops::Range<usize>, usize) {
        let start = index * self.stride[axis];
        let end = (start + self.kernel[axis]).saturating_sub(self.low[axis]).min(self.input[axis]);
        (start.saturating_sub(self.low[axis])..end, self.low[axis].saturating_sub(start))
    }

    /// The rows of inputs that a row of windows sees: which rows of the image, in the order of its windows, and the
    /// place in a window of the first element of each.
    pub(crate) fn lines(&self, row: usize) -> impl Iterator<Item = (usize, usize)> + use<> {
        let (n, a, b) = (
            row / (self.output[0] * self.output[1]),
            row / self.output[1] % self.output[0],
            row % self.output[1],
        );
        let ((times, before_t), (lines, before_h)) = (self.range(0, a), self.range(1, b));
        let Self { input: [all, height, _], kernel: [_, kh, kw], .. } = *self;
        times.clone().flat_map(move |t| {
            let lines = lines.clone();
            let start = lines.start;
            let f = t - times.start + before_t;
            lines.map(move |h| ((n * all + t) * height + h, (f * kh + h - start + before_h) * kw))
        })
    }

    /// Whether every input belongs to exactly one window.
    fn is_partition(&self) -> bool {
        (0..3).all(|axis| {
            self.kernel[axis] == self.stride[axis]
                && self.low[axis] == 0
                && self.output[axis] * self.stride[axis] >= self.input[axis]
        })
    }

    /// The pooled image, into `after.y` and `after.places`, with bias and activation.
    pub(crate) fn forward<T: Scalar>(&self, x: &[T], after: &After<T>) {
        let width = self.input[2] * self.channels;
        (0..self.rows()).into_par_iter().for_each(|row| {
            let lines: Vec<_> =
                self.lines(row).map(|(line, place)| (x[line * width..].as_ptr(), place)).collect();
            // SAFETY: the lines are the image's; this row of the result is this task's alone.
            unsafe { self.row(row, &lines, after) };
        });
    }

    /// One row of windows, from the first value of each row of inputs and its place.
    ///
    /// # Safety
    /// The rows of inputs can be read; the row of results is the caller's alone.
    pub(crate) unsafe fn row<T: Real>(&self, row: usize, lines: &[(*const T, usize)], after: &After<T>) {
        dispatch(Row { pooling: self, row, lines, after });
    }

    /// The gradient of the inputs, written whole.
    pub(crate) fn backward<T: Scalar>(&self, dy: &[T], places: &[u8], dx: &mut [T]) {
        let partition = self.is_partition();
        if !partition {
            dx.par_chunks_mut(1 << 16).for_each(|dx| dx.fill(T::zero()));
        }
        let dx = MatrixMut::new(dx);
        let task = |row| {
            dispatch(RowGradient {
                pooling: self,
                row,
                add: !partition,
                dy: dy.as_ptr(),
                places: places.as_ptr(),
                dx: dx.start(),
            });
        };
        let apart = (0..2).all(|axis| self.kernel[axis] <= self.stride[axis]);
        if apart {
            (0..self.rows()).into_par_iter().for_each(task);
        } else {
            // Rows of windows overlap: each sample is one task.
            let rows = self.output[0] * self.output[1];
            (0..self.batch).into_par_iter().for_each(|n| (n * rows..(n + 1) * rows).for_each(task));
        }
    }
}

struct Row<'a, T> {
    pooling: &'a Pooling,
    row: usize,
    lines: &'a [(*const T, usize)],
    after: &'a After<T>,
}

impl<T: Real> WithSimd for Row<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let Self { pooling, row, lines, after } = self;
        let (channels, lanes) = (pooling.channels, T::lanes::<S>());
        let infinity = Lane::splat(s, T::of(f64::NEG_INFINITY));
        for column in 0..pooling.output[2] {
            let (columns, before) = pooling.range(2, column);
            let to = (row * pooling.output[2] + column) * channels;
            let mut channel = 0;
            while channel < channels {
                let left = channels - channel;
                let mut best = Best::lowest(s, infinity);
                for &(line, place) in lines {
                    for j in columns.clone() {
                        // SAFETY: the caller's promise.
                        let x = unsafe { Lane::load_up_to(s, line.add(j * channels + channel), left) };
                        best.see(s, x, place + j - columns.start + before);
                    }
                }
                // SAFETY: the caller's promise.
                unsafe {
                    let x = after.finish(s, best.value(), channel, left);
                    x.store_up_to(after.y.add(to + channel), left);
                    if !after.places.is_null() {
                        best.store_places(after.places.add(to + channel), left);
                    }
                }
                channel += lanes;
            }
        }
    }
}

struct RowGradient<'a, T> {
    pooling: &'a Pooling,
    row: usize,
    /// To what is there; else it is replaced.
    add: bool,
    dy: *const T,
    places: *const u8,
    dx: *mut T,
}

impl<T: Real> WithSimd for RowGradient<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let Self { pooling, row, add, dy, places, dx } = self;
        let (channels, lanes) = (pooling.channels, T::lanes::<S>());
        let width = pooling.input[2] * channels;
        let zero = Lane::zero(s);
        for column in 0..pooling.output[2] {
            let (columns, before) = pooling.range(2, column);
            let from = (row * pooling.output[2] + column) * channels;
            let mut channel = 0;
            while channel < channels {
                let left = channels - channel;
                // SAFETY: results and gradients have a value for each window and channel; the inputs of these windows
                // are this task's alone.
                unsafe {
                    let mut of_lane = [T::default(); 64];
                    for (lane, place) in of_lane[..lanes.min(left)].iter_mut().enumerate() {
                        *place = T::of(f64::from(*places.add(from + channel + lane)));
                    }
                    let chosen = Lane::load(s, of_lane.as_ptr());
                    let dy = Lane::load_up_to(s, dy.add(from + channel), left);
                    for (line, place) in pooling.lines(row) {
                        for j in columns.clone() {
                            let here = Lane::splat(s, T::of((place + j - columns.start + before) as f64));
                            let x = chosen.if_equal(here, dy, zero);
                            let to = dx.add(line * width + j * channels + channel);
                            let x = if add { x + Lane::load_up_to(s, to, left) } else { x };
                            x.store_up_to(to, left);
                        }
                    }
                }
                channel += lanes;
            }
        }
    }
}

/// The gradient before an activation, from that after it and the result.
pub(crate) fn before_activation<T: Scalar>(activation: Activation, result: &[T], dy: &[T]) -> Scratch<T> {
    const ELEMENTS: usize = 1 << 14;
    let mut dz = Scratch::new(dy.len());
    let sources = dy.par_chunks(ELEMENTS).zip(result.par_chunks(ELEMENTS));
    dz.par_chunks_mut(ELEMENTS).zip(sources).for_each(|(dz, (dy, result))| {
        dispatch(Gate { activation, dy, result, dz });
    });
    dz
}

struct Gate<'a, T> {
    activation: Activation,
    dy: &'a [T],
    result: &'a [T],
    dz: &'a mut [T],
}

impl<T: Real> WithSimd for Gate<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let Self { activation, dy, result, dz } = self;
        let len = dz.len();
        for at in (0..len).step_by(T::lanes::<S>()) {
            // SAFETY: the three slices are equally long.
            unsafe {
                let dy = Lane::load_up_to(s, dy.as_ptr().add(at), len - at);
                let result = Lane::load_up_to(s, result.as_ptr().add(at), len - at);
                gate(s, activation, result, dy).store_up_to(dz.as_mut_ptr().add(at), len - at);
            }
        }
    }
}

//! The gradient of depthwise filters: products of what each tap saw with the gradient of what came out.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use crate::kernel::geometry::Geometry;
use crate::kernel::simd::{Lane, Real};

/// Adds the products of some rows of the output, counted over all samples.
pub(crate) struct Pairs<'a, T> {
    pub(crate) g: &'a Geometry,
    pub(crate) rows: Range<usize>,
    pub(crate) x: &'a [T],
    pub(crate) dy: &'a [T],
    /// (taps, channels)
    pub(crate) dw: &'a mut [T],
}

impl<T: Real> WithSimd for Pairs<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let Self { g, rows, x, dy, dw } = self;
        let (lanes, channels) = (T::lanes::<S>(), g.c_out);
        let valid: Vec<Range<usize>> = (0..g.kernel[2]).map(|kw| g.valid(2, kw)).collect();
        for row in rows {
            let (sample, h) = (row / g.output[1], row % g.output[1]);
            let dy = &dy[row * g.output[2] * channels..][..g.output[2] * channels];
            for kh in 0..g.kernel[1] {
                let Some(from) = (h * g.stride[1] + kh).checked_sub(g.low[1]).filter(|&h| h < g.input[1])
                else {
                    continue;
                };
                let x = &x[(sample * g.input[1] + from) * g.input[2] * channels..][..g.input[2] * channels];
                for (kw, valid) in valid.iter().enumerate().filter(|(_, valid)| !valid.is_empty()) {
                    let pairs = Row {
                        count: valid.len(),
                        step: [g.stride[2] * channels, channels],
                        channels,
                        x: x[(valid.start * g.stride[2] + kw - g.low[2]) * channels..].as_ptr(),
                        dy: dy[valid.start * channels..].as_ptr(),
                        dw: dw[(kh * g.kernel[2] + kw) * channels..].as_mut_ptr(),
                    };
                    let mut channel = 0;
                    while channel < channels {
                        // SAFETY: the outputs in `valid` and their inputs are inside, and so are the channels.
                        unsafe {
                            if channels - channel >= 4 * lanes {
                                pairs.add::<S, 4, true>(s, channel);
                                channel += 4 * lanes;
                            } else if channels - channel >= lanes {
                                pairs.add::<S, 1, true>(s, channel);
                                channel += lanes;
                            } else {
                                pairs.add::<S, 1, false>(s, channel);
                                channel = channels;
                            }
                        }
                    }
                }
            }
        }
    }
}

/// A register, or with `FULL` not set `left` values.
#[inline(always)]
unsafe fn load<T: Real, S: Simd, const FULL: bool>(s: S, from: *const T, left: usize) -> Lane<T, S> {
    // SAFETY: the caller's promise.
    unsafe { if FULL { Lane::load(s, from) } else { Lane::load_up_to(s, from, left) } }
}

/// What one tap sees of a row.
struct Row<T> {
    count: usize,
    step: [usize; 2],
    channels: usize,
    x: *const T,
    dy: *const T,
    dw: *mut T,
}

impl<T: Real> Row<T> {
    #[inline(always)]
    unsafe fn add<S: Simd, const N: usize, const FULL: bool>(&self, s: S, channel: usize) {
        let (lanes, left) = (T::lanes::<S>(), self.channels - channel);
        // SAFETY: the caller's promise.
        unsafe {
            let to = self.dw.add(channel);
            let mut sums = [Lane::zero(s); N];
            for (n, sum) in sums.iter_mut().enumerate() {
                *sum = load::<T, S, FULL>(s, to.add(n * lanes), left);
            }
            let (mut x, mut dy) = (self.x.add(channel), self.dy.add(channel));
            for _ in 0..self.count {
                for (n, sum) in sums.iter_mut().enumerate() {
                    *sum = sum.plus_product(
                        load::<T, S, FULL>(s, x.add(n * lanes), left),
                        load::<T, S, FULL>(s, dy.add(n * lanes), left),
                    );
                }
                (x, dy) = (x.wrapping_add(self.step[0]), dy.wrapping_add(self.step[1]));
            }
            for (n, sum) in sums.iter().enumerate() {
                let to = to.add(n * lanes);
                if FULL { sum.store(to) } else { sum.store_up_to(to, left) }
            }
        }
    }
}

//! Sums of products of an image with filters, each target gathering what reaches it: a depthwise convolution, or the
//! gradient of its input.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use crate::Activation;
use crate::kernel::after::activate;
use crate::kernel::geometry::Geometry;
use crate::kernel::simd::{Lane, Real};

/// Targets that are computed together where the same taps reach them.
const TOGETHER: usize = 4;

/// Along an axis, the taps that reach each target, and from where.
pub(crate) struct Axis {
    /// (tap, source) of all targets, one target after the other.
    pairs: Vec<(usize, usize)>,
    /// Where each target's pairs start, and the end of the last.
    starts: Vec<usize>,
    /// Whether a target and those after it make [`TOGETHER`] with the same taps, the sources `step` apart.
    together: Vec<bool>,
    step: usize,
}

impl Axis {
    /// From inputs to outputs.
    pub(crate) fn forward(g: &Geometry, axis: usize) -> Self {
        let (stride, low, input) = (g.stride[axis], g.low[axis], g.input[axis]);
        Self::new(g.output[axis], stride, |target| {
            (0..g.kernel[axis]).filter_map(move |tap| {
                let source = (target * stride + tap).checked_sub(low)?;
                (source < input).then_some((tap, source))
            })
        })
    }

    /// From outputs to inputs.
    pub(crate) fn backward(g: &Geometry, axis: usize) -> Self {
        let (stride, low, output) = (g.stride[axis], g.low[axis], g.output[axis]);
        Self::new(g.input[axis], 1, |target| {
            (0..g.kernel[axis]).filter_map(move |tap| {
                let place = (target + low).checked_sub(tap)?;
                (place % stride == 0 && place / stride < output).then_some((tap, place / stride))
            })
        })
    }

    fn new<I: Iterator<Item = (usize, usize)>>(
        targets: usize,
        step: usize,
        pairs_of: impl Fn(usize) -> I,
    ) -> Self {
        let (mut pairs, mut starts) = (Vec::new(), vec![0]);
        for target in 0..targets {
            pairs.extend(pairs_of(target));
            starts.push(pairs.len());
        }
        let mut axis = Self { pairs, starts, together: Vec::new(), step };
        axis.together = (0..targets)
            .map(|target| {
                let first = axis.of(target);
                target + TOGETHER <= targets
                    && (1..TOGETHER).all(|later| {
                        let moved = first.iter().map(|&(tap, source)| (tap, source + later * step));
                        moved.eq(axis.of(target + later).iter().copied())
                    })
            })
            .collect();
        axis
    }

    pub(crate) fn targets(&self) -> usize {
        self.together.len()
    }

    fn of(&self, target: usize) -> &[(usize, usize)] {
        &self.pairs[self.starts[target]..self.starts[target + 1]]
    }
}

/// Some rows of targets of a sample.
pub(crate) struct Gather<'a, T> {
    pub(crate) rows: &'a Axis,
    pub(crate) columns: &'a Axis,
    pub(crate) targets: Range<usize>,
    pub(crate) channels: usize,
    /// The sample, in rows of `width` positions.
    pub(crate) x: &'a [T],
    pub(crate) width: usize,
    /// (taps, channels), the taps in rows of `w_row`.
    pub(crate) w: &'a [T],
    pub(crate) w_row: usize,
    pub(crate) bias: Option<&'a [T]>,
    pub(crate) activation: Activation,
    /// The sample's result.
    pub(crate) y: *mut T,
}

impl<T: Real> WithSimd for Gather<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let lanes = T::lanes::<S>();
        let mut channel = 0;
        while channel < self.channels {
            let left = self.channels - channel;
            if left >= 2 * lanes {
                self.channels::<S, 2, true>(s, channel);
                channel += 2 * lanes;
            } else if left >= lanes {
                self.channels::<S, 1, true>(s, channel);
                channel += lanes;
            } else {
                self.channels::<S, 1, false>(s, channel);
                channel = self.channels;
            }
        }
    }
}

impl<T: Real> Gather<'_, T> {
    /// All targets of `N` registers of channels; `FULL`: each register is.
    #[inline(always)]
    fn channels<S: Simd, const N: usize, const FULL: bool>(&self, s: S, channel: usize) {
        for row in self.targets.clone() {
            let mut column = 0;
            while column < self.columns.targets() {
                if self.columns.together[column] {
                    self.targets::<S, N, TOGETHER, FULL>(s, [row, column, channel]);
                    column += TOGETHER;
                } else {
                    self.targets::<S, N, 1, FULL>(s, [row, column, channel]);
                    column += 1;
                }
            }
        }
    }

    /// A register, or with `FULL` not set `left` values.
    #[inline(always)]
    fn load<S: Simd, const FULL: bool>(&self, s: S, from: &[T], at: usize, left: usize) -> Lane<T, S> {
        debug_assert!(at + if FULL { T::lanes::<S>() } else { left } <= from.len());
        // SAFETY: the axes' sources and taps are inside, and so are the channels.
        unsafe {
            let from = from.as_ptr().add(at);
            if FULL { Lane::load(s, from) } else { Lane::load_up_to(s, from, left) }
        }
    }

    /// `P` targets of a row.
    #[inline(always)]
    fn targets<S: Simd, const N: usize, const P: usize, const FULL: bool>(
        &self,
        s: S,
        [row, column, channel]: [usize; 3],
    ) {
        let (lanes, left) = (T::lanes::<S>(), self.channels - channel);
        let mut sums = [[Lane::zero(s); N]; P];
        if let Some(bias) = self.bias {
            for sums in &mut sums {
                for (n, sum) in sums.iter_mut().enumerate() {
                    *sum = self.load::<S, FULL>(s, bias, channel + n * lanes, left);
                }
            }
        }
        let apart = self.columns.step * self.channels;
        for &(kh, from_row) in self.rows.of(row) {
            for &(kw, from_column) in self.columns.of(column) {
                let w_at = (kh * self.w_row + kw) * self.channels + channel;
                let x_at = (from_row * self.width + from_column) * self.channels + channel;
                for n in 0..N {
                    let w = self.load::<S, FULL>(s, self.w, w_at + n * lanes, left);
                    for (p, sums) in sums.iter_mut().enumerate() {
                        let x = self.load::<S, FULL>(s, self.x, x_at + p * apart + n * lanes, left);
                        sums[n] = sums[n].plus_product(w, x);
                    }
                }
            }
        }
        let to = (row * self.columns.targets() + column) * self.channels + channel;
        for (p, sums) in sums.iter().enumerate() {
            for (n, &sum) in sums.iter().enumerate() {
                let y = activate(s, sum, self.activation);
                // SAFETY: the target is one of this task's rows.
                unsafe {
                    let to = self.y.add(to + p * self.channels + n * lanes);
                    if FULL { y.store(to) } else { y.store_up_to(to, left) }
                }
            }
        }
    }
}

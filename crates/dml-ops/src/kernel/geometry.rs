use std::ops::Range;

use super::{Matrix, Scalar};

/// Output positions of a tile, and rows (channel × tap) of a column buffer, at about which a tile stays in the
/// second-level cache and the product still runs at speed.
const TILE_POSITIONS: usize = 256;
const TILE_DEPTH: usize = 448;

/// The sizes of a convolution over (time, height, width); in two dimensions the time has one step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Geometry {
    pub(crate) batch: usize,
    pub(crate) c_in: usize,
    pub(crate) c_out: usize,
    pub(crate) input: [usize; 3],
    pub(crate) kernel: [usize; 3],
    pub(crate) stride: [usize; 3],
    /// Zeros before the first element of each axis; those after the last follow from `output`.
    pub(crate) low: [usize; 3],
    pub(crate) output: [usize; 3],
}

impl Geometry {
    pub(crate) fn taps(&self) -> usize {
        self.kernel.iter().product()
    }

    /// Weights of one output channel.
    pub(crate) fn depth(&self) -> usize {
        self.c_in * self.taps()
    }

    pub(crate) fn in_positions(&self) -> usize {
        self.input.iter().product()
    }

    pub(crate) fn out_positions(&self) -> usize {
        self.output.iter().product()
    }

    /// The convolution that a data gradient is, of stride 1: from outputs to inputs.
    pub(crate) fn transposed(&self) -> Self {
        let mut low = [0; 3];
        for (axis, low) in low.iter_mut().enumerate() {
            *low = self.kernel[axis] - 1 - self.low[axis];
        }
        Self { c_in: self.c_out, c_out: self.c_in, input: self.output, output: self.input, low, ..*self }
    }

    /// Rows of output positions of a sample, and how many of them make a tile.
    pub(crate) fn rows(&self) -> (usize, usize) {
        (self.output[0] * self.output[1], (TILE_POSITIONS / self.output[2]).max(1))
    }

    /// Channels of a tile.
    pub(crate) fn channels(&self) -> usize {
        (TILE_DEPTH / self.taps()).clamp(1, self.c_in)
    }

    /// Scratch elements that the columns of a tile take.
    pub(crate) fn tile(&self) -> usize {
        if self.is_pointwise() { 0 } else { self.channels() * self.taps() * self.rows().1 * self.output[2] }
    }

    /// Whether the columns are the input itself.
    pub(crate) fn is_pointwise(&self) -> bool {
        self.taps() == 1 && self.stride == [1; 3] && self.low == [0; 3] && self.input == self.output
    }

    /// The outputs along an axis which see the input, and not the padding, through a tap.
    pub(crate) fn valid(&self, axis: usize, tap: usize) -> Range<usize> {
        let (stride, low) = (self.stride[axis], self.low[axis]);
        let end = (self.input[axis] + low).saturating_sub(tap).div_ceil(stride).min(self.output[axis]);
        low.saturating_sub(tap).div_ceil(stride).min(end)..end
    }

    /// The columns of a sample: for some channels (times taps) and some rows of output positions, the inputs that
    /// each tap sees. They are made in `scratch`, unless the input serves as it is.
    pub(crate) fn columns<'a, T: Scalar>(
        &self,
        x: &'a [T],
        channels: Range<usize>,
        rows: Range<usize>,
        scratch: &'a mut [T],
    ) -> Matrix<'a, T> {
        let width = self.output[2];
        if self.is_pointwise() {
            let positions = self.in_positions();
            return Matrix::rows(x, channels.start * positions + rows.start * width, positions);
        }
        let line = rows.len() * width;
        let stride = self.stride[2];
        self.for_each_line(channels, rows, |index, valid, from| {
            let to = &mut scratch[index * width..(index + 1) * width];
            to[..valid.start].fill(T::zero());
            to[valid.end..].fill(T::zero());
            if valid.is_empty() {
                return;
            }
            let to = &mut to[valid];
            if stride == 1 {
                to.copy_from_slice(&x[from..from + to.len()]);
            } else {
                for (to, &from) in to.iter_mut().zip(x[from..].iter().step_by(stride)) {
                    *to = from;
                }
            }
        });
        Matrix::rows(scratch, 0, line)
    }

    /// Adds the columns of the first `channels` channels of `x` to the inputs that they were taken from.
    pub(crate) fn add_columns<T: Scalar>(
        &self,
        columns: &[T],
        channels: usize,
        rows: Range<usize>,
        x: &mut [T],
    ) {
        let width = self.output[2];
        let stride = self.stride[2];
        self.for_each_line(0..channels, rows, |index, valid, to| {
            if valid.is_empty() {
                return;
            }
            let from = &columns[index * width..(index + 1) * width][valid];
            if stride == 1 {
                for (to, &from) in x[to..to + from.len()].iter_mut().zip(from) {
                    *to += from;
                }
            } else {
                for (to, &from) in x[to..].iter_mut().step_by(stride).zip(from) {
                    *to += from;
                }
            }
        });
    }

    /// Visits each line of a tile's columns (one output row through one tap of one channel): its index, which of its
    /// outputs see the input, and where in the sample the first of these inputs is.
    fn for_each_line(
        &self,
        channels: Range<usize>,
        rows: Range<usize>,
        mut visit: impl FnMut(usize, Range<usize>, usize),
    ) {
        let [times, height, width] = self.input;
        let mut index = 0;
        for c in channels {
            for tap in 0..self.taps() {
                let kw = tap % self.kernel[2];
                let kh = tap / self.kernel[2] % self.kernel[1];
                let kt = tap / (self.kernel[2] * self.kernel[1]);
                let valid = self.valid(2, kw);
                let first = (valid.start * self.stride[2] + kw).wrapping_sub(self.low[2]);
                let (mut t, mut h) = (rows.start / self.output[1], rows.start % self.output[1]);
                for _ in rows.clone() {
                    let from_t = (t * self.stride[0] + kt).wrapping_sub(self.low[0]);
                    let from_h = (h * self.stride[1] + kh).wrapping_sub(self.low[1]);
                    if from_t < times && from_h < height {
                        let start = ((c * times + from_t) * height + from_h) * width;
                        visit(index, valid.clone(), start.wrapping_add(first));
                    } else {
                        visit(index, 0..0, 0);
                    }
                    index += 1;
                    h += 1;
                    if h == self.output[1] {
                        (t, h) = (t + 1, 0);
                    }
                }
            }
        }
    }
}

/// Part `index` of 0..`total` cut into parts of `size`.
pub(crate) fn part(index: usize, size: usize, total: usize) -> Range<usize> {
    (index * size).min(total)..((index + 1) * size).min(total)
}

/// All parts of 0..`total` cut into parts of `size`.
pub(crate) fn parts(total: usize, size: usize) -> impl Iterator<Item = Range<usize>> {
    (0..total.div_ceil(size)).map(move |index| part(index, size, total))
}

use std::ops::Range;

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

    /// Whether every output sees one input, that at its own place.
    pub(crate) fn is_pointwise(&self) -> bool {
        self.taps() == 1 && self.stride == [1; 3] && self.low == [0; 3] && self.input == self.output
    }

    /// The outputs along an axis which see the input, and not the padding, through a tap.
    pub(crate) fn valid(&self, axis: usize, tap: usize) -> Range<usize> {
        let (stride, low) = (self.stride[axis], self.low[axis]);
        let end = (self.input[axis] + low).saturating_sub(tap).div_ceil(stride).min(self.output[axis]);
        low.saturating_sub(tap).div_ceil(stride).min(end)..end
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

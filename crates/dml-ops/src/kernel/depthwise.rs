//! Convolution of each channel with a filter of its own, as direct loops over rows.

use std::ops::Range;

use candle_core::{Result, Shape, Tensor};
use rayon::prelude::*;

use super::conv::BiasGradient;
use super::geometry::Geometry;
use super::{Kernel, Op, Scalar, dot};

/// Visits each pair of an output row and an input row of a plane that a tap joins: the tap, the start of the output
/// row, the outputs of that row which see the input through it, and where the first of these inputs is.
fn for_each_pair(g: &Geometry, mut visit: impl FnMut(usize, usize, Range<usize>, usize)) {
    for tap in 0..g.taps() {
        let (kh, kw) = (tap / g.kernel[2], tap % g.kernel[2]);
        let valid = g.valid(2, kw);
        if valid.is_empty() {
            continue;
        }
        let first = valid.start * g.stride[2] + kw - g.low[2];
        for h in g.valid(1, kh) {
            let from = h * g.stride[1] + kh - g.low[1];
            visit(tap, h * g.output[2], valid.clone(), from * g.input[2] + first);
        }
    }
}

/// A depthwise convolution in two dimensions; the inputs are x and the weights.
pub(crate) struct Depthwise {
    pub(crate) geometry: Geometry,
    pub(crate) shape: Shape,
}

impl Kernel<2> for Depthwise {
    const NAME: &'static str = "depthwise-conv";

    fn shape(&self) -> Shape {
        self.shape.clone()
    }

    fn run<T: Scalar>(&self, [x, w]: [&[T]; 2]) -> Vec<T> {
        let g = &self.geometry;
        let (inputs, outputs, taps) = (g.in_positions(), g.out_positions(), g.taps());
        let mut y = vec![T::zero(); g.batch * g.c_out * outputs];
        y.par_chunks_mut(outputs).zip(x.par_chunks(inputs)).enumerate().for_each(|(plane, (y, x))| {
            let w = &w[plane % g.c_out * taps..][..taps];
            for_each_pair(g, |tap, row, valid, from| {
                let to = &mut y[row..][valid];
                if g.stride[2] == 1 {
                    for (to, &from) in to.iter_mut().zip(&x[from..]) {
                        *to += w[tap] * from;
                    }
                } else {
                    for (to, &from) in to.iter_mut().zip(x[from..].iter().step_by(g.stride[2])) {
                        *to += w[tap] * from;
                    }
                }
            });
        });
        y
    }

    fn backward(&self, [x, w]: [&Tensor; 2], _: &Tensor, gradient: &Tensor) -> Result<[Option<Tensor>; 2]> {
        let dx = || Op(DataGradient(self.geometry, x.shape().clone())).apply2_detached([w, gradient]);
        let dw = || Op(WeightGradient(self.geometry, w.shape().clone())).apply2_detached([x, gradient]);
        Ok([x.track_op().then(dx).transpose()?, w.track_op().then(dw).transpose()?])
    }
}

struct DataGradient(Geometry, Shape);

impl Kernel<2> for DataGradient {
    const NAME: &'static str = "depthwise-conv-data-gradient";

    fn shape(&self) -> Shape {
        self.1.clone()
    }

    fn run<T: Scalar>(&self, [w, dy]: [&[T]; 2]) -> Vec<T> {
        let g = &self.0;
        let (inputs, outputs, taps) = (g.in_positions(), g.out_positions(), g.taps());
        let mut dx = vec![T::zero(); g.batch * g.c_out * inputs];
        dx.par_chunks_mut(inputs).zip(dy.par_chunks(outputs)).enumerate().for_each(|(plane, (dx, dy))| {
            let w = &w[plane % g.c_out * taps..][..taps];
            for_each_pair(g, |tap, row, valid, to| {
                let from = &dy[row..][valid];
                if g.stride[2] == 1 {
                    for (to, &from) in dx[to..].iter_mut().zip(from) {
                        *to += w[tap] * from;
                    }
                } else {
                    for (to, &from) in dx[to..].iter_mut().step_by(g.stride[2]).zip(from) {
                        *to += w[tap] * from;
                    }
                }
            });
        });
        dx
    }
}

struct WeightGradient(Geometry, Shape);

impl Kernel<2> for WeightGradient {
    const NAME: &'static str = "depthwise-conv-weight-gradient";

    fn shape(&self) -> Shape {
        self.1.clone()
    }

    fn run<T: Scalar>(&self, [x, dy]: [&[T]; 2]) -> Vec<T> {
        let g = &self.0;
        let (inputs, outputs) = (g.in_positions(), g.out_positions());
        let mut dw = vec![T::zero(); g.c_out * g.taps()];
        dw.par_chunks_mut(g.taps()).enumerate().for_each(|(c, dw)| {
            for plane in (0..g.batch).map(|n| n * g.c_out + c) {
                let x = &x[plane * inputs..(plane + 1) * inputs];
                let dy = &dy[plane * outputs..(plane + 1) * outputs];
                for_each_pair(g, |tap, row, valid, from| {
                    let dy = &dy[row..][valid];
                    dw[tap] += if g.stride[2] == 1 {
                        dot(&x[from..from + dy.len()], dy)
                    } else {
                        let x = x[from..].iter().step_by(g.stride[2]);
                        x.zip(dy).fold(T::zero(), |total, (&x, &dy)| total + x * dy)
                    };
                });
            }
        });
        dw
    }
}

/// Adds a bias per channel; the inputs are x and the bias.
pub(crate) struct AddBias {
    pub(crate) geometry: Geometry,
    pub(crate) shape: Shape,
}

impl Kernel<2> for AddBias {
    const NAME: &'static str = "add-bias";

    fn shape(&self) -> Shape {
        self.shape.clone()
    }

    fn run<T: Scalar>(&self, [x, bias]: [&[T]; 2]) -> Vec<T> {
        let mut y = x.to_vec();
        y.par_chunks_mut(self.geometry.out_positions()).enumerate().for_each(|(plane, y)| {
            let bias = bias[plane % bias.len()];
            y.iter_mut().for_each(|y| *y += bias);
        });
        y
    }

    fn backward(
        &self,
        [x, bias]: [&Tensor; 2],
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<[Option<Tensor>; 2]> {
        let db = BiasGradient::of(&self.geometry, bias, gradient)?;
        Ok([x.track_op().then(|| gradient.clone()), db])
    }
}

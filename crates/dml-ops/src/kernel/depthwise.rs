//! Convolution of each channel with a filter of its own, on images whose channels are neighbours: (n, h, w, c).

use candle_core::{Result, Shape, Tensor};
use rayon::prelude::*;

use super::activation::ActivationGradient;
use super::geometry::{Geometry, part};
use super::result::{Place, written};
use super::scratch::Scratch;
use super::simd::dispatch;
use super::sums::Sums;
use super::{Kernel, Op, Scalar};
use crate::Activation;
use gather::{Axis, Gather};
use weights::Pairs;

mod gather;
mod weights;

/// Values of a result that make a task worth its while.
const ELEMENTS: usize = 1 << 14;
/// Parts of the sum that a weight gradient is, at most.
const PARTS: usize = 32;

/// A matrix with rows and columns exchanged.
fn transpose<T: Scalar>(from: &[T], to: &mut [T], [rows, columns]: [usize; 2]) {
    for (row, from) in from.chunks_exact(columns).enumerate() {
        for (to, &from) in to[row..].iter_mut().step_by(rows).zip(from) {
            *to = from;
        }
    }
}

/// Computes the rows of all samples, in tasks.
fn gather<T: Scalar>(
    g: &Geometry,
    [rows, columns]: [&Axis; 2],
    source: [usize; 2],
    inputs: [&[T]; 2],
    bias: Option<&[T]>,
    activation: Activation,
) -> Vec<T> {
    let [x, w] = inputs;
    let channels = g.c_out;
    let mut taps = Scratch::new(w.len());
    // The filters with their channels side by side.
    transpose(w, &mut taps, [channels, g.taps()]);
    let taps = &taps[..];
    let (height, width) = (rows.targets(), columns.targets());
    let rows_each = ELEMENTS.div_ceil(width * channels).min(height);
    let tasks = height.div_ceil(rows_each);
    let write = |y: Place<T>| {
        (0..g.batch * tasks).into_par_iter().for_each(|task| {
            let sample = task / tasks;
            dispatch(Gather {
                rows,
                columns,
                targets: part(task % tasks, rows_each, height),
                channels,
                x: &x[sample * source[0] * source[1] * channels..][..source[0] * source[1] * channels],
                width: source[1],
                w: taps,
                w_row: g.kernel[2],
                bias,
                activation,
                y: y.at(sample * height * width * channels),
            });
        });
    };
    // SAFETY: the tasks' rows are all there are, each one task's.
    unsafe { written(g.batch * height * width * channels, write) }
}

fn forward<T: Scalar>(g: &Geometry, inputs: [&[T]; 2], bias: Option<&[T]>, activation: Activation) -> Vec<T> {
    let axes = [1, 2].map(|axis| Axis::forward(g, axis));
    gather(g, [&axes[0], &axes[1]], [g.input[1], g.input[2]], inputs, bias, activation)
}

pub(super) fn data_gradient<T: Scalar>(g: &Geometry, inputs: [&[T]; 2]) -> Vec<T> {
    let axes = [1, 2].map(|axis| Axis::backward(g, axis));
    gather(g, [&axes[0], &axes[1]], [g.output[1], g.output[2]], inputs, None, Activation::None)
}

pub(super) fn weight_gradient<T: Scalar>(g: &Geometry, [x, dy]: [&[T]; 2]) -> Vec<T> {
    let rows = g.batch * g.output[1];
    let each = rows.div_ceil(PARTS);
    let count = g.taps() * g.c_out;
    let mut parts = Scratch::new(rows.div_ceil(each) * count);
    parts.par_chunks_mut(count).enumerate().for_each(|(index, dw)| {
        dw.fill(T::zero());
        dispatch(Pairs { g, rows: part(index, each, rows), x, dy, dw });
    });
    let (total, others) = parts.split_at_mut(count);
    for part in others.chunks_exact(count) {
        for (total, &part) in total.iter_mut().zip(part) {
            *total += part;
        }
    }
    let mut dw = vec![T::zero(); count];
    transpose(total, &mut dw, [g.taps(), g.c_out]);
    dw
}

/// A depthwise convolution in two dimensions, on (n, h, w, c): the inputs are x, the weights and, where there are
/// three, the bias.
pub(crate) struct Depthwise {
    pub(crate) geometry: Geometry,
    pub(crate) activation: Activation,
}

impl Depthwise {
    fn output(&self) -> Shape {
        let Geometry { batch, output, c_out, .. } = self.geometry;
        (batch, output[1], output[2], c_out).into()
    }

    /// The gradient of the sums before the activation.
    fn inner(&self, result: &Tensor, gradient: &Tensor) -> Result<Tensor> {
        match self.activation {
            Activation::None => Ok(gradient.clone()),
            other => Op(ActivationGradient(other, self.output())).apply2_detached([result, gradient]),
        }
    }

    fn gradients(&self, x: &Tensor, w: &Tensor, gradient: &Tensor) -> Result<[Option<Tensor>; 2]> {
        let g = self.geometry;
        let dx = || Op(DataGradient(g, x.shape().clone())).apply2_detached([gradient, w]);
        let dw = || Op(WeightGradient(g, w.shape().clone())).apply2_detached([x, gradient]);
        Ok([x.track_op().then(dx).transpose()?, w.track_op().then(dw).transpose()?])
    }
}

impl Kernel<2> for Depthwise {
    const NAME: &'static str = "depthwise-conv";

    fn shape(&self) -> Shape {
        self.output()
    }

    fn run<T: Scalar>(&self, inputs: [&[T]; 2]) -> Vec<T> {
        forward(&self.geometry, inputs, None, self.activation)
    }

    fn backward(&self, [x, w]: [&Tensor; 2], y: &Tensor, dy: &Tensor) -> Result<[Option<Tensor>; 2]> {
        self.gradients(x, w, &self.inner(y, dy)?)
    }
}

impl Kernel<3> for Depthwise {
    const NAME: &'static str = "depthwise-conv";

    fn shape(&self) -> Shape {
        self.output()
    }

    fn run<T: Scalar>(&self, [x, w, bias]: [&[T]; 3]) -> Vec<T> {
        forward(&self.geometry, [x, w], Some(bias), self.activation)
    }

    fn backward(&self, [x, w, bias]: [&Tensor; 3], y: &Tensor, dy: &Tensor) -> Result<[Option<Tensor>; 3]> {
        let gradient = self.inner(y, dy)?;
        let [dx, dw] = self.gradients(x, w, &gradient)?;
        let positions = self.geometry.batch * self.geometry.out_positions();
        let sums = Sums { batch: 1, positions, channels: self.geometry.c_out, shape: bias.shape().clone() };
        let db = bias.track_op().then(|| Op(sums).apply_detached([&gradient])).transpose()?;
        Ok([dx, dw, db])
    }
}

/// The inputs are the result's gradient and the weights.
struct DataGradient(Geometry, Shape);

impl Kernel<2> for DataGradient {
    const NAME: &'static str = "depthwise-conv-data-gradient";

    fn shape(&self) -> Shape {
        self.1.clone()
    }

    fn run<T: Scalar>(&self, inputs: [&[T]; 2]) -> Vec<T> {
        data_gradient(&self.0, inputs)
    }
}

/// The inputs are x and the result's gradient.
struct WeightGradient(Geometry, Shape);

impl Kernel<2> for WeightGradient {
    const NAME: &'static str = "depthwise-conv-weight-gradient";

    fn shape(&self) -> Shape {
        self.1.clone()
    }

    fn run<T: Scalar>(&self, inputs: [&[T]; 2]) -> Vec<T> {
        weight_gradient(&self.0, inputs)
    }
}

//! Convolution as products of weights and columns, tile by tile: the columns of a whole layer would take 27 times its
//! input.

use candle_core::{Result, Shape, Tensor};
use rayon::prelude::*;

use super::geometry::{Geometry, part, parts};
use super::{Kernel, Matrix, MatrixMut, Op, Scalar, gemm, sum};

/// Parts that the weight gradient of a layer is split into, at least.
const WEIGHT_PARTS: usize = 8;

fn forward<T: Scalar>(g: &Geometry, x: &[T], w: &[T], bias: Option<&[T]>) -> Vec<T> {
    let positions = g.out_positions();
    let (rows, tile) = g.rows();
    let tiles = rows.div_ceil(tile);
    let sample = g.c_in * g.in_positions();
    let mut y = vec![T::zero(); g.batch * g.c_out * positions];
    let result = MatrixMut::new(&mut y);
    (0..g.batch * tiles).into_par_iter().for_each(|task| {
        let (n, rows) = (task / tiles, part(task % tiles, tile, rows));
        let x = &x[n * sample..(n + 1) * sample];
        let (first, count) = (rows.start * g.output[2], rows.len() * g.output[2]);
        let start = n * g.c_out * positions + first;
        for (o, &bias) in bias.unwrap_or_default().iter().enumerate() {
            // SAFETY: these positions of this sample are this task's alone.
            unsafe { result.slice(start + o * positions, count) }.fill(bias);
        }
        T::with_scratch(g.tile(), |scratch| {
            for c in parts(g.c_in, g.channels()) {
                let shape = [g.c_out, count, c.len() * g.taps()];
                let weights = Matrix::rows(w, c.start * g.taps(), g.depth());
                let accumulate = bias.is_some() || c.start > 0;
                let columns = g.columns(x, c, rows.clone(), scratch);
                // SAFETY: as above.
                unsafe { gemm(shape, result, (start, positions), accumulate, weights, columns) };
            }
        });
    });
    y
}

fn data_gradient<T: Scalar>(g: &Geometry, w: &[T], dy: &[T]) -> Vec<T> {
    let positions = g.out_positions();
    let (rows, tile) = g.rows();
    let chunks = g.c_in.div_ceil(g.channels());
    let mut dx = vec![T::zero(); g.batch * g.c_in * g.in_positions()];
    let result = MatrixMut::new(&mut dx);
    (0..g.batch * chunks).into_par_iter().for_each(|task| {
        let (n, c) = (task / chunks, part(task % chunks, g.channels(), g.c_in));
        let start = (n * g.c_in + c.start) * g.in_positions();
        let weights = Matrix::rows(w, c.start * g.taps(), g.depth()).t();
        if g.is_pointwise() {
            let dy = Matrix::rows(dy, n * g.c_out * positions, positions);
            let shape = [c.len(), positions, g.c_out];
            // SAFETY: these channels of this sample are this task's alone.
            return unsafe { gemm(shape, result, (start, positions), false, weights, dy) };
        }
        // SAFETY: as above.
        let dx = unsafe { result.slice(start, c.len() * g.in_positions()) };
        T::with_scratch(g.tile(), |scratch| {
            for rows in parts(rows, tile) {
                let (first, count) = (rows.start * g.output[2], rows.len() * g.output[2]);
                let dy = Matrix::rows(dy, n * g.c_out * positions + first, positions);
                let shape = [c.len() * g.taps(), count, g.c_out];
                let columns = MatrixMut::new(scratch);
                // SAFETY: the scratch memory is this thread's alone.
                unsafe { gemm(shape, columns, (0, count), false, weights, dy) };
                g.add_columns(scratch, c.len(), rows, dx);
            }
        });
    });
    dx
}

/// Each part sums over a group of samples for some input channels; the groups are added up in their order.
fn weight_gradient<T: Scalar>(g: &Geometry, x: &[T], dy: &[T]) -> Vec<T> {
    let positions = g.out_positions();
    let (rows, tile) = g.rows();
    let sample = g.c_in * g.in_positions();
    let size = g.c_out * g.depth();
    let chunks = g.c_in.div_ceil(g.channels());
    let groups = WEIGHT_PARTS.div_ceil(chunks).min(g.batch);
    let group = g.batch.div_ceil(groups);
    let mut partial = vec![T::zero(); groups * size];
    let result = MatrixMut::new(&mut partial);
    (0..groups * chunks).into_par_iter().for_each(|task| {
        let (index, c) = (task / chunks, part(task % chunks, g.channels(), g.c_in));
        let start = index * size + c.start * g.taps();
        T::with_scratch(g.tile(), |scratch| {
            for n in part(index, group, g.batch) {
                let x = &x[n * sample..(n + 1) * sample];
                for rows in parts(rows, tile) {
                    let (first, count) = (rows.start * g.output[2], rows.len() * g.output[2]);
                    let dy = Matrix::rows(dy, n * g.c_out * positions + first, positions);
                    let shape = [g.c_out, c.len() * g.taps(), count];
                    let columns = g.columns(x, c.clone(), rows, scratch).t();
                    // SAFETY: these channels of this partial sum are this task's alone.
                    unsafe { gemm(shape, result, (start, g.depth()), true, dy, columns) };
                }
            }
        });
    });
    let (total, others) = partial.split_at_mut(size);
    for other in others.chunks_exact(size) {
        for (total, &other) in total.iter_mut().zip(other) {
            *total += other;
        }
    }
    partial.truncate(size);
    partial
}

/// A convolution; the inputs are x, the weights and, where there are three, the bias.
pub(crate) struct Conv {
    pub(crate) geometry: Geometry,
    pub(crate) shape: Shape,
}

impl Conv {
    fn gradients(&self, x: &Tensor, w: &Tensor, gradient: &Tensor) -> Result<[Option<Tensor>; 2]> {
        let dx = || Op(DataGradient(self.geometry, x.shape().clone())).apply2_detached([w, gradient]);
        let dw = || Op(WeightGradient(self.geometry, w.shape().clone())).apply2_detached([x, gradient]);
        Ok([x.track_op().then(dx).transpose()?, w.track_op().then(dw).transpose()?])
    }
}

impl Kernel<2> for Conv {
    const NAME: &'static str = "conv";

    fn shape(&self) -> Shape {
        self.shape.clone()
    }

    fn run<T: Scalar>(&self, [x, w]: [&[T]; 2]) -> Vec<T> {
        forward(&self.geometry, x, w, None)
    }

    fn backward(&self, [x, w]: [&Tensor; 2], _: &Tensor, gradient: &Tensor) -> Result<[Option<Tensor>; 2]> {
        self.gradients(x, w, &gradient.contiguous()?)
    }
}

impl Kernel<3> for Conv {
    const NAME: &'static str = "conv";

    fn shape(&self) -> Shape {
        self.shape.clone()
    }

    fn run<T: Scalar>(&self, [x, w, bias]: [&[T]; 3]) -> Vec<T> {
        forward(&self.geometry, x, w, Some(bias))
    }

    fn backward(
        &self,
        [x, w, bias]: [&Tensor; 3],
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<[Option<Tensor>; 3]> {
        let gradient = gradient.contiguous()?;
        let [dx, dw] = self.gradients(x, w, &gradient)?;
        Ok([dx, dw, BiasGradient::of(&self.geometry, bias, &gradient)?])
    }
}

struct DataGradient(Geometry, Shape);

impl Kernel<2> for DataGradient {
    const NAME: &'static str = "conv-data-gradient";

    fn shape(&self) -> Shape {
        self.1.clone()
    }

    fn run<T: Scalar>(&self, [w, gradient]: [&[T]; 2]) -> Vec<T> {
        data_gradient(&self.0, w, gradient)
    }
}

struct WeightGradient(Geometry, Shape);

impl Kernel<2> for WeightGradient {
    const NAME: &'static str = "conv-weight-gradient";

    fn shape(&self) -> Shape {
        self.1.clone()
    }

    fn run<T: Scalar>(&self, [x, gradient]: [&[T]; 2]) -> Vec<T> {
        weight_gradient(&self.0, x, gradient)
    }
}

/// The sum over the batch and all positions.
pub(crate) struct BiasGradient {
    pub(crate) batch: usize,
    pub(crate) channels: usize,
    pub(crate) positions: usize,
}

impl BiasGradient {
    /// The gradient of a convolution's bias, if it needs one.
    pub(crate) fn of(geometry: &Geometry, bias: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let (batch, channels) = (geometry.batch, geometry.c_out);
        let kernel = Self { batch, channels, positions: geometry.out_positions() };
        bias.track_op().then(|| Op(kernel).apply_detached([gradient])).transpose()
    }
}

impl Kernel<1> for BiasGradient {
    const NAME: &'static str = "bias-gradient";

    fn shape(&self) -> Shape {
        self.channels.into()
    }

    fn run<T: Scalar>(&self, [gradient]: [&[T]; 1]) -> Vec<T> {
        let of_channel = |c| {
            let plane = |n| &gradient[(n * self.channels + c) * self.positions..][..self.positions];
            (0..self.batch).fold(T::zero(), |total, n| total + sum(plane(n)))
        };
        (0..self.channels).into_par_iter().map(of_channel).collect()
    }
}

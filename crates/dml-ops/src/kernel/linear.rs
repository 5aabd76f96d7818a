//! The fully connected layer, without transposed copies of its matrices.

use candle_core::{Result, Shape, Tensor};
use rayon::prelude::*;

use super::conv::BiasGradient;
use super::geometry::part;
use super::{Kernel, Matrix, MatrixMut, Op, Scalar, gemm};

/// Columns of a result that one task computes.
const COLUMNS: usize = 128;

/// Rows of x, inputs and outputs.
#[derive(Clone, Copy)]
pub(crate) struct Sizes {
    pub(crate) rows: usize,
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
}

impl Sizes {
    fn forward<T: Scalar>(self, x: &[T], w: &[T], bias: Option<&[T]>) -> Vec<T> {
        let Self { rows, inputs, outputs } = self;
        let mut y = match bias {
            Some(bias) => bias.repeat(rows),
            None => vec![T::zero(); rows * outputs],
        };
        let result = MatrixMut::new(&mut y);
        (0..outputs.div_ceil(COLUMNS)).into_par_iter().for_each(|task| {
            let o = part(task, COLUMNS, outputs);
            let w = Matrix::rows(w, o.start * inputs, inputs).t();
            let shape = [rows, o.len(), inputs];
            // SAFETY: these columns are this task's alone.
            unsafe { gemm(shape, result, (o.start, outputs), bias.is_some(), Matrix::rows(x, 0, inputs), w) };
        });
        y
    }

    fn data_gradient<T: Scalar>(self, w: &[T], dy: &[T]) -> Vec<T> {
        let Self { rows, inputs, outputs } = self;
        let mut dx = vec![T::zero(); rows * inputs];
        let result = MatrixMut::new(&mut dx);
        (0..inputs.div_ceil(COLUMNS)).into_par_iter().for_each(|task| {
            let i = part(task, COLUMNS, inputs);
            let w = Matrix::rows(w, i.start, inputs);
            let shape = [rows, i.len(), outputs];
            // SAFETY: these columns are this task's alone.
            unsafe { gemm(shape, result, (i.start, inputs), false, Matrix::rows(dy, 0, outputs), w) };
        });
        dx
    }

    fn weight_gradient<T: Scalar>(self, x: &[T], dy: &[T]) -> Vec<T> {
        let Self { rows, inputs, outputs } = self;
        let mut dw = vec![T::zero(); outputs * inputs];
        let result = MatrixMut::new(&mut dw);
        (0..outputs.div_ceil(COLUMNS)).into_par_iter().for_each(|task| {
            let o = part(task, COLUMNS, outputs);
            let dy = Matrix::rows(dy, o.start, outputs).t();
            let shape = [o.len(), inputs, rows];
            // SAFETY: these rows are this task's alone.
            unsafe { gemm(shape, result, (o.start * inputs, inputs), false, dy, Matrix::rows(x, 0, inputs)) };
        });
        dw
    }
}

/// x·wᵀ, or x·wᵀ + bias where there are three inputs.
pub(crate) struct Linear(pub(crate) Sizes);

impl Linear {
    fn gradients(&self, x: &Tensor, w: &Tensor, gradient: &Tensor) -> Result<[Option<Tensor>; 2]> {
        let dx = || Op(DataGradient(self.0)).apply2_detached([w, gradient]);
        let dw = || Op(WeightGradient(self.0)).apply2_detached([x, gradient]);
        Ok([x.track_op().then(dx).transpose()?, w.track_op().then(dw).transpose()?])
    }

    fn output(&self) -> Shape {
        (self.0.rows, self.0.outputs).into()
    }
}

impl Kernel<2> for Linear {
    const NAME: &'static str = "linear";

    fn shape(&self) -> Shape {
        self.output()
    }

    fn run<T: Scalar>(&self, [x, w]: [&[T]; 2]) -> Vec<T> {
        self.0.forward(x, w, None)
    }

    fn backward(
        &self,
        [x, w]: [&Tensor; 2],
        _result: &Tensor,
        gradient: &Tensor,
    ) -> Result<[Option<Tensor>; 2]> {
        self.gradients(x, w, gradient)
    }
}

impl Kernel<3> for Linear {
    const NAME: &'static str = "linear";

    fn shape(&self) -> Shape {
        self.output()
    }

    fn run<T: Scalar>(&self, [x, w, bias]: [&[T]; 3]) -> Vec<T> {
        self.0.forward(x, w, Some(bias))
    }

    fn backward(
        &self,
        [x, w, bias]: [&Tensor; 3],
        _result: &Tensor,
        gradient: &Tensor,
    ) -> Result<[Option<Tensor>; 3]> {
        let [dx, dw] = self.gradients(x, w, gradient)?;
        let sum = BiasGradient { batch: self.0.rows, channels: self.0.outputs, positions: 1 };
        let db = bias.track_op().then(|| Op(sum).apply_detached([gradient])).transpose()?;
        Ok([dx, dw, db])
    }
}

struct DataGradient(Sizes);

impl Kernel<2> for DataGradient {
    const NAME: &'static str = "linear-data-gradient";

    fn shape(&self) -> Shape {
        (self.0.rows, self.0.inputs).into()
    }

    fn run<T: Scalar>(&self, [w, gradient]: [&[T]; 2]) -> Vec<T> {
        self.0.data_gradient(w, gradient)
    }
}

struct WeightGradient(Sizes);

impl Kernel<2> for WeightGradient {
    const NAME: &'static str = "linear-weight-gradient";

    fn shape(&self) -> Shape {
        (self.0.outputs, self.0.inputs).into()
    }

    fn run<T: Scalar>(&self, [x, gradient]: [&[T]; 2]) -> Vec<T> {
        self.0.weight_gradient(x, gradient)
    }
}

//! The fully connected layer. Its matrix of weights is read once, at the speed of memory where rows are few.

use candle_core::{Result, Shape, Tensor};
use rayon::prelude::*;

use super::activation::ActivationGradient;
use super::geometry::{part, parts};
use super::product::{Finish, Product, Run, columns};
use super::result::{Place, written};
use super::scratch::Scratch;
use super::simd::{Real, dispatch};
use super::{Kernel, Op, Scalar};
use crate::Activation;
use dots::Dots;

mod dots;

/// Rows of x up to which inner products are faster than a product of matrices.
const FEW: usize = 16;
/// Terms of a sum that are computed at a time: the rows' part of them stays in the cache.
const TERMS: usize = 2048;
/// Outputs whose weights are read side by side.
const GROUP: usize = 12;
/// Groups of outputs of a task, at most.
const GROUPS: usize = 8;
/// Tasks for a layer whose outputs are too few for that.
const TASKS: usize = 16;
/// Inputs of a task of the data gradient, and outputs that it adds at a time.
const PIECE: [usize; 2] = [512, 32];
/// Inputs and outputs of a task of the weight gradient.
const BLOCK: [usize; 2] = [2048, 48];
/// Rows that the weight gradient sums at a time.
const ROWS: usize = 128;

/// Rows of x, inputs and outputs.
#[derive(Clone, Copy)]
pub(crate) struct Sizes {
    pub(crate) rows: usize,
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
}

/// x as the right operand of a product: in panels of `width` rows, the values of an input side by side.
struct Packed<T: Real> {
    values: Scratch<T>,
    panel: usize,
    width: usize,
}

impl<T: Scalar> Packed<T> {
    fn new(x: &[T], Sizes { rows, inputs, .. }: Sizes) -> Self {
        let width = columns::<T>().min(rows);
        let panel = inputs * width;
        let mut values = Scratch::new(rows.div_ceil(width) * panel);
        values.par_chunks_mut(panel).enumerate().for_each(|(p, values)| {
            let first = p * width;
            values.par_chunks_mut(256 * width).enumerate().for_each(|(piece, values)| {
                for row in first..(first + width).min(rows) {
                    let x = &x[row * inputs + 256 * piece..][..values.len() / width];
                    for (to, &x) in values[row - first..].iter_mut().step_by(width).zip(x) {
                        *to = x;
                    }
                }
            });
        });
        Self { values, panel, width }
    }

    /// The products of some rows of w, a row of sums each.
    fn product(&self, w: &[T], Sizes { rows, inputs, .. }: Sizes, sums: &mut [T]) {
        for terms in parts(inputs, TERMS) {
            for group in parts(w.len() / inputs, GROUP) {
                let product = Product {
                    rows: group.len(),
                    columns: rows,
                    runs: &[Run { a: 0, b: 0, len: terms.len() }],
                    a: w[group.start * inputs + terms.start..].as_ptr(),
                    a_row: inputs,
                    a_step: 1,
                    b: self.values[terms.start * self.width..].as_ptr(),
                    b_panel: self.panel,
                    b_step: self.width,
                    c: sums[group.start * rows..].as_mut_ptr(),
                    c_row: rows,
                    finish: if terms.start == 0 { Finish::Store } else { Finish::Add },
                };
                // SAFETY: the operands have these sizes, and the sums are this call's.
                unsafe { product.run() };
            }
        }
    }
}

impl Sizes {
    pub(super) fn forward<T: Scalar>(self, x: &[T], w: &[T], bias: Option<&[T]>, relu: bool) -> Vec<T> {
        let Self { rows, inputs, outputs } = self;
        let packed = (rows > FEW && inputs > 0).then(|| Packed::new(x, self));
        let task = GROUP * outputs.div_ceil(GROUP * TASKS).min(GROUPS);
        let write = |y: Place<T>| {
            (0..outputs.div_ceil(task)).into_par_iter().for_each(|index| {
                let outputs_here = part(index, task, outputs);
                let w = &w[outputs_here.start * inputs..outputs_here.end * inputs];
                // An output a row.
                let mut sums = Scratch::<T>::new(outputs_here.len() * rows);
                match &packed {
                    Some(packed) => packed.product(w, self, &mut sums),
                    None if inputs == 0 => sums.fill(T::zero()),
                    None => dispatch(Dots { inputs, rows, x, w, sums: &mut sums }),
                }
                for row in 0..rows {
                    for o in outputs_here.clone() {
                        let sum = sums[(o - outputs_here.start) * rows + row];
                        let sum = bias.map_or(sum, |bias| sum + bias[o]);
                        // SAFETY: these outputs are this task's alone. A NaN stays one.
                        unsafe {
                            *y.at(row * outputs + o) = if relu && sum < T::zero() { T::zero() } else { sum }
                        };
                    }
                }
            });
        };
        // SAFETY: the tasks' outputs are all there are.
        unsafe { written(rows * outputs, write) }
    }

    pub(super) fn data_gradient<T: Scalar>(self, w: &[T], dy: &[T]) -> Vec<T> {
        let Self { rows, inputs, outputs } = self;
        if outputs == 0 {
            return vec![T::zero(); rows * inputs];
        }
        let [piece, terms] = PIECE;
        let width = columns::<T>();
        let write = |dx: Place<T>| {
            (0..inputs.div_ceil(piece)).into_par_iter().for_each(|task| {
                let i = part(task, piece, inputs);
                // Where the weights are read more than once they are laid side by side: rows whose distance is a
                // power of two push each other out of the cache.
                let again = rows > GROUP;
                let panel = terms * width;
                let mut block = Scratch::<T>::new(if again { i.len().div_ceil(width) * panel } else { 0 });
                for o in parts(outputs, terms) {
                    if again {
                        for (row, o) in o.clone().enumerate() {
                            let w = &w[o * inputs..][i.clone()];
                            for (w, to) in w.chunks(width).zip(block[row * width..].chunks_mut(panel)) {
                                to[..w.len()].copy_from_slice(w);
                            }
                        }
                    }
                    let product = Product {
                        rows,
                        columns: i.len(),
                        runs: &[Run { a: 0, b: 0, len: o.len() }],
                        a: dy.as_ptr().wrapping_add(o.start),
                        a_row: outputs,
                        a_step: 1,
                        b: if again { block.as_ptr() } else { w[o.start * inputs + i.start..].as_ptr() },
                        b_panel: if again { panel } else { width },
                        b_step: if again { width } else { inputs },
                        c: dx.at(i.start),
                        c_row: inputs,
                        finish: if o.start == 0 { Finish::Store } else { Finish::Add },
                    };
                    // SAFETY: the operands have these sizes, these columns are this task's alone.
                    unsafe { product.run() };
                }
            });
        };
        // SAFETY: the tasks' columns are all there are.
        unsafe { written(rows * inputs, write) }
    }

    pub(super) fn weight_gradient<T: Scalar>(self, x: &[T], dy: &[T]) -> Vec<T> {
        let Self { rows, inputs, outputs } = self;
        if rows == 0 {
            return vec![T::zero(); outputs * inputs];
        }
        let [wide, high] = BLOCK;
        let across = inputs.div_ceil(wide);
        let write = |dw: Place<T>| {
            (0..across * outputs.div_ceil(high)).into_par_iter().for_each(|task| {
                let (i, o) = (part(task % across, wide, inputs), part(task / across, high, outputs));
                // Of many rows so many at a time as the cache holds for all groups.
                for terms in parts(rows, ROWS) {
                    for group in parts(o.len(), GROUP) {
                        let product = Product {
                            rows: group.len(),
                            columns: i.len(),
                            runs: &[Run { a: 0, b: 0, len: terms.len() }],
                            a: dy[terms.start * outputs + o.start + group.start..].as_ptr(),
                            a_row: 1,
                            a_step: outputs,
                            b: x[terms.start * inputs + i.start..].as_ptr(),
                            b_panel: columns::<T>(),
                            b_step: inputs,
                            c: dw.at((o.start + group.start) * inputs + i.start),
                            c_row: inputs,
                            finish: if terms.start == 0 { Finish::Store } else { Finish::Add },
                        };
                        // SAFETY: the operands have these sizes, this block is this task's alone.
                        unsafe { product.run() };
                    }
                }
            });
        };
        // SAFETY: the tasks' blocks are all there are.
        unsafe { written(outputs * inputs, write) }
    }
}

/// x·wᵀ, or x·wᵀ + bias where there are three inputs; with `relu` a negative result becomes 0.
pub(crate) struct Linear {
    pub(crate) sizes: Sizes,
    pub(crate) relu: bool,
}

impl Linear {
    /// The gradient of the sum before the activation.
    fn inner(&self, result: &Tensor, gradient: &Tensor) -> Result<Tensor> {
        if self.relu {
            Op(ActivationGradient(Activation::Relu, result.shape().clone()))
                .apply2_detached([result, gradient])
        } else {
            Ok(gradient.clone())
        }
    }

    fn gradients(&self, x: &Tensor, w: &Tensor, gradient: &Tensor) -> Result<[Option<Tensor>; 2]> {
        let dx = || Op(DataGradient(self.sizes)).apply2_detached([w, gradient]);
        let dw = || Op(WeightGradient(self.sizes)).apply2_detached([x, gradient]);
        Ok([x.track_op().then(dx).transpose()?, w.track_op().then(dw).transpose()?])
    }

    fn output(&self) -> Shape {
        (self.sizes.rows, self.sizes.outputs).into()
    }
}

impl Kernel<2> for Linear {
    const NAME: &'static str = "linear";

    fn shape(&self) -> Shape {
        self.output()
    }

    fn run<T: Scalar>(&self, [x, w]: [&[T]; 2]) -> Vec<T> {
        self.sizes.forward(x, w, None, self.relu)
    }

    fn backward(
        &self,
        [x, w]: [&Tensor; 2],
        result: &Tensor,
        gradient: &Tensor,
    ) -> Result<[Option<Tensor>; 2]> {
        self.gradients(x, w, &self.inner(result, gradient)?)
    }
}

impl Kernel<3> for Linear {
    const NAME: &'static str = "linear";

    fn shape(&self) -> Shape {
        self.output()
    }

    fn run<T: Scalar>(&self, [x, w, bias]: [&[T]; 3]) -> Vec<T> {
        self.sizes.forward(x, w, Some(bias), self.relu)
    }

    fn backward(
        &self,
        [x, w, bias]: [&Tensor; 3],
        result: &Tensor,
        gradient: &Tensor,
    ) -> Result<[Option<Tensor>; 3]> {
        let gradient = self.inner(result, gradient)?;
        let [dx, dw] = self.gradients(x, w, &gradient)?;
        let db = || Op(BiasGradient(self.sizes)).apply_detached([&gradient]);
        Ok([dx, dw, bias.track_op().then(db).transpose()?])
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

/// The sum over the rows.
struct BiasGradient(Sizes);

impl Kernel<1> for BiasGradient {
    const NAME: &'static str = "linear-bias-gradient";

    fn shape(&self) -> Shape {
        self.0.outputs.into()
    }

    fn run<T: Scalar>(&self, [gradient]: [&[T]; 1]) -> Vec<T> {
        let mut total = vec![T::zero(); self.0.outputs];
        for row in gradient.chunks_exact(self.0.outputs.max(1)) {
            for (total, &gradient) in total.iter_mut().zip(row) {
                *total += gradient;
            }
        }
        total
    }
}

//! The order of an image's axes.

use candle_core::{Result, Shape, Tensor};
use rayon::prelude::*;

use super::{Kernel, Op, Scalar};

/// Rows and columns that are turned at a time.
const BLOCK: usize = 16;

/// (batch, rows, columns) to (batch, columns, rows); `shape` is what the result is called.
#[derive(Clone)]
pub(crate) struct Transpose {
    pub(crate) batch: usize,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) shape: Shape,
}

impl Kernel<1> for Transpose {
    const NAME: &'static str = "transpose";

    fn shape(&self) -> Shape {
        self.shape.clone()
    }

    fn run<T: Scalar>(&self, [x]: [&[T]; 1]) -> Vec<T> {
        let Self { rows, columns, .. } = *self;
        let mut y = vec![T::zero(); x.len()];
        // A task makes some rows of the result.
        let blocks = columns.div_ceil(BLOCK);
        let mut tasks: Vec<&mut [T]> = Vec::with_capacity(self.batch * blocks);
        for image in y.chunks_mut(rows * columns) {
            tasks.extend(image.chunks_mut(BLOCK * rows));
        }
        tasks.into_par_iter().enumerate().for_each(|(task, to)| {
            let (image, first) = (task / blocks, task % blocks * BLOCK);
            let x = &x[image * rows * columns..][..rows * columns];
            for start in (0..rows).step_by(BLOCK) {
                for row in start..(start + BLOCK).min(rows) {
                    let from = &x[row * columns + first..];
                    for (to, &x) in to.chunks_exact_mut(rows).zip(from) {
                        to[row] = x;
                    }
                }
            }
        });
        y
    }

    fn backward(&self, [x]: [&Tensor; 1], _: &Tensor, gradient: &Tensor) -> Result<[Option<Tensor>; 1]> {
        let back = Self { rows: self.columns, columns: self.rows, shape: x.shape().clone(), ..*self };
        Ok([Some(Op(back).apply_detached([gradient])?)])
    }
}

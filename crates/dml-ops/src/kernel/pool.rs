//! Max pooling over (time, height, width), with the places of the maxima kept for the gradient.

use std::ops::Range;
use std::sync::OnceLock;

use candle_core::{Error, Result, Shape, Tensor};
use rayon::prelude::*;

use super::{Kernel, Op, Scalar};

/// Elements of the planes that one task pools, at least.
const ELEMENTS: usize = 1 << 14;

/// The sizes of a pooling; in two dimensions the time has one step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Windows {
    pub(crate) input: [usize; 3],
    pub(crate) kernel: [usize; 3],
    pub(crate) stride: [usize; 3],
    pub(crate) low: [usize; 3],
    pub(crate) output: [usize; 3],
}

impl Windows {
    fn inputs(&self) -> usize {
        self.input.iter().product()
    }

    fn outputs(&self) -> usize {
        self.output.iter().product()
    }

    fn planes_per_task(&self) -> usize {
        (ELEMENTS / self.inputs()).max(1)
    }

    /// The inputs along an axis that a window covers.
    fn range(&self, axis: usize, index: usize) -> Range<usize> {
        let start = index * self.stride[axis];
        let end = (start + self.kernel[axis]).saturating_sub(self.low[axis]).min(self.input[axis]);
        start.saturating_sub(self.low[axis])..end
    }

    /// Pools one plane. The rows of the windows are reduced first, over the full width, where the loop vectorises;
    /// `best` and `place` are memory for a row of maxima and their places.
    fn plane<T: Scalar>(&self, x: &[T], y: &mut [T], places: &mut [u32], best: &mut [T], place: &mut [u32]) {
        let [_, height, width] = self.input;
        let rows = y.chunks_exact_mut(self.output[2]).zip(places.chunks_exact_mut(self.output[2]));
        for (row, (y, places)) in rows.enumerate() {
            let (times, lines) = (self.range(0, row / self.output[1]), self.range(1, row % self.output[1]));
            let mut first = true;
            for from in times.flat_map(|t| lines.clone().map(move |h| (t * height + h) * width)) {
                let x = &x[from..from + width];
                let indices = from as u32..;
                if first {
                    best.copy_from_slice(x);
                    place.iter_mut().zip(indices).for_each(|(place, index)| *place = index);
                    first = false;
                    continue;
                }
                for (((best, place), &x), index) in best.iter_mut().zip(place.iter_mut()).zip(x).zip(indices)
                {
                    let better = wins(x, *best);
                    *best = if better { x } else { *best };
                    *place = if better { index } else { *place };
                }
            }
            for (w, (y, to)) in y.iter_mut().zip(places).enumerate() {
                let columns = self.range(2, w);
                let (mut value, mut index) = (best[columns.start], place[columns.start]);
                for (&x, &i) in best[columns.clone()].iter().zip(&place[columns]).skip(1) {
                    // Of equal maxima the first in the order of (time, height, width) counts.
                    if wins(x, value) || (x == value && i < index) {
                        (value, index) = (x, i);
                    }
                }
                (*y, *to) = (value, index);
            }
        }
    }
}

/// A NaN wins over all numbers, so that it does not vanish silently.
#[allow(clippy::eq_op)]
fn wins<T: Scalar>(x: T, best: T) -> bool {
    x > best || x != x
}

/// Max pooling of the last axes of `planes` planes.
pub(crate) struct MaxPool {
    windows: Windows,
    planes: usize,
    shape: Shape,
    /// Where in its plane the maximum of each window is.
    places: OnceLock<Vec<u32>>,
}

impl MaxPool {
    pub(crate) fn new(windows: Windows, planes: usize, shape: Shape) -> Self {
        Self { windows, planes, shape, places: OnceLock::new() }
    }
}

impl Kernel<1> for MaxPool {
    const NAME: &'static str = "max-pool";

    fn shape(&self) -> Shape {
        self.shape.clone()
    }

    fn run<T: Scalar>(&self, [x]: [&[T]; 1]) -> Vec<T> {
        let windows = &self.windows;
        let (inputs, outputs, width) = (windows.inputs(), windows.outputs(), windows.input[2]);
        let planes = windows.planes_per_task();
        let mut y = vec![T::zero(); self.planes * outputs];
        let mut places = vec![0; self.planes * outputs];
        let results = y.par_chunks_mut(planes * outputs).zip(places.par_chunks_mut(planes * outputs));
        results.zip(x.par_chunks(planes * inputs)).for_each(|((y, places), x)| {
            let (mut best, mut place) = (vec![T::zero(); width], vec![0; width]);
            let results = y.chunks_exact_mut(outputs).zip(places.chunks_exact_mut(outputs));
            for ((y, places), x) in results.zip(x.chunks_exact(inputs)) {
                windows.plane(x, y, places, &mut best, &mut place);
            }
        });
        // The operation runs once; a second run would find the same places.
        let _ = self.places.set(places);
        y
    }

    fn backward(&self, [x]: [&Tensor; 1], _: &Tensor, gradient: &Tensor) -> Result<[Option<Tensor>; 1]> {
        let Some(places) = self.places.get() else {
            return Err(Error::BackwardNotSupported { op: "max-pool before its forward pass" });
        };
        let dx = Gradient { windows: self.windows, shape: x.shape().clone(), places };
        Ok([Some(Op(dx).apply_detached([gradient])?)])
    }
}

/// Hands the gradient of each window to the place of its maximum.
struct Gradient<'a> {
    windows: Windows,
    shape: Shape,
    places: &'a [u32],
}

impl Kernel<1> for Gradient<'_> {
    const NAME: &'static str = "max-pool-gradient";

    fn shape(&self) -> Shape {
        self.shape.clone()
    }

    fn run<T: Scalar>(&self, [dy]: [&[T]; 1]) -> Vec<T> {
        let (inputs, outputs) = (self.windows.inputs(), self.windows.outputs());
        let planes = self.windows.planes_per_task();
        let mut dx = vec![T::zero(); self.shape.elem_count()];
        let sources = dy.par_chunks(planes * outputs).zip(self.places.par_chunks(planes * outputs));
        dx.par_chunks_mut(planes * inputs).zip(sources).for_each(|(dx, (dy, places))| {
            let sources = dy.chunks_exact(outputs).zip(places.chunks_exact(outputs));
            for (dx, (dy, places)) in dx.chunks_exact_mut(inputs).zip(sources) {
                for (&dy, &place) in dy.iter().zip(places) {
                    dx[place as usize] += dy;
                }
            }
        });
        dx
    }
}

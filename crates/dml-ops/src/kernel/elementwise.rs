//! Functions of single elements, in vectors on all threads.

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::Scalar;
use super::geometry::part;
use super::result::{Place, written};
use super::simd::{Lane, Real, dispatch};

/// Elements of a task.
const ELEMENTS: usize = 1 << 14;

/// A function of `N` values.
pub(crate) trait Map<const N: usize>: Copy + Send + Sync {
    fn of<T: Real, S: Simd>(&self, s: S, x: [Lane<T, S>; N]) -> Lane<T, S>;
}

/// The function of each element of inputs of one length.
pub(crate) fn map<T: Scalar, const N: usize>(inputs: [&[T]; N], function: impl Map<N>) -> Vec<T> {
    let len = inputs.iter().map(|x| x.len()).min().unwrap_or(0);
    let write = |y: Place<T>| {
        (0..len.div_ceil(ELEMENTS)).into_par_iter().for_each(|task| {
            let part = part(task, ELEMENTS, len);
            let inputs = inputs.map(|x| x[part.clone()].as_ptr());
            dispatch(Part { inputs, y: y.at(part.start), len: part.len(), function });
        });
    };
    // SAFETY: the parts are all there are, each one task's.
    unsafe { written(len, write) }
}

struct Part<T, F, const N: usize> {
    inputs: [*const T; N],
    y: *mut T,
    len: usize,
    function: F,
}

impl<T: Real, F: Map<N>, const N: usize> WithSimd for Part<T, F, N> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        for i in (0..self.len).step_by(T::lanes::<S>()) {
            let left = self.len - i;
            // SAFETY: the inputs and the result have `len` elements.
            unsafe {
                let x = self.inputs.map(
                    #[inline(always)]
                    |x| Lane::load_up_to(s, x.add(i), left),
                );
                self.function.of(s, x).store_up_to(self.y.add(i), left);
            }
        }
    }
}

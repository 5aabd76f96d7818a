use std::cell::RefCell;

use candle_core::WithDType;

use super::simd::Real;

/// f32 or f64, as the kernels see them.
pub(crate) trait Scalar: WithDType + Real {
    fn powf(self, exponent: Self) -> Self;

    fn exp(self) -> Self;

    fn tanh(self) -> Self;

    /// Runs `task` on this thread's scratch memory, `len` elements with arbitrary values: fresh memory for each part
    /// of each operation would cost a page fault every 4 KiB. Not to be nested.
    fn with_scratch<R>(len: usize, task: impl FnOnce(&mut [Self]) -> R) -> R;
}

macro_rules! scalar {
    ($ty:ty) => {
        impl Scalar for $ty {
            fn powf(self, exponent: Self) -> Self {
                self.powf(exponent)
            }

            fn exp(self) -> Self {
                self.exp()
            }

            fn tanh(self) -> Self {
                self.tanh()
            }

            fn with_scratch<R>(len: usize, task: impl FnOnce(&mut [Self]) -> R) -> R {
                thread_local!(static SCRATCH: RefCell<Vec<$ty>> = const { RefCell::new(Vec::new()) });
                SCRATCH.with_borrow_mut(|scratch| {
                    if scratch.len() < len {
                        scratch.resize(len, 0.0);
                    }
                    task(&mut scratch[..len])
                })
            }
        }
    };
}

scalar!(f32);
scalar!(f64);

/// A row-major result matrix that several tasks write, each its own part.
#[derive(Clone, Copy)]
pub(crate) struct MatrixMut<T> {
    data: *mut T,
    len: usize,
}

// SAFETY: each task of a kernel writes a part of its own (the callers' contract of the unsafe methods).
unsafe impl<T: Send> Send for MatrixMut<T> {}
unsafe impl<T: Send> Sync for MatrixMut<T> {}

impl<T> MatrixMut<T> {
    pub(crate) fn new(data: &mut [T]) -> Self {
        Self { data: data.as_mut_ptr(), len: data.len() }
    }

    /// The first element.
    pub(crate) fn start(&self) -> *mut T {
        self.data
    }

    /// The elements from `offset` on.
    ///
    /// # Safety
    /// No other reference to these elements may exist while the slice is used, and the memory given to
    /// [`MatrixMut::new`] must be alive.
    #[allow(clippy::mut_from_ref)]
    pub(crate) unsafe fn slice(&self, offset: usize, len: usize) -> &mut [T] {
        assert!(offset + len <= self.len, "a part reaches beyond the result");
        unsafe { std::slice::from_raw_parts_mut(self.data.add(offset), len) }
    }
}

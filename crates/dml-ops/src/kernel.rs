//! The bridge between candle's tensors and this crate's CPU kernels.
//!
//! A [`Kernel`] is a function from slices to a vector, with the shape of its result and, where it has one, its
//! gradient. [`Op`] makes a custom operation of it. The kernels split their work into parts that depend on the shapes
//! alone, each part computed by one thread, so that results are the same bits for any number of threads.

// Loops over registers and points read like their formulas with indices, and are unrolled.
#![allow(clippy::needless_range_loop)]

pub(crate) mod activation;
pub(crate) mod adam;
pub(crate) mod after;
pub(crate) mod cache;
pub(crate) mod conv;
pub(crate) mod depthwise;
pub(crate) mod direct;
pub(crate) mod elementwise;
pub(crate) mod encoder;
pub(crate) mod filters;
pub(crate) mod geometry;
pub(crate) mod gru;
pub(crate) mod linear;
pub(crate) mod lrn;
pub(crate) mod pool;
pub(crate) mod product;
pub(crate) mod result;
pub(crate) mod scratch;
pub(crate) mod simd;
pub(crate) mod sums;
pub(crate) mod transpose;
pub(crate) mod violation;
pub(crate) mod winograd;

mod scalar;

#[cfg(test)]
mod instruction_sets;

use candle_core::{
    CpuStorage, CustomOp1, CustomOp2, CustomOp3, DType, Device, Error, Layout, Result, Shape, Storage, Tensor,
};

use crate::backward::keep;
pub(crate) use scalar::{MatrixMut, Scalar};

/// Whether the operations on this tensor run on the CPU kernels; all others run on [`crate::portable`].
///
/// The one place where this choice is made.
pub(crate) fn on_cpu_kernel(x: &Tensor) -> bool {
    x.device().is_cpu() && matches!(x.dtype(), DType::F32 | DType::F64)
}

/// A CPU kernel of `N` inputs of one type.
pub(crate) trait Kernel<const N: usize>: Send + Sync {
    /// The name in messages.
    const NAME: &'static str;

    /// The shape of the result.
    fn shape(&self) -> Shape;

    /// The result, in row-major order; the inputs are row-major and of the shapes the kernel was made for.
    fn run<T: Scalar>(&self, inputs: [&[T]; N]) -> Vec<T>;

    /// The gradient of each input that needs one (see [`Tensor::track_op`]); `gradient` is that of the result.
    fn backward(
        &self,
        _inputs: [&Tensor; N],
        _result: &Tensor,
        _gradient: &Tensor,
    ) -> Result<[Option<Tensor>; N]> {
        Err(Error::BackwardNotSupported { op: Self::NAME })
    }

    /// The gradient of each wanted input from `[result, gradient of the result]`: what [`gradients`] asks for.
    fn gradients<T: Scalar>(
        &self,
        _inputs: [&[T]; N],
        _values: [&[T]; 2],
        _wanted: [bool; N],
    ) -> Result<[Option<Vec<T>>; N]> {
        Err(Error::BackwardNotSupported { op: Self::NAME })
    }
}

/// A kernel's gradients, computed on the tensors' memory.
pub(crate) fn gradients<const N: usize, K: Kernel<N>>(
    kernel: &K,
    inputs: [&Tensor; N],
    result: &Tensor,
    gradient: &Tensor,
) -> Result<[Option<Tensor>; N]> {
    fn run<T: Scalar, const N: usize, K: Kernel<N>>(
        kernel: &K,
        inputs: [&Tensor; N],
        values: [&Tensor; 2],
    ) -> Result<[Option<Tensor>; N]> {
        let wanted = inputs.map(Tensor::track_op);
        let made = with_slices::<T, N, _>(inputs, |inputs| {
            with_slices::<T, 2, _>(values, |values| kernel.gradients(inputs, values, wanted))
        })?;
        let mut gradients = [const { None }; N];
        for ((gradient, made), input) in gradients.iter_mut().zip(made).zip(inputs) {
            *gradient = made.map(|made| Tensor::from_vec(made, input.shape(), &Device::Cpu)).transpose()?;
        }
        Ok(gradients)
    }
    let gradient = gradient.contiguous()?;
    match result.dtype() {
        DType::F64 => run::<f64, N, K>(kernel, inputs, [result, &gradient]),
        _ => run::<f32, N, K>(kernel, inputs, [result, &gradient]),
    }
}

fn with_slices<T: Scalar, const N: usize, R>(
    tensors: [&Tensor; N],
    task: impl FnOnce([&[T]; N]) -> Result<R>,
) -> Result<R> {
    let guards = tensors.map(Tensor::storage_and_layout);
    let mut slices: [&[T]; N] = [&[]; N];
    for (to, (storage, layout)) in slices.iter_mut().zip(&guards) {
        let Storage::Cpu(storage) = &**storage else {
            return Err(Error::RequiresContiguous { op: "dml-ops kernel on the CPU" });
        };
        *to = slice(storage, layout)?;
    }
    task(slices)
}

/// A kernel as candle's custom operation.
pub(crate) struct Op<K>(pub(crate) K);

impl<K: Kernel<1>> Op<K> {
    /// The differentiable result.
    pub(crate) fn apply(self, [a]: [&Tensor; 1]) -> Result<Tensor>
    where
        K: 'static,
    {
        a.contiguous()?.apply_op1(self)
    }

    /// The result without a graph, for gradients.
    pub(crate) fn apply_detached(self, [a]: [&Tensor; 1]) -> Result<Tensor> {
        a.contiguous()?.apply_op1_no_bwd(&self)
    }
}

impl<K: Kernel<2>> Op<K> {
    /// The differentiable result.
    pub(crate) fn apply2(self, [a, b]: [&Tensor; 2]) -> Result<Tensor>
    where
        K: 'static,
    {
        a.contiguous()?.apply_op2(&b.contiguous()?, self)
    }

    /// The result without a graph, for gradients.
    pub(crate) fn apply2_detached(self, [a, b]: [&Tensor; 2]) -> Result<Tensor> {
        a.contiguous()?.apply_op2_no_bwd(&b.contiguous()?, &self)
    }
}

impl<K: Kernel<3>> Op<K> {
    /// The differentiable result.
    pub(crate) fn apply3(self, [a, b, c]: [&Tensor; 3]) -> Result<Tensor>
    where
        K: 'static,
    {
        a.contiguous()?.apply_op3(&b.contiguous()?, &c.contiguous()?, self)
    }
}

fn slice<'a, T: Scalar>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [T]> {
    let all = T::cpu_storage_as_slice(storage)?;
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&all[start..end]),
        None => Err(Error::RequiresContiguous { op: "dml-ops kernel" }),
    }
}

fn run<T: Scalar, const N: usize, K: Kernel<N>>(
    kernel: &K,
    inputs: [(&CpuStorage, &Layout); N],
) -> Result<(CpuStorage, Shape)> {
    let mut slices: [&[T]; N] = [&[]; N];
    for (to, (storage, layout)) in slices.iter_mut().zip(inputs) {
        *to = slice(storage, layout)?;
    }
    Ok((T::to_cpu_storage_owned(kernel.run(slices)), kernel.shape()))
}

fn launch<const N: usize, K: Kernel<N>>(
    kernel: &K,
    inputs: [(&CpuStorage, &Layout); N],
) -> Result<(CpuStorage, Shape)> {
    match inputs.first() {
        Some((CpuStorage::F64(_), _)) => run::<f64, N, K>(kernel, inputs),
        // Any other type fails there with candle's message about the type.
        _ => run::<f32, N, K>(kernel, inputs),
    }
}

impl<K: Kernel<1>> CustomOp1 for Op<K> {
    fn name(&self) -> &'static str {
        K::NAME
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        launch(&self.0, [(s, l)])
    }

    fn bwd(&self, a: &Tensor, result: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let [da] = self.0.backward([a], result, gradient)?;
        keep(a, da)
    }
}

impl<K: Kernel<2>> CustomOp2 for Op<K> {
    fn name(&self) -> &'static str {
        K::NAME
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        launch(&self.0, [(s1, l1), (s2, l2)])
    }

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        result: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let [da, db] = self.0.backward([a, b], result, gradient)?;
        Ok((keep(a, da)?, keep(b, db)?))
    }
}

impl<K: Kernel<3>> CustomOp3 for Op<K> {
    fn name(&self) -> &'static str {
        K::NAME
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        launch(&self.0, [(s1, l1), (s2, l2), (s3, l3)])
    }

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        c: &Tensor,
        result: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let [da, db, dc] = self.0.backward([a, b, c], result, gradient)?;
        Ok((keep(a, da)?, keep(b, db)?, keep(c, dc)?))
    }
}

//! Local response normalisation and dropout.

use candle_core::cuda_backend::cudarc::driver::PushKernelArg;
use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor, backend::BackendStorage,
};

use super::{Element, by_type, kernel, launched, not_on_cpu, result, serves, threads, values, wrap};
use crate::Lrn;
use crate::backward::keep;

/// See [`crate::channels_last::lrn`].
pub(crate) fn lrn(x: &Tensor, options: &Lrn) -> Result<Option<Tensor>> {
    if !serves(x) {
        return Ok(None);
    }
    x.contiguous()?.apply_op1(Normalise(*options)).map(Some)
}

#[derive(Clone, Copy)]
struct Normalise(Lrn);

impl Normalise {
    /// Forward, or the gradient where there is one of the result.
    fn run<T: Element>(
        self,
        (x, x_layout): (&CudaStorage, &Layout),
        gradient: Option<(&CudaStorage, &Layout)>,
    ) -> Result<(CudaStorage, Shape)> {
        let (device, shape) = (x.device(), x_layout.shape());
        let x = values::<T>(x, x_layout)?;
        let dy = gradient.map(|(dy, layout)| values::<T>(dy, layout)).transpose()?;
        let mut to = result::<T>(device, shape, "local response normalisation")?;
        let count = shape.elem_count();
        let channels = shape.dims().last().copied().unwrap_or(1) as i32;
        let size = self.0.size as i32;
        let (alpha, beta, k) = (self.0.factor() as f32, self.0.beta as f32, self.0.k as f32);
        let func = kernel::<T>(device, if dy.is_some() { "lrn_gradient" } else { "lrn" })?;
        let mut launch = func.builder();
        launch.arg(&x);
        if let Some(dy) = &dy {
            launch.arg(dy);
        }
        launch.arg(&mut to).arg(&count).arg(&channels).arg(&size).arg(&alpha).arg(&beta).arg(&k);
        // SAFETY: these are the kernel's parameters, and the sizes are those of the slices.
        launched(unsafe { launch.launch(threads(count)?) })?;
        Ok(wrap(to, device, shape))
    }
}

impl CustomOp1 for Normalise {
    fn name(&self) -> &'static str {
        "lrn"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        not_on_cpu(self.name())
    }

    fn cuda_fwd(&self, x: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        fn run<T: Element>(op: Normalise, x: (&CudaStorage, &Layout)) -> Result<(CudaStorage, Shape)> {
            op.run::<T>(x, None)
        }
        by_type!(x.dtype(), "lrn", run(*self, (x, layout)))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        keep(x, Some(x.apply_op2_no_bwd(&gradient.contiguous()?, &NormaliseGradient(*self))?))
    }
}

struct NormaliseGradient(Normalise);

impl CustomOp2 for NormaliseGradient {
    fn name(&self) -> &'static str {
        "lrn-gradient"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        not_on_cpu(self.name())
    }

    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        x_layout: &Layout,
        dy: &CudaStorage,
        dy_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        fn run<T: Element>(
            op: Normalise,
            x: (&CudaStorage, &Layout),
            dy: (&CudaStorage, &Layout),
        ) -> Result<(CudaStorage, Shape)> {
            op.run::<T>(x, Some(dy))
        }
        by_type!(x.dtype(), "lrn-gradient", run(self.0, (x, x_layout), (dy, dy_layout)))
    }
}

/// Inverted dropout: a row's random bits are the stream of its key, 16 for each value, as on the CPU.
pub(crate) fn dropout(
    x: &Tensor,
    threshold: u16,
    factor: f64,
    keys: Vec<[u8; 32]>,
) -> Result<Option<Tensor>> {
    if !serves(x) {
        return Ok(None);
    }
    x.contiguous()?.apply_op1(Dropout { threshold, factor, keys }).map(Some)
}

#[derive(Clone)]
struct Dropout {
    threshold: u16,
    factor: f64,
    keys: Vec<[u8; 32]>,
}

impl CustomOp1 for Dropout {
    fn name(&self) -> &'static str {
        "dropout"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        not_on_cpu(self.name())
    }

    fn cuda_fwd(&self, x: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        fn run<T: Element>(op: &Dropout, x: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
            let (device, shape) = (x.device(), layout.shape());
            let x = values::<T>(x, layout)?;
            // The kernel reads them as little-endian words, which all of CUDA's machines have.
            let keys = device.clone_htod(op.keys.as_flattened())?;
            let mut y = result::<T>(device, shape, "dropout")?;
            let rows = op.keys.len();
            let columns = shape.elem_count() / rows.max(1);
            let (threshold, factor) = (u32::from(op.threshold), op.factor as f32);
            let func = kernel::<T>(device, "dropout")?;
            let mut launch = func.builder();
            launch.arg(&x).arg(&mut y).arg(&keys).arg(&rows).arg(&columns).arg(&threshold).arg(&factor);
            // SAFETY: these are the kernel's parameters, and the sizes are those of the slices.
            launched(unsafe { launch.launch(threads(rows * columns.div_ceil(32))?) })?;
            Ok(wrap(y, device, shape))
        }
        by_type!(x.dtype(), "dropout", run(self, x, layout))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        keep(x, Some(gradient.contiguous()?.apply_op1_no_bwd(self)?))
    }
}

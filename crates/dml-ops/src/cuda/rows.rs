//! Operations on the rows of a matrix: a warp takes a row.

use candle_core::cuda_backend::cudarc::driver::PushKernelArg;
use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, CustomOp2, DType, Layout, Result, Shape, Tensor,
    backend::BackendStorage,
};

use super::{Kernel, launched, not_on_cpu, result, threads, values, wrap};
use crate::backward::keep;

/// Threads of a warp.
const LANES: usize = 32;

/// See [`crate::log_softmax`].
pub(crate) fn log_softmax(x: &Tensor) -> Result<Option<Tensor>> {
    Rows::LogSoftmax.apply(x)
}

/// See [`crate::l2_normalize`].
pub(crate) fn l2_normalize(x: &Tensor) -> Result<Option<Tensor>> {
    Rows::L2Normalize.apply(x)
}

#[derive(Clone, Copy)]
enum Rows {
    LogSoftmax,
    L2Normalize,
}

impl Rows {
    fn apply(self, x: &Tensor) -> Result<Option<Tensor>> {
        if !x.device().is_cuda() || x.dtype() != DType::F32 {
            return Ok(None);
        }
        x.contiguous()?.apply_op1(self).map(Some)
    }

    /// The names of the kernels, forward and backward.
    fn names(self) -> [&'static str; 2] {
        match self {
            Self::LogSoftmax => ["log_softmax", "log_softmax_gradient"],
            Self::L2Normalize => ["l2_normalize", "l2_normalize_gradient"],
        }
    }

    /// Forward from the argument, or backward from what the kernel takes and the gradient of the result.
    fn run(
        self,
        (x, layout): (&CudaStorage, &Layout),
        gradient: Option<(&CudaStorage, &Layout)>,
    ) -> Result<(CudaStorage, Shape)> {
        let (device, shape) = (x.device(), layout.shape());
        let (rows, columns) = shape.dims2()?;
        let x = values::<f32>(x, layout)?;
        let dy = gradient.map(|(dy, layout)| values::<f32>(dy, layout)).transpose()?;
        let [forward, backward] = self.names();
        let mut to = result::<f32>(device, shape, forward)?;
        let func = Kernel::named(device, if dy.is_some() { backward } else { forward })?;
        let mut launch = func.builder();
        launch.arg(&x);
        if let Some(dy) = &dy {
            launch.arg(dy);
        }
        launch.arg(&mut to).arg(&rows).arg(&columns);
        // SAFETY: these are the kernel's parameters, and the sizes are those of the slices.
        launched(unsafe { launch.launch(threads(rows * LANES)?) })?;
        Ok(wrap(to, device, shape))
    }
}

impl CustomOp1 for Rows {
    fn name(&self) -> &'static str {
        self.names()[0]
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        not_on_cpu(self.name())
    }

    fn cuda_fwd(&self, x: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        self.run((x, layout), None)
    }

    fn bwd(&self, x: &Tensor, y: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let from = match self {
            Self::LogSoftmax => y,
            Self::L2Normalize => x,
        };
        keep(x, Some(from.detach().apply_op2_no_bwd(&gradient.contiguous()?, &RowsGradient(*self))?))
    }
}

struct RowsGradient(Rows);

impl CustomOp2 for RowsGradient {
    fn name(&self) -> &'static str {
        self.0.names()[1]
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
        self.0.run((x, x_layout), Some((dy, dy_layout)))
    }
}

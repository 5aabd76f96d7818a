//! Bias, activation and max pooling in one pass, and their gradients.

use std::sync::{Arc, OnceLock};

use candle_core::cuda_backend::cudarc::driver::{CudaSlice, DeviceRepr, PushKernelArg};
use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, CustomOp2, Error, Layout, Result, Shape, Tensor,
    backend::BackendStorage,
};

use super::{Element, by_type, kernel, launched, not_on_cpu, result, serves, threads, values, wrap};
use crate::Activation;
use crate::backward::keep;
use crate::kernel::pool::Pooling;

/// Chunks of rows that a bias gradient is summed in.
const CHUNKS: usize = 1024;

/// The kernels' form of a [`Pooling`]: `struct pooling` in `cuda/ops.cu`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Windows {
    inputs: usize,
    outputs: usize,
    channels: i32,
    input: [i32; 3],
    kernel: [i32; 3],
    stride: [i32; 3],
    low: [i32; 3],
    output: [i32; 3],
}

// SAFETY: plain numbers, laid out as in C.
unsafe impl DeviceRepr for Windows {}

impl From<&Pooling> for Windows {
    fn from(pool: &Pooling) -> Self {
        let sizes = |sizes: [usize; 3]| sizes.map(|size| size as i32);
        Self {
            inputs: pool.batch * pool.channels * pool.input.iter().product::<usize>(),
            outputs: pool.outputs(),
            channels: pool.channels as i32,
            input: sizes(pool.input),
            kernel: sizes(pool.kernel),
            stride: sizes(pool.stride),
            low: sizes(pool.low),
            output: sizes(pool.output),
        }
    }
}

fn code(activation: Activation) -> i32 {
    match activation {
        Activation::None => 0,
        Activation::Relu => 1,
        Activation::Relu6 => 2,
    }
}

/// activation(x + bias) of channels-last values, or of the largest of each window.
///
/// # Shapes
/// `x` (…, c), `bias` (c) → `shape`, that of `x` unless there are windows.
pub(crate) fn bias_activation(
    x: &Tensor,
    bias: Option<&Tensor>,
    activation: Activation,
    pool: Option<(Pooling, Shape)>,
) -> Result<Option<Tensor>> {
    if !serves(x) {
        return Ok(None);
    }
    let (pool, shape) = pool.map_or((None, x.shape().clone()), |(pool, shape)| (Some(pool), shape));
    let op = After { activation, pool, shape, places: OnceLock::new() };
    let x = x.contiguous()?;
    Ok(Some(match bias {
        Some(bias) => x.apply_op2(&bias.contiguous()?, op)?,
        None if activation == Activation::None && op.pool.is_none() => x,
        None => x.apply_op1(op)?,
    }))
}

/// Max pooling by itself.
pub(crate) fn max_pool(x: &Tensor, pool: Pooling, shape: Shape) -> Result<Option<Tensor>> {
    bias_activation(x, None, Activation::None, Some((pool, shape)))
}

struct After {
    activation: Activation,
    pool: Option<Pooling>,
    shape: Shape,
    /// Which value of its window each pooled value is.
    places: OnceLock<Arc<CudaSlice<u8>>>,
}

impl After {
    fn run<T: Element>(
        &self,
        x: &CudaStorage,
        x_layout: &Layout,
        bias: Option<(&CudaStorage, &Layout)>,
    ) -> Result<(CudaStorage, Shape)> {
        let device = x.device();
        let x = values::<T>(x, x_layout)?;
        let bias = bias.map(|(bias, layout)| values::<T>(bias, layout)).transpose()?;
        let mut y = result::<T>(device, &self.shape, "bias, activation and pooling")?;
        let (count, activation, null) = (self.shape.elem_count(), code(self.activation), 0u64);
        let func = kernel::<T>(
            device,
            if self.pool.is_some() { "bias_activation_pool" } else { "bias_activation" },
        )?;
        let channels = self.shape.dims().last().copied().unwrap_or(1) as i32;
        let windows = self.pool.as_ref().map(Windows::from);
        // SAFETY: written by the kernel, a place for each value of the result.
        let mut places = unsafe { device.alloc::<u8>(if windows.is_some() { count } else { 0 })? };
        let mut launch = func.builder();
        launch.arg(&x);
        match &bias {
            Some(bias) => launch.arg(bias),
            None => launch.arg(&null),
        };
        launch.arg(&mut y);
        match &windows {
            Some(windows) => launch.arg(&mut places).arg(windows).arg(&activation),
            None => launch.arg(&count).arg(&channels).arg(&activation),
        };
        // SAFETY: these are the kernel's parameters, and the sizes are those of the slices.
        launched(unsafe { launch.launch(threads(count)?) })?;
        if windows.is_some() {
            let _ = self.places.set(Arc::new(places));
        }
        Ok(wrap(y, device, &self.shape))
    }

    /// The gradient of the sum before the activation.
    fn inner(&self, x: &Tensor, result: &Tensor, gradient: &Tensor) -> Result<Tensor> {
        if self.activation == Activation::None && self.pool.is_none() {
            return gradient.contiguous();
        }
        let places = match (&self.pool, self.places.get()) {
            (None, _) => None,
            (Some(_), Some(places)) => Some(places.clone()),
            (Some(_), None) => {
                return Err(Error::BackwardNotSupported { op: "max-pool before its forward pass" });
            }
        };
        let op =
            AfterGradient { activation: self.activation, pool: self.pool, shape: x.shape().clone(), places };
        result.apply_op2_no_bwd(&gradient.contiguous()?, &op)
    }
}

impl CustomOp1 for After {
    fn name(&self) -> &'static str {
        "activation"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        not_on_cpu(CustomOp1::name(self))
    }

    fn cuda_fwd(&self, x: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        fn run<T: Element>(op: &After, x: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
            op.run::<T>(x, layout, None)
        }
        by_type!(x.dtype(), "activation", run(self, x, layout))
    }

    fn bwd(&self, x: &Tensor, result: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        keep(x, Some(self.inner(x, result, gradient)?))
    }
}

impl CustomOp2 for After {
    fn name(&self) -> &'static str {
        "bias-activation"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        not_on_cpu(CustomOp2::name(self))
    }

    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        x_layout: &Layout,
        bias: &CudaStorage,
        bias_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        fn run<T: Element>(
            op: &After,
            x: &CudaStorage,
            layout: &Layout,
            bias: (&CudaStorage, &Layout),
        ) -> Result<(CudaStorage, Shape)> {
            op.run::<T>(x, layout, Some(bias))
        }
        by_type!(x.dtype(), "bias-activation", run(self, x, x_layout, (bias, bias_layout)))
    }

    fn bwd(
        &self,
        x: &Tensor,
        bias: &Tensor,
        result: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let inner = self.inner(x, result, gradient)?;
        let channels = bias.elem_count();
        let db = || inner.apply_op1_no_bwd(&ColumnSums { columns: channels });
        let db = bias.track_op().then(db).transpose()?;
        Ok((keep(x, x.track_op().then_some(inner))?, keep(bias, db)?))
    }
}

/// From the result and its gradient.
struct AfterGradient {
    activation: Activation,
    pool: Option<Pooling>,
    /// That before the pooling.
    shape: Shape,
    places: Option<Arc<CudaSlice<u8>>>,
}

impl CustomOp2 for AfterGradient {
    fn name(&self) -> &'static str {
        "activation-gradient"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        not_on_cpu(self.name())
    }

    fn cuda_fwd(
        &self,
        y: &CudaStorage,
        y_layout: &Layout,
        dy: &CudaStorage,
        dy_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        fn run<T: Element>(
            op: &AfterGradient,
            (y, dy): (&CudaStorage, &CudaStorage),
            (y_layout, dy_layout): (&Layout, &Layout),
        ) -> Result<(CudaStorage, Shape)> {
            let device = y.device();
            let (y, dy) = (values::<T>(y, y_layout)?, values::<T>(dy, dy_layout)?);
            let mut dx = result::<T>(device, &op.shape, "gradient of an activation")?;
            let (count, activation) = (op.shape.elem_count(), code(op.activation));
            let func =
                kernel::<T>(device, if op.pool.is_some() { "pool_gradient" } else { "activation_gradient" })?;
            let windows = op.pool.as_ref().map(Windows::from);
            let mut launch = func.builder();
            launch.arg(&y).arg(&dy);
            match (&windows, &op.places) {
                (Some(windows), Some(places)) => {
                    launch.arg(&**places).arg(&mut dx).arg(windows).arg(&activation)
                }
                _ => launch.arg(&mut dx).arg(&count).arg(&activation),
            };
            // SAFETY: these are the kernel's parameters, and the sizes are those of the slices.
            launched(unsafe { launch.launch(threads(count)?) })?;
            Ok(wrap(dx, device, &op.shape))
        }
        by_type!(y.dtype(), "activation-gradient", run(self, (y, dy), (y_layout, dy_layout)))
    }
}

/// The sum over all axes but the last, in a fixed order.
struct ColumnSums {
    columns: usize,
}

impl CustomOp1 for ColumnSums {
    fn name(&self) -> &'static str {
        "bias-gradient"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        not_on_cpu(self.name())
    }

    fn cuda_fwd(&self, x: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        fn run<T: Element>(columns: usize, x: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
            let device = x.device();
            let rows = layout.shape().elem_count() / columns.max(1);
            let rows_of_chunk = rows.div_ceil(CHUNKS).max(1);
            let chunks = rows.div_ceil(rows_of_chunk);
            let x = values::<T>(x, layout)?;
            let mut partial = result::<f32>(device, &(chunks * columns).into(), "gradient of a bias")?;
            let mut total = result::<T>(device, &columns.into(), "gradient of a bias")?;
            let (columns_c, chunks_c) = (columns as i32, chunks as i32);
            let func = kernel::<T>(device, "column_sums")?;
            let mut launch = func.builder();
            launch.arg(&x).arg(&mut partial).arg(&rows).arg(&columns_c).arg(&rows_of_chunk);
            // SAFETY: these are the kernel's parameters, and the sizes are those of the slices.
            launched(unsafe { launch.launch(threads(chunks * columns)?) })?;
            let func = kernel::<T>(device, "column_totals")?;
            let mut launch = func.builder();
            launch.arg(&partial).arg(&mut total).arg(&columns_c).arg(&chunks_c);
            // SAFETY: as above.
            launched(unsafe { launch.launch(threads(columns)?) })?;
            Ok(wrap(total, device, &columns.into()))
        }
        by_type!(x.dtype(), "bias-gradient", run(self.columns, x, layout))
    }
}

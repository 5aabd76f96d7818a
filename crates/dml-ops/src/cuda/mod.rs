//! The operations on NVIDIA GPUs: convolutions by cuDNN, the rest by the kernels in `cuda/ops.cu`.
//!
//! Each function answers `None` where it does not serve (other devices, other types), and the caller goes on with
//! [`crate::portable`]. Tensors are f32 or bf16; sums are f32. Everything runs on candle's stream of the device; nothing
//! here waits for it but the measuring of algorithms.
//!
//! **Not yet run on a GPU**: it compiles and links; the kernels' arithmetic is tested thread by thread on the CPU
//! (`tests/ops/cuda_kernels.rs`).

mod adam;
mod after;
#[cfg(feature = "cudnn")]
mod conv;
mod memory;
mod pointwise;
mod rows;

use std::sync::Arc;

use candle_core::cuda_backend::cudarc::driver::{
    CudaFunction, CudaSlice, CudaStream, CudaView, DeviceRepr, LaunchArgs, LaunchConfig,
};
use candle_core::cuda_backend::{CudaDType, CudaDevice, CudaStorage, WrapErr};
use candle_core::{CpuStorage, DType, Error, Layout, Result, Shape, Tensor, WithDType};
use half::bf16;

use crate::Activation;
use crate::kernel::geometry::Geometry;
use crate::kernel::pool::Pooling;

pub(crate) use adam::update;
pub(crate) use after::{bias_activation, max_pool};
#[cfg(feature = "cudnn")]
use conv::convolution;
pub use memory::{DeviceMemory, device_memory, keep_memory};
pub(crate) use pointwise::{dropout, lrn};
pub(crate) use rows::{l2_normalize, log_softmax};

#[allow(dead_code, unreachable_pub, missing_docs)]
mod ptx {
    include!(concat!(env!("OUT_DIR"), "/ptx.rs"));
}

/// A convolution of channels-last images in `groups` groups with what follows it.
///
/// # Shapes
/// `x` (n, …, c), `w` (o, c / groups, …), `bias` (o) → `shape`, or that which comes with the pooling.
pub(crate) fn layer(
    [x, w]: [&Tensor; 2],
    bias: Option<&Tensor>,
    (geometry, groups): (&Geometry, usize),
    activation: Activation,
    pool: Option<(Pooling, Shape)>,
    shape: &Shape,
) -> Result<Option<Tensor>> {
    match convolution(x, w, geometry, groups, shape)? {
        Some(sums) => bias_activation(&sums, bias, activation, pool),
        None => Ok(None),
    }
}

#[cfg(not(feature = "cudnn"))]
fn convolution(_: &Tensor, _: &Tensor, _: &Geometry, _: usize, _: &Shape) -> Result<Option<Tensor>> {
    Ok(None)
}

/// Threads of a block.
const THREADS: u32 = 256;

/// Whether this module's kernels serve for the tensor.
pub(crate) fn serves(x: &Tensor) -> bool {
    x.device().is_cuda() && matches!(x.dtype(), DType::F32 | DType::BF16)
}

/// A type that the kernels are compiled for.
pub(crate) trait Element: CudaDType + DeviceRepr + WithDType {
    /// What the names of its kernels end in.
    const SUFFIX: &'static str;
}

impl Element for f32 {
    const SUFFIX: &'static str = "f32";
}

impl Element for bf16 {
    const SUFFIX: &'static str = "bf16";
}

/// Calls a function for the element type of a storage.
macro_rules! by_type {
    ($dtype:expr, $name:literal, $function:ident($($argument:expr),*)) => {
        match $dtype {
            candle_core::DType::F32 => $function::<f32>($($argument),*),
            candle_core::DType::BF16 => $function::<half::bf16>($($argument),*),
            other => candle_core::bail!("{}: no CUDA kernel for {other:?}", $name),
        }
    };
}
pub(crate) use by_type;

/// The values of a tensor, which lie side by side.
fn values<'a, T: CudaDType>(storage: &'a CudaStorage, layout: &Layout) -> Result<CudaView<'a, T>> {
    let Some((start, end)) = layout.contiguous_offsets() else {
        return Err(Error::RequiresContiguous { op: "dml-ops kernel on CUDA" });
    };
    Ok(storage.as_cuda_slice::<T>()?.slice(start..end))
}

/// A result that a kernel will write, all of it.
fn result<T: Element>(device: &CudaDevice, shape: &Shape, op: &str) -> Result<CudaSlice<T>> {
    // SAFETY: the caller's kernel writes every value before any is read.
    let made = unsafe { device.alloc::<T>(shape.elem_count()) };
    made.map_err(|error| {
        let mebibytes = (shape.elem_count() * size_of::<T>()) >> 20;
        error.context(format!("{op}: no room on the GPU for a result of shape {shape:?} ({mebibytes} MiB)"))
    })
}

fn wrap<T: Element>(values: CudaSlice<T>, device: &CudaDevice, shape: &Shape) -> (CudaStorage, Shape) {
    (CudaStorage::wrap_cuda_slice(values, device.clone()), shape.clone())
}

/// A kernel of `cuda/ops.cu`, on candle's stream.
struct Kernel {
    function: CudaFunction,
    stream: Arc<CudaStream>,
}

impl Kernel {
    fn named(device: &CudaDevice, name: &str) -> Result<Self> {
        let function = device.get_or_load_custom_func(name, "dml-ops", ptx::OPS)?.into_cuda_function();
        Ok(Self { function, stream: device.cuda_stream() })
    }

    fn builder(&self) -> LaunchArgs<'_> {
        self.stream.launch_builder(&self.function)
    }
}

fn kernel<T: Element>(device: &CudaDevice, name: &str) -> Result<Kernel> {
    Kernel::named(device, &format!("{name}_{}", T::SUFFIX))
}

/// As many threads as there are elements.
fn threads(elements: usize) -> Result<LaunchConfig> {
    let blocks = u32::try_from(elements.div_ceil(THREADS as usize)).map_err(Error::wrap)?;
    Ok(LaunchConfig { grid_dim: (blocks.max(1), 1, 1), block_dim: (THREADS, 1, 1), shared_mem_bytes: 0 })
}

/// What an operation of this module answers on the CPU.
fn not_on_cpu(op: &'static str) -> Result<(CpuStorage, Shape)> {
    Err(Error::msg(format!("{op}: this form runs on CUDA only")))
}

/// The launch's error in candle's form.
fn launched<R, E>(result: std::result::Result<R, E>) -> Result<()>
where
    std::result::Result<R, E>: WrapErr<R>,
{
    result.w().map(|_| ())
}

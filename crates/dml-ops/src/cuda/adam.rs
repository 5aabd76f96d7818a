//! Adam's step for many parameters at once.

use candle_core::cuda_backend::cudarc::driver::{DevicePtr, DeviceRepr, LaunchConfig, PushKernelArg};
use candle_core::{Error, Result, Storage, Tensor};

use super::{Kernel, THREADS, launched};
use crate::kernel::adam::{Item, Step};

/// `PARAMETERS` and `PARAMETERS_OF_BLOCK` of `cuda/ops.cu`.
const PARAMETERS: usize = 48;
const PARAMETERS_OF_BLOCK: usize = 4096;

/// `struct parameter` of `cuda/ops.cu`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Parameter {
    p: u64,
    g: u64,
    m: u64,
    v: u64,
    count: usize,
    first_block: u32,
    rate: f32,
    root: f32,
    unused: u32,
}

/// `struct parameters` of `cuda/ops.cu`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Parameters {
    all: [Parameter; PARAMETERS],
    count: u32,
    beta1: f32,
    beta2: f32,
    eps: f32,
}

// SAFETY: plain numbers, laid out as in C; the addresses are of tensors that outlive the launch on their stream.
unsafe impl DeviceRepr for Parameters {}

/// One launch for each [`PARAMETERS`] of them. The decay rates are those of the first.
pub(crate) fn update(items: &[Item]) -> Result<()> {
    for items in items.chunks(PARAMETERS) {
        launch(items)?;
    }
    Ok(())
}

fn launch(items: &[Item]) -> Result<()> {
    let Some(first) = items.first() else { return Ok(()) };
    let device = first.parameter.device().as_cuda_device()?;
    let stream = device.cuda_stream();
    let mut all = [Parameter::default(); PARAMETERS];
    let mut blocks = 0u32;
    // Candle hands out no pointer for writing, but those of a tensor stay while it lives, and all work on the GPU is in
    // the order of its one stream.
    let address = |tensor: &Tensor| -> Result<u64> {
        let (storage, layout) = tensor.storage_and_layout();
        let (Storage::Cuda(storage), Some((start, _))) = (&*storage, layout.contiguous_offsets()) else {
            return Err(Error::RequiresContiguous { op: "adam" });
        };
        let (pointer, _recorded) = storage.as_cuda_slice::<f32>()?.device_ptr(&stream);
        Ok(pointer + (start * size_of::<f32>()) as u64)
    };
    for (to, item) in all.iter_mut().zip(items) {
        let count = item.parameter.elem_count();
        let [m, v] = item.moments;
        if [item.gradient, m, v].iter().any(|tensor| tensor.shape() != item.parameter.shape()) {
            return Err(Error::msg("adam: the parameter, its gradient and moments differ in shape"));
        }
        *to = Parameter {
            p: address(item.parameter)?,
            g: address(item.gradient)?,
            m: address(m)?,
            v: address(v)?,
            count,
            first_block: blocks,
            rate: item.step.rate as f32,
            root: (1.0 / item.step.root) as f32,
            unused: 0,
        };
        blocks += u32::try_from(count.div_ceil(PARAMETERS_OF_BLOCK)).map_err(Error::wrap)?;
    }
    let Step { beta1, beta2, eps, .. } = first.step;
    let (beta1, beta2, eps) = (beta1 as f32, beta2 as f32, eps as f32);
    let parameters = Parameters { all, count: items.len() as u32, beta1, beta2, eps };
    let func = Kernel::named(device, "adam")?;
    let mut launch = func.builder();
    launch.arg(&parameters);
    let config =
        LaunchConfig { grid_dim: (blocks.max(1), 1, 1), block_dim: (THREADS, 1, 1), shared_mem_bytes: 0 };
    // SAFETY: the blocks are those of the parameters, each value is one thread's.
    launched(unsafe { launch.launch(config) })
}

//! The GPU's memory: what is kept, and how much was used.

use candle_core::cuda_backend::cudarc::driver::sys;
use candle_core::{Device, Error, Result};

/// Bytes of a GPU's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceMemory {
    /// Most that tensors took at a time since the process began.
    pub peak: u64,
    /// What tensors take now.
    pub used: u64,
}

/// Keeps memory that tensors have freed with the process. The driver's default gives it back at every
/// synchronisation, so that each step would map it anew.
///
/// # Errors
/// If the driver refuses. On other devices nothing is done.
pub fn keep_memory(device: &Device) -> Result<()> {
    let Some(pool) = pool(device)? else { return Ok(()) };
    let mut all = u64::MAX;
    // SAFETY: the attribute is a cuuint64_t.
    check(unsafe {
        sys::cuMemPoolSetAttribute(
            pool,
            sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD,
            (&raw mut all).cast(),
        )
    })
}

/// What the tensors on a GPU take; nothing for other devices.
///
/// # Errors
/// If the driver refuses.
pub fn device_memory(device: &Device) -> Result<Option<DeviceMemory>> {
    use sys::CUmemPool_attribute::{CU_MEMPOOL_ATTR_USED_MEM_CURRENT, CU_MEMPOOL_ATTR_USED_MEM_HIGH};
    let Some(pool) = pool(device)? else { return Ok(None) };
    let read = |attribute| -> Result<u64> {
        let mut value = 0u64;
        // SAFETY: both attributes are cuuint64_t.
        check(unsafe { sys::cuMemPoolGetAttribute(pool, attribute, (&raw mut value).cast()) })?;
        Ok(value)
    };
    let (peak, used) = (read(CU_MEMPOOL_ATTR_USED_MEM_HIGH)?, read(CU_MEMPOOL_ATTR_USED_MEM_CURRENT)?);
    Ok(Some(DeviceMemory { peak, used }))
}

/// The pool that candle's allocations come from.
fn pool(device: &Device) -> Result<Option<sys::CUmemoryPool>> {
    let Device::Cuda(device) = device else { return Ok(None) };
    let stream = device.cuda_stream();
    stream.context().bind_to_thread().map_err(Error::wrap)?;
    let mut pool = std::ptr::null_mut();
    // SAFETY: the device is that of a context that lives.
    check(unsafe { sys::cuDeviceGetDefaultMemPool(&raw mut pool, stream.context().cu_device()) })?;
    Ok(Some(pool))
}

fn check(result: sys::CUresult) -> Result<()> {
    result.result().map_err(Error::wrap)
}

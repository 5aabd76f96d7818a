//! How a batch that was read comes to the device.

#[cfg(feature = "cuda")]
mod cuda;

use candle_core::{Device, Tensor};

use crate::Result;

/// The way from memory to a device.
pub(crate) enum Upload {
    /// As candle does it, when the batch is asked for.
    Plain,
    /// From page-locked memory, beside what the GPU computes.
    #[cfg(feature = "cuda")]
    Beside(cuda::Lane),
}

/// Memory that a batch is read into.
pub(crate) enum Values {
    Plain(Vec<f32>),
    #[cfg(feature = "cuda")]
    PageLocked(cuda::Buffer),
}

/// A batch on its way.
pub(crate) enum Sent {
    Plain(Vec<f32>, Vec<usize>),
    #[cfg(feature = "cuda")]
    Beside(cuda::Underway),
}

impl Upload {
    pub(crate) fn to(device: &Device) -> Result<Self> {
        match device {
            #[cfg(feature = "cuda")]
            Device::Cuda(gpu) => Ok(Self::Beside(cuda::Lane::to(gpu)?)),
            _ => Ok(Self::Plain),
        }
    }

    /// Whether a batch should be sent before it is asked for.
    pub(crate) fn is_beside(&self) -> bool {
        !matches!(self, Self::Plain)
    }

    /// Memory for so many values, whatever they are.
    pub(crate) fn memory(&self, len: usize) -> Result<Values> {
        match self {
            Self::Plain => {
                let mut values = vec![0.0; len];
                huge_pages(&mut values);
                Ok(Values::Plain(values))
            }
            #[cfg(feature = "cuda")]
            Self::Beside(lane) => Ok(Values::PageLocked(lane.memory(len)?)),
        }
    }
}

impl Values {
    pub(crate) fn as_mut_slice(&mut self) -> Result<&mut [f32]> {
        match self {
            Self::Plain(values) => Ok(values),
            #[cfg(feature = "cuda")]
            Self::PageLocked(buffer) => buffer.as_mut_slice(),
        }
    }

    #[cfg_attr(not(feature = "cuda"), allow(unused_variables))]
    pub(crate) fn send(self, shape: Vec<usize>, device: &Device) -> Result<Sent> {
        match self {
            Self::Plain(values) => Ok(Sent::Plain(values, shape)),
            #[cfg(feature = "cuda")]
            Self::PageLocked(buffer) => Ok(Sent::Beside(buffer.send(shape, device)?)),
        }
    }
}

impl Sent {
    /// The batch on the device: what is computed from here on comes after its copy.
    pub(crate) fn tensor(self, device: &Device) -> Result<Tensor> {
        match self {
            Self::Plain(values, shape) => {
                Ok(Tensor::from_vec(values, shape, &Device::Cpu)?.to_device(device)?)
            }
            #[cfg(feature = "cuda")]
            Self::Beside(underway) => underway.tensor(),
        }
    }
}

/// Asks for large pages, as a batch of clips touches ten thousand small ones for the first time. Only a hint.
fn huge_pages(values: &mut [f32]) {
    #[cfg(target_os = "linux")]
    {
        const PAGE: usize = 1 << 21;
        let start = values.as_mut_ptr().addr().next_multiple_of(PAGE);
        let end = (values.as_mut_ptr().addr() + size_of_val(values)) / PAGE * PAGE;
        if start < end {
            // SAFETY: the range lies within `values`, and the advice changes no content.
            unsafe { libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_HUGEPAGE) };
        }
    }
}

//! Copies to a GPU beside what it computes: from page-locked memory, on a stream of their own.
//!
//! A tensor is made on candle's stream, the copy waits for that, and candle's stream waits for the copy before the tensor is
//! used or freed. The copying stream is not known to cudarc's bookkeeping, which would record two events for every
//! argument of every kernel as soon as it knew of a second stream.
//!
//! **Not yet run on a GPU.**

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::cuda_backend::cudarc::driver::{CudaEvent, CudaStream, PinnedHostSlice, result::stream};
use candle_core::cuda_backend::{CudaDevice, CudaStorage, WrapErr};
use candle_core::{CpuStorage, DType, Device, InplaceOp1, Layout, Tensor};

use crate::Result;

/// A device's copying stream, and the page-locked memory that it copies from: making it takes longer than copying, so it
/// stays and is used again.
#[derive(Clone)]
pub(crate) struct Lane(Arc<Shared>);

struct Shared {
    copying: Arc<CudaStream>,
    free: Mutex<Vec<PageLocked>>,
}

struct PageLocked {
    values: PinnedHostSlice<f32>,
    /// The last copy from it.
    copied: Option<Arc<CudaEvent>>,
}

impl Drop for PageLocked {
    /// Memory that a copy still reads is not freed.
    fn drop(&mut self) {
        if let Some(copied) = &self.copied {
            // A copy that failed reads nothing any more.
            let _ = copied.synchronize();
        }
    }
}

/// Page-locked memory of a batch.
pub(crate) struct Buffer {
    memory: PageLocked,
    len: usize,
    lane: Lane,
}

/// A batch that is being copied.
pub(crate) struct Underway {
    tensor: Tensor,
    arrived: Arc<CudaEvent>,
    stream: Arc<CudaStream>,
}

impl Lane {
    /// The lane to a device; there is one for each.
    pub(crate) fn to(device: &CudaDevice) -> Result<Self> {
        static LANES: Mutex<BTreeMap<usize, Lane>> = Mutex::new(BTreeMap::new());
        let context = device.cuda_stream().context().clone();
        let mut lanes = LANES.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lane) = lanes.get(&context.ordinal()) {
            return Ok(lane.clone());
        }
        context.bind_to_thread().w()?;
        let made = stream::create(stream::StreamKind::NonBlocking).w()?;
        // SAFETY: the stream is of this context and is never destroyed; all work on it is ordered by events here.
        let copying = unsafe { context.wrap_borrowed_stream(made) };
        let lane = Self(Arc::new(Shared { copying, free: Mutex::default() }));
        lanes.insert(context.ordinal(), lane.clone());
        Ok(lane)
    }

    /// Memory for so many values, which no copy reads any more.
    pub(crate) fn memory(&self, len: usize) -> Result<Buffer> {
        let kept = {
            let mut free = self.0.free.lock().unwrap_or_else(PoisonError::into_inner);
            let sizes = free.iter().enumerate().map(|(place, memory)| (memory.values.len(), place));
            // The smallest that is large enough; or a small one goes, so that no more are kept than are used at a time.
            let fitting = sizes.clone().filter(|(size, _)| *size >= len).min();
            fitting.or(sizes.min()).map(|(_, place)| free.swap_remove(place))
        };
        let memory = match kept {
            Some(memory) if memory.values.len() >= len => memory,
            smaller => {
                drop(smaller);
                let context = self.0.copying.context();
                // SAFETY: it is filled below. Without write-combining, as decoders read what they wrote.
                let mut values = unsafe { context.alloc_pinned_with_flags::<f32>(len, 0) }.w()?;
                values.as_mut_slice().w()?.fill(0.0);
                PageLocked { values, copied: None }
            }
        };
        if let Some(copied) = &memory.copied {
            copied.synchronize().w()?;
        }
        Ok(Buffer { memory, len, lane: self.clone() })
    }
}

impl Buffer {
    pub(crate) fn as_mut_slice(&mut self) -> Result<&mut [f32]> {
        Ok(&mut self.memory.values.as_mut_slice().w()?[..self.len])
    }

    pub(crate) fn send(self, shape: Vec<usize>, device: &Device) -> Result<Underway> {
        let Self { mut memory, len, lane } = self;
        let Shared { copying, free } = &*lane.0;
        // SAFETY: the copy writes every value before any is read.
        let tensor = unsafe { Tensor::empty(shape, DType::F32, device)? };
        let stream = device.as_cuda_device()?.cuda_stream();
        let copied = tensor.inplace_op1(&Copy { values: &memory.values, len, copying });
        let arrived = Arc::new(copying.record_event(None).w()?);
        memory.copied = Some(arrived.clone());
        free.lock().unwrap_or_else(PoisonError::into_inner).push(memory);
        let underway = Underway { tensor, arrived, stream };
        copied?;
        Ok(underway)
    }
}

impl Underway {
    pub(crate) fn tensor(self) -> Result<Tensor> {
        self.stream.wait(&self.arrived).w()?;
        Ok(self.tensor.clone())
    }
}

impl Drop for Underway {
    /// A tensor that nobody asked for is not freed before its copy has ended.
    fn drop(&mut self) {
        // A stream that cannot wait any more has an error that the next use of the device tells.
        let _ = self.stream.wait(&self.arrived);
    }
}

struct Copy<'a> {
    values: &'a PinnedHostSlice<f32>,
    len: usize,
    copying: &'a Arc<CudaStream>,
}

impl InplaceOp1 for Copy<'_> {
    fn name(&self) -> &'static str {
        "upload"
    }

    fn cpu_fwd(&self, _: &mut CpuStorage, _: &Layout) -> candle_core::Result<()> {
        candle_core::bail!("upload: this form runs on CUDA only")
    }

    fn cuda_fwd(&self, to: &mut CudaStorage, _: &Layout) -> candle_core::Result<()> {
        let stream = to.device.cuda_stream();
        // The memory was free on candle's stream, and not before.
        self.copying.join(&stream).w()?;
        let values = &self.values.as_slice().w()?[..self.len];
        self.copying.memcpy_htod(values, to.as_cuda_slice_mut::<f32>()?).w()
    }
}

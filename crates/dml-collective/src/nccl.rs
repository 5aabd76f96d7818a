//! Ranks on GPUs, connected by NCCL through cudarc. **Not yet run on a GPU.**

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use candle_core::backend::BackendStorage;
use candle_core::cuda_backend::cudarc::driver::{DeviceRepr, ValidAsZeroBits};
use candle_core::cuda_backend::cudarc::nccl::{Comm, Id, NcclType, ReduceOp, result::NcclError};
use candle_core::cuda_backend::{CudaDType, CudaDevice, CudaStorage};
use candle_core::{CpuStorage, CustomOp1, DType, Device, Layout, Shape, Tensor};

use crate::{Collective, CollectiveError, Launch, Lost, Rendezvous, Result, Wire};

pub(crate) struct Nccl {
    comm: Mutex<Handle>,
    device: CudaDevice,
    rank: usize,
    size: usize,
    // Dropped last: rank 0 must not take a rank for gone that is still ending NCCL.
    _met: Rendezvous,
}

struct Handle(Comm);

// SAFETY: NCCL lets any thread use a communicator as long as no two do at a time, which the lock around it sees to.
unsafe impl Send for Handle {}

impl Nccl {
    pub(crate) fn start(launch: &Launch, device: &CudaDevice, limit: Duration, lost: Lost) -> Result<Self> {
        let Launch { rank, size, .. } = *launch;
        let mut id = [0u8; 128];
        if rank == 0 {
            let made = Id::new().map_err(failed)?;
            id = made.internal().map(|byte| byte as u8);
        }
        let end = move |error: &CollectiveError| {
            lost(error);
            std::process::exit(1)
        };
        let met = Rendezvous::meet(launch, &mut id, limit, end)?;
        let id = Id::uninit(id.map(|byte| byte as std::ffi::c_char));
        let comm = Comm::from_rank(device.cuda_stream(), rank, size, id).map_err(failed)?;
        Ok(Self { comm: Mutex::new(Handle(comm)), device: device.clone(), rank, size, _met: met })
    }

    fn comm(&self) -> MutexGuard<'_, Handle> {
        self.comm.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The numbers of all ranks, rank by rank; each has as many.
    fn all<T: DeviceRepr + ValidAsZeroBits + NcclType + 'static>(&self, own: &[T]) -> Result<Vec<T>> {
        let own = self.device.clone_htod(own)?;
        let mut all = self.device.alloc_zeros::<T>(own.len() * self.size)?;
        self.comm().0.all_gather(&own, &mut all).map_err(failed)?;
        Ok(self.device.clone_dtoh(&all)?)
    }
}

impl fmt::Debug for Nccl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Nccl({} of {})", self.rank, self.size)
    }
}

fn failed(error: NcclError) -> CollectiveError {
    CollectiveError::Message(format!("NCCL: {:?}", error.0))
}

impl Collective for Nccl {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn all_reduce_mean(&self, values: &mut [f32], wire: Wire) -> Result<()> {
        let all = Tensor::from_slice(values, values.len(), &Device::Cuda(self.device.clone()))?;
        values.copy_from_slice(&self.mean(&all, wire)?.to_vec1::<f32>()?);
        Ok(())
    }

    /// On the GPU, without a look at the values.
    fn mean(&self, tensor: &Tensor, wire: Wire) -> Result<Tensor> {
        let mean = |tensor: &Tensor| tensor.contiguous()?.apply_op1_no_bwd(&Mean(self));
        Ok(match wire {
            Wire::F32 => mean(tensor)?,
            Wire::Bf16 => mean(&tensor.to_dtype(DType::BF16)?)?.to_dtype(DType::F32)?,
        })
    }

    fn broadcast(&self, bytes: &mut Vec<u8>) -> Result<()> {
        // All have all lengths then; only rank 0's counts.
        let length = self.all(&[bytes.len() as u64])?[0] as usize;
        bytes.resize(length, 0);
        if length == 0 {
            return Ok(());
        }
        let mut all = self.device.clone_htod(&bytes[..])?;
        self.comm().0.broadcast_in_place(&mut all, 0).map_err(failed)?;
        *bytes = self.device.clone_dtoh(&all)?;
        Ok(())
    }

    fn gather(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
        let lengths = self.all(&[bytes.len() as u64])?;
        let longest = lengths.iter().copied().max().unwrap_or(0) as usize;
        let mut own = bytes.to_vec();
        // NCCL gathers as much from each.
        own.resize(longest.max(1), 0);
        let all = self.all(&own)?;
        let parts = all.chunks_exact(own.len()).zip(lengths);
        Ok(parts.map(|(part, length)| part[..length as usize].to_vec()).collect())
    }

    fn barrier(&self) -> Result<()> {
        self.all_reduce_mean(&mut [0.0], Wire::F32)
    }
}

/// The mean over the ranks as an operation on a tensor.
struct Mean<'a>(&'a Nccl);

impl CustomOp1 for Mean<'_> {
    fn name(&self) -> &'static str {
        "mean over the ranks"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        candle_core::bail!("NCCL sums what is on a GPU, and this tensor is on the CPU")
    }

    fn cuda_fwd(&self, storage: &CudaStorage, layout: &Layout) -> candle_core::Result<(CudaStorage, Shape)> {
        match storage.dtype() {
            DType::F32 => self.of::<f32>(storage, layout),
            DType::BF16 => self.of::<half::bf16>(storage, layout),
            other => candle_core::bail!("gradients travel in f32 or bf16, not in {other:?}"),
        }
    }
}

impl Mean<'_> {
    fn of<T: CudaDType + DeviceRepr + ValidAsZeroBits + NcclType>(
        &self,
        storage: &CudaStorage,
        layout: &Layout,
    ) -> candle_core::Result<(CudaStorage, Shape)> {
        let count = layout.shape().elem_count();
        let from = layout.start_offset();
        let values = storage.as_cuda_slice::<T>()?.slice(from..from + count);
        let mut mean = self.0.device.alloc_zeros::<T>(count)?;
        let sent = self.0.comm().0.all_reduce(&values, &mut mean, &ReduceOp::Avg);
        sent.map_err(|error| candle_core::Error::Msg(failed(error).to_string()))?;
        Ok((CudaStorage::wrap_cuda_slice(mean, self.0.device.clone()), layout.shape().clone()))
    }
}

#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod error;
mod launch;
#[cfg(feature = "mpi")]
mod mpi;
#[cfg(feature = "nccl")]
mod nccl;
#[cfg_attr(not(feature = "nccl"), allow(dead_code))]
mod rendezvous;
mod threads;

use std::fmt::Debug;
use std::sync::Arc;

use candle_core::{Device, Tensor};

pub use error::{CollectiveError, Result};
pub use launch::{Launch, Launcher};
pub use threads::Threads;

/// The ranks of a training: processes that run the same program on their own parts of the data.
///
/// Every rank calls the same functions in the same order, from one thread at a time, and each call returns when all ranks
/// have made it.
pub trait Collective: Debug + Send + Sync {
    /// This process's number, from 0.
    fn rank(&self) -> usize;

    /// How many there are.
    fn size(&self) -> usize;

    /// Puts the mean over all ranks in place of the values: the same bits on every rank.
    ///
    /// # Errors
    /// If a rank has gone.
    fn all_reduce_mean(&self, values: &mut [f32]) -> Result<()>;

    /// The mean of a tensor over all ranks, on its device: the same bits on every rank.
    ///
    /// # Shapes
    /// Any, f32, the same on every rank.
    ///
    /// # Errors
    /// If a rank has gone, or the tensor is not of f32.
    fn mean(&self, tensor: &Tensor) -> Result<Tensor> {
        if self.size() == 1 {
            return Ok(tensor.clone());
        }
        let mut values = tensor.flatten_all()?.to_vec1::<f32>()?;
        self.all_reduce_mean(&mut values)?;
        Ok(Tensor::from_vec(values, tensor.shape(), &Device::Cpu)?.to_device(tensor.device())?)
    }

    /// Puts rank 0's bytes in place of these.
    ///
    /// # Errors
    /// If a rank has gone.
    fn broadcast(&self, bytes: &mut Vec<u8>) -> Result<()>;

    /// The bytes of every rank, by rank; all ranks get all of them.
    ///
    /// # Errors
    /// If a rank has gone, or all together are more than the transport bears.
    fn gather(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>>;

    /// Waits until all ranks are here.
    ///
    /// # Errors
    /// If a rank has gone.
    fn barrier(&self) -> Result<()>;

    /// Ends this process, and with it all others: for an error that the others do not have.
    fn abort(&self, code: i32) -> ! {
        std::process::exit(code)
    }

    /// Whether any rank says so; all get the same answer.
    ///
    /// # Errors
    /// If a rank has gone.
    fn any(&self, here: bool) -> Result<bool> {
        if self.size() == 1 {
            return Ok(here);
        }
        let mut says = [f32::from(u8::from(here))];
        self.all_reduce_mean(&mut says)?;
        Ok(says[0] > 0.0)
    }
}

/// One process, with nobody to talk to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alone;

impl Collective for Alone {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        1
    }

    fn all_reduce_mean(&self, _values: &mut [f32]) -> Result<()> {
        Ok(())
    }

    fn broadcast(&self, _bytes: &mut Vec<u8>) -> Result<()> {
        Ok(())
    }

    fn gather(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
        Ok(vec![bytes.to_vec()])
    }

    fn barrier(&self) -> Result<()> {
        Ok(())
    }
}

/// The ranks that this process was launched with: over NCCL where it computes on a GPU and the build has it, over MPI
/// elsewhere, and nobody where it was started by itself.
///
/// Where the transport does not end all ranks when one is gone, as MPI does, `gone` is told of it within a second of the end
/// of its process, from a thread of its own, with its number: a rank that waits for it would wait for ever.
///
/// # Errors
/// If there are several ranks and this build has no transport for them, or if the transport cannot start.
pub fn open(
    launch: &Launch,
    device: &Device,
    gone: impl Fn(usize) + Send + Sync + 'static,
) -> Result<Arc<dyn Collective>> {
    let gone: rendezvous::Gone = Arc::new(gone);
    if launch.size == 1 {
        return Ok(Arc::new(Alone));
    }
    #[cfg(feature = "nccl")]
    if let Device::Cuda(cuda) = device {
        return Ok(Arc::new(nccl::Nccl::start(launch, cuda, gone)?));
    }
    #[cfg(feature = "mpi")]
    if device.is_cpu() {
        return Ok(Arc::new(mpi::Mpi::start(launch)?));
    }
    drop(gone);
    let (feature, place) = if device.is_cpu() { ("mpi", "the CPU") } else { ("nccl", "a GPU") };
    Err(CollectiveError::Launch(format!(
        "{} processes were started together, and this build cannot connect those on {place}: build with `--features \
         {feature}`, or start one process",
        launch.size
    )))
}

/// The mean of several ranks' values, summed from rank 0 on, which fixes the bits.
pub(crate) fn mean_in_order<'a>(ranks: impl ExactSizeIterator<Item = &'a [f32]>, mean: &mut [f32]) {
    let size = ranks.len() as f32;
    for (rank, values) in ranks.enumerate() {
        match rank {
            0 => mean.copy_from_slice(values),
            _ => mean.iter_mut().zip(values).for_each(|(sum, value)| *sum += value),
        }
    }
    mean.iter_mut().for_each(|sum| *sum /= size);
}

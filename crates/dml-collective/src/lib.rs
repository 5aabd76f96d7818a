#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod error;
mod launch;
#[cfg(feature = "mpi")]
mod mpi;
#[cfg(feature = "nccl")]
mod nccl;
mod rendezvous;
mod threads;
mod wire;

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use candle_core::{Device, Tensor};

pub use error::{CollectiveError, Result};
pub use launch::{Launch, Launcher};
pub use rendezvous::Rendezvous;
pub use threads::Threads;
pub use wire::Wire;

/// Who is told of ranks that are gone or do not come.
pub(crate) type Lost = Arc<dyn Fn(&CollectiveError) + Send + Sync>;

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
    fn all_reduce_mean(&self, values: &mut [f32], wire: Wire) -> Result<()>;

    /// The mean of a tensor over all ranks, on its device: the same bits on every rank.
    ///
    /// # Shapes
    /// Any, f32, the same on every rank.
    ///
    /// # Errors
    /// If a rank has gone, or the tensor is not of f32.
    fn mean(&self, tensor: &Tensor, wire: Wire) -> Result<Tensor> {
        if self.size() == 1 {
            return Ok(tensor.clone());
        }
        let mut values = tensor.flatten_all()?.to_vec1::<f32>()?;
        self.all_reduce_mean(&mut values, wire)?;
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

    /// Waits until all ranks are here, however long what they do before may take.
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
        self.all_reduce_mean(&mut says, Wire::F32)?;
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

    fn all_reduce_mean(&self, _values: &mut [f32], _wire: Wire) -> Result<()> {
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
/// No call waits for longer than `limit` for a rank that does not come; a barrier waits for one whose process answers. Then
/// `lost` is told which ranks they are, perhaps from a thread of its own, and this process ends, and with it all others. So
/// it does where a process has died and the launcher does not end the others, as mpirun does. Over NCCL only processes that
/// do not answer are found out.
///
/// # Errors
/// If there are several ranks and this build has no transport for them, or if the transport cannot start.
pub fn open(
    launch: &Launch,
    device: &Device,
    limit: Duration,
    lost: impl Fn(&CollectiveError) + Send + Sync + 'static,
) -> Result<Arc<dyn Collective>> {
    if launch.size == 1 {
        return Ok(Arc::new(Alone));
    }
    let lost: Lost = Arc::new(lost);
    #[cfg(feature = "nccl")]
    if let Device::Cuda(cuda) = device {
        return Ok(Arc::new(nccl::Nccl::start(launch, cuda, limit, lost)?));
    }
    #[cfg(feature = "mpi")]
    if device.is_cpu() {
        return Ok(Arc::new(mpi::Mpi::start(launch, limit, lost)?));
    }
    drop((limit, lost));
    let (feature, place) = if device.is_cpu() { ("mpi", "the CPU") } else { ("nccl", "a GPU") };
    Err(CollectiveError::Launch(format!(
        "{} processes were started together, and this build cannot connect those on {place}: build with `--features \
         {feature}`, or start one process",
        launch.size
    )))
}

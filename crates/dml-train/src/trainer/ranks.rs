//! What the ranks of a training do together. Each computes the losses of its own samples of a step, scaled so that their
//! mean over the ranks is the loss of the whole batch; the gradients' mean is then the whole batch's gradient.

use std::ops::Range;

use candle_core::{DType, Tensor};
use dml_collective::{Collective, Wire};
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::Trainer;
use super::plan::Draws;
use crate::checkpoint::Identity;
use crate::experiment::hex;
use crate::sampler::Draw;
use crate::{Result, TrainError};

/// The part of `len` things that a rank takes. The parts follow each other and differ by one at most.
pub(crate) fn part(len: usize, ranks: &dyn Collective) -> Range<usize> {
    let (rank, size) = (ranks.rank(), ranks.size());
    len * rank / size..len * (rank + 1) / size
}

impl Trainer<'_> {
    /// This rank's samples of each step. A rank for which the batch has none computes its first sample, which then weighs
    /// nothing, so that all ranks have the same gradients to send.
    pub(super) fn own(&self, plan: &[Draws]) -> Vec<Draws> {
        let own = |draw: &Draw| {
            let part = part(draw.indices.len(), &*self.ranks);
            let part = if part.is_empty() { 0..1 } else { part };
            Draw { epoch: draw.epoch, indices: draw.indices[part].to_vec() }
        };
        plan.iter().map(|draws| draws.iter().map(own).collect()).collect()
    }

    /// What the mean loss of this rank's samples must be scaled by, so that the mean over the ranks is that over all samples.
    pub(super) fn share(&self, whole: &Draw) -> f64 {
        let samples = whole.indices.len();
        (part(samples, &*self.ranks).len() * self.ranks.size()) as f64 / samples.max(1) as f64
    }

    /// The outputs of all ranks for a batch, by sample; a gradient goes to those of this rank only.
    ///
    /// # Shapes
    /// `own` (this rank's samples, d) to (all samples, d).
    pub(super) fn whole_batch(&self, own: &Tensor, whole: &Draw) -> Result<Tensor> {
        let part = part(whole.indices.len(), &*self.ranks);
        let own = own.narrow(0, 0, part.len())?;
        let (all, dim) = (gather_rows(&*self.ranks, &own)?, own.dim(1)?);
        let all = Tensor::from_vec(all, (whole.indices.len(), dim), own.device())?;
        let behind = all.narrow(0, part.end, whole.indices.len() - part.end)?;
        Ok(Tensor::cat(&[&all.narrow(0, 0, part.start)?, &own, &behind], 0)?)
    }

    /// The mean of numbers over the ranks.
    pub(super) fn mean_of(&self, values: Vec<f64>) -> Result<Vec<f64>> {
        if self.ranks.size() == 1 {
            return Ok(values);
        }
        let mut values: Vec<f32> = values.into_iter().map(|value| value as f32).collect();
        self.ranks.all_reduce_mean(&mut values, Wire::F32)?;
        Ok(values.into_iter().map(f64::from).collect())
    }

    /// Whether somebody has been told to stop.
    pub(super) fn stopped(&self) -> Result<bool> {
        let here = self.settings.stop.load(std::sync::atomic::Ordering::Relaxed);
        Ok(self.ranks.any(here)?)
    }

    /// An error that names the rank, if one computes with other settings, data or parameters than rank 0.
    pub(super) fn check_ranks(&self) -> Result<()> {
        if self.ranks.size() == 1 {
            return Ok(());
        }
        let own = self.state.identity.of_rank(&self.settings, &self.digest()?)?;
        let text = serde_json::to_vec(&own).map_err(|e| TrainError::invalid(e.to_string()))?;
        let mut all = Vec::new();
        for text in self.ranks.gather(&text)? {
            let of: Identity =
                serde_json::from_slice(&text).map_err(|e| TrainError::invalid(e.to_string()))?;
            all.push(of);
        }
        let Some((rank, other)) = odd_one(&all) else { return Ok(()) };
        let differences = all[rank].differences(&all[other]).into_iter();
        let differences = differences
            .map(|(name, there, here)| format!("{name}: rank {other} has {here}, rank {rank} has {there}"));
        Err(TrainError::Ranks { rank, other, differences: differences.collect() })
    }

    /// An error that names the rank, if the parameters of one are not those of the others to the last bit.
    pub(super) fn check_parameters(&self) -> Result<()> {
        if self.ranks.size() == 1 {
            return Ok(());
        }
        let all = self.ranks.gather(self.digest()?.as_bytes())?;
        let Some((rank, other)) = odd_one(&all) else { return Ok(()) };
        let all = self.ranks.gather(&self.digests()?.concat())?;
        let names = self.problem.params.tensors();
        let digests = all[rank].chunks(32).zip(all[other].chunks(32));
        let differ = names.keys().zip(digests).filter(|(_, (a, b))| a != b).map(|(name, _)| name.as_str());
        let differ: Vec<&str> = differ.collect();
        let differences =
            vec![format!("the parameters after step {}: {}", self.state.steps, differ.join(", "))];
        Err(TrainError::Ranks { rank, other, differences })
    }

    /// Digest of all parameters.
    fn digest(&self) -> Result<String> {
        Ok(hex(&Sha256::digest(self.digests()?.concat())))
    }

    /// Digest of each parameter, by name.
    fn digests(&self) -> Result<Vec<[u8; 32]>> {
        let tensors: Vec<(String, Tensor)> = self.problem.params.tensors().into_iter().collect();
        let digest = |(name, tensor): &(String, Tensor)| -> Result<[u8; 32]> {
            let mut hash = Sha256::new_with_prefix(name);
            let values = tensor.flatten_all()?.to_dtype(DType::F32)?.to_vec1::<f32>()?;
            hash.update(bytemuck::cast_slice(&values));
            Ok(hash.finalize().into())
        };
        tensors.par_iter().map(digest).collect()
    }
}

/// A rank that differs from most, and one of these; of as many on both sides rank 0's count.
fn odd_one<T: PartialEq>(all: &[T]) -> Option<(usize, usize)> {
    let alike = |one: &T| all.iter().filter(|other| *other == one).count();
    let most = all.iter().map(alike).max()?;
    let usual = all.iter().position(|one| alike(one) == most)?;
    Some((all.iter().position(|one| *one != all[usual])?, usual))
}

/// The rows of all ranks, one rank's behind the other's.
///
/// # Shapes
/// `own` (n, d), where n differs from rank to rank; the result has the numbers of all ranks' rows.
pub(crate) fn gather_rows(ranks: &dyn Collective, own: &Tensor) -> Result<Vec<f32>> {
    let own = own.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
    let all = ranks.gather(bytemuck::cast_slice(&own))?;
    Ok(all.iter().flat_map(|bytes| bytemuck::pod_collect_to_vec::<u8, f32>(bytes)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rank_that_differs_from_most_is_named() {
        assert_eq!(odd_one(&[1, 1, 1]), None);
        assert_eq!(odd_one(&[1, 1, 2]), Some((2, 0)));
        assert_eq!(odd_one(&[1, 2, 2]), Some((0, 1)));
        assert_eq!(odd_one(&[1, 2]), Some((1, 0)));
    }
}

use candle_core::{DType, Device};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::experiment::{Experiment, Run};
use crate::targets::Targets;
use crate::{Result, TrainError};

/// To be raised when training comes to other results from the same settings and data.
const REVISION: u32 = 1;

impl Experiment {
    /// Digest of everything that a run's results depend on: schedule, tasks, network, seed, optimiser, initial root, and
    /// the contents of data and targets, wherever they lie. Settings that do not reach the schedule of the method, such as
    /// λ where nothing is preserved, do not count.
    ///
    /// # Errors
    /// As [`Experiment::schedule`].
    pub fn hash(&self, run: &Run) -> Result<String> {
        let device = match self.device {
            Device::Cpu => "cpu",
            _ => "gpu",
        };
        let training = &self.config.training;
        let parts = (
            (REVISION, device, training.exact),
            (run.seed, training.batch, self.learning_rates(), self.config.optimizer.adam),
            (&self.net, self.tasks(run.method), self.schedule(run.method)?),
            self.data()?,
        );
        Ok(hex(Sha256::new().chain_update(json(&parts)?)))
    }

    /// Digest of the data and of the initial root.
    fn data(&self) -> Result<String> {
        if let Some(known) = self.digest.get() {
            return Ok(known.clone());
        }
        let mut all = Sha256::new();
        for (name, set) in &self.source.sets {
            all.update(json(&(name, set.dataset.fingerprint()))?);
            add(&mut all, &set.targets)?;
        }
        for set in &self.source.evals {
            all.update(json(&set.dataset.fingerprint())?);
            for (name, task, targets) in &set.judged {
                all.update(json(&(name, task))?);
                add(&mut all, targets)?;
            }
        }
        if let Some((prefix, tensors)) = &self.source.root {
            for (name, tensor) in tensors {
                all.update(json(&(prefix, name, tensor.dims()))?);
                let values = tensor.flatten_all()?.to_dtype(DType::F32)?.to_vec1::<f32>()?;
                values.iter().for_each(|value| all.update(value.to_le_bytes()));
            }
        }
        Ok(self.digest.get_or_init(|| hex(all)).clone())
    }
}

fn add(all: &mut Sha256, targets: &Targets) -> Result<()> {
    match targets {
        Targets::Classes { names, of } => all.update(json(&(names, of))?),
        Targets::MultiLabel { names, flags } => all.update(json(&(names, flags))?),
        Targets::Captions { vectors, dim, first } => {
            all.update(json(&(dim, first))?);
            vectors.iter().for_each(|value| all.update(value.to_le_bytes()));
        }
    }
    Ok(())
}

fn json(value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|error| TrainError::invalid(error.to_string()))
}

fn hex(digest: Sha256) -> String {
    digest.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

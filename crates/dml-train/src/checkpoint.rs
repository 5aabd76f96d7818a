use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{Device, Tensor};
use dml_model::{load_safetensors, save_safetensors};

use crate::Result;

const MODEL: &str = "model.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";

/// A network's parameters and the optimiser's state, by name.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// Parameters of root and heads.
    pub model: BTreeMap<String, Tensor>,
    /// Adam's moments and step counts, as `<state>/<parameter>.<m|v|step>`.
    pub optimizer: BTreeMap<String, Tensor>,
}

impl Checkpoint {
    /// Writes `model.safetensors` and `optimizer.safetensors` into the folder, each whole or not at all.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn save(&self, folder: &Path) -> Result<()> {
        save_safetensors(&folder.join(MODEL), &self.model, &BTreeMap::new())?;
        save_safetensors(&folder.join(OPTIMIZER), &self.optimizer, &BTreeMap::new())?;
        Ok(())
    }

    /// Reads the parameters of a checkpoint's folder.
    ///
    /// # Errors
    /// If the file is missing or not a safetensors file.
    pub fn load_model(folder: &Path, device: &Device) -> Result<BTreeMap<String, Tensor>> {
        Ok(load_safetensors(&folder.join(MODEL), device)?)
    }
}

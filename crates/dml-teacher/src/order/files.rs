//! The two files of an order-embedding.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use serde_json::Value;

use crate::cache::temporary_in;
use crate::{Result, TeacherError};

/// A vocabulary's file and what it says.
pub(super) type Object = (PathBuf, Value);

/// Reads `.npz` and `.pkl`, or `.safetensors` and `.json`, by the name of the first.
pub(super) fn read(weights: &Path) -> Result<(BTreeMap<String, Tensor>, Object)> {
    if weights.extension().is_some_and(|extension| extension == "npz") {
        let vocabulary = weights.with_extension("pkl");
        let object = dml_import::read_object(&vocabulary)?;
        return Ok((dml_import::read_npz(weights)?, (vocabulary, object)));
    }
    let wrong = |path: &Path, e: &dyn std::fmt::Display| TeacherError::Model {
        path: path.into(),
        problem: format!("cannot be understood: {e}"),
    };
    let bytes = |path: &Path| std::fs::read(path).map_err(io(path));
    let tensors = candle_core::safetensors::load_buffer(&bytes(weights)?, &Device::Cpu);
    let tensors = tensors.map_err(|e| wrong(weights, &e))?;
    let vocabulary = weights.with_extension("json");
    let object = serde_json::from_slice(&bytes(&vocabulary)?).map_err(|e| wrong(&vocabulary, &e))?;
    Ok((tensors.into_iter().collect(), (vocabulary, object)))
}

/// Writes `.safetensors`, and `.json` beside it; the folder is made where it is missing.
pub(super) fn write(weights: &Path, tensors: &BTreeMap<String, Tensor>, object: &Value) -> Result<()> {
    let folder = weights.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(io(folder))?;
    let vocabulary = weights.with_extension("json");
    whole(folder, &vocabulary, |file| {
        file.write_all(object.to_string().as_bytes()).map_err(io(&vocabulary))
    })?;
    whole(folder, weights, |file| {
        let tensors = tensors.iter().map(|(name, tensor)| (name.clone(), tensor.clone())).collect();
        Ok(candle_core::safetensors::save(&tensors, file.path())?)
    })
}

/// A file that is there whole or not at all.
fn whole(
    folder: &Path,
    path: &Path,
    write: impl FnOnce(&mut tempfile::NamedTempFile) -> Result<()>,
) -> Result<()> {
    let mut file = temporary_in(folder).map_err(io(path))?;
    write(&mut file)?;
    file.as_file().sync_all().map_err(io(path))?;
    file.persist(path).map_err(|error| io(path)(error.error))?;
    Ok(())
}

pub(super) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> TeacherError + '_ {
    move |source| TeacherError::Io { path: path.into(), source }
}

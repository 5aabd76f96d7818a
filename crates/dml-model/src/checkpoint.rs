//! Tensors on disk: the safetensors format, written whole or not at all.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use candle_core::safetensors::Load;
use candle_core::{Device, Tensor};
use safetensors::tensor::{Dtype, SafeTensors};
use serde_json::{Map, Value, json};

use crate::{ModelError, Result};

/// Writes named tensors and a few words about them as a safetensors file.
///
/// The file appears under its name only when it is whole and on disk; a file that was there before stays
/// until then. Equal input gives equal bytes: the `safetensors` crate's own writer does not promise that for
/// metadata.
///
/// # Errors
/// If the folder cannot be written, or a tensor's type has no name in the format.
pub fn save_safetensors(
    path: &Path,
    tensors: &BTreeMap<String, Tensor>,
    metadata: &BTreeMap<String, String>,
) -> Result<()> {
    let temporary = temporary_beside(path);
    let written = write(&temporary, tensors, metadata).and_then(|()| {
        std::fs::rename(&temporary, path).map_err(io(path))?;
        sync_folder(path)
    });
    if written.is_err() {
        // The first error is the one to report; there may be no file to remove.
        let _ = std::fs::remove_file(&temporary);
    }
    written
}

/// Reads the tensors of a safetensors file.
///
/// # Errors
/// If the file cannot be read or is not a whole safetensors file.
pub fn load_safetensors(path: &Path, device: &Device) -> Result<BTreeMap<String, Tensor>> {
    let bytes = std::fs::read(path).map_err(io(path))?;
    let file = SafeTensors::deserialize(&bytes).map_err(broken(path))?;
    file.tensors().into_iter().map(|(name, view)| Ok((name, view.load(device)?))).collect()
}

/// Reads the words that [`save_safetensors`] wrote beside the tensors.
///
/// # Errors
/// If the file cannot be read or is not a whole safetensors file.
pub fn load_metadata(path: &Path) -> Result<BTreeMap<String, String>> {
    let bytes = std::fs::read(path).map_err(io(path))?;
    let (_, metadata) = SafeTensors::read_metadata(&bytes).map_err(broken(path))?;
    Ok(metadata.metadata().iter().flatten().map(|(key, value)| (key.clone(), value.clone())).collect())
}

pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> ModelError + '_ {
    move |source| ModelError::Io { path: path.into(), source }
}

fn broken(path: &Path) -> impl FnOnce(safetensors::SafeTensorError) -> ModelError + '_ {
    move |error| ModelError::Checkpoint {
        path: path.into(),
        problem: format!("not a safetensors file: {error}"),
    }
}

/// The layout of the format: the header's length (u64, little-endian), the header in JSON, padded with spaces
/// to a multiple of eight, then the tensors without gaps, those of the widest type first so that each is
/// aligned.
fn write(path: &Path, tensors: &BTreeMap<String, Tensor>, metadata: &BTreeMap<String, String>) -> Result<()> {
    let mut order: Vec<(&String, &Tensor)> = tensors.iter().collect();
    order.sort_by_key(|(_, tensor)| std::cmp::Reverse(tensor.dtype().size_in_bytes()));

    let mut header = Map::new();
    if !metadata.is_empty() {
        header.insert("__metadata__".into(), json!(metadata));
    }
    let mut offset = 0;
    for (name, tensor) in &order {
        let end = offset + tensor.elem_count() * tensor.dtype().size_in_bytes();
        let dtype = Dtype::from(tensor.dtype()).to_string();
        header.insert(
            (*name).clone(),
            json!({ "dtype": dtype, "shape": tensor.dims(), "data_offsets": [offset, end] }),
        );
        offset = end;
    }
    let mut header = Value::Object(header).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');

    let mut file = BufWriter::new(File::create(path).map_err(io(path))?);
    let mut put = |bytes: &[u8]| file.write_all(bytes).map_err(io(path));
    put(&(header.len() as u64).to_le_bytes())?;
    put(&header)?;
    for (_, tensor) in order {
        let tensor = tensor.to_device(&Device::Cpu)?;
        put(&safetensors::View::data(&tensor))?;
    }
    let file = file.into_inner().map_err(|error| io(path)(error.into_error()))?;
    file.sync_all().map_err(io(path))
}

/// A name in the same folder, so that the rename stays within one file system; no two writers share it.
fn temporary_beside(path: &Path) -> PathBuf {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}-{}.tmp", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed)));
    path.with_file_name(name)
}

/// Makes the rename itself durable. Windows offers no such call and needs none.
fn sync_folder(path: &Path) -> Result<()> {
    if cfg!(unix) {
        let folder = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(io(folder))?;
    }
    Ok(())
}

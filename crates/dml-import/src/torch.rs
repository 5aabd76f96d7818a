//! Torch checkpoints: the zip archives of today, and what `torch.save` wrote before PyTorch 1.6, such as the
//! public files of C3D and EfficientNet-Lite0.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use candle_core::{DType, Tensor};

use crate::Result as ImportResult;
use crate::cursor::Cursor;
use crate::error;
use crate::gather::{Budget, Storage, View, gather};
use crate::pickle::{self, Global, Ref, TensorRef, Value, Values};

mod legacy;
mod zipped;

pub(crate) use legacy::is_legacy;

type Result<T> = std::result::Result<T, String>;

/// Reads the tensors of a torch checkpoint that holds a state dictionary, alone or under the key `state_dict`.
///
/// Its pickle is interpreted, never executed: any global other than torch's storages, its tensor rebuilding
/// and `OrderedDict` is refused by name. The tensors are on the CPU in the stored types.
///
/// # File formats
/// The zip archive: `<folder>/data.pkl` with the object, `<folder>/data/<key>` with the bytes of each storage,
/// `<folder>/byteorder`. The legacy file: four pickles (magic number, protocol version, the writer's system, the
/// object), a fifth with the keys of the storages, then for each key the number of elements (i64) and their bytes.
///
/// # Errors
/// If the file cannot be read, is damaged or cut short, was written on a big-endian machine, or holds anything but
/// tensors.
pub fn read_torch(path: &Path) -> ImportResult<BTreeMap<String, Tensor>> {
    error::read(path, parse_torch)
}

/// As [`read_torch`], of a file in memory.
///
/// # Errors
/// What is wrong, as a sentence.
pub fn parse_torch(file: &[u8]) -> Result<BTreeMap<String, Tensor>> {
    if file.starts_with(b"PK") { zipped::parse(file) } else { legacy::parse(file) }
}

/// A storage as the object's pickle names it.
struct StorageId<'v> {
    key: &'v str,
    dtype: DType,
    elements: usize,
}

impl StorageId<'_> {
    fn bytes(&self) -> Result<usize> {
        let bytes = self.elements.checked_mul(self.dtype.size_in_bytes());
        bytes.ok_or_else(|| format!("storage {} is beyond memory", self.key))
    }
}

/// The tensors of a state dictionary, not yet looked up in their storages.
struct State<'v> {
    tensors: Vec<(&'v str, &'v TensorRef, StorageId<'v>)>,
}

impl<'v> State<'v> {
    fn new(values: &'v Values, root: Ref) -> Result<Self> {
        let root = values.lookup(root, "state_dict").unwrap_or(root);
        let Value::Dict(items) = values.get(root) else {
            return Err("the checkpoint holds no state dictionary".into());
        };
        let tensors = items.iter().map(|&(key, value)| {
            let name = values.text(key)?;
            let Value::Tensor(view) = values.get(value) else {
                return Err(format!("{name}: {} is no tensor", values.get(value)));
            };
            let storage = storage(values, view).map_err(|problem| format!("{name}: {problem}"))?;
            Ok((name, view, storage))
        });
        Ok(Self { tensors: tensors.collect::<Result<_>>()? })
    }

    /// The storages by their keys.
    fn storages(&self) -> Result<HashMap<&'v str, &StorageId<'v>>> {
        let mut storages = HashMap::new();
        for (name, _, id) in &self.tensors {
            let known: &StorageId = storages.entry(id.key).or_insert(id);
            if (known.dtype, known.elements) != (id.dtype, id.elements) {
                return Err(format!("{name}: storage {} is described in two ways", id.key));
            }
        }
        Ok(storages)
    }

    /// The tensors, copied out of the bytes of their storages.
    fn gather(&self, bytes: &HashMap<&str, &[u8]>, mut budget: Budget) -> Result<BTreeMap<String, Tensor>> {
        let mut out = BTreeMap::new();
        for (name, view, id) in &self.tensors {
            let bytes =
                bytes.get(id.key).ok_or_else(|| format!("{name}: its storage {} is missing", id.key))?;
            let TensorRef { offset, size, stride, .. } = view;
            let view = View { offset: *offset, size, stride };
            let tensor = gather(&view, Storage { dtype: id.dtype, bytes }, &mut budget)
                .map_err(|problem| format!("{name}: {problem}"))?;
            if out.insert(name.to_string(), tensor).is_some() {
                return Err(format!("{name} is there twice"));
            }
        }
        Ok(out)
    }
}

/// The key, element type and number of elements in the persistent id
/// `("storage", type, key, location, elements)`, in legacy files followed by a view.
fn storage<'v>(values: &'v Values, tensor: &TensorRef) -> Result<StorageId<'v>> {
    let Value::Persistent(id) = *values.get(tensor.storage) else {
        return Err("a tensor without a storage".into());
    };
    let (kind, class, key, elements) = match *values.sequence(id)? {
        [kind, class, key, _location, elements] => (kind, class, key, elements),
        [kind, class, key, _location, elements, view] if *values.get(view) == Value::None => {
            (kind, class, key, elements)
        }
        _ => return Err("a storage that is a view of another, or no storage".into()),
    };
    match (values.text(kind)?, values.get(class)) {
        ("storage", &Value::Global(Global::Storage(dtype))) => {
            Ok(StorageId { key: values.text(key)?, dtype, elements: values.size(elements)? })
        }
        (_, class) => Err(format!("{class} is no kind of storage")),
    }
}

#[cfg(test)]
mod tests;

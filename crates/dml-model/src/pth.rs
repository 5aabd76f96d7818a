//! Legacy torch checkpoints: what `torch.save` wrote before PyTorch 1.6, such as the public files of
//! EfficientNet-Lite0 and C3D.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use candle_core::{DType, Device, Tensor};

use crate::checkpoint::io;
use crate::{ModelError, Result};
use cursor::Cursor;
use pickle::{Global, TensorRef, Value, Values};

mod cursor;
mod pickle;

/// 0x1950a86a20f9469cfc6c, little-endian.
const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
const PROTOCOL: i64 = 1001;

/// Reads the tensors of a legacy torch checkpoint that holds a state dictionary, alone or under the key
/// `state_dict`.
///
/// The format is four pickles (magic number, protocol version, the writer's system, the object), a fifth with
/// the keys of the storages, then for each key the number of elements (i64) and their bytes, little-endian.
/// The pickles are interpreted, never executed: any global other than torch's storages, its tensor rebuilding
/// and `OrderedDict` is refused by name. The tensors are on the CPU in the stored types.
///
/// # Errors
/// If the file cannot be read, is of the newer zip format, is damaged or cut short, or holds anything but
/// tensors.
pub fn read_legacy(path: &Path) -> Result<BTreeMap<String, Tensor>> {
    let bytes = std::fs::read(path).map_err(io(path))?;
    parse(&bytes).map_err(|problem| ModelError::Checkpoint { path: path.into(), problem })
}

/// A storage as the object's pickle names it.
struct Storage<'a> {
    dtype: DType,
    elements: usize,
    bytes: &'a [u8],
}

fn parse(file: &[u8]) -> std::result::Result<BTreeMap<String, Tensor>, String> {
    if file.starts_with(b"PK") {
        return Err(
            "a zip checkpoint (PyTorch 1.6 or later), not a legacy one; convert it to safetensors".into()
        );
    }
    let mut cursor = Cursor::new(file);
    let magic = pickle::read(&mut cursor)
        .ok()
        .filter(|(values, root)| *values.get(*root) == Value::Long(MAGIC.into()));
    if magic.is_none() {
        return Err("not a torch checkpoint: the magic number is missing".into());
    }
    let (values, root) = pickle::read(&mut cursor)?;
    if *values.get(root) != Value::Int(PROTOCOL) {
        return Err(format!("torch's protocol {PROTOCOL} was expected, not {}", values.get(root)));
    }
    let (values, root) = pickle::read(&mut cursor)?;
    if lookup(&values, root, "little_endian").map(|index| values.get(index)) != Some(&Value::Bool(true)) {
        return Err("written on a big-endian machine; such files are not read".into());
    }
    let (values, root) = pickle::read(&mut cursor)?;
    let tensors = tensors(&values, root)?;
    let mut storages = HashMap::new();
    for (name, tensor) in &tensors {
        let (key, dtype, elements) =
            storage_of(&values, tensor).map_err(|problem| format!("{name}: {problem}"))?;
        storages.insert(key, Storage { dtype, elements, bytes: &[] });
    }
    read_storages(&mut cursor, &mut storages)?;

    // Views may overlap, so a small file could ask for any amount of memory.
    let mut budget = 8 * file.len();
    let mut out = BTreeMap::new();
    for (name, view) in tensors {
        let (key, dtype, elements) = storage_of(&values, view)?;
        let storage = storages.get(key).ok_or_else(|| format!("{name}: its storage {key} is missing"))?;
        if (storage.dtype, storage.elements) != (dtype, elements) {
            return Err(format!("{name}: storage {key} is described in two ways"));
        }
        let tensor = gather(view, storage, &mut budget).map_err(|problem| format!("{name}: {problem}"))?;
        if out.insert(name.to_string(), tensor).is_some() {
            return Err(format!("{name} is there twice"));
        }
    }
    Ok(out)
}

fn lookup(values: &Values, dict: pickle::Ref, wanted: &str) -> Option<pickle::Ref> {
    let Value::Dict(items) = values.get(dict) else { return None };
    items.iter().find(|(key, _)| *values.get(*key) == Value::Text(wanted.into())).map(|&(_, value)| value)
}

/// The named tensors of a state dictionary.
fn tensors(values: &Values, root: pickle::Ref) -> std::result::Result<Vec<(&str, &TensorRef)>, String> {
    let root = lookup(values, root, "state_dict").unwrap_or(root);
    let Value::Dict(items) = values.get(root) else {
        return Err("the checkpoint holds no state dictionary".into());
    };
    items
        .iter()
        .map(|&(key, value)| match values.get(value) {
            Value::Tensor(tensor) => Ok((values.text(key)?, tensor)),
            other => Err(format!("{}: {other} is no tensor", values.text(key)?)),
        })
        .collect()
}

/// The key, element type and number of elements in the persistent id
/// `("storage", type, key, location, elements, view)`.
fn storage_of<'a>(
    values: &'a Values,
    tensor: &TensorRef,
) -> std::result::Result<(&'a str, DType, usize), String> {
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
        ("storage", Value::Global(Global::Storage(dtype))) => {
            Ok((values.text(key)?, *dtype, values.size(elements)?))
        }
        (_, class) => Err(format!("{class} is no kind of storage")),
    }
}

/// Reads what follows the pickles: the bytes of every storage.
fn read_storages<'a>(
    cursor: &mut Cursor<'a>,
    storages: &mut HashMap<&str, Storage<'a>>,
) -> std::result::Result<(), String> {
    let (values, root) = pickle::read(cursor)?;
    let keys = values.sequence(root)?;
    if keys.len() != storages.len() {
        return Err(format!("{} storages are stored and {} are used", keys.len(), storages.len()));
    }
    for &key in keys {
        let key = values.text(key)?;
        let storage = storages.get_mut(key).ok_or_else(|| format!("no tensor uses the storage {key}"))?;
        let count = i64::from_le_bytes(cursor.array()?);
        if usize::try_from(count) != Ok(storage.elements) {
            return Err(format!("storage {key} has {count} elements and should have {}", storage.elements));
        }
        let length =
            storage.elements.checked_mul(storage.dtype.size_in_bytes()).ok_or("a storage beyond memory")?;
        storage.bytes = cursor.take(length).map_err(|problem| format!("storage {key}: {problem}"))?;
    }
    match cursor.remaining() {
        0 => Ok(()),
        left => Err(format!("{left} bytes follow the last storage")),
    }
}

/// Copies a strided view out of its storage. Files converted from TensorFlow have such views: the channels
/// come last.
fn gather(view: &TensorRef, storage: &Storage, budget: &mut usize) -> std::result::Result<Tensor, String> {
    let TensorRef { offset, size, stride, .. } = view;
    if size.len() != stride.len() {
        return Err(format!("size {size:?} and stride {stride:?} differ in length"));
    }
    let width = storage.dtype.size_in_bytes();
    let beyond = || format!("size {size:?} with stride {stride:?} from {offset} reaches beyond its storage");
    let elements = size.iter().try_fold(1usize, |product, &n| product.checked_mul(n)).ok_or_else(beyond)?;
    let mut bytes = Vec::new();
    if elements > 0 {
        let last = size
            .iter()
            .zip(stride)
            .try_fold(*offset, |last, (&n, &step)| last.checked_add((n - 1).checked_mul(step)?));
        if last.is_none_or(|last| last >= storage.elements) {
            return Err(beyond());
        }
        *budget = elements
            .checked_mul(width)
            .and_then(|needed| budget.checked_sub(needed))
            .ok_or("the tensors ask for far more memory than the file holds")?;
        bytes.reserve_exact(elements * width);
        let mut index = vec![0; size.len()];
        let mut at = *offset;
        for _ in 0..elements {
            bytes.extend_from_slice(&storage.bytes[at * width..][..width]);
            for axis in (0..size.len()).rev() {
                index[axis] += 1;
                at += stride[axis];
                if index[axis] < size[axis] {
                    break;
                }
                at -= size[axis] * stride[axis];
                index[axis] = 0;
            }
        }
    }
    Tensor::from_raw_buffer(&bytes, storage.dtype, size, &Device::Cpu).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests;

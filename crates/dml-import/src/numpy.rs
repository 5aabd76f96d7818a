//! numpy's files: `.npy` (one array), `.npz` (a zip of them), and arrays inside pickles.
//!
//! The header of an array is parsed here rather than by a crate: those there are parse it as any Python literal, by
//! recursion, and take its sizes on trust.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{DType, Tensor};

use crate::Result as ImportResult;
use crate::cursor::Cursor;
use crate::gather::{Budget, Storage, View, gather, strides};
use crate::pickle::{ArrayRef, Values};
use crate::{archive, error};

type Result<T> = std::result::Result<T, String>;

pub(crate) const MAGIC: &[u8] = b"\x93NUMPY";

/// Reads the array of a `.npy` file.
///
/// # Errors
/// If the file cannot be read, is damaged or cut short, or has elements other than little-endian numbers.
pub fn read_npy(path: &Path) -> ImportResult<Tensor> {
    error::read(path, parse_npy)
}

/// Reads the arrays of a `.npz` file by their names, without the `.npy` that each has in the archive.
///
/// # Errors
/// As [`read_npy`], and if the archive is damaged.
pub fn read_npz(path: &Path) -> ImportResult<BTreeMap<String, Tensor>> {
    error::read(path, parse_npz)
}

/// As [`read_npy`], of a file in memory.
///
/// # Errors
/// What is wrong, as a sentence.
pub fn parse_npy(file: &[u8]) -> Result<Tensor> {
    array(file, &mut Budget::of_file(file.len()))
}

/// As [`read_npz`], of a file in memory.
///
/// # Errors
/// What is wrong, as a sentence.
pub fn parse_npz(file: &[u8]) -> Result<BTreeMap<String, Tensor>> {
    let mut archive = archive::Archive::open(file)?;
    let mut arrays = BTreeMap::new();
    for name in archive.names()? {
        let content = archive.read(&name)?;
        let array = array(&content, &mut Budget::of_file(content.len()));
        let array = array.map_err(|problem| format!("{name}: {problem}"))?;
        arrays.insert(name.strip_suffix(".npy").unwrap_or(&name).to_string(), array);
    }
    Ok(arrays)
}

/// The element type of numpy's name for it, such as `<f4`; without a byte order, this machine's, which is
/// little-endian.
pub(crate) fn element_type(name: &str) -> Result<DType> {
    let (order, kind) = match name.as_bytes() {
        [order @ (b'<' | b'>' | b'|' | b'='), ..] => (*order, &name[1..]),
        _ => (b'=', name),
    };
    let dtype = match kind {
        "f2" => DType::F16,
        "f4" => DType::F32,
        "f8" => DType::F64,
        "i8" => DType::I64,
        "i4" => DType::I32,
        "i2" => DType::I16,
        "u4" => DType::U32,
        "u1" | "b1" => DType::U8,
        _ => return Err(format!("arrays of the type {name:?} are not read")),
    };
    match order {
        b'>' if dtype.size_in_bytes() > 1 => {
            Err(format!("arrays of big-endian numbers ({name:?}) are not read"))
        }
        _ => Ok(dtype),
    }
}

/// The tensor of an array inside a pickle.
pub(crate) fn from_pickle(values: &Values, array: &ArrayRef, budget: &mut Budget) -> Result<Tensor> {
    tensor(array.dtype, &array.shape, array.fortran, values.bytes(array.data)?, budget)
}

/// The format: a magic number, the version, the header's length (u16, from version 2 on u32), the header, which is a
/// Python dictionary, and the elements.
fn array(file: &[u8], budget: &mut Budget) -> Result<Tensor> {
    let mut cursor = Cursor::new(file);
    if cursor.take(MAGIC.len())? != MAGIC {
        return Err("not an array of numpy: the magic number is missing".into());
    }
    let length = match cursor.array::<2>()? {
        [1, _] => u16::from_le_bytes(cursor.array()?).into(),
        [2 | 3, _] => cursor.u32()?,
        [version, _] => return Err(format!("version {version} of the npy format is unknown")),
    };
    let header = std::str::from_utf8(cursor.take(length)?).map_err(|_| "the header is not UTF-8")?;
    let (dtype, fortran, shape) = parse_header(header).ok_or_else(|| {
        format!("a header that is not understood: {:?}", header.chars().take(120).collect::<String>())
    })?;
    let left = cursor.remaining();
    tensor(element_type(dtype)?, &shape, fortran, cursor.take(left)?, budget)
}

fn tensor(dtype: DType, shape: &[usize], fortran: bool, bytes: &[u8], budget: &mut Budget) -> Result<Tensor> {
    let stride = strides(shape, fortran)?;
    let wanted = shape.iter().try_fold(dtype.size_in_bytes(), |product, &n| product.checked_mul(n));
    if wanted != Some(bytes.len()) {
        return Err(format!("{} bytes for the shape {shape:?} of {}", bytes.len(), dtype.as_str()));
    }
    gather(&View { offset: 0, size: shape, stride: &stride }, Storage { dtype, bytes }, budget)
}

/// Reads `{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }`, the keys in any order.
fn parse_header(header: &str) -> Option<(&str, bool, Vec<usize>)> {
    let mut rest = header.trim().strip_prefix('{')?.strip_suffix('}')?.trim();
    let (mut dtype, mut fortran, mut shape) = (None, None, None);
    while !rest.is_empty() {
        let (key, after) = quoted(rest)?;
        let value = after.trim_start().strip_prefix(':')?.trim_start();
        rest = match key {
            "descr" => {
                let (text, after) = quoted(value)?;
                dtype = Some(text);
                after
            }
            "fortran_order" => {
                let (flag, after) = match value.strip_prefix("True") {
                    Some(after) => (true, after),
                    None => (false, value.strip_prefix("False")?),
                };
                fortran = Some(flag);
                after
            }
            "shape" => {
                let (sizes, after) = value.strip_prefix('(')?.split_once(')')?;
                let sizes = sizes.split(',').map(|size| size.trim().trim_end_matches('L'));
                shape = Some(
                    sizes
                        .filter(|size| !size.is_empty())
                        .map(|size| size.parse().ok())
                        .collect::<Option<_>>()?,
                );
                after
            }
            _ => return None,
        };
        rest = rest.trim_start();
        rest = rest.strip_prefix(',').unwrap_or(rest).trim_start();
    }
    Some((dtype?, fortran?, shape?))
}

fn quoted(text: &str) -> Option<(&str, &str)> {
    let quote = text.chars().next().filter(|quote| ['\'', '"'].contains(quote))?;
    text[1..].split_once(quote)
}

#[cfg(test)]
mod tests;

//! Pickles of numpy arrays, as Lasagne's recipes publish networks: a list of arrays, or a dictionary with such a
//! list under `values` (or `param values`) and a `mean image`.

use std::collections::BTreeMap;

use candle_core::Tensor;

use crate::cursor::Cursor;
use crate::gather::Budget;
use crate::numpy;
use crate::pickle::{self, Ref, Value, Values};

type Result<T> = std::result::Result<T, String>;

const ARRAYS: [&str; 2] = ["values", "param values"];
const MEAN: &str = "mean image";

/// Whether a file begins as a pickle: of protocols 2 to 4, or of protocol 0 or 1 with a list or a dictionary.
pub(crate) fn is_pickle(file: &[u8]) -> bool {
    [b"\x80\x02".as_slice(), b"\x80\x03", b"\x80\x04", b"(lp", b"(dp", b"]q", b"}q"]
        .iter()
        .any(|start| file.starts_with(start))
}

/// The arrays in order, the k-th pair as `k.W` and `k.b`.
pub(crate) fn parse_layers(file: &[u8]) -> Result<BTreeMap<String, Tensor>> {
    let (values, root) = object(file)?;
    let list = ARRAYS.iter().find_map(|key| values.lookup(root, key)).unwrap_or(root);
    let arrays = match values.get(list) {
        Value::Sequence(items) => items,
        other => return Err(format!("{other} is no list of arrays")),
    };
    if arrays.len() % 2 != 0 {
        return Err(format!("{} arrays; there should be a weight and a bias for each layer", arrays.len()));
    }
    let mut budget = Budget::of_file(file.len());
    let mut tensors = BTreeMap::new();
    for (i, &item) in arrays.iter().enumerate() {
        let name = format!("{}.{}", i / 2, ["W", "b"][i % 2]);
        let tensor = array(&values, item, &mut budget).map_err(|problem| format!("{name}: {problem}"))?;
        tensors.insert(name, tensor);
    }
    Ok(tensors)
}

/// The mean image beside the arrays.
pub(crate) fn parse_mean(file: &[u8]) -> Result<Tensor> {
    let (values, root) = object(file)?;
    let mean = values.lookup(root, MEAN).ok_or_else(|| format!("the pickle has no {MEAN:?}"))?;
    array(&values, mean, &mut Budget::of_file(file.len()))
}

fn object(file: &[u8]) -> Result<(Values<'_>, Ref)> {
    let mut cursor = Cursor::new(file);
    let (values, root) = pickle::read(&mut cursor)?;
    match cursor.remaining() {
        0 => Ok((values, root)),
        left => Err(format!("{left} bytes follow the object")),
    }
}

fn array(values: &Values, item: Ref, budget: &mut Budget) -> Result<Tensor> {
    match values.get(item) {
        Value::Array(Some(array)) => numpy::from_pickle(values, array, budget),
        other => Err(format!("{other} is no array")),
    }
}

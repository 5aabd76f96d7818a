use std::borrow::Cow;

use candle_core::DType;

use super::Result;
use super::call::Global;

const MAX_DIMENSIONS: usize = 32;

/// The index of a value in its [`Values`].
pub(crate) type Ref = usize;

/// A pickled value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value<'a> {
    None,
    Bool(bool),
    Int(i64),
    /// An integer of more than 64 bits, little-endian two's complement.
    Long(&'a [u8]),
    Float(f64),
    Text(Cow<'a, str>),
    /// Python 2's `str`, which may be text or raw data, or `bytes`.
    Bytes(Cow<'a, [u8]>),
    /// A tuple or a list.
    Sequence(Vec<Ref>),
    Dict(Vec<(Ref, Ref)>),
    Global(Global),
    /// A persistent id: for torch, a storage.
    Persistent(Ref),
    Tensor(TensorRef),
    ElementType(DType),
    /// A numpy array; without content until its state is set.
    Array(Option<ArrayRef>),
}

impl std::fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::None => write!(f, "None"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Int(value) => write!(f, "{value}"),
            Self::Long(_) => write!(f, "a long integer"),
            Self::Float(value) => write!(f, "{value}"),
            Self::Text(text) => write!(f, "the text {:?}", text.chars().take(80).collect::<String>()),
            Self::Bytes(bytes) => {
                write!(f, "the text {:?}", String::from_utf8_lossy(&bytes[..bytes.len().min(80)]))
            }
            Self::Sequence(items) => write!(f, "a sequence of {}", items.len()),
            Self::Dict(items) => write!(f, "a dictionary of {}", items.len()),
            Self::Global(global) => write!(f, "the global {global:?}"),
            Self::Persistent(_) => write!(f, "a storage"),
            Self::Tensor(_) => write!(f, "a tensor"),
            Self::ElementType(dtype) => write!(f, "the element type {}", dtype.as_str()),
            Self::Array(_) => write!(f, "an array"),
        }
    }
}

/// The arguments of torch's tensor rebuilding: a view into a storage.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TensorRef {
    pub(crate) storage: Ref,
    pub(crate) offset: usize,
    pub(crate) size: Vec<usize>,
    pub(crate) stride: Vec<usize>,
}

/// The state of a numpy array.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ArrayRef {
    pub(crate) dtype: DType,
    pub(crate) shape: Vec<usize>,
    /// Whether the first axis is the fastest.
    pub(crate) fortran: bool,
    /// The value with the elements, little-endian.
    pub(crate) data: Ref,
}

/// The values of one pickle.
#[derive(Default)]
pub(crate) struct Values<'a>(pub(super) Vec<Value<'a>>);

impl<'a> Values<'a> {
    pub(crate) fn get(&self, index: Ref) -> &Value<'a> {
        &self.0[index]
    }

    pub(crate) fn sequence(&self, index: Ref) -> Result<&[Ref]> {
        match self.get(index) {
            Value::Sequence(items) => Ok(items),
            other => Err(format!("a tuple or list was expected, not {other}")),
        }
    }

    pub(crate) fn text(&self, index: Ref) -> Result<&str> {
        match self.get(index) {
            Value::Text(text) => Ok(text),
            Value::Bytes(bytes) => std::str::from_utf8(bytes).map_err(|_| "a text is not UTF-8".into()),
            other => Err(format!("a text was expected, not {other}")),
        }
    }

    pub(crate) fn bytes(&self, index: Ref) -> Result<&[u8]> {
        match self.get(index) {
            Value::Bytes(bytes) => Ok(bytes),
            other => Err(format!("bytes were expected, not {other}")),
        }
    }

    /// An integer that is not negative.
    pub(crate) fn size(&self, index: Ref) -> Result<usize> {
        match *self.get(index) {
            Value::Int(value) => usize::try_from(value).map_err(|_| format!("the size {value} is negative")),
            ref other => Err(format!("a size was expected, not {other}")),
        }
    }

    /// The sizes or strides of a tensor.
    pub(crate) fn sizes(&self, index: Ref) -> Result<Vec<usize>> {
        match self.sequence(index)? {
            items if items.len() <= MAX_DIMENSIONS => items.iter().map(|&item| self.size(item)).collect(),
            items => Err(format!("{} dimensions; a tensor has at most {MAX_DIMENSIONS}", items.len())),
        }
    }

    /// The value under a key of a dictionary.
    pub(crate) fn lookup(&self, dict: Ref, wanted: &str) -> Option<Ref> {
        let Value::Dict(items) = self.get(dict) else { return None };
        items.iter().find(|(key, _)| self.text(*key) == Ok(wanted)).map(|&(_, value)| value)
    }
}

//! What a pickle may name and call. Each call makes a value of this crate's own; nothing is executed.

use std::borrow::Cow;

use candle_core::DType;

use super::Result;
use super::value::{ArrayRef, Ref, TensorRef, Value, Values};
use crate::numpy;

/// The globals that may be named.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Global {
    OrderedDict,
    /// `torch._utils._rebuild_tensor` and its second version.
    RebuildTensor,
    /// `torch._utils._rebuild_parameter`: the tensor itself.
    RebuildParameter,
    Storage(DType),
    /// `numpy.ndarray`, which is only an argument.
    NumpyArray,
    /// `numpy.core.multiarray._reconstruct`: an array without content.
    NumpyReconstruct,
    /// `numpy.core.multiarray.scalar`.
    NumpyScalar,
    /// `numpy.dtype`.
    NumpyType,
    /// `_codecs.encode`: how Python 3 writes bytes for Python 2.
    Encode,
}

/// # Errors
/// If the global is not on the list: the error names it.
pub(super) fn global(module: &str, name: &str) -> Result<Global> {
    Ok(match (module, name) {
        ("collections", "OrderedDict") => Global::OrderedDict,
        ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2") => Global::RebuildTensor,
        ("torch._utils", "_rebuild_parameter") => Global::RebuildParameter,
        ("torch", "FloatStorage") => Global::Storage(DType::F32),
        ("torch", "DoubleStorage") => Global::Storage(DType::F64),
        ("torch", "HalfStorage") => Global::Storage(DType::F16),
        ("torch", "BFloat16Storage") => Global::Storage(DType::BF16),
        ("torch", "LongStorage") => Global::Storage(DType::I64),
        ("torch", "IntStorage") => Global::Storage(DType::I32),
        ("torch", "ByteStorage" | "BoolStorage") => Global::Storage(DType::U8),
        ("numpy", "ndarray") => Global::NumpyArray,
        ("numpy", "dtype") => Global::NumpyType,
        ("numpy.core.multiarray" | "numpy._core.multiarray", "_reconstruct") => Global::NumpyReconstruct,
        ("numpy.core.multiarray" | "numpy._core.multiarray", "scalar") => Global::NumpyScalar,
        ("_codecs", "encode") => Global::Encode,
        _ => return Err(format!("the global {module}.{name} is not allowed: weights need none of its kind")),
    })
}

/// The result of a call.
pub(super) fn reduce<'a>(values: &Values<'a>, callable: Ref, arguments: Ref) -> Result<Value<'a>> {
    let arguments = values.sequence(arguments)?;
    let Value::Global(function) = *values.get(callable) else {
        return Err(format!("{} may not be called", values.get(callable)));
    };
    match (function, arguments) {
        (Global::OrderedDict, []) => Ok(Value::Dict(Vec::new())),
        // Python 2 gives the items as a list of pairs.
        (Global::OrderedDict, &[items]) => {
            let pairs = values.sequence(items)?.iter().map(|&pair| match values.sequence(pair)? {
                &[key, value] => Ok((key, value)),
                _ => Err("an item of an OrderedDict is no pair".to_string()),
            });
            Ok(Value::Dict(pairs.collect::<Result<_>>()?))
        }
        // What may follow: requires_grad, backward hooks, metadata. None changes the values.
        (Global::RebuildTensor, &[storage, offset, size, stride, ..]) => Ok(Value::Tensor(TensorRef {
            storage,
            offset: values.size(offset)?,
            size: values.sizes(size)?,
            stride: values.sizes(stride)?,
        })),
        (Global::RebuildParameter, &[tensor, ..]) => match values.get(tensor) {
            Value::Tensor(tensor) => Ok(Value::Tensor(tensor.clone())),
            other => Err(format!("a parameter is made of {other}, not of a tensor")),
        },
        (Global::NumpyReconstruct, &[class, ..])
            if *values.get(class) == Value::Global(Global::NumpyArray) =>
        {
            Ok(Value::Array(None))
        }
        // What may follow: align and copy flags.
        (Global::NumpyType, &[name, ..]) => numpy::element_type(values.text(name)?).map(Value::ElementType),
        (Global::NumpyScalar, &[dtype, data]) => scalar(values.get(dtype), values.bytes(data)?),
        (Global::Encode, &[text, codec]) if values.text(codec) == Ok("latin1") => latin1(values.get(text)),
        (other, _) => Err(format!("{other:?} may not be called with {} arguments", arguments.len())),
    }
}

/// Sets an object's state (BUILD).
pub(super) fn build(values: &mut Values, object: Ref, state: Ref) -> Result<()> {
    match values.get(object) {
        // A state dictionary has versions of its layers there; nothing needs them.
        Value::Dict(_) => Ok(()),
        // (version, byte order, None: no subtype, no names, no fields, …)
        Value::ElementType(dtype) => {
            let one_byte = dtype.size_in_bytes() == 1;
            match *values.sequence(state)? {
                [_, order, subtype, names, fields, ..]
                    if [subtype, names, fields].iter().all(|&part| *values.get(part) == Value::None) =>
                {
                    match values.text(order)? {
                        "<" | "|" => Ok(()),
                        _ if one_byte => Ok(()),
                        order => Err(format!("numbers of the byte order {order:?} are not read")),
                    }
                }
                _ => Err("an array of structures; only arrays of numbers are read".into()),
            }
        }
        Value::Array(None) => {
            let &[_, shape, dtype, fortran, data] = values.sequence(state)? else {
                return Err("an array's state has not five parts".into());
            };
            let &Value::ElementType(dtype) = values.get(dtype) else {
                return Err(format!("an array's type is {}", values.get(dtype)));
            };
            let fortran = match *values.get(fortran) {
                Value::Bool(fortran) => fortran,
                Value::Int(0) => false,
                Value::Int(1) => true,
                ref other => return Err(format!("an array's order is {other}")),
            };
            values.bytes(data)?;
            let array = ArrayRef { dtype, shape: values.sizes(shape)?, fortran, data };
            values.0[object] = Value::Array(Some(array));
            Ok(())
        }
        other => Err(format!("attributes may not be set on {other}")),
    }
}

fn scalar<'a>(dtype: &Value, data: &[u8]) -> Result<Value<'a>> {
    let &Value::ElementType(dtype) = dtype else {
        return Err(format!("a number's type is {dtype}"));
    };
    let wrong = |_| format!("a number of type {} has {} bytes", dtype.as_str(), data.len());
    Ok(match dtype {
        DType::F32 => Value::Float(f32::from_le_bytes(data.try_into().map_err(wrong)?).into()),
        DType::F64 => Value::Float(f64::from_le_bytes(data.try_into().map_err(wrong)?)),
        DType::I64 => Value::Int(i64::from_le_bytes(data.try_into().map_err(wrong)?)),
        DType::I32 => Value::Int(i32::from_le_bytes(data.try_into().map_err(wrong)?).into()),
        DType::U8 => Value::Int(u8::from_le_bytes(data.try_into().map_err(wrong)?).into()),
        other => return Err(format!("single numbers of type {} are not read", other.as_str())),
    })
}

fn latin1<'a>(text: &Value) -> Result<Value<'a>> {
    let Value::Text(text) = text else { return Err(format!("{text} cannot be encoded")) };
    let bytes: std::result::Result<Vec<u8>, _> = text.chars().map(|c| u8::try_from(u32::from(c))).collect();
    Ok(Value::Bytes(Cow::Owned(bytes.map_err(|_| "a text has characters beyond Latin-1")?)))
}

//! An interpreter for the part of Python's pickle that state dictionaries use. It executes nothing: a global
//! name is a label on an allow-list, and whatever is not on it is refused by name.
//!
//! Values live in an arena and refer to each other by index, so neither cycles nor deep nesting can exhaust
//! the stack, and an instruction makes at most one value, so memory is bounded by the file's length.

use std::collections::HashMap;

use super::cursor::Cursor;

/// The index of a value in its [`Values`].
pub(super) type Ref = usize;

/// A pickled value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    None,
    Bool(bool),
    Int(i64),
    /// An integer of more than 64 bits, little-endian two's complement.
    Long(Vec<u8>),
    Float,
    Text(String),
    /// A tuple or a list.
    Sequence(Vec<Ref>),
    Dict(Vec<(Ref, Ref)>),
    Global(Global),
    /// A persistent id: for torch, a storage.
    Persistent(Ref),
    Tensor(TensorRef),
}

impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::None => write!(f, "None"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Int(value) => write!(f, "{value}"),
            Self::Long(_) => write!(f, "a long integer"),
            Self::Float => write!(f, "a real number"),
            Self::Text(text) => write!(f, "the text {:?}", text.chars().take(80).collect::<String>()),
            Self::Sequence(items) => write!(f, "a sequence of {}", items.len()),
            Self::Dict(items) => write!(f, "a dictionary of {}", items.len()),
            Self::Global(global) => write!(f, "the global {global:?}"),
            Self::Persistent(_) => write!(f, "a storage"),
            Self::Tensor(_) => write!(f, "a tensor"),
        }
    }
}

/// The globals that may be named.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Global {
    OrderedDict,
    RebuildTensor,
    Storage(candle_core::DType),
}

/// The arguments of torch's tensor rebuilding: a view into a storage.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct TensorRef {
    pub(super) storage: Ref,
    pub(super) offset: usize,
    pub(super) size: Vec<usize>,
    pub(super) stride: Vec<usize>,
}

/// Enough for some fifty thousand tensors. A value takes some seventy bytes of memory for perhaps one of the
/// file.
const MAX_VALUES: usize = 1 << 20;

type Result<T> = std::result::Result<T, String>;

/// The values of one pickle.
#[derive(Default)]
pub(super) struct Values(Vec<Value>);

impl Values {
    pub(super) fn get(&self, index: Ref) -> &Value {
        &self.0[index]
    }

    pub(super) fn sequence(&self, index: Ref) -> Result<&[Ref]> {
        match self.get(index) {
            Value::Sequence(items) => Ok(items),
            other => Err(format!("a tuple or list was expected, not {other}")),
        }
    }

    pub(super) fn text(&self, index: Ref) -> Result<&str> {
        match self.get(index) {
            Value::Text(text) => Ok(text),
            other => Err(format!("a text was expected, not {other}")),
        }
    }

    /// An integer that is not negative.
    pub(super) fn size(&self, index: Ref) -> Result<usize> {
        match *self.get(index) {
            Value::Int(value) => usize::try_from(value).map_err(|_| format!("the size {value} is negative")),
            ref other => Err(format!("a size was expected, not {other}")),
        }
    }

    fn sizes(&self, index: Ref) -> Result<Vec<usize>> {
        self.sequence(index)?.iter().map(|&item| self.size(item)).collect()
    }
}

/// Reads one pickle.
pub(super) fn read(cursor: &mut Cursor) -> Result<(Values, Ref)> {
    let mut machine = Machine::default();
    loop {
        let at = cursor.position();
        let done = machine.step(cursor).map_err(|problem| format!("at byte {at}: {problem}"))?;
        if machine.values.0.len() > MAX_VALUES {
            return Err(format!("more than {MAX_VALUES} values: no state dictionary is that long"));
        }
        if let Some(root) = done {
            return Ok((machine.values, root));
        }
    }
}

#[derive(Default)]
struct Machine {
    values: Values,
    stack: Vec<Ref>,
    /// Heights of the stack at the open marks.
    marks: Vec<usize>,
    memo: HashMap<usize, Ref>,
}

impl Machine {
    /// Executes one instruction; answers the result at the last.
    fn step(&mut self, cursor: &mut Cursor) -> Result<Option<Ref>> {
        match cursor.array::<1>()?[0] {
            // PROTO
            0x80 => match cursor.byte()? {
                0..=2 => {}
                version => return Err(format!("pickle protocol {version}; torch's legacy files have 2")),
            },
            b'.' => return self.pop().map(Some),
            b'(' => self.marks.push(self.stack.len()),
            b'0' => drop(self.pop()?),
            b'1' => drop(self.pop_mark()?),
            b'N' => self.push(Value::None),
            0x88 => self.push(Value::Bool(true)),
            0x89 => self.push(Value::Bool(false)),
            b'J' => {
                let value = i32::from_le_bytes(cursor.array()?);
                self.push(Value::Int(value.into()));
            }
            b'K' => {
                let value = cursor.byte()? as i64;
                self.push(Value::Int(value));
            }
            b'M' => {
                let value = u16::from_le_bytes(cursor.array()?);
                self.push(Value::Int(value.into()));
            }
            // LONG1
            0x8a => {
                let length = cursor.byte()?;
                let bytes = cursor.take(length)?;
                self.push(long(bytes));
            }
            b'G' => {
                cursor.take(8)?;
                self.push(Value::Float);
            }
            // BINUNICODE, and Python 2's BINSTRING and SHORT_BINSTRING
            b'X' | b'T' => {
                let length = cursor.u32()?;
                self.push_text(cursor.take(length)?)?;
            }
            b'U' => {
                let length = cursor.byte()?;
                self.push_text(cursor.take(length)?)?;
            }
            b')' | b']' => self.push(Value::Sequence(Vec::new())),
            // TUPLE1, TUPLE2, TUPLE3
            code @ 0x85..=0x87 => {
                let height = self.height(usize::from(code - 0x84))?;
                let items = self.stack.split_off(height);
                self.push(Value::Sequence(items));
            }
            b't' | b'l' => {
                let items = self.pop_mark()?;
                self.push(Value::Sequence(items));
            }
            b'a' => {
                let item = self.pop()?;
                self.extend_list([item])?;
            }
            b'e' => {
                let items = self.pop_mark()?;
                self.extend_list(items)?;
            }
            b'}' => self.push(Value::Dict(Vec::new())),
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.extend_dict(&[key, value])?;
            }
            b'u' => {
                let items = self.pop_mark()?;
                self.extend_dict(&items)?;
            }
            // BINPUT and BINGET, and their long forms
            b'q' => {
                let key = cursor.byte()?;
                self.remember(key)?;
            }
            b'r' => {
                let key = cursor.u32()?;
                self.remember(key)?;
            }
            b'h' => {
                let key = cursor.byte()?;
                self.recall(key)?;
            }
            b'j' => {
                let key = cursor.u32()?;
                self.recall(key)?;
            }
            b'c' => {
                let (module, name) = (cursor.line()?, cursor.line()?);
                self.push(Value::Global(global(module, name)?));
            }
            b'R' => {
                let (arguments, callable) = (self.pop()?, self.pop()?);
                let value = reduce(&self.values, callable, arguments)?;
                self.push(value);
            }
            // BUILD: sets an object's attributes. A state dictionary has versions of its layers there;
            // nothing needs them.
            b'b' => {
                self.pop()?;
                match self.values.get(self.top()?) {
                    Value::Dict(_) => {}
                    other => return Err(format!("attributes may not be set on {other}")),
                }
            }
            // BINPERSID
            b'Q' => {
                let id = self.pop()?;
                self.push(Value::Persistent(id));
            }
            other => return Err(format!("instruction {other:#04x} has no place in a state dictionary")),
        }
        Ok(None)
    }

    fn push(&mut self, value: Value) {
        self.stack.push(self.values.0.len());
        self.values.0.push(value);
    }

    fn push_text(&mut self, bytes: &[u8]) -> Result<()> {
        let text = std::str::from_utf8(bytes).map_err(|_| "a text is not UTF-8")?;
        self.push(Value::Text(text.into()));
        Ok(())
    }

    /// The stack's height less `n`, which must not reach below the last mark.
    fn height(&self, n: usize) -> Result<usize> {
        let floor = self.marks.last().copied().unwrap_or(0);
        match self.stack.len().checked_sub(n) {
            Some(height) if height >= floor => Ok(height),
            _ => Err("the stack has too few values".into()),
        }
    }

    fn top(&self) -> Result<Ref> {
        Ok(self.stack[self.height(1)?])
    }

    fn pop(&mut self) -> Result<Ref> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn pop_mark(&mut self) -> Result<Vec<Ref>> {
        let mark = self.marks.pop().ok_or("a mark is missing")?;
        Ok(self.stack.split_off(mark))
    }

    fn remember(&mut self, key: usize) -> Result<()> {
        let top = self.top()?;
        self.memo.insert(key, top);
        Ok(())
    }

    fn recall(&mut self, key: usize) -> Result<()> {
        let value = *self.memo.get(&key).ok_or_else(|| format!("nothing was remembered as {key}"))?;
        self.stack.push(value);
        Ok(())
    }

    fn extend_list(&mut self, new: impl IntoIterator<Item = Ref>) -> Result<()> {
        let top = self.top()?;
        match &mut self.values.0[top] {
            Value::Sequence(items) => items.extend(new),
            other => return Err(format!("{other} is no list to append to")),
        }
        Ok(())
    }

    fn extend_dict(&mut self, new: &[Ref]) -> Result<()> {
        let top = self.top()?;
        let (pairs, rest) = new.as_chunks::<2>();
        match &mut self.values.0[top] {
            Value::Dict(items) if rest.is_empty() => {
                items.extend(pairs.iter().map(|&[key, value]| (key, value)))
            }
            Value::Dict(_) => return Err("a key without a value".into()),
            other => return Err(format!("{other} is no dictionary to set items of")),
        }
        Ok(())
    }
}

fn reduce(values: &Values, callable: Ref, arguments: Ref) -> Result<Value> {
    let arguments = values.sequence(arguments)?;
    match (values.get(callable), arguments) {
        (Value::Global(Global::OrderedDict), []) => Ok(Value::Dict(Vec::new())),
        // Python 2 gives the items as a list of pairs.
        (Value::Global(Global::OrderedDict), &[items]) => {
            let pairs = values.sequence(items)?.iter().map(|&pair| match values.sequence(pair)? {
                &[key, value] => Ok((key, value)),
                _ => Err("an item of an OrderedDict is no pair".to_string()),
            });
            Ok(Value::Dict(pairs.collect::<Result<_>>()?))
        }
        // What may follow: requires_grad, backward hooks, metadata. None changes the values.
        (Value::Global(Global::RebuildTensor), &[storage, offset, size, stride, ..]) => {
            Ok(Value::Tensor(TensorRef {
                storage,
                offset: values.size(offset)?,
                size: values.sizes(size)?,
                stride: values.sizes(stride)?,
            }))
        }
        (other, _) => Err(format!("{other} may not be called with {} arguments", arguments.len())),
    }
}

fn global(module: &str, name: &str) -> Result<Global> {
    use candle_core::DType;
    Ok(match (module, name) {
        ("collections", "OrderedDict") => Global::OrderedDict,
        ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2") => Global::RebuildTensor,
        ("torch", "FloatStorage") => Global::Storage(DType::F32),
        ("torch", "DoubleStorage") => Global::Storage(DType::F64),
        ("torch", "HalfStorage") => Global::Storage(DType::F16),
        ("torch", "BFloat16Storage") => Global::Storage(DType::BF16),
        ("torch", "LongStorage") => Global::Storage(DType::I64),
        ("torch", "IntStorage") => Global::Storage(DType::I32),
        ("torch", "ByteStorage") => Global::Storage(DType::U8),
        _ => return Err(format!("the global {module}.{name} is not allowed in a state dictionary")),
    })
}

/// The value of LONG1's bytes.
fn long(bytes: &[u8]) -> Value {
    if bytes.len() > 8 {
        return Value::Long(bytes.to_vec());
    }
    let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
    let mut wide = [if negative { 0xff } else { 0 }; 8];
    wide[..bytes.len()].copy_from_slice(bytes);
    Value::Int(i64::from_le_bytes(wide))
}

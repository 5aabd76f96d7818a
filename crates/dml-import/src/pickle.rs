//! An interpreter for the part of Python's pickle (protocols 0 to 4) that published weights use. It executes
//! nothing: a global name is a label on an allow-list, and whatever is not on it is refused by name.
//!
//! Values live in an arena and refer to each other by index, so neither cycles nor deep nesting can exhaust
//! the stack. An instruction makes at most one value, and what calls copy is counted, so memory is bounded by
//! the file's length.

use std::borrow::Cow;
use std::collections::HashMap;

use crate::cursor::Cursor;
pub(crate) use call::Global;
pub(crate) use value::{ArrayRef, Ref, TensorRef, Value, Values};

mod call;
mod text;
mod value;

/// Enough for some fifty thousand tensors, or three hundred thousand words. A value takes some seventy bytes
/// of memory for perhaps one of the file.
const MAX_VALUES: usize = 1 << 20;
/// Bytes that calls may copy for each byte of the file. An item of Python 2's `OrderedDict` takes 16 in memory and at
/// least 3 in the file.
const COPIES: usize = 16;

type Result<T> = std::result::Result<T, String>;

/// Reads one pickle.
pub(crate) fn read<'a>(cursor: &mut Cursor<'a>) -> Result<(Values<'a>, Ref)> {
    let mut machine = Machine { budget: cursor.remaining().saturating_mul(COPIES), ..Machine::default() };
    loop {
        let at = cursor.position();
        let done = machine.step(cursor).map_err(|problem| format!("at byte {at}: {problem}"))?;
        if machine.values.0.len() > MAX_VALUES {
            return Err(format!("more than {MAX_VALUES} values: no weights are that many"));
        }
        if let Some(root) = done {
            return Ok((machine.values, root));
        }
    }
}

#[derive(Default)]
struct Machine<'a> {
    values: Values<'a>,
    stack: Vec<Ref>,
    /// Heights of the stack at the open marks.
    marks: Vec<usize>,
    memo: HashMap<usize, Ref>,
    /// Bytes that calls may still copy.
    budget: usize,
}

impl<'a> Machine<'a> {
    /// Executes one instruction; answers the result at the last.
    fn step(&mut self, cursor: &mut Cursor<'a>) -> Result<Option<Ref>> {
        match cursor.array::<1>()?[0] {
            // PROTO
            0x80 => match cursor.byte()? {
                0..=4 => {}
                version => return Err(format!("pickle protocol {version}; only 0 to 4 are read")),
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
            b'G' => self.push(Value::Float(f64::from_be_bytes(cursor.array()?))),
            // INT, LONG, FLOAT, STRING and UNICODE: the literals of protocol 0
            b'I' | b'L' => self.push(text::integer(cursor.text_line()?)?),
            b'F' => self.push(text::float(cursor.text_line()?)?),
            b'S' => self.push(text::string(cursor.line()?)?),
            b'V' => self.push(text::unicode(cursor.line()?)?),
            // BINUNICODE
            b'X' => {
                let length = cursor.u32()?;
                self.push_text(cursor.take(length)?)?;
            }
            // SHORT_BINUNICODE and BINUNICODE8
            code @ (0x8c | 0x8d) => {
                let length = if code == 0x8c { cursor.byte()? } else { cursor.u64()? };
                self.push_text(cursor.take(length)?)?;
            }
            // BINBYTES8 and SHORT_BINBYTES
            0x8e => {
                let length = cursor.u64()?;
                self.push(Value::Bytes(Cow::Borrowed(cursor.take(length)?)));
            }
            b'C' => {
                let length = cursor.byte()?;
                self.push(Value::Bytes(Cow::Borrowed(cursor.take(length)?)));
            }
            // BINSTRING and SHORT_BINSTRING: Python 2's `str`; and BINBYTES
            b'T' | b'B' => {
                let length = cursor.u32()?;
                self.push(Value::Bytes(Cow::Borrowed(cursor.take(length)?)));
            }
            b'U' => {
                let length = cursor.byte()?;
                self.push(Value::Bytes(Cow::Borrowed(cursor.take(length)?)));
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
            // DICT
            b'd' => {
                let items = self.pop_mark()?;
                self.push(Value::Dict(Vec::new()));
                self.extend_dict(&items)?;
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.extend_dict(&[key, value])?;
            }
            b'u' => {
                let items = self.pop_mark()?;
                self.extend_dict(&items)?;
            }
            // PUT and GET, BINPUT and BINGET, and their long forms
            b'p' => {
                let key = index(cursor.text_line()?)?;
                self.remember(key)?;
            }
            b'g' => {
                let key = index(cursor.text_line()?)?;
                self.recall(key)?;
            }
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
                let (module, name) = (cursor.text_line()?, cursor.text_line()?);
                self.push(Value::Global(call::global(module, name)?));
            }
            // STACK_GLOBAL
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let global = call::global(self.values.text(module)?, self.values.text(name)?)?;
                self.push(Value::Global(global));
            }
            // MEMOIZE
            0x94 => self.remember(self.memo.len())?,
            // FRAME: so many bytes belong together, which matters to whoever reads from a pipe.
            0x95 => drop(cursor.array::<8>()?),
            b'R' => {
                let (arguments, callable) = (self.pop()?, self.pop()?);
                let value = call::reduce(&self.values, callable, arguments)?;
                let copied = match &value {
                    Value::Dict(items) => size_of_val(items.as_slice()),
                    Value::Bytes(bytes) => bytes.len(),
                    _ => 0,
                };
                self.budget = self.budget.checked_sub(copied).ok_or("it copies itself over and over")?;
                self.push(value);
            }
            // BUILD
            b'b' => {
                let state = self.pop()?;
                let object = self.top()?;
                call::build(&mut self.values, object, state)?;
            }
            // BINPERSID
            b'Q' => {
                let id = self.pop()?;
                self.push(Value::Persistent(id));
            }
            other => return Err(format!("instruction {other:#04x} has no place among weights")),
        }
        Ok(None)
    }

    fn push(&mut self, value: Value<'a>) {
        self.stack.push(self.values.0.len());
        self.values.0.push(value);
    }

    fn push_text(&mut self, bytes: &'a [u8]) -> Result<()> {
        let text = std::str::from_utf8(bytes).map_err(|_| "a text is not UTF-8")?;
        self.push(Value::Text(Cow::Borrowed(text)));
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

/// A key of the memo, in decimal digits.
fn index(line: &str) -> Result<usize> {
    line.parse().map_err(|_| "a memo's key is no number".into())
}

/// The value of LONG1's bytes.
fn long(bytes: &[u8]) -> Value<'_> {
    if bytes.len() > 8 {
        return Value::Long(bytes);
    }
    let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
    let mut wide = [if negative { 0xff } else { 0 }; 8];
    wide[..bytes.len()].copy_from_slice(bytes);
    Value::Int(i64::from_le_bytes(wide))
}

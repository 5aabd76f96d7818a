//! The literals of pickle protocol 0, Python 2's default, which is text.

use std::borrow::Cow;

use super::Result;
use super::value::Value;

/// INT and LONG: decimal digits, for LONG with an `L` after them; `00` and `01` are False and True.
pub(super) fn integer<'a>(line: &str) -> Result<Value<'a>> {
    match line {
        "00" => Ok(Value::Bool(false)),
        "01" => Ok(Value::Bool(true)),
        _ => line
            .trim_end_matches('L')
            .parse()
            .map(Value::Int)
            .map_err(|_| format!("{:?} is no integer of 64 bits", shorten(line))),
    }
}

/// FLOAT, as Python's `repr` has it.
pub(super) fn float<'a>(line: &str) -> Result<Value<'a>> {
    line.parse().map(Value::Float).map_err(|_| format!("{:?} is no real number", shorten(line)))
}

/// STRING: Python 2's `repr` of a `str`, in either kind of quotes.
pub(super) fn string<'a>(line: &'a [u8]) -> Result<Value<'a>> {
    let content = match line {
        [b'\'', content @ .., b'\''] | [b'"', content @ .., b'"'] => content,
        _ => return Err("a text is not in quotes".into()),
    };
    if !content.contains(&b'\\') {
        return Ok(Value::Bytes(Cow::Borrowed(content)));
    }
    let mut bytes = Vec::with_capacity(content.len());
    let mut rest = content.iter().copied();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        bytes.push(match rest.next() {
            Some(quoted @ (b'\\' | b'\'' | b'"')) => quoted,
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(b't') => b'\t',
            Some(b'x') => hexadecimal(&mut rest, 2)? as u8,
            _ => return Err("an escape in a text that Python 2 does not write".into()),
        });
    }
    Ok(Value::Bytes(Cow::Owned(bytes)))
}

/// UNICODE: Latin-1 with `\uXXXX` and `\UXXXXXXXX` for the rest.
pub(super) fn unicode<'a>(line: &[u8]) -> Result<Value<'a>> {
    let mut text = String::with_capacity(line.len());
    let mut rest = line.iter().copied().peekable();
    while let Some(byte) = rest.next() {
        let digits = match (byte, rest.peek()) {
            (b'\\', Some(b'u')) => 4,
            (b'\\', Some(b'U')) => 8,
            _ => {
                text.push(char::from(byte));
                continue;
            }
        };
        rest.next();
        let code = hexadecimal(&mut rest, digits)?;
        text.push(char::from_u32(code).ok_or_else(|| format!("{code:#x} is no character"))?);
    }
    Ok(Value::Text(Cow::Owned(text)))
}

fn hexadecimal(bytes: &mut impl Iterator<Item = u8>, digits: usize) -> Result<u32> {
    (0..digits).try_fold(0, |code, _| {
        let digit = bytes.next().and_then(|byte| char::from(byte).to_digit(16));
        digit.map(|digit| code << 4 | digit).ok_or_else(|| "an escape in a text is cut short".into())
    })
}

fn shorten(line: &str) -> String {
    line.chars().take(80).collect()
}

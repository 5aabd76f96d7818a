//! Plain objects in pickles, such as the vocabulary and options beside an order-embedding's arrays.

use std::path::Path;

use serde_json::{Map, Number, Value as Json};

use crate::Result as ImportResult;
use crate::cursor::Cursor;
use crate::error;
use crate::pickle::{self, Ref, Value, Values};

type Result<T> = std::result::Result<T, String>;

/// No published object is nested deeper.
const MAX_DEPTH: usize = 16;

/// Reads a pickle of numbers, texts, lists and dictionaries with texts as keys.
///
/// # Errors
/// If the file cannot be read, is damaged, or holds anything else; tensors too are refused here.
pub fn read_object(path: &Path) -> ImportResult<Json> {
    error::read(path, parse_object)
}

/// As [`read_object`], of a file in memory.
///
/// # Errors
/// What is wrong, as a sentence.
pub fn parse_object(file: &[u8]) -> Result<Json> {
    let mut cursor = Cursor::new(file);
    let (values, root) = pickle::read(&mut cursor)?;
    if cursor.remaining() > 0 {
        return Err(format!("{} bytes follow the object", cursor.remaining()));
    }
    // Shared parts are copied here, so a small file could ask for any amount of memory: parts within parts
    // within parts ("a thousand million laughs").
    let mut budget = 8 * file.len();
    json(&values, root, 0, &mut budget)
}

fn json(values: &Values, index: Ref, depth: usize, budget: &mut usize) -> Result<Json> {
    let mut spend = |n: usize| {
        *budget = budget.checked_sub(n).ok_or("the object holds itself over and over")?;
        Ok::<_, String>(())
    };
    spend(1)?;
    if depth > MAX_DEPTH {
        return Err(format!("the object is nested more than {MAX_DEPTH} deep"));
    }
    Ok(match values.get(index) {
        Value::None => Json::Null,
        Value::Bool(value) => Json::Bool(*value),
        Value::Int(value) => Json::Number((*value).into()),
        Value::Float(value) => {
            Json::Number(Number::from_f64(*value).ok_or_else(|| format!("the number {value} is not finite"))?)
        }
        Value::Text(_) | Value::Bytes(_) => {
            let text = values.text(index)?;
            spend(text.len())?;
            Json::String(text.into())
        }
        Value::Sequence(items) => Json::Array(
            items.iter().map(|&item| json(values, item, depth + 1, budget)).collect::<Result<_>>()?,
        ),
        Value::Dict(items) => {
            let mut map = Map::new();
            for &(key, value) in items {
                let key = values.text(key)?;
                *budget = budget.checked_sub(key.len()).ok_or("the object holds itself over and over")?;
                map.insert(key.into(), json(values, value, depth + 1, budget)?);
            }
            Json::Object(map)
        }
        other => return Err(format!("{other} where numbers, texts, lists and dictionaries were expected")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(file: &[u8]) -> String {
        parse_object(file).unwrap_err()
    }

    #[test]
    fn objects_that_hold_themselves_are_refused() {
        // Thirty lists, each holding the one before twice: 2^30 texts in two hundred bytes.
        let mut laughs = b"\x80\x02U\x03ha!q\x00".to_vec();
        for i in 0..12u8 {
            laughs.extend([b'(', b'h', i, b'h', i, b'h', i, b'h', i, b'l', b'q', i + 1]);
        }
        laughs.push(b'.');
        assert!(refusal(&laughs).contains("over and over"), "{}", refusal(&laughs));
        assert!(refusal(b"\x80\x02]q\x00h\x00a.").contains("nested"));
        // OrderedDict copies its list of items: a small list, many times.
        let mut copies = b"\x80\x02((".to_vec();
        copies.extend(b"U\x01aK\x01\x86".repeat(1000));
        copies.extend(b"lq\x00");
        copies.extend(b"ccollections\nOrderedDict\nq\x01");
        copies.extend(b"h\x01h\x00\x85R".repeat(2000));
        copies.extend(b"t.");
        assert!(refusal(&copies).contains("over and over"), "{}", refusal(&copies));
    }

    #[test]
    fn nothing_but_plain_objects_is_read() {
        for (file, problem) in [
            (b"cos\nsystem\n(S'true'\ntR.".as_slice(), "os.system"),
            (b"\x80\x02cposix\nsystem\nU\x04true\x85R.", "posix.system"),
            (b"\x80\x02c__builtin__\neval\nU\x011\x85R.", "__builtin__.eval"),
            (b"\x80\x02cnumpy\nndarray\n.", "NumpyArray"),
            (b"\x80\x02U\x02\xff\xfe.", "not UTF-8"),
            (b"I1e3\n.", "no integer"),
            (b"L99999999999999999999L\n.", "no integer"),
            (b"Fnan\n.", "not finite"),
            (b"Fone\n.", "no real number"),
            (b"S'a\n.", "not in quotes"),
            (b"S'\\q'\n.", "escape"),
            (b"S'\\x1'\n.", "cut short"),
            (b"V\\ud800\n.", "no character"),
            (b"V\\u12\n.", "cut short"),
            (b"p-1\n.", "memo's key"),
            (b"g99999999999999999999999\n.", "memo's key"),
            (b"(I1\nd.", "a key without a value"),
            (b"}(I1\nI2\nu.", "a text was expected"),
            (b"N..", "1 bytes follow"),
            (b"I1", "a line without an end"),
        ] {
            let message = refusal(file);
            assert!(message.contains(problem), "{message}, not {problem}");
        }
    }
}

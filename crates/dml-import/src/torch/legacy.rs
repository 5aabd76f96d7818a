use super::*;

/// 0x1950a86a20f9469cfc6c, little-endian.
pub(super) const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
const PROTOCOL: i64 = 1001;

/// Whether a file begins as a legacy checkpoint.
pub(crate) fn is_legacy(file: &[u8]) -> bool {
    magic(&mut Cursor::new(file))
}

fn magic(cursor: &mut Cursor) -> bool {
    // The first pickle is nothing but the number; another kind of file need not be read to its end.
    let starts = [b"\x80\x02".as_slice(), b"\x80\x03", b"\x80\x04\x95\x0d\0\0\0\0\0\0\0"];
    starts.iter().any(|start| cursor.passes(&[start, b"\x8a\x0a".as_slice(), &MAGIC, b"."].concat()))
}

pub(super) fn parse(file: &[u8]) -> Result<BTreeMap<String, Tensor>> {
    let mut cursor = Cursor::new(file);
    if !magic(&mut cursor) {
        return Err("not a torch checkpoint: the magic number is missing".into());
    }
    let (values, root) = pickle::read(&mut cursor)?;
    if *values.get(root) != Value::Int(PROTOCOL) {
        return Err(format!("torch's protocol {PROTOCOL} was expected, not {}", values.get(root)));
    }
    let (values, root) = pickle::read(&mut cursor)?;
    if values.lookup(root, "little_endian").map(|index| values.get(index)) != Some(&Value::Bool(true)) {
        return Err("written on a big-endian machine; such files are not read".into());
    }
    let (values, root) = pickle::read(&mut cursor)?;
    let state = State::new(&values, root)?;
    let bytes = read_storages(&mut cursor, &state.storages()?)?;
    state.gather(&bytes, Budget::of_file(file.len()))
}

/// Reads what follows the pickles: the bytes of every storage.
fn read_storages<'a, 'v>(
    cursor: &mut Cursor<'a>,
    storages: &HashMap<&'v str, &StorageId<'v>>,
) -> Result<HashMap<&'v str, &'a [u8]>> {
    let (values, root) = pickle::read(cursor)?;
    let keys = values.sequence(root)?;
    if keys.len() != storages.len() {
        return Err(format!("{} storages are stored and {} are used", keys.len(), storages.len()));
    }
    let mut found = HashMap::new();
    for &key in keys {
        let key = values.text(key)?;
        let id = storages.get(key).ok_or_else(|| format!("no tensor uses the storage {key}"))?;
        let count = i64::from_le_bytes(cursor.array()?);
        if usize::try_from(count) != Ok(id.elements) {
            return Err(format!("storage {key} has {count} elements and should have {}", id.elements));
        }
        let bytes = cursor.take(id.bytes()?).map_err(|problem| format!("storage {key}: {problem}"))?;
        found.insert(id.key, bytes);
    }
    match cursor.remaining() {
        0 => Ok(found),
        left => Err(format!("{left} bytes follow the last storage")),
    }
}

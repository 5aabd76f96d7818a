use super::*;
use crate::archive::Archive;

pub(super) fn parse(file: &[u8]) -> Result<BTreeMap<String, Tensor>> {
    let mut archive = Archive::open(file)?;
    let names = archive.names()?;
    let folder = names.iter().find_map(|name| name.strip_suffix("/data.pkl"));
    let folder = folder.ok_or("not a torch checkpoint: the archive has no data.pkl")?.to_string();
    let order = format!("{folder}/byteorder");
    // Files of PyTorch before 2.1 do not state it.
    if names.contains(&order) && archive.read(&order)?.trim_ascii() != b"little" {
        return Err("written on a big-endian machine; such files are not read".into());
    }
    let pickle = archive.read(&format!("{folder}/data.pkl"))?;
    let mut cursor = Cursor::new(&pickle);
    let (values, root) = pickle::read(&mut cursor).map_err(|problem| format!("data.pkl, {problem}"))?;
    if cursor.remaining() > 0 {
        return Err(format!("{} bytes follow the object in data.pkl", cursor.remaining()));
    }
    let state = State::new(&values, root)?;
    let mut contents = HashMap::new();
    for (key, id) in state.storages()? {
        let content = archive.read(&format!("{folder}/data/{key}"))?;
        if content.len() != id.bytes()? {
            return Err(format!("storage {key} has {} bytes and should have {}", content.len(), id.bytes()?));
        }
        contents.insert(key, content);
    }
    let bytes = contents.iter().map(|(&key, content)| (key, content.as_slice())).collect();
    let length = file.len() + contents.values().map(Vec::len).sum::<usize>();
    state.gather(&bytes, Budget::of_file(length))
}

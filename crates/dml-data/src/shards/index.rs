//! What `index.json` says.

use std::collections::HashSet;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::text::wrong;
use crate::{DataError, Result};

pub(super) const INDEX: &str = "index.json";
pub(super) const FORMAT: &str = "dml shards 1";

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Index {
    pub(super) format: String,
    pub(super) metadata: Value,
    pub(super) shards: Vec<Shard>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Shard {
    pub(super) file: String,
    pub(super) bytes: u64,
    pub(super) sha256: String,
    pub(super) samples: Vec<Entry>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) frames: Vec<Span>,
    pub(super) meta: Span,
}

/// Offset in the shard, length, CRC-32.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Span(pub(super) u64, pub(super) u64, pub(super) u32);

impl Index {
    /// Reads and checks it: the format, and that every file lies within its shard and no key is there twice.
    pub(super) fn read(dir: &Path) -> Result<Self> {
        Self::read_file(&dir.join(INDEX))
    }

    /// The same from any file.
    pub(super) fn read_file(path: &Path) -> Result<Self> {
        let index: Self = read_json(path)?;
        index.check(path)?;
        Ok(index)
    }

    /// What [`read`](Self::read) checks of the index that is, or will be, in this file.
    pub(super) fn check(&self, path: &Path) -> Result<()> {
        if self.format != FORMAT {
            let problem = format!(
                "this is \"{}\"; this version reads \"{FORMAT}\": prepare the data anew",
                self.format
            );
            return Err(wrong(path, None, problem));
        }
        let mut keys = HashSet::new();
        for shard in &self.shards {
            if shard.file.contains(['/', '\\']) {
                return Err(wrong(path, None, format!("the shard {} is not in this folder", shard.file)));
            }
            for entry in &shard.samples {
                if !keys.insert(entry.key.as_str()) {
                    return Err(wrong(path, None, format!("the key {} is there twice", entry.key)));
                }
                let within = |Span(offset, length, _): &Span| {
                    offset.checked_add(*length).is_some_and(|end| end <= shard.bytes)
                };
                if entry.frames.is_empty() || !entry.frames.iter().chain([&entry.meta]).all(within) {
                    let problem = format!("{} has no frame, or one outside of {}", entry.key, shard.file);
                    return Err(wrong(path, None, problem));
                }
            }
        }
        Ok(())
    }
}

/// # Errors
/// If the file cannot be read, or if it is not such JSON.
pub(super) fn read_json<T: for<'a> Deserialize<'a>>(path: &Path) -> Result<T> {
    let bytes = std::fs::read(path).map_err(|source| DataError::Io { path: path.into(), source })?;
    serde_json::from_slice(&bytes)
        .map_err(|e| wrong(path, Some(e.line()), format!("damaged: {e}; prepare the data anew")))
}

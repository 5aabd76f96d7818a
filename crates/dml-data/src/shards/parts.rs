//! Sets that several writers make together, each a part with a prefix of its own.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::index::{FORMAT, INDEX, Index};
use super::writer::write_json;
use crate::text::wrong;
use crate::{DataError, Result};

/// Where the index of a part stands until the parts are merged.
pub(super) fn place(dir: &Path, prefix: &str) -> PathBuf {
    dir.join(format!("{prefix}.part.json"))
}

/// The metadata of a part that [`Writer::finish_part`](super::Writer::finish_part) has finished; none if it is not there.
///
/// # Errors
/// If its index is damaged.
pub fn part(dir: &Path, prefix: &str) -> Result<Option<Value>> {
    let path = place(dir, prefix);
    if !path.exists() {
        return Ok(None);
    }
    Ok(Some(Index::read_file(&path)?.metadata))
}

/// Makes a finished set of finished parts: their samples in the order of the prefixes. No shard is written again.
///
/// # Errors
/// If a part is not finished or its index is damaged, if a shard is missing or has another length than it was written with,
/// if a key is in two parts, or if the index cannot be written.
pub fn merge(dir: &Path, prefixes: &[String], metadata: Value) -> Result<()> {
    let mut shards = Vec::new();
    for prefix in prefixes {
        shards.extend(Index::read_file(&place(dir, prefix))?.shards);
    }
    for shard in &shards {
        let path = dir.join(&shard.file);
        let length =
            std::fs::metadata(&path).map_err(|source| DataError::Io { path: path.clone(), source })?;
        if length.len() != shard.bytes {
            let problem =
                format!("it has {} bytes, and had {} when it was written", length.len(), shard.bytes);
            return Err(wrong(&path, None, problem));
        }
    }
    let index = Index { format: FORMAT.into(), metadata, shards };
    let path = dir.join(INDEX);
    index.check(&path)?;
    write_json(&path, &index)?;
    for prefix in prefixes {
        // The index has it all; a part that stays does no harm.
        let _ = std::fs::remove_file(place(dir, prefix));
    }
    Ok(())
}

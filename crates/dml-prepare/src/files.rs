//! Files that appear whole or not at all, their checksums, and the room for them.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use md5::Md5;
use sha1::Sha1;
use sha2::{Digest, Sha256};

use crate::error::io;
use crate::event::{Event, Run};
use crate::{PrepareError, Result};

/// Writes a small file under a temporary name, syncs and renames it.
pub(crate) fn write(path: &Path, content: &[u8]) -> Result<()> {
    let temporary = beside(path, ".tmp");
    let mut file = File::create(&temporary).map_err(io(&temporary))?;
    file.write_all(content).and_then(|()| file.sync_all()).map_err(io(&temporary))?;
    std::fs::rename(&temporary, path).map_err(io(path))
}

/// The path with something appended to its last part.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Removes a folder or file, if it is there.
pub(crate) fn remove(path: &Path) -> Result<()> {
    let removed = match std::fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => std::fs::remove_dir_all(path),
        Ok(_) => std::fs::remove_file(path),
        Err(e) => Err(e),
    };
    match removed {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(io(path)(e)),
        _ => Ok(()),
    }
}

/// Refuses where fewer than `needed` bytes are free on the disk of `dir`.
pub(crate) fn room(dir: &Path, needed: u64) -> Result<()> {
    let free = fs4::available_space(dir).map_err(io(dir))?;
    if free < needed { Err(PrepareError::Space { path: dir.into(), needed, free }) } else { Ok(()) }
}

/// An error of writing, where a full disk is told apart.
pub(crate) fn written(path: &Path, more: u64) -> impl FnOnce(std::io::Error) -> PrepareError {
    let path = path.to_owned();
    move |source| {
        let dir = path.parent().unwrap_or(&path);
        match (source.kind(), fs4::available_space(dir)) {
            (std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded, Ok(free)) => {
                PrepareError::Space { path: dir.into(), needed: more.max(free + 1), free }
            }
            _ => PrepareError::Io { path, source },
        }
    }
}

/// Size, SHA-256, MD5 and SHA-1 of a file, in lower-case hexadecimal.
#[derive(Debug)]
pub(crate) struct Digests {
    pub(crate) size: u64,
    pub(crate) sha256: String,
    pub(crate) md5: String,
    pub(crate) sha1: String,
}

/// Reads a file and computes its digests; `older` says whether MD5 and SHA-1 are wanted.
pub(crate) fn digest(path: &Path, older: bool, run: Run<'_>) -> Result<Digests> {
    let mut file = File::open(path).map_err(io(path))?;
    let length = file.metadata().map_err(io(path))?.len();
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    run.send(Event::Started { what: format!("checking {name}"), of: Some(length), bytes: true, from: 0 });
    let (mut sha, mut md, mut sha1, mut size) = (Sha256::new(), Md5::new(), Sha1::new(), 0);
    let mut buffer = vec![0; 1 << 20];
    loop {
        run.check()?;
        let count = file.read(&mut buffer).map_err(io(path))?;
        if count == 0 {
            break;
        }
        sha.update(&buffer[..count]);
        if older {
            md.update(&buffer[..count]);
            sha1.update(&buffer[..count]);
        }
        size += count as u64;
        run.send(Event::Advanced(size));
    }
    run.send(Event::Finished);
    let [sha256, md5, sha1] = [hex(&sha.finalize()), hex(&md.finalize()), hex(&sha1.finalize())];
    Ok(Digests { size, sha256, md5, sha1 })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

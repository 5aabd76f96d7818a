use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::index::{Entry, INDEX, Index, Shard, Span};
use crate::photographs::hex;
use crate::text::wrong;
use crate::{DataError, Result};

/// A finished set of shards, memory-mapped: opening it reads the index alone, and samples come from the page cache.
#[derive(Debug)]
pub struct Reader {
    shards: Vec<(PathBuf, Mmap)>,
    /// The shard of each sample.
    samples: Vec<(usize, Entry)>,
    metadata: Value,
    sha256: String,
}

impl Reader {
    /// Opens the set in this folder.
    ///
    /// # Errors
    /// If there is no finished set, if its index is damaged, or if a shard is missing or has another length than the
    /// index says; the error names the file.
    pub fn open(dir: &Path) -> Result<Self> {
        let index = Index::read(dir)?;
        let mut shards = Vec::with_capacity(index.shards.len());
        let mut samples = Vec::new();
        let mut sha = Sha256::new();
        for (number, shard) in index.shards.into_iter().enumerate() {
            shards.push(map(dir, &shard)?);
            sha.update(&shard.sha256);
            samples.extend(shard.samples.into_iter().map(|entry| (number, entry)));
        }
        Ok(Self { shards, samples, metadata: index.metadata, sha256: hex(&sha.finalize()) })
    }

    /// Whether this folder has a finished set.
    pub fn is_finished(dir: &Path) -> bool {
        dir.join(INDEX).is_file()
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        self.samples.len()
    }

    /// Whether there is no sample.
    pub fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }

    /// What the set was finished with.
    pub fn metadata(&self) -> &Value {
        &self.metadata
    }

    /// SHA-256 over the SHA-256 of all shards, in hexadecimal: it changes with the data.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// The sample's key.
    ///
    /// # Panics
    /// This and the other functions of one sample: if there are not so many samples or frames.
    pub fn key(&self, sample: usize) -> &str {
        &self.samples[sample].1.key
    }

    /// Number of the sample's frames.
    pub fn frames(&self, sample: usize) -> usize {
        self.samples[sample].1.frames.len()
    }

    /// A frame as a JPEG file.
    ///
    /// # Errors
    /// If the bytes are not those that were written.
    pub fn frame(&self, sample: usize, frame: usize) -> Result<&[u8]> {
        self.bytes(sample, self.samples[sample].1.frames[frame])
    }

    /// What is known of the sample.
    ///
    /// # Errors
    /// If the bytes are not those that were written.
    pub fn meta(&self, sample: usize) -> Result<Value> {
        let span = self.samples[sample].1.meta;
        serde_json::from_slice(self.bytes(sample, span)?)
            .map_err(|e| self.damaged(sample, span, &format!("no JSON: {e}")))
    }

    /// An error about a frame that cannot be used, which names the shard and the place.
    pub(crate) fn bad_frame(&self, sample: usize, frame: usize, problem: &str) -> DataError {
        self.damaged(sample, self.samples[sample].1.frames[frame], problem)
    }

    fn bytes(&self, sample: usize, span: Span) -> Result<&[u8]> {
        let Span(offset, length, crc) = span;
        let (_, map) = &self.shards[self.samples[sample].0];
        // The index was checked against the lengths when the set was opened.
        let bytes = &map[offset as usize..(offset + length) as usize];
        if crc32fast::hash(bytes) != crc {
            return Err(self.damaged(sample, span, "its checksum differs"));
        }
        Ok(bytes)
    }

    fn damaged(&self, sample: usize, Span(offset, ..): Span, problem: &str) -> DataError {
        let (shard, entry) = &self.samples[sample];
        let problem = format!("{} is damaged: {problem}; prepare the data anew", entry.key);
        DataError::Shard { path: self.shards[*shard].0.clone(), offset, problem }
    }
}

/// Reads every byte of the set in this folder: the SHA-256 of each shard, the archive's own entries against the
/// index, and the checksum of each file. Gives the number of samples.
///
/// # Errors
/// As [`Reader::open`], and for the first byte that is not as the index says; the error names shard and offset.
pub fn verify(dir: &Path) -> Result<usize> {
    let reader = Reader::open(dir)?;
    for shard in Index::read(dir)?.shards {
        let path = dir.join(&shard.file);
        let fail = |offset, problem: String| Err(DataError::Shard { path: path.clone(), offset, problem });
        let expected = shard.samples.iter().flat_map(|Entry { key, frames, meta }| {
            let frames = frames.iter().enumerate().map(move |(n, span)| (format!("{key}.{n:03}.jpg"), *span));
            frames.chain([(format!("{key}.json"), *meta)])
        });
        let io = |source| DataError::Io { path: path.clone(), source };
        let mut archive = tar::Archive::new(std::io::BufReader::new(File::open(&path).map_err(io)?));
        let mut entries = archive.entries().map_err(io)?;
        for (name, Span(offset, length, _)) in expected {
            let found = match entries.next() {
                Some(Ok(entry)) => (entry.path_bytes().into_owned(), entry.raw_file_position(), entry.size()),
                Some(Err(e)) => return fail(offset, format!("no header of {name}: {e}")),
                None => return fail(offset, format!("the archive ends before {name}")),
            };
            if found != (name.clone().into_bytes(), offset, length) {
                let (found, at, bytes) = (String::from_utf8_lossy(&found.0), found.1, found.2);
                return fail(
                    offset,
                    format!("{found} ({bytes} bytes at {at}) where the index has {name} ({length} bytes)"),
                );
            }
        }
        if entries.next().is_some() {
            return fail(shard.bytes, "the archive has more files than the index".into());
        }
    }
    for sample in 0..reader.len() {
        for frame in 0..reader.frames(sample) {
            reader.frame(sample, frame)?;
        }
        reader.meta(sample)?;
    }
    for shard in Index::read(dir)?.shards {
        let path = dir.join(&shard.file);
        if digest(&path)? != (shard.bytes, shard.sha256) {
            let problem = "its SHA-256 differs from the index; prepare the data anew".into();
            return Err(DataError::Shard { path, offset: 0, problem });
        }
    }
    Ok(reader.len())
}

/// Length and SHA-256 of a file.
pub(super) fn digest(path: &Path) -> Result<(u64, String)> {
    let failed = |source| DataError::Io { path: path.into(), source };
    let mut file = File::open(path).map_err(failed)?;
    let (mut sha, mut bytes, mut buffer) = (Sha256::new(), 0, vec![0; 1 << 18]);
    loop {
        let count = file.read(&mut buffer).map_err(failed)?;
        if count == 0 {
            return Ok((bytes, hex(&sha.finalize())));
        }
        sha.update(&buffer[..count]);
        bytes += count as u64;
    }
}

fn map(dir: &Path, shard: &Shard) -> Result<(PathBuf, Mmap)> {
    let path = dir.join(&shard.file);
    let failed = |source| DataError::Io { path: path.clone(), source };
    let file = File::open(&path).map_err(failed)?;
    let bytes = file.metadata().map_err(failed)?.len();
    if bytes != shard.bytes {
        let problem = format!("{bytes} bytes where the index says {}; prepare the data anew", shard.bytes);
        return Err(wrong(&path, None, problem));
    }
    // SAFETY: a shard is never written again once it has its name; whoever cuts one short while it is mapped would
    // end this process, not mislead it.
    let map = unsafe { Mmap::map(&file) }.map_err(failed)?;
    Ok((path, map))
}

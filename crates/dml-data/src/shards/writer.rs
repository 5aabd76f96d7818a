use std::collections::HashSet;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tar::{Builder, Header};

use super::index::{Entry, FORMAT, INDEX, Index, Shard, Span, read_json};
use super::reader::digest;
use super::{Sample, parts, unescape};
use crate::photographs::hex;
use crate::{DataError, Result, files};

/// How shards are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardOptions {
    /// A shard is closed before it would grow beyond this many bytes. A sample larger than that has a shard alone.
    pub max_bytes: u64,
}

impl Default for ShardOptions {
    /// 64 MiB: what an interrupted writer has to do again at most.
    fn default() -> Self {
        Self { max_bytes: 64 << 20 }
    }
}

/// Writes a set of shards. The same samples in the same order make the same bytes.
///
/// Each file is written under a temporary name, synced and renamed. Beside a finished shard stands
/// `<prefix>-000000.json` with its part of the index until the whole set is finished, so that a writer that was killed
/// can be resumed after its last finished shard.
pub struct Writer {
    dir: PathBuf,
    prefix: String,
    options: ShardOptions,
    done: Vec<Shard>,
    keys: HashSet<String>,
    open: Option<Open>,
    broken: bool,
}

impl Writer {
    /// Begins a set in a folder that has none; the folder is made if it is missing.
    ///
    /// # Errors
    /// If the folder cannot be written, or if it has a set or a part of one.
    pub fn create(dir: &Path, prefix: &str, options: ShardOptions) -> Result<Self> {
        let (writer, keys) = Self::resume(dir, prefix, options)?;
        if !keys.is_empty() {
            let problem = format!("{}: a part of a set is here; resume or remove it", dir.display());
            return Err(DataError::Invalid(problem));
        }
        Ok(writer)
    }

    /// Continues a set that was not finished, or begins one. Gives the keys that finished shards hold, in their order;
    /// the next sample to append is the one after these. Finished shards are checked against their SHA-256; a damaged
    /// one, all behind it, and temporary files are removed.
    ///
    /// # Errors
    /// If the folder cannot be read and written, if it has a finished set, or if the prefix is not a file name.
    pub fn resume(dir: &Path, prefix: &str, options: ShardOptions) -> Result<(Self, Vec<String>)> {
        if unescape(prefix).is_none_or(|name| name != prefix || name.is_empty()) {
            let problem =
                format!("the prefix \"{prefix}\" has other characters than letters, digits, _ and -");
            return Err(DataError::Invalid(problem));
        }
        std::fs::create_dir_all(dir).map_err(io(dir))?;
        if dir.join(INDEX).exists() {
            let problem = format!("{}: the set here is finished; remove it to write another", dir.display());
            return Err(DataError::Invalid(problem));
        }
        let mut writer = Self {
            dir: dir.into(),
            prefix: prefix.into(),
            options,
            done: Vec::new(),
            keys: HashSet::new(),
            open: None,
            broken: false,
        };
        while let Some(shard) = writer.finished(writer.done.len()) {
            writer.done.push(shard);
        }
        writer.remove_leftovers()?;
        let entries = writer.done.iter().flat_map(|shard| &shard.samples);
        let keys: Vec<String> = entries.map(|entry| entry.key.clone()).collect();
        writer.keys.extend(keys.iter().cloned());
        Ok((writer, keys))
    }

    /// Adds a sample behind the others.
    ///
    /// # Errors
    /// If the key is empty, has other characters than those of [`super::escape`] or was there before; if there is no
    /// frame, more than 1000, or one that is no JPEG file; the writer can go on after these. If a shard cannot be
    /// written: then the writer refuses everything else, and resuming goes on after the last finished shard.
    pub fn append(&mut self, sample: &Sample) -> Result<()> {
        self.check(sample)?;
        let meta = serde_json::to_vec(&sample.meta)
            .map_err(|e| DataError::Invalid(format!("what is known of {} is no JSON: {e}", sample.key)))?;
        // A name that does not fit a plain header has an entry of its own.
        let header = if sample.key.len() + ".000.jpg".len() < 100 {
            1
        } else {
            2 + padded(sample.key.len() + 10) / BLOCK
        };
        let files = sample.frames.iter().chain([&meta]);
        let size: u64 = files.map(|file| header * BLOCK + padded(file.len())).sum();
        self.guard(|writer| {
            let full = |open: &Open| open.bytes() + size + 2 * BLOCK > writer.options.max_bytes;
            if writer.open.as_ref().is_some_and(full) {
                writer.close()?;
            }
            let open = match &mut writer.open {
                Some(open) => open,
                None => writer
                    .open
                    .insert(Open::create(&writer.dir, &shard_name(&writer.prefix, writer.done.len()))?),
            };
            open.append(&sample.key, &sample.frames, &meta)
        })?;
        self.keys.insert(sample.key.clone());
        Ok(())
    }

    /// Finishes the last shard and writes the index with this metadata, which says how the set was made.
    ///
    /// # Errors
    /// If a file cannot be written, or if a sample before could not.
    pub fn finish(self, metadata: Value) -> Result<()> {
        let path = self.dir.join(INDEX);
        self.finish_in(&path, metadata)
    }

    /// Finishes the last shard of a part of a set, and writes the part's index; [`merge`](super::merge) makes one set of
    /// all parts.
    ///
    /// # Errors
    /// As [`finish`](Self::finish).
    pub fn finish_part(self, metadata: Value) -> Result<()> {
        let path = parts::place(&self.dir, &self.prefix);
        self.finish_in(&path, metadata)
    }

    fn finish_in(mut self, path: &Path, metadata: Value) -> Result<()> {
        self.guard(Self::close)?;
        let shards = std::mem::take(&mut self.done);
        let count = shards.len();
        let index = Index { format: FORMAT.into(), metadata, shards };
        write_json(path, &index)?;
        for number in 0..count {
            // The index has it all; a part that stays does no harm.
            let _ = std::fs::remove_file(self.part(number));
        }
        Ok(())
    }

    fn check(&self, sample: &Sample) -> Result<()> {
        let Sample { key, frames, .. } = sample;
        let fail = |problem: &str| Err(DataError::Invalid(format!("sample \"{key}\": {problem}")));
        if key.is_empty() || unescape(key).is_none() {
            return fail("its key has other characters than letters, digits, _ and -; escape it");
        }
        if self.keys.contains(key) {
            return fail("its key was there before");
        }
        if !(1..=1000).contains(&frames.len()) {
            return fail(&format!("it has {} frames, which is not 1 to 1000", frames.len()));
        }
        match frames.iter().position(|frame| !frame.starts_with(&[0xff, 0xd8])) {
            Some(number) => fail(&format!("frame {number} is no JPEG file")),
            None => Ok(()),
        }
    }

    /// After a failed write nothing else is written: the open shard is not whole.
    fn guard(&mut self, write: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        if self.broken {
            let problem = format!("{}: a shard could not be written; resume the set", self.dir.display());
            return Err(DataError::Invalid(problem));
        }
        let written = write(self);
        self.broken = written.is_err();
        written
    }

    fn close(&mut self) -> Result<()> {
        if let Some(open) = self.open.take() {
            let shard = open.close(&self.dir, self.part(self.done.len()))?;
            self.done.push(shard);
        }
        Ok(())
    }

    fn part(&self, number: usize) -> PathBuf {
        self.dir.join(shard_name(&self.prefix, number)).with_extension("json")
    }

    /// The shard of this number, if it and its part of the index are whole.
    fn finished(&self, number: usize) -> Option<Shard> {
        let shard: Shard = read_json(&self.part(number)).ok()?;
        let name = shard_name(&self.prefix, number);
        let path = self.dir.join(&name);
        (shard.file == name && digest(&path).ok()? == (shard.bytes, shard.sha256.clone())).then_some(shard)
    }

    /// Removes temporary files and shards that do not count.
    fn remove_leftovers(&self) -> Result<()> {
        let kept: HashSet<PathBuf> = (0..self.done.len())
            .flat_map(|number| [self.part(number), self.part(number).with_extension("tar")])
            .collect();
        for entry in std::fs::read_dir(&self.dir).map_err(io(&self.dir))? {
            let path = entry.map_err(io(&self.dir))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let ours = name.strip_prefix(&self.prefix).is_some_and(|rest| {
                let number = rest.strip_prefix('-').and_then(|rest| rest.split('.').next());
                number.is_some_and(|number| number.len() == 6 && number.bytes().all(|b| b.is_ascii_digit()))
            });
            if ours && !kept.contains(&path) {
                std::fs::remove_file(&path).map_err(io(&path))?;
            }
        }
        Ok(())
    }
}

const BLOCK: u64 = 512;

fn padded(length: usize) -> u64 {
    (length as u64).next_multiple_of(BLOCK)
}

fn shard_name(prefix: &str, number: usize) -> String {
    format!("{prefix}-{number:06}.tar")
}

fn io(path: &Path) -> impl Fn(std::io::Error) -> DataError {
    let path = path.to_owned();
    move |source| DataError::Io { path: path.clone(), source }
}

pub(super) fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let bytes = serde_json::to_vec(value).map_err(|e| DataError::Invalid(e.to_string()))?;
    files::write(path, &bytes).map_err(io(path))
}

/// The shard that is being written.
struct Open {
    tar: Builder<Hashing>,
    name: String,
    temporary: PathBuf,
    samples: Vec<Entry>,
}

impl Open {
    fn create(dir: &Path, name: &str) -> Result<Self> {
        let temporary = dir.join(name).with_extension("tar.tmp");
        let file = File::create(&temporary).map_err(io(&temporary))?;
        let writer = Hashing { file: BufWriter::with_capacity(1 << 18, file), sha: Sha256::new(), bytes: 0 };
        Ok(Self { tar: Builder::new(writer), name: name.into(), temporary, samples: Vec::new() })
    }

    fn bytes(&self) -> u64 {
        self.tar.get_ref().bytes
    }

    fn append(&mut self, key: &str, frames: &[Vec<u8>], meta: &[u8]) -> Result<()> {
        let mut spans = Vec::with_capacity(frames.len());
        for (number, frame) in frames.iter().enumerate() {
            spans.push(self.file(format!("{key}.{number:03}.jpg"), frame)?);
        }
        let meta = self.file(format!("{key}.json"), meta)?;
        self.samples.push(Entry { key: key.into(), frames: spans, meta });
        Ok(())
    }

    fn file(&mut self, name: String, bytes: &[u8]) -> Result<Span> {
        let mut header = Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(0);
        self.tar.append_data(&mut header, name, bytes).map_err(io(&self.temporary))?;
        Ok(Span(self.bytes() - padded(bytes.len()), bytes.len() as u64, crc32fast::hash(bytes)))
    }

    /// The part of the index comes first: a shard with its final name always has one.
    fn close(self, dir: &Path, part: PathBuf) -> Result<Shard> {
        let failed = io(&self.temporary);
        let mut writer = self.tar.into_inner().map_err(&failed)?;
        writer.file.flush().and_then(|()| writer.file.get_ref().sync_all()).map_err(&failed)?;
        let (bytes, sha256) = (writer.bytes, hex(&writer.sha.finalize()));
        let shard = Shard { file: self.name, bytes, sha256, samples: self.samples };
        write_json(&part, &shard)?;
        files::publish(&self.temporary, &dir.join(&shard.file)).map_err(failed)?;
        Ok(shard)
    }
}

struct Hashing {
    file: BufWriter<File>,
    sha: Sha256,
    bytes: u64,
}

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.sha.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

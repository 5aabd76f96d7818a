//! Unpacking, with the archive as a stranger: no entry outside its folder, no link, no more than the stated size.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Component, Path, PathBuf};

use flate2::read::MultiGzDecoder;
use zip::ZipArchive;

use crate::error::io;
use crate::event::{Event, Run};
use crate::files::{room, written};
use crate::rar;
use crate::{PrepareError, Result};

/// More entries than any dataset has; a folder with so many files would be an attack.
const MAX_ENTRIES: u64 = 1_000_000;

/// What kind of archive a file is, by its first bytes, whatever its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// tar, also compressed with gzip.
    Tar,
    /// tar compressed with gzip.
    TarGz,
    /// zip.
    Zip,
    /// rar.
    Rar,
}

impl Kind {
    /// The kind of a file, or none if it is no archive.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn of(path: &Path) -> Result<Option<Self>> {
        let mut head = Vec::new();
        File::open(path).and_then(|file| file.take(512).read_to_end(&mut head)).map_err(io(path))?;
        Ok(match head.as_slice() {
            [0x1f, 0x8b, ..] => Some(Self::TarGz),
            [b'P', b'K', 3 | 5, 4 | 6, ..] => Some(Self::Zip),
            [b'R', b'a', b'r', b'!', 0x1a, 7, ..] => Some(Self::Rar),
            bytes if bytes.get(257..262) == Some(b"ustar") => Some(Self::Tar),
            _ => None,
        })
    }
}

/// Unpacks an archive into a folder that need not exist.
///
/// Archives within the archive stay as they are; see [`unpack_nested`].
///
/// # Errors
/// [`PrepareError::Archive`] for an archive that is damaged, of no known kind, larger than `max` bytes when unpacked, or
/// with an entry that is a link, a device, or lies outside the folder; [`PrepareError::Space`] for a full disk. What was
/// unpacked until then stays in `into`, for the caller to remove.
pub fn unpack(archive: &Path, into: &Path, max: u64, run: Run<'_>) -> Result<()> {
    let Some(kind) = Kind::of(archive)? else {
        let problem = "no archive of a known kind (tar, tar.gz, zip, rar)".into();
        return Err(PrepareError::Archive { path: archive.into(), problem });
    };
    std::fs::create_dir_all(into).map_err(io(into))?;
    let name = archive.file_name().unwrap_or_default().to_string_lossy();
    let length = std::fs::metadata(archive).map_err(io(archive))?.len();
    run.send(Event::Started { what: format!("unpacking {name}"), of: Some(length), bytes: true, from: 0 });
    let mut guard = Guard::new(archive, into, max, run);
    let file = || File::open(archive).map_err(io(archive));
    match kind {
        Kind::Tar => tar(Counted { inner: file()?, at: 0, run }, &mut guard)?,
        Kind::TarGz => tar(MultiGzDecoder::new(Counted { inner: file()?, at: 0, run }), &mut guard)?,
        Kind::Zip => zip(file()?, &mut guard)?,
        Kind::Rar => rar::unpack(archive, &mut guard)?,
    }
    run.send(Event::Finished);
    Ok(())
}

/// Unpacks an archive, then the rar archives within it beside themselves, and removes these (HMDB51 is a rar of rars).
///
/// # Errors
/// As [`unpack`]; `max` holds for all together.
pub fn unpack_nested(archive: &Path, into: &Path, max: u64, run: Run<'_>) -> Result<()> {
    unpack(archive, into, max, run)?;
    let mut inner: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(into).map_err(io(into))? {
        let path = entry.map_err(io(into))?.path();
        if path.is_file() && path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("rar")) {
            inner.push(path);
        }
    }
    inner.sort();
    for path in inner {
        let left = max.saturating_sub(size_of_folder(into)?);
        unpack(&path, into, left, run)?;
        crate::files::remove(&path)?;
    }
    Ok(())
}

/// The bytes of all files in a folder and below; links are refused.
pub(crate) fn size_of_folder(dir: &Path) -> Result<u64> {
    let mut sum = 0;
    for entry in std::fs::read_dir(dir).map_err(io(dir))? {
        let entry = entry.map_err(io(dir))?;
        let found = entry.metadata().map_err(io(entry.path()))?;
        if found.is_symlink() {
            let problem = "a link came out of an archive; links are refused".into();
            return Err(PrepareError::Archive { path: entry.path(), problem });
        }
        sum += if found.is_dir() { size_of_folder(&entry.path())? } else { found.len() };
    }
    Ok(sum)
}

/// Everything that comes out of an archive passes here.
pub(crate) struct Guard<'a> {
    pub(crate) archive: &'a Path,
    pub(crate) into: &'a Path,
    pub(crate) run: Run<'a>,
    pub(crate) left: u64,
    max: u64,
    entries: u64,
}

impl<'a> Guard<'a> {
    fn new(archive: &'a Path, into: &'a Path, max: u64, run: Run<'a>) -> Self {
        Self { archive, into, run, left: max, max, entries: 0 }
    }

    pub(crate) fn refuse(&self, problem: impl Into<String>) -> PrepareError {
        PrepareError::Archive { path: self.archive.into(), problem: problem.into() }
    }

    pub(crate) fn too_large(&self) -> PrepareError {
        let max = crate::units::bytes(self.max);
        self.refuse(format!("it would unpack to more than {max}, the limit for this part; it is refused"))
    }

    /// Where an entry goes. Only plain names below the folder will do.
    pub(crate) fn place(&mut self, entry: &Path) -> Result<PathBuf> {
        self.run.check()?;
        self.entries += 1;
        if self.entries > MAX_ENTRIES {
            return Err(self.refuse(format!("it has more than {MAX_ENTRIES} entries; it is refused")));
        }
        let mut place = self.into.to_owned();
        for part in entry.components() {
            match part {
                Component::Normal(name) if !name.to_string_lossy().contains(['\\', '\0']) => place.push(name),
                Component::CurDir => {}
                _ => {
                    let problem = format!(
                        "its entry \"{}\" lies outside the folder; the archive is refused",
                        entry.display()
                    );
                    return Err(self.refuse(problem));
                }
            }
        }
        Ok(place)
    }

    pub(crate) fn folder(&mut self, entry: &Path) -> Result<()> {
        let place = self.place(entry)?;
        std::fs::create_dir_all(&place).map_err(io(place))
    }

    /// Writes an entry. Its content is counted as it comes: headers may lie.
    pub(crate) fn file(&mut self, entry: &Path, mut content: impl Read) -> Result<()> {
        let place = self.place(entry)?;
        if let Some(dir) = place.parent() {
            std::fs::create_dir_all(dir).map_err(io(dir))?;
        }
        // Never through something that an earlier entry put there.
        let mut file = File::create_new(&place).map_err(|e| match e.kind() {
            std::io::ErrorKind::AlreadyExists => {
                self.refuse(format!("its entry \"{}\" is there twice; it is refused", entry.display()))
            }
            _ => io(&place)(e),
        })?;
        let mut buffer = [0; 1 << 16];
        loop {
            self.run.check()?;
            let count = content.read(&mut buffer).map_err(|e| self.damaged(&e))?;
            if count == 0 {
                return Ok(());
            }
            self.left = self.left.checked_sub(count as u64).ok_or_else(|| self.too_large())?;
            file.write_all(&buffer[..count]).map_err(written(&place, count as u64))?;
        }
    }

    fn damaged(&self, error: &dyn std::fmt::Display) -> PrepareError {
        self.refuse(format!("it is damaged: {error}; delete it, and it will be fetched again"))
    }
}

/// Unpacks what a tar stream holds.
pub(crate) fn tar(stream: impl Read, guard: &mut Guard<'_>) -> Result<()> {
    let mut archive = tar::Archive::new(stream);
    for entry in archive.entries().map_err(|e| guard.damaged(&e))? {
        let mut entry = entry.map_err(|e| guard.damaged(&e))?;
        let path = entry.path().map_err(|e| guard.damaged(&e))?.into_owned();
        let kind = entry.header().entry_type();
        if kind.is_dir() {
            guard.folder(&path)?;
        } else if kind.is_file() {
            guard.file(&path, &mut entry)?;
        } else if !(kind.is_pax_global_extensions() || kind.is_pax_local_extensions()) {
            let problem =
                format!("its entry \"{}\" is a link or a device; the archive is refused", path.display());
            return Err(guard.refuse(problem));
        }
    }
    Ok(())
}

fn zip(file: File, guard: &mut Guard<'_>) -> Result<()> {
    let mut archive = ZipArchive::new(file).map_err(|e| guard.damaged(&e))?;
    let mut stated: u64 = 0;
    for index in 0..archive.len() {
        let entry = archive.by_index_raw(index).map_err(|e| guard.damaged(&e))?;
        stated = stated.saturating_add(entry.size());
    }
    if stated > guard.left {
        return Err(guard.too_large());
    }
    room(guard.into, stated)?;
    let mut at = 0;
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).map_err(|e| guard.damaged(&e))?;
        let path = PathBuf::from(&*entry.name().map_err(|e| guard.damaged(&e))?);
        if entry.is_symlink() {
            let problem = format!("its entry \"{}\" is a link; the archive is refused", path.display());
            return Err(guard.refuse(problem));
        }
        at += entry.compressed_size();
        if entry.is_dir() {
            guard.folder(&path)?;
        } else {
            guard.file(&path, &mut entry)?;
        }
        guard.run.send(Event::Advanced(at));
    }
    Ok(())
}

/// Reports how far an archive has been read.
struct Counted<'a, R> {
    inner: R,
    at: u64,
    run: Run<'a>,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.at += count as u64;
        self.run.send(Event::Advanced(self.at));
        Ok(count)
    }
}

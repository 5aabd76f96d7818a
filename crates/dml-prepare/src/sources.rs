//! Where each part of a dataset lies: in the folder given, unpacked before, or fetched now.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::error::io;
use crate::event::Run;
use crate::extract::{Kind, unpack_nested};
use crate::fetch::Fetcher;
use crate::files::{beside, remove};
use crate::layout::Parts;
use crate::locate::locate;
use crate::manifest::{Lock, Manifest, Part};
use crate::pipeline::Options;
use crate::{PrepareError, Result};

/// The folders of each part, by the part's name; none for a part that may be missing and is.
pub(crate) fn sources(
    manifest: &Manifest,
    options: &Options,
    dir: &Path,
    lock: &mut Lock,
    run: Run<'_>,
) -> Result<Parts> {
    let fetcher = Fetcher::new(&options.network, run);
    let mut parts = BTreeMap::new();
    for part in &manifest.parts {
        run.check()?;
        let found = source(manifest, part, options, dir, lock, &fetcher, run)?;
        parts.insert(part.name.clone(), found);
    }
    Ok(parts)
}

fn source(
    manifest: &Manifest,
    part: &Part,
    options: &Options,
    dir: &Path,
    lock: &mut Lock,
    fetcher: &Fetcher<'_>,
    run: Run<'_>,
) -> Result<Option<PathBuf>> {
    let unpacked = dir.join("source").join(&part.name);
    let here = |root: &Path| locate(manifest.name, &part.name, root);
    if let Some(found) = here(&unpacked) {
        return Ok(Some(found));
    }
    let archive = match &options.from {
        Some(from) if from.is_file() && for_part(manifest, part, from) => Some(from.clone()),
        Some(from) if from.is_dir() => match here(from) {
            Some(found) => return Ok(Some(found)),
            None => archive_in(from, part),
        },
        // Beside an archive that was named, the other parts may lie.
        Some(from) if from.is_file() => {
            let beside = from.parent().unwrap_or(Path::new("."));
            match (archive_in(beside, part), here(beside)) {
                (None, Some(found)) => return Ok(Some(found)),
                (archive, _) => archive,
            }
        }
        Some(from) => {
            let problem = "no such folder or archive".into();
            return Err(PrepareError::Layout { path: from.clone(), problem });
        }
        None => None,
    };
    let archive = match archive {
        Some(path) => {
            fetcher.known(part, &path)?;
            path
        }
        None if options.from.is_some() && part.optional => {
            run.note(format!("{}: no {} here; going without", manifest.name, part.name));
            return Ok(None);
        }
        None => fetcher.part(part, &dir.join("archives"), lock)?,
    };
    // A plain file, or a folder of files from the hub, is what it is.
    let plain = archive.is_dir() || Kind::of(&archive)?.is_none();
    if plain {
        let root =
            if archive.is_dir() { archive.as_path() } else { archive.parent().unwrap_or(Path::new(".")) };
        return here(root).map(Some).ok_or_else(|| missing(manifest, part, root));
    }
    let partial = beside(&unpacked, ".part");
    remove(&partial)?;
    let done = unpack_nested(&archive, &partial, part.unpacked_max, run);
    if done.is_err() {
        remove(&partial)?;
    }
    done?;
    remove(&unpacked)?;
    std::fs::rename(&partial, &unpacked).map_err(io(&unpacked))?;
    here(&unpacked).map(Some).ok_or_else(|| missing(manifest, part, &unpacked))
}

fn missing(manifest: &Manifest, part: &Part, root: &Path) -> PrepareError {
    let problem = format!(
        "the {} of {} are not in it; expected {}",
        part.name,
        manifest.title,
        crate::locate::wanted(manifest.name, &part.name)
    );
    PrepareError::Layout { path: root.into(), problem }
}

/// An archive of a part, by one of the names that its sources give it.
fn archive_in(dir: &Path, part: &Part) -> Option<PathBuf> {
    names(part).map(|name| dir.join(name)).find(|path| path.is_file() && is_archive(path))
}

fn is_archive(path: &Path) -> bool {
    matches!(Kind::of(path), Ok(Some(_)))
}

fn names(part: &Part) -> impl Iterator<Item = String> + '_ {
    let last = |file: &String| file.rsplit('/').next().unwrap_or_default().to_owned();
    part.sources
        .iter()
        .flat_map(move |source| source.files.iter().map(last).chain([source.file_name()]))
        .filter(|name| !name.contains('*'))
}

/// Whether an archive that was named is this part: by its name, or as the first part if its name says nothing.
fn for_part(manifest: &Manifest, part: &Part, archive: &Path) -> bool {
    let name = archive.file_name().unwrap_or_default().to_string_lossy();
    let is = |part: &Part| names(part).any(|known| known == name);
    is(part)
        || (manifest.parts.first().is_some_and(|first| first.name == part.name)
            && !manifest.parts.iter().any(is))
}

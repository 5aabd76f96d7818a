//! A part of a dataset from whichever of its sources works, checked.

use std::path::{Path, PathBuf};

use hf_hub::repository::RepoTreeEntry;
use hf_hub::{HFClient, HFResult};

use crate::download::{Downloader, Failure, Patience, note, part};
use crate::error::io;
use crate::event::Run;
use crate::files::{digest, remove, room};
use crate::manifest::{Lock, Part, Seen, Source, check};
use crate::{PrepareError, Result, rar};

/// The network, as the fetching sees it.
#[derive(Clone, Debug, Default)]
pub struct Network {
    /// How patient downloads are.
    pub patience: Patience,
    /// Address of the Hugging Face hub; else `HF_ENDPOINT`, else the public one.
    pub hub: Option<String>,
    /// Token for the hub; else `HF_TOKEN`.
    pub token: Option<String>,
}

/// What a source would fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The address.
    pub address: String,
    /// Size in bytes, where manifest or server state it.
    pub size: Option<u64>,
    /// Whether it could be unpacked here.
    pub usable: bool,
}

pub(crate) struct Fetcher<'a> {
    downloader: Downloader,
    network: &'a Network,
    run: Run<'a>,
    /// Whether a file that is there and wrong is left alone, and an error.
    keep: bool,
}

/// Why the server at this address does not answer, if it does not.
pub fn silence(url: &str, patience: Patience) -> Option<String> {
    Downloader::new(patience).silence(url)
}

/// Fetches one file that belongs to no dataset, such as published weights, into `dir` from the first source that works:
/// resumed, checked, and under its name only when whole. Where no checksum is published, the first seen is kept in
/// `fetched.lock` there. A file that is there already is checked.
///
/// # Errors
/// If a source makes no sense, no source works, the file that is there is another one, the disk is full, or the run was
/// stopped.
pub fn fetch(
    what: &str,
    sources: Vec<Source>,
    dir: &Path,
    network: &Network,
    run: Run<'_>,
) -> Result<PathBuf> {
    for source in &sources {
        check(source)
            .map_err(|problem| PrepareError::Download { what: what.into(), problems: vec![problem] })?;
    }
    std::fs::create_dir_all(dir).map_err(io(dir))?;
    let mut lock = Lock::read(dir.join("fetched.lock"))?;
    let part = Part { name: what.into(), unpacked_max: 0, optional: false, sources };
    Fetcher { keep: true, ..Fetcher::new(network, run) }.part(&part, dir, &mut lock)
}

/// One file to download.
struct Wanted<'a> {
    url: String,
    token: Option<String>,
    /// Its key in the lock file.
    address: String,
    size: Option<u64>,
    sha256: Option<&'a str>,
    md5: Option<&'a str>,
    sha1: Option<&'a str>,
}

impl<'a> Fetcher<'a> {
    pub(crate) fn new(network: &'a Network, run: Run<'a>) -> Self {
        Self { downloader: Downloader::new(network.patience), network, run, keep: false }
    }

    /// Fetches a part into `dir` from the first source that works: a file, or a folder of files.
    pub(crate) fn part(&self, wanted: &Part, dir: &Path, lock: &mut Lock) -> Result<PathBuf> {
        std::fs::create_dir_all(dir).map_err(io(dir))?;
        let mut problems = Vec::new();
        for source in &wanted.sources {
            self.run.check()?;
            match self.source(source, dir, lock) {
                Ok(path) => return Ok(path),
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Source(problem)) => {
                    self.run.note(format!("{problem}; trying the next source"));
                    problems.push(problem);
                }
            }
        }
        Err(PrepareError::Download { what: wanted.name.clone(), problems })
    }

    /// What the part's sources offer. Asks the servers for sizes that the manifest does not state.
    pub(crate) fn offers(&self, part: &Part) -> Vec<Offer> {
        let offer = |source: &Source| Offer {
            address: source.address(),
            size: source.size.or_else(|| match (&source.url, &source.hub) {
                (Some(url), _) => self.downloader.size(url),
                (None, Some(hub)) => self.listing(hub, source).ok().map(|(_, sum)| sum),
                (None, None) => None,
            }),
            usable: unpackable(source),
        };
        part.sources.iter().map(offer).collect()
    }

    fn source(&self, source: &Source, dir: &Path, lock: &mut Lock) -> std::result::Result<PathBuf, Failure> {
        if !unpackable(source) {
            return Err(Failure::Source(format!("{}: {}", source.address(), rar::ADVICE)));
        }
        match (&source.url, &source.hub) {
            (Some(url), _) => {
                let file = Wanted {
                    url: url.clone(),
                    token: None,
                    address: source.address(),
                    size: source.size,
                    sha256: source.sha256.as_deref(),
                    md5: source.md5.as_deref(),
                    sha1: source.sha1.as_deref(),
                };
                let path = dir.join(source.file_name());
                self.file(&file, &path, lock)?;
                Ok(path)
            }
            (None, Some(hub)) => self.hub(hub, source, dir, lock),
            (None, None) => Err(Failure::Source("a source without an address".into())),
        }
    }

    /// Files of a dataset on the hub, into a folder of their own; the hub's client lists them.
    fn hub(
        &self,
        hub: &str,
        source: &Source,
        dir: &Path,
        lock: &mut Lock,
    ) -> std::result::Result<PathBuf, Failure> {
        let failed = |problem: String| Failure::Source(format!("hub:{hub}: {problem}"));
        let (files, sum) = self.listing(hub, source).map_err(|e| failed(chain(&e)))?;
        if files.is_empty() {
            return Err(failed(format!("it has no file {}", source.files.join(" or "))));
        }
        let into = dir.join(source.file_name());
        std::fs::create_dir_all(&into).map_err(io(&into))?;
        let there =
            files.iter().filter(|(path, _)| into.join(base(path)).is_file()).map(|(_, size)| size).sum();
        room(&into, sum.saturating_sub(there))?;
        let revision = source.revision.as_deref().unwrap_or("main");
        let single = files.len() == 1;
        for (path, size) in &files {
            let file = Wanted {
                url: format!("{}/datasets/{hub}/resolve/{revision}/{}", self.endpoint(), encoded(path)),
                token: self.token(),
                address: format!("hub:{hub}/{path}"),
                size: Some(*size),
                sha256: source.sha256.as_deref().filter(|_| single),
                md5: source.md5.as_deref().filter(|_| single),
                sha1: source.sha1.as_deref().filter(|_| single),
            };
            self.file(&file, &into.join(base(path)), lock)?;
        }
        Ok(if single { into.join(base(&files[0].0)) } else { into })
    }

    /// The files that a hub source means, with their sizes and the sum of these.
    fn listing(&self, hub: &str, source: &Source) -> HFResult<(Vec<(String, u64)>, u64)> {
        let (owner, name) = hub.split_once('/').unwrap_or(("", hub));
        let mut client = HFClient::builder().retry_max_attempts(self.network.patience.attempts as usize);
        if let Some(endpoint) = &self.network.hub {
            client = client.endpoint(endpoint);
        }
        if let Some(token) = self.token() {
            client = client.token(token);
        }
        let dataset = client.build_sync()?.dataset(owner, name);
        let entries = dataset.list_tree().maybe_revision(source.revision.clone()).recursive(true).send()?;
        let files: Vec<(String, u64)> = entries
            .into_iter()
            .filter_map(|entry| match entry {
                RepoTreeEntry::File { path, size, .. } => Some((path, size)),
                RepoTreeEntry::Directory { .. } => None,
            })
            .filter(|(path, _)| source.files.iter().any(|pattern| matches(pattern, path)))
            .collect();
        let sum = files.iter().map(|(_, size)| size).sum();
        Ok((files, sum))
    }

    fn endpoint(&self) -> String {
        let set = || std::env::var("HF_ENDPOINT").ok().filter(|endpoint| !endpoint.is_empty());
        let endpoint = self.network.hub.clone().or_else(set);
        endpoint.unwrap_or_else(|| "https://huggingface.co".into()).trim_end_matches('/').to_owned()
    }

    fn token(&self) -> Option<String> {
        let set = || std::env::var("HF_TOKEN").ok().filter(|token| !token.is_empty());
        self.network.token.clone().or_else(set)
    }

    /// Downloads one file, unless it is there, checks it and gives it its name.
    fn file(&self, wanted: &Wanted<'_>, path: &Path, lock: &mut Lock) -> std::result::Result<(), Failure> {
        if path.is_file() {
            match self.verify(wanted, path, lock) {
                Ok(()) => return Ok(()),
                Err(PrepareError::Checksum { path, problem }) if self.keep => {
                    let problem = format!("{problem}; move it away to fetch the published file");
                    return Err(PrepareError::Checksum { path, problem }.into());
                }
                Err(error @ PrepareError::Checksum { .. }) => {
                    self.run.note(format!("{error}; it is fetched again"));
                    remove(path)?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        let part = part(path);
        // A beginning may belong to a file that has since been replaced; then the whole is wrong, and a second try
        // begins at nothing.
        for last in [false, true] {
            let resumed = self.downloader.fetch(&wanted.url, wanted.token.as_deref(), path, self.run)?;
            match self.verify(wanted, &part, lock) {
                Ok(()) => break,
                Err(PrepareError::Checksum { problem, .. }) => {
                    remove(&part)?;
                    if last || !resumed {
                        return Err(Failure::Source(format!("{}: {problem}", wanted.url)));
                    }
                    self.run.note(format!("{}: {problem}; starting over", wanted.url));
                }
                Err(error) => return Err(error.into()),
            }
        }
        std::fs::rename(&part, path).map_err(io(path))?;
        remove(&note(path))?;
        Ok(())
    }

    /// Checks size and checksums against manifest or lock file; a file seen for the first time goes into the lock file.
    fn verify(&self, wanted: &Wanted<'_>, path: &Path, lock: &mut Lock) -> Result<()> {
        let found = digest(path, wanted.md5.or(wanted.sha1).is_some(), self.run)?;
        let wrong = |what: &str, found: &str, expected: &str, advice: &str| PrepareError::Checksum {
            path: path.into(),
            problem: format!("its {what} is {found} where {expected} was expected{advice}"),
        };
        if let Some(size) = wanted.size
            && size != found.size
        {
            return Err(wrong("size", &found.size.to_string(), &size.to_string(), ""));
        }
        if let Some(sha256) = wanted.sha256
            && sha256 != found.sha256
        {
            return Err(wrong("SHA-256", &found.sha256, sha256, ""));
        }
        if let Some(md5) = wanted.md5
            && md5 != found.md5
        {
            return Err(wrong("MD5", &found.md5, md5, ""));
        }
        if let Some(sha1) = wanted.sha1
            && sha1 != found.sha1
        {
            return Err(wrong("SHA-1", &found.sha1, sha1, ""));
        }
        if wanted.sha256.or(wanted.md5).or(wanted.sha1).is_some() {
            return Ok(());
        }
        match lock.get(&wanted.address) {
            Some(seen) if seen.sha256 == found.sha256 => Ok(()),
            Some(seen) => {
                let advice = format!(
                    ", as it was when first seen; if the publisher has replaced it, delete its table from {}",
                    lock.path().display()
                );
                Err(wrong("SHA-256", &found.sha256, &seen.sha256, &advice))
            }
            None => lock.add(&wanted.address, Seen { size: found.size, sha256: found.sha256 }),
        }
    }

    /// Checks a file that someone else fetched, if it is one that the part's sources name.
    pub(crate) fn known(&self, part: &Part, path: &Path) -> Result<()> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let source = part
            .sources
            .iter()
            .find(|source| source.file_name() == name || source.files.iter().any(|file| base(file) == name));
        let Some(source) = source.filter(|source| source.sha256.is_some() || source.md5.is_some()) else {
            return Ok(());
        };
        let found = digest(path, source.md5.is_some(), self.run)?;
        let differs =
            |expected: &Option<String>, found: &str| expected.as_deref().is_some_and(|e| e != found);
        if differs(&source.sha256, &found.sha256) || differs(&source.md5, &found.md5) {
            let problem =
                "its checksum is not the published one; fetch it again, or rename it if it is another file";
            return Err(PrepareError::Checksum { path: path.into(), problem: problem.into() });
        }
        Ok(())
    }
}

fn unpackable(source: &Source) -> bool {
    !source.file_name().ends_with(".rar") || rar::available()
}

fn base(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// A glob pattern with at most one star, which stands for anything but a slash.
fn matches(pattern: &str, path: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == path,
        Some((head, tail)) => {
            let middle = path.strip_prefix(head).and_then(|rest| rest.strip_suffix(tail));
            middle.is_some_and(|middle| !middle.contains('/'))
        }
    }
}

/// A path within an address: what is no letter, digit or mark of a plain path is percent-encoded.
fn encoded(path: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/-_.~".contains(&b);
    path.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

/// An error with its causes; the hub client's own text leaves out why a connection failed.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |e| e.source());
    causes.fold(error.to_string(), |text, cause| {
        let cause = cause.to_string();
        if text.contains(&cause) { text } else { format!("{text}: {cause}") }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        let check =
            |pattern, path, expected| assert_eq!(matches(pattern, path), expected, "{pattern} {path}");
        check("a/b.zip", "a/b.zip", true);
        check("b.zip", "a/b.zip", false);
        check("raw/*.avi", "raw/-x_1_2.avi", true);
        check("raw/*.avi", "raw/more/x.avi", false);
        check("raw/*.avi", "raw/x.mp4", false);
    }

    #[test]
    fn addresses() {
        assert_eq!(encoded("raw_videos/-a b#1.avi"), "raw_videos/-a%20b%231.avi");
    }
}

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::io;
use crate::{PrepareError, Result};

/// Where a dataset comes from and what it must be: a file `data/<name>.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The dataset.
    pub name: Name,
    /// Its name as people write it.
    pub title: String,
    /// Its page.
    pub homepage: String,
    /// Under which terms it may be used.
    pub licence: String,
    /// What to cite.
    pub citation: String,
    /// What it consists of: videos or images, and split lists or captions.
    pub parts: Vec<Part>,
    /// The official counts, by name, such as `train01 = 9537`.
    pub expected: BTreeMap<String, u64>,
}

/// The datasets that can be prepared.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Name {
    /// Action videos in 101 classes.
    Ucf101,
    /// Action videos in 51 classes.
    Hmdb51,
    /// Videos with sentences, also called MSVD.
    Youtube2text,
    /// PASCAL VOC 2012: photographs with classes.
    Voc2012,
    /// PASCAL VOC 2007.
    Voc2007,
    /// Photographs with sentences.
    Flickr8k,
}

impl Name {
    /// All of them, in the order of the documentation.
    pub const ALL: [Self; 6] =
        [Self::Ucf101, Self::Hmdb51, Self::Youtube2text, Self::Voc2012, Self::Voc2007, Self::Flickr8k];

    /// As it stands in file names and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ucf101 => "ucf101",
            Self::Hmdb51 => "hmdb51",
            Self::Youtube2text => "youtube2text",
            Self::Voc2012 => "voc2012",
            Self::Voc2007 => "voc2007",
            Self::Flickr8k => "flickr8k",
        }
    }

    /// Whether it consists of videos; of images otherwise.
    pub fn is_video(self) -> bool {
        matches!(self, Self::Ucf101 | Self::Hmdb51 | Self::Youtube2text)
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A part of a dataset. Each of its sources alone gives all of it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// What it is, such as `videos`.
    pub name: String,
    /// It may not become larger than this when unpacked, in bytes.
    pub unpacked_max: u64,
    /// Whether a dataset that is taken from disk may do without it.
    #[serde(default)]
    pub optional: bool,
    /// In the order of preference.
    pub sources: Vec<Source>,
}

/// Where a part can be had: either one file at `url`, or files of a dataset on the Hugging Face hub.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Address of one file.
    pub url: Option<String>,
    /// Name of a dataset on the hub, `owner/name`.
    pub hub: Option<String>,
    /// Which of the hub dataset's files, as glob patterns.
    #[serde(default)]
    pub files: Vec<String>,
    /// The hub dataset's revision; its main branch where none is given.
    pub revision: Option<String>,
    /// The file's name on disk; the last part of the address where none is given.
    pub file: Option<String>,
    /// Size in bytes, where it is published.
    pub size: Option<u64>,
    /// SHA-256, where it is published.
    pub sha256: Option<String>,
    /// MD5, where it is published.
    pub md5: Option<String>,
    /// SHA-1, where it is published.
    pub sha1: Option<String>,
}

impl Source {
    /// The address, for messages and as the key of the lock file.
    pub fn address(&self) -> String {
        match (&self.url, &self.hub) {
            (Some(url), _) => url.clone(),
            (None, Some(hub)) => format!("hub:{hub}/{}", self.files.join(",")),
            (None, None) => String::new(),
        }
    }

    /// The name of the file on disk, or of the folder for files from the hub.
    pub fn file_name(&self) -> String {
        if let Some(file) = &self.file {
            return file.clone();
        }
        let address = self.url.as_ref().or(self.hub.as_ref()).map_or("", |address| address.as_str());
        address.rsplit('/').next().unwrap_or_default().to_owned()
    }
}

impl Manifest {
    /// Reads and checks a manifest.
    ///
    /// # Errors
    /// If the file cannot be read, has an unknown or missing key, or contradicts itself.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(io(path))?;
        let wrong = |problem: String| PrepareError::Manifest { path: path.into(), problem };
        let manifest: Self = toml::from_str(&text).map_err(|e| wrong(e.to_string()))?;
        for part in &manifest.parts {
            if part.sources.is_empty() {
                return Err(wrong(format!("part \"{}\" has no source", part.name)));
            }
            for source in &part.sources {
                check(source).map_err(|problem| wrong(format!("part \"{}\": {problem}", part.name)))?;
            }
        }
        Ok(manifest)
    }
}

pub(crate) fn check(source: &Source) -> std::result::Result<(), String> {
    let address = source.address();
    match (&source.url, &source.hub) {
        (Some(url), None) if url.starts_with("http://") || url.starts_with("https://") => {}
        (None, Some(hub)) if hub.split('/').count() == 2 && !source.files.is_empty() => {}
        _ => {
            return Err(format!(
                "\"{address}\": a source is a url (http or https), or a hub dataset (owner/name) with files"
            ));
        }
    }
    let name = source.file_name();
    if name.is_empty() || name.starts_with('.') || name.contains(['/', '\\', '?']) {
        return Err(format!("\"{address}\" gives no file name; say one with `file`"));
    }
    for (checksum, digits) in [(&source.sha256, 64), (&source.md5, 32), (&source.sha1, 40)] {
        if let Some(hex) = checksum
            && (hex.len() != digits || !hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)))
        {
            return Err(format!("{hex} is not a checksum of {digits} lower-case hexadecimal digits"));
        }
    }
    Ok(())
}

/// The checksums of files whose publishers state none, as they were first seen: a file `<name>.lock`.
#[derive(Debug)]
pub(crate) struct Lock {
    path: PathBuf,
    seen: BTreeMap<String, Seen>,
}

/// A file as it was first seen.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Seen {
    pub(crate) size: u64,
    pub(crate) sha256: String,
}

impl Lock {
    /// # Errors
    /// If there is a file and it is not as its format asks.
    pub(crate) fn read(path: PathBuf) -> Result<Self> {
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(e) => return Err(io(path)(e)),
        };
        match toml::from_str(&text) {
            Ok(seen) => Ok(Self { path, seen }),
            Err(e) => Err(PrepareError::Manifest { path, problem: e.to_string() }),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn get(&self, address: &str) -> Option<&Seen> {
        self.seen.get(address)
    }

    /// Adds an address that is not there yet, and writes the file.
    pub(crate) fn add(&mut self, address: &str, seen: Seen) -> Result<()> {
        self.seen.insert(address.to_owned(), seen);
        let text = toml::to_string(&self.seen)
            .map_err(|e| PrepareError::Manifest { path: self.path.clone(), problem: e.to_string() })?;
        let head = "# Checksums of files whose publishers state none, as first seen. Delete a table to accept a new file.\n\n";
        crate::files::write(&self.path, format!("{head}{text}").as_bytes())
    }
}

//! Zip archives in memory, as torch and numpy write them.

use std::io::{Cursor, Read};

use zip::ZipArchive;

type Result<T> = std::result::Result<T, String>;

/// How many times larger than the archive its content may be: floating-point weights hardly compress.
const MAX_RATIO: u64 = 32;

/// An archive whose content stays within [`MAX_RATIO`] of its length, however often it is read.
pub(crate) struct Archive<'a> {
    zip: ZipArchive<Cursor<&'a [u8]>>,
    budget: u64,
}

impl<'a> Archive<'a> {
    pub(crate) fn open(file: &'a [u8]) -> Result<Self> {
        let zip = ZipArchive::new(Cursor::new(file))
            .map_err(|error| format!("not a whole zip archive: {error}"))?;
        Ok(Self { zip, budget: (file.len() as u64).saturating_mul(MAX_RATIO) })
    }

    /// The names of the files in it.
    pub(crate) fn names(&self) -> Result<Vec<String>> {
        let names = self.zip.file_names().map(|name| name.map(String::from));
        names
            .collect::<std::result::Result<_, _>>()
            .map_err(|error| format!("a name in the archive: {error}"))
    }

    /// The content of a file.
    pub(crate) fn read(&mut self, name: &str) -> Result<Vec<u8>> {
        let wrong = |error: &dyn std::fmt::Display| format!("{name} in the archive: {error}");
        let file = self.zip.by_name(name).map_err(|error| wrong(&error))?;
        let mut content = Vec::new();
        // The size that the archive states is not to be trusted; the checksum is checked at the end.
        file.take(self.budget + 1).read_to_end(&mut content).map_err(|error| wrong(&error))?;
        self.budget = self
            .budget
            .checked_sub(content.len() as u64)
            .ok_or("the archive unpacks to far more than weights would")?;
        Ok(content)
    }
}

//! Reading the line files of the datasets' layouts.

use std::collections::HashSet;
use std::path::Path;

use crate::{DataError, Result};

/// The lines of a text file with their numbers from 1, trimmed (so that CRLF files read alike). Empty lines at the
/// end are dropped; one in between is left for the caller to refuse.
///
/// # Errors
/// If the file cannot be read, is not UTF-8 or has no line.
pub(crate) fn lines(path: &Path) -> Result<Vec<(usize, String)>> {
    let text = std::fs::read_to_string(path).map_err(|source| DataError::Io { path: path.into(), source })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text).trim_end();
    if text.is_empty() {
        return Err(wrong(path, None, "the file is empty; it should have a line for each image"));
    }
    Ok(text.lines().enumerate().map(|(i, line)| (i + 1, line.trim().to_owned())).collect())
}

/// A list with one name a line and none twice.
///
/// # Errors
/// As [`lines`], and for a line that is empty, has several words or repeats a name.
pub(crate) fn names(path: &Path) -> Result<Vec<String>> {
    let mut seen = HashSet::new();
    let mut names = Vec::new();
    for (number, line) in lines(path)? {
        if line.is_empty() || line.contains(char::is_whitespace) {
            return Err(wrong(path, Some(number), format!("expected one name, found \"{line}\"")));
        }
        if !seen.insert(line.clone()) {
            return Err(wrong(path, Some(number), format!("{line} is listed twice")));
        }
        names.push(line);
    }
    Ok(names)
}

/// A [`DataError::Format`].
pub(crate) fn wrong(path: &Path, line: Option<usize>, problem: impl Into<String>) -> DataError {
    DataError::Format { path: path.into(), line, problem: problem.into() }
}

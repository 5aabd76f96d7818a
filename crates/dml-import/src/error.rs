use std::path::{Path, PathBuf};

/// What can go wrong with an import.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// A file cannot be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file's content is not what its format asks for, or not what the import needs.
    #[error("{}: {problem}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong and, where it can be told, what to do.
        problem: String,
    },
}

/// Shorthand for this crate's results.
pub type Result<T> = std::result::Result<T, ImportError>;

/// Reads a whole file and hands it to a parser whose errors are sentences.
pub(crate) fn read<T>(path: &Path, parse: impl FnOnce(&[u8]) -> std::result::Result<T, String>) -> Result<T> {
    let bytes = std::fs::read(path).map_err(|source| ImportError::Io { path: path.into(), source })?;
    parse(&bytes).map_err(|problem| ImportError::Content { path: path.into(), problem })
}

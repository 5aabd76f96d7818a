use std::path::PathBuf;

/// What can go wrong with data.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file's content is not what its format asks for.
    #[error("{}{}: {problem}", path.display(), line.map(|n| format!(", line {n}")).unwrap_or_default())]
    Format {
        /// The file.
        path: PathBuf,
        /// The line, from 1, where it can be told.
        line: Option<usize>,
        /// What is wrong and what to do.
        problem: String,
    },
    /// A shard, or an entry of one, is damaged.
    #[error("{}, at byte {offset}: {problem}", path.display())]
    Shard {
        /// The shard's file.
        path: PathBuf,
        /// Where in the file.
        offset: u64,
        /// What is wrong and what to do.
        problem: String,
    },
    /// A request that does not fit the data.
    #[error("{0}")]
    Invalid(String),
    /// A file with a mean cannot be read.
    #[error(transparent)]
    Mean(#[from] dml_import::ImportError),
    /// A tensor could not be made.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

/// Shorthand for this crate's results.
pub type Result<T> = std::result::Result<T, DataError>;

use std::path::PathBuf;

/// Why a report cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A file cannot be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file's content is not what it should be.
    #[error("{}: {problem}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A folder that is neither that of a run nor that of a sweep.
    #[error("{} is not the folder of a run or a sweep: it has neither config.toml nor sweep.json", .0.display())]
    Folder(PathBuf),
}

/// Shorthand for this crate's results.
pub type Result<T> = std::result::Result<T, ReportError>;

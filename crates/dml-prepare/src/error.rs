use std::path::PathBuf;

/// What can go wrong while a dataset is prepared.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A manifest or lock file is not as its format asks.
    #[error("{}: {problem}", path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// What is wrong and what to do.
        problem: String,
    },
    /// A file of the dataset is not as its layout asks.
    #[error(transparent)]
    Data(#[from] dml_data::DataError),
    /// Every source of a part failed.
    #[error("{what} could not be fetched:\n  {}\nfetch it by hand and name its folder with --from", problems.join("\n  "))]
    Download {
        /// The part of the dataset.
        what: String,
        /// For each source, what happened.
        problems: Vec<String>,
    },
    /// A file has another size or checksum than it should.
    #[error("{}: {problem}", path.display())]
    Checksum {
        /// The file.
        path: PathBuf,
        /// Which, and what to do.
        problem: String,
    },
    /// The disk is too small.
    #[error(
        "{}: {} needed and {} free; {} are missing: make room, or name another disk with --data",
        path.display(), crate::units::bytes(*needed), crate::units::bytes(*free),
        crate::units::bytes(needed.saturating_sub(*free))
    )]
    Space {
        /// Where it was to be written.
        path: PathBuf,
        /// Bytes that are needed.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// An archive is damaged, or asks for what no dataset needs.
    #[error("{}: {problem}", path.display())]
    Archive {
        /// The archive.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The dataset was not found in a folder.
    #[error("{}: {problem}", path.display())]
    Layout {
        /// The folder.
        path: PathBuf,
        /// What was looked for.
        problem: String,
    },
    /// ffmpeg is missing or does not run.
    #[error("{0}")]
    Ffmpeg(String),
    /// More videos or images than the stated share could not be decoded.
    #[error(
        "{failed} of {of} could not be decoded, more than the {percent} % allowed; nothing was finished. First: {first}"
    )]
    Failures {
        /// How many.
        failed: usize,
        /// Of how many so far.
        of: usize,
        /// The share allowed, in percent.
        percent: f64,
        /// The first of them, with its reason.
        first: String,
    },
    /// Another process prepares this dataset.
    #[error("{}: another process is preparing this dataset; wait for it or end it", .0.display())]
    Busy(PathBuf),
    /// A prepared set does not match what is asked for, or is damaged.
    #[error("{}: {problem}", path.display())]
    Prepared {
        /// The set's folder.
        path: PathBuf,
        /// What differs and what to do.
        problem: String,
    },
    /// It was told to stop. What was done is kept.
    #[error("interrupted; run it again and it continues")]
    Interrupted,
}

/// Shorthand for this crate's results.
pub type Result<T> = std::result::Result<T, PrepareError>;

/// Says which file an input or output error belongs to.
pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> PrepareError {
    let path = path.into();
    move |source| PrepareError::Io { path, source }
}

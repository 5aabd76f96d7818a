use std::path::PathBuf;

/// What can stop a run.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// A configuration, schedule or dataset that does not fit; the text says what, where and what would.
    #[error("{0}")]
    Invalid(String),
    /// A configuration file that cannot be used.
    #[error("{}: {problem}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A loss became NaN or infinite.
    #[error(
        "the loss became {value} in phase {phase:?}, step {step} ({terms}); samples of the batch: {}",
        samples.join(", ")
    )]
    NotFinite {
        /// The phase's name.
        phase: String,
        /// The step within the phase, from 1.
        step: usize,
        /// The total loss.
        value: f64,
        /// Each term with its value.
        terms: String,
        /// Ids of the samples in the batch.
        samples: Vec<String>,
    },
    /// The device has no room for a step.
    #[error(
        "the device's memory does not hold step {step} of phase {phase:?} with {samples} samples at once; try {advice}: \
         {source}"
    )]
    OutOfMemory {
        /// The phase's name.
        phase: String,
        /// The step within the phase, from 1.
        step: usize,
        /// Samples that were computed at a time.
        samples: usize,
        /// What needs less.
        advice: String,
        /// What had no room.
        source: Box<TrainError>,
    },
    /// Trainable parameters that the first backward pass of a phase did not reach.
    #[error("phase {phase:?} trains these parameters, but its first step gave them no gradient: {}", names.join(", "))]
    NoGradient {
        /// The phase's name.
        phase: String,
        /// The parameters.
        names: Vec<String>,
    },
    /// Stopped from outside while something was prepared; nothing half-made was kept.
    #[error("stopped while preparing {0}")]
    Interrupted(String),
    /// A checkpoint could not be written.
    #[error(
        "the checkpoint {} could not be written: {source}; the run has ended, and the checkpoints before this one are \
         whole: mend the cause (such as a full disk) and resume",
        path.display()
    )]
    NotSaved {
        /// Its folder.
        path: PathBuf,
        /// What went wrong.
        source: Box<TrainError>,
    },
    /// A checkpoint is of a run with other settings or data.
    #[error("{} is of another run than the one to go on with: {}", path.display(), changes.join("; "))]
    Changed {
        /// Its folder.
        path: PathBuf,
        /// What differs.
        changes: Vec<String>,
    },
    /// The ranks of a run do not compute the same.
    #[error("rank {rank} does not compute what rank {other} does: {}", differences.join("; "))]
    Ranks {
        /// The first that differs from most.
        rank: usize,
        /// One of these.
        other: usize,
        /// What differs.
        differences: Vec<String>,
    },
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// From the ranks of a run.
    #[error(transparent)]
    Collective(#[from] dml_collective::CollectiveError),
    /// From the data.
    #[error(transparent)]
    Data(#[from] dml_data::DataError),
    /// From the model or a checkpoint.
    #[error(transparent)]
    Model(#[from] dml_model::ModelError),
    /// From a loss.
    #[error(transparent)]
    Loss(#[from] dml_losses::LossError),
    /// From an operation.
    #[error(transparent)]
    Op(#[from] dml_ops::OpError),
    /// From a measure.
    #[error(transparent)]
    Metric(#[from] dml_metrics::MetricError),
    /// From the sentence encoder.
    #[error(transparent)]
    Teacher(#[from] dml_teacher::TeacherError),
    /// From a tensor.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

impl TrainError {
    pub(crate) fn invalid(problem: impl Into<String>) -> Self {
        Self::Invalid(problem.into())
    }
}

/// Shorthand for this crate's results.
pub type Result<T> = std::result::Result<T, TrainError>;

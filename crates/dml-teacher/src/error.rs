use std::path::PathBuf;

/// What can go wrong with a sentence encoder.
#[derive(Debug, thiserror::Error)]
pub enum TeacherError {
    /// A file cannot be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A model's file does not say what it should, or asks for what is not implemented.
    #[error("{}: {problem}", path.display())]
    Model {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A sentence that cannot be encoded.
    #[error("sentence {index} (\"{sentence}\") {problem}")]
    Sentence {
        /// Its place among the sentences given, from 0.
        index: usize,
        /// The sentence.
        sentence: String,
        /// What is wrong.
        problem: String,
    },
    /// A model cannot be fetched from the Hugging Face hub.
    #[error(
        "{id} cannot be fetched from the Hugging Face hub: {problem}\nWithout a way to the hub, put the model's \
         folder (modules.json, config.json, tokenizer.json, model.safetensors, ...) on this machine and give its \
         path, or name the folder that holds it in DML_WEIGHTS; HF_ENDPOINT names a mirror."
    )]
    Hub {
        /// The model's id.
        id: String,
        /// What the client said.
        problem: String,
    },
    /// A request that makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// A published file cannot be imported.
    #[error(transparent)]
    Import(#[from] dml_import::ImportError),
    /// A loss refused its arguments.
    #[error(transparent)]
    Loss(#[from] dml_losses::LossError),
    /// An operation refused its arguments.
    #[error(transparent)]
    Op(#[from] dml_ops::OpError),
    /// Sentences cannot be ranked.
    #[error(transparent)]
    Metric(#[from] dml_metrics::MetricError),
    /// A tensor operation failed.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

/// Shorthand for this crate's results.
pub type Result<T> = std::result::Result<T, TeacherError>;

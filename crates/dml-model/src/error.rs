use std::path::PathBuf;

/// What can go wrong with a network, its parameters or its checkpoint.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// A configuration that describes no network.
    #[error("{0}")]
    Config(String),
    /// An input whose shape the root does not take.
    #[error("the root takes inputs of shape (n, {}), not {got:?}", join(expected))]
    Input {
        /// The shape of one sample.
        expected: Vec<usize>,
        /// The shape that came, with the batch dimension.
        got: Vec<usize>,
    },
    /// A task that the network has no head for.
    #[error("the network has no head {name:?}; it has {heads:?}")]
    UnknownHead {
        /// The name asked for.
        name: String,
        /// The names there are.
        heads: Vec<String>,
    },
    /// A checkpoint whose names or shapes are not the network's.
    #[error(transparent)]
    Names(#[from] NameMismatch),
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file's content is not what its format asks for.
    #[error("{}: {problem}", path.display())]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What is wrong and, where it can be told, what to do.
        problem: String,
    },
    /// A published file cannot be imported.
    #[error(transparent)]
    Import(#[from] dml_import::ImportError),
    /// Published weights are in none of the places where they were looked for.
    #[error("{what} not found. Looked in:\n{}\n{advice}", list(looked))]
    WeightsNotFound {
        /// Which weights.
        what: &'static str,
        /// Each place and what was wrong with it.
        looked: Vec<String>,
        /// What to do.
        advice: String,
    },
    /// An operation failed.
    #[error(transparent)]
    Op(#[from] dml_ops::OpError),
    /// A tensor operation failed.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

/// Shorthand for this crate's results.
pub type Result<T> = std::result::Result<T, ModelError>;

/// All that keeps a checkpoint from fitting the parameters, in one error. Nothing was loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq, thiserror::Error)]
#[error("the checkpoint does not fit the network:{}", self.text())]
pub struct NameMismatch {
    /// Parameters that the checkpoint lacks.
    pub missing: Vec<String>,
    /// Tensors of the checkpoint that no parameter has the name of.
    pub extra: Vec<String>,
    /// Parameters whose tensor has another shape or no floating-point values, one sentence each.
    pub misshapen: Vec<String>,
}

impl NameMismatch {
    pub(crate) fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.extra.is_empty() && self.misshapen.is_empty()
    }

    fn text(&self) -> String {
        [("missing", &self.missing), ("extra", &self.extra), ("mis-shaped", &self.misshapen)]
            .into_iter()
            .filter(|(_, names)| !names.is_empty())
            .map(|(what, names)| format!("\n{} {what}:\n{}", names.len(), list(names)))
            .collect()
    }
}

fn list(lines: &[String]) -> String {
    lines.iter().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}

fn join(dims: &[usize]) -> String {
    dims.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")
}

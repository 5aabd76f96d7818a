/// The result of an operation of this crate.
pub type Result<T> = std::result::Result<T, OpError>;

/// Why an operation could not be done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpError {
    /// An argument's shape or value does not fit the operation.
    #[error("{op}: {argument} {problem}")]
    Argument {
        /// The operation.
        op: &'static str,
        /// The argument that is wrong.
        argument: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// A saved optimiser state is incomplete, or belongs to other parameters.
    #[error("optimiser state: {name} {problem}")]
    State {
        /// The entry or parameter.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
    /// candle refused an operation.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

impl OpError {
    pub(crate) fn argument(op: &'static str, argument: &'static str, problem: impl Into<String>) -> Self {
        Self::Argument { op, argument, problem: problem.into() }
    }
}

impl From<OpError> for candle_core::Error {
    fn from(error: OpError) -> Self {
        match error {
            OpError::Tensor(error) => error,
            other => Self::wrap(other),
        }
    }
}

/// What can go wrong between ranks.
#[derive(Debug, thiserror::Error)]
pub enum CollectiveError {
    /// The processes were started in a way that cannot work; the text says what would.
    #[error("{0}")]
    Launch(String),
    /// A rank has gone while others waited for it.
    #[error("rank {rank} has stopped before the others: see what it said last")]
    Gone {
        /// Which.
        rank: usize,
    },
    /// A message that cannot be sent.
    #[error("{0}")]
    Message(String),
    /// From a tensor.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

/// Shorthand for this crate's results.
pub type Result<T> = std::result::Result<T, CollectiveError>;

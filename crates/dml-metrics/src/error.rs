//! What can be wrong with a measure's arguments.

/// The result of every fallible function of this crate.
pub type Result<T> = std::result::Result<T, MetricError>;

/// An argument that a measure cannot be computed from. Each message names the argument.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum MetricError {
    /// There is nothing to measure.
    #[error("`{argument}` is empty")]
    Empty {
        /// Name of the argument.
        argument: &'static str,
    },

    /// Two arguments disagree about how many values there are.
    #[error("`{argument}` has {actual} values, but {expected} are needed ({reason})")]
    Length {
        /// Name of the argument.
        argument: &'static str,
        /// How many values there should be.
        expected: usize,
        /// How many values there are.
        actual: usize,
        /// Where the needed number comes from.
        reason: &'static str,
    },

    /// A value is NaN, which no order and no mean can hold.
    #[error("`{argument}` is NaN at position {index}")]
    NotANumber {
        /// Name of the argument.
        argument: &'static str,
        /// Position in the flat, row-major slice.
        index: usize,
    },

    /// An argument breaks a rule of its own: a label beyond the classes, a flag that is none, a text without an item.
    #[error("`{argument}`: {problem}")]
    Invalid {
        /// Name of the argument.
        argument: &'static str,
        /// What is wrong, with the position and the value.
        problem: String,
    },
}

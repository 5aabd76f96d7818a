//! What can be wrong with a loss's arguments.

use candle_core::DType;

/// The result of this crate's functions.
pub type Result<T> = std::result::Result<T, LossError>;

/// An argument that does not fit, by its name in the signature, or an error of candle itself.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LossError {
    /// The argument has the wrong shape.
    #[error("`{argument}` has shape {got:?}, but must be {expected}")]
    Shape {
        /// Name of the argument.
        argument: &'static str,
        /// The shape it must have, in words.
        expected: String,
        /// The shape it has.
        got: Vec<usize>,
    },
    /// The argument has the wrong element type.
    #[error("`{argument}` has dtype {got:?}, but must be {expected}")]
    DType {
        /// Name of the argument.
        argument: &'static str,
        /// The element type it must have, in words.
        expected: String,
        /// The element type it has.
        got: DType,
    },
    /// A number lies outside its range.
    #[error("`{argument}` is {got}, but must be {expected}")]
    Range {
        /// Name of the argument.
        argument: &'static str,
        /// The range it must lie in, in words.
        expected: &'static str,
        /// The number given.
        got: f64,
    },
    /// A row of a tensor holds values that it must not hold.
    #[error("`{argument}`, row {row}: {problem}")]
    Row {
        /// Name of the argument.
        argument: &'static str,
        /// The first such row, counted from 0: the sample's place in the batch.
        row: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// An error of candle, for example arguments on different devices.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
    /// An error of an operation.
    #[error(transparent)]
    Op(#[from] dml_ops::OpError),
}

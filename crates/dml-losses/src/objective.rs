//! The joint objectives: a supervised loss and a loss that preserves the other task.

use candle_core::Tensor;

use crate::{LossError, Result, check};

/// Weight λ of a joint objective, in [0, 1].
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Lambda(f64);

impl Lambda {
    /// The weight `lambda`.
    ///
    /// # Errors
    /// If `lambda` lies outside [0, 1] or is NaN.
    pub fn new(lambda: f64) -> Result<Self> {
        if (0.0..=1.0).contains(&lambda) {
            return Ok(Self(lambda));
        }
        Err(LossError::Range { argument: "lambda", expected: "in [0, 1]", got: lambda })
    }

    /// The number.
    pub fn get(self) -> f64 {
        self.0
    }
}

/// Objective on a classification batch (eq. 8): λ_A · cls + (1 − λ_A) · emb, the latter against the sentence vectors that
/// the network itself recorded.
///
/// A weight of 0 takes the gradient away, not a NaN.
///
/// # Shapes
/// `cls`, `preserved_emb`: scalars of one element type, f32 or f64 → scalar.
///
/// # Errors
/// If one is not a scalar, or the element types differ.
pub fn classification_objective(lambda_a: Lambda, cls: &Tensor, preserved_emb: &Tensor) -> Result<Tensor> {
    check::scalar("cls", cls)?;
    check::scalar("preserved_emb", preserved_emb)?;
    check::same_dtype("preserved_emb", preserved_emb, "cls", cls)?;
    mix(lambda_a, cls, preserved_emb)
}

/// Objective on a caption batch (eq. 9): λ_S · distill + (1 − λ_S) · emb. Note that here λ weighs the preserved task, not
/// the supervised one.
///
/// A weight of 0 takes the gradient away, not a NaN.
///
/// # Shapes
/// `distilled`, `emb`: scalars of one element type, f32 or f64 → scalar.
///
/// # Errors
/// If one is not a scalar, or the element types differ.
pub fn caption_objective(lambda_s: Lambda, distilled: &Tensor, emb: &Tensor) -> Result<Tensor> {
    check::scalar("distilled", distilled)?;
    check::scalar("emb", emb)?;
    check::same_dtype("emb", emb, "distilled", distilled)?;
    mix(lambda_s, distilled, emb)
}

fn mix(lambda: Lambda, action: &Tensor, sentence: &Tensor) -> Result<Tensor> {
    Ok(((action * lambda.get())? + (sentence * (1.0 - lambda.get()))?)?)
}

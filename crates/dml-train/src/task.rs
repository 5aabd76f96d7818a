use candle_core::Tensor;
use dml_model::HeadConfig;
use serde::{Deserialize, Serialize};

use crate::{Result, TrainError};

/// The loss of a supervised task (spec: cls, eq. 1; emb, eq. 2; and what practitioners use beside them).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Loss {
    /// Cross-entropy of the softmax; several labels are normalised to a distribution first (eq. 1).
    Softmax,
    /// Binary cross-entropy of a sigmoid per class.
    Bce,
    /// Negative cosine to the target embedding (eq. 2).
    Cosine,
    /// Symmetric contrastive loss within the batch.
    InfoNce {
        /// Temperature of the similarities.
        tau: f64,
    },
}

/// How a task that is not labelled in a phase is held to its recorded responses.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Preservation {
    /// Cross-entropy between softmax responses raised to 1/T and renormalised (eq. 6, 7).
    Distill {
        /// T; 1 is plain cross-entropy.
        temperature: f64,
    },
    /// The same per class, on sigmoid responses.
    DistillMultiLabel {
        /// T.
        temperature: f64,
    },
    /// Sum of absolute differences of the softmax vectors (Table 5).
    L1,
    /// Half the sum of squared differences of the softmax vectors (Table 5).
    L2,
    /// Negative cosine to the recorded embedding.
    Cosine,
}

/// One task of the network: its head, the loss where it is labelled, the loss where it is preserved.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Task {
    /// The head on the shared features.
    pub head: HeadConfig,
    /// The loss against labels.
    pub loss: Loss,
    /// The loss against recorded responses.
    pub preserve: Preservation,
}

impl Loss {
    /// A value that the loss does not go below.
    pub(crate) fn least(self) -> f64 {
        if matches!(self, Self::Cosine) { -1.0 } else { 0.0 }
    }
}

impl Preservation {
    /// A value that the loss does not go below.
    pub(crate) fn least(self) -> f64 {
        if matches!(self, Self::Cosine) { -1.0 } else { 0.0 }
    }
}

impl Task {
    /// Checks that head, loss and preservation go together.
    ///
    /// # Errors
    /// If the losses do not fit the head, or a temperature is not positive and finite.
    pub fn check(&self, name: &str) -> Result<()> {
        let embedding = matches!(self.head, HeadConfig::Embedding { .. });
        if embedding != matches!(self.loss, Loss::Cosine | Loss::InfoNce { .. }) {
            return Err(TrainError::invalid(format!(
                "task {name:?}: loss {:?} does not fit head {:?}",
                self.loss, self.head
            )));
        }
        if embedding != matches!(self.preserve, Preservation::Cosine) {
            return Err(TrainError::invalid(format!(
                "task {name:?}: preservation {:?} does not fit head {:?}",
                self.preserve, self.head
            )));
        }
        if let Loss::Bce = self.loss
            && !matches!(self.head, HeadConfig::MultiLabel { .. })
        {
            return Err(TrainError::invalid(format!("task {name:?}: bce needs a multi-label head")));
        }
        let temperature = match (self.loss, self.preserve) {
            (Loss::InfoNce { tau }, _) => tau,
            (_, Preservation::Distill { temperature } | Preservation::DistillMultiLabel { temperature }) => {
                temperature
            }
            _ => 1.0,
        };
        if !(temperature.is_finite() && temperature > 0.0) {
            return Err(TrainError::invalid(format!(
                "task {name:?}: a temperature of {temperature} is not above 0"
            )));
        }
        Ok(())
    }

    /// The supervised loss.
    ///
    /// # Shapes
    /// `output` (n, k) logits or (n, d) raw embedding; `target` (n) class numbers as u32, (n, k) label flags 0 or 1, or
    /// (n, d) unit vectors; the result is a scalar.
    ///
    /// # Errors
    /// If the shapes disagree.
    pub fn supervised(&self, output: &Tensor, target: &Tensor) -> Result<Tensor> {
        Ok(match (self.loss, self.head) {
            (Loss::Softmax, HeadConfig::MultiLabel { .. }) => {
                dml_losses::cls_soft(output, &dml_losses::multi_hot_to_distribution(target)?)?
            }
            (Loss::Softmax, _) => dml_losses::cls(output, target)?,
            (Loss::Bce, _) => dml_losses::bce(output, target)?,
            (Loss::Cosine, _) => dml_losses::emb(output, target)?,
            (Loss::InfoNce { tau }, _) => dml_losses::info_nce(output, target, tau)?,
        })
    }

    /// The preserving loss against recorded responses (see [`Self::response`]).
    ///
    /// # Shapes
    /// `output` and `response` (n, k) or (n, d); the result is a scalar.
    ///
    /// # Errors
    /// If the shapes disagree.
    pub fn preserved(&self, output: &Tensor, response: &Tensor) -> Result<Tensor> {
        Ok(match self.preserve {
            Preservation::Distill { temperature } => dml_losses::distill(output, response, temperature)?,
            Preservation::DistillMultiLabel { temperature } => {
                dml_losses::distill_multi_label(output, response, temperature)?
            }
            Preservation::L1 => dml_losses::l1(output, response)?,
            Preservation::L2 => dml_losses::l2(output, response)?,
            Preservation::Cosine => dml_losses::emb(output, response)?,
        })
    }

    /// What is recorded of an output: probabilities at T = 1, or the unit vector.
    ///
    /// # Shapes
    /// (n, k) to (n, k), or (n, d) to (n, d).
    ///
    /// # Errors
    /// If the tensor operations fail.
    pub fn response(&self, output: &Tensor) -> Result<Tensor> {
        Ok(match self.preserve {
            Preservation::Distill { .. } | Preservation::L1 | Preservation::L2 => {
                dml_losses::log_softmax(output)?.exp()?
            }
            Preservation::DistillMultiLabel { .. } => candle_nn::ops::sigmoid(output)?,
            Preservation::Cosine => dml_losses::l2_normalize(output)?,
        })
    }
}

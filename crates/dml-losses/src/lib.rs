#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod check;
mod classification;
mod distillation;
mod embedding;
mod error;
mod numeric;
mod objective;
mod ranking;
mod uncertainty;

pub use classification::{bce, cls, cls_soft, multi_hot_to_distribution};
pub use distillation::{distill, distill_multi_label, l1, l2};
pub use embedding::{emb, info_nce};
pub use error::{LossError, Result};
pub use numeric::{l2_normalize, log_softmax};
pub use objective::{Lambda, caption_objective, classification_objective};
pub use ranking::{Hinges, Similarity, ranking, similarities};
pub use uncertainty::uncertainty;

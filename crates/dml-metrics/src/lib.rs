#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod average_precision;
mod check;
mod classification;
mod error;
mod protocol;
mod relevance;
mod retrieval;
mod svm;

pub use average_precision::{Interpolation, MeanAveragePrecision, average_precision, mean_average_precision};
pub use classification::{hit_at_1, top1_precision, video_accuracy};
pub use error::{MetricError, Result};
pub use protocol::{BothDirections, Pools, pooled, standard};
pub use relevance::Relevance;
pub use retrieval::{Median, Retrieval, item_ranks, item_to_text, text_ranks, text_to_item};
pub use svm::{Hinge, LinearSvm, SvmConfig, group_descriptors};

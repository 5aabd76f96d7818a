#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod audit;
mod cache;
mod clip;
mod crop;
mod dataset;
mod error;
mod files;
mod flickr8k;
mod frames;
mod image;
mod jpeg;
mod loader;
mod photographs;
mod prepared;
pub mod sample;
pub mod shards;
pub mod splits;
mod text;
mod upload;
mod videos;
mod voc;

pub use audit::{AuditReport, NearDuplicate, audit};
pub use cache::{Compute, Features, Rows, cached_rows};
pub use clip::ClipPipeline;
pub use dataset::{Dataset, Labels, View};
pub use error::{DataError, Result};
pub use flickr8k::Flickr8k;
pub use frames::Frames;
pub use image::{BgrPipeline, ImagePipeline, PhotoPipeline, decode_image, shrink_image};
pub use jpeg::decode_frame;
pub use loader::{Batch, Prefetch, Prefetched, batches, order};
pub use videos::{Actions, Hmdb51, Ucf101, YouTube2Text, actions_in, open_actions};
pub use voc::Voc;

#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod cache;
mod dataset;
mod error;
mod flickr8k;
mod image;
mod loader;
mod photographs;
pub mod sample;
mod text;
mod voc;

pub use cache::{Features, Rows, cached_rows};
pub use dataset::{Dataset, Labels, View};
pub use error::{DataError, Result};
pub use flickr8k::Flickr8k;
pub use image::ImagePipeline;
pub use loader::{Batch, batches, order};
pub use voc::Voc;
